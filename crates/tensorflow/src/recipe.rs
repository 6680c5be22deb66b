//! Which nodes TensorFlow's oneDNN kernels compute on 8-bit codes, as the fused operators that [`crate::backend`] writes
//! take them.
//!
//! Codes have no zero point but 0: a tensor that cannot be negative is `quint8`, any other `qint8` with a range as far
//! below zero as above. So a convolution with a ReLU behind it writes `quint8`, one without writes `qint8`. What was
//! established by running each operator in TensorFlow 2.21: convolutions take either, depthwise ones `quint8` alone, and
//! these have no kernel without a ReLU.

use quantize_ir::op::behaviour::{clip_limits, keeps_range};
use quantize_ir::op::{
    AveragePool, Binary, Conv, Gemm, GlobalPool, Layout, MaxPool, Padding, ReduceKind, Unary, Window,
};
use quantize_ir::shape::resolve_axis;
use quantize_ir::{
    Decision, Graph, Grids, KeepReason, Node, NodeId, Op, OperandRole, QuantType, Recipe, Support, Ties, ValueId,
    out_of_reach,
};
use std::collections::{BTreeMap, BTreeSet};
use sum::Sums;

mod sum;

/// The rules for fused operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorflowRecipe {
    /// Whether additions of what cannot be negative are carried out on integers, where that is safe.
    pub residual_sum: bool,
    /// What becomes of additions of what may be negative.
    pub signed_sum: SignedSum,
    /// Whether matrix products are computed on integers, with one scale for all weights.
    pub matmul: bool,
}

impl Default for TensorflowRecipe {
    fn default() -> Self {
        Self { residual_sum: true, signed_sum: SignedSum::default(), matmul: false }
    }
}

/// How what may be negative is added to a convolution with a ReLU behind the sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SignedSum {
    /// On real numbers.
    #[default]
    Fp32,
    /// On integers. TensorFlow's operator for it cuts off at code 127, so that the sum has 7 bits.
    Sum7Bit,
}

/// Why everything else stays.
const ONLY: &str = "only convolutions, matrix products, pools, concatenations and sums become operators on integers";

/// Why matrix products do.
const REAL_PRODUCT: &str = "matrix products are left in fp32 without `--matmul int8`";

/// Axes of an image: batch, rows, columns, channels.
const IMAGE_RANK: i64 = 4;

impl Recipe for TensorflowRecipe {
    fn support(&self, graph: &Graph, id: NodeId) -> Support {
        let Some(node) = graph.node(id) else { return Support::Keep(KeepReason::Unknown) };
        if let Some(reason) = out_of_reach(graph, node) {
            return Support::Keep(reason);
        }
        match &node.op {
            Op::Conv(conv) => or_kept(convolution(graph, node, conv), Support::Anchor),
            Op::Gemm(_) if !self.matmul => Support::Keep(KeepReason::Unsupported(REAL_PRODUCT.to_owned())),
            Op::Gemm(gemm) => or_kept(product(graph, node, gemm), Support::Anchor),
            Op::Unary(Unary::Relu) => Support::Absorbed,
            Op::Clip if is_saturation(graph, node) => Support::Absorbed,
            Op::MaxPool(pool) => or_kept(max_pool(node, pool), Support::Carries),
            Op::AveragePool(pool) => or_kept(average_pool(pool), Support::Carries),
            Op::Concat(concat) => or_kept(join(graph, node, concat.axis), Support::Joins),
            Op::Binary(Binary::Add) => match self.sums().of(graph, id) {
                Ok(addition) => Support::Accumulates { slot: addition.slot },
                Err(reason) => Support::Keep(reason),
            },
            _ => Support::Keep(KeepReason::Unsupported(ONLY.to_owned())),
        }
    }

    /// A list of padding goes with any convolution that has no other.
    fn takes_padding(&self, graph: &Graph, node: NodeId) -> bool {
        graph.node(node).is_some_and(|node| matches!(&node.op, Op::Conv(conv) if conv.layout == Layout::ChannelsLast))
    }

    fn allows_real_result(&self, graph: &Graph, node: NodeId) -> bool {
        is_product(graph, node)
    }

    fn prefers_real_result(&self, graph: &Graph, node: NodeId) -> bool {
        is_product(graph, node)
    }

