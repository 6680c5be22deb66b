//! What can be wrong with an ONNX model, where, and what to do about it.

use quantize_document::{DocumentError, ExternalError, Location};
use quantize_ir::{GraphError, TensorError};
use std::fmt;
use std::path::PathBuf;

/// Why an ONNX model cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OnnxError {
    /// The file cannot be read, or its bytes are not what they should be.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// A message inside the file does not decode.
    #[error("{location}: {cause}")]
    Decode {
        /// Where.
        location: Box<Location>,
        /// What the decoder says.
        cause: prost::DecodeError,
    },
    /// The model contradicts itself or misses something.
    #[error("{location}: {cause}")]
    Invalid {
        /// Where.
        location: Box<Location>,
        /// What is wrong.
        cause: String,
        /// What to do about it, if anything.
        hint: Option<&'static str>,
    },
    /// A tensor's elements stand in a file that cannot be, or may not be, read.
    #[error("{location}: external data: {cause}")]
    External {
        /// Where the reference stands.
        location: Box<Location>,
        /// What is wrong with it.
        cause: Box<ExternalError>,
    },
    /// The model is valid but needs something that is not supported.
    #[error("{location}: {cause}")]
    Unsupported {
        /// Where.
        location: Box<Location>,
        /// What it needs.
        cause: String,
        /// What to do about it, if anything.
        hint: Option<&'static str>,
    },
    /// The graph is broken.
    #[error("{}: {source}", .file.display())]
    Graph {
        /// The file, or the name of a graph that stands in none.
        file: PathBuf,
        /// What is wrong.
        source: GraphError,
    },
    /// A tensor to be written does not hold together.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// Parts of a graph cannot be written in ONNX.
    #[error("{graph} cannot be written in ONNX: {}", .refusals.iter().map(Refusal::to_string).collect::<Vec<_>>().join("; "))]
    Inexpressible {
        /// Name of the graph.
        graph: String,
        /// All of them, nodes in topological order.
        refusals: Vec<Refusal>,
    },
    /// An operator cannot be written in ONNX.
    #[error("node `{node}`: {cause}")]
    Unwritable {
        /// The node.
        node: String,
        /// Why.
        cause: String,
    },
}

impl OnnxError {
    /// What to do about it, where something can be done.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Document(error) => error.hint(),
            Self::Decode { .. } => {
                Some("the file may be cut off, damaged, or not an ONNX model; export or download it again".into())
            }
            Self::Invalid { hint, .. } | Self::Unsupported { hint, .. } => hint.map(str::to_owned),
            Self::External { cause, .. } => Some(cause.hint().to_owned()),
            Self::Graph { source: GraphError::Cycle { .. }, .. } => {
                Some("the exporter wrote a graph that cannot be run; check it with the ONNX checker".into())
            }
            _ => None,
        }
    }
}

/// A part of a graph that cannot be written in ONNX.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The part, with its kind, e.g. "node `conv1` (Conv)".
    pub item: String,
    /// Why not.
    pub cause: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.item, self.cause)
    }
}
