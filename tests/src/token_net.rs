//! A small network of token ids: an embedding, its mean over the sequence, and a matrix product, to which a second input
//! is added. Both inputs have an open batch.

use crate::proto::{int, ints, known, node, numbers, open, port};
use prost::Message;
use quantize_proto::onnx::tensor_proto::DataType;
use quantize_proto::onnx::{GraphProto, ModelProto, OperatorSetIdProto, TensorProto};

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

/// Numbers between -1 and 1 that repeat nowhere in sight.
fn reals(name: &str, dims: &[i64]) -> TensorProto {
    numbers(name, dims, |i| (i as f32 * 0.737).sin())
}
