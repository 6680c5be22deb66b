//! Matrix products.

use super::Row;
use super::reader::{NodeReader, Read, ReadError};
use quantize_ir::Op;
use quantize_ir::op::Gemm;

pub(super) const ROWS: &[Row] = &[
    Row { name: "MatMul", operands: 2..=2, results: 1, read: |_| Ok(Op::MatMul.into()) },
    Row { name: "Gemm", operands: 2..=3, results: 1, read: gemm },
];

fn gemm(node: &NodeReader<'_>) -> Result<Read, ReadError> {
    let op = Gemm {
        alpha: node.float_or("alpha", 1.0)?,
        beta: node.float_or("beta", 1.0)?,
        trans_a: node.flag("transA", false)?,
        trans_b: node.flag("transB", false)?,
    };
    Ok(Op::Gemm(op).into())
}
