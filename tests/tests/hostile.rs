//! Damaged models, quantized and run: an error or a result, never a panic.
//!
//! Readers alone are tried far more often by `cargo xtask hostile`, with the same damage.
#![allow(clippy::unwrap_used)]

use quantize_hostile::Draw;
use quantize_hostile::mutate::{self, Form};
use quantize_pipeline::{
    DataOptions, Error, Model, QuantizeOptions, RecipeOptions, Silent, TargetOptions, Tensor, quantize_onnx,
};
use quantize_tests::fixtures;
use quantize_tests::sandbox::{DATA, Sandbox};

/// Bytes at the start of a fixture that hold its nodes; initializers follow.
const NODES: usize = 2048;

/// `count` copies of a model with one bit flipped, half of them among the nodes.
fn flipped(model: &str, count: usize) -> impl Iterator<Item = (String, Vec<u8>)> {
    let whole = fixtures::model_bytes(model);
    let mut draw = Draw::new(whole.len() as u64);
    (0..count).map(move |turn| mutate::flipped(&mut draw, &whole, if turn % 2 == 0 { NODES } else { whole.len() }))
}

/// `count` copies of a model with fields and bytes damaged, mostly so that the rest fits around them.
fn mutated(model: &str, count: usize) -> impl Iterator<Item = (String, Vec<u8>)> {
    let whole = fixtures::model_bytes(model);
    let damaged = move |seed| mutate::mutated(&mut Draw::new(seed), Form::Protobuf, &whole, &whole);
    (0..count as u64).map(move |seed| (format!("damaged by seed {seed}"), damaged(seed)))
}

/// A model cut off at `count` places.
fn cut(model: &str, count: usize) -> impl Iterator<Item = (String, Vec<u8>)> {
    let whole = fixtures::model_bytes(model);
    (0..count).map(move |turn| {
        let length = whole.len() * turn / count;
        (format!("cut after {length} bytes"), whole[..length].to_vec())
    })
}

#[test]
fn the_command_ends_in_order() {
    let sandbox = Sandbox::new();
    let mut refused = 0;
    for (case, bytes) in cut("tiny_classifier", 12).chain(flipped("tiny_classifier", 60)) {
        sandbox.write("damaged.onnx", bytes);
        sandbox.write("out.onnx", "old");
        let outcome = sandbox.quantize(&format!("onnx damaged.onnx {DATA} -o out.onnx"));
        assert!(matches!(outcome.code, Some(0..=1)), "{case}: {outcome:?}");
        assert!(!outcome.stderr.contains("panicked"), "{case}: {outcome:?}");
        if outcome.code == Some(1) {
            refused += 1;
            assert!(outcome.stderr.starts_with("error: "), "{case}: {outcome:?}");
            assert!(sandbox.read("out.onnx") == b"old", "{case}");
        }
    }
    assert!(refused >= 30, "only {refused} damaged models were refused");
}

/// A quantization of these bytes, in this process: a panic fails the test.
fn quantize(sandbox: &Sandbox, bytes: &[u8]) -> Result<(), Error> {
    sandbox.write("damaged.onnx", bytes);
    let options = QuantizeOptions {
        model: sandbox.path("damaged.onnx"),
        output: sandbox.path("out.onnx"),
        data: Some(DataOptions { paths: vec![sandbox.path("images/sky_0.png")], ..fixtures::data() }),
        recipe: RecipeOptions::default(),
        target: TargetOptions::default(),
        emit_plan: Some(sandbox.path("plan.json")),
        threads: 1,
        ..QuantizeOptions::default()
    };
    quantize_onnx(&options, &Silent).map(|_| ())
}

#[test]
fn nothing_panics() {
    for model in ["tiny_classifier", "tiny_opset9", "tiny_detector"] {
        let sandbox = Sandbox::new();
        for (case, bytes) in cut(model, 60).chain(flipped(model, 200)).chain(mutated(model, 100)) {
            let result = std::panic::catch_unwind(|| quantize(&sandbox, &bytes));
            assert!(result.is_ok(), "{model} panicked: {case}");
        }
    }
}

/// Every operator of the fixtures, with whatever attributes and shapes a flipped bit gives it.
#[test]
fn nothing_panics_while_running() {
    let sandbox = Sandbox::new();
    for model in fixtures::model_names() {
        let inputs = fixtures::tensors(&model, fixtures::Side::In);
        let inputs: Vec<Tensor> = inputs.into_iter().filter_map(|t| t.tensor.ok()).collect();
        for (case, bytes) in flipped(&model, 25).chain(mutated(&model, 50)) {
            sandbox.write("damaged.onnx", bytes);
            let path = sandbox.path("damaged.onnx");
            let result = std::panic::catch_unwind(|| Model::open_onnx(path).and_then(|m| m.run(&inputs)).map(|_| ()));
            assert!(result.is_ok(), "{model} panicked: {case}");
        }
    }
}
