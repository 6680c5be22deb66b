//! What the xfDNN runtime, emulated, loses against fp32 with the thresholds of each method.
#![allow(clippy::unwrap_used)]

use quantize_tests::caffe::Network;
use quantize_tests::sandbox::Sandbox;
use quantize_tests::{counted, files_in, shared};
use serde_json::Value as Json;
use std::path::{Path, PathBuf};

/// Least signal-to-noise ratio of the logits with the default options, in dB.
const DEFAULT: f64 = 26.0;
/// Least signal-to-noise ratio of the logits with any other method and the smaller set of images, in dB.
const ANY_METHOD: f64 = 24.0;
/// The same for the smallest divergence, whose thresholds jump with the last bits of few values: kernels that sum in
/// another order, or round products, reach 22.5, 23.2 and 24.0 dB.
const DIVERGENCE: f64 = 22.0;
/// Test images, and how many of them must have the same top-1 class as in fp32.
const IMAGES: u64 = 20;
const AGREEING: u64 = 19;

/// Every `step`th image of a folder from `first` on, `count` of them.
fn every(folder: &Path, first: usize, step: usize, count: usize) -> Vec<PathBuf> {
    let images = files_in(folder).into_iter().filter(|path| path.extension().is_some_and(|e| e == "jpg"));
    let chosen: Vec<PathBuf> = images.skip(first).step_by(step).take(count).collect();
    assert_eq!(chosen.len(), count, "images in {}", folder.display());
    chosen
}

/// Folders `calib8` and `calib32` to calibrate with, and `test`.
fn sandbox(shared: &Path) -> Sandbox {
    let sandbox = Sandbox::new();
    let (calib, val) = (shared.join("images/calib"), shared.join("images/val"));
    sandbox.copy_files("calib8", &every(&calib, 0, 12, 8));
    sandbox.copy_files("calib32", &every(&calib, 0, 3, 32));
    sandbox.copy_files("test", &every(&val, 5, 20, 20));
    sandbox
}

/// The emulated runtime's logits against fp32 after a quantization with these options.
fn emulated(sandbox: &Sandbox, network: &str, options: &str) -> Json {
    let line = format!("caffe {network} {options} -q -o out.json");
    assert_eq!(sandbox.quantize(&line).succeeded().stdout, "out.json\n");
    let line = format!("caffe emulate {network} --quantcfg out.json --data test --output-format json -q");
    let report: Json = serde_json::from_str(&sandbox.quantize(&line).succeeded().stdout).unwrap();
    assert_eq!(report["samples"], IMAGES);
    report["output"].clone()
}

#[test]
fn thresholds_of_a_residual_network_keep_its_logits() {
    let Some(shared) = shared() else { return };
    let (sandbox, network) = (sandbox(&shared), Network::named("open_nsfw").arguments(&shared.join("models/caffe")));
    let cases = [
        ("--calib calib8", DEFAULT),
        ("--calib calib32", DEFAULT),
        ("--calib calib8 --range minmax", ANY_METHOD),
        ("--calib calib8 --range mse", ANY_METHOD),
        ("--calib calib8 --range percentile", ANY_METHOD),
        ("--calib calib8 --range kl", DIVERGENCE),
    ];
    let outputs = cases.map(|(options, least)| (options, least, emulated(&sandbox, &network, options)));
    let is_low = |least: f64, output: &Json| {
        output["sqnr_db"].as_f64().unwrap() < least || output["agreeing"].as_u64().unwrap() < AGREEING
    };
    assert!(!outputs.iter().any(|(_, least, output)| is_low(*least, output)), "{outputs:#?}");
    counted(outputs.len(), "quantizations of open_nsfw");
}
