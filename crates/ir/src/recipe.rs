//! What a target can do with each operator: the contract between a format crate and the passes that choose.

use crate::dtype::DType;
use crate::graph::{Graph, Node, NodeId, ValueId};
use crate::op::Op;
use crate::op::behaviour::keeps_range;
use crate::plan::{Decision, KeepReason};
use crate::quant::Blocks;
use quantize_numerics::QuantType;
use std::collections::BTreeMap;

/// What an operand is to quantization.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperandRole {
    /// Real data that changes with the input.
    Activation,
    /// Weights, if constant; an activation otherwise.
    Weight {
        /// Axis of the output channels, negative from the end; `None` if the weight must have one scale.
        channel_axis: Option<i64>,
    },
    /// Added to the accumulator: 32-bit codes at scale `s_x * s_w`.
    Bias,
    /// Shapes, axes, indices, limits: never quantized.
    Config,
}

/// How a target treats one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Support {
    /// Worth quantizing for its own sake: operands get parameters even if they are real so far.
    Anchor,
    /// Quantized when an operand comes from a quantized node; its result gets its own parameters.
    Joins,
    /// As `Joins`, but its result has the parameters of its first operand.
    Carries,
    /// A bounded activation: vanishes into the saturation of its quantized producer, and is `Keep` after any other.
    Absorbed,
    /// An addition that vanishes into the sums of the quantized node that computes the operand in `slot`, if the other
    /// operand is there as codes and a bounded activation vanishes behind it; `Keep` otherwise.
    Accumulates {
        /// Slot of the operand that is added to before it is rounded.
        slot: usize,
    },
    /// Computes on reals, but its constant operand is stored as codes (weight-only quantization).
    WeightOnly,
    /// Stays as it is.
    Keep(KeepReason),
}

/// Which values around a node must have one set of parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ties {
    /// None: each value has its own.
    Free,
    /// The results take the parameters of the first operand, whose data alone decide them.
    Carried,
    /// The activation operands share; the result has its own.
    Operands,
    /// The activation operands and the result share, and the result's data alone decide.
    Joined,
    /// The activation operands and the result share, and all of them decide.
    Equal,
}

/// The integer grids of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grids {
    /// Activations.
    pub activation: QuantType,
    /// Whether activation grids are symmetric around zero.
    pub symmetric: bool,
    /// Weights.
    pub weight: QuantType,
    /// Whether biases are 32-bit codes of scale `s_x * s_w` in the plan. Where they are not, the runtime rounds them
    /// itself, and weight scales need not leave room for them.
    pub coded_bias: bool,
}

/// What keeps `node` as it is whatever the target: its results are known, nobody knows what it computes, or it computes
/// on something else than `float32`; an unknown type counts as that.
pub fn out_of_reach(graph: &Graph, node: &Node) -> Option<KeepReason> {
    if node.outputs.iter().flatten().all(|v| graph.value(*v).constant.is_some()) {
        return Some(KeepReason::Folded);
    }
    if let Op::Opaque(_) = node.op {
        return Some(KeepReason::Unknown);
    }
    if let Op::Ranged(_) = node.op {
        return Some(KeepReason::NotReal);
    }
    let is_real = |(slot, value): (usize, &Option<ValueId>)| {
        let config = matches!(node.op.operand_role(slot), OperandRole::Config);
        config || value.and_then(|v| graph.value(v).dtype).is_none_or(|dtype| dtype == DType::F32)
    };
    (!node.inputs.iter().enumerate().all(is_real)).then_some(KeepReason::NotReal)
}

/// A target's rules, one implementation for each output style of a format.
pub trait Recipe {
    /// What the target can do with `node`.
    fn support(&self, graph: &Graph, node: NodeId) -> Support;

    /// Whether `node` may vanish into the weights of the node before it.
    fn may_fold(&self, _graph: &Graph, _node: NodeId) -> bool {
        true
    }

    /// Whether zeros around an image may become part of the border of `node`, a convolution.
    fn takes_padding(&self, _graph: &Graph, _node: NodeId) -> bool {
        false
    }

    /// Whether what only leads to the network's results stays real; otherwise results are rounded like any value.
    fn results_stay_real(&self) -> bool {
        true
    }

    /// Whether `node`, quantized, may leave its result real and still run on integers.
    fn allows_real_result(&self, graph: &Graph, node: NodeId) -> bool;

    /// Whether `node`, quantized for its own sake, leaves its result real wherever no other such node reads the codes.
    fn prefers_real_result(&self, _graph: &Graph, _node: NodeId) -> bool {
        false
    }

    /// Whether a node that is not in the document may stand between `value` and some of its readers.
    fn may_insert_behind(&self, _graph: &Graph, _value: ValueId) -> bool {
        false
    }

    /// Which values around `node` share parameters.
    fn ties(&self, graph: &Graph, node: NodeId) -> Ties {
        let carries = graph.node(node).is_some_and(|n| keeps_range(graph, n));
        if carries { Ties::Carried } else { Ties::Free }
    }

    /// Axis of the output channels of the constant operand in `slot`, if it may have a scale for each; `None` if it
    /// must have one scale.
    fn channel_axis(&self, graph: &Graph, node: NodeId, slot: usize) -> Option<usize>;

    /// Blocks that each have a scale and a zero point in the constant operand in `slot`; `None` if channels have.
    fn weight_blocks(&self, _graph: &Graph, _node: NodeId, _slot: usize) -> Option<Blocks> {
        None
    }

    /// Grids of activations and weights.
    fn grids(&self) -> Grids;

    /// Whether codes and scales of weights, and biases, other than those that follow from the model reach the runtime
    /// for `node`, a layer.
    fn takes_corrections(&self, _graph: &Graph, _node: NodeId) -> bool {
        true
    }

    /// Grid of the activation `value`, and whether it is symmetric around zero, where nodes have these fates. Values that
    /// share parameters must have the same.
    fn activation_grid(
        &self,
        _graph: &Graph,
        _value: ValueId,
        _fates: &BTreeMap<NodeId, Decision>,
    ) -> (QuantType, bool) {
        let Grids { activation, symmetric, .. } = self.grids();
        (activation, symmetric)
    }

    /// Grid of an activation that [`Recipe::activation_grid`] is too coarse for, and whether it is symmetric around zero;
    /// `None` if the target has no finer one.
    fn wide_activation_grid(&self) -> Option<(QuantType, bool)> {
        None
    }
}
