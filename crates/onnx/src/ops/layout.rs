//! Operators that move elements.

use super::reader::{NodeReader, Read, ReadError};
use super::{MANY, Row};
use quantize_ir::op::{
    Concat, DepthToSpace, DepthToSpaceMode, Flatten, Gather, Layout, Pad, PadMode, Reshape, SpaceToDepth, Split,
    Transpose,
};
use quantize_ir::{Op, Tensor, TensorData};

pub(super) const ROWS: &[Row] = &[
    Row { name: "Concat", operands: 1..=MANY, results: 1, read: concat },
    Row { name: "Split", operands: 1..=2, results: MANY, read: split },
    Row { name: "Slice", operands: 3..=5, results: 1, read: slice },
    Row {
        name: "Gather",
        operands: 2..=2,
        results: 1,
        read: |n| Ok(Op::Gather(Gather { axis: n.int_or("axis", 0)? }).into()),
    },
    Row {
        name: "Transpose",
        operands: 1..=1,
        results: 1,
        read: |n| Ok(Op::Transpose(Transpose { perm: n.sizes("perm")? }).into()),
    },
    Row {
        name: "Reshape",
        operands: 2..=2,
        results: 1,
        read: |n| Ok(Op::Reshape(Reshape { allow_zero: n.flag("allowzero", false)? }).into()),
    },
    Row {
        name: "Flatten",
        operands: 1..=1,
        results: 1,
        read: |n| Ok(Op::Flatten(Flatten { axis: n.int_or("axis", 1)? }).into()),
    },
    Row { name: "Squeeze", operands: 1..=2, results: 1, read: |n| n.axes_operand(Op::Squeeze, 13) },
    Row { name: "Unsqueeze", operands: 2..=2, results: 1, read: |n| n.axes_operand(Op::Unsqueeze, 13) },
    Row { name: "Expand", operands: 2..=2, results: 1, read: |_| Ok(Op::Expand.into()) },
    Row { name: "Tile", operands: 2..=2, results: 1, read: |_| Ok(Op::Tile.into()) },
    Row { name: "Pad", operands: 2..=4, results: 1, read: pad },
    Row { name: "DepthToSpace", operands: 1..=1, results: 1, read: depth_to_space },
    Row { name: "SpaceToDepth", operands: 1..=1, results: 1, read: space_to_depth },
    Row { name: "Identity", operands: 1..=1, results: 1, read: |_| Ok(Op::Identity.into()) },
    Row { name: "Dropout", operands: 1..=1, results: 2, read: dropout },
];

fn concat(node: &NodeReader<'_>) -> Result<Read, ReadError> {
    let axis = node.int("axis")?.ok_or(ReadError::Missing("axis"))?;
    Ok(Op::Concat(Concat { axis }).into())
}

fn split(node: &NodeReader<'_>) -> Result<Read, ReadError> {
    let op = Op::Split(Split { axis: node.int_or("axis", 0)? });
    if node.opset() < 13 {
        let sizes = node.ints("split")?.map(|sizes| Tensor::vector(sizes.to_vec()));
        return Ok(node.old_form(op)?.with_some(1, sizes));
    }
    match node.int("num_outputs")? {
        Some(pieces) if usize::try_from(pieces) != Ok(node.output_count()) => {
            Err(ReadError::Value { name: "num_outputs", value: format!("{pieces}, unlike its number of results") })
        }
        _ => Ok(op.into()),
    }
}

fn slice(node: &NodeReader<'_>) -> Result<Read, ReadError> {
    if node.opset() >= 10 {
        return Ok(Op::Slice.into());
    }
    let starts = node.ints("starts")?.ok_or(ReadError::Missing("starts"))?;
    let ends = node.ints("ends")?.ok_or(ReadError::Missing("ends"))?;
    let axes = node.ints("axes")?.map(|axes| Tensor::vector(axes.to_vec()));
    let read = node.old_form(Op::Slice)?;
    let read = read.with(1, Tensor::vector(starts.to_vec())).with(2, Tensor::vector(ends.to_vec()));
    Ok(read.with_some(3, axes))
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
    Ok(node.old_form(op)?.with(1, Tensor::vector(pads.to_vec())).with(2, value))
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
    if node.text_or("mode", "DCR")? != "DCR" {
        return Err(ReadError::Form("its blocks are not spread depth last (`mode` is not DCR)"));
    }
    Ok(Op::SpaceToDepth(SpaceToDepth { block: block(node)?, layout: Layout::ChannelsFirst }).into())
}

/// Dropout passes its operand on unless it is told to train, before opset 7 only if it is told not to.
fn dropout(node: &NodeReader<'_>) -> Result<Read, ReadError> {
    let told = node.opset() >= 12 && node.has_input(2) && !is_false(node.constant(2).as_deref());
    if told || (node.opset() < 7 && !node.flag("is_test", false)?) {
        return Err(ReadError::Form("it may drop elements, as in training"));
    }
    Ok(Read { operands: Some(1), ..Op::Identity.into() })
}

fn is_false(flag: Option<&Tensor>) -> bool {
    matches!(flag.map(Tensor::data), Some(TensorData::Bool(values)) if values.iter().all(|v| !v))
}
