//! Which operators onnxruntime's CPU provider runs on integers when they stand between dequantize and quantize nodes.
//!
//! The table was established by loading each operator so wrapped and looking at the graph the runtime saves after
//! optimization. Operators it would run in float between a dequantization and a quantization are kept out: they would
//! only lose accuracy. Writing the nodes is the back-end's work.

use quantize_ir::op::behaviour::clip_limits;
use quantize_ir::op::{Binary, GlobalPool, ResizeMode, Unary};
use quantize_ir::shape::resolve_axis;
use quantize_ir::{DType, Graph, Grids, KeepReason, Node, NodeId, Op, OperandRole, QuantType, Recipe, Support};

/// Quantize-dequantize pairs with `uint8` activations and `int8` weights: the form x86 and most other processors run
/// fastest.
#[derive(Clone, Copy, Debug, Default)]
pub struct QdqRecipe;

impl Recipe for QdqRecipe {
    fn support(&self, graph: &Graph, id: NodeId) -> Support {
        let Some(node) = graph.node(id) else { return Support::Keep(KeepReason::Unknown) };
        if node.outputs.iter().flatten().all(|v| graph.value(*v).constant.is_some()) {
            return Support::Keep(KeepReason::Folded);
        }
        if let Op::Opaque(_) = node.op {
            return Support::Keep(KeepReason::Unknown);
        }
        if !computes_on_reals(graph, node) {
            return Support::Keep(KeepReason::NotReal);
        }
        support_of_real(graph, node)
    }

    fn allows_real_result(&self, graph: &Graph, node: NodeId) -> bool {
        graph.node(node).is_some_and(|n| matches!(n.op, Op::Gemm(_) | Op::MatMul))
    }

    fn channel_axis(&self, graph: &Graph, node: NodeId, slot: usize) -> Option<usize> {
        let node = graph.node(node)?;
        let OperandRole::Weight { channel_axis: Some(axis) } = node.op.operand_role(slot) else { return None };
        let rank = graph.value(node.input(slot)?).constant.as_ref()?.shape().len();
        let batched = matches!(node.op, Op::MatMul) && rank != 2;
        if batched { None } else { resolve_axis(axis, rank).ok() }
    }

    fn grids(&self) -> Grids {
        Grids { activation: QuantType::U8, symmetric: false, weight: QuantType::I8Narrow, coded_bias: true }
    }
}

/// Whether the operands the operator computes with are `float32`; an unknown type counts as real, for the runtime
/// would have refused the model otherwise.
fn computes_on_reals(graph: &Graph, node: &Node) -> bool {
    node.inputs.iter().enumerate().all(|(slot, value)| {
        let data = !matches!(node.op.operand_role(slot), OperandRole::Config);
        let dtype = value.and_then(|v| graph.value(v).dtype);
        !data || dtype.is_none_or(|d| d == DType::F32)
    })
}

fn support_of_real(graph: &Graph, node: &Node) -> Support {
    match &node.op {
        Op::Conv(_) => with_weight(graph, node, Support::Anchor),
        Op::Gemm(gemm) if gemm.alpha == 1.0 && gemm.beta == 1.0 => with_weight(graph, node, Support::Anchor),
        Op::Gemm(_) => unsupported("its factors alpha and beta cannot be folded"),
        Op::MatMul => matrix_product(graph, node),
        Op::Binary(Binary::Add | Binary::Mul) | Op::Concat(_) => Support::Joins,
        Op::GlobalPool(GlobalPool::Average) => Support::Joins,
        Op::AveragePool(pool) if pool.window.dilations.iter().all(|d| *d == 1) => Support::Joins,
        Op::Unary(Unary::LeakyRelu { .. } | Unary::Sigmoid) => Support::Joins,
        Op::MaxPool(_) | Op::Identity if node.output(1).is_some() => unsupported("its second result is used"),
        Op::MaxPool(_)
        | Op::Identity
        | Op::Reshape(_)
        | Op::Transpose(_)
        | Op::Flatten(_)
        | Op::Squeeze
        | Op::Unsqueeze
        | Op::Slice
        | Op::Split(_)
        | Op::Gather(_)
        | Op::DepthToSpace(_)
        | Op::Expand
        | Op::Tile => Support::Carries,
        Op::Resize(resize) if matches!(resize.mode, ResizeMode::Nearest(_)) => Support::Carries,
        Op::Unary(Unary::Relu) => Support::Absorbed,
        Op::Clip if clip_limits(graph, node).is_some_and(|(lo, hi)| lo <= 0.0 && hi > 0.0) => Support::Absorbed,
        _ => Support::Keep(KeepReason::NoIntegerKernel),
    }
}

fn unsupported(why: &str) -> Support {
    Support::Keep(KeepReason::Unsupported(why.to_owned()))
}

/// `support`, if the weight is a constant with elements and the bias, if any, is a constant vector.
fn with_weight(graph: &Graph, node: &Node, support: Support) -> Support {
    let shape = |slot| node.input(slot).and_then(|v| graph.value(v).constant.as_ref()).map(|c| c.shape());
    let Some(weight) = shape(1) else { return Support::Keep(KeepReason::ComputedWeight) };
    if weight.len() < 2 || weight.contains(&0) {
        return unsupported("its weight has no output channels");
    }
    if node.input(2).is_some() && shape(2).is_none_or(|bias| bias.len() != 1) {
        return unsupported("its bias is not a constant vector");
    }
    support
}

fn matrix_product(graph: &Graph, node: &Node) -> Support {
    let constant = |slot: usize| node.input(slot).and_then(|v| graph.value(v).constant.as_ref());
    match (constant(0), constant(1)) {
        (None, Some(weight)) if weight.shape().len() >= 2 && !weight.shape().contains(&0) => Support::Anchor,
        (None, Some(_)) => unsupported("its weight is not a matrix"),
        (Some(_), _) => unsupported("its first operand is constant"),
        (None, None) => Support::Joins,
    }
}
