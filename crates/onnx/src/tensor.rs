//! `TensorProto` to and from tensors. Every claim about sizes is checked before anything is allocated.
//!
//! Half-precision elements are read as `float32`, which holds all of them exactly.

use crate::external::external_range;
use crate::weight::{self, Weighed};
use half::{bf16, f16};
use prost::Message;
use quantize_document::ExternalRange;
use quantize_ir::{DType, Tensor, TensorData};
use quantize_proto::onnx::TensorProto;
use quantize_proto::onnx::tensor_proto::{DataLocation, DataType};
use std::fmt;
use std::io;
use std::path::Path;

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

/// Reads a tensor message that holds its elements itself.
///
/// # Errors
/// If its data is elsewhere, of a type tensors cannot hold, or not as long as its dimensions say.
pub(crate) fn decode_tensor(proto: &TensorProto) -> Result<Tensor, String> {
    if proto.data_location() == DataLocation::External {
        return Err("has its data in an external file, which is not supported here".into());
    }
    if proto.segment.is_some() {
        return Err("is stored in segments, which is not supported".into());
    }
    let dims = dims_of(proto)?;
    let count = dims.iter().product();
    let data = elements(proto, computed_type(proto.data_type())?, count)?;
    Tensor::from_data(dims, data).map_err(|e| e.to_string())
}

/// Reads a tensor message of the model at `document`, whose elements may stand in a file beside it.
///
/// # Errors
/// As [`decode_tensor`] and [`read_external`].
pub(crate) fn decode_tensor_beside(proto: &TensorProto, document: &Path) -> Result<Tensor, String> {
    match external_range(proto)? {
        Some(range) => read_external(&range, document, proto.data_type(), &dims_of(proto)?),
        None => decode_tensor(proto),
    }
}

/// Reads the elements of a tensor from a file beside the model at `document`.
///
/// # Errors
/// If the file cannot be, or may not be, read, or does not hold as many bytes as type and dimensions say.
pub(crate) fn read_external(
    range: &ExternalRange,
    document: &Path,
    data_type: i32,
    dims: &[usize],
) -> Result<Tensor, String> {
    let mut data = None;
    read_external_raw(range, document, data_type, dims, &mut |dtype, raw| {
        let data = match &mut data {
            Some(data) => data,
            empty => empty.insert(with_room(dtype, dims.iter().product())?),
        };
        append_raw(data, dtype, raw);
        Ok(())
    })?;
    let data = data.map_or_else(|| with_room(computed_type(data_type)?, 0), Ok)?;
    Tensor::from_data(dims, data).map_err(|e| e.to_string())
}

/// Shows the elements of a tensor in a file beside the model at `document`, piece after piece.
///
/// # Errors
/// As [`read_external`].
pub(crate) fn read_external_pieces(
    range: &ExternalRange,
    document: &Path,
    data_type: i32,
    dims: &[usize],
    see: &mut dyn FnMut(&TensorData),
) -> Result<(), String> {
    read_external_raw(range, document, data_type, dims, &mut |dtype, raw| {
        let mut data = with_room(dtype, raw.len() / dtype.size())?;
        append_raw(&mut data, dtype, raw);
        see(&data);
        Ok(())
    })
}

/// Takes some elements as they are stored, and their type.
type SeeRaw<'a> = dyn FnMut(DType, &[u8]) -> Result<(), String> + 'a;

/// Shows the bytes of a tensor's elements, a whole number of elements at a time, with their type as it is stored.
fn read_external_raw(
    range: &ExternalRange,
    document: &Path,
    data_type: i32,
    dims: &[usize],
    see: &mut SeeRaw<'_>,
) -> Result<(), String> {
    let dtype = computed_type(data_type)?;
    let said = |e: quantize_document::ExternalError| format!("has unusable external data: {e}; {}", e.hint());
    let mut part = range.open(document).map_err(said)?;
    let count: usize = dims.iter().product();
    let mut left = count.checked_mul(dtype.size()).filter(|n| *n as u64 == part.length()).ok_or_else(|| {
        format!("declares dimensions {dims:?} of {dtype}, but has {} bytes of external data", part.length())
    })?;
    let mut piece = vec![0; left.min(PIECE)];
    while left > 0 {
        let piece = piece.get_mut(..left.min(PIECE)).unwrap_or_default();
        part.read_exact(piece).map_err(said)?;
        see(dtype, piece)?;
        left -= piece.len();
    }
    Ok(())
}

