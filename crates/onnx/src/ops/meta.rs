//! Shapes and constants.

use super::Row;
use super::reader::{NodeReader, Read, ReadError};
use crate::tensor::{decode_tensor, decode_tensor_beside};
use quantize_ir::op::{ConstantOfShape, ShapeOf};
use quantize_ir::{Op, Tensor, TensorData};
use quantize_proto::onnx::NodeProto;
use std::path::Path;

pub(super) const ROWS: &[Row] = &[
    Row { name: "Shape", operands: 1..=1, results: 1, read: shape },
    Row { name: "Size", operands: 1..=1, results: 1, read: |_| Ok(Op::Size.into()) },
    Row { name: "ConstantOfShape", operands: 1..=1, results: 1, read: constant_of_shape },
    Row { name: "Range", operands: 3..=3, results: 1, read: |_| Ok(Op::Range.into()) },
];

fn shape(node: &NodeReader<'_>) -> Result<Read, ReadError> {
    Ok(Op::Shape(ShapeOf { start: node.int_or("start", 0)?, end: node.int("end")? }).into())
}

fn constant_of_shape(node: &NodeReader<'_>) -> Result<Read, ReadError> {
    let value = match node.tensor("value")? {
        None => TensorData::F32(vec![0.0]),
        Some(proto) => {
            let tensor = decode_tensor(proto).map_err(|value| ReadError::Value { name: "value", value })?;
            tensor.into_data()
        }
    };
    if value.len() != 1 {
        return Err(ReadError::Value { name: "value", value: format!("with {} elements", value.len()) });
    }
    Ok(Op::ConstantOfShape(ConstantOfShape { value }).into())
}

/// The tensor of a `Constant` node of the model at `document`; `None` if it is not one that tensors can hold (text,
/// sparse).
pub(crate) fn constant_value(node: &NodeProto, document: &Path) -> Option<Result<Tensor, String>> {
    let value = |name: &str| node.attribute.iter().find(|a| a.name() == name);
    if let Some(tensor) = value("value").and_then(|a| a.t.as_ref()) {
        return Some(decode_tensor_beside(tensor, document));
    }
    let plain = value("value_float").map(|a| Tensor::scalar(a.f()));
    let plain = plain.or_else(|| value("value_int").map(|a| Tensor::scalar(a.i())));
    let plain = plain.or_else(|| value("value_floats").map(|a| Tensor::vector(a.floats.clone())));
    plain.or_else(|| value("value_ints").map(|a| Tensor::vector(a.ints.clone()))).map(Ok)
}
