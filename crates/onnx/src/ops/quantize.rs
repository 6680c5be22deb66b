//! Quantization operators that a model contains already.

use super::Row;
use super::reader::{NodeReader, ReadError};
use crate::tensor::dtype_of;
use quantize_ir::Op;
use quantize_ir::op::LinearQuantization;

pub(super) const ROWS: &[Row] = &[
    Row { name: "QuantizeLinear", read: |n| Ok(Op::Quantize(linear(n)?).into()) },
    Row { name: "DequantizeLinear", read: |n| Ok(Op::Dequantize(linear(n)?).into()) },
];

fn linear(node: &NodeReader<'_>) -> Result<LinearQuantization, ReadError> {
    let output = node.int_or("output_dtype", 0)?;
    let output = match output {
        0 => None,
        known => {
            let dtype = i32::try_from(known).ok().and_then(dtype_of);
            Some(dtype.ok_or_else(|| ReadError::Value { name: "output_dtype", value: known.to_string() })?)
        }
    };
    Ok(LinearQuantization { axis: node.int_or("axis", 1)?, block_size: node.size_or("block_size", 0)?, output })
}
