//! How much of anything is accepted from a file. Every size that an input
//! declares passes through here before memory or stack is spent on it.

use thiserror::Error;

/// Upper bounds on what a document may demand.
///
/// The defaults admit every real model and keep the index of a hostile file
/// below 64 MiB per message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest file that is read, in bytes.
    pub max_file_bytes: u64,
    /// Deepest message or group, the outermost message being at depth 0.
    pub max_nesting: usize,
    /// Most fields indexed in a single message, those of nested messages not counted.
    pub max_fields: usize,
    /// Most parts of a file that are kept one by one in some hundreds of bytes each, such as the nodes of a graph, the
    /// layers of a network or the fields of a text.
    pub max_items: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_file_bytes: 8 << 30, max_nesting: 100, max_fields: 2 << 20, max_items: 1 << 17 }
    }
}

impl Limits {
    /// Accepts a file of `bytes` bytes, or says that it is too large.
    pub fn check_file_bytes(&self, bytes: u64) -> Result<(), LimitExceeded> {
        let limit = self.max_file_bytes;
        if bytes > limit {
            return Err(LimitExceeded::FileBytes { bytes, limit });
        }
        Ok(())
    }

    /// Accepts a message or group at `depth`, or says that it is too deep.
    pub fn check_nesting(&self, depth: usize) -> Result<(), LimitExceeded> {
        let limit = self.max_nesting;
        if depth > limit {
            return Err(LimitExceeded::Nesting { limit });
        }
        Ok(())
    }

    /// Accepts a message of `fields` fields, or says that there are too many.
    pub fn check_fields(&self, fields: usize) -> Result<(), LimitExceeded> {
        let limit = self.max_fields;
        if fields > limit {
            return Err(LimitExceeded::Fields { limit });
        }
        Ok(())
    }

    /// Accepts a file of `items` parts, or says that there are too many; `what` names them, in the plural.
    pub fn check_items(&self, items: usize, what: &'static str) -> Result<(), LimitExceeded> {
        let limit = self.max_items;
        if items > limit {
            return Err(LimitExceeded::Items { what, limit });
        }
        Ok(())
    }
}

/// A bound of [`Limits`] that the input does not keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LimitExceeded {
    /// The file is larger than [`Limits::max_file_bytes`].
    #[error("the file has {bytes} bytes, more than the limit of {limit}")]
    FileBytes {
        /// Size of the file.
        bytes: u64,
        /// The bound.
        limit: u64,
    },
    /// Messages are nested deeper than [`Limits::max_nesting`].
    #[error("messages are nested more than {limit} levels deep")]
    Nesting {
        /// The bound.
        limit: usize,
    },
    /// A file has more parts of a kind than [`Limits::max_items`].
    #[error("there are more than {limit} {what}")]
    Items {
        /// The parts, in the plural.
        what: &'static str,
        /// The bound.
        limit: usize,
    },
    /// A message has more fields than [`Limits::max_fields`].
    #[error("the message has more than {limit} fields")]
    Fields {
        /// The bound.
        limit: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_the_last_accepted_value() {
        let limits = Limits { max_file_bytes: 10, max_nesting: 3, max_fields: 5, max_items: 7 };
        assert_eq!(limits.check_file_bytes(10), Ok(()));
        assert_eq!(limits.check_file_bytes(11), Err(LimitExceeded::FileBytes { bytes: 11, limit: 10 }));
        assert_eq!(limits.check_nesting(3), Ok(()));
        assert_eq!(limits.check_nesting(4), Err(LimitExceeded::Nesting { limit: 3 }));
        assert_eq!(limits.check_fields(5), Ok(()));
        assert_eq!(limits.check_fields(6), Err(LimitExceeded::Fields { limit: 5 }));
        assert_eq!(limits.check_items(7, "layers"), Ok(()));
        assert_eq!(limits.check_items(8, "layers").unwrap_err().to_string(), "there are more than 7 layers");
    }
}
