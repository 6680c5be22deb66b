//! Scaling channels: what it gains on an encoder with outlier channels and on uneven weights with one scale, that it stays
//! out of models without them, and that a plan carries it.
#![allow(clippy::unwrap_used)]

use quantize_pipeline::{
    DataOptions, Granularity, Model, PreparationOptions, PreprocessOptions, Preset, QuantizeOptions, RecipeOptions,
    Silent, Summary, Tensor, quantize_onnx,
};
use quantize_tests::fixtures;
use quantize_tests::relu_net::relu_net;
use quantize_tests::sandbox::Sandbox;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

const ENCODER: &str = "tiny_encoder";

/// What outlier channels have to give back at least, in dB.
const GAIN_DB: f64 = 6.0;

fn options(model: &str, smooth: bool) -> QuantizeOptions {
    let raw = PreprocessOptions { preset: Some("raw".into()), ..Default::default() };
    QuantizeOptions {
        model: fixtures::model(model),
        data: Some(DataOptions {
            paths: vec![fixtures::images()],
            sampling: Default::default(),
            preparation: PreparationOptions::Pillow(raw),
        }),
        recipe: RecipeOptions { smooth, ..RecipeOptions::of(Preset::Balanced) },
        threads: 1,
        ..QuantizeOptions::default()
    }
}

/// Quantizes into a file of the sandbox.
fn quantized(sandbox: &Sandbox, name: &str, options: QuantizeOptions) -> (PathBuf, Summary) {
    let output = sandbox.path(name);
    let summary = quantize_onnx(&QuantizeOptions { output: output.clone(), ..options }, &Silent).unwrap();
    (output, summary)
}

/// Mean signal to noise of the sentence's vector over sentences that are not among the pictures, in dB.
fn ratio(int8: &Path) -> f64 {
    let (fp32, int8) = (Model::open_onnx(fixtures::model(ENCODER)).unwrap(), Model::open_onnx(int8).unwrap());
    let word = |pace: usize, place: usize| (40 + (place * place * (2 * pace + 3) + 31 * pace) % 216) as f32;
    let of_sentence = |pace: usize| {
        let fed = [Tensor::new([1, 1, 4, 6], (0..24).map(|place| word(pace, place)).collect()).unwrap()];
        let sentence = |model: &Model| model.run(&fed).unwrap().swap_remove(0).into_vec::<f32>().unwrap();
        let (exact, found) = (sentence(&fp32), sentence(&int8));
        let energy = |values: &mut dyn Iterator<Item = f32>| values.map(|v| f64::from(v).powi(2)).sum::<f64>();
        let noise = energy(&mut exact.iter().zip(&found).map(|(a, b)| a - b));
        10.0 * (energy(&mut exact.iter().copied()) / noise).log10()
    };
    (0..32).map(of_sentence).sum::<f64>() / 32.0
}

#[test]
fn outlier_channels_give_back_what_they_cost() {
    let sandbox = Sandbox::new();
    let (plain, without) = quantized(&sandbox, "plain.onnx", options(ENCODER, false));
    let (scaled, with) = quantized(&sandbox, "scaled.onnx", options(ENCODER, true));
    assert_eq!(without.smoothing, None);
    let worth = with.smoothing.unwrap();
    assert!(worth.kept && worth.after_db > worth.before_db + GAIN_DB, "{worth:?}");
    assert_eq!(with.quantized, without.quantized, "all products stay on integers");
    assert_eq!(with.folded, without.folded);
    let (plain, scaled) = (ratio(&plain), ratio(&scaled));
    assert!(scaled > plain + GAIN_DB, "{plain} {scaled}");
}

#[test]
fn a_network_without_such_channels_is_left_alone() {
    let sandbox = Sandbox::new();
    let (plain, _) = quantized(&sandbox, "plain.onnx", options("tiny_classifier", false));
    let (scaled, summary) = quantized(&sandbox, "scaled.onnx", options("tiny_classifier", true));
    assert_eq!(summary.smoothing, None);
    assert!(fs::read(plain).unwrap() == fs::read(scaled).unwrap());
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let sandbox = Sandbox::new();
    let bytes = |threads: usize| {
        let options = QuantizeOptions { threads, ..options(ENCODER, true) };
        fs::read(quantized(&sandbox, &format!("{threads}.onnx"), options).0).unwrap()
    };
    let one = bytes(1);
    assert!([2, 7].into_iter().all(|threads| bytes(threads) == one));
}

