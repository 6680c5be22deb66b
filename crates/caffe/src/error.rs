//! What can be wrong with a Caffe network, where, and what to do about it.

use quantize_document::{DocumentError, Location};
use quantize_ir::GraphError;
use std::path::PathBuf;

/// Why a Caffe network cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaffeError {
    /// A file cannot be read, or its contents are not what they should be.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// The network contradicts itself, its weights or the request.
    #[error("{location}: {cause}")]
    Invalid {
        /// Where.
        location: Box<Location>,
        /// What is wrong.
        cause: String,
        /// What to do about it, if anything.
        hint: Option<&'static str>,
    },
    /// The network is valid but needs something that is not supported.
    #[error("{location}: {cause}")]
    Unsupported {
        /// Where.
        location: Box<Location>,
        /// What it needs.
        cause: String,
        /// What to do about it, if anything.
        hint: Option<&'static str>,
    },
    /// A quantization file is no JSON of the expected form.
    #[error("{}: {source}", .file.display())]
    QuantizationText {
        /// The file.
        file: PathBuf,
        /// What is wrong, with line and column.
        source: serde_json::Error,
    },
    /// A quantization file makes no sense, or does not fit the network.
    #[error("{}{}: {cause}", .file.display(), .entry.as_ref().map(|e| format!(", entry `{e}`")).unwrap_or_default())]
    Quantization {
        /// The file.
        file: PathBuf,
        /// Name of the entry, if it is one.
        entry: Option<String>,
        /// What is wrong.
        cause: String,
    },
    /// The graph is broken.
    #[error("{}: {source}", .file.display())]
    Graph {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        source: GraphError,
    },
}

impl CaffeError {
    /// What to do about it, where something can be done.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Document(error) => error.hint(),
            Self::Invalid { hint, .. } | Self::Unsupported { hint, .. } => hint.map(str::to_owned),
            Self::QuantizationText { .. } => {
                Some("the file is cut off or of another kind; write it again with `quantize caffe`".into())
            }
            Self::Quantization { .. } => Some("use a file that was made for this network".into()),
            Self::Graph { .. } => None,
        }
    }

    /// The error that a network contradicts itself.
    pub(crate) fn invalid(location: Location, cause: impl Into<String>) -> Self {
        Self::Invalid { location: Box::new(location), cause: cause.into(), hint: None }
    }

    /// The error that something is valid but not supported.
    pub(crate) fn unsupported(location: Location, cause: impl Into<String>) -> Self {
        Self::Unsupported { location: Box::new(location), cause: cause.into(), hint: None }
    }

    /// With what to do about it.
    pub(crate) fn with_hint(mut self, text: &'static str) -> Self {
        if let Self::Invalid { hint, .. } | Self::Unsupported { hint, .. } = &mut self {
            *hint = Some(text);
        }
        self
    }
}
