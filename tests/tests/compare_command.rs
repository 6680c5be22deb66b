//! `quantize compare`: two models, or one and a plan, on the same samples.
#![allow(clippy::unwrap_used)]

use quantize_tests::models::{edited, graph, node};
use quantize_tests::sandbox::{DATA, Outcome, Sandbox};
use serde_json::Value;

/// A sandbox with `tiny_classifier.onnx` and its int8 form `int8.onnx`.
fn both() -> Sandbox {
    let sandbox = Sandbox::with_models(&["tiny_classifier", "tiny_detector"]);
    let _ = sandbox.quantize(&format!("onnx tiny_classifier.onnx {DATA} -q -o int8.onnx")).succeeded();
    sandbox
}

fn compared(sandbox: &Sandbox, arguments: &str) -> Value {
    let said = sandbox.quantize(&format!("compare {arguments} {DATA} --output-format json")).succeeded();
    serde_json::from_str(&said.stdout).unwrap()
}

fn tensors(report: &Value) -> Vec<&str> {
    report["layers"].as_array().unwrap().iter().map(|layer| layer["tensor"].as_str().unwrap()).collect()
}

#[test]
fn outputs_and_layers_are_compared() {
    let said = both().quantize(&format!("compare tiny_classifier.onnx int8.onnx {DATA} --worst 2")).succeeded();
    let lines: Vec<&str> = said.stdout.lines().collect();
    assert_eq!(lines[0], "12 samples, resize 16x16 bilinear, rgb, mean 127.5, scale 0.007843138, nchw");
    assert!(lines[1].starts_with("output `logits`: 39.8 dB, cosine 0.9999"), "{}", lines[1]);
    assert!(lines[1].ends_with(", same top-1 on 12 of 12"), "{}", lines[1]);
    assert_eq!(lines[2..4], ["the worst 2 of 9 layers:", "      dB    cosine largest diff  tensor, node"]);
    assert!(lines[4].ends_with("  `relu2`, Relu `relu2`") && lines[4].starts_with("    30.5  0.9995"), "{}", lines[4]);
    assert_eq!((lines.len(), said.stderr.as_str()), (6, ""));
}

#[test]
fn layers_come_in_order_or_worst_first() {
    let sandbox = both();
    let report = compared(&sandbox, "tiny_classifier.onnx int8.onnx");
    let ordered = ["input", "relu1", "clip", "bn3", "add", "relu2", "pool", "flatten", "logits"];
    assert_eq!(tensors(&report), ordered);
    let worst = compared(&sandbox, "tiny_classifier.onnx int8.onnx --worst 9");
    let ratios: Vec<f64> =
        worst["layers"].as_array().unwrap().iter().map(|layer| layer["sqnr_db"].as_f64().unwrap()).collect();
    assert!(ratios.is_sorted() && ratios.len() == 9, "{ratios:?}");
    assert_eq!(worst["outputs"], report["outputs"]);
}

/// What is compared is what readers read: the rounded value, which differs from the real one before it.
#[test]
fn a_quantized_value_is_compared_behind_its_pair() {
    let report = compared(&both(), "tiny_classifier.onnx int8.onnx");
    let input = &report["layers"][0];
    assert_eq!((&input["tensor"], &input["node"], &input["op"]), (&"input".into(), &Value::Null, &"input".into()));
    let step = 2.0 / 255.0;
    let largest = input["max_abs"].as_f64().unwrap();
    assert!(largest > step / 4.0 && largest < step * 0.51, "{largest}");
}

/// Operators on codes compute no real values; what their codes stand for is compared.
#[test]
fn both_forms_of_an_int8_model_are_compared_at_the_same_places() {
    let sandbox = both();
    let line = format!("onnx tiny_classifier.onnx {DATA} -q --format qoperator -o qoperator.onnx");
    let _ = sandbox.quantize(&line).succeeded();
    let pairs = compared(&sandbox, "tiny_classifier.onnx int8.onnx");
    let operators = compared(&sandbox, "tiny_classifier.onnx qoperator.onnx");
    let expected: Vec<&str> = tensors(&pairs).into_iter().filter(|name| *name != "pool").collect();
    assert_eq!(tensors(&operators), expected, "all but the pool, whose codes are only moved");
    assert_eq!(operators["outputs"], pairs["outputs"]);
}

