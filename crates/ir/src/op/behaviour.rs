//! What each operator means to quantization: the role of its operands, where the range of its result comes from, and
//! the element type of its result.

use super::{Binary, FilterLayout, GlobalPool, Op, PadMode, Unary};
use crate::dtype::DType;
use crate::graph::{Graph, Node, ValueId};
use crate::recipe::OperandRole;

/// Where the range of an operator's first result comes from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RangeRule {
    /// It has to be observed.
    Fresh,
    /// The result's elements are elements of the first operand (or zeros), so both can share parameters.
    SameAsInput,
    /// The operator bounds it, whatever the data: lower and upper end.
    Bounded(f32, f32),
    /// The operator bounds it, and what data have shown of it says nothing of others: this is the range. Attention
    /// shows it: one token may get all of the weight, though none did while calibrating.
    Exactly(f32, f32),
}

impl Op {
    /// The role of the operand in `slot`, as far as the operator alone tells; constants decide the rest.
    pub fn operand_role(&self, slot: usize) -> OperandRole {
        match (self, slot) {
            (Self::Conv(c), 1) => OperandRole::Weight { channel_axis: conv_axis(c.filter, false) },
            (Self::ConvTranspose(c), 1) if c.group == 1 => {
                OperandRole::Weight { channel_axis: conv_axis(c.filter, true) }
            }
            (Self::ConvTranspose(_), 1) => OperandRole::Weight { channel_axis: None },
            (Self::Gemm(g), 1) => OperandRole::Weight { channel_axis: Some(if g.trans_b { 0 } else { 1 }) },
            (Self::MatMul, 1) => OperandRole::Weight { channel_axis: Some(-1) },
            // Rows of a table have nothing in common: each has a scale of its own.
            (Self::Gather(g), 0) => OperandRole::Weight { channel_axis: Some(g.axis) },
            (Self::Conv(_) | Self::ConvTranspose(_) | Self::Gemm(_), 2) => OperandRole::Bias,
            (Self::Where, 0) | (Self::Ranged(_), _) => OperandRole::Config,
            (Self::MatMul | Self::Binary(_) | Self::Nary(_) | Self::Concat(_) | Self::PRelu | Self::Where, _) => {
                OperandRole::Activation
            }
            (_, 0) => OperandRole::Activation,
            _ => OperandRole::Config,
        }
    }

    /// Where the range of the first result comes from. `Clip` is [`RangeRule::Fresh`] here because its limits are
    /// operands.
    pub fn range_rule(&self) -> RangeRule {
        match self {
            Self::MaxPool(_)
            | Self::GlobalPool(GlobalPool::Max)
            | Self::Split(_)
            | Self::Slice
            | Self::Gather(_)
            | Self::Transpose(_)
            | Self::Reshape(_)
            | Self::Flatten(_)
            | Self::Squeeze
            | Self::Unsqueeze
            | Self::Expand
            | Self::Tile
            | Self::DepthToSpace(_)
            | Self::SpaceToDepth(_)
            | Self::Identity => RangeRule::SameAsInput,
            Self::Unary(Unary::Relu) => RangeRule::Bounded(0.0, f32::INFINITY),
            Self::Unary(Unary::Sigmoid | Unary::HardSigmoid { .. }) => RangeRule::Bounded(0.0, 1.0),
            Self::Unary(Unary::Tanh | Unary::Erf | Unary::Sign) => RangeRule::Bounded(-1.0, 1.0),
            Self::Softmax(s) if !s.log => RangeRule::Exactly(0.0, 1.0),
            _ => RangeRule::Fresh,
        }
    }

    /// Element type of the result in `slot`, given the operands' types (`None` where unknown or absent).
    pub fn output_dtype(&self, slot: usize, inputs: &[Option<DType>]) -> Option<DType> {
        let first = inputs.first().copied().flatten();
        match self {
            Self::Cast(c) => Some(c.to),
            Self::Binary(f) if Binary::is_predicate(*f) => Some(DType::Bool),
            Self::Unary(Unary::Not) => Some(DType::Bool),
            Self::Shape(_) | Self::Size | Self::ArgMax(_) => Some(DType::I64),
            Self::MaxPool(_) if slot == 1 => Some(DType::I64),
            Self::Identity if slot == 1 => Some(DType::Bool),
            Self::ConstantOfShape(c) => Some(c.value.dtype()),
            Self::Quantize(q) => q.output.or_else(|| inputs.get(2).copied().flatten()).or(Some(DType::U8)),
            Self::Dequantize(_) => inputs.get(1).copied().flatten(),
            Self::Where => inputs.get(1).copied().flatten(),
            Self::Ranged(work) => Some(work.result_type(slot)),
            Self::Opaque(_) => None,
            _ => first,
        }
    }
}

