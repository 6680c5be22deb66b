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
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A file of format version `version` with this header and these bytes of numbers.
    fn file(version: u8, header: &str, body: &[u8]) -> Vec<u8> {
        let length = match version {
            1 => (header.len() as u16).to_le_bytes().to_vec(),
            _ => (header.len() as u32).to_le_bytes().to_vec(),
        };
        [MAGIC, &[version, 0], &length, header.as_bytes(), body].concat()
    }

    fn parse(bytes: &[u8]) -> Result<Array, CalibError> {
        Array::parse("a.npy", bytes, Limits::default())
    }

    fn header(descr: &str, fortran: &str, shape: &str) -> String {
        format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}   \n")
    }

    fn floats(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    #[test]
    fn every_version_and_type_is_read() {
        for version in 1..=3 {
            let array = parse(&file(version, &header("<f4", "False", "(1, 2)"), &floats(&[0.5, -2.0]))).unwrap();
            assert_eq!((array.shape(), array.data()), ([1, 2].as_slice(), [0.5, -2.0].as_slice()));
        }
        let double = parse(&file(1, &header("<f8", "False", "(1,)"), &0.1_f64.to_le_bytes())).unwrap();
        assert_eq!((double.name(), double.shape(), double.data()), ("a.npy", [1].as_slice(), [0.1].as_slice()));
        let bytes = parse(&file(1, &header("|u1", "False", "(3L, 1L)"), &[0, 7, 255])).unwrap();
        assert_eq!((bytes.shape(), bytes.data()), ([3, 1].as_slice(), [0.0, 7.0, 255.0].as_slice()));
    }

    #[test]
    fn scalars_empty_arrays_and_other_spellings_are_arrays() {
        let cases = [
            ("scalar", header("|u1", "False", "()"), vec![9], vec![]),
            ("empty", header("<f4", "True", "(2, 0)"), vec![], vec![2, 0]),
            ("order", "{\"shape\":(1,),\"descr\":\"|u1\",\"fortran_order\":True}".to_owned(), vec![9], vec![1]),
        ];
        for (name, header, body, shape) in cases {
            assert_eq!(parse(&file(1, &header, &body)).unwrap().shape(), shape, "{name}");
        }
    }

    #[test]
    fn fortran_order_becomes_row_major() {
        let array =
            parse(&file(1, &header("|u1", "True", "(2, 3, 2)"), &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11])).unwrap();
        assert_eq!(array.data(), [0.0, 6.0, 2.0, 8.0, 4.0, 10.0, 1.0, 7.0, 3.0, 9.0, 5.0, 11.0]);
    }

    #[test]
    fn what_is_no_array_of_these_numbers_is_refused_with_the_cause() {
        let good = header("<f4", "False", "(2,)");
        let whole = file(1, &good, &floats(&[1.0, 2.0]));
        let large = "(9223372036854775807, 9223372036854775807)";
        let cases: &[(&str, Vec<u8>, &str)] = &[
            ("empty", vec![], "it does not begin like a .npy file"),
            ("text", b"0.1,0.2".to_vec(), "it does not begin like a .npy file"),
            ("magic only", MAGIC.to_vec(), "the header is cut short"),
            ("version", file(4, &good, &[]), "version 4 of the format is unknown"),
            ("cut header", whole[..40].to_vec(), "the header is cut short"),
            ("cut", whole[..whole.len() - 1].to_vec(), "it is cut short: [2] does not fit into 7 bytes of numbers"),
            ("tail", [whole.as_slice(), &[0]].concat(), "something follows the numbers: [2] does not fit into 9 bytes"),
            ("huge header", file(2, &" ".repeat(MAX_HEADER_BYTES + 1), &[]), "the header has more than 65536 bytes"),
            ("not text", [MAGIC, &[1, 0, 1, 0, 0xFF]].concat(), "the header is no text"),
            ("big-endian", file(1, &header(">f4", "False", "(2,)"), &[0; 8]), "numbers of type \">f4\" are not read"),
            ("objects", file(1, &header("|O", "False", "(2,)"), &[0; 8]), "numbers of type \"|O\" are not read"),
            ("record", file(1, "{'descr': [('a', '<f4')]}", &[]), "its elements are not plain numbers"),
            ("overflow", file(1, &header("<f4", "False", large), &[]), "are more than 134217728 numbers"),
            ("too many", file(1, &header("|u1", "False", "(134217729,)"), &[]), "are more than 134217728 numbers"),
            ("axes", file(1, &header("|u1", "False", &format!("({})", "1,".repeat(65))), &[0]), "more than 64 axes"),
            ("negative", file(1, &header("|u1", "False", "(-1,)"), &[0]), "\"\" is no length of an axis"),
            ("order", file(1, &header("|u1", "Maybe", "(1,)"), &[0]), "\"Maybe\" in the header is neither True nor"),
            ("missing", file(1, "{'descr': '|u1', 'shape': (1,)}", &[0]), "the header lacks the key \"fortran_order\""),
            ("twice", file(1, "{'shape': (1,), 'shape': (1,)}", &[0]), "the header has the key \"shape\" twice"),
            ("unknown", file(1, "{'colour': 1}", &[0]), "the header has an unknown key \"colour\""),
            ("open word", file(1, "{'descr", &[0]), "a word in the header has no end"),
            ("after", file(1, "{} {}", &[0]), "the header does not end with its dictionary"),
        ];
        for (name, bytes, cause) in cases {
            let error = parse(bytes).unwrap_err();
            let text = error.to_string();
            assert!(text.starts_with("cannot use array a.npy: ") && text.contains(cause), "{name}: {text}");
            assert!(error.hint().is_some(), "{name}");
        }
    }

    #[test]
    fn values_must_fit_their_shape() {
        assert_eq!(Array::new("a", vec![2, 3], vec![1.0; 6]).unwrap().into_data(), [1.0; 6]);
        for shape in [vec![2, 2], vec![], vec![usize::MAX, 2]] {
            assert!(matches!(Array::new("a", shape, vec![1.0; 6]), Err(CalibError::Array { .. })));
        }
    }

    proptest! {
        #[test]
        fn damage_is_never_a_panic(at in 0..200_usize, byte: u8, length in 0..200_usize) {
            let mut bytes = file(1, &header("<f4", "True", "(2, 3)"), &floats(&[1.0; 6]));
            let end = bytes.len();
            bytes[at % end] = byte;
            bytes.truncate(length);
            prop_assert!(length >= end || parse(&bytes).is_err());
        }

        #[test]
        fn both_orders_of_a_matrix_are_the_same_array(rows in 1..6_usize, columns in 1..6_usize) {
            let at = |row: usize, column: usize| (10 * row + column) as u8;
            let by_row: Vec<u8> = (0..rows).flat_map(|r| (0..columns).map(move |c| at(r, c))).collect();
            let by_column: Vec<u8> = (0..columns).flat_map(|c| (0..rows).map(move |r| at(r, c))).collect();
            let shape = format!("({rows}, {columns})");
            let c = parse(&file(1, &header("|u1", "False", &shape), &by_row)).unwrap();
            let fortran = parse(&file(1, &header("|u1", "True", &shape), &by_column)).unwrap();
            prop_assert_eq!(c, fortran);
        }
    }
}
