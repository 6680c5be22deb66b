//! The command as its users meet it: what it writes, what it says, and how it ends.
#![allow(clippy::unwrap_used)]

use quantize_tests::models::{edited, node};
use quantize_tests::sandbox::{DATA, Outcome, Sandbox};
use quantize_tests::{fixtures, pictures};
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::Read;
use std::process::Stdio;

/// What a quantization of `tiny_classifier` says.
const SUMMARY: &str = "\
int8: 8 nodes (4 Conv, 1 Add, 1 Flatten, 1 Gemm, 1 GlobalAveragePool)
      7 nodes folded into them
size: 25.2 kB to 12.7 kB (50 %)
data: 12 images, resize 16x16 bilinear, rgb, mean 127.5, scale 0.007843138, nchw; ranges mse
corrected: 5 layers on 12 images, 35.3 dB before, 39.8 dB after, on 12 calibration images
    38.4 dB without weight rounding
    39.8 dB without gain correction, so it was taken back
    35.8 dB without bias correction
accuracy: `logits` 39.8 dB signal to noise, same top-1 as fp32 on 12 of 12 images (simulated, calibration images)
lowest signal-to-noise ratios of single tensors:
    37.1 dB  activation `bn3` (node `pointwise`)
    37.8 dB  activation `add` (node `add`)
    43.0 dB  activation `input` (node `conv1`)
    43.5 dB  activation `clip` (node `clip`)
    43.7 dB  activation `relu2` (node `relu2`)
";

fn classifier() -> Sandbox {
    Sandbox::with_models(&["tiny_classifier"])
}

fn outcome(stdout: &str, stderr: &str) -> Outcome {
    Outcome { code: Some(0), stdout: stdout.to_owned(), stderr: stderr.to_owned() }
}

fn quantize_classifier(options: &str) -> Outcome {
    classifier().quantize(&format!("onnx tiny_classifier.onnx {DATA} {options}"))
}

#[test]
fn help_and_version() {
    let sandbox = Sandbox::new();
    let help = sandbox.quantize("--help").succeeded();
    let start = "Post-training quantization: an fp32 model and a folder of images in, an int8 model of the same";
    assert!(help.stdout.starts_with(start), "{}", help.stdout);
    assert_eq!(help.stderr, "");
    for command in ["onnx", "eval", "bench", "demo"] {
        assert!(help.stdout.contains(&format!("\n  {command}  ")), "{}", help.stdout);
        let own = sandbox.quantize(&format!("{command} --help")).succeeded();
        assert!(own.stdout.contains(&format!("Usage: quantize {command} ")), "{}", own.stdout);
    }
    assert_eq!(sandbox.quantize("--version"), outcome(&format!("quantize {}\n", env!("CARGO_PKG_VERSION")), ""));
}

#[test]
fn wrong_usage_ends_with_2() {
    let sandbox = classifier();
    let cases = [
        ("", "Usage: quantize <COMMAND>"),
        ("onnx", "the following required arguments were not provided"),
        ("onnx a.onnx b.onnx", "unexpected argument 'b.onnx'"),
        ("tensorflow", "unrecognized subcommand 'tensorflow'"),
        ("onnx tiny_classifier.onnx --range median", "'--range <METHOD>'"),
        ("onnx tiny_classifier.onnx --crop 0", "expected a size such as 224 or 320x240 (width first)"),
        ("onnx tiny_classifier.onnx --channels xyz", "known are rgb, bgr, gray"),
        ("onnx tiny_classifier.onnx --preprocess imagenot", "imagenet"),
        ("onnx tiny_classifier.onnx --resize 16x16 --resize-short 16", "cannot be used with"),
        ("onnx tiny_classifier.onnx -q -v", "cannot be used with"),
        ("onnx tiny_classifier.onnx --threads many", "'--threads <N>'"),
        ("onnx tiny_classifier.onnx", "calibration data is needed to quantize 8 nodes"),
        ("onnx tiny_classifier.onnx --skip conv[", "`--skip conv[` is not a valid pattern: unclosed character class"),
        ("eval tiny_classifier.onnx --data images", "--labels <FILE>"),
    ];
    for (line, part) in cases {
        let outcome = sandbox.quantize(line);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(2), ""), "{line}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(part), "{line}: {}", outcome.stderr);
    }
    assert_eq!(sandbox.files(), ["tiny_classifier.onnx"]);
}

