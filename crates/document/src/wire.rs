//! The protocol buffers wire format: finds where each field of a message lies,
//! without copying and without knowing any schema.
//!
//! Encodings that are valid but not minimal are accepted, since the bytes are
//! kept as they are. Interpreting the fields is left to generated types.

mod fault;

use std::borrow::Cow;
use std::ops::Range;

use crate::limits::Limits;
pub use fault::{Reading, WireError, WireFault};

/// Largest field number that a tag can carry.
pub const MAX_FIELD_NUMBER: u32 = (1 << 29) - 1;

/// How the payload of a field is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WireType {
    /// A varint of 1 to 10 bytes.
    Varint,
    /// Eight bytes.
    Fixed64,
    /// A length, then that many bytes.
    LengthDelimited,
    /// Fields up to a closing tag of the same number; an outdated form of message.
    Group,
    /// Four bytes.
    Fixed32,
}

impl WireType {
    /// The number that stands for the type in a tag.
    pub(crate) fn code(self) -> u64 {
        match self {
            Self::Varint => 0,
            Self::Fixed64 => 1,
            Self::LengthDelimited => 2,
            Self::Group => 3,
            Self::Fixed32 => 5,
        }
    }
}

/// Where one field of a message lies. All ranges are offsets in the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    start: usize,
    end: usize,
    number: u32,
    wire_type: WireType,
    // At most ten bytes for a tag and ten for a length.
    tag_bytes: u8,
    header_bytes: u8,
    trailer_bytes: u8,
}

impl Field {
    /// Field number, `1..=MAX_FIELD_NUMBER`.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// How the payload is delimited.
    pub fn wire_type(&self) -> WireType {
        self.wire_type
    }

    /// The tag.
    pub fn tag(&self) -> Range<usize> {
        self.start..self.start + usize::from(self.tag_bytes)
    }

    /// The whole field: tag, length if there is one, payload, closing tag of a group.
    pub fn whole(&self) -> Range<usize> {
        self.start..self.end
    }

    /// The value alone: the varint, the fixed bytes, the delimited bytes, the fields of a group.
    pub fn payload(&self) -> Range<usize> {
        self.start + usize::from(self.header_bytes)..self.end - usize::from(self.trailer_bytes)
    }
}

/// The fields of one message, in document order and without gaps between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageIndex {
    range: Range<usize>,
    depth: usize,
    fields: Vec<Field>,
}

impl MessageIndex {
    /// The bytes of the message, without the tag and length in front of it.
    pub fn range(&self) -> Range<usize> {
        self.range.clone()
    }

    /// The fields in document order. Positions in this slice are the field
    /// indices that edits refer to.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// Index and place of each field with this number, in document order.
    pub fn with_number(&self, number: u32) -> impl Iterator<Item = (usize, &Field)> {
        self.fields.iter().enumerate().filter(move |(_, field)| field.number == number)
    }

    /// Indexes the message that a length-delimited field of this one holds.
    ///
    /// `bytes` is the document that this index was made from.
    ///
    /// # Errors
    /// Offset and cause if the field is not length-delimited, its contents are
    /// no valid message, or a limit is exceeded.
    pub fn child(&self, bytes: &[u8], field: &Field, limits: &Limits) -> Result<Self, WireError> {
        if field.wire_type != WireType::LengthDelimited {
            let (offset, reading) = (field.start, Reading::Contents(field.number));
            return Err(WireError { offset, reading, fault: WireFault::NotAMessage });
        }
        index_at_depth(bytes, field.payload(), self.depth + 1, limits)
    }
}

impl From<MessageIndex> for Cow<'_, MessageIndex> {
    fn from(index: MessageIndex) -> Self {
        Cow::Owned(index)
    }
}

impl<'a> From<&'a MessageIndex> for Cow<'a, MessageIndex> {
    fn from(index: &'a MessageIndex) -> Self {
        Cow::Borrowed(index)
    }
}

/// Indexes the message that occupies `range` of `bytes`.
///
/// Only this level is read; the contents of nested messages are not looked at
/// until [`MessageIndex::child`] asks for them. Memory is taken after the
/// whole level has been checked and counted.
///
/// # Errors
/// The offset, what was being read there and the cause.
pub fn index_message(bytes: &[u8], range: Range<usize>, limits: &Limits) -> Result<MessageIndex, WireError> {
    index_at_depth(bytes, range, 0, limits)
}

fn index_at_depth(bytes: &[u8], range: Range<usize>, depth: usize, limits: &Limits) -> Result<MessageIndex, WireError> {
    let start = Cursor::new(bytes, range.clone(), depth, limits)?;
    let mut fields = Vec::with_capacity(start.clone().count_fields()?);
    let mut cursor = start;
    while !cursor.at_end() {
        fields.push(cursor.field()?);
    }
    Ok(MessageIndex { range, depth, fields })
}

/// A place in a message that is read from front to back.
#[derive(Clone)]
struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
    end: usize,
    depth: usize,
    limits: &'a Limits,
}

/// What a tag announces.
enum Tag {
    Field(u32, WireType),
    EndGroup(u32),
}

impl<'a> Cursor<'a> {
    fn new(bytes: &'a [u8], range: Range<usize>, depth: usize, limits: &'a Limits) -> Result<Self, WireError> {
        let Range { start, end } = range;
        let error = |fault| WireError { offset: start, reading: Reading::Message, fault };
        if start > end || end > bytes.len() {
            return Err(error(WireFault::OutsideDocument { end, length: bytes.len() }));
        }
        limits.check_nesting(depth).map_err(|exceeded| error(exceeded.into()))?;
        Ok(Self { bytes, position: start, end, depth, limits })
    }

