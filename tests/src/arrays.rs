//! Arrays of reference outputs: `.npy` files, and `.npz` archives of them. Only what the references use is read:
//! row-major `float32`, `float64` and `int64`, little-endian.

use quantize_ir::{Tensor, TensorData};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// First bytes of a `.npy` file.
const MAGIC: &[u8] = b"\x93NUMPY";

/// The array in a `.npy` file.
///
/// # Panics
/// If it cannot be read.
#[must_use]
pub fn npy(path: &Path) -> Tensor {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    parse(&bytes).unwrap_or_else(|cause| panic!("{}: {cause}", path.display()))
}

/// The arrays in a `.npz` file, by name.
///
/// # Panics
/// If it cannot be read.
#[must_use]
pub fn npz(path: &Path) -> BTreeMap<String, Tensor> {
    let file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut archive = zip::ZipArchive::new(file).expect("an archive");
    let mut arrays = BTreeMap::new();
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).expect("an entry");
        let name = entry.name().expect("a name").trim_end_matches(".npy").to_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).expect("the contents of an entry");
        arrays.insert(name, parse(&bytes).unwrap_or_else(|cause| panic!("{}: {cause}", path.display())));
    }
    arrays
}

/// Reads magic, version, length of the header, header (a literal of Python) and elements.
fn parse(bytes: &[u8]) -> Result<Tensor, String> {
    let rest = bytes.strip_prefix(MAGIC).ok_or("it is no .npy file")?;
    let ([major, _minor], rest) = rest.split_first_chunk().ok_or("it is cut off")?;
    let (length, rest) = match major {
        1 => rest.split_first_chunk().map(|(length, rest)| (usize::from(u16::from_le_bytes(*length)), rest)),
        _ => rest.split_first_chunk().map(|(length, rest)| (u32::from_le_bytes(*length) as usize, rest)),
    }
    .ok_or("it is cut off")?;
    let (header, data) = rest.split_at_checked(length).ok_or("its header is cut off")?;
    let header = std::str::from_utf8(header).map_err(|error| error.to_string())?;
    if !header.contains("'fortran_order': False") {
        return Err("it is not row-major".into());
    }
    Tensor::from_data(shape(header)?, elements(header, data)?).map_err(|error| error.to_string())
}

fn elements(header: &str, data: &[u8]) -> Result<TensorData, String> {
    let of = |kind: &str| header.contains(&format!("'descr': '{kind}'"));
    if of("<f4") {
        Ok(TensorData::F32(data.as_chunks().0.iter().map(|number| f32::from_le_bytes(*number)).collect()))
    } else if of("<f8") {
        Ok(TensorData::F64(data.as_chunks().0.iter().map(|number| f64::from_le_bytes(*number)).collect()))
    } else if of("<i8") {
        Ok(TensorData::I64(data.as_chunks().0.iter().map(|number| i64::from_le_bytes(*number)).collect()))
    } else {
        Err(format!("its elements are not known: {header}"))
    }
}

fn shape(header: &str) -> Result<Vec<usize>, String> {
    let tuple = header.split_once("'shape': (").and_then(|(_, rest)| rest.split_once(')'));
    let (axes, _) = tuple.ok_or("it has no shape")?;
    let axes = axes.split(',').map(str::trim).filter(|axis| !axis.is_empty());
    axes.map(|axis| axis.parse().map_err(|_| format!("`{axis}` is no size"))).collect()
}
