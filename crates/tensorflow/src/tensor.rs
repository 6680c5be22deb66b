//! Tensors in attributes: kept as the bytes they have in the file, decoded when someone asks.

use crate::dtype::DataType;
use crate::shape::PartialShape;
use crate::wire::{Reader, fixed32, fixed64};
use bytes::Bytes;
use quantize_document::encode::{bytes_field, length_prefix, varint, varint_field};
use quantize_document::{WireError, WireType};
use quantize_ir::tensor::element_count;
use quantize_ir::{DType, Tensor, TensorData};

// Fields of `TensorProto`.
const DTYPE: u32 = 1;
const SHAPE: u32 = 2;
const CONTENT: u32 = 4;
const FLOATS: u32 = 5;
const DOUBLES: u32 = 6;
const INTS: u32 = 7;
const STRINGS: u32 = 8;
const INT64S: u32 = 10;
const BOOLS: u32 = 11;
const HALVES: u32 = 13;
const UINT32S: u32 = 16;
const UINT64S: u32 = 17;

/// Most elements that a value may be repeated to: 16 MiB of single precision.
const MAX_REPEATED: usize = 4 << 20;
/// Most strings that one may be repeated to.
const MAX_REPEATED_STRINGS: usize = 64 << 10;

/// A tensor, as its encoded `TensorProto`, with type and shape at hand.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorProto {
    encoded: Bytes,
    dtype: DataType,
    shape: PartialShape,
}

impl TensorProto {
    /// Reads type and shape; elements are not looked at.
    ///
    /// # Errors
    /// If the bytes are no message.
    pub fn decode(encoded: Bytes) -> Result<Self, WireError> {
        let message = Reader::new(&encoded)?;
        let dtype = DataType(message.varint(DTYPE).unwrap_or(0) as i32);
        let shape = match message.message(SHAPE) {
            Some(shape) => PartialShape::decode(&shape)?,
            None => PartialShape::Known(Vec::new()),
        };
        Ok(Self { encoded, dtype, shape })
    }

    /// A tensor of type `dtype` with the elements of `tensor`: one element in its typed field, several as raw bytes.
    ///
    /// # Errors
    /// If elements of the tensor's type do not stand for values of `dtype`; singles do for half-precision types.
    pub fn new(dtype: DataType, tensor: &Tensor) -> Result<Self, String> {
        if dtype.elements() != Some(tensor.dtype()) {
            return Err(format!("elements of type {} are not of type {dtype}", tensor.dtype()));
        }
        let mut raw = Vec::with_capacity(tensor.len() * dtype.size().unwrap_or(0));
        append_elements(&mut raw, dtype, tensor.data());
        Self::from_raw(dtype, tensor.shape(), &raw)
    }

    /// A tensor of type `dtype` whose elements are `raw`, row-major and little-endian.
    ///
    /// # Errors
    /// If `raw` has not the length that type and shape need.
    pub fn from_raw(dtype: DataType, shape: &[usize], raw: &[u8]) -> Result<Self, String> {
        let count = element_count(shape).map_err(|error| error.to_string())?;
        let size = dtype.size().ok_or_else(|| format!("elements of type {dtype} have no fixed size"))?;
        if count.checked_mul(size) != Some(raw.len()) {
            return Err(format!("shape {shape:?} of type {dtype} does not have {} bytes", raw.len()));
        }
        let shape = PartialShape::full(shape);
        let mut out = varint_field(DTYPE, i64::from(dtype.0) as u64);
        out.extend_from_slice(&bytes_field(SHAPE, &shape.encode()));
        match single_field(dtype, raw) {
            Some(field) if count == 1 => out.extend_from_slice(&field),
            _ if count > 0 => {
                out.extend_from_slice(&length_prefix(CONTENT, raw.len()));
                out.extend_from_slice(raw);
            }
            _ => {}
        }
        Ok(Self { encoded: out.into(), dtype, shape })
    }

    /// A tensor of type `dtype` with the elements that another `TensorProto` has, whatever type and shape that states.
    pub(crate) fn with_elements(dtype: DataType, shape: &[usize], elements: &Bytes) -> Result<Self, WireError> {
        let message = Reader::new(elements)?;
        let shape = PartialShape::full(shape);
        let mut out = varint_field(DTYPE, i64::from(dtype.0) as u64);
        out.extend_from_slice(&bytes_field(SHAPE, &shape.encode()));
        for field in message.fields().iter().filter(|field| ![DTYPE, SHAPE].contains(&field.number())) {
            out.extend_from_slice(elements.get(field.whole()).unwrap_or_default());
        }
        Ok(Self { encoded: out.into(), dtype, shape })
    }