#[test]
fn missing_data_is_explained() {
    let outcome = classifier().quantize("onnx tiny_classifier.onnx");
    let stderr = "error: calibration data is needed to quantize 8 nodes

hint: give images or arrays with `--calib PATH`, or keep everything with `--skip '*'`
";
    assert_eq!(outcome, Outcome { code: Some(2), stdout: String::new(), stderr: stderr.to_owned() });
}

#[test]
fn a_quantization_says_what_it_did() {
    let sandbox = classifier();
    let said = sandbox.quantize(&format!("onnx tiny_classifier.onnx {DATA}"));
    assert_eq!(said, outcome("tiny_classifier.int8.onnx\n", SUMMARY));
    assert_eq!(sandbox.files(), ["tiny_classifier.int8.onnx", "tiny_classifier.onnx"]);
    assert_eq!(sandbox.read("tiny_classifier.int8.onnx").len(), 12661);
}

#[test]
fn quiet_leaves_the_paths() {
    assert_eq!(quantize_classifier("-q -o out.onnx"), outcome("out.onnx\n", ""));
}

#[test]
fn verbose_names_what_was_folded() {
    let outcome = quantize_classifier("-v").succeeded();
    for (norm, conv) in [("bn1", "conv1"), ("bn2", "depthwise"), ("bn3", "pointwise"), ("bn4", "conv2")] {
        assert!(outcome.stderr.contains(&format!("`{norm}` is part of `{conv}`")), "{}", outcome.stderr);
    }
}

#[test]
fn a_target_is_met_with_layers_in_fp32_or_missed_with_code_3() {
    let sandbox = classifier();
    let line = |db: u32| {
        format!("onnx tiny_classifier.onnx {DATA} --target-sqnr {db} --emit-plan plan{db}.json -o out{db}.onnx")
    };
    let met = sandbox.quantize(&line(20)).succeeded();
    assert!(met.stderr.contains("\ntarget: 20 dB met\n"), "{}", met.stderr);
    assert!(!met.stderr.contains("back in fp32"), "{}", met.stderr);
    let helped = sandbox.quantize(&line(42)).succeeded();
    assert!(helped.stderr.contains("\ntarget: 42 dB met\n  "), "{}", helped.stderr);
    assert!(helped.stderr.contains(" nodes back in fp32, "), "{}", helped.stderr);
    let plan = String::from_utf8(sandbox.read("plan42.json")).unwrap();
    assert!(plan.contains("costs more accuracy than the target allows"), "{plan}");
    let missed = sandbox.quantize(&line(140));
    assert_eq!((missed.code, missed.stdout.as_str()), (Some(3), "out140.onnx\nplan140.json\n"));
    assert!(missed.stderr.contains("\ntarget: 140 dB missed; the best model found is written\n"), "{}", missed.stderr);
    assert!(missed.stderr.contains("\n  try: more calibration images"), "{}", missed.stderr);
    for threads in [1, 7] {
        let again = sandbox.quantize(&format!("{} --threads {threads} -q", line(42)));
        assert_eq!(again.code, Some(0));
        assert!(String::from_utf8(sandbox.read("plan42.json")).unwrap() == plan, "{threads} threads");
    }
}

