//! `quantize caffe` and `quantize caffe emulate` as their users meet them: what they write, say, and how they end.
#![allow(clippy::unwrap_used)]

use quantize_caffe::xfdnn::{QuantizationFile, TextStyle};
use quantize_tests::graphs;
use quantize_tests::quantcfg::{names, read};
use quantize_tests::sandbox::{Outcome, Sandbox};
use quantize_tests::small_net::SmallNet;
use serde_json::Value as Json;
use std::collections::BTreeSet;

/// What a quantization of the small network says.
const SUMMARY: &str = "\
int8: 7 nodes (2 Conv, 1 Add, 1 AveragePool, 1 BatchNormalization, 1 Flatten, 1 Gemm)
      3 nodes folded into them
fp32: 1 Softmax (`prob`): the runtime has no integer kernel for it
data: 12 images, stretch to 16x16 bilinear without antialiasing, transpose 2,0,1, channel swap 2,1,0, raw scale 255, \
mean 104,117,123, input scale 1; ranges percentile=99.998
accuracy: `fc` 25.2 dB signal to noise, same top-1 as fp32 on 8 of 8 images (simulated, calibration images)
lowest signal-to-noise ratios of single tensors:
    36.2 dB  activation `gain` (node `gain`)
    38.1 dB  activation `sum` (node `sum`)
    38.7 dB  activation `fc` (node `fc`)
    38.9 dB  activation `conv1` (node `relu1`)
    41.1 dB  activation `pool` (node `pool`)
try: `--emit-merged PREFIX` writes a network with corrected weights and biases along; the file alone holds thresholds only
";

/// What an emulation of it says.
const EMULATION: &str = "\
emulated xfDNN v3 runtime against fp32 on 12 samples, stretch to 16x16 bilinear without antialiasing, \
transpose 2,0,1, channel swap 2,1,0, raw scale 255, mean 104,117,123, input scale 1
output `fc`: 31.21 dB signal to noise, cosine 0.999634, same top-1 as fp32 on 11 of 12
layers with the lowest signal-to-noise ratios:
    31.2 dB  fc (Gemm)
    32.8 dB  gain (BatchNormalization)
    33.4 dB  sum (Add)
    34.0 dB  conv2 (Conv)
    35.9 dB  conv1 (Conv)
    37.6 dB  pool (AveragePool)
";

/// The command on the small network and the images.
const FILES: &str = "caffe net.prototxt net.caffemodel --calib images";

fn net() -> Sandbox {
    SmallNet::new().sandbox()
}

fn outcome(stdout: &str, stderr: &str) -> Outcome {
    Outcome { code: Some(0), stdout: stdout.to_owned(), stderr: stderr.to_owned() }
}

/// The file that the command writes with these options.
fn quantized(sandbox: &Sandbox, options: &str) -> QuantizationFile {
    assert_eq!(sandbox.quantize(&format!("{FILES} -q -o out.json {options}")), outcome("out.json\n", ""), "{options}");
    read(&sandbox.path("out.json"))
}

/// The command on words that may contain spaces.
fn quantized_words(sandbox: &Sandbox, options: &[&str]) -> QuantizationFile {
    let words = [&["caffe", "net.prototxt", "net.caffemodel", "-q", "-o", "out.json"], options].concat();
    assert_eq!(sandbox.quantize_words(&words), outcome("out.json\n", ""), "{options:?}");
    read(&sandbox.path("out.json"))
}

/// The keys of an object in alphabetical order, separated by spaces.
fn keys_of(object: &Json) -> String {
    let keys: BTreeSet<&str> = object.as_object().unwrap().keys().map(String::as_str).collect();
    Vec::from_iter(keys).join(" ")
}

#[test]
fn help_names_every_option_of_the_original() {
    let sandbox = Sandbox::new();
    let options = "deploy_model output_json weights calibration_directory calibration_size calibration_seed \
                   calibration_indices bitwidths dims transpose channel_swap raw_scale mean_value input_scale";
    for line in ["caffe -h", "caffe --help"] {
        let help = sandbox.quantize(line).succeeded();
        assert!(help.stdout.contains("Usage: quantize caffe "), "{}", help.stdout);
        for option in options.split(' ') {
            assert!(help.stdout.contains(&format!("--{option} <")), "{line}: {option} in {}", help.stdout);
        }
    }
    let help = sandbox.quantize("caffe emulate -h").succeeded();
    assert!(help.stdout.contains("Usage: quantize caffe emulate ") && help.stdout.contains("--quantcfg <FILE>"));
}

