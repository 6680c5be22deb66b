//! From an operator to the function that evaluates it.

use crate::error::OpError;
use crate::operands::Operands;
use crate::ops::{elementwise, layout, linear, meta, norm, quantize, ranged, reduce, resize, window};
use crate::pool::Pool;
use quantize_ir::{Op, Tensor};

/// Evaluates an operator; `wanted` says for each result slot of the node whether anybody asks for it.
///
/// # Errors
/// If the operands do not fit the operator, or a wanted result does not exist.
pub(crate) fn evaluate(
    op: &Op,
    wanted: &[bool],
    operands: Operands<'_>,
    pool: &mut Pool,
) -> Result<Vec<Tensor>, OpError> {
    let results = dispatch(op, wanted, operands, pool)?;
    match wanted.iter().rposition(|w| *w) {
        Some(slot) if slot >= results.len() => Err(OpError::Result { slot, results: results.len() }),
        _ => Ok(results),
    }
}

fn dispatch(op: &Op, wanted: &[bool], operands: Operands<'_>, pool: &mut Pool) -> Result<Vec<Tensor>, OpError> {
    match op {
        Op::Conv(a) => window::conv(a, operands, pool),
        Op::ConvTranspose(a) => window::conv_transpose(a, operands, pool),
        Op::MaxPool(a) => window::max_pool(a, wanted.get(1) == Some(&true), operands, pool),
        Op::AveragePool(a) => window::average_pool(a, operands, pool),
        Op::LpPool(a) => window::lp_pool(a, operands, pool),
        Op::GlobalPool(a) => window::global_pool(*a, operands, pool),
        Op::MatMul => linear::matmul(operands, pool),
        Op::Gemm(a) => linear::gemm(a, operands, pool),
        Op::Unary(f) => elementwise::unary(*f, operands, pool),
        Op::Binary(f) => elementwise::binary(*f, operands, pool),
        Op::Nary(f) => elementwise::nary(*f, operands, pool),
        Op::Clip => elementwise::clip(operands, pool),
        Op::PRelu => elementwise::prelu(operands, pool),
        Op::Where => elementwise::select(operands, pool),
        Op::Cast(a) => elementwise::cast(*a, operands, pool),
        Op::BatchNorm(a) => norm::batch_norm(a, operands, pool),
        Op::Lrn(a) => norm::lrn(a, operands, pool),
        Op::InstanceNorm(a) => norm::instance_norm(a, operands, pool),
        Op::LayerNorm(a) => norm::layer_norm(a, operands, pool),
        Op::Softmax(a) => norm::softmax(a, operands, pool),
        Op::Concat(a) => layout::concat(a, operands, pool),
        Op::Split(a) => layout::split(a, wanted.len(), operands, pool),
        Op::Slice => layout::slice(operands, pool),
        Op::Gather(a) => layout::gather(a, operands, pool),
        Op::Transpose(a) => layout::transpose(a, operands, pool),
        Op::Reshape(a) => layout::reshape(a, operands, pool),
        Op::Flatten(a) => layout::flatten(a, operands, pool),
        Op::Squeeze => layout::squeeze(operands, pool),
        Op::Unsqueeze => layout::unsqueeze(operands, pool),
        Op::Expand => layout::expand(operands, pool),
        Op::Tile => layout::tile(operands, pool),
        Op::Pad(a) => layout::pad(a, operands, pool),
        Op::DepthToSpace(a) => layout::depth_to_space(a, operands, pool),
        Op::SpaceToDepth(a) => layout::space_to_depth(a, operands, pool),
        Op::Identity => layout::identity(operands, pool),
        Op::Resize(a) => resize::resize(a, operands, pool),
        Op::Reduce(a) => reduce::reduce(a, operands, pool),
        Op::ArgMax(a) => reduce::arg_max(a, operands, pool),
        Op::Shape(a) => meta::shape_of(a, operands, pool),
        Op::Size => meta::size(operands, pool),
        Op::ConstantOfShape(a) => meta::constant_of_shape(a, operands, pool),
        Op::Range => meta::range(operands, pool),
        Op::Quantize(a) => quantize::quantize(a, operands, pool),
        Op::Dequantize(a) => quantize::dequantize(a, operands, pool),
        Op::Ranged(work) => ranged::evaluate(work, operands, None),
        Op::Opaque(o) => Err(OpError::Unsupported(format!("operator `{}`", o.kind))),
    }
}
