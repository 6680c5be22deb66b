//! The written int8 models, run by our own executor, against the fp32 models they came from.
#![allow(clippy::unwrap_used)]

use quantize_numerics::measure::{mean_sqnr_db, top1};
use quantize_pipeline::{
    EvaluateOptions, Model, ModelFiles, QuantizeOptions, RecipeOptions, Silent, TargetOptions, Tensor, evaluate,
    quantize_onnx,
};
use quantize_tests::fixtures;
use quantize_tests::sandbox::Sandbox;
use std::path::{Path, PathBuf};

fn quantized(name: &str, sandbox: &Sandbox) -> PathBuf {
    let output = sandbox.path("int8.onnx");
    let options = QuantizeOptions {
        model: fixtures::model(name),
        output: output.clone(),
        data: Some(fixtures::data()),
        recipe: RecipeOptions::default(),
        target: TargetOptions::default(),
        threads: 0,
        ..QuantizeOptions::default()
    };
    quantize_onnx(&options, &Silent).unwrap();
    output
}

/// The first output for every image.
fn outputs(model: &Path, samples: &[Tensor]) -> Vec<Vec<f32>> {
    let model = Model::open_onnx(model).unwrap();
    let run = |sample: &Tensor| model.run(std::slice::from_ref(sample)).unwrap().remove(0).into_vec::<f32>().unwrap();
    samples.iter().map(run).collect()
}

fn correct(model: &Path) -> (usize, usize) {
    let labels = fixtures::labels();
    let options =
        EvaluateOptions { model: ModelFiles::Onnx(model.to_owned()), data: fixtures::data(), labels, threads: 0 };
    let evaluation = evaluate(&options, &Silent).unwrap();
    (evaluation.top1, evaluation.images)
}

/// Each case: model, side of its input, least mean signal-to-noise ratio in dB.
const CLASSIFIERS: &[(&str, usize, f64)] = &[("tiny_classifier", 16, 20.0), ("tiny_opset9", 12, 20.0)];

#[test]
fn classifiers_answer_as_before() {
    for (name, side, least_db) in CLASSIFIERS {
        let sandbox = Sandbox::new();
        let int8 = quantized(name, &sandbox);
        let samples = fixtures::samples(*side);
        let (expected, found) = (outputs(&fixtures::model(name), &samples), outputs(&int8, &samples));
        assert_ne!(expected, found, "{name} was not quantized");
        let pairs = || expected.iter().map(Vec::as_slice).zip(found.iter().map(Vec::as_slice));
        let db = mean_sqnr_db(pairs()).unwrap().unwrap();
        assert!(db > *least_db, "{name}: {db} dB");
        assert!(pairs().all(|(e, f)| top1(e) == top1(f)), "{name}: {expected:?} {found:?}");
        assert_eq!(correct(&int8), correct(&fixtures::model(name)), "{name}");
        assert_eq!(correct(&int8), (12, 12), "{name}");
    }
}
