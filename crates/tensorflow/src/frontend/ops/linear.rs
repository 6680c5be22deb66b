//! Products, biases, normalizations and reductions.

use super::super::builder::{Fault, NodeBuilder, Results};
use super::{same, window};
use quantize_ir::op::{ArgMax, BatchNorm, Binary, Cast, Gemm, Layout, Lrn, LrnRegion, Reduce, ReduceKind, Transpose};
use quantize_ir::{DType, Op};

/// What the variance of a batch normalization is increased by if nothing is said.
const EPSILON: f32 = 1e-4;

pub(super) fn read(b: &mut NodeBuilder<'_>) -> Option<Results> {
    Some(match b.node().op() {
        "MatMul" => matrix_product(b),
        "BatchMatMul" | "BatchMatMulV2" | "BatchMatMulV3" => batched(b),
        "BiasAdd" => bias(b),
        "FusedBatchNorm" | "FusedBatchNormV2" | "FusedBatchNormV3" => batch_norm(b),
        "BatchNormWithGlobalNormalization" => old_batch_norm(b),
        "LRN" => response_norm(b),
        "Mean" => reduce(b, ReduceKind::Mean),
        "Sum" => reduce(b, ReduceKind::Sum),
        "Max" => reduce(b, ReduceKind::Max),
        "Min" => reduce(b, ReduceKind::Min),
        "Prod" => reduce(b, ReduceKind::Prod),
        "ArgMax" => arg_max(b),
        _ => return None,
    })
}

fn flag(b: &NodeBuilder<'_>, name: &str) -> Result<bool, Fault> {
    Ok(b.node().bool(name)?.unwrap_or(false))
}

fn matrix_product(b: &mut NodeBuilder<'_>) -> Results {
    let (trans_a, trans_b) = (flag(b, "transpose_a")?, flag(b, "transpose_b")?);
    same(b, Op::Gemm(Gemm { alpha: 1.0, beta: 1.0, trans_a, trans_b }), 2)
}

fn batched(b: &mut NodeBuilder<'_>) -> Results {
    if flag(b, "adj_x")? || flag(b, "adj_y")? {
        return Err(Fault::form("a transposed operand"));
    }
    same(b, Op::MatMul, 2)
}

/// With channels first the bias stands along the second axis, which a broadcast must be told.
fn bias(b: &mut NodeBuilder<'_>) -> Results {
    if window::layout(b)? == Layout::ChannelsLast {
        return same(b, Op::Binary(Binary::Add), 2);
    }
    let Some(&[channels]) = b.constant_shape(1)?.as_deref() else {
        return Err(Fault::form("channels first and a bias that is not a constant vector"));
    };
    let bias = b.in_shape(1, "bias", &[channels, 1, 1])?;
    b.main(Op::Binary(Binary::Add), &[b.input(0)?, bias])
}

fn batch_norm(b: &mut NodeBuilder<'_>) -> Results {
    if b.node().bool("is_training")?.unwrap_or(true) {
        return Err(Fault::form("statistics of the batch (`is_training`)"));
    }
    let axis = if window::layout(b)? == Layout::ChannelsLast { -1 } else { 1 };
    let epsilon = b.node().float("epsilon")?.unwrap_or(EPSILON);
    same(b, Op::BatchNorm(BatchNorm { epsilon, axis }), 5)
}

/// Inputs are x, mean, variance, beta, gamma.
fn old_batch_norm(b: &mut NodeBuilder<'_>) -> Results {
    if !flag(b, "scale_after_normalization")? {
        return Err(Fault::form("no scale after the normalization"));
    }
    let epsilon = b.node().float("variance_epsilon")?.unwrap_or(EPSILON);
    let inputs = [b.input(0)?, b.input(4)?, b.input(3)?, b.input(1)?, b.input(2)?];
    b.main(Op::BatchNorm(BatchNorm { epsilon, axis: -1 }), &inputs)
}

/// Across channels, which stand last. The format does not divide `alpha` by the number of summands.
fn response_norm(b: &mut NodeBuilder<'_>) -> Results {
    let radius = b.node().int("depth_radius")?.unwrap_or(5);
    let size = usize::try_from(radius).ok().and_then(|radius| radius.checked_mul(2)?.checked_add(1));
    let size = size.ok_or_else(|| b.invalid(format!("its radius is {radius}")))?;
    let number = |name: &str, otherwise: f32| b.node().float(name).map(|n| n.unwrap_or(otherwise));
    let (alpha, beta, bias) = (number("alpha", 1.0)? * size as f32, number("beta", 0.5)?, number("bias", 1.0)?);
    let first = b.step("channels_first", Op::Transpose(Transpose { perm: vec![0, 3, 1, 2] }), &[b.input(0)?]);
    let lrn = Op::Lrn(Lrn { alpha, beta, bias, size, region: LrnRegion::Across });
    let normalized = b.step("normalized", lrn, &[first]);
    b.main(Op::Transpose(Transpose { perm: vec![0, 2, 3, 1] }), &[normalized])
}

fn reduce(b: &mut NodeBuilder<'_>, kind: ReduceKind) -> Results {
    let keep_dims = flag(b, "keep_dims")?;
    let axes = b.wide(1)?;
    b.main(Op::Reduce(Reduce { kind, keep_dims, noop_with_empty_axes: true }), &[b.input(0)?, axes])
}

fn arg_max(b: &mut NodeBuilder<'_>) -> Results {
    let op = Op::ArgMax(ArgMax { axis: b.integer(1)?, keep_dims: false, select_last: false });
    let to = b.node().dtype("output_type")?.and_then(|dtype| dtype.elements()).unwrap_or(DType::I64);
    let x = b.input(0)?;
    if to == DType::I64 {
        return b.main(op, &[x]);
    }
    let place = b.step("place", op, &[x]);
    b.main(Op::Cast(Cast { to }), &[place])
}
