//! A place in a text that is read from front to back: white space, comments, words, numbers and strings.

use super::fault::{TextError, TextFault};
use std::ops::Range;

/// Characters of a message that quotes what was found.
const QUOTED: usize = 20;

/// A place in a text.
pub(super) struct Cursor<'a> {
    text: &'a [u8],
    position: usize,
}

impl<'a> Cursor<'a> {
    /// The first thing of a text, behind its byte order mark.
    pub(super) fn new(text: &'a [u8]) -> Self {
        let position = if text.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
        let mut cursor = Self { text, position };
        cursor.skip_space();
        cursor
    }

    pub(super) fn position(&self) -> usize {
        self.position
    }

    pub(super) fn at_end(&self) -> bool {
        self.position >= self.text.len()
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.text.get(self.position).copied()
    }

    /// The text of a range, as far as it is UTF-8.
    pub(super) fn slice(&self, range: Range<usize>) -> String {
        String::from_utf8_lossy(self.text.get(range).unwrap_or_default()).into_owned()
    }

    /// Moves past white space and comments.
    fn skip_space(&mut self) {
        while let Some(byte) = self.peek() {
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' | 0x0b | 0x0c => self.position += 1,
                b'#' => self.skip_while(|byte| byte != b'\n'),
                _ => break,
            }
        }
    }

    fn skip_while(&mut self, wanted: impl Fn(u8) -> bool) {
        while self.peek().is_some_and(&wanted) {
            self.position += 1;
        }
    }

    /// Moves past `byte` and the space behind it, if it stands here.
    pub(super) fn eat(&mut self, byte: u8) -> bool {
        let here = self.peek() == Some(byte);
        if here {
            self.position += 1;
            self.skip_space();
        }
        here
    }

    /// A word of letters, digits and underscores, and where it stands.
    pub(super) fn word(&mut self) -> Option<Range<usize>> {
        let start = self.position;
        self.peek().filter(|byte| is_word_start(*byte))?;
        self.skip_while(is_word);
        Some(self.ended(start))
    }

    /// A number without its sign, and where it stands; whether it is well formed is not looked at.
    pub(super) fn number(&mut self) -> Option<Range<usize>> {
        let start = self.position;
        self.peek().filter(|byte| byte.is_ascii_digit() || *byte == b'.')?;
        while let Some(byte) = self.peek() {
            let after_exponent = self.position > start && self.text.get(self.position - 1).is_some_and(is_exponent);
            let signed = matches!(byte, b'+' | b'-') && after_exponent && !self.is_hexadecimal(start);
            if !(is_word(byte) || byte == b'.' || signed) {
                break;
            }
            self.position += 1;
        }
        Some(self.ended(start))
    }

    fn is_hexadecimal(&self, start: usize) -> bool {
        matches!(self.text.get(start..start + 2), Some([b'0', b'x' | b'X']))
    }

    /// Everything up to the closing bracket of an extension's name, brackets included.
    pub(super) fn bracketed_name(&mut self) -> Option<Range<usize>> {
        let start = self.position;
        self.peek().filter(|byte| *byte == b'[')?;
        self.position += 1;
        self.skip_while(|byte| is_word(byte) || matches!(byte, b'.' | b'/' | b'-'));
        if self.peek() == Some(b']') && self.position > start + 1 {
            self.position += 1;
            return Some(self.ended(start));
        }
        self.position = start;
        None
    }

    fn ended(&mut self, start: usize) -> Range<usize> {
        let range = start..self.position;
        self.skip_space();
        range
    }

    /// A string in single or double quotes: where it stands; its bytes go to `out`.
    pub(super) fn string(&mut self, out: &mut Vec<u8>) -> Result<Option<Range<usize>>, TextError> {
        let start = self.position;
        let Some(quote @ (b'"' | b'\'')) = self.peek() else { return Ok(None) };
        self.position += 1;
        loop {
            match self.next() {
                None | Some(b'\n') => return Err(TextError::at(self.text, start, TextFault::UnclosedString)),
                Some(b'\\') => self.escape(out)?,
                Some(byte) if byte == quote => return Ok(Some(self.ended(start))),
                Some(byte) => out.push(byte),
            }
        }
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.position += 1;
        Some(byte)
    }

    /// What stands behind a backslash.
    fn escape(&mut self, out: &mut Vec<u8>) -> Result<(), TextError> {
        let start = self.position;
        let simple = match self.next() {
            Some(b'a') => 0x07,
            Some(b'b') => 0x08,
            Some(b'f') => 0x0c,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'v') => 0x0b,
            Some(byte @ (b'\\' | b'\'' | b'"' | b'?')) => byte,
            Some(b'0'..=b'7') => {
                self.position = start;
                self.digits(8, 3).and_then(|code| u8::try_from(code).ok()).ok_or_else(|| self.no_escape(start))?
            }
            Some(b'x' | b'X') => {
                self.digits(16, 2).and_then(|code| u8::try_from(code).ok()).ok_or_else(|| self.no_escape(start))?
            }
            Some(byte @ (b'u' | b'U')) => {
                let length = if byte == b'u' { 4 } else { 8 };
                let code = self.digits(16, length).filter(|_| self.position == start + 1 + length);
                let character = code.and_then(char::from_u32).ok_or_else(|| self.no_escape(start))?;
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            _ => return Err(self.no_escape(start)),
        };
        out.push(simple);
        Ok(())
    }

    /// The number that up to `most` digits stand for, if there is one.
    fn digits(&mut self, base: u32, most: usize) -> Option<u32> {
        let digit = |cursor: &Self| cursor.peek().and_then(|byte| char::from(byte).to_digit(base));
        let mut number = digit(self)?;
        self.position += 1;
        for _ in 1..most {
            let Some(next) = digit(self) else { break };
            number = number.checked_mul(base)?.checked_add(next)?;
            self.position += 1;
        }
        Some(number)
    }

    fn no_escape(&self, start: usize) -> TextError {
        let end = self.position.max(start + 1).min(self.text.len());
        TextError::at(self.text, start.saturating_sub(1), TextFault::Escape { found: self.slice(start..end) })
    }

    /// The error that something else was expected here.
    pub(super) fn unexpected(&self, expected: &'static str) -> TextError {
        self.unexpected_at(self.position, expected)
    }

    /// The error that something else was expected at `offset`.
    pub(super) fn unexpected_at(&self, offset: usize, expected: &'static str) -> TextError {
        TextError::at(self.text, offset, TextFault::Unexpected { found: self.describe(offset), expected })
    }

    /// What stands at `offset`, for messages.
    fn describe(&self, offset: usize) -> String {
        let rest = self.text.get(offset..).unwrap_or_default();
        let Some(first) = rest.first().copied() else { return "the end of the text".into() };
        if first.is_ascii_control() {
            return format!("the byte {first:#04x}");
        }
        let belongs = |byte: &u8| is_word(*byte) || matches!(byte, b'.' | b'+' | b'-') || !byte.is_ascii();
        let length = if belongs(&first) { rest.iter().take_while(|byte| belongs(byte)).count() } else { 1 };
        let word: String = self.slice(offset..offset + length).chars().take(QUOTED).collect();
        format!("`{word}`")
    }

    pub(super) fn error(&self, offset: usize, fault: TextFault) -> TextError {
        TextError::at(self.text, offset, fault)
    }

    pub(super) fn line(&self, offset: usize) -> usize {
        super::fault::place(self.text, offset).0
    }
}

fn is_word_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_'
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn is_exponent(byte: &u8) -> bool {
    matches!(byte, b'e' | b'E')
}
