//! Edits passes propose. A pass reads the graph and returns patches; the driver applies them.

use crate::graph::{Constant, Node, NodeId, ValueId};
use crate::op::Op;
use crate::tensor::Tensor;

/// A group of edits that belong together.
#[derive(Clone, Debug)]
pub struct Patch {
    /// Pass that proposes it.
    pub pass: &'static str,
    /// Why, for the log, e.g. "`bn1` folds into `conv1`".
    pub because: String,
    /// What to do, in order.
    pub edits: Vec<PatchEdit>,
}

/// One edit.
#[derive(Clone, Debug)]
pub enum PatchEdit {
    /// The value's elements are known; its producer stays where it is.
    Annotate {
        /// The value.
        value: ValueId,
        /// Its elements.
        constant: Constant,
    },
    /// The node computes something else, from other operands, into other values.
    Rewire {
        /// The node.
        node: NodeId,
        /// Its new operator.
        op: Op,
        /// Its new operands.
        inputs: Vec<Operand>,
        /// Its new results.
        outputs: Vec<Option<ValueId>>,
    },
    /// A new node of one result stands between its first operand and some readers of that.
    Insert {
        /// Its name.
        name: String,
        /// Its operator.
        op: Op,
        /// Its first operand.
        from: ValueId,
        /// Its other operands.
        others: Vec<Operand>,
        /// Name of its result.
        output: String,
        /// Nodes and input slots that read `from` so far, and then the result.
        readers: Vec<(NodeId, usize)>,
    },
    /// The node goes.
    Remove {
        /// The node.
        node: NodeId,
    },
}

/// An operand a patch gives a node.
#[derive(Clone, Debug)]
pub enum Operand {
    /// An optional operand left out.
    Absent,
    /// A value of the graph.
    Value(ValueId),
    /// A constant the pass computed.
    Constant {
        /// Its name.
        name: String,
        /// Its elements.
        tensor: Tensor,
    },
}

/// Takes a patch back: what stood in the graph where the patch changed it.
#[derive(Debug)]
pub struct Reversal {
    /// Nodes there were; later ones are of the patch.
    pub(crate) nodes: usize,
    /// Values there were; later ones are of the patch.
    pub(crate) values: usize,
    /// What each edit replaced, in the order of the edits.
    pub(crate) befores: Vec<Before>,
}

/// What one edit replaced.
#[derive(Debug)]
pub(crate) enum Before {
    /// What was known of a value's elements.
    Constant { value: ValueId, constant: Option<Constant> },
    /// A node.
    Node { id: NodeId, node: Box<Node> },
}
