//! What can go wrong while a plan is improved.

use quantize_exec::ExecError;
use quantize_ir::{GraphError, TensorError};
use quantize_numerics::NumericsError;

/// A network that could not be run, or numbers that cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum OptimizeError {
    /// The network cannot be run.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// The graph is broken.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// Numbers of a layer cannot be quantized.
    #[error("node `{node}`: {source}")]
    Numbers {
        /// The layer.
        node: String,
        /// What is wrong with them.
        source: NumericsError,
    },
    /// A layer's parameters cannot be used.
    #[error("node `{node}`: {cause}")]
    Layer {
        /// The layer.
        node: String,
        /// What is wrong with it.
        cause: String,
    },
}

impl OptimizeError {
    pub(crate) fn layer(node: &str, cause: impl ToString) -> Self {
        Self::Layer { node: node.to_owned(), cause: cause.to_string() }
    }

    pub(crate) fn numbers(node: &str) -> impl Fn(NumericsError) -> Self + '_ {
        |source| Self::Numbers { node: node.to_owned(), source }
    }
}

impl From<TensorError> for OptimizeError {
    fn from(error: TensorError) -> Self {
        Self::Graph(error.into())
    }
}
