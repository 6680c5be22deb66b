//! `quantize inspect`: what it says about models of every kind, and that it agrees with `quantize onnx`.
#![allow(clippy::unwrap_used)]

use quantize_tests::models::{edited, node, open_size};
use quantize_tests::sandbox::{DATA, Outcome, Sandbox};
use serde_json::Value;
use std::path::Path;

/// What is said of `tiny_classifier`.
const CLASSIFIER: &str = "\
ONNX, IR version 8, ai.onnx 13, written by networks.py; 25.2 kB
input  `input` float32 [N, 3, 16, 16]
output `logits` float32 [N, 4]

for input [1, 3, 16, 16]:
operator            nodes        MACs  % MACs  parameters
Conv                    4    126.98 k    99.9      5.44 k
Gemm                    1         128     0.1         132
BatchNormalization      4           -       -         320
Relu                    2           -       -           -
Add                     1           -       -           -
Clip                    1           -       -           -
Flatten                 1           -       -           -
GlobalAveragePool       1           -       -           -
total                  15    127.10 k   100.0      5.89 k

parameters: 5.89 k float32 (23.6 kB)
activations: 12.3 kB at most, at node `bn2`; 46.4 kB in 16 tensors, the largest:
      4.1 kB  `conv1` float32 [1, 16, 8, 8] until `bn1`
      4.1 kB  `bn1` float32 [1, 16, 8, 8] until `relu1`
      4.1 kB  `relu1` float32 [1, 16, 8, 8] until `add`
      4.1 kB  `depthwise` float32 [1, 16, 8, 8] until `bn2`
      4.1 kB  `bn2` float32 [1, 16, 8, 8] until `clip`

can be quantized: 8 of 15 nodes (4 Conv, 1 Add, 1 Flatten, 1 Gemm, 1 GlobalAveragePool); 100.0 % of the MACs
      7 nodes fold into them
";

fn inspected(sandbox: &Sandbox, arguments: &str) -> Value {
    let said = sandbox.quantize(&format!("inspect {arguments} --output-format json")).succeeded();
    assert_eq!(said.stderr, "");
    serde_json::from_str(&said.stdout).unwrap()
}

fn entry<'v>(report: &'v Value, name: &str) -> &'v Value {
    report["nodes"].as_array().unwrap().iter().find(|node| node["node"] == name).unwrap()
}

#[test]
fn a_model_is_described() {
    let said = Sandbox::with_models(&["tiny_classifier"]).quantize("inspect tiny_classifier.onnx");
    assert_eq!(said, Outcome { code: Some(0), stdout: CLASSIFIER.to_owned(), stderr: String::new() });
}

#[test]
fn verbose_has_a_line_for_each_node_and_activation() {
    let said = Sandbox::with_models(&["tiny_classifier"]).quantize("inspect tiny_classifier.onnx -v").succeeded();
    for line in [
        "    1 Conv `conv1` [1, 3, 16, 16] -> [1, 16, 8, 8], 27.65 k MACs, 432 parameters: integers",
        "    2 BatchNormalization `bn1` [1, 16, 8, 8] -> [1, 16, 8, 8], 64 parameters: folds into `conv1`",
        "    6 Clip `clip` [1, 16, 8, 8] -> [1, 16, 8, 8]: is the saturation of `depthwise`",
        "    16 bytes  `logits` float32 [1, 4] to the end",
    ] {
        assert!(said.stdout.lines().any(|l| l == line), "{line}\n{}", said.stdout);
    }
}

#[test]
fn json_holds_every_figure() {
    let report = inspected(&Sandbox::with_models(&["tiny_classifier"]), "tiny_classifier.onnx");
    assert_eq!((&report["macs"], &report["integer_macs"]), (&127_104.into(), &127_104.into()));
    assert_eq!(report["integer_share"], 1.0);
    assert_eq!(report["memory"]["peak"], serde_json::json!({"node": "bn2", "bytes": 12288}));
    assert_eq!(report["memory"]["activations"].as_array().unwrap().len(), 16);
    let sum = report["nodes"].as_array().unwrap().iter().map(|n| n["macs"].as_u64().unwrap()).sum::<u64>();
    assert_eq!(report["macs"], sum);
    let norm = entry(&report, "bn1");
    assert_eq!((&norm["fate"], &norm["into"]), (&"folded".into(), &"conv1".into()));
}

