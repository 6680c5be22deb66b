//! Reference arrays: `.npz` archives of `.npy` files.
//!
//! Only what reference data use: numbers of 32 or 64 bits, little endian, in C order. Everything is read as f32.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use zip::ZipArchive;

/// Magic string, version and header length of version 1 of the format.
const PREAMBLE: usize = 10;

/// An array in C order.
#[derive(Clone, Debug, PartialEq)]
pub struct NpyArray {
    /// Extents, outermost first; empty for a scalar.
    pub shape: Vec<usize>,
    /// The elements; their number is the product of the extents.
    pub data: Vec<f32>,
}

/// The arrays of an archive by their names, without the extension `.npy`.
///
/// # Panics
/// If the file is no such archive.
#[must_use]
pub fn read(path: &Path) -> BTreeMap<String, NpyArray> {
    let file = File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut archive = ZipArchive::new(file).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    (0..archive.len())
        .map(|index| {
            let mut member = archive.by_index(index).expect("a member of the archive");
            let name = member.name().expect("a name in UTF-8").trim_end_matches(".npy").to_owned();
            let mut bytes = Vec::new();
            member.read_to_end(&mut bytes).expect("a whole member");
            let array = parse(&bytes);
            (name, array)
        })
        .collect()
}

/// The array in one `.npy` file.
///
/// # Panics
/// If the file is no such array.
#[must_use]
pub fn read_npy(path: &Path) -> NpyArray {
    parse(&std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
}

/// The array in the bytes of a `.npy` file of version 1.
fn parse(bytes: &[u8]) -> NpyArray {
    assert!(bytes.starts_with(b"\x93NUMPY\x01"), "not a .npy file of version 1");
    let end = PREAMBLE + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = std::str::from_utf8(&bytes[PREAMBLE..end]).expect("a header in ASCII");
    assert!(header.contains("'fortran_order': False"), "not in C order: {header}");
    let shape = shape(header);
    let data = elements(header, &bytes[end..]);
    assert_eq!(data.len(), shape.iter().product::<usize>(), "elements of shape {shape:?}");
    NpyArray { shape, data }
}

/// What stands between `from` and the next `to`.
fn between<'h>(header: &'h str, from: &str, to: char) -> &'h str {
    let rest = header.split_once(from).expect(from).1;
    rest.split_once(to).expect("the end of a value").0
}

fn shape(header: &str) -> Vec<usize> {
    let extents = between(header, "'shape': (", ')').split(',').map(str::trim);
    extents.filter(|extent| !extent.is_empty()).map(|extent| extent.parse().expect("an extent")).collect()
}

fn elements(header: &str, bytes: &[u8]) -> Vec<f32> {
    match between(header, "'descr': '", '\'') {
        "<f4" => convert(bytes, f32::from_le_bytes),
        "<f8" => convert(bytes, |b| f64::from_le_bytes(b) as f32),
        "<i4" => convert(bytes, |b| i32::from_le_bytes(b) as f32),
        "<i8" => convert(bytes, |b| i64::from_le_bytes(b) as f32),
        other => panic!("elements of type {other} are not read"),
    }
}

fn convert<const N: usize>(bytes: &[u8], one: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    let (elements, rest) = bytes.as_chunks::<N>();
    assert!(rest.is_empty(), "a part of an element at the end");
    elements.iter().copied().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn npy(header: &str, data: &[u8]) -> Vec<u8> {
        let length = u16::try_from(header.len()).unwrap().to_le_bytes();
        [b"\x93NUMPY\x01\x00", length.as_slice(), header.as_bytes(), data].concat()
    }

    #[test]
    fn shape_and_elements_are_read_for_every_number_of_axes() {
        for (text, shape, elements) in
            [("()", vec![], 1u8), ("(3,)", vec![3], 3), ("(2, 3)", vec![2, 3], 6), ("(0, 4)", vec![0, 4], 0)]
        {
            let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {text}, }}\n");
            let data: Vec<u8> = (0..elements).flat_map(|k| (f32::from(k) + 0.5).to_le_bytes()).collect();
            let found = parse(&npy(&header, &data));
            assert_eq!(found.shape, shape);
            assert_eq!(found.data, (0..elements).map(|k| f32::from(k) + 0.5).collect::<Vec<_>>());
        }
    }
}