    /// A tensor of strings.
    ///
    /// # Errors
    /// If there are not as many as the shape needs.
    pub fn from_strings(shape: &[usize], strings: &[Bytes]) -> Result<Self, String> {
        let count = element_count(shape).map_err(|error| error.to_string())?;
        if count != strings.len() {
            return Err(format!("shape {shape:?} does not hold {} strings", strings.len()));
        }
        let shape = PartialShape::full(shape);
        let mut out = varint_field(DTYPE, i64::from(DataType::STRING.0) as u64);
        out.extend_from_slice(&bytes_field(SHAPE, &shape.encode()));
        strings.iter().for_each(|string| out.extend_from_slice(&bytes_field(STRINGS, string)));
        Ok(Self { encoded: out.into(), dtype: DataType::STRING, shape })
    }

    /// Its bytes.
    pub fn encoded(&self) -> &Bytes {
        &self.encoded
    }

    /// The element type.
    pub fn dtype(&self) -> DataType {
        self.dtype
    }

    /// The shape.
    pub fn shape(&self) -> &PartialShape {
        &self.shape
    }

    /// Number of elements.
    ///
    /// # Errors
    /// If the shape is not fully known or too large.
    pub fn len(&self) -> Result<usize, String> {
        element_count(&self.dims()?).map_err(|error| error.to_string())
    }

    /// Whether there is no element; a shape that makes no sense has some.
    pub fn is_empty(&self) -> bool {
        self.len() == Ok(0)
    }

    fn dims(&self) -> Result<Vec<usize>, String> {
        self.shape.dims().ok_or_else(|| format!("the shape {} of the tensor is not fully known", self.shape))
    }

    /// The elements. Of a list that is shorter than the shape the last value is repeated; an empty one means zeros.
    /// Half-precision numbers become singles, codes the integers they are stored as.
    ///
    /// # Errors
    /// If the type has no numbers, the shape is not known, there are too many or too few bytes, or a value would be
    /// repeated more than 4 Mi times.
    pub fn to_tensor(&self) -> Result<Tensor, String> {
        let dims = self.dims()?;
        let count = element_count(&dims).map_err(|error| error.to_string())?;
        let elements = self.dtype.elements();
        let elements = elements.ok_or_else(|| format!("its elements are of type {}, not numbers", self.dtype))?;
        let message = Reader::new(&self.encoded).map_err(|error| error.to_string())?;
        let content = message.delimited(CONTENT).unwrap_or_default();
        let data = if content.is_empty() {
            let listed = self.listed(&message, elements);
            if listed.len() > count {
                return Err(format!("it has {} elements, but its shape {dims:?} only {count}", listed.len()));
            }
            if listed.len() < count && count > MAX_REPEATED {
                return Err(format!("its shape {dims:?} repeats a value more than {MAX_REPEATED} times"));
            }
            repeated(listed, count)
        } else {
            let size = self.dtype.size().unwrap_or(0);
            if count.checked_mul(size) != Some(content.len()) {
                return Err(format!("shape {dims:?} of type {} does not have {} bytes", self.dtype, content.len()));
            }
            raw_elements(self.dtype, elements, &content)
        };
        Tensor::from_data(dims, data).map_err(|error| error.to_string())
    }

    /// The elements as bytes, row-major and little-endian, by the rules of [`TensorProto::to_tensor`].
    ///
    /// # Errors
    /// As for [`TensorProto::to_tensor`].
    pub fn to_raw(&self) -> Result<Vec<u8>, String> {
        let tensor = self.to_tensor()?;
        let mut raw = Vec::with_capacity(tensor.len() * self.dtype.size().unwrap_or(0));
        append_elements(&mut raw, self.dtype, tensor.data());
        Ok(raw)
    }

    /// The strings, if it is a tensor of strings, by the rules of [`TensorProto::to_tensor`].
    ///
    /// # Errors
    /// If it is of another type, the shape is not known, or there are more strings than it has room for.
    pub fn to_strings(&self) -> Result<Vec<Bytes>, String> {
        let count = self.len()?;
        if self.dtype != DataType::STRING {
            return Err(format!("its elements are of type {}, not strings", self.dtype));
        }
        let message = Reader::new(&self.encoded).map_err(|error| error.to_string())?;
        let mut strings: Vec<Bytes> = message.each(STRINGS).collect();
        if strings.len() > count || (strings.len() < count && count > MAX_REPEATED_STRINGS) {
            return Err(format!("it has {} strings, but its shape {count}", strings.len()));
        }
        let last = strings.last().cloned().unwrap_or_default();
        strings.resize(count, last);
        Ok(strings)
    }

