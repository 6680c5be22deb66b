//! Reductions. Axes are an attribute before opset 18, before 13 for `ReduceSum`.

use super::Row;
use super::reader::{NodeReader, Read, ReadError};
use quantize_ir::Op;
use quantize_ir::op::{ArgMax, Reduce, ReduceKind};

pub(super) const ROWS: &[Row] = &[
    Row { name: "ReduceMean", operands: 1..=2, results: 1, read: |n| reduce(n, ReduceKind::Mean) },
    Row { name: "ReduceMax", operands: 1..=2, results: 1, read: |n| reduce(n, ReduceKind::Max) },
    Row { name: "ReduceMin", operands: 1..=2, results: 1, read: |n| reduce(n, ReduceKind::Min) },
    Row { name: "ReduceSum", operands: 1..=2, results: 1, read: |n| reduce(n, ReduceKind::Sum) },
    Row { name: "ReduceProd", operands: 1..=2, results: 1, read: |n| reduce(n, ReduceKind::Prod) },
    Row { name: "ReduceL1", operands: 1..=2, results: 1, read: |n| reduce(n, ReduceKind::L1) },
    Row { name: "ReduceL2", operands: 1..=2, results: 1, read: |n| reduce(n, ReduceKind::L2) },
    Row { name: "ReduceSumSquare", operands: 1..=2, results: 1, read: |n| reduce(n, ReduceKind::SumSquare) },
    Row { name: "ArgMax", operands: 1..=1, results: 1, read: arg_max },
];

fn reduce(node: &NodeReader<'_>, kind: ReduceKind) -> Result<Read, ReadError> {
    let since = if kind == ReduceKind::Sum { 13 } else { 18 };
    let noop_with_empty_axes = node.opset() >= since && node.flag("noop_with_empty_axes", false)?;
    let op = Reduce { kind, keep_dims: node.flag("keepdims", true)?, noop_with_empty_axes };
    node.axes_operand(Op::Reduce(op), since)
}

fn arg_max(node: &NodeReader<'_>) -> Result<Read, ReadError> {
    let op = ArgMax {
        axis: node.int_or("axis", 0)?,
        keep_dims: node.flag("keepdims", true)?,
        select_last: node.flag("select_last_index", false)?,
    };
    Ok(Op::ArgMax(op).into())
}