#[test]
fn an_interrupted_search_goes_on_and_ends_the_same() {
    let sandbox = classifier();
    let line = |db: u32, record: &str| {
        format!(
            "onnx tiny_classifier.onnx {DATA} --target-sqnr {db} --resume {record} --emit-plan plan.json -o out.onnx"
        )
    };
    let whole = sandbox.quantize(&line(42, "search.json")).succeeded();
    assert!(whole.stderr.contains(" nodes back in fp32, "), "{}", whole.stderr);
    let (plan, model, record) = (sandbox.read("plan.json"), sandbox.read("out.onnx"), sandbox.read("search.json"));
    let mut found: serde_json::Value = serde_json::from_slice(&record).unwrap();
    let tried = found["tried"].as_array().unwrap().len();
    assert!(tried > 0);
    // A run that was stopped early leaves less.
    found["gains"].as_array_mut().unwrap().truncate(3);
    found["tried"].as_array_mut().unwrap().truncate(tried - 1);
    sandbox.write("early.json", found.to_string());
    for (from, known) in [("search.json", tried), ("early.json", tried - 1)] {
        let again = sandbox.quantize(&format!("{} -v", line(42, from))).succeeded();
        let said = format!("search: what came of {known} plans was known from {from}");
        assert_eq!(again.stderr.contains(&said), known > 0, "{}", again.stderr);
        assert!(sandbox.read("plan.json") == plan && sandbox.read("out.onnx") == model, "{from}");
        assert!(sandbox.read(from) == record, "{from}");
    }
    let foreign = sandbox.quantize(&line(41, "search.json"));
    assert_eq!(foreign.code, Some(1));
    assert!(foreign.stderr.contains("search.json: it belongs to another model"), "{}", foreign.stderr);
    assert!(foreign.stderr.contains("name a file that does not exist"), "{}", foreign.stderr);
    assert!(sandbox.read("search.json") == record);
    let idle = sandbox.quantize("onnx tiny_classifier.onnx --calib images --resume search.json");
    assert_eq!(idle.code, Some(2), "{}", idle.stderr);
}

#[test]
fn a_target_is_met_with_activations_of_16_bits() {
    let sandbox = classifier();
    let line = |options: &str| format!("onnx tiny_classifier.onnx {DATA} {options} --fallback 16-bit -o out.onnx");
    let met = sandbox.quantize(&line("--target-sqnr 42 --emit-plan plan.json")).succeeded();
    assert!(met.stderr.contains("\ntarget: 42 dB met\n  "), "{}", met.stderr);
    assert!(met.stderr.contains(" activations with 16 bits, "), "{}", met.stderr);
    assert!(!met.stderr.contains("back in fp32"), "{}", met.stderr);
    let model = sandbox.read("out.onnx");
    let plan: serde_json::Value = serde_json::from_slice(&sandbox.read("plan.json")).unwrap();
    let types = |wanted: &str| plan["activations"].as_array().unwrap().iter().filter(|a| a["type"] == wanted).count();
    assert!(types("uint16") > 0 && types("uint8") > 0, "{}", plan["activations"]);
    // The plan is carried out as it is.
    let _ = sandbox.quantize("onnx tiny_classifier.onnx --plan plan.json -o again.onnx").succeeded();
    assert!(sandbox.read("again.onnx") == model);
    for options in ["--target-sqnr 42 --format qoperator", "--target-sqnr 42 --activations u16"] {
        let refused = sandbox.quantize(&line(options));
        assert_eq!(refused.code, Some(2), "{}", refused.stderr);
        assert!(refused.stderr.contains("`--fallback 16-bit` and this kind of model exclude each other"));
    }
    assert_eq!(sandbox.quantize(&line("")).code, Some(2));
}

