//! Encoding of single protocol buffers fields, for pieces that are spliced into
//! a message. Whole messages are encoded from their generated types.
//!
//! Field numbers come from a schema and are within `1..=536_870_911`.

use crate::wire::WireType;

/// Appends `value` as a varint of minimal length, 1 to 10 bytes.
pub fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends the tag of a field.
pub fn tag(out: &mut Vec<u8>, number: u32, wire_type: WireType) {
    debug_assert!((1..=crate::wire::MAX_FIELD_NUMBER).contains(&number), "field number {number}");
    varint(out, u64::from(number) << 3 | wire_type.code());
}

/// A length-delimited field: a string, bytes, a message or packed numbers.
pub fn bytes_field(number: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = length_prefix(number, payload.len());
    out.extend_from_slice(payload);
    out
}

/// A varint field: an integer, a truth value or an enum.
///
/// Negative values of `int32`, `int64` and enums are passed as their
/// sign-extended 64-bit pattern.
pub fn varint_field(number: u32, value: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(15);
    tag(&mut out, number, WireType::Varint);
    varint(&mut out, value);
    out
}

/// Tag and length of a length-delimited field of `length` payload bytes.
pub fn length_prefix(number: u32, length: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(15);
    tag(&mut out, number, WireType::LengthDelimited);
    varint(&mut out, length as u64);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn varint_lengths() {
        let cases: [(u64, &[u8]); 6] = [
            (0, &[0]),
            (1, &[1]),
            (127, &[0x7f]),
            (128, &[0x80, 1]),
            (300, &[0xac, 2]),
            (u64::MAX, &[255, 255, 255, 255, 255, 255, 255, 255, 255, 1]),
        ];
        for (value, expected) in cases {
            let mut out = Vec::new();
            varint(&mut out, value);
            assert_eq!(out, expected, "{value}");
        }
    }

    proptest! {
        #[test]
        fn fields_agree_with_prost(number in 1u32..=536_870_911, value: u64, text in ".{0,200}") {
            let mut expected = Vec::new();
            prost::encoding::uint64::encode(number, &value, &mut expected);
            prop_assert_eq!(varint_field(number, value), expected);

            let mut expected = Vec::new();
            prost::encoding::string::encode(number, &text, &mut expected);
            prop_assert_eq!(bytes_field(number, text.as_bytes()), expected);
        }
    }
}
