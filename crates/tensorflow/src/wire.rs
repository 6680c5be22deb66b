//! Reading the fields of a message whose bytes are at hand: what accessors of nodes, attributes and tensors share.
//!
//! A field of another wire type than expected counts as absent, as it does for every reader of the format.

use bytes::Bytes;
use quantize_document::{Field, Limits, MessageIndex, WireError, WireType, index_message};

/// Fields of one message beyond which no network goes: what is read of each takes many times the bytes it has in the file.
pub(crate) const MOST_FIELDS: usize = 1 << 18;

/// A message and where its fields are.
#[derive(Clone, Debug)]
pub(crate) struct Reader {
    bytes: Bytes,
    index: MessageIndex,
}

impl Reader {
    /// Indexes the message in `bytes`.
    pub(crate) fn new(bytes: &Bytes) -> Result<Self, WireError> {
        let limits = Limits { max_fields: MOST_FIELDS, ..Limits::default() };
        let index = index_message(bytes, 0..bytes.len(), &limits)?;
        Ok(Self { bytes: bytes.clone(), index })
    }

    /// The fields, in order.
    pub(crate) fn fields(&self) -> &[Field] {
        self.index.fields()
    }

    fn of(&self, number: u32, wire_type: WireType) -> impl DoubleEndedIterator<Item = &Field> {
        self.fields().iter().filter(move |field| field.number() == number && field.wire_type() == wire_type)
    }

    /// The bytes that a field holds.
    pub(crate) fn payload(&self, field: &Field) -> Bytes {
        slice(&self.bytes, field.payload())
    }

    /// The integer of a field that is not repeated.
    pub(crate) fn varint(&self, number: u32) -> Option<u64> {
        let field = self.of(number, WireType::Varint).next_back()?;
        varints(&self.payload(field)).next()
    }

    /// The text or bytes of a field that is not repeated.
    pub(crate) fn delimited(&self, number: u32) -> Option<Bytes> {
        self.of(number, WireType::LengthDelimited).next_back().map(|field| self.payload(field))
    }

    /// The message in a field that is not repeated: several are one, the fields of the later behind those of the
    /// earlier.
    pub(crate) fn message(&self, number: u32) -> Option<Bytes> {
        let mut parts = self.each(number);
        let first = parts.next()?;
        match parts.next() {
            None => Some(first),
            Some(second) => {
                let all = [first, second].into_iter().chain(parts);
                Some(all.fold(Vec::new(), |joined, part| [joined, part.to_vec()].concat()).into())
            }
        }
    }

    /// The text, bytes or message of each field with this number.
    pub(crate) fn each(&self, number: u32) -> impl Iterator<Item = Bytes> {
        self.of(number, WireType::LengthDelimited).map(|field| self.payload(field))
    }

    /// All integers of a repeated field, packed or not.
    pub(crate) fn all_varints(&self, number: u32) -> impl Iterator<Item = u64> {
        self.parts(number, WireType::Varint).flat_map(|part| varints(&part).collect::<Vec<_>>())
    }

    /// The payloads of a repeated field of numbers: lists of them, and single ones of type `single`.
    pub(crate) fn parts(&self, number: u32, single: WireType) -> impl Iterator<Item = Bytes> {
        let holds = move |field: &&Field| {
            field.number() == number && [single, WireType::LengthDelimited].contains(&field.wire_type())
        };
        self.fields().iter().filter(holds).map(|field| self.payload(field))
    }
}

/// A part of `bytes`; empty if it is not inside.
pub(crate) fn slice(bytes: &Bytes, range: std::ops::Range<usize>) -> Bytes {
    if range.start <= range.end && range.end <= bytes.len() { bytes.slice(range) } else { Bytes::new() }
}

/// The varints in `bytes`, one behind the other. One that is cut off is left out.
pub(crate) fn varints(bytes: &[u8]) -> impl Iterator<Item = u64> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = rest.iter().position(|byte| *byte < 0x80)? + 1;
        let (varint, behind) = rest.split_at_checked(length)?;
        rest = behind;
        Some(varint.iter().rev().take(10).fold(0, |value, byte| value << 7 | u64::from(byte & 0x7f)))
    })
}

/// The numbers of four bytes in `bytes`, as patterns.
pub(crate) fn fixed32(bytes: &[u8]) -> impl Iterator<Item = u32> {
    bytes.as_chunks().0.iter().map(|chunk| u32::from_le_bytes(*chunk))
}

/// The numbers of eight bytes in `bytes`, as patterns.
pub(crate) fn fixed64(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes.as_chunks().0.iter().map(|chunk| u64::from_le_bytes(*chunk))
}