#[test]
fn a_model_is_itself() {
    let sandbox = both();
    let report = compared(&sandbox, "int8.onnx int8.onnx");
    let exact = |entry: &Value| entry["exact"] == true && entry["max_abs"] == 0.0 && entry["sqnr_db"] == 150.0;
    assert!(report["outputs"].as_array().unwrap().iter().all(exact), "{report}");
    assert!(report["layers"].as_array().unwrap().iter().all(exact), "{report}");
    let said = sandbox.quantize(&format!("compare int8.onnx int8.onnx {DATA}")).succeeded();
    assert!(said.stdout.contains("output `logits`: exact, cosine 1.000000, largest difference 0, same top-1 on 12"));
}

#[test]
fn sides_may_be_swapped() {
    let sandbox = both();
    let (there, back) =
        (compared(&sandbox, "tiny_classifier.onnx int8.onnx"), compared(&sandbox, "int8.onnx tiny_classifier.onnx"));
    assert_eq!(tensors(&there), tensors(&back));
    let largest = |report: &Value| report["outputs"][0]["max_abs"].as_f64().unwrap();
    assert_eq!(largest(&there), largest(&back));
}

#[test]
fn the_result_does_not_depend_on_threads() {
    let sandbox = both();
    let said = |threads: usize| {
        sandbox.quantize(&format!("compare tiny_classifier.onnx int8.onnx {DATA} --threads {threads}"))
    };
    let one = said(1).succeeded();
    for threads in [2, 7] {
        assert_eq!(said(threads), one, "{threads} threads");
    }
}

#[test]
fn outputs_that_are_not_real_are_left_out() {
    let sandbox = both();
    let _ = sandbox.quantize(&format!("onnx tiny_detector.onnx {DATA} -q -o detector.int8.onnx")).succeeded();
    let said = sandbox.quantize(&format!("compare tiny_detector.onnx detector.int8.onnx {DATA} --worst 1")).succeeded();
    assert_eq!(said.stdout.lines().filter(|line| line.starts_with("output `")).count(), 2, "{}", said.stdout);
    let warning = "warning: not compared, because not real and computed in both: outputs `selected`\n";
    assert_eq!(said.stderr, warning);
}

#[test]
fn models_without_anything_in_common_are_refused() {
    let sandbox = both();
    let other = edited("tiny_classifier", |model| {
        graph(model).input[0].name = Some("picture".into());
        node(model, "conv1").input[0] = "picture".into();
    });
    sandbox.write("renamed.onnx", other);
    let refused = sandbox.quantize(&format!("compare tiny_classifier.onnx renamed.onnx {DATA}"));
    refused.failed(1, &["cannot be compared: their inputs are `input` and `picture`", "hint: compare a model with"]);
    let refused = sandbox.quantize(&format!("compare tiny_classifier.onnx tiny_detector.onnx {DATA}"));
    refused.failed(1, &["cannot be compared: their outputs are `logits` and `boxes`, `scores`, `selected`"]);
}

/// The sandbox with the plan `plan.json` that `int8.onnx` was made by.
fn planned() -> Sandbox {
    let sandbox = both();
    let _ = sandbox.quantize(&format!("onnx tiny_classifier.onnx {DATA} -q -o int8.onnx --emit-plan plan.json"));
    sandbox
}