    /// The elements in the typed field.
    fn listed(&self, message: &Reader, elements: DType) -> TensorData {
        let integers = |number: u32| message.all_varints(number);
        let singles = || {
            let parts = message.parts(FLOATS, WireType::Fixed32);
            parts.flat_map(|part| fixed32(&part).map(f32::from_bits).collect::<Vec<_>>())
        };
        let doubles = || {
            let parts = message.parts(DOUBLES, WireType::Fixed64);
            parts.flat_map(|part| fixed64(&part).map(f64::from_bits).collect::<Vec<_>>())
        };
        match self.dtype.base() {
            DataType::HALF => {
                TensorData::F32(integers(HALVES).map(|bits| half::f16::from_bits(bits as u16).to_f32()).collect())
            }
            DataType::BFLOAT16 => {
                TensorData::F32(integers(HALVES).map(|bits| half::bf16::from_bits(bits as u16).to_f32()).collect())
            }
            _ => match elements {
                DType::F64 => TensorData::F64(doubles().collect()),
                DType::I8 => TensorData::I8(integers(INTS).map(|n| n as i8).collect()),
                DType::U8 => TensorData::U8(integers(INTS).map(|n| n as u8).collect()),
                DType::I16 => TensorData::I16(integers(INTS).map(|n| n as i16).collect()),
                DType::U16 => TensorData::U16(integers(INTS).map(|n| n as u16).collect()),
                DType::I32 => TensorData::I32(integers(INTS).map(|n| n as i32).collect()),
                DType::U32 => TensorData::U32(integers(UINT32S).map(|n| n as u32).collect()),
                DType::I64 => TensorData::I64(integers(INT64S).map(|n| n as i64).collect()),
                DType::U64 => TensorData::U64(integers(UINT64S).collect()),
                DType::Bool => TensorData::Bool(integers(BOOLS).map(|n| n != 0).collect()),
                DType::F32 | DType::F16 | DType::BF16 => TensorData::F32(singles().collect()),
            },
        }
    }
}

/// The field that holds one element, of which `raw` are the bytes; `None` if such elements have none.
fn single_field(dtype: DataType, raw: &[u8]) -> Option<Vec<u8>> {
    let mut wide = [0; 8];
    wide.get_mut(..raw.len())?.copy_from_slice(raw);
    let pattern = u64::from_le_bytes(wide);
    let shift = 64 - 8 * u32::try_from(raw.len()).ok().filter(|length| *length > 0)?;
    let signed = ((pattern << shift) as i64 >> shift) as u64;
    let (number, value) = match dtype.base() {
        DataType::FLOAT => return Some(bytes_field(FLOATS, raw)),
        DataType::DOUBLE => return Some(bytes_field(DOUBLES, raw)),
        DataType::INT8 | DataType::QINT8 | DataType::INT16 | DataType::QINT16 => (INTS, signed),
        DataType::INT32 | DataType::QINT32 => (INTS, signed),
        DataType::UINT8 | DataType::QUINT8 | DataType::UINT16 | DataType::QUINT16 => (INTS, pattern),
        DataType::INT64 => (INT64S, pattern),
        DataType::BOOL => (BOOLS, pattern),
        DataType::HALF | DataType::BFLOAT16 => (HALVES, pattern),
        DataType::UINT32 => (UINT32S, pattern),
        DataType::UINT64 => (UINT64S, pattern),
        _ => return None,
    };
    let mut packed = Vec::new();
    varint(&mut packed, value);
    Some(bytes_field(number, &packed))
}

/// `data`, its last value repeated up to `count` elements; zeros if there is none.
fn repeated(data: TensorData, count: usize) -> TensorData {
    fn fill<T: Copy + Default>(mut list: Vec<T>, count: usize) -> Vec<T> {
        let last = list.last().copied().unwrap_or_default();
        list.resize(count, last);
        list
    }
    match data {
        TensorData::F32(list) => TensorData::F32(fill(list, count)),
        TensorData::F64(list) => TensorData::F64(fill(list, count)),
        TensorData::I8(list) => TensorData::I8(fill(list, count)),
        TensorData::U8(list) => TensorData::U8(fill(list, count)),
        TensorData::I16(list) => TensorData::I16(fill(list, count)),
        TensorData::U16(list) => TensorData::U16(fill(list, count)),
        TensorData::I32(list) => TensorData::I32(fill(list, count)),
        TensorData::U32(list) => TensorData::U32(fill(list, count)),
        TensorData::I64(list) => TensorData::I64(fill(list, count)),
        TensorData::U64(list) => TensorData::U64(fill(list, count)),
        TensorData::Bool(list) => TensorData::Bool(fill(list, count)),
    }
}

