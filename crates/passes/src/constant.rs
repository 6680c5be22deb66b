//! Constant folding: a result whose operands are all known is computed once and annotated.
//!
//! The node stays in the graph, so a document that is written back keeps it unless nothing reads it any more.

use crate::PassError;
use quantize_ir::op::Cast;
use quantize_ir::{Constant, DType, Graph, Node, NodeId, Op, Patch, PatchEdit, Tensor};

/// Computes one node whose operands are all constant; implemented by an executor.
pub trait Evaluator {
    /// The node's results in slot order, or `None` if it cannot be computed or would cost too much, which only means it
    /// is not folded.
    fn evaluate(&mut self, graph: &Graph, node: NodeId) -> Option<Vec<Tensor>>;
}

/// Annotates every result that depends on constants only; returns how many nodes were folded.
///
/// # Errors
/// If the graph has a cycle.
pub fn fold_constants(graph: &mut Graph, evaluator: &mut dyn Evaluator) -> Result<usize, PassError> {
    let mut folded = 0;
    for id in graph.topological_order()? {
        if let Some(patch) = fold_node(graph, evaluator, id) {
            graph.apply(patch)?;
            folded += 1;
        }
    }
    Ok(folded)
}

fn fold_node(graph: &Graph, evaluator: &mut dyn Evaluator, id: NodeId) -> Option<Patch> {
    let node = graph.node(id)?;
    let known = |v: &quantize_ir::ValueId| graph.value(*v).constant.is_some();
    let ready = !matches!(node.op, Op::Opaque(_))
        && node.inputs.iter().flatten().all(known)
        && !node.outputs.iter().flatten().all(known);
    if !ready {
        return None;
    }
    let results = match widened(graph, node) {
        Some(constant) => vec![constant],
        None => evaluator.evaluate(graph, id)?.into_iter().map(Constant::owned).collect(),
    };
    let edits = node
        .outputs
        .iter()
        .zip(results)
        .filter_map(|(value, constant)| Some(PatchEdit::Annotate { value: (*value)?, constant }))
        .collect();
    Some(Patch { pass: "fold-constants", because: format!("`{}` depends on constants only", graph.label(id)), edits })
}

/// What a cast makes of a constant of half precision: the same constant, since reading it widens it. So it can stay
/// where it is stored.
fn widened(graph: &Graph, node: &Node) -> Option<Constant> {
    let value = graph.value(node.input(0)?);
    let widens = node.op == Op::Cast(Cast { to: DType::F32 }) && value.dtype?.is_half();
    value.constant.clone().filter(|_| widens)
}

#[cfg(test)]
mod tests {
    use super::*;
    use quantize_ir::op::Unary;
    use quantize_ir::{ConstantSource, Origin, Value};
    use std::sync::Arc;

    struct Negate;
    impl Evaluator for Negate {
        fn evaluate(&mut self, graph: &Graph, node: NodeId) -> Option<Vec<Tensor>> {
            let x = graph.constant(graph.node(node)?.input(0)?).ok()??;
            Some(vec![Tensor::vector(x.as_slice::<f32>().ok()?.iter().map(|v| -v).collect())])
        }
    }

    fn unary(graph: &mut Graph, input: quantize_ir::ValueId) -> quantize_ir::ValueId {
        let origin = Origin::Synthesized { pass: "test", from: vec![] };
        let output = graph.add_value(Value::named("y"));
        let (inputs, outputs) = (vec![Some(input)], vec![Some(output)]);
        let op = Op::Unary(Unary::Neg);
        graph.add_node(Node { name: String::new(), op, inputs, outputs, after: vec![], origin }).unwrap();
        output
    }

    #[test]
    fn halves_are_widened_where_they_are_stored() {
        #[derive(Debug)]
        struct Halves;
        impl ConstantSource for Halves {
            fn read(&self, _: u32) -> Result<Tensor, String> {
                Ok(Tensor::vector(vec![1.5f32]))
            }
        }
        let mut graph = Graph::new();
        let origin = Origin::Synthesized { pass: "test", from: vec![] };
        let stored = Constant::Stored { source: Arc::new(Halves), key: 7, shape: vec![1] };
        let c = graph.add_constant("c", stored, DType::F16, origin.clone());
        let y = graph.add_value(Value::named("y"));
        let (inputs, outputs) = (vec![Some(c)], vec![Some(y)]);
        let op = Op::Cast(Cast { to: DType::F32 });
        graph.add_node(Node { name: String::new(), op, inputs, outputs, after: vec![], origin }).unwrap();
        assert_eq!(fold_constants(&mut graph, &mut Negate), Ok(1));
        assert!(matches!(graph.value(y).constant, Some(Constant::Stored { key: 7, .. })));
    }

    #[test]
    fn chains_fold_and_data_does_not() {
        let mut graph = Graph::new();
        let origin = Origin::Synthesized { pass: "test", from: vec![] };
        let c = graph.add_constant("c", Constant::owned(Tensor::vector(vec![1f32])), DType::F32, origin);
        let first = unary(&mut graph, c);
        let second = unary(&mut graph, first);
        let x = graph.add_value(Value::named("x"));
        let data = unary(&mut graph, x);
        assert_eq!(fold_constants(&mut graph, &mut Negate), Ok(2));
        let folded = graph.constant(second).unwrap().unwrap();
        assert_eq!(folded.as_slice::<f32>(), Ok(&[1.0f32][..]));
        assert!(graph.constant(data).unwrap().is_none());
        assert_eq!(graph.nodes().count(), 3);
        assert_eq!(fold_constants(&mut graph, &mut Negate), Ok(0));
    }
}
