//! Errors of compiling and running a graph.

use quantize_ir::{GraphError, ShapeError, TensorError};

/// Why one operator could not be evaluated on its operands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpError {
    /// A required operand is left out.
    #[error("operand {slot} is missing")]
    Missing {
        /// The operand's slot.
        slot: usize,
    },
    /// Operand shapes do not fit.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// An operand has the wrong element type or size.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// The operator exists, but not in this form.
    #[error("{0} is not supported by the executor")]
    Unsupported(String),
}

impl OpError {
    /// A shape error in words.
    pub fn shape(message: impl Into<String>) -> Self {
        Self::Shape(ShapeError::Invalid(message.into()))
    }
}

/// Why a graph could not be compiled or run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExecError {
    /// Operators without shared semantics stand between the inputs and what is asked for.
    #[error("cannot execute {}", .nodes.iter().map(|(name, op)| format!("node `{name}` ({op})")).collect::<Vec<_>>().join(", "))]
    Opaque {
        /// Label and operator of each such node.
        nodes: Vec<(String, String)>,
    },
    /// A node failed.
    #[error("node `{node}` ({op}): {cause}")]
    Node {
        /// Its label.
        node: String,
        /// Its operator.
        op: String,
        /// What went wrong.
        cause: OpError,
    },
    /// A value that must be fed has no data.
    #[error("input `{name}` is not fed")]
    NotFed {
        /// The value.
        name: String,
    },
    /// The graph itself is broken.
    #[error(transparent)]
    Graph(#[from] GraphError),
}