    /// Pools keep the range of what they read, and what is joined has one range.
    fn ties(&self, graph: &Graph, id: NodeId) -> Ties {
        let Some(node) = graph.node(id) else { return Ties::Free };
        match &node.op {
            Op::AveragePool(_) => Ties::Carried,
            Op::Concat(_) => Ties::Equal,
            _ if keeps_range(graph, node) => Ties::Carried,
            _ => Ties::Free,
        }
    }

    fn channel_axis(&self, graph: &Graph, node: NodeId, slot: usize) -> Option<usize> {
        let node = graph.node(node).filter(|node| !matches!(node.op, Op::Gemm(_)))?;
        let OperandRole::Weight { channel_axis: Some(axis) } = node.op.operand_role(slot) else { return None };
        let rank = graph.value(node.input(slot)?).constant.as_ref()?.shape().len();
        resolve_axis(axis, rank).ok()
    }

    fn grids(&self) -> Grids {
        Grids { activation: QuantType::U8, symmetric: false, weight: QuantType::I8Narrow, coded_bias: true }
    }

    fn activation_grid(&self, graph: &Graph, value: ValueId, fates: &BTreeMap<NodeId, Decision>) -> (QuantType, bool) {
        if !is_non_negative(graph, value) {
            return (QuantType::I8, true);
        }
        (if self.is_signed_sum(graph, value, fates) { QuantType::U7 } else { QuantType::U8 }, false)
    }
}

impl TensorflowRecipe {
    fn sums(self) -> Sums {
        Sums { unsigned: self.residual_sum, signed: self.signed_sum }
    }

    /// Whether `value` has the codes of a sum on integers to which something was added that may be negative.
    fn is_signed_sum(self, graph: &Graph, mut value: ValueId, fates: &BTreeMap<NodeId, Decision>) -> bool {
        while let Some((id, node)) = graph.producer(value) {
            let before = node.input(0);
            match (&node.op, before) {
                (Op::Binary(Binary::Add), _) => {
                    let is_on_integers = matches!(fates.get(&id), Some(Decision::Absorbed { .. }));
                    return is_on_integers && self.sums().of(graph, id).is_ok_and(|addition| addition.is_signed);
                }
                (Op::AveragePool(_), Some(before)) => value = before,
                (_, Some(before)) if keeps_range(graph, node) || saturates(graph, node) => value = before,
                _ => return false,
            }
        }
        false
    }
}

/// `support`, unless there is a reason against it.
fn or_kept(obstacle: Option<KeepReason>, support: Support) -> Support {
    obstacle.map_or(support, Support::Keep)
}

fn unsupported(why: &str) -> Option<KeepReason> {
    Some(KeepReason::Unsupported(why.to_owned()))
}

/// Whether a `Clip` is what codes without sign do by themselves.
fn is_saturation(graph: &Graph, node: &Node) -> bool {
    clip_limits(graph, node).is_some_and(|(low, high)| low == 0.0 && high > 0.0)
}

/// Whether a node does what codes without sign do by themselves.
fn saturates(graph: &Graph, node: &Node) -> bool {
    matches!(node.op, Op::Unary(Unary::Relu)) || is_saturation(graph, node)
}

/// Whether a convolution has one group for each channel.
pub(crate) fn is_depthwise(conv: &Conv) -> bool {
    conv.group > 1
}

fn convolution(graph: &Graph, node: &Node, conv: &Conv) -> Option<KeepReason> {
    let shape = |slot| node.input(slot).and_then(|v| graph.value(v).constant.as_ref()).map(|c| c.shape());
    let Some(weight) = shape(1) else { return Some(KeepReason::ComputedWeight) };
    if weight.len() != 4 || weight.contains(&0) {
        return unsupported("its weight has no output channels");
    }
    if conv.layout != Layout::ChannelsLast {
        return unsupported("the integer kernel takes channels last (NHWC) only");
    }
    if node.input(2).is_some() && shape(2).is_none_or(|bias| bias.len() != 1) {
        return unsupported("its bias is not a constant vector");
    }
    if !is_depthwise(conv) {
        return None;
    }
    let dilated = conv.window.dilations.iter().any(|dilation| *dilation != 1);
    let follower = node.output(0).and_then(|y| graph.sole_consumer(y)).and_then(|(id, _)| graph.node(id));
    let rectified = follower.is_some_and(|f| saturates(graph, f));
    match node.input(0) {
        _ if dilated => unsupported("there is no integer kernel for a dilated depthwise convolution"),
        _ if !rectified => unsupported("there is no integer kernel for a depthwise convolution without ReLU"),
        Some(x) if !is_non_negative(graph, x) => {
            unsupported("the integer kernel of a depthwise convolution takes no negative values")
        }
        _ => None,
    }
}

