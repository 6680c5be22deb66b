//! Reads numpy's `.npy` files of float32 and int64 numbers.

use std::fs;
use std::path::{Path, PathBuf};

use quantize_pipeline::Tensor;

use crate::error::{Error, Result, at};

/// The first bytes of a file.
const MAGIC: &[u8] = b"\x93NUMPY";

/// Reads an array.
///
/// # Errors
///
/// If the file cannot be read or holds anything but float32 or int64 numbers in C order.
pub(super) fn read(path: &Path) -> Result<Tensor> {
    let bytes = fs::read(path).map_err(at(path))?;
    parse(&bytes).map_err(|cause| Error::Array { path: path.to_owned(), cause })
}

/// Reads several arrays.
///
/// # Errors
///
/// As [`read`].
pub(super) fn read_all(files: &[PathBuf]) -> Result<Vec<Tensor>> {
    files.iter().map(|file| read(file)).collect()
}

/// The rows `count` from the beginning of an array, each as an array with a first axis of 1.
///
/// # Errors
///
/// If the array is not of float32 numbers or has fewer rows.
pub(super) fn rows(path: &Path, count: usize) -> Result<Vec<Tensor>> {
    let whole = read(path)?;
    let wrong = |cause: String| Error::Array { path: path.to_owned(), cause };
    let values = whole.as_slice::<f32>().map_err(|error| wrong(error.to_string()))?;
    let Some((&have, of_row)) = whole.shape().split_first().filter(|(have, _)| **have >= count) else {
        return Err(wrong(format!("shape {:?} has fewer than {count} rows", whole.shape())));
    };
    let shape: Vec<usize> = std::iter::once(1).chain(of_row.iter().copied()).collect();
    let chunks = values.chunks_exact((values.len() / have.max(1)).max(1)).take(count);
    let row = |chunk: &[f32]| Tensor::new(shape.clone(), chunk.to_vec()).map_err(|error| wrong(error.to_string()));
    chunks.map(row).collect()
}

fn parse(bytes: &[u8]) -> std::result::Result<Tensor, String> {
    let (header, data) = split(bytes).ok_or("the header is cut off or of another format")?;
    if !header.contains("'fortran_order': False") {
        return Err("the order is not C".into());
    }
    let shape = shape(header).ok_or("the header has no shape")?;
    let tensor = if header.contains("'<f4'") {
        Tensor::new(shape, numbers(data, f32::from_le_bytes))
    } else if header.contains("'<i8'") {
        Tensor::new(shape, numbers(data, i64::from_le_bytes))
    } else {
        return Err(format!("the type is another: {}", header.trim()));
    };
    tensor.map_err(|error| error.to_string())
}

/// The header's text and the data after it.
fn split(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let (version, rest) = rest.split_at_checked(2)?;
    let (length, rest) = match version.first()? {
        1 => {
            let (length, rest) = rest.split_first_chunk::<2>()?;
            (usize::from(u16::from_le_bytes(*length)), rest)
        }
        _ => {
            let (length, rest) = rest.split_first_chunk::<4>()?;
            (usize::try_from(u32::from_le_bytes(*length)).ok()?, rest)
        }
    };
    let (header, data) = rest.split_at_checked(length)?;
    Some((std::str::from_utf8(header).ok()?, data))
}

/// The numbers of `'shape': (2, 3), `.
fn shape(header: &str) -> Option<Vec<usize>> {
    let (_, rest) = header.split_once("'shape': (")?;
    let (numbers, _) = rest.split_once(')')?;
    numbers.split(',').map(str::trim).filter(|number| !number.is_empty()).map(|number| number.parse().ok()).collect()
}

/// The numbers of the data, read from `N` bytes each; a rest is dropped.
fn numbers<T, const N: usize>(data: &[u8], read: fn([u8; N]) -> T) -> Vec<T> {
    let (chunks, _) = data.as_chunks::<N>();
    chunks.iter().map(|chunk| read(*chunk)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of version 1 with the given dictionary.
    fn file(dictionary: &str, data: &[u8]) -> Vec<u8> {
        let length = u16::try_from(dictionary.len()).expect("a short dictionary");
        [MAGIC, &[1, 0], &length.to_le_bytes(), dictionary.as_bytes(), data].concat()
    }

    #[test]
    fn arrays_are_read() {
        let floats: Vec<u8> = [1.5f32, -2.0].iter().flat_map(|value| value.to_le_bytes()).collect();
        let whole = file("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 1), }\n", &floats);
        let tensor = parse(&whole).expect("a valid array");
        assert_eq!((tensor.shape(), tensor.as_slice::<f32>()), (&[2, 1][..], Ok(&[1.5, -2.0][..])));

        let whole = file("{'descr': '<i8', 'fortran_order': False, 'shape': (), }\n", &7i64.to_le_bytes());
        let scalar = parse(&whole).expect("a valid scalar");
        assert_eq!((scalar.shape(), scalar.as_slice::<i64>()), (&[][..], Ok(&[7][..])));
    }

    #[test]
    fn other_files_are_refused() {
        let cases = [
            ("empty", Vec::new()),
            ("another format", b"PK\x03\x04".to_vec()),
            ("Fortran order", file("{'descr': '<f4', 'fortran_order': True, 'shape': (1,), }", &[0; 4])),
            ("another type", file("{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }", &[0; 8])),
            ("too little data", file("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", &[0; 4])),
            ("no shape", file("{'descr': '<f4', 'fortran_order': False, }", &[0; 4])),
        ];
        for (name, bytes) in cases {
            assert!(parse(&bytes).is_err(), "{name}");
        }
    }
}