/// Bytes read from, or written to, a file at once: a multiple of every element's size.
const PIECE: usize = 1 << 18;

/// The element type of an ONNX type number.
fn computed_type(data_type: i32) -> Result<DType, String> {
    dtype_of(data_type).ok_or_else(|| format!("has element type {data_type}, which is not supported"))
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
        _ => {
            check(ints.len())?;
            match dtype {
                DType::I8 => TensorData::I8(narrow(ints, dtype)?),
                DType::U8 => TensorData::U8(narrow(ints, dtype)?),
                DType::I16 => TensorData::I16(narrow(ints, dtype)?),
                DType::U16 => TensorData::U16(narrow(ints, dtype)?),
                // The bits of an element, as a number of 16 bits.
                DType::F16 => TensorData::F32(narrow(ints, dtype)?.into_iter().map(from_f16).collect()),
                DType::BF16 => TensorData::F32(narrow(ints, dtype)?.into_iter().map(from_bf16).collect()),
                DType::Bool => TensorData::Bool(ints.iter().map(|v| *v != 0).collect()),
                _ => TensorData::I32(ints.clone()),
            }
        }
    })
}

fn from_f16(bits: u16) -> f32 {
    f16::from_bits(bits).to_f32()
}

fn from_bf16(bits: u16) -> f32 {
    bf16::from_bits(bits).to_f32()
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
    let mut data = with_room(dtype, count)?;
    append_raw(&mut data, dtype, raw);
    Ok(data)
}

/// No elements yet, with memory for `count` of them; half precision as `float32`.
fn with_room(dtype: DType, count: usize) -> Result<TensorData, String> {
    fn room<T>(count: usize) -> Result<Vec<T>, String> {
        let mut elements = Vec::new();
        elements.try_reserve_exact(count).map_err(|_| format!("has {count} elements, for which there is no memory"))?;
        Ok(elements)
    }
    Ok(match dtype {
        DType::F32 | DType::F16 | DType::BF16 => TensorData::F32(room(count)?),
        DType::F64 => TensorData::F64(room(count)?),
        DType::I8 => TensorData::I8(room(count)?),
        DType::U8 => TensorData::U8(room(count)?),
        DType::I16 => TensorData::I16(room(count)?),
        DType::U16 => TensorData::U16(room(count)?),
        DType::I32 => TensorData::I32(room(count)?),
        DType::U32 => TensorData::U32(room(count)?),
        DType::I64 => TensorData::I64(room(count)?),
        DType::U64 => TensorData::U64(room(count)?),
        DType::Bool => TensorData::Bool(room(count)?),
    })
}

/// Adds the little-endian elements of type `dtype` in `raw`, whole ones only.
fn append_raw(data: &mut TensorData, dtype: DType, raw: &[u8]) {
    fn add<const N: usize, T>(to: &mut Vec<T>, raw: &[u8], from: impl Fn([u8; N]) -> T) {
        to.extend(raw.as_chunks::<N>().0.iter().map(|bytes| from(*bytes)));
    }
    match data {
        TensorData::F32(v) => match dtype {
            DType::F16 => add(v, raw, |b| from_f16(u16::from_le_bytes(b))),
            DType::BF16 => add(v, raw, |b| from_bf16(u16::from_le_bytes(b))),
            _ => add(v, raw, f32::from_le_bytes),
        },
        TensorData::F64(v) => add(v, raw, f64::from_le_bytes),
        TensorData::I8(v) => add(v, raw, i8::from_le_bytes),
        TensorData::U8(v) => v.extend_from_slice(raw),
        TensorData::I16(v) => add(v, raw, i16::from_le_bytes),
        TensorData::U16(v) => add(v, raw, u16::from_le_bytes),
        TensorData::I32(v) => add(v, raw, i32::from_le_bytes),
        TensorData::U32(v) => add(v, raw, u32::from_le_bytes),
        TensorData::I64(v) => add(v, raw, i64::from_le_bytes),
        TensorData::U64(v) => add(v, raw, u64::from_le_bytes),
        TensorData::Bool(v) => v.extend(raw.iter().map(|b| *b != 0)),
    }
}