/// The elements in raw bytes, whose number is a multiple of the element's size.
fn raw_elements(dtype: DataType, elements: DType, raw: &[u8]) -> TensorData {
    let two = || raw.as_chunks::<2>().0.iter();
    let four = || raw.as_chunks::<4>().0.iter();
    let eight = || raw.as_chunks::<8>().0.iter();
    match (dtype.base(), elements) {
        (DataType::HALF, _) => TensorData::F32(two().map(|b| half::f16::from_le_bytes(*b).to_f32()).collect()),
        (DataType::BFLOAT16, _) => TensorData::F32(two().map(|b| half::bf16::from_le_bytes(*b).to_f32()).collect()),
        (_, DType::F64) => TensorData::F64(eight().map(|b| f64::from_le_bytes(*b)).collect()),
        (_, DType::I8) => TensorData::I8(raw.iter().map(|b| *b as i8).collect()),
        (_, DType::U8) => TensorData::U8(raw.to_vec()),
        (_, DType::I16) => TensorData::I16(two().map(|b| i16::from_le_bytes(*b)).collect()),
        (_, DType::U16) => TensorData::U16(two().map(|b| u16::from_le_bytes(*b)).collect()),
        (_, DType::I32) => TensorData::I32(four().map(|b| i32::from_le_bytes(*b)).collect()),
        (_, DType::U32) => TensorData::U32(four().map(|b| u32::from_le_bytes(*b)).collect()),
        (_, DType::I64) => TensorData::I64(eight().map(|b| i64::from_le_bytes(*b)).collect()),
        (_, DType::U64) => TensorData::U64(eight().map(|b| u64::from_le_bytes(*b)).collect()),
        (_, DType::Bool) => TensorData::Bool(raw.iter().map(|b| *b != 0).collect()),
        (_, DType::F32 | DType::F16 | DType::BF16) => TensorData::F32(four().map(|b| f32::from_le_bytes(*b)).collect()),
    }
}

