//! The protocol buffers text format, read without a schema: a tree of fields with the bytes each part came from, and
//! edits over the source text.
//!
//! Names and values are kept as they are written; what type a value has is decided by whoever asks for it. What the
//! fields mean is the business of the format crates.

mod cursor;
mod fault;
mod message;
mod parse;
mod scalar;
mod splice;
#[cfg(test)]
mod tests;

pub use fault::{TextError, TextFault};
pub use message::{Field, Message, Value};
pub use scalar::{Scalar, ScalarKind};
pub use splice::TextSplice;

use crate::error::DocumentError;
use crate::limits::Limits;
use crate::source::SourceFile;

/// A text file in the protocol buffers text format and the tree of its fields.
#[derive(Debug, Clone)]
pub struct TextDocument {
    source: SourceFile,
    root: Message,
}

impl TextDocument {
    /// Parses a file.
    ///
    /// A byte order mark, any line ends and comments of any encoding are accepted. [`Limits::max_items`] bounds the
    /// fields and the values of the whole file, [`Limits::max_nesting`] the depth of its messages.
    ///
    /// # Errors
    /// [`DocumentError::Text`] naming line and column, what was found there and what was expected.
    pub fn parse(source: SourceFile, limits: &Limits) -> Result<Self, DocumentError> {
        match parse::parse(source.bytes(), limits) {
            Ok(root) => Ok(Self { source, root }),
            Err(cause) => Err(DocumentError::Text { path: source.path().to_path_buf(), source: cause }),
        }
    }

    /// The file.
    pub fn source(&self) -> &SourceFile {
        &self.source
    }

    /// The fields of the file.
    pub fn root(&self) -> &Message {
        &self.root
    }

    /// Line of the byte at `offset`, counted from 1.
    pub fn line(&self, offset: usize) -> usize {
        fault::place(self.source.bytes(), offset).0
    }

    /// A copy of the text without edits.
    pub fn splice(&self) -> TextSplice<'_> {
        TextSplice::new(self.source.bytes())
    }
}
