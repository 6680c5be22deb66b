//! Arrays as `numpy.save` writes them: the reader of `.npy` content, versions 1 to 3.
//!
//! Numbers keep their type, but for half precision, which becomes `float32`. What the axes mean and which shapes fit is
//! decided by whoever uses an array; archives of arrays live in `npz`.

use half::f16;
use quantize_ir::{DType, Tensor, TensorData};

use crate::decode::Limits;

const MAGIC: &[u8] = b"\x93NUMPY";
/// Longest header that is read: numpy's own stays below it for any array of numbers.
const MAX_HEADER_BYTES: usize = 1 << 16;
/// Bytes within which every header that is read ends: magic number, version and length stand before it.
pub(crate) const MAX_HEAD_BYTES: usize = MAX_HEADER_BYTES + 12;
/// Most axes of an array, as in numpy.
const MAX_AXES: usize = 64;

/// Every type of number that is read, with numpy's name of it.
const TYPES: [(DType, &str); 12] = [
    (DType::F16, "<f2"),
    (DType::F32, "<f4"),
    (DType::F64, "<f8"),
    (DType::I8, "|i1"),
    (DType::U8, "|u1"),
    (DType::I16, "<i2"),
    (DType::U16, "<u2"),
    (DType::I32, "<i4"),
    (DType::U32, "<u4"),
    (DType::I64, "<i8"),
    (DType::U64, "<u8"),
    (DType::Bool, "|b1"),
];

/// What the header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    /// Type of the numbers in the file.
    pub(crate) dtype: DType,
    /// Whether the first axis is the fastest.
    pub(crate) fortran_order: bool,
    /// Lengths of the axes.
    pub(crate) shape: Vec<usize>,
}

/// Whether the content begins like a `.npy` file.
pub(crate) fn is_npy(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// Reads the content of a `.npy` file of numbers or truth values, little-endian; the result is in row-major order
/// whatever the order in the file.
///
/// # Errors
/// What is wrong: damaged or cut short, another type of numbers, trailing bytes, or more numbers than `limits` allow
/// pixels. Nothing is allocated before the header agrees with the length of the content.
pub(crate) fn decode(bytes: &[u8], limits: Limits) -> Result<Tensor, String> {
    let (header, body) = Header::read(bytes)?;
    if header.elements()? as u64 > limits.max_pixels {
        return Err(format!("{:?} are more than {} numbers", header.shape, limits.max_pixels));
    }
    header.check_length(body.len() as u64)?;
    let data = if header.fortran_order {
        numbers(header.dtype, &to_row_major(&header.shape, body, header.dtype.size()))
    } else {
        numbers(header.dtype, body)
    };
    Tensor::from_data(header.shape, data).map_err(|error| error.to_string())
}

/// The little-endian numbers of type `dtype` in `body`, whole ones only.
pub(crate) fn numbers(dtype: DType, body: &[u8]) -> TensorData {
    fn each<const N: usize, T>(body: &[u8], from: impl Fn([u8; N]) -> T) -> Vec<T> {
        body.as_chunks::<N>().0.iter().map(|bytes| from(*bytes)).collect()
    }
    match dtype {
        DType::F16 => TensorData::F32(each(body, |bytes| f16::from_le_bytes(bytes).to_f32())),
        // numpy has no bfloat16, so that the table names none.
        DType::F32 | DType::BF16 => TensorData::F32(each(body, f32::from_le_bytes)),
        DType::F64 => TensorData::F64(each(body, f64::from_le_bytes)),
        DType::I8 => TensorData::I8(each(body, i8::from_le_bytes)),
        DType::U8 => TensorData::U8(body.to_vec()),
        DType::I16 => TensorData::I16(each(body, i16::from_le_bytes)),
        DType::U16 => TensorData::U16(each(body, u16::from_le_bytes)),
        DType::I32 => TensorData::I32(each(body, i32::from_le_bytes)),
        DType::U32 => TensorData::U32(each(body, u32::from_le_bytes)),
        DType::I64 => TensorData::I64(each(body, i64::from_le_bytes)),
        DType::U64 => TensorData::U64(each(body, u64::from_le_bytes)),
        DType::Bool => TensorData::Bool(body.iter().map(|byte| *byte != 0).collect()),
    }
}

/// The text of the header, and what follows it.
fn split(bytes: &[u8]) -> Result<(&str, &[u8]), String> {
    let rest = bytes.strip_prefix(MAGIC).ok_or("it does not begin like a .npy file")?;
    let (length, rest) = match *rest {
        [1, _, a, b, ref rest @ ..] => (u32::from_le_bytes([a, b, 0, 0]), rest),
        [2 | 3, _, a, b, c, d, ref rest @ ..] => (u32::from_le_bytes([a, b, c, d]), rest),
        [1..=3, ..] | [] => return Err("the header is cut short".to_owned()),
        [version, ..] => return Err(format!("version {version} of the format is unknown")),
    };
    let length = usize::try_from(length).ok().filter(|length| *length <= MAX_HEADER_BYTES);
    let length = length.ok_or_else(|| format!("the header has more than {MAX_HEADER_BYTES} bytes"))?;
    let (header, body) = rest.split_at_checked(length).ok_or("the header is cut short")?;
    let header = std::str::from_utf8(header).map_err(|_| "the header is no text")?;
    Ok((header, body))
}

impl Header {
    /// The header of a file whose first bytes are given, and what follows it of them.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn read(bytes: &[u8]) -> Result<(Self, &[u8]), String> {
        let (text, body) = split(bytes)?;
        Ok((Self::parse(text)?, body))
    }

    /// Number of numbers.
    ///
    /// # Errors
    /// If it cannot be counted.
    pub(crate) fn elements(&self) -> Result<usize, String> {
        quantize_ir::tensor::element_count(&self.shape).map_err(|error| error.to_string())
    }

    /// Checks that as many bytes follow as the numbers take.
    ///
    /// # Errors
    /// If there are less or more.
    pub(crate) fn check_length(&self, bytes: u64) -> Result<(), String> {
        let needed = (self.elements()? as u64).checked_mul(self.dtype.size() as u64);
        if needed == Some(bytes) {
            return Ok(());
        }
        let cut = if needed.is_none_or(|needed| needed > bytes) {
            "it is cut short"
        } else {
            "something follows the numbers"
        };
        Err(format!("{cut}: {:?} does not fit into {bytes} bytes of numbers", self.shape))
    }

    /// Reads the text of a Python dictionary of exactly the three keys of the format.
    fn parse(text: &str) -> Result<Self, String> {
        let mut rest = Text(text);
        let (mut dtype, mut fortran_order, mut shape) = (None, None, None);
        rest.expect('{')?;
        while !rest.accept('}') {
            let key = rest.string()?;
            rest.expect(':')?;
            let is_new = match key {
                "descr" => dtype.replace(rest.number_type()?).is_none(),
                "fortran_order" => fortran_order.replace(rest.boolean()?).is_none(),
                "shape" => shape.replace(rest.shape()?).is_none(),
                other => return Err(format!("the header has an unknown key {other:?}")),
            };
            if !is_new {
                return Err(format!("the header has the key {key:?} twice"));
            }
            if !rest.accept(',') {
                rest.expect('}')?;
                break;
            }
        }
        if !rest.0.trim_start().is_empty() {
            return Err("the header does not end with its dictionary".to_owned());
        }
        let lacks = |key| move || format!("the header lacks the key {key:?}");
        Ok(Self {
            dtype: dtype.ok_or_else(lacks("descr"))?,
            fortran_order: fortran_order.ok_or_else(lacks("fortran_order"))?,
            shape: shape.ok_or_else(lacks("shape"))?,
        })
    }
}

