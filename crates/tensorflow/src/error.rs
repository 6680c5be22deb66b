//! What can be wrong with a TensorFlow graph, where, and what to do about it.

use quantize_document::DocumentError;
use std::fmt;
use std::path::{Path, PathBuf};

/// Where in a graph something is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Location {
    /// The file; functions on graphs do not know it.
    pub file: Option<PathBuf>,
    /// Line in a text file, counted from 1.
    pub line: Option<usize>,
    /// The node or other item, with its kind, e.g. "node `conv1`".
    pub item: Option<String>,
    /// The attribute or input of that item.
    pub field: Option<String>,
}

impl Location {
    /// A whole file.
    pub(crate) fn file(path: &Path) -> Self {
        Self { file: Some(path.to_owned()), ..Self::default() }
    }

    /// A node of a graph.
    pub(crate) fn node(name: &str) -> Self {
        Self { item: Some(format!("node `{name}`")), ..Self::default() }
    }

    /// An attribute of a node.
    pub(crate) fn attribute(node: &str, attribute: &str) -> Self {
        Self { field: Some(format!("attribute `{attribute}`")), ..Self::node(node) }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.as_ref().map(|file| file.display().to_string());
        let line = self.line.map(|line| format!("line {line}"));
        let place = file.into_iter().chain(line).collect::<Vec<_>>().join(", ");
        let item = self.item.iter().chain(&self.field).cloned().collect::<Vec<_>>().join(", ");
        let parts: Vec<String> = [place, item].into_iter().filter(|part| !part.is_empty()).collect();
        f.write_str(&parts.join(": "))
    }
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

/// Something that was noticed and does not stop the work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The node it concerns, if any.
    pub node: Option<String>,
    /// What was noticed.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.node {
            Some(node) => write!(f, "node `{node}`: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}
