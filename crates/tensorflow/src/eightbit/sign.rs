//! Tensors that are never negative, as far as the operators in front of them say.

use super::Rules;
use crate::error::TensorflowError;
use crate::graph::{GraphDef, GraphIndex};
use crate::node::{Input, NodeDef, Port};

/// For each node whether its first output is never negative: a `Relu`, a `Relu6`, or pools and concatenations of such.
/// A `Pad`, which adds zeros, is one by [`Rules::Sound`].
///
/// `order` is an order of execution.
///
/// # Errors
/// If an input names no node.
pub(super) fn non_negative(
    graph: &GraphDef,
    index: &GraphIndex<'_>,
    order: &[usize],
    rules: Rules,
) -> Result<Vec<bool>, TensorflowError> {
    let mut known = vec![false; graph.nodes().len()];
    for at in order {
        let Some(node) = graph.nodes().get(*at) else { continue };
        let is_known = |input: Input<'_>| {
            let producer = index.position(input.node).and_then(|at| known.get(at));
            input.port == Port::Data(0) && producer.copied().unwrap_or(false)
        };
        let sign = match node.op() {
            "Relu" | "Relu6" => true,
            "MaxPool" | "AvgPool" => node.data_inputs().next().is_some_and(is_known),
            "Pad" if rules == Rules::Sound => node.data_inputs().next().is_some_and(is_known),
            "ConcatV2" => joined(node).is_some_and(|mut parts| parts.all(is_known)),
            _ => false,
        };
        if let Some(flag) = known.get_mut(*at) {
            *flag = sign;
        }
    }
    Ok(known)
}

/// What a concatenation puts together; its last input is the axis.
pub(super) fn joined(node: &NodeDef) -> Option<impl Iterator<Item = Input<'_>>> {
    let parts = node.data_inputs().count().checked_sub(1).filter(|parts| *parts > 0)?;
    Some(node.data_inputs().take(parts))
}
