//! Tests of the wire reader: faults with their offsets, truncations, limits.

use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::encode;
use crate::error::ErrorKind;
use crate::limits::LimitExceeded;

fn index(bytes: &[u8]) -> Result<MessageIndex, WireError> {
    index_message(bytes, 0..bytes.len(), &Limits::default())
}

/// One field of each wire type, a group with a nested group among them.
fn sample_fields() -> Vec<Vec<u8>> {
    vec![
        encode::varint_field(1, 300),
        b"\x11\x01\x02\x03\x04\x05\x06\x07\x08".to_vec(),
        encode::bytes_field(3, b"name"),
        b"\x25\x01\x02\x03\x04".to_vec(),
        b"\x2b\x08\x01\x33\x34\x2c".to_vec(),
        encode::bytes_field(1000, &[7; 200]),
        encode::bytes_field(6, b""),
    ]
}

#[test]
fn fields_are_where_they_were_put() {
    let fields = sample_fields();
    let index = index(&fields.concat()).unwrap();
    let mut start = 0;
    for (expected, field) in fields.iter().zip(index.fields()) {
        assert_eq!(field.whole(), start..start + expected.len());
        start += expected.len();
    }
    assert_eq!(index.fields().len(), fields.len());
    assert_eq!(index.range(), 0..start);

    let group = index.fields()[4];
    assert_eq!((group.number(), group.wire_type()), (5, WireType::Group));
    assert_eq!(group.payload().len(), 4);
    let long = index.fields()[5];
    assert_eq!((long.tag().len(), long.payload().len()), (2, 200));
    assert_eq!(long.payload().end, long.whole().end);
    let found: Vec<usize> = index.with_number(1000).map(|(position, _)| position).collect();
    assert_eq!(found, [5]);
}

#[test]
fn a_cut_is_an_error_unless_it_is_between_fields() {
    let fields = sample_fields();
    let bytes = fields.concat();
    let mut boundaries = vec![0];
    for field in &fields {
        boundaries.push(boundaries[boundaries.len() - 1] + field.len());
    }
    for cut in 0..bytes.len() {
        let result = index(&bytes[..cut]);
        match boundaries.iter().position(|&boundary| boundary == cut) {
            Some(whole_fields) => assert_eq!(result.unwrap().fields().len(), whole_fields),
            None => {
                let error = result.expect_err("cut inside a field");
                assert!(error.offset <= cut, "cut {cut}: {error}");
                assert_eq!(error.kind(), ErrorKind::Input, "cut {cut}: {error}");
            }
        }
    }
}

#[test]
fn faults_name_their_place() {
    let cases: [(&str, &[u8], &str); 14] = [
        ("tag", b"\x80", "at byte 1, reading the tag of a field: bytes needed: 1, left: 0"),
        (
            "number 0",
            b"\x08\x01\x00",
            "at byte 2, reading the tag of a field: field number 0 is not within 1..=536870911",
        ),
        (
            "large number",
            b"\x80\x80\x80\x80\x10",
            "at byte 0, reading the tag of a field: field number 536870912 is not within 1..=536870911",
        ),
        ("wire type 6", b"\x0e", "at byte 0, reading the tag of a field: field 1 has the undefined wire type 6"),
        ("wire type 7", b"\x0f", "at byte 0, reading the tag of a field: field 1 has the undefined wire type 7"),
        ("no value", b"\x08", "at byte 1, reading the value of field 1: bytes needed: 1, left: 0"),
        (
            "overlong value",
            b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02",
            "at byte 1, reading the value of field 1: the number does not fit into 64 bits",
        ),
        ("overlong tag", &[0x80; 12], "at byte 0, reading the tag of a field: the number does not fit into 64 bits"),
        ("no length", b"\x12", "at byte 1, reading the length of field 2: bytes needed: 1, left: 0"),
        ("long length", b"\x12\x05ab", "at byte 2, reading the contents of field 2: bytes needed: 5, left: 2"),
        (
            "huge length",
            b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            "at byte 11, reading the contents of field 2: bytes needed: 18446744073709551615, left: 0",
        ),
        ("short fixed", b"\x15\x01\x02", "at byte 1, reading the contents of field 2: bytes needed: 4, left: 2"),
        ("stray end", b"\x14", "at byte 0, reading the tag of a field: group 2 is closed but was not opened"),
        (
            "crossed groups",
            b"\x0b\x13\x0c",
            "at byte 2, reading the tag of a field: group 1 is closed but was not opened",
        ),
    ];
    for (name, bytes, expected) in cases {
        assert_eq!(index(bytes).expect_err(name).to_string(), expected, "{name}");
    }
}

