//! What a target can do with each operator: the contract between a format crate and the passes that choose.

use crate::graph::{Graph, NodeId};
use crate::plan::KeepReason;
use quantize_numerics::QuantType;

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
    /// Stays as it is.
    Keep(KeepReason),
}

/// A target's rules, one implementation for each output style of a format.
pub trait Recipe {
    /// What the target can do with `node`.
    fn support(&self, graph: &Graph, node: NodeId) -> Support;

    /// Whether `node`, quantized, may leave its result real and still run on integers.
    fn allows_real_result(&self, graph: &Graph, node: NodeId) -> bool;

    /// Axis of the output channels of the constant operand in `slot`, if it may have a scale for each; `None` if it
    /// must have one scale.
    fn channel_axis(&self, graph: &Graph, node: NodeId, slot: usize) -> Option<usize>;

    /// Grid of activations.
    fn activation_type(&self) -> QuantType;

    /// Whether activation grids are symmetric around zero.
    fn symmetric_activations(&self) -> bool;
}
