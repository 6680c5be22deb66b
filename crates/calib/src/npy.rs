//! Arrays as `numpy.save` writes them: the reader of `.npy` files, versions 1 to 3.
//!
//! Numbers are taken as they are; what the axes mean and which shapes fit is decided by whoever uses an [`Array`].

use crate::decode::Limits;
use crate::error::CalibError;

const MAGIC: &[u8] = b"\x93NUMPY";
/// Longest header that is read: numpy's own stays below it for any array of numbers.
const MAX_HEADER_BYTES: usize = 1 << 16;
/// Most axes of an array, as in numpy.
const MAX_AXES: usize = 64;

/// A dense array of numbers in memory, in row-major order whatever the order in the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    name: String,
    shape: Vec<usize>,
    data: Vec<f64>,
}

impl Array {
    /// Wraps values that are in memory already, in row-major order; `name` serves messages.
    ///
    /// # Errors
    /// [`CalibError::Array`] if the number of values is not the product of the shape.
    pub fn new(name: impl Into<String>, shape: Vec<usize>, data: Vec<f64>) -> Result<Self, CalibError> {
        let name = name.into();
        if count(&shape) != Some(data.len()) {
            let cause = format!("{} values do not have the shape {shape:?}", data.len());
            return Err(CalibError::Array { name, cause });
        }
        Ok(Self { name, shape, data })
    }

    /// Reads the content of a `.npy` file of `float32`, `float64` (both little-endian) or `uint8` numbers.
    ///
    /// # Errors
    /// [`CalibError::Array`]: damaged or cut short, another type of numbers, trailing bytes, or more numbers than
    /// `limits` allow pixels. Nothing is allocated before the header agrees with the length of the content.
    pub fn parse(name: impl Into<String>, bytes: &[u8], limits: Limits) -> Result<Self, CalibError> {
        let name = name.into();
        match values(bytes, limits) {
            Ok((shape, data)) => Ok(Self { name, shape, data }),
            Err(cause) => Err(CalibError::Array { name, cause }),
        }
    }

    /// Whether the content begins like a `.npy` file.
    pub(crate) fn is_npy(bytes: &[u8]) -> bool {
        bytes.starts_with(MAGIC)
    }

    /// What messages call it: its path if it was read from a file, else the name given.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Lengths of the axes.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The values, the last axis fastest.
    #[must_use]
    pub fn data(&self) -> &[f64] {
        &self.data
    }

    /// Gives the values away.
    pub(crate) fn into_data(self) -> Vec<f64> {
        self.data
    }

    /// An error about this array.
    pub(crate) fn refuse(&self, cause: String) -> CalibError {
        CalibError::Array { name: self.name.clone(), cause }
    }
}

/// Number of elements of a shape, if it can be counted.
fn count(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1_usize, |product, length| product.checked_mul(*length))
}

/// Type of the numbers in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Number {
    F32,
    F64,
    U8,
}

impl Number {
    /// Every type that is read with numpy's name of it.
    const ALL: [(Self, &str); 3] = [(Self::F32, "<f4"), (Self::F64, "<f8"), (Self::U8, "|u1")];

    fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F64 => 8,
            Self::U8 => 1,
        }
    }

    fn decode(self, body: &[u8]) -> Vec<f64> {
        match self {
            Self::F32 => body.as_chunks().0.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes))).collect(),
            Self::F64 => body.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect(),
            Self::U8 => body.iter().copied().map(f64::from).collect(),
        }
    }
}

/// What the header says.
#[derive(Debug, PartialEq)]
struct Header {
    number: Number,
    fortran_order: bool,
    shape: Vec<usize>,
}

fn values(bytes: &[u8], limits: Limits) -> Result<(Vec<usize>, Vec<f64>), String> {
    let (header, body) = split(bytes)?;
    let header = Header::parse(header)?;
    let shape = header.shape;
    let elements = count(&shape).filter(|count| *count as u64 <= limits.max_pixels);
    let elements = elements.ok_or_else(|| format!("{shape:?} are more than {} numbers", limits.max_pixels))?;
    let needed = elements.checked_mul(header.number.bytes());
    if needed != Some(body.len()) {
        let cut = if needed > Some(body.len()) { "it is cut short" } else { "something follows the numbers" };
        return Err(format!("{cut}: {shape:?} does not fit into {} bytes of numbers", body.len()));
    }
    let data = header.number.decode(body);
    let data = if header.fortran_order { to_row_major(&shape, &data) } else { data };
    Ok((shape, data))
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
    /// Reads the text of a Python dictionary of exactly the three keys of the format.
    fn parse(text: &str) -> Result<Self, String> {
        let mut rest = Text(text);
        let (mut number, mut fortran_order, mut shape) = (None, None, None);
        rest.expect('{')?;
        while !rest.accept('}') {
            let key = rest.string()?;
            rest.expect(':')?;
            let is_new = match key {
                "descr" => number.replace(rest.number_type()?).is_none(),
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
            number: number.ok_or_else(lacks("descr"))?,
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

    fn number_type(&mut self) -> Result<Number, String> {
        let name = self.string().map_err(|_| "its elements are not plain numbers".to_owned())?;
        let found = Number::ALL.iter().find(|(_, known)| *known == name);
        found.map(|(number, _)| *number).ok_or_else(|| format!("numbers of type {name:?} are not read"))
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

/// The same array with the last axis fastest instead of the first. `data` has as many values as `shape` says.
fn to_row_major(shape: &[usize], data: &[f64]) -> Vec<f64> {
    let mut strides = Vec::with_capacity(shape.len());
    let mut stride = 1;
    for length in shape {
        strides.push(stride);
        stride *= length;
    }
    let mut position = vec![0; shape.len()];
    let mut at = 0;
    let mut out = Vec::with_capacity(data.len());
    for _ in 0..data.len() {
        out.push(data[at]);
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
mod tests;
