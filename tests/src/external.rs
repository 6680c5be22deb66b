//! Models whose tensors stand in a file beside them, made from models that hold them.

use prost::Message;
use quantize_proto::onnx::attribute_proto::AttributeType;
use quantize_proto::onnx::tensor_proto::DataLocation;
use quantize_proto::onnx::{AttributeProto, ModelProto, NodeProto, StringStringEntryProto, TensorProto};

/// The model with its raw initializers moved to a file named `location`, and the content of that file.
///
/// # Panics
/// If the bytes are no model.
#[must_use]
pub fn moved_out(model: &[u8], location: &str) -> (ModelProto, Vec<u8>) {
    let mut model = ModelProto::decode(model).expect("a model");
    let mut data = Vec::new();
    for tensor in &mut model.graph.as_mut().expect("a graph").initializer {
        if let Some(raw) = tensor.raw_data.take() {
            refer(tensor, location, &data.len().to_string(), &raw.len().to_string());
            data.extend(raw);
        }
    }
    (model, data)
}

/// Makes a tensor refer to a stretch of a file; entries are written as given.
pub fn refer(tensor: &mut TensorProto, location: &str, offset: &str, length: &str) {
    let entry = |key: &str, value: &str| StringStringEntryProto { key: Some(key.into()), value: Some(value.into()) };
    tensor.raw_data = None;
    tensor.data_location = Some(DataLocation::External.into());
    tensor.external_data = vec![entry("location", location), entry("offset", offset), entry("length", length)];
}

/// The locations that tensors of a model refer to, each once, in alphabetical order.
///
/// # Panics
/// If the bytes are no model.
#[must_use]
pub fn locations(model: &[u8]) -> Vec<String> {
    let model = ModelProto::decode(model).expect("a model");
    let tensors = model.graph.expect("a graph").initializer.into_iter();
    let entries = tensors.flat_map(|tensor| tensor.external_data).filter(|entry| entry.key() == "location");
    let mut found: Vec<String> = entries.filter_map(|entry| entry.value).collect();
    found.sort();
    found.dedup();
    found
}

/// A node that computes the constant `output`.
#[must_use]
pub fn constant_node(output: &str, value: TensorProto) -> NodeProto {
    let attribute = AttributeProto {
        name: Some("value".into()),
        t: Some(value),
        r#type: Some(AttributeType::Tensor.into()),
        ..AttributeProto::default()
    };
    NodeProto {
        output: vec![output.into()],
        op_type: Some("Constant".into()),
        attribute: vec![attribute],
        ..NodeProto::default()
    }
}