#[test]
fn a_plan_carries_the_factors() {
    let sandbox = Sandbox::new();
    let plan = sandbox.path("plan.json");
    let emitting = QuantizeOptions { emit_plan: Some(plan.clone()), ..options(ENCODER, true) };
    let (first, _) = quantized(&sandbox, "first.onnx", emitting);
    let carried = QuantizeOptions { plan: Some(plan.clone()), data: None, ..options(ENCODER, true) };
    let (second, _) = quantized(&sandbox, "second.onnx", carried.clone());
    assert!(fs::read(first).unwrap() == fs::read(second).unwrap());

    let file: Value = serde_json::from_slice(&fs::read(&plan).unwrap()).unwrap();
    assert!(!file["scaled_channels"].as_array().unwrap().is_empty());
    let refused = |change: &dyn Fn(&mut Value)| {
        let mut file = file.clone();
        change(&mut file["scaled_channels"][0]);
        fs::write(&plan, file.to_string()).unwrap();
        let options = QuantizeOptions { output: sandbox.path("no.onnx"), ..carried.clone() };
        let error = quantize_onnx(&options, &Silent).unwrap_err().to_string();
        assert!(!sandbox.path("no.onnx").exists());
        error
    };
    let tensor = file["scaled_channels"][0]["tensor"].as_str().unwrap();
    let about = format!("scaled channels of `{tensor}`");
    for (change, cause) in [
        (&(|entry: &mut Value| entry["factors"][3] = 0.0.into()) as &dyn Fn(&mut Value), "0 is no factor"),
        (&|entry| entry["factors"] = vec![1.0; 3].into(), "3 factors for 32 channels that"),
        (&|entry| entry["readers"][0] = "nobody".into(), "no node `nobody` reads it"),
        (&|entry| entry["within"] = "nobody".into(), "`nobody` does not compute it"),
    ] {
        let error = refused(change);
        assert!(error.contains(&about) && error.contains(cause), "{error}");
    }
    let error = refused(&|entry| entry["tensor"] = "nothing".into());
    assert!(error.contains("no node computes this tensor"), "{error}");
}

#[test]
fn statistics_are_of_the_model_as_it_is() {
    let sandbox = Sandbox::new();
    let statistics = sandbox.path("statistics");
    let saving = QuantizeOptions { save_statistics: Some(statistics.clone()), ..options(ENCODER, true) };
    let (first, summary) = quantized(&sandbox, "first.onnx", saving);
    assert_eq!(summary.smoothing, None);
    let recalling = QuantizeOptions { statistics: Some(statistics), ..options(ENCODER, true) };
    let (second, _) = quantized(&sandbox, "second.onnx", recalling);
    assert!(fs::read(first).unwrap() == fs::read(second).unwrap());
}

#[test]
fn products_that_go_back_to_fp32_read_scaled_channels_too() {
    let sandbox = Sandbox::new();
    let plan = sandbox.path("plan.json");
    let mut wanted = QuantizeOptions { emit_plan: Some(plan.clone()), ..options(ENCODER, true) };
    let reached = quantized(&sandbox, "all.onnx", wanted.clone()).1.improvement.unwrap().after_db;
    wanted.recipe.target =
        Some(quantize_pipeline::AccuracyTarget { sqnr_db: Some(reached + 0.5), ..Default::default() });
    let (first, summary) = quantized(&sandbox, "first.onnx", wanted);
    let outcome = summary.target.unwrap();
    assert!(outcome.met && !outcome.fallback.is_empty(), "{outcome:?}");
    let carried = QuantizeOptions { plan: Some(plan), data: None, ..options(ENCODER, true) };
    let (second, _) = quantized(&sandbox, "second.onnx", carried);
    assert!(fs::read(first).unwrap() == fs::read(second).unwrap());
}

/// Options for weights with one scale each, rounded to nearest.
fn per_tensor(sandbox: &Sandbox, spread: i32, equalize: bool) -> QuantizeOptions {
    let model = sandbox.path(&format!("relu_net_{spread}.onnx"));
    fs::write(&model, relu_net(spread)).unwrap();
    let recipe = RecipeOptions { equalize, weights: Granularity::PerTensor, ..RecipeOptions::default() };
    QuantizeOptions { model, recipe, ..options("tiny_classifier", false) }
}

#[test]
fn planted_differences_between_channels_of_weights_are_taken_back() {
    let sandbox = Sandbox::new();
    let shown = |spread: i32, equalize: bool| {
        let options = per_tensor(&sandbox, spread, equalize);
        let (_, summary) = quantized(&sandbox, &format!("{spread}_{equalize}.onnx"), options);
        (summary.accuracy.unwrap().outputs[0].sqnr_db, summary.equalization)
    };
    let (even, untaken) = shown(0, true);
    let (collapsed, _) = shown(6, false);
    let (recovered, worth) = shown(6, true);
    assert!(collapsed < even - 30.0, "{even} {collapsed}");
    // What nothing was planted in and gains nothing is left alone; equalized it would be the same network.
    let untaken = untaken.unwrap();
    assert!(!untaken.kept && (recovered - untaken.after_db).abs() < 0.5, "{untaken:?} {recovered}");
    let worth = worth.unwrap();
    assert!(worth.kept && worth.layers == 2, "{worth:?}");
}

#[test]
fn an_equalized_plan_is_carried_out_again() {
    let sandbox = Sandbox::new();
    let plan = sandbox.path("plan.json");
    let best = RecipeOptions { weights: Granularity::PerTensor, ..RecipeOptions::of(Preset::Best) };
    let wanted = QuantizeOptions { recipe: best, emit_plan: Some(plan.clone()), ..per_tensor(&sandbox, 6, true) };
    let (first, summary) = quantized(&sandbox, "first.onnx", wanted.clone());
    assert!(summary.equalization.unwrap().kept);
    let carried = QuantizeOptions { plan: Some(plan), emit_plan: None, data: None, ..wanted };
    let (second, _) = quantized(&sandbox, "second.onnx", carried);
    assert!(fs::read(first).unwrap() == fs::read(second).unwrap());
}

#[test]
fn weights_with_a_scale_for_each_channel_are_not_equalized() {
    let sandbox = Sandbox::new();
    let mut options = per_tensor(&sandbox, 6, true);
    options.recipe.weights = Granularity::PerChannel;
    assert_eq!(quantized(&sandbox, "out.onnx", options).1.equalization, None);
}
