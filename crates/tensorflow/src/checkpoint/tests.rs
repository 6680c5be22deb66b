//! Checkpoints made here, whole and damaged.

use super::slices::Slice;
use super::table::masked;
use super::table::tests::table;
use super::*;
use quantize_document::WireType;
use quantize_document::encode::{bytes_field, tag, varint, varint_field};
use std::fs;

fn open(path: &Path) -> Result<Checkpoint, TensorflowError> {
    Checkpoint::open(path, &Limits::default())
}

fn shape(dims: &[u64]) -> Vec<u8> {
    dims.iter().flat_map(|dim| bytes_field(2, &varint_field(1, *dim))).collect()
}

/// A part of a matrix: start and length along each axis; a negative length for all of it.
fn part(extents: &[(u64, i64)]) -> Vec<u8> {
    let extent = |(start, length): &(u64, i64)| match length {
        ..0 => Vec::new(),
        length => [varint_field(1, *start), varint_field(2, *length as u64)].concat(),
    };
    extents.iter().flat_map(|e| bytes_field(1, &extent(e))).collect()
}

/// A `BundleEntryProto`.
fn entry(dtype: DataType, dims: &[u64], place: (usize, usize), checksum: u32, slices: &[Vec<u8>]) -> Vec<u8> {
    let mut out = [varint_field(1, dtype.0 as u64), bytes_field(2, &shape(dims))].concat();
    out.extend(varint_field(4, place.0 as u64));
    out.extend(varint_field(5, place.1 as u64));
    tag(&mut out, 6, WireType::Fixed32);
    out.extend_from_slice(&checksum.to_le_bytes());
    slices.iter().for_each(|slice| out.extend(bytes_field(7, slice)));
    out
}

fn checksum(bytes: &[u8]) -> u32 {
    masked(crc32c::crc32c(bytes))
}

/// A checkpoint of version 2 with a matrix in two parts, a vector of bytes and two strings.
fn bundle(folder: &Path) -> PathBuf {
    let strings = {
        let lengths = crc32c::crc32c(&[[2, 0, 0, 0], [0, 0, 0, 0]].concat());
        let stated = masked(lengths).to_le_bytes();
        let whole = crc32c::crc32c_append(crc32c::crc32c_append(lengths, &stated), b"hi");
        ([&[2, 0][..], &stated, b"hi"].concat(), masked(whole))
    };
    let (left, right) = (1..=4u8, 5..=6u8);
    let floats = |values: std::ops::RangeInclusive<u8>| -> Vec<u8> {
        values.flat_map(|value| f32::from(value).to_le_bytes()).collect()
    };
    let (left, right) = (floats(left), floats(right));
    let data = [left.clone(), right.clone(), vec![7, 8, 9], strings.0.clone()].concat();
    let slices = [part(&[(0, -1), (0, 2)]), part(&[(0, -1), (2, 1)])];
    let key = |slice: &Vec<u8>| Slice::decode(&slice.clone().into()).unwrap().key("m");
    let mut entries = vec![
        (Vec::new(), varint_field(1, 1)),
        (key(&slices[0]), entry(DataType::FLOAT, &[2, 2], (0, 16), checksum(&left), &[])),
        (key(&slices[1]), entry(DataType::FLOAT, &[2, 1], (16, 8), checksum(&right), &[])),
        (b"m".to_vec(), entry(DataType::FLOAT, &[2, 3], (0, 0), 0, &slices)),
        (b"s".to_vec(), entry(DataType::STRING, &[2], (27, strings.0.len()), strings.1, &[])),
        (b"v".to_vec(), entry(DataType::UINT8, &[3], (24, 3), checksum(&[7, 8, 9]), &[])),
    ];
    entries.sort();
    let prefix = folder.join("model.ckpt-5");
    fs::write(prefixed(&prefix, ".index"), table(&entries, 2, true)).unwrap();
    fs::write(prefixed(&prefix, ".data-00000-of-00001"), data).unwrap();
    prefix
}

#[test]
fn every_kind_of_variable_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = open(&bundle(folder.path())).unwrap();
    assert_eq!(checkpoint.version(), 2);
    let names: Vec<String> = checkpoint.variables().into_iter().map(|variable| variable.name).collect();
    assert_eq!(names, ["m", "s", "v"]);
    let value = |name| checkpoint.value(name).unwrap();
    assert_eq!(value("m").to_tensor().unwrap().as_slice::<f32>(), Ok(&[1.0, 2.0, 5.0, 3.0, 4.0, 6.0][..]));
    assert_eq!(value("v").to_tensor().unwrap().as_slice::<u8>(), Ok(&[7, 8, 9][..]));
    assert_eq!(value("s").to_strings().unwrap(), [&b"hi"[..], b""]);
}

