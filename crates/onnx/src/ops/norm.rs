//! Normalizations and softmax.

use super::Row;
use super::reader::{NodeReader, Read, ReadError};
use quantize_ir::Op;
use quantize_ir::op::{BatchNorm, InstanceNorm, LayerNorm, Lrn, LrnRegion, Softmax};

pub(super) const ROWS: &[Row] = &[
    Row { name: "BatchNormalization", operands: 5..=5, results: 1, read: batch_norm },
    Row { name: "LRN", operands: 1..=1, results: 1, read: lrn },
    Row { name: "InstanceNormalization", operands: 3..=3, results: 1, read: instance_norm },
    Row { name: "LayerNormalization", operands: 2..=3, results: 3, read: layer_norm },
    Row { name: "Softmax", operands: 1..=1, results: 1, read: |n| softmax(n, false) },
    Row { name: "LogSoftmax", operands: 1..=1, results: 1, read: |n| softmax(n, true) },
];

fn batch_norm(node: &NodeReader<'_>) -> Result<Read, ReadError> {
    let training = node.flag("training_mode", false)? || (1..5).any(|slot| node.has_output(slot));
    let training = training || (node.opset() < 7 && !node.flag("is_test", false)?);
    if training {
        return Err(ReadError::Form("it computes statistics, as in training"));
    }
    if node.opset() < 9 && !node.flag("spatial", true)? {
        return Err(ReadError::Form("it normalizes each activation on its own (`spatial` is 0)"));
    }
    Ok(Op::BatchNorm(BatchNorm { epsilon: node.float_or("epsilon", 1e-5)?, axis: 1 }).into())
}

fn lrn(node: &NodeReader<'_>) -> Result<Read, ReadError> {
    let size = node.size_or("size", 0)?;
    if size == 0 {
        return Err(ReadError::Missing("size"));
    }
    let op = Lrn {
        alpha: node.float_or("alpha", 0.0001)?,
        beta: node.float_or("beta", 0.75)?,
        bias: node.float_or("bias", 1.0)?,
        size,
        region: LrnRegion::Across,
    };
    Ok(Op::Lrn(op).into())
}

fn instance_norm(node: &NodeReader<'_>) -> Result<Read, ReadError> {
    Ok(Op::InstanceNorm(InstanceNorm { epsilon: node.float_or("epsilon", 1e-5)? }).into())
}

fn layer_norm(node: &NodeReader<'_>) -> Result<Read, ReadError> {
    if node.int_or("stash_type", 1)? != 1 {
        return Err(ReadError::Form("it computes in another type than float32 (`stash_type` is not 1)"));
    }
    Ok(Op::LayerNorm(LayerNorm { axis: node.int_or("axis", -1)?, epsilon: node.float_or("epsilon", 1e-5)? }).into())
}

/// Before opset 13 the axes from `axis` on are taken as one, which says nothing of the last axis, and `axis` is 1 by
/// default.
fn softmax(node: &NodeReader<'_>, log: bool) -> Result<Read, ReadError> {
    let old = node.opset() < 13;
    let axis = node.int_or("axis", if old { 1 } else { -1 })?;
    let flatten = old && !is_last(axis, node.rank(0));
    Ok(Op::Softmax(Softmax { axis, flatten, log }).into())
}

fn is_last(axis: i64, rank: Option<usize>) -> bool {
    axis == -1 || rank.is_some_and(|rank| usize::try_from(axis).is_ok_and(|axis| axis + 1 == rank))
}