/// The predicted choice is the choice, for every kind of output and with nodes left out.
#[test]
fn the_prediction_is_what_a_quantization_does() {
    let sandbox = Sandbox::with_models(&["tiny_classifier", "tiny_detector", "tiny_detector_custom", "tiny_opset9"]);
    for (model, options) in [
        ("tiny_classifier", ""),
        ("tiny_classifier", "--skip conv1 --skip bn*"),
        ("tiny_classifier", "--symmetric-activations --quantize-outputs"),
        ("tiny_detector", ""),
        ("tiny_classifier", "--format qoperator"),
        ("tiny_detector_custom", "--activations s8"),
        ("tiny_opset9", ""),
    ] {
        let report = inspected(&sandbox, &format!("{model}.onnx {options}"));
        let line = format!("onnx {model}.onnx {DATA} {options} -q -o out.onnx --emit-plan plan.json");
        let _ = sandbox.quantize(&line).succeeded();
        let plan: Value = serde_json::from_slice(&sandbox.read("plan.json")).unwrap();
        // What scales channels is no node of the model; whether there is any, samples decide.
        let of_model = |planned: &&Value| planned["why"] != "scales the input channels of products";
        for planned in plan["nodes"].as_array().unwrap().iter().filter(of_model) {
            let predicted = entry(&report, planned["node"].as_str().unwrap());
            let expected = match planned["decision"].as_str().unwrap() {
                "quantize" => "integers",
                "absorbed" => "absorbed",
                _ => "fp32",
            };
            let fits = predicted["fate"] == expected || (expected == "fp32" && predicted["fate"] == "not_real");
            let constant = predicted["fate"] == "constant" && planned["why"] == "its results are constants";
            assert!(fits || constant, "{model} {options}: {planned} {predicted}");
            if predicted["fate"] == "fp32" {
                assert_eq!(predicted["why"], planned["why"], "{model} {options}");
            }
        }
        let written = inspected(&sandbox, "out.onnx");
        assert_eq!((&report["quantized"], &written["quantized"]), (&false.into(), &true.into()));
        for figure in ["macs", "integer_macs", "integer_share"] {
            assert_eq!(report[figure], written[figure], "{model} {options}: {figure}");
        }
    }
}

#[test]
fn what_stays_has_its_reason() {
    let sandbox = Sandbox::with_models(&["tiny_detector"]);
    let said = sandbox.quantize("inspect tiny_detector.onnx").succeeded();
    assert!(said.stdout.contains("fp32: 2 Conv (`head1.conv`, `head2.conv`): produces a network result, which stays"));
    assert!(said.stdout.contains("; 98.2 % of the MACs\n"), "{}", said.stdout);
}

#[test]
fn a_quantized_model_is_told() {
    let sandbox = Sandbox::with_models(&["tiny_classifier"]);
    for (options, words) in [
        (
            "",
            "quantized already: 8 of 34 nodes on integers (4 Conv, 1 Add, 1 Flatten, 1 Gemm, 1 GlobalAveragePool); 100",
        ),
        ("--format qoperator", "quantized already: 8 of 9 nodes on integers (4 QLinearConv, 1 Flatten, 1 QGemm,"),
        ("--skip fc", "4 Conv, 1 Add, 1 GlobalAveragePool); 99.9 % of the MACs\n      1 more could be quantized"),
        ("--activations u16", "an operand has codes that the runtime has no integer kernel for"),
    ] {
        let _ = sandbox.quantize(&format!("onnx tiny_classifier.onnx {DATA} -q -o out.onnx {options}")).succeeded();
        let said = sandbox.quantize("inspect out.onnx").succeeded();
        assert!(said.stdout.contains(words), "{options}: {}", said.stdout);
    }
}