/// What is left of the header's text. White space in front of a token is skipped.
struct Text<'a>(&'a str);

impl<'a> Text<'a> {
    fn accept(&mut self, token: char) -> bool {
        match self.0.trim_start().strip_prefix(token) {
            Some(rest) => {
                self.0 = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, token: char) -> Result<(), String> {
        if self.accept(token) { Ok(()) } else { Err(format!("the header lacks a `{token}`")) }
    }

    fn string(&mut self) -> Result<&'a str, String> {
        let text = self.0.trim_start();
        let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"')).ok_or("the header lacks a quoted word")?;
        let (word, rest) = text[1..].split_once(quote).ok_or("a word in the header has no end")?;
        self.0 = rest;
        Ok(word)
    }

    fn word(&mut self) -> &'a str {
        let text = self.0.trim_start();
        let end = text.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(text.len());
        let (word, rest) = text.split_at(end);
        self.0 = rest;
        word
    }

    fn number_type(&mut self) -> Result<DType, String> {
        let name = self.string().map_err(|_| "its elements are not plain numbers".to_owned())?;
        let found = TYPES.iter().find(|(_, known)| *known == name);
        found.map(|(dtype, _)| *dtype).ok_or_else(|| format!("numbers of type {name:?} are not read"))
    }

    fn boolean(&mut self) -> Result<bool, String> {
        match self.word() {
            "True" => Ok(true),
            "False" => Ok(false),
            other => Err(format!("{other:?} in the header is neither True nor False")),
        }
    }

    fn shape(&mut self) -> Result<Vec<usize>, String> {
        let mut shape = Vec::new();
        self.expect('(')?;
        while !self.accept(')') {
            if shape.len() == MAX_AXES {
                return Err(format!("it has more than {MAX_AXES} axes"));
            }
            let word = self.word();
            // Python 2 marks long integers by a letter.
            let length = word.strip_suffix('L').unwrap_or(word);
            shape.push(length.parse().map_err(|_| format!("{word:?} is no length of an axis"))?);
            if !self.accept(',') {
                self.expect(')')?;
                break;
            }
        }
        Ok(shape)
    }
}

/// The same elements of `size` bytes with the last axis fastest instead of the first. `body` has as many of them as
/// `shape` says.
fn to_row_major(shape: &[usize], body: &[u8], size: usize) -> Vec<u8> {
    let mut strides = Vec::with_capacity(shape.len());
    let mut stride = size;
    for length in shape {
        strides.push(stride);
        stride *= length;
    }
    let mut position = vec![0; shape.len()];
    let mut at = 0;
    let mut out = Vec::with_capacity(body.len());
    for _ in 0..body.len() / size {
        out.extend_from_slice(&body[at..at + size]);
        for axis in (0..shape.len()).rev() {
            position[axis] += 1;
            at += strides[axis];
            if position[axis] < shape[axis] {
                break;
            }
            at -= strides[axis] * shape[axis];
            position[axis] = 0;
        }
    }
    out
}

#[cfg(test)]
pub(crate) mod tests;
