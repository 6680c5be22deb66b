//! Reductions. Axes are an attribute before opset 18, before 13 for `ReduceSum`.

use super::Row;
use super::reader::{NodeReader, Read, ReadError};
use quantize_ir::Op;
use quantize_ir::op::{ArgMax, Reduce, ReduceKind};

pub(super) const ROWS: &[Row] = &[
    Row { name: "ReduceMean", read: |n| reduce(n, ReduceKind::Mean) },
    Row { name: "ReduceMax", read: |n| reduce(n, ReduceKind::Max) },
    Row { name: "ReduceMin", read: |n| reduce(n, ReduceKind::Min) },
    Row { name: "ReduceSum", read: |n| reduce(n, ReduceKind::Sum) },
    Row { name: "ReduceProd", read: |n| reduce(n, ReduceKind::Prod) },
    Row { name: "ReduceL1", read: |n| reduce(n, ReduceKind::L1) },
    Row { name: "ReduceL2", read: |n| reduce(n, ReduceKind::L2) },
    Row { name: "ReduceSumSquare", read: |n| reduce(n, ReduceKind::SumSquare) },
    Row { name: "ArgMax", read: arg_max },
];

fn reduce(node: &NodeReader<'_>, kind: ReduceKind) -> Result<Read, ReadError> {
    let noop_with_empty_axes = node.flag("noop_with_empty_axes", false)?;
    node.axes_operand(Op::Reduce(Reduce { kind, keep_dims: node.flag("keepdims", true)?, noop_with_empty_axes }), 1)
}

fn arg_max(node: &NodeReader<'_>) -> Result<Read, ReadError> {
    let op = ArgMax {
        axis: node.int_or("axis", 0)?,
        keep_dims: node.flag("keepdims", true)?,
        select_last: node.flag("select_last_index", false)?,
    };
    Ok(Op::ArgMax(op).into())
}