/// Reads a file that holds one serialized `TensorProto`, as test data sets of models do.
///
/// # Errors
/// If the bytes are no such message, or its data does not fit its dimensions.
pub fn decode_tensor_message(bytes: &[u8]) -> Result<Tensor, String> {
    weight::check(bytes, TensorProto::KIND, bytes.len()).map_err(|cause| format!("it {cause}"))?;
    decode_tensor(&TensorProto::decode(bytes).map_err(|e| e.to_string())?)
}

/// Writes the elements of a tensor, little-endian.
///
/// # Errors
/// Those of `out`.
pub(crate) fn write_raw(tensor: &Tensor, out: &mut dyn io::Write) -> io::Result<()> {
    fn put<const N: usize, T: Copy>(values: &[T], out: &mut dyn io::Write, to: fn(T) -> [u8; N]) -> io::Result<()> {
        for piece in values.chunks(PIECE / N) {
            let bytes: Vec<u8> = piece.iter().flat_map(|v| to(*v)).collect();
            out.write_all(&bytes)?;
        }
        Ok(())
    }
    match tensor.data() {
        TensorData::F32(v) => put(v, out, f32::to_le_bytes),
        TensorData::F64(v) => put(v, out, f64::to_le_bytes),
        TensorData::I8(v) => put(v, out, i8::to_le_bytes),
        TensorData::U8(v) => out.write_all(v),
        TensorData::I16(v) => put(v, out, i16::to_le_bytes),
        TensorData::U16(v) => put(v, out, u16::to_le_bytes),
        TensorData::I32(v) => put(v, out, i32::to_le_bytes),
        TensorData::U32(v) => put(v, out, u32::to_le_bytes),
        TensorData::I64(v) => put(v, out, i64::to_le_bytes),
        TensorData::U64(v) => put(v, out, u64::to_le_bytes),
        TensorData::Bool(v) => put(v, out, |x| [u8::from(x)]),
    }
}

/// Bytes of a tensor's elements.
pub(crate) fn raw_len(tensor: &Tensor) -> usize {
    tensor.len() * tensor.dtype().size()
}

/// A tensor as a message without its elements.
pub(crate) fn tensor_head(name: &str, tensor: &Tensor) -> TensorProto {
    TensorProto {
        // Dimensions of a tensor in memory fit 63 bits.
        dims: tensor.shape().iter().map(|d| *d as i64).collect(),
        data_type: Some(data_type_of(tensor.dtype())),
        name: Some(name.to_owned()),
        ..TensorProto::default()
    }
}

/// A tensor as a message, its elements raw and little-endian.
pub(crate) fn encode_tensor(name: &str, tensor: &Tensor) -> TensorProto {
    let mut raw = Vec::with_capacity(raw_len(tensor));
    // Writing to a vector cannot fail.
    let _ = write_raw(tensor, &mut raw);
    TensorProto { raw_data: Some(raw), ..tensor_head(name, tensor) }
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
    fn half_precision_is_read_exactly() {
        let cases = [
            (DataType::Float16, [0x3c00u16, 0xc000, 0x0001, 0x7bff], [1f32, -2.0, 5.960_464_5e-8, 65504.0]),
            (DataType::Bfloat16, [0x3f80, 0xc000, 0x0001, 0x7f7f], [1f32, -2.0, 9.183_55e-41, 3.389_531_4e38]),
        ];
        for (data_type, bits, expected) in cases {
            let proto = TensorProto { dims: vec![4], data_type: Some(data_type.into()), ..Default::default() };
            let raw = bits.iter().flat_map(|b| b.to_le_bytes()).collect();
            let raw = TensorProto { raw_data: Some(raw), ..proto.clone() };
            let typed = TensorProto { int32_data: bits.iter().map(|b| i32::from(*b)).collect(), ..proto };
            let expected = Ok(Tensor::vector(expected.to_vec()));
            assert_eq!((decode_tensor(&raw), decode_tensor(&typed)), (expected.clone(), expected), "{data_type:?}");
        }
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
