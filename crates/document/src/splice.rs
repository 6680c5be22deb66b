//! Edits over one message of a document. Fields that are not edited are copied
//! byte for byte from the original; the lengths of enclosing messages are
//! computed anew only where something inside them changed.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use crate::encode;
use crate::error::DocumentError;
use crate::wire::{Field, MessageIndex, WireType};

/// The new form of a message: the original fields with a list of edits.
///
/// Without edits the result is the original, byte for byte. Edits refer to
/// fields by their position in [`MessageIndex::fields`] and may be made in any
/// order; positions do not shift.
#[derive(Debug, Clone)]
pub struct Splice<'a> {
    bytes: &'a [u8],
    index: Cow<'a, MessageIndex>,
    edits: BTreeMap<usize, Edit<'a>>,
    appended: Vec<Piece<'a>>,
}

/// New bytes in a message: one or more encoded fields, tags included.
#[derive(Debug, Clone)]
pub struct Piece<'a>(Content<'a>);

#[derive(Debug, Clone)]
enum Content<'a> {
    Encoded(Cow<'a, [u8]>),
    /// `header` is tag and length, `length` that of header and body together.
    Message {
        header: Vec<u8>,
        body: Box<Splice<'a>>,
        length: usize,
    },
    /// `head`, then `length` bytes that are made while they are written.
    Streamed {
        head: Vec<u8>,
        length: usize,
        tail: Tail<'a>,
    },
}

/// Writes the same bytes each time it is called.
type WriteBytes<'a> = dyn Fn(&mut dyn io::Write) -> io::Result<()> + Send + Sync + 'a;

#[derive(Clone)]
struct Tail<'a>(Arc<WriteBytes<'a>>);

impl fmt::Debug for Tail<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tail")
    }
}

/// What happens around and to one original field.
#[derive(Debug, Clone)]
struct Edit<'a> {
    original: Range<usize>,
    before: Vec<Piece<'a>>,
    fate: Fate<'a>,
    after: Vec<Piece<'a>>,
}

#[derive(Debug, Clone)]
enum Fate<'a> {
    Keep,
    Remove,
    Replace(Piece<'a>),
}

/// A stretch of the result.
enum Part<'s, 'a> {
    Original(&'a [u8]),
    New(&'s Piece<'a>),
}

impl<'a> Splice<'a> {
    /// Starts with the original message and no edits.
    ///
    /// `bytes` is the document that `index` was made from.
    ///
    /// # Errors
    /// The indexed message is not inside `bytes`.
    pub fn new(bytes: &'a [u8], index: impl Into<Cow<'a, MessageIndex>>) -> Result<Self, DocumentError> {
        let index = index.into();
        let (Range { start, end }, length) = (index.range(), bytes.len());
        if end > length {
            return Err(DocumentError::ForeignIndex { start, end, length });
        }
        Ok(Self { bytes, index, edits: BTreeMap::new(), appended: Vec::new() })
    }

    /// Whether no edit has an effect, so that the result is the original.
    pub fn is_unchanged(&self) -> bool {
        self.appended.is_empty() && self.edits.values().all(Edit::changes_nothing)
    }

    /// Puts `piece` in place of a field. The last of several calls counts.
    ///
    /// # Errors
    /// There is no field with this index.
    pub fn replace(&mut self, field: usize, piece: Piece<'a>) -> Result<(), DocumentError> {
        self.edit(field)?.fate = Fate::Replace(piece);
        Ok(())
    }

    /// Puts `body` in place of the message in a length-delimited field; the tag
    /// is kept as it is. A body without edits leaves the whole field as it is.
    ///
    /// # Errors
    /// There is no field with this index, or it is not length-delimited.
    pub fn replace_body(&mut self, field: usize, body: Splice<'a>) -> Result<(), DocumentError> {
        let original = *self.field(field)?;
        if original.wire_type() != WireType::LengthDelimited {
            let (number, offset) = (original.number(), original.whole().start);
            return Err(DocumentError::NotAMessage { number, offset });
        }
        if body.is_original_of(self.bytes, &original) {
            self.edit(field)?.fate = Fate::Keep;
            return Ok(());
        }
        let mut header = self.original(original.tag()).to_vec();
        encode::varint(&mut header, body.encoded_len() as u64);
        self.replace(field, Piece::with_header(header, body))
    }

    /// Leaves a field out.
    ///
    /// # Errors
    /// There is no field with this index.
    pub fn remove(&mut self, field: usize) -> Result<(), DocumentError> {
        self.edit(field)?.fate = Fate::Remove;
        Ok(())
    }

    /// Puts `piece` in front of a field, behind what was put there earlier.
    ///
    /// # Errors
    /// There is no field with this index.
    pub fn insert_before(&mut self, field: usize, piece: Piece<'a>) -> Result<(), DocumentError> {
        self.edit(field)?.before.push(piece);
        Ok(())
    }

    /// Puts `piece` behind a field and behind what was put there earlier.
    ///
    /// # Errors
    /// There is no field with this index.
    pub fn insert_after(&mut self, field: usize, piece: Piece<'a>) -> Result<(), DocumentError> {
        self.edit(field)?.after.push(piece);
        Ok(())
    }

