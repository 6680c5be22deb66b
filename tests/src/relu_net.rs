//! A network of three convolutions with `Relu` between them, the middle one depthwise, whose channels between layers
//! can be made uneven without changing what it computes.

use crate::proto::{ints, known, node, numbers, port};
use prost::Message;
use quantize_proto::onnx::tensor_proto::DataType;
use quantize_proto::onnx::{GraphProto, ModelProto, OperatorSetIdProto, TensorProto};

/// Channels between layers.
const CHANNELS: usize = 16;
/// Classes.
const CLASSES: usize = 8;

/// The model: `input` float32 `[1, 1, 4, 6]` to `logits` float32 `[1, 8]`. Channels behind the first and the second
/// convolution are multiplied by powers of two from `2^-spread` to `2^spread`, and the weights that read them divided.
#[must_use]
pub fn relu_net(spread: i32) -> Vec<u8> {
    let wave = |phase: f32| move |i: usize| (i as f32 * 0.737 + phase).sin();
    let planted = |step: usize| {
        let width = usize::try_from(2 * spread + 1).unwrap_or(1);
        move |channel: usize| f32::exp2((channel * step % width) as f32 - spread as f32)
    };
    let (one, two) = (planted(5), planted(7));
    let initializer = vec![
        tensor("first.weight", &[CHANNELS, 1, 3, 3], |i| wave(0.1)(i) * 0.3 * one(i / 9)),
        tensor("first.bias", &[CHANNELS], |i| 0.1 * wave(0.2)(i) * one(i)),
        tensor("second.weight", &[CHANNELS, 1, 3, 3], |i| wave(0.3)(i) * 0.3 / one(i / 9) * two(i / 9)),
        tensor("second.bias", &[CHANNELS], |i| 0.1 * wave(0.4)(i) * two(i)),
        tensor("third.weight", &[CLASSES, CHANNELS, 1, 1], |i| wave(0.5)(i) * 0.3 / two(i % CHANNELS)),
    ];
    let pads = || ints("pads", &[1, 1, 1, 1]);
    let group = crate::proto::int("group", CHANNELS as i64);
    let graph = GraphProto {
        name: Some("relu_net".into()),
        node: vec![
            node("Conv", &["input", "first.weight", "first.bias"], "first", vec![pads()]),
            node("Relu", &["first"], "first.relu", vec![]),
            node("Conv", &["first.relu", "second.weight", "second.bias"], "second", vec![pads(), group]),
            node("Relu", &["second"], "second.relu", vec![]),
            node("Conv", &["second.relu", "third.weight"], "third", vec![]),
            node("GlobalAveragePool", &["third"], "pooled", vec![]),
            node("Flatten", &["pooled"], "logits", vec![]),
        ],
        initializer,
        input: vec![port("input", DataType::Float, &[known(1), known(1), known(4), known(6)])],
        output: vec![port("logits", DataType::Float, &[known(1), known(CLASSES as i64)])],
        ..GraphProto::default()
    };
    let opset = OperatorSetIdProto { domain: Some(String::new()), version: Some(13) };
    let model =
        ModelProto { ir_version: Some(8), opset_import: vec![opset], graph: Some(graph), ..ModelProto::default() };
    model.encode_to_vec()
}

fn tensor(name: &str, dims: &[usize], element: impl Fn(usize) -> f32) -> TensorProto {
    let dims: Vec<i64> = dims.iter().map(|d| *d as i64).collect();
    numbers(name, &dims, |i| element(i as usize))
}