#[test]
fn codes_without_kernels_make_no_share() {
    let report = inspected(&Sandbox::with_models(&["tiny_classifier"]), "tiny_classifier.onnx --activations u16");
    assert_eq!((&report["integer_kernels"], &report["integer_share"]), (&false.into(), &0.0.into()));
}

#[test]
fn open_shapes_can_be_chosen() {
    let sandbox = Sandbox::new();
    sandbox.write("open.onnx", edited("tiny_classifier", open_size));
    let said = sandbox.quantize("inspect open.onnx").succeeded();
    assert!(said.stdout.contains("the share of the MACs is not known"), "{}", said.stdout);
    assert!(said.stderr.contains("choose it with `--shape NAME=N,N,…`"), "{}", said.stderr);
    let report = inspected(&sandbox, "open.onnx --shape input=1,3,32,32");
    assert_eq!(report["counted_for"], serde_json::json!([[1, 3, 32, 32]]));
    assert_eq!(report["integer_share"], 1.0);
    let huge = sandbox.quantize("inspect open.onnx --shape input=1,3,1000000,1000000").succeeded();
    assert!(huge.stderr.contains("input `input` has 3000000000000 elements"), "{}", huge.stderr);
    sandbox.quantize("inspect open.onnx --shape input=1,4,32,32").failed(2, &["the model declares another shape"]);
    sandbox.quantize("inspect open.onnx --shape inputs=1,3,32,32").failed(2, &["the model's inputs are `input`"]);
}

#[test]
fn what_cannot_be_executed_is_said_with_what_to_do() {
    let sandbox = Sandbox::new();
    let alien = edited("tiny_classifier", |model| {
        let relu = node(model, "relu2");
        (relu.op_type, relu.domain) = (Some("Mystery".into()), Some("com.example".into()));
    });
    sandbox.write("alien.onnx", alien);
    let said = sandbox.quantize("inspect alien.onnx").succeeded();
    let refused = "refused: alien.onnx: cannot execute node `relu2` (Mystery), before nodes that would be quantized; \
                   keep what follows in fp32: --skip 'fc'\n";
    assert!(said.stdout.contains(refused), "{}", said.stdout);
    assert!(said.stdout.contains("activations: 12.3 kB at least"), "{}", said.stdout);
    let skipped = sandbox.quantize("inspect alien.onnx --skip fc").succeeded();
    assert!(!skipped.stdout.contains("refused: "), "{}", skipped.stdout);
}

#[test]
fn caffe_networks_are_described_by_their_own_rules() {
    let sandbox = Sandbox::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/caffe");
    sandbox.copy_files(".", &["residual.prototxt", "residual.caffemodel"].map(|name| folder.join(name)));
    let report = inspected(&sandbox, "residual.prototxt --weights residual.caffemodel");
    assert_eq!((&report["format"], &report["opsets"]), (&"Caffe".into(), &serde_json::json!([])));
    let softmax = entry(&report, "prob");
    assert_eq!(
        (&softmax["fate"], &softmax["why"]),
        (&"fp32".into(), &"the runtime has no integer kernel for it".into())
    );
    sandbox.quantize("inspect residual.prototxt").failed(2, &["give its weights with --weights FILE"]);
}

#[test]
fn wrong_usage_and_broken_files() {
    let sandbox = Sandbox::with_models(&["tiny_classifier"]);
    sandbox.write("text.onnx", "not a model");
    sandbox.quantize("inspect").failed(2, &["<MODEL>"]);
    sandbox.quantize("inspect tiny_classifier.onnx --shape 1,2").failed(2, &["expected a name and extents"]);
    sandbox.quantize("inspect tiny_classifier.onnx --skip nothing").failed(1, &["matches no node of the model"]);
    sandbox.quantize("inspect missing.onnx").failed(1, &["cannot read missing.onnx"]);
    sandbox.quantize("inspect text.onnx").failed(1, &["text.onnx"]);
}
