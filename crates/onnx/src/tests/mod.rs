//! Tests of reading as a whole, and the models they build by hand.

mod errors;
mod files;
mod graphs;

use crate::{OnnxDocument, OnnxError, import};
use prost::Message;
use quantize_document::{Limits, Problem, SourceFile};
use quantize_ir::{Graph, Tensor};
use quantize_proto::onnx::attribute_proto::AttributeType;
use quantize_proto::onnx::{AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto};
use quantize_proto::onnx::{TypeProto, ValueInfoProto, type_proto};
use std::sync::Arc;

pub(crate) fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(|n| (*n).to_owned()).collect()
}

/// A node without a name.
pub(crate) fn node(op_type: &str, input: &[&str], output: &[&str], attribute: Vec<AttributeProto>) -> NodeProto {
    let (input, output) = (names(input), names(output));
    NodeProto { input, output, op_type: Some(op_type.into()), attribute, ..Default::default() }
}

fn attribute(name: &str, kind: AttributeType) -> AttributeProto {
    AttributeProto { name: Some(name.into()), r#type: Some(kind.into()), ..Default::default() }
}

pub(crate) fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { i: Some(value), ..attribute(name, AttributeType::Int) }
}

pub(crate) fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto { ints: values.to_vec(), ..attribute(name, AttributeType::Ints) }
}

pub(crate) fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto { f: Some(value), ..attribute(name, AttributeType::Float) }
}

pub(crate) fn floats(name: &str, values: &[f32]) -> AttributeProto {
    AttributeProto { floats: values.to_vec(), ..attribute(name, AttributeType::Floats) }
}

pub(crate) fn text(name: &str, value: &str) -> AttributeProto {
    AttributeProto { s: Some(value.into()), ..attribute(name, AttributeType::String) }
}

pub(crate) fn tensor(name: &str, value: TensorProto) -> AttributeProto {
    AttributeProto { t: Some(value), ..attribute(name, AttributeType::Tensor) }
}

pub(crate) fn subgraph(name: &str, value: GraphProto) -> AttributeProto {
    AttributeProto { g: Some(value), ..attribute(name, AttributeType::Graph) }
}

fn initializer(name: &str, value: &Tensor) -> TensorProto {
    crate::tensor::encode_tensor(name, value)
}

fn info(name: &str) -> ValueInfoProto {
    ValueInfoProto { name: Some(name.into()), ..Default::default() }
}

/// A float value of a rank, its dimensions unknown.
fn ranked(name: &str, rank: usize) -> ValueInfoProto {
    let shape = quantize_proto::onnx::TensorShapeProto { dim: vec![Default::default(); rank] };
    let tensor = type_proto::Tensor { elem_type: Some(1), shape: Some(shape) };
    let declared = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() };
    ValueInfoProto { r#type: Some(declared), ..info(name) }
}

fn opset(domain: &str, version: i64) -> OperatorSetIdProto {
    OperatorSetIdProto { domain: Some(domain.into()), version: Some(version) }
}

/// A model from `x` to `y`.
pub(crate) fn model(version: i64, node: Vec<NodeProto>) -> ModelProto {
    let graph = GraphProto { node, input: vec![info("x")], output: vec![info("y")], ..Default::default() };
    ModelProto { graph: Some(graph), opset_import: vec![opset("", version)], ..Default::default() }
}

/// The model `y = Relu(x)` after `change`.
fn relu(change: impl FnOnce(&mut ModelProto, &mut GraphProto)) -> ModelProto {
    let mut model = model(13, vec![node("Relu", &["x"], &["y"], vec![])]);
    let mut graph = model.graph.take().unwrap();
    change(&mut model, &mut graph);
    ModelProto { graph: Some(graph), ..model }
}

/// A model as a document.
pub(crate) fn parse(model: &ModelProto) -> Arc<OnnxDocument> {
    let source = SourceFile::from_bytes("m.onnx", model.encode_to_vec());
    Arc::new(OnnxDocument::parse(source, &Limits::default()).unwrap())
}

fn read_bytes(bytes: Vec<u8>) -> Result<(Graph, Vec<Problem>), OnnxError> {
    let limits = Limits::default();
    let document = OnnxDocument::parse(SourceFile::from_bytes("m.onnx", bytes), &limits)?;
    import(&Arc::new(document))
}

fn read_model(model: &ModelProto) -> Result<(Graph, Vec<Problem>), OnnxError> {
    read_bytes(model.encode_to_vec())
}

/// The first constant of the graph that cannot be read.
fn read_constants(graph: &Graph) -> Result<(), String> {
    graph.values().try_for_each(|(id, _)| graph.constant(id).map(|_| ()).map_err(|e| e.to_string()))
}
