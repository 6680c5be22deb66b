//! Orders in which a graph can be executed.

use crate::error::TensorflowError;
use crate::graph::{GraphDef, GraphIndex};
use crate::node::NodeDef;
use quantize_document::Location;

/// Nodes of a circle that an error names.
const NAMED: usize = 5;

/// Positions of the nodes such that each stands behind those it reads, in TensorFlow's order: of the nodes that are
/// ready the one that became so last comes first, and those without inputs are ready in the order of the file.
///
/// A `Merge` waits for one of its tensors only, since the others may come from later rounds of a loop.
///
/// # Errors
/// If two nodes have the same name, an input names no node, or there is a circle.
pub fn execution_order(graph: &GraphDef) -> Result<Vec<usize>, TensorflowError> {
    let index = graph.index()?;
    let consumers = index.consumers()?;
    let mut pending: Vec<usize> = graph.nodes().iter().map(awaited).collect();
    let mut ready: Vec<usize> = pending.iter().enumerate().filter(|(_, n)| **n == 0).map(|(at, _)| at).collect();
    let mut order = Vec::with_capacity(pending.len());
    while let Some(node) = ready.pop() {
        order.push(node);
        for (reader, _) in consumers.get(node).into_iter().flatten() {
            let Some(left) = pending.get_mut(*reader).filter(|left| **left > 0) else { continue };
            *left -= 1;
            if *left == 0 {
                ready.push(*reader);
            }
        }
    }
    if order.len() == pending.len() {
        return Ok(order);
    }
    Err(circle(&index, &pending))
}

/// Inputs that a node waits for.
fn awaited(node: &NodeDef) -> usize {
    let data = node.data_inputs().count();
    let control = node.inputs().len() - data;
    if is_merge(node) { control + data.min(1) } else { control + data }
}

fn is_merge(node: &NodeDef) -> bool {
    matches!(node.op(), "Merge" | "RefMerge")
}

/// The error that nodes wait for each other: the nodes of one circle, each read by the one behind it.
fn circle(index: &GraphIndex<'_>, pending: &[usize]) -> TensorflowError {
    let waits = |node: &usize| pending.get(*node).is_some_and(|left| *left > 0);
    // Every node that waits reads another that waits; whoever is met a second time is on a circle.
    let mut met = vec![false; pending.len()];
    let mut path: Vec<usize> = Vec::new();
    let mut next = (0..pending.len()).find(waits);
    while let Some(node) = next.filter(|node| !met.get(*node).copied().unwrap_or(true)) {
        met.iter_mut().skip(node).take(1).for_each(|flag| *flag = true);
        path.push(node);
        let producers = index.at(node).into_iter().flat_map(NodeDef::refs);
        next = producers.filter_map(|input| index.position(input.node)).find(waits);
    }
    let start = path.iter().position(|node| Some(*node) == next).unwrap_or(0);
    let circle = path.split_off(start).into_iter().rev().filter_map(|node| index.at(node));
    let mut names: Vec<String> = circle.map(|node| format!("`{}`", node.name())).collect();
    if names.len() > NAMED {
        let more = names.len() - NAMED;
        names.truncate(NAMED);
        names.push(format!("{more} more"));
    }
    let cause = format!("the graph has a cycle: {} wait for each other", names.join(", "));
    TensorflowError::invalid(Location::default(), cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(nodes: &[(&str, &str, &[&str])]) -> GraphDef {
        GraphDef::new(
            nodes.iter().map(|(name, op, inputs)| NodeDef::new(*name, *op).with_inputs(inputs.to_vec())).collect(),
        )
    }

    fn names(graph: &GraphDef) -> Vec<&str> {
        execution_order(graph).unwrap().into_iter().map(|at| graph.nodes()[at].name()).collect()
    }

    #[test]
    fn the_last_that_became_ready_comes_first() {
        let graph =
            graph(&[("a", "Const", &[]), ("b", "Const", &[]), ("c", "Add", &["a", "b"]), ("d", "Relu", &["b", "^c"])]);
        assert_eq!(names(&graph), ["b", "a", "c", "d"]);
    }

    #[test]
    fn loops_are_no_circles_but_others_are_named() {
        let inner = [("x", "Enter", &[][..]), ("m", "Merge", &["x", "n"][..]), ("n", "NextIteration", &["m"][..])];
        assert_eq!(names(&graph(&inner)), ["x", "m", "n"]);
        let circle =
            graph(&[("x", "Relu", &["c"]), ("a", "Relu", &["c"]), ("b", "Relu", &["a"]), ("c", "Relu", &["b"])]);
        let error = execution_order(&circle).unwrap_err().to_string();
        assert!(error.starts_with("the graph has a cycle: "), "{error}");
        assert!(["`a`", "`b`", "`c`"].iter().all(|name| error.contains(name)) && !error.contains("`x`"), "{error}");
    }

    #[test]
    fn a_node_that_reads_one_twice_waits_for_it_once() {
        assert_eq!(names(&graph(&[("b", "Mul", &["a", "a:0"]), ("a", "Const", &[])])), ["a", "b"]);
    }
}
