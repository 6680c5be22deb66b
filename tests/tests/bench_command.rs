//! `quantize bench`: what it says and how it ends. Figures are masked, since they differ from run to run.
#![allow(clippy::unwrap_used)]

use quantize_tests::models::{edited, open_size};
use quantize_tests::sandbox::{DATA, Sandbox};
use serde_json::Value;

fn classifier() -> Sandbox {
    Sandbox::with_models(&["tiny_classifier"])
}

/// The text with `#` for numbers with a decimal point, single spaces, and `ISA` for the instruction set.
fn masked(text: &str) -> String {
    let is_figure = |word: &str| word.contains('.') && word.trim_end_matches(',').parse::<f64>().is_ok();
    let line = |line: &str| -> String {
        let mut words: Vec<&str> = line.split_whitespace().map(|w| if is_figure(w) { "#" } else { w }).collect();
        for index in 0..words.len() {
            if index >= 2 && words[index - 2..index] == ["instruction", "set"] {
                words[index] = "ISA;";
            }
        }
        words.join(" ") + "\n"
    };
    text.lines().map(line).collect()
}

#[test]
fn speed_work_and_share_of_the_peak_are_told() {
    let outcome = classifier().quantize("bench tiny_classifier.onnx --rounds 2").succeeded();
    let expected = "\
fp32, input [1, 3, 16, 16], 1 thread, instruction set ISA; the shortest of 2 runs
# images/s; # ms of processor time for an image
# kFLOP for an image: # GFLOP/s of a core, # % of its measured peak of #
";
    assert_eq!((masked(&outcome.stdout).as_str(), outcome.stderr.as_str()), (expected, ""));
}

#[test]
fn every_step_is_named() {
    let outcome = classifier().quantize("bench tiny_classifier.onnx --int8 --per-layer --rounds 2").succeeded();
    let expected = "\
int8, input [1, 3, 16, 16], 1 thread, instruction set ISA; the shortest of 2 runs
# images/s; # ms of processor time for an image
# kOP for an image: # GOP/s of a core, # % of its measured peak of #
ms % time GOP/s operator, node, kernel
";
    let text = masked(&outcome.stdout);
    assert!(text.starts_with(expected), "{text}");
    let steps: Vec<&str> = text.lines().skip(4).collect();
    assert!(steps.iter().any(|step| step.starts_with("# # # Conv `conv1`, ")), "{text}");
    assert!(steps.iter().any(|step| step.starts_with("# # - GlobalAveragePool `")), "{text}");
    assert!(!text.contains("BatchNormalization"), "{text}");
}

#[test]
fn operations_are_counted() {
    let outcome = classifier().quantize("bench tiny_classifier.onnx --threads 2 --rounds 2 --output-format json");
    let report: Value = serde_json::from_str(&outcome.succeeded().stdout).unwrap();
    let layers = classifier().quantize("bench tiny_classifier.onnx --per-layer --rounds 1 --output-format json");
    let layers: Value = serde_json::from_str(&layers.succeeded().stdout).unwrap();
    let each = layers["layers"].as_array().unwrap().iter().map(|layer| layer["operations"].as_u64().unwrap());
    assert_eq!(report["operations"].as_u64().unwrap(), each.sum::<u64>());
    assert_eq!((&report["threads"], &report["batch"]), (&2.into(), &1.into()));
    for figure in ["images_per_second", "cpu_seconds", "peak_operations_per_second", "share_of_peak"] {
        assert!(report[figure].as_f64().unwrap() > 0.0, "{report}");
    }
}

#[test]
fn an_int8_model_is_made_from_images_where_there_are_some() {
    let outcome = classifier().quantize(&format!("bench tiny_classifier.onnx --int8 --rounds 1 {DATA}")).succeeded();
    assert!(outcome.stdout.starts_with("int8, input [1, 3, 16, 16]"), "{}", outcome.stdout);
    let missing = classifier().quantize("bench tiny_classifier.onnx --int8 --calib elsewhere");
    missing.failed(1, &["elsewhere"]);
}

#[test]
fn an_open_size_is_asked_for() {
    let sandbox = Sandbox::new();
    sandbox.write("open.onnx", edited("tiny_classifier", open_size));
    let outcome = sandbox.quantize("bench open.onnx");
    outcome.failed(1, &["the shape of input `input` is not fixed", "hint: ", "`--resize WxH`"]);
    let sized = sandbox.quantize("bench open.onnx --resize 32x16 --rounds 1").succeeded();
    assert!(sized.stdout.contains("input [1, 3, 16, 32]"), "{}", sized.stdout);
}

#[test]
fn wrong_usage_ends_with_2() {
    let sandbox = classifier();
    let cases = [
        ("bench", "<MODEL>"),
        ("bench tiny_classifier.onnx --rounds 0", "--rounds"),
        ("bench tiny_classifier.onnx --threads 0", "--threads"),
        ("bench tiny_classifier.onnx --calib images", "add --int8"),
    ];
    for (line, part) in cases {
        sandbox.quantize(line).failed(2, &[part]);
    }
}