    fn at_end(&self) -> bool {
        self.position >= self.end
    }

    fn count_fields(mut self) -> Result<usize, WireError> {
        let mut count = 0;
        while !self.at_end() {
            count += 1;
            self.limits.check_fields(count).map_err(|exceeded| self.fail(Reading::Message, exceeded.into()))?;
            self.field()?;
        }
        Ok(count)
    }

    fn field(&mut self) -> Result<Field, WireError> {
        let start = self.position;
        let (number, wire_type) = match self.tag()? {
            Tag::Field(number, wire_type) => (number, wire_type),
            Tag::EndGroup(number) => {
                let fault = WireFault::UnexpectedEndGroup { number };
                return Err(WireError { offset: start, reading: Reading::Tag, fault });
            }
        };
        let tag_end = self.position;
        let payload = self.payload(number, wire_type)?;
        Ok(Field {
            start,
            end: self.position,
            number,
            wire_type,
            tag_bytes: short_length(start, tag_end),
            header_bytes: short_length(start, payload.start),
            trailer_bytes: short_length(payload.end, self.position),
        })
    }

    /// Moves past the rest of a field and returns where its payload is.
    fn payload(&mut self, number: u32, wire_type: WireType) -> Result<Range<usize>, WireError> {
        if wire_type == WireType::Group {
            return self.group(number);
        }
        let start = self.payload_start(number, wire_type)?;
        Ok(start..self.position)
    }

    /// Moves past the rest of a field that is no group and returns where its payload starts.
    fn payload_start(&mut self, number: u32, wire_type: WireType) -> Result<usize, WireError> {
        let length = match wire_type {
            WireType::Varint => {
                let start = self.position;
                self.varint(Reading::Value(number))?;
                return Ok(start);
            }
            WireType::LengthDelimited => self.varint(Reading::Length(number))?,
            WireType::Fixed64 => 8,
            WireType::Fixed32 => 4,
            WireType::Group => 0,
        };
        let start = self.position;
        self.skip(length, Reading::Contents(number))?;
        Ok(start)
    }

    /// Moves past the group whose opening tag was just read.
    ///
    /// The open groups are kept in a list, not on the stack, and the list is as
    /// long as the nesting limit allows.
    fn group(&mut self, number: u32) -> Result<Range<usize>, WireError> {
        let start = self.position;
        let mut open = vec![number];
        self.check_group_depth(number, open.len())?;
        while !self.at_end() {
            let offset = self.position;
            match self.tag()? {
                Tag::Field(number, WireType::Group) => {
                    open.push(number);
                    self.check_group_depth(number, open.len())?;
                }
                Tag::Field(number, wire_type) => {
                    self.payload_start(number, wire_type)?;
                }
                Tag::EndGroup(closed) => {
                    if open.pop() != Some(closed) {
                        let fault = WireFault::UnexpectedEndGroup { number: closed };
                        return Err(WireError { offset, reading: Reading::Tag, fault });
                    }
                    if open.is_empty() {
                        return Ok(start..offset);
                    }
                }
            }
        }
        Err(self.fail(Reading::Contents(number), WireFault::UnclosedGroup))
    }

    fn check_group_depth(&self, number: u32, open: usize) -> Result<(), WireError> {
        self.limits
            .check_nesting(self.depth + open)
            .map_err(|exceeded| self.fail(Reading::Contents(number), exceeded.into()))
    }

    fn tag(&mut self) -> Result<Tag, WireError> {
        let start = self.position;
        let error = |fault| WireError { offset: start, reading: Reading::Tag, fault };
        let key = self.varint(Reading::Tag)?;
        let number = match u32::try_from(key >> 3) {
            Ok(number @ 1..=MAX_FIELD_NUMBER) => number,
            _ => return Err(error(WireFault::FieldNumber { number: key >> 3 })),
        };
        match key & 7 {
            0 => Ok(Tag::Field(number, WireType::Varint)),
            1 => Ok(Tag::Field(number, WireType::Fixed64)),
            2 => Ok(Tag::Field(number, WireType::LengthDelimited)),
            3 => Ok(Tag::Field(number, WireType::Group)),
            4 => Ok(Tag::EndGroup(number)),
            5 => Ok(Tag::Field(number, WireType::Fixed32)),
            code => Err(error(WireFault::WireType { number, code })),
        }
    }

    fn varint(&mut self, reading: Reading) -> Result<u64, WireError> {
        let start = self.position;
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte(reading)?;
            // The tenth byte has room for one bit.
            if shift == 63 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(WireError { offset: start, reading, fault: WireFault::OverlongVarint })
    }

    fn byte(&mut self, reading: Reading) -> Result<u8, WireError> {
        match self.bytes.get(self.position) {
            Some(&byte) if !self.at_end() => {
                self.position += 1;
                Ok(byte)
            }
            _ => Err(self.fail(reading, WireFault::Truncated { needed: 1, left: 0 })),
        }
    }

    fn skip(&mut self, length: u64, reading: Reading) -> Result<(), WireError> {
        let left = self.end - self.position;
        match usize::try_from(length) {
            Ok(length) if length <= left => {
                self.position += length;
                Ok(())
            }
            _ => Err(self.fail(reading, WireFault::Truncated { needed: length, left })),
        }
    }

    fn fail(&self, reading: Reading, fault: WireFault) -> WireError {
        WireError { offset: self.position, reading, fault }
    }
}

/// Length of a tag, of a tag with its length, or of a closing tag: at most 20 bytes.
fn short_length(start: usize, end: usize) -> u8 {
    (end - start) as u8
}

#[cfg(test)]
mod tests;