#[test]
fn encodings_that_are_not_minimal_are_kept() {
    // Field 1 with a two-byte tag, field 2 with a three-byte length.
    let bytes = b"\x88\x00\x05\x12\x82\x80\x00ab";
    let index = index(bytes).unwrap();
    assert_eq!(index.fields()[0].tag(), 0..2);
    assert_eq!(index.fields()[1].tag(), 3..4);
    assert_eq!(index.fields()[1].payload(), 7..9);
}

#[test]
fn a_child_has_offsets_in_the_document() {
    let bytes = [encode::varint_field(1, 1), encode::bytes_field(2, b"\x08\x07\x09")].concat();
    let root = index(&bytes).unwrap();
    let error = root.child(&bytes, &root.fields()[1], &Limits::default()).expect_err("cut off");
    assert_eq!(error.offset, 7);
    let error = root.child(&bytes, &root.fields()[0], &Limits::default()).expect_err("a number");
    assert_eq!(error.fault, WireFault::NotAMessage);
}

#[test]
fn a_range_outside_the_document_is_refused() {
    for range in [0..3, 5..6, usize::MAX - 1..usize::MAX] {
        let error = index_message(b"\x08\x01", range, &Limits::default()).expect_err("outside");
        assert_eq!(error.kind(), ErrorKind::Bug);
    }
}

#[test]
fn the_field_limit_holds() {
    let limits = Limits { max_fields: 3, ..Limits::default() };
    let bytes = encode::varint_field(1, 0).repeat(4);
    assert_eq!(index_message(&bytes, 0..6, &limits).unwrap().fields().len(), 3);
    let error = index_message(&bytes, 0..8, &limits).expect_err("four fields");
    assert_eq!(error.fault, WireFault::Limit(LimitExceeded::Fields { limit: 3 }));
    assert_eq!(error.kind(), ErrorKind::Limits);
}

#[test]
fn the_nesting_limit_holds_for_messages() {
    let limits = Limits { max_nesting: 2, ..Limits::default() };
    let mut bytes = Vec::new();
    for _ in 0..3 {
        bytes = encode::bytes_field(1, &bytes);
    }
    let root = index_message(&bytes, 0..bytes.len(), &limits).unwrap();
    let first = root.child(&bytes, &root.fields()[0], &limits).unwrap();
    let second = first.child(&bytes, &first.fields()[0], &limits).unwrap();
    let error = second.child(&bytes, &second.fields()[0], &limits).expect_err("third level");
    assert_eq!(error.fault, WireFault::Limit(LimitExceeded::Nesting { limit: 2 }));
}

#[test]
fn the_nesting_limit_holds_for_groups() {
    let nested = |depth: usize| [vec![0x0b; depth], vec![0x0c; depth]].concat();
    assert_eq!(index(&nested(100)).unwrap().fields().len(), 1);
    for depth in [101, 1_000_000] {
        let error = index(&nested(depth)).expect_err("too deep");
        assert_eq!(error.fault, WireFault::Limit(LimitExceeded::Nesting { limit: 100 }));
        assert_eq!(error.offset, 101);
    }
}

/// Bytes that are often almost a message.
fn tag_rich_bytes() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![0u8..0x30, any::<u8>(), Just(0x80), Just(0x0b), Just(0x0c)];
    prop::collection::vec(byte, 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    /// The unit type skips every field, so prost judges the same thing as we do.
    #[test]
    fn agrees_with_prost_on_what_a_message_is(bytes in tag_rich_bytes()) {
        let result = index(&bytes);
        prop_assert_eq!(result.is_ok(), <()>::decode(bytes.as_slice()).is_ok(), "{:?}", result);
        if let Ok(index) = result {
            let mut position = 0;
            for field in index.fields() {
                prop_assert_eq!(field.whole().start, position);
                prop_assert!(field.tag().end <= field.payload().start);
                prop_assert!(field.payload().end <= field.whole().end);
                position = field.whole().end;
            }
            prop_assert_eq!(position, bytes.len());
        }
    }
}