/// Appends the bytes of `data` as elements of type `dtype`.
fn append_elements(out: &mut Vec<u8>, dtype: DataType, data: &TensorData) {
    match (dtype.base(), data) {
        (DataType::HALF, TensorData::F32(v)) => {
            v.iter().for_each(|x| out.extend_from_slice(&half::f16::from_f32(*x).to_le_bytes()));
        }
        (DataType::BFLOAT16, TensorData::F32(v)) => {
            v.iter().for_each(|x| out.extend_from_slice(&half::bf16::from_f32(*x).to_le_bytes()));
        }
        (_, TensorData::F32(v)) => v.iter().for_each(|x| out.extend_from_slice(&x.to_le_bytes())),
        (_, TensorData::F64(v)) => v.iter().for_each(|x| out.extend_from_slice(&x.to_le_bytes())),
        (_, TensorData::I8(v)) => out.extend(v.iter().map(|x| *x as u8)),
        (_, TensorData::U8(v)) => out.extend_from_slice(v),
        (_, TensorData::I16(v)) => v.iter().for_each(|x| out.extend_from_slice(&x.to_le_bytes())),
        (_, TensorData::U16(v)) => v.iter().for_each(|x| out.extend_from_slice(&x.to_le_bytes())),
        (_, TensorData::I32(v)) => v.iter().for_each(|x| out.extend_from_slice(&x.to_le_bytes())),
        (_, TensorData::U32(v)) => v.iter().for_each(|x| out.extend_from_slice(&x.to_le_bytes())),
        (_, TensorData::I64(v)) => v.iter().for_each(|x| out.extend_from_slice(&x.to_le_bytes())),
        (_, TensorData::U64(v)) => v.iter().for_each(|x| out.extend_from_slice(&x.to_le_bytes())),
        (_, TensorData::Bool(v)) => out.extend(v.iter().map(|x| u8::from(*x))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::varints;
    use proptest::prelude::*;

    /// A tensor of `dtype` with these dimensions and further fields.
    fn encoded(dtype: DataType, dims: &[usize], fields: &[u8]) -> TensorProto {
        let mut out = varint_field(DTYPE, dtype.0 as u64);
        out.extend_from_slice(&bytes_field(SHAPE, &PartialShape::full(dims).encode()));
        out.extend_from_slice(fields);
        TensorProto::decode(out.into()).unwrap()
    }

    #[test]
    fn the_last_value_of_a_short_list_is_repeated() {
        let floats = bytes_field(FLOATS, &[1f32, 2.0].map(f32::to_le_bytes).concat());
        let tensor = encoded(DataType::FLOAT, &[2, 2], &floats).to_tensor().unwrap();
        assert_eq!(tensor.as_slice::<f32>(), Ok(&[1.0, 2.0, 2.0, 2.0][..]));
        let zeros = encoded(DataType::QINT8, &[3], &[]).to_tensor().unwrap();
        assert_eq!(zeros.as_slice::<i8>(), Ok(&[0, 0, 0][..]));
    }

    #[test]
    fn lists_may_be_unpacked_and_in_parts() {
        let fields = [varint_field(INTS, 7), bytes_field(INTS, &[1, 2])].concat();
        let tensor = encoded(DataType::INT32, &[3], &fields).to_tensor().unwrap();
        assert_eq!(tensor.as_slice::<i32>(), Ok(&[7, 1, 2][..]));
    }

    #[test]
    fn a_length_that_does_not_fit_is_refused() {
        let too_long = encoded(DataType::INT32, &[1], &bytes_field(INTS, &[1, 2]));
        assert!(too_long.to_tensor().unwrap_err().contains("2 elements"));
        let cut = encoded(DataType::FLOAT, &[2], &bytes_field(CONTENT, &[0; 7]));
        assert!(cut.to_tensor().unwrap_err().contains("7 bytes"));
        let bomb = encoded(DataType::FLOAT, &[1 << 30, 8], &bytes_field(FLOATS, &[0; 4]));
        assert!(bomb.to_tensor().unwrap_err().contains("repeats"));
        let unknown = TensorProto::decode(bytes_field(SHAPE, &PartialShape::UnknownRank.encode()).into()).unwrap();
        assert!(unknown.to_tensor().unwrap_err().contains("not fully known"));
    }

    #[test]
    fn strings_read_back() {
        let strings = [Bytes::from_static(b"a"), Bytes::from_static(b"\xff")];
        let tensor = TensorProto::from_strings(&[2], &strings).unwrap();
        assert_eq!(tensor.to_strings().unwrap(), strings);
        assert!(tensor.to_tensor().unwrap_err().contains("string"));
    }

    proptest! {
        #[test]
        fn numbers_read_back(values: Vec<f64>, kind in 0usize..16) {
            let types = [1, 2, 3, 4, 5, 6, 9, 10, 11, 12, 13, 14, 17, 19, 22, 23].map(DataType);
            let dtype = types[kind];
            let data = match dtype.elements().unwrap() {
                // A number that a half can hold, so that it survives.
                DType::F32 => TensorData::F32(values.iter().map(|x| half::bf16::from_f64(x % 256.0).to_f32()).collect()),
                DType::F64 => TensorData::F64(values.clone()),
                DType::I8 => TensorData::I8(values.iter().map(|x| *x as i8).collect()),
                DType::U8 => TensorData::U8(values.iter().map(|x| *x as u8).collect()),
                DType::I16 => TensorData::I16(values.iter().map(|x| *x as i16).collect()),
                DType::U16 => TensorData::U16(values.iter().map(|x| *x as u16).collect()),
                DType::I32 => TensorData::I32(values.iter().map(|x| *x as i32).collect()),
                DType::U32 => TensorData::U32(values.iter().map(|x| *x as u32).collect()),
                DType::I64 => TensorData::I64(values.iter().map(|x| *x as i64).collect()),
                DType::U64 => TensorData::U64(values.iter().map(|x| *x as u64).collect()),
                _ => TensorData::Bool(values.iter().map(|x| *x > 0.0).collect()),
            };
            let tensor = Tensor::from_data(vec![values.len()], data).unwrap();
            let written = TensorProto::new(dtype, &tensor).unwrap();
            let read = TensorProto::decode(written.encoded().clone()).unwrap();
            prop_assert_eq!(read.dtype(), dtype);
            let again = TensorProto::new(dtype, &read.to_tensor().unwrap()).unwrap();
            prop_assert_eq!(again.encoded(), written.encoded());
            if !matches!(dtype, DataType::HALF) {
                prop_assert_eq!(read.to_tensor().unwrap(), tensor);
            }
        }
    }

    #[test]
    fn one_element_stands_in_its_typed_field() {
        let one = TensorProto::new(DataType::INT8, &Tensor::scalar(-1i8)).unwrap();
        assert_eq!(one.to_tensor().unwrap(), Tensor::scalar(-1i8));
        let wide: Vec<u64> = varints(&Reader::new(one.encoded()).unwrap().delimited(INTS).unwrap()).collect();
        assert_eq!(wide, [u64::MAX]);
    }
}