#[test]
fn labelled_images_bound_what_is_lost() {
    let sandbox = classifier();
    let line = |options: &str| format!("onnx tiny_classifier.onnx {DATA} {options} -o out.onnx");
    let met = sandbox.quantize(&line("--max-drop 0 --labelled images")).succeeded();
    let said = "\ntarget: 0 points of top-1 lost at most met\n  right on 12 of 12 labelled images, fp32 on 12: 0.00 \
         points lost\n";
    assert!(met.stderr.contains(said), "{}", met.stderr);
    // Labels judge and nothing else: what is written is what is written without them.
    let with = sandbox.read("out.onnx");
    let plain = sandbox.quantize(&line("--target-sqnr 1")).succeeded();
    assert!(with == sandbox.read("out.onnx"), "{}", plain.stderr);
    let both = sandbox.quantize(&line("--max-drop 0 --labelled images --target-sqnr 140"));
    assert_eq!(both.code, Some(3), "{}", both.stderr);
    assert!(both.stderr.contains("\ntarget: 140 dB and 0 points of top-1 lost at most missed"), "{}", both.stderr);
}

/// Images on the way from each class to each other one, labelled by the end that is nearer, the first one if both are:
/// rounding moves some across the border.
fn blends(sandbox: &Sandbox, folder: &str) {
    let classes = ["sky", "foliage", "stripes", "disc"];
    let read = |class: usize, n: u32| {
        let image = image::open(fixtures::images().join(format!("{}_{n}.png", classes[class]))).unwrap().to_rgb8();
        image::imageops::resize(&image, 16, 16, image::imageops::FilterType::Triangle)
    };
    let mut labels = "image,label\n".to_owned();
    for (n, i, j) in (0..3).flat_map(|n| (0..4).flat_map(move |i| (i + 1..4).map(move |j| (n, i, j)))) {
        let (a, b) = (read(i, n), read(j, n));
        for sixteenths in 1..16 {
            let name = format!("{i}_{j}_{n}_{sixteenths:02}.png");
            pictures::write(sandbox, &format!("{folder}/{name}"), &pictures::blend(&a, &b, sixteenths));
            labels += &format!("{name},{}\n", if sixteenths < 9 { i } else { j });
        }
    }
    sandbox.write(&format!("{folder}/labels.csv"), labels);
}

#[test]
fn what_is_lost_on_labelled_images_alone_sends_nodes_back_to_fp32() {
    let sandbox = classifier();
    blends(&sandbox, "blends");
    let coarse = "--isa generic-x86 --bias-correction none --rounding nearest";
    let line = |options: &str| format!("onnx tiny_classifier.onnx {DATA} {coarse} {options} -o out.onnx");
    let met = sandbox.quantize(&line("--max-drop 0 --labelled blends")).succeeded();
    assert!(met.stderr.contains("\ntarget: 0 points of top-1 lost at most met\n"), "{}", met.stderr);
    assert!(met.stderr.contains(" nodes back in fp32, "), "{}", met.stderr);
    let generous = sandbox.quantize(&line("--max-drop 20 --labelled blends")).succeeded();
    assert!(generous.stderr.contains("\ntarget: 20 points of top-1 lost at most met\n"), "{}", generous.stderr);
    assert!(!generous.stderr.contains("back in fp32"), "{}", generous.stderr);
}

#[test]
fn a_bound_on_what_is_lost_needs_labelled_images() {
    let sandbox = classifier();
    sandbox.copy_images("unlabelled", |name| name == "sky_0.png");
    for (options, code, said) in [
        ("--max-drop 1", 2, "--labelled"),
        ("--labelled images", 2, "--max-drop"),
        ("--labels images/labels.csv", 2, "--max-drop"),
        ("--max-drop 1 --labelled unlabelled", 1, "labels.csv"),
    ] {
        let refused = sandbox.quantize(&format!("onnx tiny_classifier.onnx {DATA} {options} -o out.onnx"));
        assert_eq!(refused.code, Some(code), "{options}: {}", refused.stderr);
        assert!(refused.stderr.contains(said), "{options}: {}", refused.stderr);
    }
    assert!(!sandbox.files().iter().any(|file| file == "out.onnx"));
}