/// The limits of a `Clip` whose limits are constants, an absent one being infinite; `None` for another operator, or if
/// a limit is computed while running.
pub fn clip_limits(graph: &Graph, node: &Node) -> Option<(f32, f32)> {
    let limit = |slot: usize, absent: f32| match node.input(slot) {
        None => Some(absent),
        Some(v) => graph.constant(v).ok()??.as_slice::<f32>().ok()?.first().copied(),
    };
    let clips = matches!(node.op, Op::Clip);
    clips.then_some(())?;
    Some((limit(1, f32::NEG_INFINITY)?, limit(2, f32::INFINITY)?))
}

/// The finite interval the first result of `node` is confined to by its operator, if there is one.
pub fn result_bound(graph: &Graph, node: &Node) -> Option<(f32, f32)> {
    let (lo, hi) = match node.op.range_rule() {
        RangeRule::Bounded(lo, hi) | RangeRule::Exactly(lo, hi) => (lo, hi),
        _ => clip_limits(graph, node)?,
    };
    (lo.is_finite() && hi.is_finite() && lo <= hi).then_some((lo, hi))
}

/// The node that computes the elements of `value`, past those that only move elements; `None` if it is fed or constant.
pub fn computed_by(graph: &Graph, value: ValueId) -> Option<&Node> {
    let (_, mut node) = graph.producer(value)?;
    while !matches!(node.op, Op::Pad(_)) && keeps_range(graph, node) {
        (_, node) = graph.producer(node.input(0)?)?;
    }
    Some(node)
}

/// Whether every element of the first result is an element of the first operand, or zero.
pub fn keeps_range(graph: &Graph, node: &Node) -> bool {
    if let Op::Pad(pad) = &node.op {
        let zeros = |v: ValueId| {
            let constant = graph.constant(v).ok().flatten();
            constant.is_some_and(|t| t.as_slice::<f32>().is_ok_and(|s| s.iter().all(|x| *x == 0.0)))
        };
        return pad.mode != PadMode::Constant || node.input(2).is_none_or(zeros);
    }
    node.op.range_rule() == RangeRule::SameAsInput
}

fn conv_axis(filter: FilterLayout, transposed: bool) -> Option<i64> {
    Some(match (filter, transposed) {
        (FilterLayout::OutputFirst, false) => 0,
        (FilterLayout::OutputFirst, true) => 1,
        (FilterLayout::OutputLast, false) => -1,
        (FilterLayout::OutputLast, true) => -2,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::{Cast, Conv, Gemm, Padding, Rounding, Window};

    #[test]
    fn weights_know_their_output_channels() {
        let gemm = |trans_b| Op::Gemm(Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b });
        assert_eq!(gemm(true).operand_role(1), OperandRole::Weight { channel_axis: Some(0) });
        assert_eq!(gemm(false).operand_role(1), OperandRole::Weight { channel_axis: Some(1) });
        let window = Window { strides: vec![], dilations: vec![], padding: Padding::Valid, rounding: Rounding::Floor };
        let conv = Conv { window, group: 1, layout: Default::default(), filter: FilterLayout::OutputLast };
        assert_eq!(Op::Conv(conv).operand_role(1), OperandRole::Weight { channel_axis: Some(-1) });
    }

    #[test]
    fn result_types() {
        let cast = Op::Cast(Cast { to: DType::I32 });
        assert_eq!(cast.output_dtype(0, &[Some(DType::F32)]), Some(DType::I32));
        assert_eq!(Op::Size.output_dtype(0, &[Some(DType::F32)]), Some(DType::I64));
        assert_eq!(Op::MatMul.output_dtype(0, &[Some(DType::F32), None]), Some(DType::F32));
        assert_eq!(Op::Binary(Binary::Less).output_dtype(0, &[Some(DType::F32)]), Some(DType::Bool));
    }
}
