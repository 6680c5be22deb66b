//! A `Sum` of two operands is an `Add`, the form runtimes have integer kernels for.

use quantize_ir::op::{Binary, Nary};
use quantize_ir::{Graph, NodeId, Op, Operand, Patch, PatchEdit};

/// Makes an `Add` of `id` if it is a `Sum` of two operands.
pub fn sum_to_add(graph: &Graph, id: NodeId) -> Option<Patch> {
    let node = graph.node(id)?;
    let (Op::Nary(Nary::Sum), [Some(a), Some(b)]) = (&node.op, node.inputs.as_slice()) else { return None };
    Some(Patch {
        pass: "sum-to-add",
        because: format!("`{}` has two operands", graph.label(id)),
        edits: vec![PatchEdit::Rewire {
            node: id,
            op: Op::Binary(Binary::Add),
            inputs: vec![Operand::Value(*a), Operand::Value(*b)],
            outputs: node.outputs.clone(),
        }],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Builder;

    #[test]
    fn only_sums_of_two_become_additions() {
        let mut b = Builder::default();
        let (x, y) = (b.input("x"), b.input("y"));
        b.node("two", Op::Nary(Nary::Sum), &[x, y]);
        b.node("three", Op::Nary(Nary::Sum), &[x, y, x]);
        b.node("max", Op::Nary(Nary::Max), &[x, y]);
        let patch = sum_to_add(&b.graph, b.id("two")).unwrap();
        b.graph.apply(patch).unwrap();
        let node = b.graph.node(b.id("two")).unwrap();
        assert_eq!((&node.op, &node.inputs), (&Op::Binary(Binary::Add), &vec![Some(x), Some(y)]));
        assert!(sum_to_add(&b.graph, b.id("three")).is_none() && sum_to_add(&b.graph, b.id("max")).is_none());
    }
}
