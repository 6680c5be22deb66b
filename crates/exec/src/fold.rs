//! Evaluation of one node on constants, for folding.

use crate::error::ExecError;
use crate::eval::evaluate;
use crate::operands::Operands;
use crate::pool::Pool;
use quantize_ir::{Graph, GraphError, NodeId, Op, Tensor};
use std::sync::Arc;

/// Evaluates `node`, whose operands are all constant, and returns its results in slot order; there may be more of them
/// than the node has outputs, or fewer where trailing ones are unused.
///
/// `max_elements` limits each result: one that is larger is an error before it is allocated, since folding a tensor
/// made from a few numbers can blow a model up.
///
/// # Errors
/// [`ExecError::NotConstant`] or [`ExecError::Opaque`] if the node cannot be evaluated on its own,
/// [`ExecError::Graph`] if it is not in the graph or a constant cannot be read, [`ExecError::Node`] if its operator
/// fails or a result is too large.
pub fn evaluate_constant(graph: &Graph, node: NodeId, max_elements: usize) -> Result<Vec<Tensor>, ExecError> {
    let Some(found) = graph.node(node) else { return Err(GraphError::Stale { pass: "evaluation" }.into()) };
    let label = || graph.label(node);
    if let Op::Opaque(opaque) = &found.op {
        return Err(ExecError::Opaque { nodes: vec![(label(), opaque.kind.clone())] });
    }
    let constants = found.inputs.iter().enumerate().map(|(slot, value)| match value {
        None => Ok(None),
        Some(v) => graph.constant(*v)?.map(Some).ok_or_else(|| ExecError::NotConstant { node: label(), slot }),
    });
    let constants: Vec<Option<Arc<Tensor>>> = constants.collect::<Result<_, _>>()?;
    let operands: Vec<Option<&Tensor>> = constants.iter().map(Option::as_deref).collect();
    let wanted: Vec<bool> = found.outputs.iter().map(Option::is_some).collect();
    let name = |slot: usize| Some(graph.value(found.input(slot)?).name.clone());
    evaluate(&found.op, &wanted, Operands(&operands), &mut Pool::limited(max_elements))
        .map_err(|cause| ExecError::Node { node: label(), op: found.op.name().to_owned(), cause: cause.naming(name) })
}

/// Evaluates `node` on `operands` in slot order, whatever the graph holds for them, and returns its results.
///
/// # Errors
/// [`ExecError::Opaque`], [`ExecError::Graph`] if the node is not in the graph, [`ExecError::Node`] if its operator
/// fails.
pub fn evaluate_node(graph: &Graph, node: NodeId, operands: &[Option<&Tensor>]) -> Result<Vec<Tensor>, ExecError> {
    let Some(found) = graph.node(node) else { return Err(GraphError::Stale { pass: "evaluation" }.into()) };
    if let Op::Opaque(opaque) = &found.op {
        return Err(ExecError::Opaque { nodes: vec![(graph.label(node), opaque.kind.clone())] });
    }
    let wanted: Vec<bool> = found.outputs.iter().map(Option::is_some).collect();
    let name = |slot: usize| Some(graph.value(found.input(slot)?).name.clone());
    let failed = |cause: crate::error::OpError| ExecError::Node {
        node: graph.label(node),
        op: found.op.name().to_owned(),
        cause: cause.naming(name),
    };
    evaluate(&found.op, &wanted, Operands(operands), &mut Pool::default()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Network;
    use quantize_ir::TensorData;
    use quantize_ir::op::{ConstantOfShape, Opaque, Unary};

    #[test]
    fn a_node_of_constants_is_evaluated() {
        let mut net = Network::default();
        let c = net.constant("c", Tensor::vector(vec![-1f32, 2.0]));
        let y = net.node("relu", Op::Unary(Unary::Relu), &[c]);
        let results = evaluate_constant(&net.graph, net.producer(y), 2).unwrap();
        assert_eq!(results, [Tensor::vector(vec![0f32, 2.0])]);
    }

    #[test]
    fn results_are_limited_before_they_are_allocated() {
        let mut net = Network::default();
        let shape = net.constant("shape", Tensor::vector(vec![1i64 << 20, 1 << 10]));
        for value in [TensorData::F32(vec![0.0]), TensorData::I64(vec![0])] {
            let y = net.node("zeros", Op::ConstantOfShape(ConstantOfShape { value }), &[shape]);
            let error = evaluate_constant(&net.graph, net.producer(y), 1000).unwrap_err();
            assert!(matches!(&error, ExecError::Node { node, .. } if node == "zeros"), "{error}");
        }
    }

    #[test]
    fn other_nodes_are_refused() {
        let mut net = Network::default();
        let x = net.input("x");
        let y = net.node("relu", Op::Unary(Unary::Relu), &[x]);
        let error = evaluate_constant(&net.graph, net.producer(y), 9).unwrap_err();
        assert_eq!(error, ExecError::NotConstant { node: "relu".into(), slot: 0 });
        let z = net.node("custom", Op::Opaque(Opaque { domain: "d".into(), kind: "Custom".into() }), &[]);
        let error = evaluate_constant(&net.graph, net.producer(z), 9).unwrap_err();
        assert_eq!(error, ExecError::Opaque { nodes: vec![("custom".into(), "Custom".into())] });
    }
}
