//! Tests of reading arrays and rows of them from files.

use super::*;
use crate::npy::tests::{file, floats, header};
use crate::npz::tests::archive;
use proptest::prelude::*;
use std::fs;
use tempfile::TempDir;
use zip::CompressionMethod;

/// A message of this test: a length, then as many bytes.
fn message(bytes: &[u8]) -> Result<Tensor, String> {
    match bytes.split_first() {
        Some((length, rest)) if usize::from(*length) == rest.len() => Ok(Tensor::vector(rest.to_vec())),
        _ => Err("it is no message".to_owned()),
    }
}

fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    files.iter().for_each(|(name, content)| fs::write(folder.path().join(name), content).unwrap());
    folder
}

fn open_limited(folder: &TempDir, limits: Limits) -> Result<ArrayFiles, CalibError> {
    match crate::DataSet::open(folder.path(), limits, message)? {
        crate::DataSet::Arrays(arrays) => Ok(arrays),
        crate::DataSet::Images(_) => panic!("these are arrays"),
    }
}

fn open(folder: &TempDir) -> Result<ArrayFiles, CalibError> {
    open_limited(folder, Limits::default())
}

/// Three rows of two numbers, row by row or column by column.
fn rows_of_two(fortran: bool) -> Vec<u8> {
    let numbers = if fortran { [0.0, 2.0, 4.0, 1.0, 3.0, 5.0] } else { [0.0, 1.0, 2.0, 3.0, 4.0, 5.0] };
    file(1, &header("<f4", if fortran { "True" } else { "False" }, "(3, 2)"), &floats(&numbers))
}

#[test]
fn files_of_every_kind_are_listed_with_their_arrays() {
    let half = file(1, &header("<f2", "False", "()"), &[0, 0x38]);
    let pair = archive(&[("x.npy", &half), ("y.npy", &rows_of_two(false))], CompressionMethod::Deflated);
    let folder = folder(&[("c.npz", &pair), ("a.NPY", &half), ("b.pb", &[2, 7, 8]), ("notes.txt", b"")]);
    let arrays = open(&folder).unwrap();
    assert_eq!((arrays.len(), arrays.name(0), arrays.name(3)), (3, Some("a.NPY"), None));
    assert_eq!(arrays.left_out().collect::<Vec<_>>(), ["notes.txt"]);
    let outline = |name: Option<&str>, dtype, shape: &[usize]| Outline {
        name: name.map(str::to_owned),
        dtype,
        shape: shape.to_vec(),
    };
    assert_eq!(arrays.arrays(0), [outline(None, DType::F32, &[])], "half precision is read as single");
    assert_eq!(arrays.arrays(1), [outline(None, DType::U8, &[2])]);
    assert_eq!(arrays.arrays(2), [outline(Some("x"), DType::F32, &[]), outline(Some("y"), DType::F32, &[3, 2])]);
    assert_eq!(arrays.arrays(3), []);
    assert_eq!(arrays.load(0, 0).unwrap(), Tensor::scalar(0.5_f32));
    assert_eq!(arrays.load(1, 0).unwrap(), Tensor::vector(vec![7_u8, 8]));
    assert_eq!(arrays.load(2, 0).unwrap(), Tensor::scalar(0.5_f32));
    assert!(arrays.load(0, 1).is_err() && arrays.load(3, 0).is_err());
}

#[test]
fn rows_are_the_same_from_every_kind_of_file() {
    let stored = archive(&[("x.npy", &rows_of_two(false))], CompressionMethod::Stored);
    let packed = archive(&[("x.npy", &rows_of_two(true))], CompressionMethod::Deflated);
    let files: [(&str, &[u8]); 4] =
        [("a.npy", &rows_of_two(false)), ("b.npy", &rows_of_two(true)), ("c.npz", &stored), ("d.npz", &packed)];
    let folder = folder(&files);
    let arrays = open(&folder).unwrap();
    for file in 0..files.len() {
        let whole = arrays.load(file, 0).unwrap();
        assert_eq!(whole, Tensor::new([3, 2], vec![0.0_f32, 1.0, 2.0, 3.0, 4.0, 5.0]).unwrap());
        for (rows, numbers) in [(1..3, vec![2.0_f32, 3.0, 4.0, 5.0]), (0..1, vec![0.0, 1.0]), (2..2, vec![])] {
            let part = arrays.rows(file, 0, rows.clone()).unwrap();
            assert_eq!(part, Tensor::new([rows.len(), 2], numbers).unwrap(), "{file} {rows:?}");
        }
        let error = arrays.rows(file, 0, 2..4).unwrap_err().to_string();
        assert!(error.ends_with("it has no rows 2 to 4 of [3, 2]"), "{error}");
    }
}

#[test]
fn a_row_fits_where_the_whole_does_not() {
    let numbers = vec![1_u8; 1 << 10];
    let large = file(1, &header("|u1", "False", "(64, 16)"), &numbers);
    let packed = archive(&[("x.npy", &large)], CompressionMethod::Deflated);
    let folder = folder(&[("a.npy", &large), ("b.npz", &packed)]);
    let limits = Limits { max_pixels: 100, max_file_bytes: 500 };
    let arrays = open_limited(&folder, limits).unwrap();
    assert_eq!(arrays.rows(0, 0, 60..64).unwrap(), Tensor::new([4, 16], vec![1_u8; 64]).unwrap());
    for error in [arrays.load(0, 0).unwrap_err(), arrays.rows(1, 0, 0..1).unwrap_err()] {
        assert!(error.to_string().contains("more than") && error.hint().is_some(), "{error}");
    }
}

#[test]
fn damaged_files_are_named() {
    let good = rows_of_two(false);
    let cases: [(&str, &[u8], &str); 5] = [
        ("a.npy", b"hello", "it does not begin like a .npy file"),
        ("a.npy", &good[..good.len() - 1], "it is cut short"),
        ("a.npy", &good[..20], "the header is cut short"),
        ("a.npz", b"PK\x03\x04", ""),
        ("a.pb", &[5, 1], "it is no message"),
    ];
    for (name, content, cause) in cases {
        let error = open(&folder(&[(name, content)])).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("cannot read ") && text.contains(&format!("{name}: {cause}")), "{text}");
        assert!(error.hint().is_some(), "{text}");
    }
}

#[test]
fn a_file_that_changes_is_noticed() {
    let folder = folder(&[("a.npy", &rows_of_two(false)), ("b.pb", &[2, 7, 8])]);
    let arrays = open(&folder).unwrap();
    fs::write(folder.path().join("a.npy"), &rows_of_two(false)[..90]).unwrap();
    fs::write(folder.path().join("b.pb"), [1, 7]).unwrap();
    let error = arrays.rows(0, 0, 2..3).unwrap_err().to_string();
    assert!(error.ends_with("it became shorter while it was in use"), "{error}");
    let error = arrays.load(1, 0).unwrap_err().to_string();
    assert!(error.ends_with("it changed while it was in use"), "{error}");
}

proptest! {
    #[test]
    fn damage_is_an_error_or_an_array(at in 0..200_usize, byte: u8, length in 0..200_usize) {
        let mut bytes = rows_of_two(false);
        let end = bytes.len();
        bytes[at % end] = byte;
        bytes.truncate(length);
        let folder = folder(&[("a.npy", &bytes)]);
        if let Ok(arrays) = open(&folder) {
            let whole = arrays.load(0, 0);
            prop_assert!(whole.is_ok_and(|whole| whole.shape() == arrays.arrays(0)[0].shape));
        }
    }
}
