//! `TensorProto` to and from tensors. Every claim about sizes is checked before anything is allocated.

use crate::weight::{self, Weighed};
use prost::Message;
use quantize_ir::{DType, Tensor, TensorData};
use quantize_proto::onnx::TensorProto;
use quantize_proto::onnx::tensor_proto::{DataLocation, DataType};
use std::fmt;

/// The element type of an ONNX type number, if tensors of it are computed with.
pub(crate) fn dtype_of(data_type: i32) -> Option<DType> {
    Some(match DataType::try_from(data_type).ok()? {
        DataType::Float => DType::F32,
        DataType::Double => DType::F64,
        DataType::Float16 => DType::F16,
        DataType::Bfloat16 => DType::BF16,
        DataType::Int8 => DType::I8,
        DataType::Uint8 => DType::U8,
        DataType::Int16 => DType::I16,
        DataType::Uint16 => DType::U16,
        DataType::Int32 => DType::I32,
        DataType::Uint32 => DType::U32,
        DataType::Int64 => DType::I64,
        DataType::Uint64 => DType::U64,
        DataType::Bool => DType::Bool,
        _ => return None,
    })
}

/// The ONNX type number of an element type.
pub(crate) fn data_type_of(dtype: DType) -> i32 {
    let data_type = match dtype {
        DType::F32 => DataType::Float,
        DType::F64 => DataType::Double,
        DType::F16 => DataType::Float16,
        DType::BF16 => DataType::Bfloat16,
        DType::I8 => DataType::Int8,
        DType::U8 => DataType::Uint8,
        DType::I16 => DataType::Int16,
        DType::U16 => DataType::Uint16,
        DType::I32 => DataType::Int32,
        DType::U32 => DataType::Uint32,
        DType::I64 => DataType::Int64,
        DType::U64 => DataType::Uint64,
        DType::Bool => DataType::Bool,
    };
    data_type.into()
}

/// The dimensions a tensor message declares.
///
/// # Errors
/// If a dimension is negative, or their product does not fit.
pub(crate) fn dims_of(proto: &TensorProto) -> Result<Vec<usize>, String> {
    let dims: Option<Vec<usize>> = proto.dims.iter().map(|d| usize::try_from(*d).ok()).collect();
    let dims = dims.ok_or_else(|| format!("has a negative dimension: {:?}", proto.dims))?;
    quantize_ir::tensor::element_count(&dims).map_err(|_| format!("has too many elements: {dims:?}"))?;
    Ok(dims)
}

/// Reads a tensor message.
///
/// # Errors
/// If its data is elsewhere, of a type tensors cannot hold, or not as long as its dimensions say.
pub(crate) fn decode_tensor(proto: &TensorProto) -> Result<Tensor, String> {
    if proto.data_location() == DataLocation::External {
        return Err("has its data in an external file, which is not supported".into());
    }
    if proto.segment.is_some() {
        return Err("is stored in segments, which is not supported".into());
    }
    let dims = dims_of(proto)?;
    let count = dims.iter().product();
    let data = match dtype_of(proto.data_type()) {
        Some(dtype) => elements(proto, dtype, count)?,
        None => return Err(format!("has element type {}, which is not supported", proto.data_type())),
    };
    Tensor::from_data(dims, data).map_err(|e| e.to_string())
}

/// Where a type's elements stand if they are not raw: the typed field, converted.
fn elements(proto: &TensorProto, dtype: DType, count: usize) -> Result<TensorData, String> {
    if let Some(raw) = &proto.raw_data {
        return raw_elements(raw, dtype, count, &proto.dims);
    }
    let check = |len: usize| if len == count { Ok(()) } else { Err(wrong_length(&proto.dims, count, len)) };
    let ints = &proto.int32_data;
    Ok(match dtype {
        DType::F32 => {
            check(proto.float_data.len())?;
            TensorData::F32(proto.float_data.clone())
        }
        DType::F64 => {
            check(proto.double_data.len())?;
            TensorData::F64(proto.double_data.clone())
        }
        DType::I64 => {
            check(proto.int64_data.len())?;
            TensorData::I64(proto.int64_data.clone())
        }
        DType::U64 | DType::U32 => {
            check(proto.uint64_data.len())?;
            if dtype == DType::U64 {
                TensorData::U64(proto.uint64_data.clone())
            } else {
                TensorData::U32(narrow(&proto.uint64_data, dtype)?)
            }
        }
        DType::F16 | DType::BF16 => return Err(format!("holds {dtype} elements, which are not supported")),
        _ => {
            check(ints.len())?;
            match dtype {
                DType::I8 => TensorData::I8(narrow(ints, dtype)?),
                DType::U8 => TensorData::U8(narrow(ints, dtype)?),
                DType::I16 => TensorData::I16(narrow(ints, dtype)?),
                DType::U16 => TensorData::U16(narrow(ints, dtype)?),
                DType::Bool => TensorData::Bool(ints.iter().map(|v| *v != 0).collect()),
                _ => TensorData::I32(ints.clone()),
            }
        }
    })
}

/// Elements that the format keeps in a wider field.
fn narrow<W: Copy + fmt::Display, N: TryFrom<W>>(wide: &[W], dtype: DType) -> Result<Vec<N>, String> {
    let element = |v: &W| N::try_from(*v).map_err(|_| format!("holds {v}, which {dtype} elements cannot be"));
    wide.iter().map(element).collect()
}

