//! Evaluation of one node on constants, for folding.

use crate::error::{ExecError, OpError};
use crate::eval::evaluate;
use crate::operands::Operands;
use crate::pool::Pool;
use quantize_ir::{Constant, DType, Graph, GraphError, NodeId, Op, Tensor, ValueId};
use std::sync::Arc;

/// Bytes of results that folding may make of any model, and per byte of its files: as many as it has parameters of half
/// precision that are widened.
const FREE_BYTES: usize = 32 << 20;
const BYTES_PER_BYTE: usize = 2;

/// Steps that folding may take in any model, and per byte of its files. A step is a multiplication or the reading of an
/// element.
const FREE_WORK: usize = 1 << 27;
const WORK_PER_BYTE: usize = 1 << 6;

/// Elements that are read cost as much as so many multiplications.
const STEPS_PER_ELEMENT: usize = 4;

/// What folding may still cost: a few numbers can stand for tensors of any size and for work of any length, and the same
/// constant can have any number of readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoldBudget {
    bytes: usize,
    work: usize,
}

impl FoldBudget {
    /// The budget of a model whose files have so many bytes together.
    #[must_use]
    pub fn of_file(bytes: u64) -> Self {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        Self {
            bytes: bytes.saturating_mul(BYTES_PER_BYTE).saturating_add(FREE_BYTES),
            work: bytes.saturating_mul(WORK_PER_BYTE).saturating_add(FREE_WORK),
        }
    }

    /// Takes the work of a node, whether or not it comes to anything.
    fn spend(&mut self, work: usize) -> Result<(), OpError> {
        let left = self.work.checked_sub(work);
        self.work = left.ok_or_else(|| OpError::shape("computing it beforehand would take too long".to_owned()))?;
        Ok(())
    }
}

/// Steps to compute `op` on operands of these shapes, up to a small factor, apart from writing its results; `None` for
/// operators that slide a window, whose work no shape of an operand bounds and by which no weights are made.
fn work(op: &Op, shapes: &[&[usize]]) -> Option<usize> {
    let elements = |shape: &&[usize]| shape.iter().fold(1usize, |n, d| n.saturating_mul(*d));
    let read = shapes.iter().map(elements).fold(shapes.len(), usize::saturating_add).saturating_mul(STEPS_PER_ELEMENT);
    let columns = |shape: &[usize]| shape.iter().rev().take(2).copied().max().unwrap_or(1);
    let products = match (op, shapes) {
        (Op::Conv(_) | Op::ConvTranspose(_) | Op::Lrn(_), _) => return None,
        (Op::MaxPool(_) | Op::AveragePool(_) | Op::LpPool(_) | Op::Resize(_), _) => return None,
        (Op::MatMul | Op::Gemm(_), [a, b, ..]) => elements(a).saturating_mul(columns(b)),
        _ => 0,
    };
    Some(read.saturating_add(products))
}

/// Bytes of an element of the widest of `results` results that `op` has of these operands.
fn result_size(op: &Op, results: usize, operands: &[Option<&Tensor>]) -> usize {
    let operands: Vec<Option<DType>> = operands.iter().map(|tensor| Some((*tensor)?.dtype())).collect();
    let in_memory = |dtype: DType| if dtype.is_half() { DType::F32.size() } else { dtype.size() };
    let size = |slot: usize| op.output_dtype(slot, &operands).map_or(size_of::<u64>(), in_memory);
    (0..results).map(size).max().unwrap_or(size_of::<u64>())
}