#[test]
fn a_quantization_says_what_it_did() {
    let sandbox = net();
    assert_eq!(sandbox.quantize(FILES), outcome("net.json\n", SUMMARY));
    assert_eq!(sandbox.files(), ["net.caffemodel", "net.json", "net.prototxt"]);
    assert_eq!(names(&read(&sandbox.path("net.json"))), ["conv1", "conv2", "sum", "gain", "pool", "fc"]);
}

#[test]
fn an_emulation_says_what_is_lost() {
    let sandbox = net();
    let _ = quantized(&sandbox, "");
    let line = "caffe emulate net.prototxt net.caffemodel --quantcfg out.json --data images";
    assert_eq!(sandbox.quantize(line), outcome(EMULATION, ""));
    let limited = sandbox.quantize(&format!("{line} --limit 3 -v")).succeeded();
    assert!(limited.stdout.contains(" on 3 samples, ") && limited.stdout.contains("\nlayers:\n"), "{}", limited.stdout);
}

#[test]
fn json_holds_the_summary() {
    let summary = net().quantize(&format!("{FILES} -q --output-format json -o out.json")).succeeded();
    let summary: Json = serde_json::from_str(&summary.stdout).unwrap();
    let keys = "accuracy bytes_after bytes_before conversions equalization folded hints images improvement kept \
         preprocessing quantized range smoothing target warnings weight_only weight_storage worst written";
    assert_eq!(keys_of(&summary), keys);
    assert_eq!(summary["written"], serde_json::json!(["out.json"]));
    assert_eq!(summary["images"], 12);
    assert_eq!(summary["accuracy"]["outputs"][0]["name"], "fc");
}

#[test]
fn json_holds_the_emulation() {
    let sandbox = net();
    let _ = quantized(&sandbox, "");
    sandbox.write("labels.csv", "disc_0.png,0\nsky_1.png,2\n");
    sandbox.copy_images("two", |name| matches!(name, "disc_0.png" | "sky_1.png"));
    let line = "caffe emulate net.prototxt net.caffemodel --quantcfg out.json --data two --labels labels.csv";
    let report = sandbox.quantize(&format!("{line} --output-format json")).succeeded();
    assert_eq!(report.stderr, "");
    let report: Json = serde_json::from_str(&report.stdout).unwrap();
    assert_eq!(keys_of(&report), "accuracy flavor layers output outputs preparation samples warnings");
    assert_eq!(keys_of(&report["output"]), "agreeing agreement cosine max_abs_error name sqnr_db");
    assert_eq!(keys_of(&report["layers"][0]), "cosine name op overflows sqnr_db");
    assert_eq!((&report["samples"], &report["flavor"]), (&2.into(), &"v3".into()));
    assert_eq!(report["accuracy"]["fp32"]["images"], 2);
    assert_eq!(report["outputs"][0], report["output"]);
}

#[test]
fn the_plan_holds_every_decision() {
    let sandbox = net();
    let line = format!("{FILES} -q -o out.json --emit-plan plans/plan.json");
    assert_eq!(sandbox.quantize(&line), outcome("out.json\nplans/plan.json\n", ""));
    let plan: Json = serde_json::from_slice(&sandbox.read("plans/plan.json")).unwrap();
    assert_eq!(keys_of(&plan), "activations constants format model nodes range version");
    let decision = |name: &str| plan["nodes"].as_array().unwrap().iter().find(|n| n["node"] == name).cloned();
    assert_eq!(decision("conv1").unwrap()["decision"], "quantize");
    assert_eq!(decision("relu1").unwrap()["decision"], "absorbed");
    assert_eq!(decision("prob").unwrap()["decision"], "keep");
}

