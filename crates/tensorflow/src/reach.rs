//! What of a graph some of its nodes need.

use crate::error::TensorflowError;
use crate::graph::GraphIndex;
use crate::node::NodeDef;

/// Checks that every name is a node's.
///
/// # Errors
/// The first that is not, with names that are close to it; or that there is none at all.
pub(crate) fn check_outputs(index: &GraphIndex<'_>, outputs: &[String]) -> Result<(), TensorflowError> {
    if outputs.is_empty() {
        return Err(TensorflowError::invalid(Default::default(), "no output is named")
            .with_hint("`quantize tf summarize` lists the nodes that nobody reads"));
    }
    outputs.iter().try_for_each(|name| index.find(name).map(|_| ()))
}

/// For each node whether `outputs` need it, control inputs among what a node needs. What the nodes in `stops` read is
/// not followed.
///
/// # Errors
/// If an input of a node that is needed names no node.
pub(crate) fn behind(
    index: &GraphIndex<'_>,
    outputs: &[String],
    stops: &[String],
) -> Result<Vec<bool>, TensorflowError> {
    let mut needed = vec![false; index.len()];
    let mut open: Vec<usize> = outputs.iter().filter_map(|name| index.position(name)).collect();
    while let Some(position) = open.pop() {
        let Some(flag) = needed.get_mut(position).filter(|flag| !**flag) else { continue };
        *flag = true;
        let Some(node) = index.at(position).filter(|node| !is_named(stops, node)) else { continue };
        for input in node.refs() {
            open.push(index.producer(node, input.node)?);
        }
    }
    Ok(needed)
}

pub(crate) fn is_named(names: &[String], node: &NodeDef) -> bool {
    names.iter().any(|name| name == node.name())
}
