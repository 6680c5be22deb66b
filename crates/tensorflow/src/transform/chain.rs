//! Chains of nodes, each read by the next one alone, with constants that nobody else reads: what folds match.

use super::Setting;
use super::batch_norm::{channels, has_one_reader};
use crate::error::TensorflowError;
use crate::graph::GraphIndex;
use crate::node::{NodeDef, Port};
use quantize_document::Location;
use quantize_ir::Tensor;

/// Who reads each node, by its position.
pub(super) type Readers = Vec<Vec<(usize, Port)>>;

/// The node whose first output `node` reads in `slot`.
pub(super) fn operand<'g>(index: &GraphIndex<'g>, node: &NodeDef, slot: usize) -> Option<&'g NodeDef> {
    let input = node.data_inputs().nth(slot).filter(|input| input.port == Port::Data(0))?;
    index.node(input.node)
}

/// The same, if it is of this operator.
pub(super) fn operand_of<'g>(index: &GraphIndex<'g>, node: &NodeDef, slot: usize, op: &str) -> Option<&'g NodeDef> {
    operand(index, node, slot).filter(|found| found.op() == op)
}

/// The first of `nodes` that has other readers than one, or is an end of the graph, in words.
pub(super) fn shared<'g>(
    index: &GraphIndex<'g>,
    readers: &Readers,
    setting: &Setting<'_>,
    nodes: impl IntoIterator<Item = &'g NodeDef>,
) -> Option<String> {
    let mut nodes = nodes.into_iter();
    let found = nodes.find(|node| !has_one_reader(index, readers, setting, node))?;
    Some(format!("`{}` has other readers, or is an input or output of the graph", found.name()))
}

/// Whether channels are the last axis of what a node computes.
pub(super) fn has_channels_last(node: &NodeDef) -> Result<bool, TensorflowError> {
    Ok(node.text("data_format")?.is_none_or(|format| format == "NHWC"))
}

/// The elements of a constant in single precision.
///
/// # Errors
/// If it has none, or others.
pub(super) fn numbers(constant: &NodeDef) -> Result<Vec<f32>, TensorflowError> {
    let about = |cause: String| TensorflowError::invalid(Location::node(constant.name()), cause);
    let value = constant.constant_value()?.ok_or_else(|| about("it is no constant".into()))?;
    value.into_vec().map_err(|error| about(error.to_string()))
}

/// The weights of a convolution, with its number of output channels.
///
/// # Errors
/// If they have another shape than weights of the operator.
pub(super) fn weights_of(conv: &NodeDef, weights: &NodeDef) -> Result<(Tensor, usize), TensorflowError> {
    let about = |cause: &str| TensorflowError::invalid(Location::node(weights.name()), cause);
    let value = weights.constant_value()?.ok_or_else(|| about("it is no constant"))?;
    let channels = channels(conv.op(), value.shape()).ok_or_else(|| about("its shape is not one of weights"))?;
    Ok((value, channels))
}
