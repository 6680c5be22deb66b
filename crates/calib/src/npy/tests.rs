//! Tests of the reader of `.npy` files.

use super::*;
use proptest::prelude::*;

/// A file of format version `version` with this header and these bytes of numbers.
fn file(version: u8, header: &str, body: &[u8]) -> Vec<u8> {
    let length = match version {
        1 => (header.len() as u16).to_le_bytes().to_vec(),
        _ => (header.len() as u32).to_le_bytes().to_vec(),
    };
    [MAGIC, &[version, 0], &length, header.as_bytes(), body].concat()
}

fn parse(bytes: &[u8]) -> Result<Array, CalibError> {
    Array::parse("a.npy", bytes, Limits::default())
}

fn header(descr: &str, fortran: &str, shape: &str) -> String {
    format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}   \n")
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

#[test]
fn every_version_and_type_is_read() {
    for version in 1..=3 {
        let array = parse(&file(version, &header("<f4", "False", "(1, 2)"), &floats(&[0.5, -2.0]))).unwrap();
        assert_eq!((array.shape(), array.data()), ([1, 2].as_slice(), [0.5, -2.0].as_slice()));
    }
    let double = parse(&file(1, &header("<f8", "False", "(1,)"), &0.1_f64.to_le_bytes())).unwrap();
    assert_eq!((double.name(), double.shape(), double.data()), ("a.npy", [1].as_slice(), [0.1].as_slice()));
    let bytes = parse(&file(1, &header("|u1", "False", "(3L, 1L)"), &[0, 7, 255])).unwrap();
    assert_eq!((bytes.shape(), bytes.data()), ([3, 1].as_slice(), [0.0, 7.0, 255.0].as_slice()));
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
    assert_eq!(array.data(), [0.0, 6.0, 2.0, 8.0, 4.0, 10.0, 1.0, 7.0, 3.0, 9.0, 5.0, 11.0]);
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
        ("overflow", file(1, &header("<f4", "False", large), &[]), "are more than 134217728 numbers"),
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
        let error = parse(bytes).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("cannot use array a.npy: ") && text.contains(cause), "{name}: {text}");
        assert!(error.hint().is_some(), "{name}");
    }
}

#[test]
fn values_must_fit_their_shape() {
    assert_eq!(Array::new("a", vec![2, 3], vec![1.0; 6]).unwrap().into_data(), [1.0; 6]);
    for shape in [vec![2, 2], vec![], vec![usize::MAX, 2]] {
        assert!(matches!(Array::new("a", shape, vec![1.0; 6]), Err(CalibError::Array { .. })));
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