#[test]
fn a_checkpoint_is_found_by_any_of_its_names() {
    let folder = tempfile::tempdir().unwrap();
    let prefix = bundle(folder.path());
    for suffix in ["", ".index", ".meta", ".data-00000-of-00001"] {
        assert_eq!(open(&prefixed(&prefix, suffix)).unwrap().variables().len(), 3, "{suffix}");
    }
    // The folder that the file names was that of another machine.
    for named in ["model.ckpt-5", "/nowhere/model.ckpt-5"] {
        fs::write(folder.path().join("checkpoint"), format!("model_checkpoint_path: \"{named}\"\n")).unwrap();
        assert_eq!(open(folder.path()).unwrap().variables().len(), 3);
        assert_eq!(open(&folder.path().join("checkpoint")).unwrap().variables().len(), 3);
    }
}

#[test]
fn what_is_missing_or_damaged_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = open(&folder.path().join("model.ckpt")).unwrap_err();
    assert!(error.to_string().contains("there is no checkpoint"), "{error}");
    let prefix = bundle(folder.path());
    let checkpoint = open(&prefix).unwrap();
    let error = checkpoint.value("vv").unwrap_err();
    assert!(error.to_string().ends_with("variable `vv`: the checkpoint does not have it"), "{error}");
    assert_eq!(error.hint().as_deref(), Some("did you mean `v`?"));

    let data = prefixed(&prefix, ".data-00000-of-00001");
    let mut bytes = fs::read(&data).unwrap();
    bytes.iter_mut().for_each(|byte| *byte ^= 1);
    fs::write(&data, &bytes).unwrap();
    for name in ["m", "s", "v"] {
        let error = checkpoint.value(name).unwrap_err().to_string();
        assert!(error.contains(&format!("variable `{name}`")), "{error}");
    }
    fs::write(&data, &bytes[..20]).unwrap();
    assert!(checkpoint.value("v").unwrap_err().to_string().contains("has 20 bytes, none from 24 to 27"));
    fs::remove_file(&data).unwrap();
    assert!(checkpoint.value("v").unwrap_err().to_string().contains("cannot read"));
}

/// A checkpoint of version 1 with a matrix of half precision in two parts.
fn former(folder: &Path) -> PathBuf {
    let slices = [part(&[(0, 1), (0, -1)]), part(&[(1, 1), (0, -1)])];
    let meta = [bytes_field(1, b"h"), bytes_field(2, &shape(&[2, 2])), varint_field(3, DataType::HALF.0 as u64)];
    let head = bytes_field(1, &bytes_field(1, &meta.concat()));
    let row = |slice: &Vec<u8>, values: [f32; 2]| {
        let mut halves = Vec::new();
        values.iter().for_each(|value| varint(&mut halves, u64::from(half::f16::from_f32(*value).to_bits())));
        let data = [bytes_field(1, b"h"), bytes_field(2, slice), bytes_field(3, &bytes_field(13, &halves))];
        let key = Slice::decode(&slice.clone().into()).unwrap().key("h");
        (key, bytes_field(2, &data.concat()))
    };
    let mut entries = vec![(Vec::new(), head), row(&slices[0], [1.0, 2.0]), row(&slices[1], [3.0, 4.0])];
    entries.sort();
    let path = folder.join("model.ckpt");
    fs::write(&path, table(&entries, 8, false)).unwrap();
    path
}

#[test]
fn the_former_version_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = open(&former(folder.path())).unwrap();
    assert_eq!(checkpoint.version(), 1);
    let value = checkpoint.value("h").unwrap();
    assert_eq!(value.dtype(), DataType::HALF);
    assert_eq!(value.to_tensor().unwrap().as_slice::<f32>(), Ok(&[1.0, 2.0, 3.0, 4.0][..]));
}

#[test]
fn damaged_checkpoints_are_no_panic() {
    let folder = tempfile::tempdir().unwrap();
    let files = [prefixed(&bundle(folder.path()), ".index"), former(folder.path())];
    for file in files {
        let whole = fs::read(&file).unwrap();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x41;
            for bytes in [&damaged[..], &whole[..at]] {
                fs::write(&file, bytes).unwrap();
                let Ok(checkpoint) = open(&file) else { continue };
                checkpoint.variables().iter().for_each(|variable| drop(checkpoint.value(&variable.name)));
            }
        }
    }
}
