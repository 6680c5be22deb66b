//! Arrays: `.npy` files, `.npz` archives of them, and ONNX tensors. What is read are references, independently of the
//! readers that are tested: row-major `float32`, `float64` and `int64`, little-endian.

use prost::Message;
use quantize_ir::{Tensor, TensorData};
use quantize_proto::onnx::TensorProto;
use quantize_proto::onnx::tensor_proto::DataType;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Cursor, Read, Write};
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

/// The contents of a `.npy` file of `float32` numbers, in row-major order.
///
/// # Panics
/// If the header is longer than the format's version 1 can say.
#[must_use]
pub fn npy_bytes(shape: &[usize], data: &[f32]) -> Vec<u8> {
    npy_file("<f4", shape, data.iter().flat_map(|number| number.to_le_bytes()))
}

/// The contents of a `.npy` file of `int64` numbers, in row-major order.
///
/// # Panics
/// As [`npy_bytes`].
#[must_use]
pub fn npy_int64(shape: &[usize], data: &[i64]) -> Vec<u8> {
    npy_file("<i8", shape, data.iter().flat_map(|number| number.to_le_bytes()))
}

fn npy_file(kind: &str, shape: &[usize], numbers: impl Iterator<Item = u8>) -> Vec<u8> {
    let axes: String = shape.iter().map(|axis| format!("{axis}, ")).collect();
    let header = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({axes}), }}\n");
    let length = u16::try_from(header.len()).expect("a short header").to_le_bytes();
    [MAGIC, &[1, 0], &length, header.as_bytes()].concat().into_iter().chain(numbers).collect()
}

/// The contents of a `.npz` file of arrays with these names and contents of `.npy` files, compressed or not.
///
/// # Panics
/// If it cannot be made.
#[must_use]
pub fn npz_bytes(arrays: &[(&str, Vec<u8>)], compressed: bool) -> Vec<u8> {
    let method = if compressed { zip::CompressionMethod::Deflated } else { zip::CompressionMethod::Stored };
    let options = zip::write::SimpleFileOptions::default().compression_method(method);
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in arrays {
        writer.start_file(format!("{name}.npy"), options).expect("a member");
        writer.write_all(content).expect("its content");
    }
    writer.finish().expect("an archive").into_inner()
}

/// A serialized ONNX tensor of `float32` numbers.
///
/// # Panics
/// If the tensor is of another type.
#[must_use]
pub fn tensor_message(tensor: &Tensor) -> Vec<u8> {
    let numbers = tensor.as_slice::<f32>().expect("f32");
    let message = TensorProto {
        dims: tensor.shape().iter().map(|length| *length as i64).collect(),
        data_type: Some(DataType::Float.into()),
        raw_data: Some(numbers.iter().flat_map(|number| number.to_le_bytes()).collect()),
        ..TensorProto::default()
    };
    message.encode_to_vec()
}

/// Samples of a batch `[N, C, H, W]`, each as an array `[H, W, C]` in a `.npy` file: how arrays stand for images.
///
/// # Panics
/// If it is no such batch.
#[must_use]
pub fn npy_images(batch: &Tensor) -> Vec<Vec<u8>> {
    let &[_, channels, height, width] = batch.shape() else { panic!("no batch of images: {:?}", batch.shape()) };
    let data = batch.as_slice::<f32>().expect("f32");
    let plane = height * width;
    let image = |sample: &[f32]| {
        let pixel = |at: usize| (0..channels).map(move |c| sample[c * plane + at]);
        npy_bytes(&[height, width, channels], &(0..plane).flat_map(pixel).collect::<Vec<f32>>())
    };
    data.chunks_exact(channels * plane).map(image).collect()
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
