//! Tests of the reader of `.npz` files.

use super::*;
use crate::npy::tests::{file, floats, header as npy_header};
use proptest::prelude::*;
use quantize_ir::DType;
use std::io::{Cursor, Write};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// An archive of these members.
pub(crate) fn archive(members: &[(&str, &[u8])], method: CompressionMethod) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in members {
        writer.start_file(*name, SimpleFileOptions::default().compression_method(method)).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn matrix() -> Vec<u8> {
    file(1, &npy_header("<f4", "True", "(2, 2)"), &floats(&[1.0, 2.0, 3.0, 4.0]))
}

fn tokens() -> Vec<u8> {
    file(1, &npy_header("<i8", "False", "(3,)"), &[1_i64, 2, 3].map(i64::to_le_bytes).concat())
}

fn headers_of(bytes: &[u8]) -> Result<Vec<(String, Header)>, String> {
    headers(Cursor::new(bytes))
}

fn decoded(bytes: &[u8], index: usize, limits: Limits) -> Result<Tensor, String> {
    decode(Cursor::new(bytes), index, limits)
}

#[test]
fn arrays_have_the_names_they_were_saved_with() {
    for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
        let bytes = archive(&[("input:0.npy", &matrix()), ("block/ids.npy", &tokens())], method);
        let found = headers_of(&bytes).unwrap();
        let outline: Vec<_> = found.iter().map(|(name, h)| (name.as_str(), h.dtype, h.shape.as_slice())).collect();
        assert_eq!(outline, [("input:0", DType::F32, [2, 2].as_slice()), ("block/ids", DType::I64, &[3])]);
        let first = decoded(&bytes, 0, Limits::default()).unwrap();
        assert_eq!(first, Tensor::new([2, 2], vec![1.0_f32, 3.0, 2.0, 4.0]).unwrap());
        assert_eq!(decoded(&bytes, 1, Limits::default()).unwrap(), Tensor::vector(vec![1_i64, 2, 3]));
        assert!(decoded(&bytes, 2, Limits::default()).is_err());
    }
}

#[test]
fn what_is_no_archive_of_arrays_is_refused_with_the_cause() {
    let stored = |members: &[(&str, &[u8])]| archive(members, CompressionMethod::Stored);
    let array = matrix();
    let cases = [
        ("no archive", b"PK".to_vec(), ""),
        ("empty", stored(&[]), "it holds no array"),
        ("other member", stored(&[("readme.txt", b"hello")]), "its member `readme.txt` is no array"),
        ("nameless", stored(&[(".npy", &array)]), "its member `.npy` is no array"),
        ("no npy", stored(&[("a.npy", b"hello")]), "array `a`: it does not begin like a .npy file"),
        ("cut array", stored(&[("a.npy", &array[..array.len() - 1])]), "array `a`: it is cut short"),
        ("long array", stored(&[("a.npy", &[&array[..], &[0]].concat())]), "array `a`: something follows the numbers"),
    ];
    for (name, bytes, cause) in cases {
        let error = headers_of(&bytes).unwrap_err();
        assert!(error.contains(cause), "{name}: {error}");
    }
}

#[test]
fn a_bomb_is_not_unpacked() {
    let zeros = vec![0; 1 << 20];
    let body = [file(1, &npy_header("|u1", "False", "(1048576,)"), &[]), zeros].concat();
    let bytes = archive(&[("x.npy", &body)], CompressionMethod::Deflated);
    assert!(bytes.len() < 1 << 12);
    let limits = Limits { max_file_bytes: 1 << 16, ..Limits::default() };
    let error = decoded(&bytes, 0, limits).unwrap_err();
    assert!(error.contains("it has more than 65536 bytes; save it as .npy"), "{error}");
    assert!(decoded(&bytes, 0, Limits::default()).is_ok());
}

#[test]
fn a_length_that_lies_is_found_out() {
    let zeros = vec![0; 1 << 16];
    let body = [file(1, &npy_header("|u1", "False", "(65536,)"), &[]), zeros].concat();
    let honest = archive(&[("x.npy", &body)], CompressionMethod::Deflated);
    let stated = u32::try_from(body.len()).unwrap().to_le_bytes();
    let at: Vec<usize> = (0..honest.len() - 4).filter(|at| honest[*at..at + 4] == stated).collect();
    assert!(!at.is_empty());
    for lie in [0_u32, 100, u32::MAX] {
        let mut bytes = honest.clone();
        at.iter().for_each(|at| bytes[*at..at + 4].copy_from_slice(&lie.to_le_bytes()));
        let limits = Limits { max_file_bytes: 1 << 15, ..Limits::default() };
        assert!(decoded(&bytes, 0, limits).is_err(), "{lie}");
    }
}

proptest! {
    #[test]
    fn damage_is_never_a_panic(at in 0..600_usize, byte: u8, length in 0..600_usize) {
        let mut bytes = archive(&[("a.npy", &matrix()), ("b.npy", &tokens())], CompressionMethod::Deflated);
        let end = bytes.len();
        bytes[at % end] = byte;
        bytes.truncate(length);
        if let Ok(found) = headers_of(&bytes) {
            for (index, (_, header)) in found.iter().enumerate() {
                if let Ok(tensor) = decoded(&bytes, index, Limits::default()) {
                    prop_assert_eq!(tensor.shape(), header.shape.as_slice());
                }
            }
        }
    }
}