#[test]
fn a_plan_is_as_far_from_fp32_as_the_model_made_by_it() {
    let sandbox = planned();
    let model = compared(&sandbox, "tiny_classifier.onnx int8.onnx");
    let plan = compared(&sandbox, "tiny_classifier.onnx --plan plan.json");
    assert_eq!(tensors(&plan), tensors(&model));
    let entries = |report: &Value| {
        let all = ["outputs", "layers"].map(|part| report[part].as_array().unwrap().clone()).concat();
        all.iter().map(|e| (e["sqnr_db"].as_f64().unwrap(), e["cosine"].as_f64().unwrap())).collect::<Vec<_>>()
    };
    for (plan, model) in entries(&plan).into_iter().zip(entries(&model)) {
        assert!((plan.0 - model.0).abs() < 0.1 && (plan.1 - model.1).abs() < 1e-4, "{plan:?} {model:?}");
    }
    assert_eq!(plan["outputs"][0]["agreeing"], model["outputs"][0]["agreeing"]);
}

#[test]
fn an_edited_plan_is_compared_as_it_says() {
    let sandbox = planned();
    let text = String::from_utf8(sandbox.read("plan.json")).unwrap();
    let decided = |kept: &[&str]| {
        let mut plan: Value = serde_json::from_str(&text).unwrap();
        let nodes = plan["nodes"].as_array_mut().unwrap().iter_mut();
        let chosen = |entry: &&mut Value| kept.is_empty() || kept.iter().any(|node| entry["node"] == *node);
        nodes.filter(chosen).for_each(|entry| entry["decision"] = "keep".into());
        sandbox.write("edited.json", plan.to_string().into_bytes());
        compared(&sandbox, "tiny_classifier.onnx --plan edited.json")
    };
    let ratio = |report: &Value| report["outputs"][0]["sqnr_db"].as_f64().unwrap();
    let all = compared(&sandbox, "tiny_classifier.onnx --plan plan.json");
    // Errors of single layers may cancel; with one layer left there is little error.
    let nodes = ["conv1", "relu1", "depthwise", "clip", "pointwise", "add", "conv2", "relu2", "pool", "flatten"];
    assert!(ratio(&decided(&nodes)) > ratio(&all));
    let none = decided(&[]);
    assert!(none["outputs"][0]["exact"] == true && ratio(&none) == 150.0, "{none}");
}

#[test]
fn a_plan_that_does_not_fit_is_refused() {
    let sandbox = planned();
    let line = |rest: &str| sandbox.quantize(&format!("compare tiny_classifier.onnx {DATA} {rest}"));
    line("--plan plan.json --activations s8").failed(1, &["its type is uint8, but activations are int8 here"]);
    line("--plan missing.json").failed(1, &["cannot read missing.json"]);
    sandbox.quantize(&format!("compare tiny_detector.onnx {DATA} --plan plan.json")).failed(1, &["plan.json"]);
    line("int8.onnx --plan plan.json").failed(2, &["cannot be used with"]);
    line("int8.onnx --activations s8").failed(2, &["give it with --plan"]);
}

#[test]
fn wrong_usage_ends_with_2() {
    let sandbox = both();
    sandbox.quantize("compare int8.onnx").failed(2, &["<OTHER>"]);
    sandbox.quantize("compare int8.onnx int8.onnx").failed(2, &["give them with --calib DIR"]);
    sandbox.quantize(&format!("compare int8.onnx int8.onnx {DATA} --worst 0")).failed(2, &["--worst"]);
    let missing: Outcome = sandbox.quantize(&format!("compare int8.onnx missing.onnx {DATA}"));
    missing.failed(1, &["cannot read missing.onnx"]);
}

#[test]
fn assumptions_are_warned_of() {
    let sandbox = both();
    let said = sandbox.quantize("compare tiny_classifier.onnx int8.onnx --calib images").succeeded();
    assert!(said.stderr.contains("warning: no preprocessing given"), "{}", said.stderr);
    let quiet = sandbox.quantize("compare tiny_classifier.onnx int8.onnx --calib images -q").succeeded();
    assert_eq!((quiet.stdout, quiet.stderr.as_str()), (said.stdout, ""));
}