#[test]
fn the_network_that_thresholds_are_of_is_written_on_request() {
    let sandbox = net();
    let line = format!("{FILES} -q -o out.json --emit-merged merged/net --bias-correction none");
    let said = sandbox.quantize(&line);
    assert_eq!(said, outcome("out.json\nmerged/net.prototxt\nmerged/net.caffemodel\n", ""));
    let prototxt = String::from_utf8(sandbox.read("merged/net.prototxt")).unwrap();
    assert!(!prototxt.contains("BatchNorm") && !prototxt.contains("scale1"), "{prototxt}");
    let merged = "caffe merged/net.prototxt merged/net.caffemodel --calib images -q -o again.json";
    assert_eq!(sandbox.quantize(merged), outcome("again.json\n", ""));
    assert_eq!(read(&sandbox.path("again.json")), read(&sandbox.path("out.json")));
}

#[test]
fn a_network_that_is_written_along_holds_corrections() {
    let sandbox = net();
    let line = format!("{FILES} -o out.json --emit-merged merged/net --output-format json");
    let summary: Json = serde_json::from_str(&sandbox.quantize(&line).succeeded().stdout).unwrap();
    let improvement = &summary["improvement"];
    assert_eq!((&improvement["layers"], &improvement["images"]), (&3.into(), &12.into()), "{summary:#}");
    assert!(improvement["after_db"].as_f64() > improvement["before_db"].as_f64(), "{summary:#}");
    assert_eq!(summary["hints"], Json::Array(Vec::new()));
    let plain = format!("{FILES} -q -o plain.json --emit-merged plain --bias-correction none");
    let _ = sandbox.quantize(&plain).succeeded();
    let ratio = |network: &str, file: &str| {
        let line = format!("caffe emulate {network}.prototxt {network}.caffemodel --quantcfg {file} --data images");
        let said = sandbox.quantize(&format!("{line} --output-format json")).succeeded();
        let emulated: Json = serde_json::from_str(&said.stdout).unwrap();
        emulated["output"]["sqnr_db"].as_f64().unwrap()
    };
    let (corrected, plain) = (ratio("merged/net", "out.json"), ratio("plain", "plain.json"));
    assert!(corrected > plain, "{plain} {corrected}");
    assert_ne!(sandbox.read("plain.caffemodel"), sandbox.read("merged/net.caffemodel"));
}

#[test]
fn corrections_have_no_place_in_steps_of_powers_of_two_and_in_the_original_s_pass() {
    let sandbox = net();
    let said = sandbox.quantize(&format!("{FILES} -o out.json --emit-merged merged --power-of-two")).succeeded();
    assert!(said.stderr.contains("weights and biases are not corrected"), "{}", said.stderr);
    let refused = sandbox.quantize(&format!("{FILES} --sequential --rounding result"));
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("--rounding"), "{}", refused.stderr);
}

#[test]
fn onnx_is_written_on_request() {
    let sandbox = net();
    assert_eq!(sandbox.quantize(&format!("{FILES} -q --emit onnx")), outcome("net.int8.onnx\n", ""));
    assert_eq!(sandbox.quantize("caffe net.prototxt net.caffemodel -q --emit onnx-fp32"), outcome("net.onnx\n", ""));
    let int8 = graphs::read(&sandbox.read("net.int8.onnx"));
    let fp32 = graphs::read(&sandbox.read("net.onnx"));
    for graph in [&int8, &fp32] {
        let values =
            |ids: &[quantize_ir::ValueId]| ids.iter().map(|v| graph.value(*v).name.clone()).collect::<Vec<_>>();
        assert_eq!((values(graph.inputs()), values(graph.outputs())), (vec!["data".into()], vec!["prob".into()]));
    }
    let ops = |graph: &quantize_ir::Graph| graph.nodes().map(|(_, node)| node.op.name().to_owned()).collect::<Vec<_>>();
    assert!(ops(&int8).iter().any(|op| op == "QuantizeLinear"), "{:?}", ops(&int8));
    assert!(!ops(&fp32).iter().any(|op| op == "QuantizeLinear"), "{:?}", ops(&fp32));
}