#[test]
fn json_holds_the_summary() {
    let outcome = quantize_classifier("-q --output-format json -o out.onnx").succeeded();
    assert_eq!(outcome.stderr, "");
    let summary: Value = serde_json::from_str(&outcome.stdout).unwrap();
    let keys = "accuracy bytes_after bytes_before conversions equalization folded hints images improvement kept \
         preprocessing quantized range smoothing target warnings weight_only weight_storage worst written";
    assert_eq!(keys_of(&summary), keys);
    assert_eq!(summary["written"], serde_json::json!(["out.onnx"]));
    assert_eq!(summary["images"], 12);
    assert_eq!(summary["bytes_before"], fixtures::model_bytes("tiny_classifier").len());
    assert_eq!(summary["accuracy"]["samples"], 12);
    assert_eq!(summary["accuracy"]["outputs"][0]["name"], "logits");
    assert_eq!(summary["quantized"][0], serde_json::json!({"op": "Conv", "nodes": 4}));
}

/// The keys of an object in alphabetical order, separated by spaces.
fn keys_of(object: &Value) -> String {
    keys_in(&Value::Array(vec![object.clone()]))
}

/// The keys that occur in a list of objects, in alphabetical order, separated by spaces.
fn keys_in(list: &Value) -> String {
    let keys = list.as_array().unwrap().iter().flat_map(|entry| entry.as_object().unwrap().keys());
    let keys: BTreeSet<&str> = keys.map(String::as_str).collect();
    Vec::from_iter(keys).join(" ")
}

#[test]
fn the_plan_holds_every_decision() {
    let sandbox = classifier();
    let line = format!("onnx tiny_classifier.onnx {DATA} --skip pool -o out.onnx --emit-plan plans.json");
    assert_eq!(sandbox.quantize(&line).succeeded().stdout, "out.onnx\nplans.json\n");
    let plan: Value = serde_json::from_slice(&sandbox.read("plans.json")).unwrap();
    assert_eq!(keys_of(&plan), "activations constants format model nodes range version");
    assert_eq!((&plan["format"], &plan["version"]), (&"quantize-plan".into(), &1.into()));
    assert_eq!((&plan["model"], &plan["range"]), (&"tiny_classifier.onnx".into(), &"mse".into()));
    assert_eq!(keys_in(&plan["activations"]), "method range scale sqnr_db tensor type zero_point");
    assert_eq!(keys_in(&plan["constants"]), "axis codes node operand scale sqnr_db tensor type values");
    assert_eq!(keys_in(&plan["nodes"]), "decision node op why");

    let nodes = plan["nodes"].as_array().unwrap();
    let decision = |name: &str| nodes.iter().find(|n| n["node"] == name).map(|n| (&n["decision"], &n["why"]));
    assert_eq!(decision("conv1"), Some((&"quantize".into(), &Value::Null)));
    assert_eq!(decision("relu1"), Some((&"absorbed".into(), &"into `conv1`".into())));
    assert_eq!(decision("pool"), Some((&"keep".into(), &"skipped on request".into())));
    let weight = plan["constants"].as_array().unwrap().iter().find(|c| c["tensor"] == "conv1.weight").unwrap();
    assert_eq!((&weight["type"], &weight["axis"]), (&"narrow int8".into(), &0.into()));
    assert_eq!(weight["scale"].as_array().unwrap().len(), 16);
}