    /// Puts `piece` at the end of the message, behind what was put there earlier.
    pub fn append(&mut self, piece: Piece<'a>) {
        self.appended.push(piece);
    }

    /// Size of the result in bytes.
    pub fn encoded_len(&self) -> usize {
        self.parts().map(|part| part.length()).sum()
    }

    /// Writes the result. Unchanged stretches go from the source to `out` directly.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_to(&self, out: &mut dyn io::Write) -> io::Result<()> {
        for part in self.parts() {
            match part {
                Part::Original(bytes) => out.write_all(bytes)?,
                Part::New(piece) => piece.write_to(out)?,
            }
        }
        Ok(())
    }

    /// The result in memory.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.encoded_len());
        // Writing to a vector cannot fail.
        let _ = self.write_to(&mut out);
        out
    }

    /// The stretches of the result in order; those between edits are copied as one.
    fn parts(&self) -> impl Iterator<Item = Part<'_, 'a>> {
        let Range { start, end } = self.index.range();
        let ends = self.edits.values().map(|edit| edit.original.end);
        let starts = self.edits.values().map(|edit| edit.original.start);
        let gaps = std::iter::once(start).chain(ends).zip(starts.chain([end]));
        let mut edits = self.edits.values();
        gaps.flat_map(move |(gap_start, gap_end)| {
            let edited = edits.next().into_iter().flat_map(|edit| self.edited_parts(edit));
            std::iter::once(Part::Original(self.original(gap_start..gap_end))).chain(edited)
        })
        .chain(self.appended.iter().map(Part::New))
    }

    fn edited_parts<'s>(&'s self, edit: &'s Edit<'a>) -> impl Iterator<Item = Part<'s, 'a>> {
        let field = match &edit.fate {
            Fate::Keep => Some(Part::Original(self.original(edit.original.clone()))),
            Fate::Remove => None,
            Fate::Replace(piece) => Some(Part::New(piece)),
        };
        let before = edit.before.iter().map(Part::New);
        before.chain(field).chain(edit.after.iter().map(Part::New))
    }

    /// A stretch of the document; inside it, as checked when the splice was made.
    fn original(&self, range: Range<usize>) -> &'a [u8] {
        self.bytes.get(range).unwrap_or_default()
    }

    fn field(&self, index: usize) -> Result<&Field, DocumentError> {
        let fields = self.index.fields();
        fields.get(index).ok_or(DocumentError::NoSuchField { index, count: fields.len() })
    }

    fn edit(&mut self, index: usize) -> Result<&mut Edit<'a>, DocumentError> {
        let original = self.field(index)?.whole();
        Ok(self.edits.entry(index).or_insert_with(|| Edit {
            original,
            before: Vec::new(),
            fate: Fate::Keep,
            after: Vec::new(),
        }))
    }

    fn is_original_of(&self, bytes: &[u8], field: &Field) -> bool {
        self.is_unchanged() && std::ptr::eq(self.bytes, bytes) && self.index.range() == field.payload()
    }
}

impl Edit<'_> {
    fn changes_nothing(&self) -> bool {
        matches!(self.fate, Fate::Keep) && self.before.is_empty() && self.after.is_empty()
    }
}

impl<'a> Piece<'a> {
    /// Bytes that are one or more whole fields, tags included.
    pub fn encoded(fields: impl Into<Cow<'a, [u8]>>) -> Self {
        Self(Content::Encoded(fields.into()))
    }

    /// One or more whole fields that end in `length` bytes which need not be in memory: `head` is everything before
    /// them, and `write` writes exactly them, the same each time.
    pub fn streamed<F>(head: Vec<u8>, length: usize, write: F) -> Self
    where
        F: Fn(&mut dyn io::Write) -> io::Result<()> + Send + Sync + 'a,
    {
        Self(Content::Streamed { head, length, tail: Tail(Arc::new(write)) })
    }

    /// A length-delimited field that holds the message `body`.
    pub fn message(number: u32, body: Splice<'a>) -> Self {
        Self::with_header(encode::length_prefix(number, body.encoded_len()), body)
    }

    fn with_header(header: Vec<u8>, body: Splice<'a>) -> Self {
        let length = header.len() + body.encoded_len();
        Self(Content::Message { header, body: Box::new(body), length })
    }

    fn length(&self) -> usize {
        match &self.0 {
            Content::Encoded(bytes) => bytes.len(),
            Content::Message { length, .. } => *length,
            Content::Streamed { head, length, .. } => head.len() + length,
        }
    }

    fn write_to(&self, out: &mut dyn io::Write) -> io::Result<()> {
        match &self.0 {
            Content::Encoded(bytes) => out.write_all(bytes),
            Content::Message { header, body, .. } => {
                out.write_all(header)?;
                body.write_to(out)
            }
            Content::Streamed { head, tail, .. } => {
                out.write_all(head)?;
                (tail.0)(out)
            }
        }
    }
}

impl Part<'_, '_> {
    fn length(&self) -> usize {
        match self {
            Part::Original(bytes) => bytes.len(),
            Part::New(piece) => piece.length(),
        }
    }
}

#[cfg(test)]
mod tests;
