//! Edits over a text. Bytes that are not edited are copied as they are.

use crate::error::DocumentError;
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;

/// The new form of a text: the original with a list of edits.
///
/// Without edits the result is the original, byte for byte. Edits refer to bytes of the original and may be made in
/// any order; places do not shift.
#[derive(Debug, Clone)]
pub struct TextSplice<'a> {
    text: &'a [u8],
    /// What stands in place of the bytes from the key to `end`, by the start of the bytes and whether any go.
    edits: BTreeMap<(usize, bool), Edit>,
}

#[derive(Debug, Clone)]
struct Edit {
    end: usize,
    new: Vec<u8>,
}

impl<'a> TextSplice<'a> {
    /// Starts with the original text and no edits.
    pub fn new(text: &'a [u8]) -> Self {
        Self { text, edits: BTreeMap::new() }
    }

    /// Whether there is no edit, so that the result is the original.
    pub fn is_unchanged(&self) -> bool {
        self.edits.is_empty()
    }

    /// Puts `new` in front of the byte at `offset`, behind what was put there earlier.
    ///
    /// # Errors
    /// The place is outside the text or inside bytes that another edit takes away.
    pub fn insert(&mut self, offset: usize, new: &str) -> Result<(), DocumentError> {
        self.check(&(offset..offset))?;
        let edit = self.edits.entry((offset, false)).or_insert_with(|| Edit { end: offset, new: Vec::new() });
        edit.new.extend_from_slice(new.as_bytes());
        Ok(())
    }

    /// Puts `new` in place of the bytes in `span`.
    ///
    /// # Errors
    /// The span is outside the text or overlaps another edit.
    pub fn replace(&mut self, span: Range<usize>, new: &str) -> Result<(), DocumentError> {
        if span.start == span.end {
            return self.insert(span.start, new);
        }
        self.check(&span)?;
        self.edits.insert((span.start, true), Edit { end: span.end, new: new.as_bytes().to_vec() });
        Ok(())
    }

    /// Takes the bytes in `span` away.
    ///
    /// # Errors
    /// The span is outside the text or overlaps another edit.
    pub fn remove(&mut self, span: Range<usize>) -> Result<(), DocumentError> {
        self.replace(span, "")
    }

    /// Takes the bytes in `span` away, with a separator behind them and the lines they stand on as far as nothing else
    /// stands there.
    ///
    /// # Errors
    /// The span is outside the text or overlaps another edit.
    pub fn remove_lines(&mut self, span: Range<usize>) -> Result<(), DocumentError> {
        let lines = self.lines(span);
        self.remove(lines)
    }

    /// `span` widened to whole lines, if only blanks and a separator stand beside it.
    fn lines(&self, span: Range<usize>) -> Range<usize> {
        let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
        let before = self.text.get(..span.start).unwrap_or_default();
        let behind = self.text.get(span.end..).unwrap_or_default();
        let separator = usize::from(matches!(behind.first(), Some(b',' | b';')));
        let behind = behind.get(separator..).unwrap_or_default();
        let end = span.end + separator;

        let start = before.iter().rposition(|byte| !is_blank(byte)).map_or(0, |at| at + 1);
        let starts_line = start == 0 || self.text.get(start - 1) == Some(&b'\n');
        let blanks = behind.iter().take_while(|byte| is_blank(byte)).count();
        let line_end = match behind.get(blanks..).unwrap_or_default() {
            [b'\r', b'\n', ..] => 2,
            [b'\n', ..] => 1,
            [] => 0,
            _ => return span.start..end,
        };
        if starts_line { start..end + blanks + line_end } else { span.start..end }
    }

    fn check(&self, span: &Range<usize>) -> Result<(), DocumentError> {
        let Range { start, end } = *span;
        if start > end || end > self.text.len() {
            return Err(DocumentError::EditOutside { start, end, length: self.text.len() });
        }
        let taken = |(from, edit): (&(usize, bool), &Edit)| match (from.1, start == end) {
            // Bytes that go, and a place strictly inside them.
            (true, true) => from.0 < start && start < edit.end,
            (true, false) => from.0 < end && start < edit.end,
            (false, true) => false,
            (false, false) => start < from.0 && from.0 < end,
        };
        let inside = self.edits.range((start, false)..(end, true));
        match inside.chain(self.before(start)).any(taken) {
            true => Err(DocumentError::EditOverlap { start, end }),
            false => Ok(()),
        }
    }

    /// The last edit before `start` that takes bytes away.
    fn before(&self, start: usize) -> Option<(&(usize, bool), &Edit)> {
        self.edits.range(..(start, false)).rev().find(|(from, _)| from.1)
    }

    /// Writes the result.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_to<W: io::Write + ?Sized>(&self, out: &mut W) -> io::Result<()> {
        let mut done = 0;
        for ((start, _), edit) in &self.edits {
            out.write_all(self.text.get(done..*start).unwrap_or_default())?;
            out.write_all(&edit.new)?;
            done = edit.end;
        }
        out.write_all(self.text.get(done..).unwrap_or_default())
    }

    /// The result in memory.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.text.len());
        // Writing to a vector cannot fail.
        let _ = self.write_to(&mut out);
        out
    }
}
