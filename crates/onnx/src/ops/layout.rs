//! Operators that move elements.

use super::Row;
use super::reader::{NodeReader, Read, ReadError};
use quantize_ir::op::{
    Concat, DepthToSpace, DepthToSpaceMode, Flatten, Gather, Layout, Pad, PadMode, Reshape, SpaceToDepth, Split,
    Transpose,
};
use quantize_ir::{Op, Tensor};

pub(super) const ROWS: &[Row] = &[
    Row { name: "Concat", read: concat },
    Row { name: "Split", read: split },
    Row { name: "Slice", read: slice },
    Row { name: "Gather", read: |n| Ok(Op::Gather(Gather { axis: n.int_or("axis", 0)? }).into()) },
    Row { name: "Transpose", read: |n| Ok(Op::Transpose(Transpose { perm: n.sizes("perm")? }).into()) },
    Row { name: "Reshape", read: |n| Ok(Op::Reshape(Reshape { allow_zero: n.flag("allowzero", false)? }).into()) },
    Row { name: "Flatten", read: |n| Ok(Op::Flatten(Flatten { axis: n.int_or("axis", 1)? }).into()) },
    Row { name: "Squeeze", read: |n| n.axes_operand(Op::Squeeze, 1) },
    Row { name: "Unsqueeze", read: |n| n.axes_operand(Op::Unsqueeze, 1) },
    Row { name: "Expand", read: |_| Ok(Op::Expand.into()) },
    Row { name: "Tile", read: |_| Ok(Op::Tile.into()) },
    Row { name: "Pad", read: pad },
    Row { name: "DepthToSpace", read: depth_to_space },
    Row { name: "SpaceToDepth", read: space_to_depth },
    Row { name: "Identity", read: |_| Ok(Op::Identity.into()) },
    Row { name: "Dropout", read: dropout },
];

fn concat(node: &NodeReader<'_>) -> Result<Read, ReadError> {
    let axis = node.int("axis")?.ok_or(ReadError::Missing("axis"))?;
    Ok(Op::Concat(Concat { axis }).into())
}

fn split(node: &NodeReader<'_>) -> Result<Read, ReadError> {
    let op = Op::Split(Split { axis: node.int_or("axis", 0)? });
    Ok(match node.ints("split")? {
        Some(sizes) if node.opset() < 13 => Read::from(op).with(1, Tensor::vector(sizes.to_vec())),
        _ => op.into(),
    })
}

fn slice(node: &NodeReader<'_>) -> Result<Read, ReadError> {
    if node.opset() >= 10 {
        return Ok(Op::Slice.into());
    }
    let starts = node.ints("starts")?.ok_or(ReadError::Missing("starts"))?;
    let ends = node.ints("ends")?.ok_or(ReadError::Missing("ends"))?;
    let read = Read::from(Op::Slice).with(1, Tensor::vector(starts.to_vec())).with(2, Tensor::vector(ends.to_vec()));
    Ok(match node.ints("axes")? {
        Some(axes) => read.with(3, Tensor::vector(axes.to_vec())),
        None => read,
    })
}

const PAD_MODES: [(&str, PadMode); 4] =
    [("constant", PadMode::Constant), ("reflect", PadMode::Reflect), ("edge", PadMode::Edge), ("wrap", PadMode::Wrap)];

fn pad(node: &NodeReader<'_>) -> Result<Read, ReadError> {
    let op = Op::Pad(Pad { mode: node.choice("mode", "constant", &PAD_MODES)? });
    if node.opset() >= 11 {
        return Ok(op.into());
    }
    let pads = node.ints("pads")?.ok_or(ReadError::Missing("pads"))?;
    let value = Tensor::scalar(node.float_or("value", 0.0)?);
    Ok(Read::from(op).with(1, Tensor::vector(pads.to_vec())).with(2, value))
}

fn block(node: &NodeReader<'_>) -> Result<usize, ReadError> {
    match node.size_or("blocksize", 0)? {
        0 => Err(ReadError::Missing("blocksize")),
        block => Ok(block),
    }
}

fn depth_to_space(node: &NodeReader<'_>) -> Result<Read, ReadError> {
    let modes = [("DCR", DepthToSpaceMode::DepthColumnRow), ("CRD", DepthToSpaceMode::ColumnRowDepth)];
    let mode = node.choice("mode", "DCR", &modes)?;
    Ok(Op::DepthToSpace(DepthToSpace { block: block(node)?, mode, layout: Layout::ChannelsFirst }).into())
}

fn space_to_depth(node: &NodeReader<'_>) -> Result<Read, ReadError> {
    Ok(Op::SpaceToDepth(SpaceToDepth { block: block(node)?, layout: Layout::ChannelsFirst }).into())
}

/// Dropout passes its operand on unless it is told to train.
fn dropout(node: &NodeReader<'_>) -> Result<Read, ReadError> {
    if node.opset() >= 12 && node.has_input(2) {
        return Err(ReadError::Form("it may drop elements, as in training"));
    }
    Ok(Read { operands: Some(1), ..Op::Identity.into() })
}
