//! Parts of ONNX messages for networks that are made in code.

use quantize_proto::onnx::tensor_proto::DataType;
use quantize_proto::onnx::tensor_shape_proto::{Dimension, dimension};
use quantize_proto::onnx::{
    AttributeProto, NodeProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto, attribute_proto, type_proto,
};

/// A node that is called as what it computes.
pub(crate) fn node(op: &str, inputs: &[&str], output: &str, attribute: Vec<AttributeProto>) -> NodeProto {
    NodeProto {
        name: Some(output.into()),
        op_type: Some(op.into()),
        input: inputs.iter().map(|name| (*name).to_owned()).collect(),
        output: vec![output.into()],
        attribute,
        ..NodeProto::default()
    }
}

/// An attribute with integers.
pub(crate) fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto {
        name: Some(name.into()),
        r#type: Some(attribute_proto::AttributeType::Ints.into()),
        ints: values.to_vec(),
        ..AttributeProto::default()
    }
}

/// An attribute with one integer.
pub(crate) fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        name: Some(name.into()),
        r#type: Some(attribute_proto::AttributeType::Int.into()),
        i: Some(value),
        ..AttributeProto::default()
    }
}

/// A tensor of `float32` whose element number `i` is `element(i)`.
pub(crate) fn numbers(name: &str, dims: &[i64], element: impl Fn(i64) -> f32) -> TensorProto {
    TensorProto {
        name: Some(name.into()),
        dims: dims.to_vec(),
        data_type: Some(DataType::Float.into()),
        float_data: (0..dims.iter().product()).map(element).collect(),
        ..TensorProto::default()
    }
}

/// A dimension of any length.
pub(crate) fn open(name: &str) -> Dimension {
    Dimension { value: Some(dimension::Value::DimParam(name.into())), ..Dimension::default() }
}

/// A dimension of this length.
pub(crate) fn known(length: i64) -> Dimension {
    Dimension { value: Some(dimension::Value::DimValue(length)), ..Dimension::default() }
}

/// An input or output of the network.
pub(crate) fn port(name: &str, data_type: DataType, dim: &[Dimension]) -> ValueInfoProto {
    let shape = TensorShapeProto { dim: dim.to_vec() };
    let tensor = type_proto::Tensor { elem_type: Some(data_type.into()), shape: Some(shape) };
    let value = Some(type_proto::Value::TensorType(tensor));
    ValueInfoProto {
        name: Some(name.into()),
        r#type: Some(TypeProto { value, ..TypeProto::default() }),
        ..ValueInfoProto::default()
    }
}
