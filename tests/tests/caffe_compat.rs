//! `quantize caffe --preset compat` against the reference passes of the original's algorithm.
#![allow(clippy::unwrap_used)]

use quantize_tests::arrays::{npy, npz};
use quantize_tests::caffe::{Network, sandbox_with, unprepared};
use quantize_tests::quantcfg::{activation_deviations, deviation, names, read, weight_deviation};
use quantize_tests::sandbox::Sandbox;
use quantize_tests::{counted, shared};
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::path::Path;

/// Largest deviation of a threshold of the synthetic network.
const SYNTHETIC: f64 = 1e-5;
/// Largest deviation of a 16-bit threshold, a maximum of magnitudes after up to 123 layers: some twenty steps of its
/// tensor. Sums in another order move codes by one step in the first layers already, and such steps add up.
const SIXTEEN_BITS: f64 = 1e-3;
/// Largest deviation of most of them, three steps, and how many these are.
const SIXTEEN_BITS_NEAR: f64 = 1e-4;
const LEAST_SIXTEEN_BITS_NEAR: usize = 50;
/// Largest deviation of a threshold of weights: they are folded in f64 and stored in f32.
const WEIGHTS: f64 = 1e-5;
/// With 8 bits a threshold is the number of a bin, and every layer after it sees what it leaves: one bin more or less
/// moves all that follow. So near is what follows from the same bins.
const NEAR: f64 = 0.02;
/// Layers that are as near as [`NEAR`], at least.
const LEAST_NEAR: usize = 22;
/// Of bins nearby.
const FAR: f64 = 0.15;
/// Layers that are as near as [`FAR`], at least.
const LEAST_FAR: usize = 55;
/// Largest deviation of all.
const FARTHEST: f64 = 0.35;
/// The first layers, whose sums are short enough for every matrix product to add them in the same order, have the same
/// bins.
const SAME: usize = 20;

/// Runs the command on `data` with these options; the file is `out.json`.
fn quantize(sandbox: &Sandbox, shared: &Path, network: &str, options: &str) {
    let files = Network::named(network).arguments(&shared.join("models/caffe"));
    let line = format!("caffe {files} --calib data {} -q -o out.json {options}", unprepared(3));
    assert_eq!(sandbox.quantize(&line).succeeded().stdout, "out.json\n");
}

#[test]
fn thresholds_of_the_synthetic_network_are_those_of_the_original_pass() {
    let Some(shared) = shared() else { return };
    let golden = shared.join("golden/xfdnn/tiny_mix");
    let sandbox = sandbox_with(&npz(&golden.join("fp32.npz"))["input"]);
    let mut compared = 0;
    for (flavor, bits) in [("v2", 8), ("v2", 16), ("v3", 8), ("v3", 16)] {
        let options = format!("--preset compat --emit-fc --flavor {flavor} --bitwidths {bits},{bits},{bits}");
        quantize(&sandbox, &shared, "tiny_mix", &options);
        let expected = read(&golden.join(format!("faithful_{flavor}_int{bits}.json")));
        let found = read(&sandbox.path("out.json"));
        for (layer, apart) in activation_deviations(&found, &expected) {
            assert!(apart <= SYNTHETIC, "{flavor} {bits} `{layer}`: {apart:e}");
            compared += 1;
        }
        let (apart, channels) = weight_deviation(&found, &expected);
        assert!(apart <= WEIGHTS && channels > 0, "{flavor} {bits}: {apart:e}");
    }
    counted(compared, "layers of tiny_mix");
}