fn is_product(graph: &Graph, node: NodeId) -> bool {
    graph.node(node).is_some_and(|node| matches!(node.op, Op::Gemm(_)))
}

/// TensorFlow has a kernel with codes behind a ReLU and one with a real result.
fn product(graph: &Graph, node: &Node, gemm: &Gemm) -> Option<KeepReason> {
    let shape = |slot| node.input(slot).and_then(|v| graph.value(v).constant.as_ref()).map(|c| c.shape());
    let Some(weight) = shape(1) else { return Some(KeepReason::ComputedWeight) };
    if weight.len() != 2 || weight.contains(&0) || gemm.trans_a || gemm.alpha != 1.0 {
        return unsupported("the integer kernel takes a matrix by a constant one only");
    }
    if node.input(2).is_some() && (shape(2).is_none_or(|bias| bias.len() != 1) || gemm.beta != 1.0) {
        return unsupported("its bias is not a constant vector");
    }
    if node.input(0).is_none_or(|x| !is_non_negative(graph, x)) {
        return unsupported("the integer kernel of a matrix product takes no negative values");
    }
    let readers = || node.output(0).into_iter().flat_map(|y| graph.value(y).consumers());
    let is_rectified = readers().any(|(id, _)| graph.node(*id).is_some_and(|reader| saturates(graph, reader)));
    if is_rectified && readers().count() > 1 {
        return unsupported("others read the matrix product before its ReLU");
    }
    None
}

fn max_pool(node: &Node, pool: &MaxPool) -> Option<KeepReason> {
    if node.output(1).is_some() {
        return unsupported("its second result is used");
    }
    pooling(pool.layout, &pool.window)
}

fn average_pool(pool: &AveragePool) -> Option<KeepReason> {
    if pool.count_include_pad {
        return unsupported("its mean counts the border");
    }
    pooling(pool.layout, &pool.window)
}

fn pooling(layout: Layout, window: &Window) -> Option<KeepReason> {
    if layout != Layout::ChannelsLast {
        return unsupported("the integer kernel takes channels last (NHWC) only");
    }
    if matches!(window.padding, Padding::Explicit { .. }) || window.dilations.iter().any(|dilation| *dilation != 1) {
        return unsupported("the integer kernel has no such border or dilation");
    }
    None
}

fn join(graph: &Graph, node: &Node, axis: i64) -> Option<KeepReason> {
    let mut operands = node.inputs.iter().flatten();
    if axis != -1 && axis != IMAGE_RANK - 1 {
        return unsupported("the integer kernel joins channels only");
    }
    if !operands.all(|value| graph.value(*value).constant.is_none() && is_non_negative(graph, *value)) {
        return unsupported("one of its operands may be negative");
    }
    None
}

/// Whether no element of a value can be negative, whatever the data, as far as the operators before it tell.
pub(crate) fn is_non_negative(graph: &Graph, value: ValueId) -> bool {
    let mut open = vec![value];
    let mut seen = BTreeSet::new();
    while let Some(value) = open.pop() {
        if !seen.insert(value) {
            continue;
        }
        let Some((_, node)) = graph.producer(value) else { return false };
        match &node.op {
            Op::Unary(
                Unary::Relu | Unary::Sigmoid | Unary::HardSigmoid { .. } | Unary::Abs | Unary::Exp | Unary::Softplus,
            ) => {}
            Op::Softmax(softmax) if !softmax.log => {}
            Op::Clip if clip_limits(graph, node).is_some_and(|(low, _)| low >= 0.0) => {}
            Op::AveragePool(_) | Op::GlobalPool(GlobalPool::Average) => open.extend(node.input(0)),
            Op::Reduce(reduce) if matches!(reduce.kind, ReduceKind::Mean | ReduceKind::Max) => {
                open.extend(node.input(0))
            }
            Op::Concat(_) => open.extend(node.inputs.iter().flatten()),
            _ if keeps_range(graph, node) => open.extend(node.input(0)),
            _ => return false,
        }
    }
    true
}
