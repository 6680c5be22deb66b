//! The text form of a quantization file: which spaces, line ends and digits the original writes.
//!
//! Four spaces of indentation, one array element on each line, keys in alphabetical order, numbers as Python prints
//! them. Which keys there are is the business of [`super::file`].

use serde::Serialize;
use serde_json::ser::Formatter;
use std::io::{self, Write};

/// How lines end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TextStyle {
    /// No space after commas, a line break at the end of the file.
    #[default]
    Plain,
    /// As Python 2 writes it: a space after each comma, no line break at the end of the file.
    Py2,
}

/// The text of `value`.
///
/// # Errors
/// If a number is not finite, which JSON cannot say.
pub(super) fn to_text<T: Serialize>(value: &T, style: TextStyle) -> Result<String, serde_json::Error> {
    let mut out = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, Python { style, depth: 0, empty: true });
    // Through a value, whose objects have their keys in alphabetical order.
    serde_json::to_value(value)?.serialize(&mut serializer)?;
    if style == TextStyle::Plain {
        out.push(b'\n');
    }
    String::from_utf8(out).map_err(|e| serde::ser::Error::custom(e.to_string()))
}

/// Writes JSON as Python's `json.dumps(…, indent=4, sort_keys=True)`.
struct Python {
    style: TextStyle,
    depth: usize,
    /// Whether the innermost open array or object has no element so far.
    empty: bool,
}

impl Python {
    fn open<W: Write + ?Sized>(&mut self, out: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth += 1;
        self.empty = true;
        out.write_all(bracket)
    }

    fn close<W: Write + ?Sized>(&mut self, out: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth = self.depth.saturating_sub(1);
        if !self.empty {
            self.new_line(out)?;
        }
        self.empty = false;
        out.write_all(bracket)
    }

    fn element<W: Write + ?Sized>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        if !first {
            out.write_all(if self.style == TextStyle::Py2 { b", " } else { b"," })?;
        }
        self.empty = false;
        self.new_line(out)
    }

    fn new_line<W: Write + ?Sized>(&self, out: &mut W) -> io::Result<()> {
        out.write_all(b"\n")?;
        (0..self.depth).try_for_each(|_| out.write_all(b"    "))
    }
}

impl Formatter for Python {
    fn write_f64<W: Write + ?Sized>(&mut self, out: &mut W, value: f64) -> io::Result<()> {
        out.write_all(python_float(value).as_bytes())
    }

    fn begin_array<W: Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        self.open(out, b"[")
    }

    fn end_array<W: Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        self.close(out, b"]")
    }

    fn begin_array_value<W: Write + ?Sized>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.element(out, first)
    }

    fn begin_object<W: Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        self.open(out, b"{")
    }

    fn end_object<W: Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        self.close(out, b"}")
    }

    fn begin_object_key<W: Write + ?Sized>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.element(out, first)
    }

    fn begin_object_value<W: Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(b": ")
    }
}

/// The shortest digits that give `value` back, in Python's notation: an exponent of at least two digits below 1e-4 and
/// from 1e16 on, and a fraction everywhere else.
fn python_float(value: f64) -> String {
    let shortest = format!("{value:e}");
    let Some((digits, Ok(exponent))) = shortest.split_once('e').map(|(digits, e)| (digits, e.parse::<i32>())) else {
        return format!("{value:?}");
    };
    let places = digits.split_once('.').map_or(0, |(_, fraction)| fraction.len() as i32);
    if value == 0.0 || (-4..16).contains(&exponent) {
        let decimals = usize::try_from(places - exponent).unwrap_or(0).max(1);
        return even_of_two(value, format!("{value:.decimals$}"), format!("{value:?}"));
    }
    let places = usize::try_from(places).unwrap_or(0);
    let text = even_of_two(value, format!("{value:.places$e}"), shortest);
    let (digits, _) = text.split_once('e').unwrap_or((&text, ""));
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// `rounded` if it gives `value` back, else `shortest`. They differ where `value` lies halfway between two texts of as
/// many digits: Python takes the one that ends in an even digit, as rounding to a number of digits does.
fn even_of_two(value: f64, rounded: String, shortest: String) -> String {
    if rounded.parse() == Ok(value) { rounded } else { shortest }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn numbers_are_written_as_python_writes_them() {
        for (value, text) in [
            (1.2030582183797378e-05, "1.2030582183797378e-05"),
            (0.0001, "0.0001"),
            (1e16, "1e+16"),
            (9_999_999_999_999_998.0, "9999999999999998.0"),
            (150.70811855670104, "150.70811855670104"),
            (2.0, "2.0"),
            (-0.5, "-0.5"),
            (0.0, "0.0"),
            (1e-300, "1e-300"),
            (13381293.0 / 16384.0, "816.7293090820312"),
            (36757.0 / 262144.0, "0.14021682739257812"),
            (2f64.powi(-20), "9.5367431640625e-07"),
            (2f64.powi(-24), "5.960464477539063e-08"),
        ] {
            assert_eq!(python_float(value), text);
        }
    }

    #[test]
    fn both_styles_indent_by_four() {
        let value = json!({"b": [1, 2], "a": {}, "c": [0.5]});
        let py2 =
            "{\n    \"a\": {}, \n    \"b\": [\n        1, \n        2\n    ], \n    \"c\": [\n        0.5\n    ]\n}";
        assert_eq!(to_text(&value, TextStyle::Py2).unwrap(), py2);
        assert_eq!(to_text(&value, TextStyle::Plain).unwrap(), format!("{}\n", py2.replace(", \n", ",\n")));
    }

    proptest! {
        #[test]
        fn written_numbers_read_back(bits: u64) {
            let value = f64::from_bits(bits);
            prop_assume!(value.is_finite());
            prop_assert_eq!(python_float(value).parse::<f64>().unwrap().to_bits(), value.to_bits());
        }
    }
}
