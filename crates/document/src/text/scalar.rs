//! A single value as it is written, and what it is as a number, a truth value or a text.

use std::fmt;
use std::ops::Range;

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScalarKind {
    /// A number, `inf` and `nan` not included.
    Number,
    /// A bare word: an enum value, a truth value, `inf` or `nan`.
    Word,
    /// One or several quoted strings.
    Text,
}

/// A value that is no message.
#[derive(Debug, Clone, PartialEq)]
pub struct Scalar {
    kind: ScalarKind,
    negative: bool,
    /// A number or word as written, without its sign; the bytes that quoted strings stand for.
    content: Vec<u8>,
    span: Range<usize>,
}

impl Scalar {
    pub(super) fn new(kind: ScalarKind, negative: bool, content: Vec<u8>, span: Range<usize>) -> Self {
        Self { kind, negative, content, span }
    }

    /// How it is written.
    pub fn kind(&self) -> ScalarKind {
        self.kind
    }

    /// The bytes it takes in the source, sign and quotes included.
    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// Its bytes: what quoted strings stand for, or a number or word as written, without its sign.
    pub fn bytes(&self) -> &[u8] {
        &self.content
    }

    /// As a text: quoted strings without quotes and escapes, numbers and words as they are written. `None` if it is
    /// not UTF-8, or has a sign.
    pub fn as_str(&self) -> Option<&str> {
        if self.negative { None } else { std::str::from_utf8(&self.content).ok() }
    }

    /// As a number or word; quoted strings are neither.
    fn bare(&self) -> Option<&str> {
        match self.kind {
            ScalarKind::Text => None,
            ScalarKind::Number | ScalarKind::Word => std::str::from_utf8(&self.content).ok(),
        }
    }

    /// As an integer: decimal, hexadecimal behind `0x`, octal behind `0`. `None` if it is none or does not fit.
    pub fn as_i64(&self) -> Option<i64> {
        let magnitude = i128::from(self.magnitude()?);
        i64::try_from(if self.negative { -magnitude } else { magnitude }).ok()
    }

    /// As an integer that is not negative, by the rules of [`Scalar::as_i64`].
    pub fn as_u64(&self) -> Option<u64> {
        self.magnitude().filter(|magnitude| !self.negative || *magnitude == 0)
    }

    fn magnitude(&self) -> Option<u64> {
        let digits = self.bare()?;
        if let Some(hexadecimal) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
            return parse_digits(hexadecimal, 16);
        }
        match digits.strip_prefix('0') {
            Some(octal) if !octal.is_empty() => parse_digits(octal, 8),
            _ => parse_digits(digits, 10),
        }
    }

    /// As a double: an integer, a decimal fraction with or without exponent and trailing `f`, `inf` or `nan`.
    /// Numbers that are too large are infinite.
    pub fn as_f64(&self) -> Option<f64> {
        self.float(str::parse)
    }

    /// As a float, rounded once from the written number, by the rules of [`Scalar::as_f64`].
    pub fn as_f32(&self) -> Option<f32> {
        self.float(str::parse)
    }

    fn float<T>(&self, parse: fn(&str) -> Result<T, std::num::ParseFloatError>) -> Option<T> {
        let sign = if self.negative { "-" } else { "" };
        let spelled = self.bare()?.to_ascii_lowercase();
        if self.kind == ScalarKind::Word {
            let word = match spelled.as_str() {
                "inf" | "inff" | "infinity" | "infinityf" => "inf",
                "nan" | "nanf" => "nan",
                _ => return None,
            };
            return parse(&format!("{sign}{word}")).ok();
        }
        if let Some(integer) = self.magnitude() {
            return parse(&format!("{sign}{integer}")).ok();
        }
        let decimal = spelled.strip_suffix('f').unwrap_or(&spelled);
        let is_decimal = decimal.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'+' | b'-'));
        if is_decimal { parse(&format!("{sign}{decimal}")).ok() } else { None }
    }

    /// As a truth value: `true`, `false`, `t`, `f`, `1` or `0`, also capitalized or quoted.
    pub fn as_bool(&self) -> Option<bool> {
        match self.as_str()? {
            "true" | "True" | "t" | "1" => Some(true),
            "false" | "False" | "f" | "0" => Some(false),
            _ => None,
        }
    }

    /// Whether it is a number or word that could stand as a value: a sign goes with numbers, `inf` and `nan` only.
    pub(super) fn is_well_formed(&self) -> bool {
        match self.kind {
            ScalarKind::Number => self.magnitude().is_some() || self.as_f64().is_some(),
            ScalarKind::Word => !self.negative || self.as_f64().is_some(),
            ScalarKind::Text => !self.negative,
        }
    }
}

/// As it is written, without quotes and escapes.
impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.negative { "-" } else { "" };
        write!(f, "{sign}{}", String::from_utf8_lossy(&self.content))
    }
}

/// Digits alone: `from_str_radix` would accept a sign.
fn parse_digits(digits: &str, base: u32) -> Option<u64> {
    let only_digits = digits.bytes().all(|byte| char::from(byte).is_digit(base));
    only_digits.then(|| u64::from_str_radix(digits, base).ok()).flatten()
}
