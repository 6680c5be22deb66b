//! What can be wrong with a TensorFlow graph, where, and what to do about it.

use quantize_document::{DocumentError, Location};
use std::path::Path;

/// The place of an attribute of a node.
pub(crate) fn attribute_of(node: &str, attribute: &str) -> Location {
    Location { field: Some(format!("attribute `{attribute}`")), ..Location::node(node) }
}

/// Why a TensorFlow graph cannot be read, changed or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TensorflowError {
    /// A file cannot be read or written, or its contents are not what they should be.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// The graph contradicts itself or the request.
    #[error("{}{cause}", prefix(.location))]
    Invalid {
        /// Where.
        location: Box<Location>,
        /// What is wrong.
        cause: String,
        /// What to do about it, if anything.
        hint: Option<String>,
    },
    /// The graph is valid but needs something that is not supported.
    #[error("{}{cause}", prefix(.location))]
    Unsupported {
        /// Where.
        location: Box<Location>,
        /// What it needs.
        cause: String,
        /// What to do about it, if anything.
        hint: Option<String>,
    },
}

/// A location in front of a message.
fn prefix(location: &Location) -> String {
    match location.to_string() {
        place if place.is_empty() => place,
        place => format!("{place}: "),
    }
}

impl TensorflowError {
    /// What to do about it, where something can be done.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Document(error) => error.hint(),
            Self::Invalid { hint, .. } | Self::Unsupported { hint, .. } => hint.clone(),
        }
    }

    /// The error that a graph contradicts itself or the request.
    pub(crate) fn invalid(location: Location, cause: impl Into<String>) -> Self {
        Self::Invalid { location: Box::new(location), cause: cause.into(), hint: None }
    }

    /// The error that something is valid but not supported.
    pub(crate) fn unsupported(location: Location, cause: impl Into<String>) -> Self {
        Self::Unsupported { location: Box::new(location), cause: cause.into(), hint: None }
    }

    /// With what to do about it.
    #[must_use]
    pub(crate) fn with_hint(mut self, text: impl Into<String>) -> Self {
        if let Self::Invalid { hint, .. } | Self::Unsupported { hint, .. } = &mut self {
            *hint = Some(text.into());
        }
        self
    }

    /// With the file that the graph came from, if the error names none.
    #[must_use]
    pub fn in_file(mut self, path: &Path) -> Self {
        if let Self::Invalid { location, .. } | Self::Unsupported { location, .. } = &mut self {
            location.file.get_or_insert_with(|| path.to_owned());
        }
        self
    }
}
