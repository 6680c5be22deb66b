//! Types and shapes of values, as the messages that declare a graph's inputs, outputs and what is between.

use crate::tensor::data_type_of;
use quantize_ir::{DType, Dim, Shape};
use quantize_proto::onnx::tensor_shape_proto::{Dimension, dimension};
use quantize_proto::onnx::{TensorShapeProto, TypeProto, ValueInfoProto, type_proto};

/// Declares a value; without a type it is `float32`, which is what operators compute with.
pub(super) fn declare(name: &str, dtype: Option<DType>, shape: Option<TensorShapeProto>) -> ValueInfoProto {
    let tensor = type_proto::Tensor { elem_type: Some(data_type_of(dtype.unwrap_or(DType::F32))), shape };
    let declared = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: Some(name.to_owned()), r#type: Some(declared), ..ValueInfoProto::default() }
}

/// A shape whose unknown dimensions get names of `unknown`, given their axis, or stay open.
pub(super) fn shape(shape: &Shape, unknown: impl Fn(usize) -> Option<String>) -> TensorShapeProto {
    let dimension = |(axis, dim): (usize, &Dim)| {
        let value = match dim {
            Dim::Known(n) => i64::try_from(*n).ok().map(dimension::Value::DimValue),
            Dim::Symbol(name) if !name.is_empty() => Some(dimension::Value::DimParam(name.clone())),
            Dim::Symbol(_) | Dim::Unknown => unknown(axis).map(dimension::Value::DimParam),
        };
        Dimension { value, ..Dimension::default() }
    };
    TensorShapeProto { dim: shape.iter().enumerate().map(dimension).collect() }
}