#[test]
fn skipped_nodes_stay() {
    let outcome = quantize_classifier("--skip conv1 --skip bn* -o out.onnx").succeeded();
    let lines: Vec<&str> = outcome.stderr.lines().take_while(|line| !line.starts_with("size: ")).collect();
    let expected = [
        "int8: 4 nodes (3 Conv, 1 Gemm)",
        "fp32: 1 Add (`add`): no operand comes from a quantized node",
        "fp32: 4 BatchNormalization (`bn1`, `bn2`, `bn3`, 1 more): skipped on request",
        "fp32: 1 Clip (`clip`): could only vanish into a quantized node right before it",
        "fp32: 1 Conv (`conv1`): skipped on request",
        "fp32: 1 Flatten (`flatten`): no operand comes from a quantized node",
        "fp32: 1 GlobalAveragePool (`pool`): no operand comes from a quantized node",
        "fp32: 2 Relu (`relu1`, `relu2`): could only vanish into a quantized node right before it",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn assumptions_are_warned_of() {
    let outcome = classifier().quantize("onnx tiny_classifier.onnx --calib images --strict");
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(3), "tiny_classifier.int8.onnx\n"));
    let warning = "\nwarning: no preprocessing given: assumed `--preprocess imagenet`\n";
    assert!(outcome.stderr.ends_with(warning), "{}", outcome.stderr);
    assert_eq!(quantize_classifier("--strict").code, Some(0), "no warning, nothing broken");
}

#[test]
fn the_output_may_replace_the_input() {
    let sandbox = classifier();
    let apart = format!("onnx tiny_classifier.onnx {DATA} -q -o apart.onnx");
    assert_eq!(sandbox.quantize(&apart), outcome("apart.onnx\n", ""));
    let same = format!("onnx tiny_classifier.onnx {DATA} -q -o tiny_classifier.onnx");
    assert_eq!(sandbox.quantize(&same), outcome("tiny_classifier.onnx\n", ""));
    assert!(sandbox.read("tiny_classifier.onnx") == sandbox.read("apart.onnx"));
}

#[test]
fn unknown_operators_at_the_end_are_carried() {
    let sandbox = Sandbox::with_models(&["tiny_detector_custom"]);
    let outcome = sandbox.quantize(&format!("onnx tiny_detector_custom.onnx {DATA} -o out.onnx")).succeeded();
    assert!(outcome.stderr.contains("\nfp32: 1 Decode (`decode`): unknown operator, carried as it is\n"));
    assert!(outcome.stderr.starts_with("int8: "), "{}", outcome.stderr);
}

#[test]
fn an_unknown_operator_in_the_path_needs_what_follows_skipped() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "alien.onnx",
        edited("tiny_classifier", |model| {
            let relu = node(model, "relu2");
            (relu.op_type, relu.domain) = (Some("Mystery".into()), Some("com.example".into()));
        }),
    );
    let refused = sandbox.quantize(&format!("onnx alien.onnx {DATA} -o out.onnx"));
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""));
    let error = "error: alien.onnx: cannot execute node `relu2` (Mystery), before nodes that would be quantized\n\n\
                 hint: keep what follows in fp32: --skip 'fc'\n";
    assert_eq!(refused.stderr, error);
    let outcome = sandbox.quantize(&format!("onnx alien.onnx {DATA} --skip fc -o out.onnx"));
    let outcome = outcome.succeeded();
    assert!(outcome.stderr.contains("\nfp32: 1 Mystery (`relu2`): unknown operator, carried as it is\n"));
    assert!(outcome.stderr.starts_with("int8: 5 nodes (4 Conv, 1 Add)\n"), "{}", outcome.stderr);
}

#[test]
fn evaluations_of_both_models() {
    let sandbox = classifier();
    let _ = sandbox.quantize(&format!("onnx tiny_classifier.onnx {DATA} -o int8.onnx")).succeeded();
    let data = DATA.replace("--calib", "--labels images/labels.csv --data");
    for model in ["tiny_classifier.onnx", "int8.onnx"] {
        let said = sandbox.quantize(&format!("eval {model} {data}"));
        assert_eq!(said, outcome("top-1 100.00 % (12 of 12), top-5 100.00 % (12 of 12)\n", ""), "{model}");
    }
    let said = sandbox.quantize(&format!("eval int8.onnx {data} --output-format json"));
    assert_eq!(said, outcome("{\"images\":12,\"top1\":12,\"top5\":12}\n", ""));
}

