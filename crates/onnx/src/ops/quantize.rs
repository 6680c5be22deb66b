//! Quantization operators that a model contains already.

use super::Row;
use super::reader::{NodeReader, Read, ReadError};
use crate::tensor::dtype_of;
use quantize_ir::op::LinearQuantization;
use quantize_ir::{DType, Op};

pub(super) const ROWS: &[Row] = &[
    Row { name: "QuantizeLinear", operands: 2..=3, results: 1, read: quantize },
    Row { name: "DequantizeLinear", operands: 2..=3, results: 1, read: dequantize },
];

fn quantize(node: &NodeReader<'_>) -> Result<Read, ReadError> {
    if node.int_or("precision", 0)? != 0 {
        return Err(ReadError::Form("it divides in another type than its operands' (`precision` is not 0)"));
    }
    Ok(Op::Quantize(linear(node)?).into())
}

fn dequantize(node: &NodeReader<'_>) -> Result<Read, ReadError> {
    let op = linear(node)?;
    match op.output {
        None | Some(DType::F32) => Ok(Op::Dequantize(op).into()),
        Some(other) => Err(ReadError::Value { name: "output_dtype", value: format!("{other}, not float32") }),
    }
}

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
