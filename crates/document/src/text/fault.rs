//! What is wrong with a text, and where.

use crate::error::ErrorKind;
use crate::limits::LimitExceeded;
use thiserror::Error;

/// Why a text is not in the text format, and where.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {line}, column {column}: {fault}")]
pub struct TextError {
    /// Line, counted from 1.
    pub line: usize,
    /// Column in characters, counted from 1.
    pub column: usize,
    /// What is wrong there.
    pub fault: TextFault,
}

impl TextError {
    /// The error `fault` at byte `offset` of `text`.
    pub(super) fn at(text: &[u8], offset: usize, fault: TextFault) -> Self {
        let (line, column) = place(text, offset);
        Self { line, column, fault }
    }

    /// Who has to act on the error.
    pub fn kind(&self) -> ErrorKind {
        match self.fault {
            TextFault::Limit(_) => ErrorKind::Limits,
            _ => ErrorKind::Input,
        }
    }
}

/// What is wrong with a text.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TextFault {
    /// Something else should stand here.
    #[error("found {found}, expected {expected}")]
    Unexpected {
        /// What stands there, quoted or described.
        found: String,
        /// What should.
        expected: &'static str,
    },
    /// The text ends inside a message.
    #[error("the text ends inside `{name}`, which begins at line {line}; expected `{close}`")]
    Unclosed {
        /// Field that holds the message.
        name: String,
        /// Line of the field.
        line: usize,
        /// The bracket that is missing.
        close: char,
    },
    /// A string is not closed on its line.
    #[error("the string is not closed on its line")]
    UnclosedString,
    /// A backslash is followed by something undefined.
    #[error("`\\{found}` is no escape sequence")]
    Escape {
        /// What follows the backslash.
        found: String,
    },
    /// A bound of [`Limits`](crate::limits::Limits) is not kept.
    #[error(transparent)]
    Limit(#[from] LimitExceeded),
}

/// Line and column of the byte at `offset`, both counted from 1; columns count characters.
pub(super) fn place(text: &[u8], offset: usize) -> (usize, usize) {
    let before = text.get(..offset.min(text.len())).unwrap_or_default();
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let column = before.get(start..).unwrap_or_default();
    // Bytes that continue a character of UTF-8 are no column of their own.
    (line, column.iter().filter(|byte| **byte & 0xc0 != 0x80).count() + 1)
}