#[test]
fn releases_of_the_original_have_their_entries() {
    let sandbox = net();
    let cases: &[(&str, &[&str])] = &[
        ("--preset compat --compat-release 1.1", &["conv1", "conv2"]),
        ("--preset compat --compat-release 1.2", &["conv1", "conv2"]),
        ("--preset compat --compat-release 1.3", &["conv1", "conv2", "sum", "gain"]),
        ("--preset compat", &["conv1", "conv2", "sum", "gain"]),
        ("--compat 1.3 --emit-fc", &["conv1", "conv2", "sum", "gain", "fc"]),
        ("--preset compat --flavor v3", &["conv1", "conv2", "sum", "gain", "pool"]),
        ("--flavor v2", &["conv1", "conv2", "fc"]),
        ("--flavor v2 --emit-fc false", &["conv1", "conv2"]),
        ("--emit-fc=false", &["conv1", "conv2", "sum", "gain", "pool"]),
    ];
    for (options, layers) in cases {
        assert_eq!(names(&quantized(&sandbox, options)), *layers, "{options}");
    }
    assert!(quantized(&sandbox, "--flavor v2").network.iter().flat_map(|entry| &entry.scale).all(|s| *s <= 255));
}

#[test]
fn a_scale_behind_a_convolution_folds_unless_release_1_3_keeps_it() {
    // `bottom` of the gain becomes the second convolution; the sum is gone.
    let sandbox = SmallNet::new()
        .with(
            "layer { name: \"sum\" type: \"Eltwise\" bottom: \"conv1\" bottom: \"conv2\" top: \"sum\" \
             eltwise_param { operation: SUM } }\n",
            "",
        )
        .with("bottom: \"sum\"", "bottom: \"conv2\"")
        .sandbox();
    for (options, layers) in [
        ("--preset compat", ["conv1", "conv2", "gain"].as_slice()),
        ("--preset compat --compat-release 1.2", &["conv1", "conv2"]),
        ("", &["conv1", "conv2", "pool", "fc"]),
    ] {
        assert_eq!(names(&quantized(&sandbox, options)), layers, "{options}");
    }
}

#[test]
fn steps_are_powers_of_two_on_request() {
    let sandbox = net();
    let file = quantized(&sandbox, "--power-of-two");
    let mut steps = 0;
    for entry in &file.network {
        let own = [entry.sf_layer_in, entry.sf_layer_out].into_iter().chain(entry.sf_params.iter().flatten().copied());
        for step in own {
            assert_eq!(step.log2().fract(), 0.0, "`{}`: {step}", entry.name);
            steps += 1;
        }
    }
    assert!(steps > 20, "{steps}");
    let line = "caffe emulate net.prototxt net.caffemodel --quantcfg out.json --data images --output-format json";
    let report: Json = serde_json::from_str(&sandbox.quantize(line).succeeded().stdout).unwrap();
    assert!(report["output"]["sqnr_db"].as_f64().unwrap() > 20.0, "{}", report["output"]);
}

#[test]
fn lines_end_as_they_are_asked_to() {
    let sandbox = net();
    for (options, style) in [
        ("", TextStyle::Plain),
        ("--json-style plain", TextStyle::Plain),
        ("--json-style py2", TextStyle::Py2),
        ("--preset compat", TextStyle::Py2),
        ("--preset compat --json-style plain", TextStyle::Plain),
    ] {
        let file = quantized(&sandbox, options);
        let text = String::from_utf8(sandbox.read("out.json")).unwrap();
        assert_eq!(text, file.to_text(style).unwrap(), "{options}");
        assert_eq!(text.ends_with('\n'), style == TextStyle::Plain, "{options}");
    }
}

#[test]
fn skipped_layers_have_no_entry() {
    let sandbox = net();
    assert_eq!(names(&quantized(&sandbox, "--skip conv2")), ["conv1", "sum", "gain", "pool", "fc"]);
    assert_eq!(names(&quantized(&sandbox, "--skip conv2 --skip fc")), ["conv1", "sum", "gain", "pool"]);
    assert_eq!(sandbox.quantize("caffe net.prototxt net.caffemodel --skip * -q"), outcome("net.json\n", ""));
    assert_eq!(sandbox.read("net.json"), b"{\n    \"network\": []\n}\n");
}

