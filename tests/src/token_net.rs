//! A small network of token ids: an embedding, its mean over the sequence, and a matrix product, to which a second input
//! is added. Both inputs have an open batch.

use prost::Message;
use quantize_proto::onnx::tensor_proto::DataType;
use quantize_proto::onnx::tensor_shape_proto::{Dimension, dimension};
use quantize_proto::onnx::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto,
    ValueInfoProto, attribute_proto, type_proto,
};

/// Rows of the embedding.
const TOKENS: i64 = 11;
/// Length of a row.
const WIDTH: i64 = 8;
/// Classes.
const CLASSES: i64 = 3;

/// The model: `token_ids` int64 `[batch, sequence]` and `extra` float32 `[batch, 3]` to `logits` float32 `[batch, 3]`.
#[must_use]
pub fn token_net() -> Vec<u8> {
    let graph = GraphProto {
        name: Some("token_net".into()),
        node: vec![
            node("Gather", &["table", "token_ids"], "embedded", vec![]),
            node("ReduceMean", &["embedded"], "mean", vec![ints("axes", &[1]), int("keepdims", 0)]),
            node("MatMul", &["mean", "weight"], "product", vec![]),
            node("Add", &["product", "extra"], "logits", vec![]),
        ],
        initializer: vec![reals("table", &[TOKENS, WIDTH]), reals("weight", &[WIDTH, CLASSES])],
        input: vec![
            port("token_ids", DataType::Int64, &[open("batch"), open("sequence")]),
            port("extra", DataType::Float, &[open("batch"), known(CLASSES)]),
        ],
        output: vec![port("logits", DataType::Float, &[open("batch"), known(CLASSES)])],
        ..GraphProto::default()
    };
    let opset = OperatorSetIdProto { domain: Some(String::new()), version: Some(13) };
    let model =
        ModelProto { ir_version: Some(8), opset_import: vec![opset], graph: Some(graph), ..ModelProto::default() };
    model.encode_to_vec()
}

fn node(op: &str, inputs: &[&str], output: &str, attribute: Vec<AttributeProto>) -> NodeProto {
    NodeProto {
        name: Some(output.into()),
        op_type: Some(op.into()),
        input: inputs.iter().map(|name| (*name).to_owned()).collect(),
        output: vec![output.into()],
        attribute,
        ..NodeProto::default()
    }
}

fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto {
        name: Some(name.into()),
        r#type: Some(attribute_proto::AttributeType::Ints.into()),
        ints: values.to_vec(),
        ..AttributeProto::default()
    }
}

fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        name: Some(name.into()),
        r#type: Some(attribute_proto::AttributeType::Int.into()),
        i: Some(value),
        ..AttributeProto::default()
    }
}

/// Numbers between -1 and 1 that repeat nowhere in sight.
fn reals(name: &str, dims: &[i64]) -> TensorProto {
    let number = |i: i64| (i as f32 * 0.737).sin();
    TensorProto {
        name: Some(name.into()),
        dims: dims.to_vec(),
        data_type: Some(DataType::Float.into()),
        float_data: (0..dims.iter().product()).map(number).collect(),
        ..TensorProto::default()
    }
}

fn open(name: &str) -> Dimension {
    Dimension { value: Some(dimension::Value::DimParam(name.into())), ..Dimension::default() }
}

fn known(length: i64) -> Dimension {
    Dimension { value: Some(dimension::Value::DimValue(length)), ..Dimension::default() }
}

fn port(name: &str, data_type: DataType, dim: &[Dimension]) -> ValueInfoProto {
    let shape = TensorShapeProto { dim: dim.to_vec() };
    let tensor = type_proto::Tensor { elem_type: Some(data_type.into()), shape: Some(shape) };
    let value = Some(type_proto::Value::TensorType(tensor));
    ValueInfoProto {
        name: Some(name.into()),
        r#type: Some(TypeProto { value, ..TypeProto::default() }),
        ..ValueInfoProto::default()
    }
}
