//! Which values lead to the network's results without being computed with any more.
//!
//! Rounding the results themselves costs accuracy and buys nothing, so they stay real: the graph outputs, and what
//! reaches them through operators that only move, join, limit or squash elements.

use quantize_ir::op::Unary;
use quantize_ir::{Graph, NodeId, Op, ValueId};
use std::collections::BTreeSet;

/// Values that stay real because they are results. `quantizable` tells which nodes could run on integers: a result
/// that such a node also reads for another purpose is not in the set.
pub fn result_values(graph: &Graph, quantizable: &dyn Fn(NodeId) -> bool) -> BTreeSet<ValueId> {
    let mut results: BTreeSet<ValueId> = graph
        .outputs()
        .iter()
        .copied()
        .filter(|v| !graph.value(*v).consumers().iter().any(|(n, _)| quantizable(*n)))
        .collect();
    let mut open: Vec<ValueId> = results.iter().copied().collect();
    while let Some(value) = open.pop() {
        let Some((_, node)) = graph.producer(value) else { continue };
        if !merely_forwards(&node.op) {
            continue;
        }
        for operand in node.inputs.iter().flatten().copied() {
            let only_results = graph.value(operand).consumers().iter().all(|(n, _)| forwards_into(graph, *n, &results));
            if only_results && results.insert(operand) {
                open.push(operand);
            }
        }
    }
    results
}

fn forwards_into(graph: &Graph, node: NodeId, results: &BTreeSet<ValueId>) -> bool {
    graph.node(node).is_some_and(|n| merely_forwards(&n.op) && n.outputs.iter().flatten().all(|v| results.contains(v)))
}

fn merely_forwards(op: &Op) -> bool {
    matches!(
        op,
        Op::Softmax(_)
            | Op::Unary(Unary::Sigmoid | Unary::Relu | Unary::Tanh)
            | Op::Clip
            | Op::Concat(_)
            | Op::Split(_)
            | Op::Slice
            | Op::Transpose(_)
            | Op::Reshape(_)
            | Op::Flatten(_)
            | Op::Squeeze
            | Op::Unsqueeze
            | Op::DepthToSpace(_)
            | Op::Identity
            | Op::Cast(_)
            | Op::ArgMax(_)
    )
}