fn wrong_length(dims: &[i64], count: usize, found: usize) -> String {
    format!("declares dimensions {dims:?}, {count} elements, but holds {found}")
}

fn raw_elements(raw: &[u8], dtype: DType, count: usize, dims: &[i64]) -> Result<TensorData, String> {
    let size = dtype.size();
    if count.checked_mul(size) != Some(raw.len()) {
        return Err(match raw.len() % size {
            0 => wrong_length(dims, count, raw.len() / size),
            _ => format!("holds {} bytes, which is no whole number of {dtype} elements", raw.len()),
        });
    }
    fn read<const N: usize, T>(raw: &[u8], from: fn([u8; N]) -> T) -> Vec<T> {
        raw.as_chunks::<N>().0.iter().map(|bytes| from(*bytes)).collect()
    }
    Ok(match dtype {
        DType::F32 => TensorData::F32(read(raw, f32::from_le_bytes)),
        DType::F64 => TensorData::F64(read(raw, f64::from_le_bytes)),
        DType::I8 => TensorData::I8(read(raw, i8::from_le_bytes)),
        DType::U8 => TensorData::U8(raw.to_vec()),
        DType::I16 => TensorData::I16(read(raw, i16::from_le_bytes)),
        DType::U16 => TensorData::U16(read(raw, u16::from_le_bytes)),
        DType::I32 => TensorData::I32(read(raw, i32::from_le_bytes)),
        DType::U32 => TensorData::U32(read(raw, u32::from_le_bytes)),
        DType::I64 => TensorData::I64(read(raw, i64::from_le_bytes)),
        DType::U64 => TensorData::U64(read(raw, u64::from_le_bytes)),
        DType::Bool => TensorData::Bool(raw.iter().map(|b| *b != 0).collect()),
        DType::F16 | DType::BF16 => return Err(format!("holds {dtype} elements, which are not supported")),
    })
}

/// Reads a file that holds one serialized `TensorProto`, as test data sets of models do.
///
/// # Errors
/// If the bytes are no such message, or its data does not fit its dimensions.
pub fn decode_tensor_message(bytes: &[u8]) -> Result<Tensor, String> {
    weight::check(bytes, TensorProto::KIND, bytes.len()).map_err(|cause| format!("it {cause}"))?;
    decode_tensor(&TensorProto::decode(bytes).map_err(|e| e.to_string())?)
}

/// A tensor as a message, its elements raw and little-endian.
pub(crate) fn encode_tensor(name: &str, tensor: &Tensor) -> TensorProto {
    let raw: Vec<u8> = match tensor.data() {
        TensorData::F32(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        TensorData::F64(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        TensorData::I8(v) => v.iter().map(|x| *x as u8).collect(),
        TensorData::U8(v) => v.clone(),
        TensorData::I16(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        TensorData::U16(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        TensorData::I32(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        TensorData::U32(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        TensorData::I64(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        TensorData::U64(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        TensorData::Bool(v) => v.iter().map(|x| u8::from(*x)).collect(),
    };
    TensorProto {
        // Dimensions of a tensor in memory fit 63 bits.
        dims: tensor.shape().iter().map(|d| *d as i64).collect(),
        data_type: Some(data_type_of(tensor.dtype())),
        name: Some(name.to_owned()),
        raw_data: Some(raw),
        ..TensorProto::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_survive_the_message() {
        let tensors = [
            Tensor::new(vec![2, 2], vec![1f32, -0.0, f32::NAN, f32::INFINITY]).unwrap(),
            Tensor::scalar(-3i64),
            Tensor::vector(vec![true, false]),
            Tensor::vector(vec![-1i8, 127]),
            Tensor::new(vec![0, 3], Vec::<u16>::new()).unwrap(),
        ];
        for tensor in tensors {
            let back = decode_tensor(&encode_tensor("t", &tensor)).unwrap();
            assert_eq!(format!("{:?}", back), format!("{:?}", tensor));
            assert_eq!(encode_tensor("t", &back), encode_tensor("t", &tensor));
        }
    }

    #[test]
    fn typed_fields_are_read() {
        let float = i32::from(DataType::Float);
        let proto =
            TensorProto { dims: vec![2], data_type: Some(float), float_data: vec![1.0, 2.0], ..Default::default() };
        assert_eq!(decode_tensor(&proto), Ok(Tensor::vector(vec![1f32, 2.0])));
    }

    #[test]
    fn claims_that_do_not_hold_are_refused_before_allocating() {
        let float = Some(i32::from(DataType::Float));
        let cases = [
            (vec![3], "declares dimensions [3], 3 elements, but holds 2"),
            (vec![-1], "has a negative dimension: [-1]"),
            (vec![1 << 40, 1 << 40], "has too many elements: [1099511627776, 1099511627776]"),
            (vec![1 << 40], "declares dimensions [1099511627776], 1099511627776 elements, but holds 2"),
        ];
        for (dims, message) in cases {
            let raw =
                TensorProto { dims: dims.clone(), data_type: float, raw_data: Some(vec![0; 8]), ..Default::default() };
            assert_eq!(decode_tensor(&raw).unwrap_err(), message);
            let typed = TensorProto { dims, data_type: float, float_data: vec![0.0; 2], ..Default::default() };
            assert_eq!(decode_tensor(&typed).unwrap_err(), message);
        }
    }
}
