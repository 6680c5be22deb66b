//! Tests of models in half precision.

use super::*;
use crate::import;
use crate::tests::{int, model, node, parse, subgraph, tensor};
use quantize_document::{Limits, SourceFile};
use quantize_ir::Tensor;
use quantize_proto::onnx::{ModelProto, TensorShapeProto, TypeProto};
use std::sync::Arc;

const HALF: i32 = DataType::Float16 as i32;

fn described(name: &str, data_type: i32) -> ValueInfoProto {
    let tensor = type_proto::Tensor { elem_type: Some(data_type), shape: Some(TensorShapeProto::default()) };
    let declared = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() };
    ValueInfoProto { name: Some(name.into()), r#type: Some(declared), ..Default::default() }
}

/// The half 1.5.
fn half(name: &str) -> TensorProto {
    let (dims, raw_data) = (vec![1], Some(0x3e00u16.to_le_bytes().to_vec()));
    TensorProto { name: Some(name.into()), dims, data_type: Some(HALF), raw_data, ..Default::default() }
}

/// A model from `x` to `y`, both halves, with the half `w`.
fn halves(nodes: Vec<NodeProto>) -> ModelProto {
    let mut model = model(13, nodes);
    let graph = model.graph.as_mut().unwrap();
    graph.input = vec![described("x", HALF)];
    graph.output = vec![described("y", HALF)];
    graph.initializer = vec![half("w")];
    model
}

fn is_in_half(model: &ModelProto) -> bool {
    computes_in_half(&import(&parse(model)).unwrap().0).unwrap()
}

fn widen(model: &ModelProto) -> ModelProto {
    ModelProto::decode(widened(&parse(model)).unwrap().as_slice()).unwrap()
}

/// `Operator a b -> c` for each node.
fn wiring(graph: &GraphProto) -> Vec<String> {
    let line = |n: &NodeProto| format!("{} {} -> {}", n.op_type(), n.input.join(" "), n.output.join(" "));
    graph.node.iter().map(line).collect()
}

#[test]
fn ends_and_constants_are_cast() {
    let add = node("Add", &["x", "w"], &["sum"], vec![]);
    let before = halves(vec![add, node("Relu", &["sum"], &["y"], vec![])]);
    assert!(is_in_half(&before));
    let after = widen(&before);
    assert!(!is_in_half(&after));
    let graph = after.graph.unwrap();
    let expected = [
        "Cast x -> x_single",
        "Cast w_half -> w",
        "Add x_single w -> sum",
        "Relu sum -> y_single",
        "Cast y_single -> y",
    ];
    assert_eq!(wiring(&graph), expected);
    let types: Vec<i64> = [0, 1, 4].iter().map(|at| graph.node[*at].attribute[0].i()).collect();
    assert_eq!(types, [1, 1, 10]);
    assert_eq!((graph.initializer, graph.input), (vec![half("w_half")], vec![described("x", HALF)]));
}

#[test]
fn what_names_the_type_in_between_names_singles() {
    let value = TensorProto { name: None, ..half("") };
    let mut before = halves(vec![
        node("Shape", &["x"], &["shape"], vec![]),
        node("ConstantOfShape", &["shape"], &["filled"], vec![tensor("value", value)]),
        node("Cast", &["shape"], &["cast"], vec![int("to", HALF.into())]),
        node("Sum", &["x", "filled", "cast"], &["y"], vec![]),
    ]);
    before.graph.as_mut().unwrap().value_info = vec![described("cast", HALF), described("shape", 7)];
    let graph = widen(&before).graph.unwrap();
    assert_eq!(graph.value_info, [described("cast", SINGLE), described("shape", 7)]);
    let filled = graph.node.iter().find(|n| n.op_type() == "ConstantOfShape").unwrap();
    assert_eq!(filled.attribute[0].t, Some(encode_tensor("", &Tensor::vector(vec![1.5f32]))));
    let cast = graph.node.iter().find(|n| n.output == ["cast"]).unwrap();
    assert_eq!(cast.attribute[0].i(), 1);
}

#[test]
fn graphs_in_nodes_are_widened_and_read_the_casts() {
    let body = GraphProto {
        node: vec![node("Add", &["x", "v"], &["inner"], vec![])],
        initializer: vec![half("v")],
        output: vec![described("inner", HALF)],
        ..Default::default()
    };
    let branches = vec![subgraph("then_branch", body.clone()), subgraph("else_branch", body)];
    let before = halves(vec![node("Relu", &["x"], &["r"], vec![]), node("If", &["condition"], &["y"], branches)]);
    let mut before = before;
    before.graph.as_mut().unwrap().input.push(described("condition", 9));
    let graph = widen(&before).graph.unwrap();
    let choice = graph.node.iter().find(|n| n.op_type() == "If").unwrap();
    assert_eq!((&choice.input[0], &choice.output[0]), (&"condition".to_owned(), &"y_single".to_owned()));
    for branch in &choice.attribute {
        let body = branch.g.as_ref().unwrap();
        assert_eq!(wiring(body), ["Add x_single v -> inner"]);
        assert_eq!(body.output, [described("inner", SINGLE)]);
        assert_eq!(body.initializer, [encode_tensor("v", &Tensor::vector(vec![1.5f32]))]);
    }
}

#[test]
fn weights_of_halves_alone_are_no_reason() {
    let cast = node("Cast", &["w"], &["v"], vec![int("to", 1)]);
    let mut model = halves(vec![cast, node("Add", &["x", "v"], &["y"], vec![])]);
    let graph = model.graph.as_mut().unwrap();
    (graph.input, graph.output) = (vec![described("x", SINGLE)], vec![described("y", SINGLE)]);
    assert!(!is_in_half(&model));
}

#[test]
fn messages_without_halves_keep_their_bytes() {
    let relu = node("Relu", &["a"], &["b"], vec![]);
    let mut before = halves(vec![relu.clone(), node("Add", &["x", "w"], &["y"], vec![])]);
    before.graph.as_mut().unwrap().input.push(described("a", SINGLE));
    let mut bytes = before.encode_to_vec();
    // A field of the model that the format does not have.
    bytes.extend(quantize_document::encode::bytes_field(999, b"kept"));
    let source = SourceFile::from_bytes("m.onnx", bytes);
    let after = widened(&Arc::new(OnnxDocument::parse(source, &Limits::default()).unwrap())).unwrap();
    let has = |wanted: &[u8]| after.windows(wanted.len()).any(|window| window == wanted);
    assert!(has(&bytes_field(GRAPH_NODE, &relu.encode_to_vec())) && has(b"kept"));
}
