//! Tests of the reader of `.npy` files.

use super::*;
use proptest::prelude::*;

/// A file of format version `version` with this header and these bytes of numbers.
pub(crate) fn file(version: u8, header: &str, body: &[u8]) -> Vec<u8> {
    let length = match version {
        1 => (header.len() as u16).to_le_bytes().to_vec(),
        _ => (header.len() as u32).to_le_bytes().to_vec(),
    };
    [MAGIC, &[version, 0], &length, header.as_bytes(), body].concat()
}

fn parse(bytes: &[u8]) -> Result<Tensor, String> {
    decode(bytes, Limits::default())
}

pub(crate) fn header(descr: &str, fortran: &str, shape: &str) -> String {
    format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}   \n")
}

pub(crate) fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

#[test]
fn every_version_is_read() {
    for version in 1..=3 {
        let array = parse(&file(version, &header("<f4", "False", "(1, 2)"), &floats(&[0.5, -2.0]))).unwrap();
        assert_eq!(array, Tensor::new([1, 2], vec![0.5_f32, -2.0]).unwrap());
    }
    let long = parse(&file(1, &header("|u1", "False", "(3L, 1L)"), &[0, 7, 255])).unwrap();
    assert_eq!(long, Tensor::new([3, 1], vec![0_u8, 7, 255]).unwrap());
}

#[test]
fn every_type_of_number_keeps_its_values() {
    let cases: [(&str, Vec<u8>, TensorData); 12] = [
        ("<f2", vec![0, 0x38, 0, 0xC0], TensorData::F32(vec![0.5, -2.0])),
        ("<f4", floats(&[0.5, -2.0]), TensorData::F32(vec![0.5, -2.0])),
        ("<f8", [0.1_f64, -2.0].map(f64::to_le_bytes).concat(), TensorData::F64(vec![0.1, -2.0])),
        ("|i1", vec![0x80, 1], TensorData::I8(vec![-128, 1])),
        ("|u1", vec![0x80, 1], TensorData::U8(vec![128, 1])),
        ("<i2", vec![0, 0x80, 1, 0], TensorData::I16(vec![-32768, 1])),
        ("<u2", vec![0, 0x80, 1, 0], TensorData::U16(vec![32768, 1])),
        ("<i4", [i32::MIN, 1].map(i32::to_le_bytes).concat(), TensorData::I32(vec![i32::MIN, 1])),
        ("<u4", [u32::MAX, 1].map(u32::to_le_bytes).concat(), TensorData::U32(vec![u32::MAX, 1])),
        ("<i8", [i64::MIN, 1].map(i64::to_le_bytes).concat(), TensorData::I64(vec![i64::MIN, 1])),
        ("<u8", [u64::MAX, 1].map(u64::to_le_bytes).concat(), TensorData::U64(vec![u64::MAX, 1])),
        ("|b1", vec![1, 0], TensorData::Bool(vec![true, false])),
    ];
    for (name, body, data) in cases {
        assert!(parse(&file(1, &header(name, "False", "(2,)"), &body)).unwrap().data() == &data, "{name}");
    }
}

#[test]
fn scalars_empty_arrays_and_other_spellings_are_arrays() {
    let cases = [
        ("scalar", header("|u1", "False", "()"), vec![9], vec![]),
        ("empty", header("<f4", "True", "(2, 0)"), vec![], vec![2, 0]),
        ("order", "{\"shape\":(1,),\"descr\":\"|u1\",\"fortran_order\":True}".to_owned(), vec![9], vec![1]),
    ];
    for (name, header, body, shape) in cases {
        assert_eq!(parse(&file(1, &header, &body)).unwrap().shape(), shape, "{name}");
    }
}

#[test]
fn fortran_order_becomes_row_major() {
    let array = parse(&file(1, &header("|u1", "True", "(2, 3, 2)"), &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11])).unwrap();
    assert_eq!(array.as_slice::<u8>().unwrap(), [0, 6, 2, 8, 4, 10, 1, 7, 3, 9, 5, 11]);
    let wide: Vec<u8> = (0..6_i16).flat_map(i16::to_le_bytes).collect();
    let array = parse(&file(1, &header("<i2", "True", "(2, 3)"), &wide)).unwrap();
    assert_eq!(array.as_slice::<i16>().unwrap(), [0, 2, 4, 1, 3, 5]);
}