#[test]
fn wrong_labels_lower_the_accuracy() {
    let sandbox = classifier();
    let labels = String::from_utf8(sandbox.read("images/labels.csv")).unwrap().replace("sky_0.png,0", "sky_0.png,1");
    sandbox.write("labels.csv", labels);
    let data = DATA.replace("--calib", "--labels labels.csv --data");
    let said = sandbox.quantize(&format!("eval tiny_classifier.onnx {data}"));
    assert_eq!(said, outcome("top-1 91.67 % (11 of 12), top-5 100.00 % (12 of 12)\n", ""));
}

#[test]
fn the_demo_quantizes_and_evaluates() {
    let sandbox = Sandbox::new();
    let said = sandbox.quantize("demo -o digits").succeeded();
    assert_eq!(said.stdout, "digits/digits.int8.onnx\ndigits/digits.json\ndigits/digits.int8.pb\n");
    for part in [
        "int8: ",
        "\non 400 digits that were not used for calibration:\n  fp32  top-1 9",
        "\n  int8  top-1 9",
        "\n  TensorFlow int8 top-1 9",
        "\n  xfDNN top-1 9",
        "\n  quantize onnx digits/digits.onnx --calib digits/calib --channels gray --scale 0.003921569\n",
    ] {
        assert!(said.stderr.contains(part), "{part}: {}", said.stderr);
    }
    let by_hand = sandbox.quantize(
        "onnx digits/digits.onnx --calib digits/calib --channels gray --scale 0.003921569 -q -o by_hand.onnx",
    );
    assert_eq!(by_hand, outcome("by_hand.onnx\n", ""));
    assert!(sandbox.read("by_hand.onnx") == sandbox.read("digits/digits.int8.onnx"), "the commands it names differ");
    let network = "digits/digits.prototxt digits/digits.caffemodel";
    assert!(said.stderr.contains(&format!("\n  quantize caffe {network} --calib digits/calib --raw_scale 1\n")));
    let by_hand = sandbox.quantize(&format!("caffe {network} --calib digits/calib --raw_scale 1 -q -o by_hand.json"));
    assert_eq!(by_hand, outcome("by_hand.json\n", ""));
    assert!(sandbox.read("by_hand.json") == sandbox.read("digits/digits.json"), "the commands it names differ");
    let line = "tf digits/digits.pb --calib digits/calib --channels gray --scale 0.003921569";
    assert!(said.stderr.contains(&format!("\n  quantize {line}\n")), "{}", said.stderr);
    let by_hand = sandbox.quantize(&format!("{line} -q -o by_hand.pb"));
    assert_eq!(by_hand, outcome("by_hand.pb\n", ""));
    assert!(sandbox.read("by_hand.pb") == sandbox.read("digits/digits.int8.pb"), "the commands it names differ");
}

#[test]
fn nobody_reads_the_output() {
    let sandbox = classifier();
    let help = "onnx --help".to_owned();
    let eval = format!("eval tiny_classifier.onnx {}", DATA.replace("--calib", "--labels images/labels.csv --data"));
    for line in [help, eval, format!("onnx tiny_classifier.onnx {DATA} -o out.onnx")] {
        let mut command = sandbox.command(&line);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let mut stderr = String::new();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0), "{line}: {stderr}");
        assert!(!stderr.contains("panicked") && !stderr.contains("error"), "{line}: {stderr}");
    }
    assert_eq!(sandbox.files(), ["out.onnx", "tiny_classifier.onnx"], "the model is written all the same");
}

#[test]
fn nobody_reads_the_messages() {
    let sandbox = classifier();
    let mut command = sandbox.command(&format!("onnx tiny_classifier.onnx {DATA} -o out.onnx"));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stderr.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), &*output.stdout), (Some(0), &b"out.onnx\n"[..]));
}
