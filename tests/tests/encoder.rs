//! An encoder of words: every matrix product on integers, tables stored as codes, the rest on reals, and the accuracy
//! that this is for.
#![allow(clippy::unwrap_used)]

use prost::Message;
use quantize_pipeline::{
    DataOptions, Form, Model, PreparationOptions, PreprocessOptions, QuantizeOptions, Silent, Summary, TargetOptions,
    Tensor, quantize_onnx, simulate_onnx,
};
use quantize_proto::onnx::{ModelProto, NodeProto, TensorProto};
use quantize_tests::fixtures;
use quantize_tests::sandbox::Sandbox;
use std::fs;
use std::path::{Path, PathBuf};

const ENCODER: &str = "tiny_encoder";

/// Sentences are pictures, their words the pixels as they are.
fn data() -> DataOptions {
    let raw = PreprocessOptions { preset: Some("raw".into()), ..Default::default() };
    DataOptions {
        paths: vec![fixtures::images()],
        sampling: Default::default(),
        preparation: PreparationOptions::Pillow(raw),
    }
}

fn options(sandbox: &Sandbox, form: Form) -> QuantizeOptions {
    QuantizeOptions {
        model: fixtures::model(ENCODER),
        output: sandbox.path("int8.onnx"),
        data: Some(data()),
        target: TargetOptions { form, ..TargetOptions::default() },
        threads: 0,
        ..QuantizeOptions::default()
    }
}

fn quantized(sandbox: &Sandbox, form: Form) -> (PathBuf, Summary) {
    let options = options(sandbox, form);
    let summary = quantize_onnx(&options, &Silent).unwrap();
    (options.output, summary)
}

fn decoded(path: &Path) -> ModelProto {
    ModelProto::decode(&*fs::read(path).unwrap()).unwrap()
}

fn nodes<'m>(model: &'m ModelProto, op: &str) -> Vec<&'m NodeProto> {
    let nodes = &model.graph.as_ref().unwrap().node;
    nodes.iter().filter(|node| node.op_type() == op).collect()
}

fn initializer<'m>(model: &'m ModelProto, name: &str) -> &'m TensorProto {
    model.graph.as_ref().unwrap().initializer.iter().find(|tensor| tensor.name() == name).unwrap()
}

/// What computes the value `name`.
fn producer<'m>(model: &'m ModelProto, name: &str) -> &'m NodeProto {
    model.graph.as_ref().unwrap().node.iter().find(|node| node.output.iter().any(|o| o == name)).unwrap()
}

#[test]
fn all_products_are_on_integers_and_what_is_between_them_is_not() {
    let sandbox = Sandbox::new();
    let (path, summary) = quantized(&sandbox, Form::Qdq);
    let on_codes: Vec<(&str, usize)> = summary.quantized.iter().map(|(op, n)| (op.as_str(), *n)).collect();
    assert_eq!(
        on_codes,
        [("MatMul", 16), ("Gemm", 2), ("Reshape", 2), ("Transpose", 2)],
        "products, and what moves codes"
    );
    let model = decoded(&path);
    for product in nodes(&model, "MatMul").into_iter().chain(nodes(&model, "Gemm")) {
        for operand in &product.input[..2] {
            assert_eq!(producer(&model, operand).op_type(), "DequantizeLinear", "{product:?}");
        }
    }
    for op in ["LayerNormalization", "Softmax", "Erf", "Tanh"] {
        for node in nodes(&model, op) {
            assert_ne!(producer(&model, &node.input[0]).op_type(), "DequantizeLinear", "{node:?}");
        }
    }
}

#[test]
fn attention_weights_take_the_whole_range_of_a_softmax() {
    let sandbox = Sandbox::new();
    let model = decoded(&quantized(&sandbox, Form::Qdq).0);
    let softmax = nodes(&model, "Softmax");
    assert_eq!(softmax.len(), 2);
    for node in softmax {
        let mut pairs = nodes(&model, "QuantizeLinear").into_iter().filter(|q| q.input[0] == node.output[0]);
        let pair = pairs.next().unwrap();
        let scale = initializer(&model, &pair.input[1]).raw_data().to_vec();
        assert_eq!(scale, (1.0f32 / 255.0).to_le_bytes());
        assert_eq!(initializer(&model, &pair.input[2]).raw_data(), [0]);
    }
}

#[test]
fn tables_are_codes_of_which_only_the_entries_read_become_reals() {
    let sandbox = Sandbox::new();
    let (path, summary) = quantized(&sandbox, Form::Qdq);
    assert_eq!(summary.weight_only, [("Gather".to_owned(), 2)]);
    let model = decoded(&path);
    let words = nodes(&model, "Gather").into_iter().find(|node| node.name() == "words").unwrap();
    let codes = initializer(&model, &words.input[0]);
    assert_eq!((codes.data_type, &codes.dims[..]), (Some(3), &[96, 32][..]));
    let scales = nodes(&model, "Gather").into_iter().find(|node| node.input[0] == "words.weight_scale").unwrap();
    assert_eq!(scales.input[1], words.input[1]);
    assert_eq!(initializer(&model, &scales.input[0]).dims, [96, 1]);
}

/// Means over the pictures of the cosines of each output.
fn cosines(fp32: &Path, int8: &Path) -> Vec<f64> {
    let (fp32, int8) = (Model::open_onnx(fp32).unwrap(), Model::open_onnx(int8).unwrap());
    let samples = sentences();
    let mut sums = [0.0; 2];
    for sample in &samples {
        let run = |model: &Model| model.run(std::slice::from_ref(sample)).unwrap();
        for (sum, (a, b)) in sums.iter_mut().zip(run(&fp32).into_iter().zip(run(&int8))) {
            *sum += cosine(&a.into_vec::<f32>().unwrap(), &b.into_vec::<f32>().unwrap());
        }
    }
    sums.iter().map(|sum| sum / samples.len() as f64).collect()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// Sentences that are not among the pictures: brightness walks up and down, each at another pace.
fn sentences() -> Vec<Tensor> {
    let word = |pace: usize, place: usize| (40 + (place * place * (2 * pace + 3) + 31 * pace) % 216) as f32;
    let sentence = |pace| Tensor::new([1, 1, 4, 6], (0..24).map(|place| word(pace, place)).collect()).unwrap();
    (0..32).map(sentence).collect()
}

#[test]
fn outputs_stay_where_they_were_in_both_forms() {
    for form in [Form::Qdq, Form::QOperator] {
        let sandbox = Sandbox::new();
        let (path, _) = quantized(&sandbox, form);
        for cosine in cosines(&fixtures::model(ENCODER), &path) {
            assert!((0.995..1.0).contains(&cosine), "{form:?}: {cosine}");
        }
    }
}

#[test]
fn the_simulation_computes_what_the_written_model_does() {
    let sandbox = Sandbox::new();
    let (path, _) = quantized(&sandbox, Form::Qdq);
    let written = Model::open_onnx(&path).unwrap();
    let simulation = simulate_onnx(&options(&sandbox, Form::Qdq), &Silent).unwrap();
    for sample in sentences() {
        let fed = [sample];
        let pairs = written.run(&fed).unwrap().into_iter().zip(simulation.run(&fed).unwrap());
        for (written, simulated) in pairs {
            let cosine = cosine(&written.into_vec::<f32>().unwrap(), &simulated.into_vec::<f32>().unwrap());
            assert!(cosine > 0.9999, "{cosine}");
        }
    }
}
