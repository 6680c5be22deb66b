//! Nodes that only matter while a network learns: their readers read what they read.

use crate::error::TensorflowError;
use crate::graph::GraphDef;
use crate::node::{Input, NodeDef, Port};
use crate::transform::rewire::Rewire;
use std::collections::BTreeSet;

/// The graph without `Identity` and `CheckNumerics`, but for outputs, nodes that wait for others and nodes that others
/// wait for.
pub(super) fn without(graph: &GraphDef, outputs: &[String]) -> Result<GraphDef, TensorflowError> {
    graph.index()?.check_inputs()?;
    let waited_for: BTreeSet<&str> = graph
        .nodes()
        .iter()
        .flat_map(NodeDef::refs)
        .filter(|input| input.port == Port::Control)
        .map(|input| input.node)
        .collect();
    let goes = |node: &NodeDef| {
        matches!(node.op(), "Identity" | "CheckNumerics")
            && node.refs().all(|input| Input::is_data(&input))
            && node.inputs().len() == 1
            && !waited_for.contains(node.name())
            && !outputs.iter().any(|output| output == node.name())
    };
    let mut rewire = Rewire::default();
    for node in graph.nodes().iter().filter(|node| goes(node)) {
        if let Some(input) = node.inputs().first() {
            rewire.node(node.name(), input.clone());
        }
    }
    let mut nodes: Vec<NodeDef> = graph.nodes().iter().filter(|node| !goes(node)).cloned().collect();
    nodes.iter_mut().for_each(|node| rewire.apply(node));
    let changed = graph.with_nodes(nodes);
    // A circle of nodes that all go would leave readers of what is gone.
    changed.index()?.check_inputs()?;
    Ok(changed)
}