/// Evaluates `node`, whose operands are all constant, and returns its results in slot order; there may be more of them
/// than the node has outputs, or fewer where trailing ones are unused. Its cost is taken from `budget`; what exceeds that
/// is an error before anything is read or allocated.
///
/// # Errors
/// [`ExecError::NotConstant`] or [`ExecError::Opaque`] if the node cannot be evaluated on its own,
/// [`ExecError::Graph`] if it is not in the graph or a constant cannot be read, [`ExecError::Node`] if its operator
/// fails or costs too much.
pub fn evaluate_constant(graph: &Graph, node: NodeId, budget: &mut FoldBudget) -> Result<Vec<Tensor>, ExecError> {
    let Some(found) = graph.node(node) else { return Err(GraphError::Stale { pass: "evaluation" }.into()) };
    let label = || graph.label(node);
    if let Op::Opaque(opaque) = &found.op {
        return Err(ExecError::Opaque { nodes: vec![(label(), opaque.kind.clone())] });
    }
    let name = |slot: usize| Some(graph.value(found.input(slot)?).name.clone());
    let failed =
        |cause: OpError| ExecError::Node { node: label(), op: found.op.name().to_owned(), cause: cause.naming(name) };
    let shape =
        |value: &Option<ValueId>| value.and_then(|v| graph.value(v).constant.as_ref()).map_or(&[][..], Constant::shape);
    let shapes: Vec<&[usize]> = found.inputs.iter().map(shape).collect();
    let window = || OpError::shape("operators with windows are not computed beforehand".to_owned());
    let work = work(&found.op, &shapes).ok_or_else(window).map_err(failed)?;
    budget.spend(work).map_err(failed)?;
    let constants = found.inputs.iter().enumerate().map(|(slot, value)| match value {
        None => Ok(None),
        Some(v) => graph.constant(*v)?.map(Some).ok_or_else(|| ExecError::NotConstant { node: label(), slot }),
    });
    let constants: Vec<Option<Arc<Tensor>>> = constants.collect::<Result<_, _>>()?;
    let operands: Vec<Option<&Tensor>> = constants.iter().map(Option::as_deref).collect();
    let wanted: Vec<bool> = found.outputs.iter().map(Option::is_some).collect();
    // A result of so many elements fits the budget.
    let mut pool = Pool::limited(budget.bytes / result_size(&found.op, wanted.len(), &operands));
    let results = evaluate(&found.op, &wanted, Operands(&operands), &mut pool).map_err(failed)?;
    let bytes = results.iter().map(|tensor| tensor.len() * tensor.dtype().size()).sum();
    let too_large = || failed(OpError::shape("its results are too large to be computed beforehand".to_owned()));
    budget.bytes = budget.bytes.checked_sub(bytes).ok_or_else(too_large)?;
    Ok(results)
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
        let mut budget = FoldBudget::of_file(0);
        let results = evaluate_constant(&net.graph, net.producer(y), &mut budget).unwrap();
        assert_eq!(results, [Tensor::vector(vec![0f32, 2.0])]);
        assert_eq!(budget.bytes, FREE_BYTES - 8);
    }

    #[test]
    fn results_are_limited_before_they_are_allocated() {
        let mut net = Network::default();
        let shape = net.constant("shape", Tensor::vector(vec![1i64 << 20, 1 << 10]));
        for value in [TensorData::F32(vec![0.0]), TensorData::I64(vec![0])] {
            let y = net.node("zeros", Op::ConstantOfShape(ConstantOfShape { value }), &[shape]);
            let error = evaluate_constant(&net.graph, net.producer(y), &mut FoldBudget::of_file(0)).unwrap_err();
            assert!(matches!(&error, ExecError::Node { node, .. } if node == "zeros"), "{error}");
        }
    }

    #[test]
    fn the_budget_is_that_of_all_nodes_together() {
        let mut net = Network::default();
        let shape = net.constant("shape", Tensor::vector(vec![1i64 << 20]));
        let zeros = Op::ConstantOfShape(ConstantOfShape { value: TensorData::F32(vec![0.0]) });
        let y = net.node("zeros", zeros, &[shape]);
        let node = net.producer(y);
        let folded = |file: u64| {
            let mut budget = FoldBudget::of_file(file);
            (0..100).take_while(|_| evaluate_constant(&net.graph, node, &mut budget).is_ok()).count()
        };
        assert_eq!((folded(0), folded(8 << 20)), (8, 12));
    }

    #[test]
    fn work_is_limited_before_it_is_done() {
        let mut net = Network::default();
        let size = 1 << 10;
        let a = net.constant("a", Tensor::new(vec![size, size], vec![1f32; size * size]).unwrap());
        let y = net.node("product", Op::MatMul, &[a, a]);
        let node = net.producer(y);
        let error = evaluate_constant(&net.graph, node, &mut FoldBudget::of_file(0)).unwrap_err().to_string();
        assert!(error.contains("would take too long"), "{error}");
        assert!(evaluate_constant(&net.graph, node, &mut FoldBudget::of_file(32 << 20)).is_ok());

        let z = net.node("size", Op::Size, &[a]);
        let node = net.producer(z);
        let mut budget = FoldBudget::of_file(0);
        let readers = (0..1000).take_while(|_| evaluate_constant(&net.graph, node, &mut budget).is_ok()).count();
        assert_eq!(readers, FREE_WORK / (STEPS_PER_ELEMENT * (size * size + 1)));
    }

    #[test]
    fn other_nodes_are_refused() {
        let mut net = Network::default();
        let x = net.input("x");
        let y = net.node("relu", Op::Unary(Unary::Relu), &[x]);
        let error = evaluate_constant(&net.graph, net.producer(y), &mut FoldBudget::of_file(9)).unwrap_err();
        assert_eq!(error, ExecError::NotConstant { node: "relu".into(), slot: 0 });
        let z = net.node("custom", Op::Opaque(Opaque { domain: "d".into(), kind: "Custom".into() }), &[]);
        let error = evaluate_constant(&net.graph, net.producer(z), &mut FoldBudget::of_file(9)).unwrap_err();
        assert_eq!(error, ExecError::Opaque { nodes: vec![("custom".into(), "Custom".into())] });
    }
}
