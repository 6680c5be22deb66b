//! Errors of compiling and running a graph.

use quantize_ir::{GraphError, ShapeError, TensorError};
use quantize_kernels::KernelError;

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
    /// An operand has not one element for each channel.
    #[error("operand {slot}{} has {found} elements for {channels} channels", in_parentheses(.name))]
    Channels {
        /// The operand's slot.
        slot: usize,
        /// Name of the operand's value, where it has one.
        name: Option<String>,
        /// Number of its elements.
        found: usize,
        /// Number of channels.
        channels: usize,
    },
    /// A kernel refused its operands.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// A constant operand cannot be read.
    #[error(transparent)]
    Constant(#[from] GraphError),
    /// The node asks for a result the operator does not have.
    #[error("result {slot} is asked for, the operator has {results}")]
    Result {
        /// The slot asked for.
        slot: usize,
        /// Number of results.
        results: usize,
    },
    /// The operator exists, but not in this form.
    #[error("{0} is not supported by the executor")]
    Unsupported(String),
}

impl OpError {
    /// A shape error in words.
    pub fn shape(message: impl Into<String>) -> Self {
        Self::Shape(ShapeError::Invalid(message.into()))
    }

    /// With the name of the operand it is about, of which operators know the slot only.
    pub(crate) fn naming(mut self, name_of: impl Fn(usize) -> Option<String>) -> Self {
        if let Self::Channels { slot, name, .. } = &mut self {
            *name = name_of(*slot);
        }
        self
    }
}

fn in_parentheses(name: &Option<String>) -> String {
    name.as_ref().map(|name| format!(" (`{name}`)")).unwrap_or_default()
}

/// Nodes a message names before it only counts them.
const NAMED: usize = 5;

fn some_of(nodes: &[(String, String)]) -> String {
    let mut parts: Vec<String> = nodes.iter().take(NAMED).map(|(name, op)| format!("node `{name}` ({op})")).collect();
    if nodes.len() > NAMED {
        parts.push(format!("{} more", nodes.len() - NAMED));
    }
    parts.join(", ")
}

/// Why a graph could not be compiled or run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExecError {
    /// Operators without shared semantics stand between the inputs and what is asked for.
    #[error("cannot execute {}", some_of(.nodes))]
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
    /// A value is fed that has its data already.
    #[error("`{name}` cannot be fed: it is computed or constant")]
    NotAnInput {
        /// The value.
        name: String,
    },
    /// An operand of a node evaluated on its own is not constant.
    #[error("node `{node}`: operand {slot} is not constant")]
    NotConstant {
        /// Label of the node.
        node: String,
        /// Slot of the operand.
        slot: usize,
    },
    /// An entry of a quantization plan does not fit what it is for.
    #[error("quantization of `{value}`: {reason}")]
    Plan {
        /// Name of the value or label of the node.
        value: String,
        /// What does not fit.
        reason: String,
    },
    /// The graph itself is broken.
    #[error(transparent)]
    Graph(#[from] GraphError),
}