#[test]
fn what_is_no_array_of_these_numbers_is_refused_with_the_cause() {
    let good = header("<f4", "False", "(2,)");
    let whole = file(1, &good, &floats(&[1.0, 2.0]));
    let large = "(9223372036854775807, 9223372036854775807)";
    let cases: &[(&str, Vec<u8>, &str)] = &[
        ("empty", vec![], "it does not begin like a .npy file"),
        ("text", b"0.1,0.2".to_vec(), "it does not begin like a .npy file"),
        ("magic only", MAGIC.to_vec(), "the header is cut short"),
        ("version", file(4, &good, &[]), "version 4 of the format is unknown"),
        ("cut header", whole[..40].to_vec(), "the header is cut short"),
        ("cut", whole[..whole.len() - 1].to_vec(), "it is cut short: [2] does not fit into 7 bytes of numbers"),
        ("tail", [whole.as_slice(), &[0]].concat(), "something follows the numbers: [2] does not fit into 9 bytes"),
        ("huge header", file(2, &" ".repeat(MAX_HEADER_BYTES + 1), &[]), "the header has more than 65536 bytes"),
        ("not text", [MAGIC, &[1, 0, 1, 0, 0xFF]].concat(), "the header is no text"),
        ("big-endian", file(1, &header(">f4", "False", "(2,)"), &[0; 8]), "numbers of type \">f4\" are not read"),
        ("objects", file(1, &header("|O", "False", "(2,)"), &[0; 8]), "numbers of type \"|O\" are not read"),
        ("record", file(1, "{'descr': [('a', '<f4')]}", &[]), "its elements are not plain numbers"),
        ("overflow", file(1, &header("<f4", "False", large), &[]), "has too many elements"),
        ("too many", file(1, &header("|u1", "False", "(134217729,)"), &[]), "are more than 134217728 numbers"),
        ("axes", file(1, &header("|u1", "False", &format!("({})", "1,".repeat(65))), &[0]), "more than 64 axes"),
        ("negative", file(1, &header("|u1", "False", "(-1,)"), &[0]), "\"\" is no length of an axis"),
        ("order", file(1, &header("|u1", "Maybe", "(1,)"), &[0]), "\"Maybe\" in the header is neither True nor"),
        ("missing", file(1, "{'descr': '|u1', 'shape': (1,)}", &[0]), "the header lacks the key \"fortran_order\""),
        ("twice", file(1, "{'shape': (1,), 'shape': (1,)}", &[0]), "the header has the key \"shape\" twice"),
        ("unknown", file(1, "{'colour': 1}", &[0]), "the header has an unknown key \"colour\""),
        ("open word", file(1, "{'descr", &[0]), "a word in the header has no end"),
        ("after", file(1, "{} {}", &[0]), "the header does not end with its dictionary"),
    ];
    for (name, bytes, cause) in cases {
        let text = parse(bytes).unwrap_err();
        assert!(text.contains(cause), "{name}: {text}");
    }
}

proptest! {
    #[test]
    fn damage_is_never_a_panic(at in 0..200_usize, byte: u8, length in 0..200_usize) {
        let mut bytes = file(1, &header("<f4", "True", "(2, 3)"), &floats(&[1.0; 6]));
        let end = bytes.len();
        bytes[at % end] = byte;
        bytes.truncate(length);
        prop_assert!(length >= end || parse(&bytes).is_err());
    }

    #[test]
    fn both_orders_of_a_matrix_are_the_same_array(rows in 1..6_usize, columns in 1..6_usize) {
        let at = |row: usize, column: usize| (10 * row + column) as u8;
        let by_row: Vec<u8> = (0..rows).flat_map(|r| (0..columns).map(move |c| at(r, c))).collect();
        let by_column: Vec<u8> = (0..columns).flat_map(|c| (0..rows).map(move |r| at(r, c))).collect();
        let shape = format!("({rows}, {columns})");
        let c = parse(&file(1, &header("|u1", "False", &shape), &by_row)).unwrap();
        let fortran = parse(&file(1, &header("|u1", "True", &shape), &by_column)).unwrap();
        prop_assert_eq!(c, fortran);
    }
}
