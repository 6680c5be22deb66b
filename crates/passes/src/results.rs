//! Which values lead to the network's results without being computed with any more.
//!
//! Rounding the results themselves costs accuracy and buys nothing, so they stay real: the graph outputs, and what
//! reaches them through operators that only move, join, limit or squash elements.

use quantize_ir::op::Unary;
use quantize_ir::{Graph, NodeId, Op, ValueId};
use std::collections::{BTreeMap, BTreeSet};

/// Values that stay real because they are results. `quantizable` tells which nodes could run on integers: a result
/// that such a node also reads for another purpose is not in the set.
pub fn result_values(graph: &Graph, quantizable: &dyn Fn(NodeId) -> bool) -> BTreeSet<ValueId> {
    let outputs = graph.outputs().iter().copied();
    let results = outputs.filter(|v| !graph.value(*v).consumers().iter().any(|(n, _)| quantizable(*n))).collect();
    let mut search = Search { graph, results, missing: BTreeMap::new(), others: BTreeMap::new() };
    let mut open: Vec<ValueId> = search.results.iter().copied().collect();
    while let Some(value) = open.pop() {
        search.behind(value, &mut open);
    }
    search.results
}

/// What is known so far. Counts go down as results are found, so that each reader of a value is looked at once.
struct Search<'g> {
    graph: &'g Graph,
    results: BTreeSet<ValueId>,
    /// Results of a node that are not among them yet.
    missing: BTreeMap<NodeId, usize>,
    /// Readers of a value that may still do something else with it than pass it on to results.
    others: BTreeMap<ValueId, usize>,
}

impl Search<'_> {
    /// Follows a new result back through the node that writes it, if all that this node writes are results.
    fn behind(&mut self, value: ValueId, open: &mut Vec<ValueId>) {
        let Some((id, node)) = self.graph.producer(value).filter(|(_, node)| merely_forwards(&node.op)) else { return };
        let missing = self.missing.entry(id).or_insert_with(|| node.outputs.iter().flatten().count());
        *missing -= 1;
        if *missing > 0 {
            return;
        }
        for operand in node.inputs.iter().flatten().copied() {
            let others = self.others.entry(operand).or_insert_with(|| self.graph.value(operand).consumers().len());
            *others -= 1;
            if *others == 0 && self.results.insert(operand) {
                open.push(operand);
            }
        }
    }
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