#[test]
fn options_are_spelled_with_hyphens_or_underscores() {
    let sandbox = net();
    let options = "--calibration_directory images --calibration_size 5 --calibration_seed 7 --bitwidths 16,16,16 \
                   --dims 3,16,16 --transpose 2,0,1 --channel_swap 0,1,2 --raw_scale 128 --mean_value 1,2,3 \
                   --input_scale 0.5";
    let run = |options: &str, network: &str, output: &str| {
        let line = format!("caffe {network} {options} {output} out.json -q");
        assert_eq!(sandbox.quantize(&line), outcome("out.json\n", ""), "{line}");
        read(&sandbox.path("out.json"))
    };
    let expected = run(options, "--deploy_model net.prototxt --weights net.caffemodel", "--output_json");
    assert_eq!(expected.network[0].bw_layer_in, 16);
    let hyphens = options.replace('_', "-");
    assert_eq!(run(&hyphens, "--deploy-model net.prototxt --weights net.caffemodel", "--output-json"), expected);
    let short = hyphens.replace("calibration-directory", "calib").replace("calibration-size", "calib-size");
    let short = short.replace("calibration-seed", "seed");
    assert_eq!(run(&short, "net.prototxt net.caffemodel", "-o"), expected);
    let equals = options.replace(' ', "=").replace("=--", " --");
    assert_eq!(run(&equals, "net.prototxt net.caffemodel", "-o"), expected);
    assert_ne!(run(&options.replace("seed 7", "seed 8"), "net.prototxt net.caffemodel", "-o"), expected);
}

#[test]
fn lists_are_spelled_with_and_without_brackets() {
    let sandbox = net();
    let images = ["--calib", "images"];
    let expected = quantized(&sandbox, "--bitwidths 8,8,8 --dims 3,16,16 --mean_value 104,117,123");
    for (bits, dims, mean) in [
        ("8,8,8", "3, 16, 16", "104., 117., 123."),
        ("[8, 8, 8]", "[3,16,16]", "[104.0,117.0,123.0]"),
        ("(8,8,8)", "(3, 16, 16)", "(104, 117, 123)"),
        (" 8,8,8 ", "3,16,16,", "104.0,117.0,123.0"),
    ] {
        let words = [&images[..], &["--bitwidths", bits, "--dims", dims, "--mean_value", mean]].concat();
        assert_eq!(quantized_words(&sandbox, &words), expected, "{bits}");
    }
    let indices = quantized(&sandbox, "--calib-indices 1,4,7");
    for list in ["[1, 4, 7]", "(7,4,1)", "7, 1, 4"] {
        assert_eq!(quantized_words(&sandbox, &["--calib", "images", "--calibration_indices", list]), indices, "{list}");
    }
}

#[test]
fn former_spellings_of_the_output_are_understood() {
    let sandbox = net();
    let line = format!("{FILES} --quantized_train_val_model a/b/old.prototxt --train_val_model old.prototxt");
    let said = sandbox.quantize(&line).succeeded();
    assert_eq!(said.stdout, "a/b/old.json\n");
    assert!(said.stderr.starts_with("note: --train_val_model is not needed and not read\n"), "{}", said.stderr);
    assert_eq!(read(&sandbox.path("a/b/old.json")), quantized(&sandbox, ""));
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let sandbox = net();
    for preset in ["", "--preset compat"] {
        let texts = [1, 2, 5].map(|threads| {
            let _ = quantized(&sandbox, &format!("{preset} --threads {threads}"));
            sandbox.read("out.json")
        });
        assert!(texts.iter().all(|text| *text == texts[0]), "{preset}");
    }
}

#[test]
fn warnings_end_a_strict_run_with_3() {
    let mut net = SmallNet::new();
    net.blobs("scale1")[1].1.fill(-1000.0);
    let strict = |net: &SmallNet| net.sandbox().quantize(&format!("{FILES} --strict -q")).code;
    assert_eq!((strict(&SmallNet::new()), strict(&net)), (Some(0), Some(3)));
}