/// Thresholds of the outputs of layers that an independent implementation of the original's pass found. That of a layer
/// before a ReLU is the ReLU's.
fn pass_log(shared: &Path, bits: &str) -> BTreeMap<String, f64> {
    let text = std::fs::read(shared.join("golden/xfdnn/e2e_open_nsfw/pass_log.json")).unwrap();
    let log: Json = serde_json::from_slice(&text).unwrap();
    let steps = log[bits]["log"].as_array().unwrap();
    let last = |at: usize| match steps.get(at + 1) {
        Some(next) if next["type"] == "ReLU" => next,
        _ => &steps[at],
    };
    let output = |at: usize| Some((steps[at]["layer"].as_str()?.to_owned(), last(at)["th_layer_out"].as_f64()?));
    (0..steps.len()).filter_map(output).collect()
}

/// The command on open_nsfw and the four prepared images of the reference pass.
fn residual(shared: &Path, options: &str) -> Sandbox {
    let sandbox = sandbox_with(&npy(&shared.join("golden/xfdnn/e2e_open_nsfw/input4.npy")));
    quantize(&sandbox, shared, "open_nsfw", &format!("--calib-size 4 {options}"));
    sandbox
}

fn sorted(mut numbers: Vec<f64>) -> Vec<f64> {
    numbers.sort_by(f64::total_cmp);
    numbers
}

#[test]
fn thresholds_of_16_bits_of_a_residual_network_are_those_of_the_original_pass() {
    let Some(shared) = shared() else { return };
    let sandbox = residual(&shared, "--preset compat --emit-fc --flavor v3 --bitwidths 16,16,16");
    let (found, log) = (read(&sandbox.path("out.json")), pass_log(&shared, "bw16"));
    let apart = found.network.iter().map(|entry| deviation(entry.th_layer_out, log[&entry.name]));
    let apart = sorted(apart.collect());
    let near = apart.iter().filter(|apart| **apart <= SIXTEEN_BITS_NEAR).count();
    let spread = format!("{near} of {} within {SIXTEEN_BITS_NEAR}: {apart:.5?}", apart.len());
    assert!(near >= LEAST_SIXTEEN_BITS_NEAR && apart[apart.len() - 1] <= SIXTEEN_BITS, "{spread}");
    let reference = read(&shared.join("golden/xfdnn/e2e_open_nsfw/reference_v3_int8.json"));
    assert_eq!(names(&found), names(&reference));
    let (apart, channels) = weight_deviation(&found, &reference);
    assert!(apart <= WEIGHTS && channels > 0, "{apart:e}");
    counted(found.network.len(), "layers of open_nsfw with 16 bits");
}

#[test]
fn thresholds_of_8_bits_of_a_residual_network_are_near_those_of_the_original_pass() {
    let Some(shared) = shared() else { return };
    let mut compared = 0;
    for flavor in ["v2", "v3"] {
        let sandbox = residual(&shared, &format!("--preset compat --emit-fc --flavor {flavor}"));
        let found = read(&sandbox.path("out.json"));
        let expected = read(&shared.join(format!("golden/xfdnn/e2e_open_nsfw/reference_{flavor}_int8.json")));
        let apart = activation_deviations(&found, &expected);
        for (theirs, ours) in expected.network.iter().zip(&found.network).take(SAME) {
            let apart = (ours.th_layer_out / theirs.th_layer_out - 1.0).abs();
            assert!(ours.name == theirs.name && apart < 1e-6, "{flavor} `{}`: {apart:e}", theirs.name);
        }
        let apart = sorted(apart.into_values().collect());
        let within = |bound: f64| apart.iter().filter(|apart| **apart <= bound).count();
        let spread = format!("{flavor}: {} of {} within {NEAR}: {apart:.3?}", within(NEAR), apart.len());
        assert!(within(NEAR) >= LEAST_NEAR && within(FAR) >= LEAST_FAR && apart[0] == 0.0, "{spread}");
        assert!(apart[apart.len() - 1] <= FARTHEST, "{spread}");
        let (weights, _) = weight_deviation(&found, &expected);
        assert!(weights <= WEIGHTS, "{weights:e}");
        compared += apart.len();
    }
    counted(compared, "layers of open_nsfw with 8 bits");
}
