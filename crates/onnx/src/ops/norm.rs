//! Normalizations and softmax.

use super::Row;
use super::reader::{NodeReader, Read, ReadError};
use quantize_ir::Op;
use quantize_ir::op::{BatchNorm, InstanceNorm, LayerNorm, Lrn, Softmax};

pub(super) const ROWS: &[Row] = &[
    Row { name: "BatchNormalization", read: batch_norm },
    Row { name: "LRN", read: lrn },
    Row { name: "InstanceNormalization", read: instance_norm },
    Row { name: "LayerNormalization", read: layer_norm },
    Row { name: "Softmax", read: |n| softmax(n, false) },
    Row { name: "LogSoftmax", read: |n| softmax(n, true) },
];

fn batch_norm(node: &NodeReader<'_>) -> Result<Read, ReadError> {
    let training = node.flag("training_mode", false)? || (1..5).any(|slot| node.has_output(slot));
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
    };
    Ok(Op::Lrn(op).into())
}

fn instance_norm(node: &NodeReader<'_>) -> Result<Read, ReadError> {
    Ok(Op::InstanceNorm(InstanceNorm { epsilon: node.float_or("epsilon", 1e-5)? }).into())
}

fn layer_norm(node: &NodeReader<'_>) -> Result<Read, ReadError> {
    Ok(Op::LayerNorm(LayerNorm { axis: node.int_or("axis", -1)?, epsilon: node.float_or("epsilon", 1e-5)? }).into())
}

/// Before opset 13 the axes from `axis` on are taken as one, and `axis` is 1 by default.
fn softmax(node: &NodeReader<'_>, log: bool) -> Result<Read, ReadError> {
    let flatten = node.opset() < 13;
    let axis = node.int_or("axis", if flatten { 1 } else { -1 })?;
    Ok(Op::Softmax(Softmax { axis, flatten, log }).into())
}
