//! What is wrong with bytes that are no valid message, and where.

use std::fmt;

use thiserror::Error;

use crate::error::ErrorKind;
use crate::limits::LimitExceeded;

/// Why bytes are not a valid message, and where.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("at byte {offset}, reading {reading}: {fault}")]
pub struct WireError {
    /// Offset in the document.
    pub offset: usize,
    /// What was being read there.
    pub reading: Reading,
    /// What is wrong with it.
    pub fault: WireFault,
}

impl WireError {
    /// Who has to act on the error.
    pub fn kind(&self) -> ErrorKind {
        match self.fault {
            WireFault::Limit(_) => ErrorKind::Limits,
            WireFault::OutsideDocument { .. } => ErrorKind::Bug,
            _ => ErrorKind::Input,
        }
    }
}

/// A part of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// The message as a whole.
    Message,
    /// The tag of a field.
    Tag,
    /// The varint of the field with this number.
    Value(u32),
    /// The length of the field with this number.
    Length(u32),
    /// The delimited bytes of the field with this number.
    Contents(u32),
}

impl fmt::Display for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message => write!(f, "a message"),
            Self::Tag => write!(f, "the tag of a field"),
            Self::Value(number) => write!(f, "the value of field {number}"),
            Self::Length(number) => write!(f, "the length of field {number}"),
            Self::Contents(number) => write!(f, "the contents of field {number}"),
        }
    }
}

/// What is wrong with the bytes of a message.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum WireFault {
    /// The message ends too early.
    #[error("bytes needed: {needed}, left: {left}")]
    Truncated {
        /// Bytes that should follow.
        needed: u64,
        /// Bytes that do.
        left: usize,
    },
    /// A varint does not fit into 64 bits.
    #[error("the number does not fit into 64 bits")]
    OverlongVarint,
    /// A field number is 0 or above [`MAX_FIELD_NUMBER`](super::MAX_FIELD_NUMBER).
    #[error("field number {number} is not within 1..=536870911")]
    FieldNumber {
        /// The number found.
        number: u64,
    },
    /// A tag has one of the two undefined wire types.
    #[error("field {number} has the undefined wire type {code}")]
    WireType {
        /// Field number of the tag.
        number: u32,
        /// The wire type found, 6 or 7.
        code: u64,
    },
    /// A group is closed that is not the innermost open one.
    #[error("group {number} is closed but was not opened")]
    UnexpectedEndGroup {
        /// Field number of the closing tag.
        number: u32,
    },
    /// A message was expected in a field that is not length-delimited.
    #[error("the field is not length-delimited, so it holds no message")]
    NotAMessage,
    /// The message ends inside a group.
    #[error("the group is not closed")]
    UnclosedGroup,
    /// The range given for the message is not inside the document.
    #[error("the message would end at byte {end} of {length}")]
    OutsideDocument {
        /// End of the range.
        end: usize,
        /// Bytes there are.
        length: usize,
    },
    /// A bound of [`Limits`](crate::limits::Limits) is not kept.
    #[error(transparent)]
    Limit(#[from] LimitExceeded),
}
