//! TensorFlow graphs on codes against what TensorFlow 2.21 recorded of them: dynamic, with frozen ranges, and fused.
#![allow(clippy::unwrap_used)]

use quantize_pipeline::{Model, Request, Tensor, TensorflowFiles};
use quantize_tests::arrays::{npy, npy_bytes};
use quantize_tests::sandbox::Sandbox;
use quantize_tests::tensorflow::open as open_graph;
use quantize_tests::{counted, shared};
use std::collections::BTreeMap;
use std::path::Path;

/// Images that were run at a time when the outputs were recorded: ranges that are found while running depend on it.
const BATCH: usize = 8;

/// Largest difference of a probability.
const TOLERANCE: f32 = 1e-5;

/// The codes that TensorFlow 2.21 computed of the first batch in the fused graph, as 64-bit FNV-1a hashes of their bytes.
const CODES: &[(&str, u64)] = &[
    ("pool1_eightbit_quantize_conv1/Relu", 0x914c_62b5_da26_e571),
    ("pool1_eightbit_quantized", 0x4efd_7843_1301_d0c2),
    ("conv2/Conv2D_eightbit_requantize", 0x1159_0b9f_fc08_2e3e),
    ("res/a/Conv2D_eightbit_requantize", 0x4ba3_1673_0cd1_7eef),
    ("res/b/Conv2D_eightbit_requantize", 0xba29_0c63_1ec7_3ee7),
    ("pw1/bn/batchnorm/mul_1_eightbit_requantize", 0x7f11_a1ca_ac3d_506b),
    ("pool2_eightbit_quantize_pw1/Relu", 0x584d_a2b2_750d_6382),
    ("pool2_eightbit_quantized", 0x2b1f_72eb_d5ab_fb5d),
    ("mix/b1/Conv2D_eightbit_requantize", 0xd8a7_cebb_2f9a_fc9c),
    ("mix/b2a/Conv2D_eightbit_requantize", 0xb1c3_37e4_591e_ba9b),
    ("mix/b2b/Conv2D_eightbit_requantize", 0xd6b9_41d1_322e_e2d5),
    ("mix/pool_eightbit_quantized", 0xcce3_d63b_d218_8861),
    ("mix/b3/Conv2D_eightbit_requantize", 0xb6b0_8e35_6d30_e432),
    ("mix/concat_eightbit_quantized_concatv2", 0x1d7e_628f_6e7f_c35f),
    ("conv3/Conv2D_eightbit_requantize", 0xa969_f12c_40cf_5d3d),
];

fn open(graph: &Path, outputs: &[&str]) -> Model {
    let request = Request { inputs: vec!["input".into()], outputs: outputs.iter().map(|o| (*o).into()).collect() };
    let files = TensorflowFiles { graph: graph.to_owned(), checkpoint: None, request };
    Model::open_tensorflow(&files).unwrap_or_else(|error| panic!("{error}"))
}

/// The images of the network in batches.
fn batches(folder: &Path) -> Vec<Tensor> {
    let input = npy(&folder.join("input.npy"));
    let mut shape = input.shape().to_vec();
    shape[0] = BATCH;
    let len = shape.iter().product();
    input.as_slice::<f32>().unwrap().chunks_exact(len).map(|x| Tensor::new(&shape[..], x.to_vec()).unwrap()).collect()
}

#[test]
fn graphs_on_codes_give_the_recorded_outputs() {
    let Some(shared) = shared() else { return };
    let folder = shared.join("golden/tf/small_net");
    let mut checked = 0;
    for stage in ["quantized_dynamic_range_graph", "freezed_range_graph", "fused_graph"] {
        let expected = npy(&folder.join(format!("output_tf221_{stage}.npy")));
        for extension in ["pb", "pbtxt"] {
            let model = open(&folder.join(stage).with_extension(extension), &["predict"]);
            let mut found = Vec::new();
            for batch in batches(&folder) {
                let outputs = model.run(&[batch]).unwrap_or_else(|error| panic!("{stage}: {error}"));
                found.extend_from_slice(outputs[0].as_slice::<f32>().unwrap());
            }
            let pairs = found.iter().zip(expected.as_slice::<f32>().unwrap());
            let worst = pairs.map(|(found, expected)| (found - expected).abs()).fold(0f32, f32::max);
            println!("{stage}.{extension}: {worst:e}");
            assert_eq!(found.len(), expected.len());
            assert!(worst <= TOLERANCE, "{stage}.{extension}: {worst}");
            checked += found.len();
        }
    }
    counted(checked, "outputs of graphs on codes");
}

#[test]
fn fused_operators_give_the_recorded_codes() {
    let Some(shared) = shared() else { return };
    let folder = shared.join("golden/tf/small_net");
    let names: Vec<&str> = CODES.iter().map(|(name, _)| *name).collect();
    let model = open(&folder.join("fused_graph.pb"), &names);
    let outputs = model.run(&batches(&folder)[..1]).unwrap_or_else(|error| panic!("{error}"));
    let mut bytes = 0;
    for ((name, expected), codes) in CODES.iter().zip(&outputs) {
        let found: Vec<u8> = match codes.as_slice::<u8>() {
            Ok(codes) => codes.to_vec(),
            Err(_) => codes.as_slice::<i8>().unwrap().iter().map(|code| *code as u8).collect(),
        };
        assert_eq!(fnv(&found), *expected, "{name}");
        bytes += found.len();
    }
    counted(bytes, "codes of fused operators");
}

/// Fowler, Noll and Vo's hash, variant 1a of 64 bits.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// A sandbox with the first `count` images of the network as arrays, and the class that fp32 gives each.
fn with_images(folder: &Path, count: usize) -> Sandbox {
    let sandbox = Sandbox::new();
    let (input, output) = (npy(&folder.join("input.npy")), npy(&folder.join("output_fp32.npy")));
    let len = input.shape()[1..].iter().product();
    for (at, image) in input.as_slice::<f32>().unwrap().chunks_exact(len).take(count).enumerate() {
        sandbox.write(&format!("data/{at:02}.npy"), npy_bytes(&[1, 32, 32, 3], image));
    }
    let label = |(at, scores): (usize, &[f32])| {
        let best = scores.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).unwrap().0;
        format!("{at:02}.npy,{best}\n")
    };
    let labels: String =
        output.as_slice::<f32>().unwrap().chunks_exact(10).take(count).enumerate().map(label).collect();
    sandbox.write("labels.csv", labels);
    sandbox
}

/// The ranges of a log by node, in the order of the log.
fn ranges(log: &str) -> BTreeMap<String, Vec<[f32; 2]>> {
    let mut ranges: BTreeMap<String, Vec<[f32; 2]>> = BTreeMap::new();
    for line in log.lines().filter(|line| line.starts_with(';')) {
        let (node, values) = line[1..].split_once("__print__;__requant_min_max:").unwrap();
        let mut values = values.split(']').map(|value| value.trim_start_matches('[').parse().unwrap_or(f32::NAN));
        let range = [values.next().unwrap(), values.next().unwrap()];
        ranges.entry(node.to_owned()).or_default().push(range);
    }
    ranges
}

/// The log that TensorFlow printed, of 32 images one at a time.
#[test]
fn the_log_is_that_of_the_runtime() {
    let Some(shared) = shared() else { return };
    let folder = shared.join("golden/tf/small_net");
    let sandbox = with_images(&folder, 32);
    let logged = folder.join("logged_quantized_graph.pb").display().to_string();
    let words = ["tf", "calibrate", "--in_graph", &logged, "--min_max_log_file", "log.txt", "--outputs", "predict"];
    let outcome = sandbox.quantize_words(&[&words[..], &["--calib", "data"]].concat()).succeeded();
    assert_eq!(outcome.stdout, "log.txt\n");
    assert!(outcome.stderr.contains("288 lines printed by 9 nodes, on 32 samples"), "{}", outcome.stderr);
    let found = ranges(&String::from_utf8(sandbox.read("log.txt")).unwrap());
    let expected = ranges(&std::fs::read_to_string(folder.join("min_max_log.txt")).unwrap());
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    let (mut worst, mut count) = (0f32, 0);
    for (node, expected) in &expected {
        assert_eq!(found[node].len(), expected.len(), "{node}");
        for (found, expected) in found[node].iter().flatten().zip(expected.iter().flatten()) {
            worst = worst.max((found - expected).abs());
            count += 1;
        }
    }
    println!("largest difference of an end of a range: {worst:e}");
    assert!(worst <= 1e-3, "{worst}");
    counted(count, "ends of ranges in a log");
    let threaded = ["--calib", "data", "--threads", "1", "--output-format", "json", "--quiet"];
    let first = sandbox.read("log.txt");
    let outcome = sandbox.quantize_words(&[&words[..], &threaded].concat()).succeeded();
    let report: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!((&report["printed"], &report["lines"]), (&true.into(), &288.into()));
    assert!(sandbox.read("log.txt") == first, "the log depends on the number of threads");
}

/// The same ranges measured in fp32, under the names that codes will have; the graph on codes takes them as it is.
#[test]
fn ranges_of_fp32_fit_the_graph_on_codes() {
    let Some(shared) = shared() else { return };
    let folder = shared.join("golden/tf/small_net");
    let sandbox = with_images(&folder, 32);
    let graph = folder.join("optimized_graph.pb").display().to_string();
    let words = ["tf", "calibrate", "--in_graph", &graph, "--min_max_log_file", "log.txt", "--outputs", "predict"];
    let outcome = sandbox.quantize_words(&[&words[..], &["--calib", "data"]].concat()).succeeded();
    assert!(outcome.stderr.contains("288 lines of what becomes codes at 9 nodes"), "{}", outcome.stderr);
    let found = ranges(&String::from_utf8(sandbox.read("log.txt")).unwrap());
    let expected = ranges(&std::fs::read_to_string(folder.join("min_max_log.txt")).unwrap());
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (node, expected) in &expected {
        for (found, expected) in found[node].iter().flatten().zip(expected.iter().flatten()) {
            assert!((found - expected).abs() <= 0.1 * expected.abs(), "{node}: {found} for {expected}");
        }
    }
    let dynamic = folder.join("quantized_dynamic_range_graph.pb").display().to_string();
    let freeze = "freeze_requantization_ranges(min_max_log_file=\"log.txt\")";
    let words = ["tf", "transform", "--in_graph", &dynamic, "--out_graph", "frozen.pb", "--transforms", freeze];
    let _ = sandbox.quantize_words(&words).succeeded();
    let frozen = open_graph(&sandbox.path("frozen.pb"));
    assert!(frozen.graph().nodes().iter().all(|node| node.op() != "RequantizationRange"));
    let fp32 = sandbox
        .quantize_words(&["tf", "compare", &graph, "frozen.pb", "--outputs", "predict", "--calib", "data"])
        .succeeded();
    assert!(fp32.stdout.contains("predict"), "{}", fp32.stdout);
}

#[test]
fn accuracy_of_graphs_on_codes_is_measured() {
    let Some(shared) = shared() else { return };
    let folder = shared.join("golden/tf/small_net");
    let sandbox = with_images(&folder, 16);
    let mut checked = 0;
    for stage in
        ["quantized_dynamic_range_graph", "quantized_dynamic_range_graph_pc", "freezed_range_graph", "fused_graph"]
    {
        let graph = folder.join(stage).with_extension("pb").display().to_string();
        let words = ["tf", "eval", &graph, "--outputs", "predict", "--data", "data", "--labels", "labels.csv"];
        let outcome = sandbox.quantize_words(&[&words[..], &["--output-format", "json"]].concat()).succeeded();
        let report: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
        println!("{stage}: {report}");
        // The class of fp32, but where two are nearly equal.
        assert!(report["top1"].as_u64().unwrap() >= 15, "{stage}: {report}");
        checked += 16;
    }
    counted(checked, "images evaluated on codes");
}

#[test]
fn what_cannot_be_calibrated_is_said() {
    let Some(shared) = shared() else { return };
    let folder = shared.join("golden/tf/small_net");
    let sandbox = with_images(&folder, 1);
    let graph = |stage: &str| folder.join(stage).display().to_string();
    let calibrate = |graph: &str, more: &[&str]| {
        let words = ["tf", "calibrate", "--in_graph", graph, "--min_max_log_file", "log.txt"];
        sandbox.quantize_words(&[&words[..], more].concat())
    };
    let data = ["--calib", "data"];
    calibrate(&graph("fused_graph.pb"), &data).failed(1, &["nothing in it has a range to log", "insert_logging"]);
    calibrate(&graph("logged_quantized_graph.pb"), &[]).failed(2, &["--calib DIR"]);
    calibrate(&graph("logged_quantized_graph.pb"), &["--calib", "data", "--outputs", "predct"])
        .failed(1, &["there is no node `predct`", "did you mean `predict`"]);
    calibrate(&graph("optimized_graph.pb"), &["--calib", "data", "--model_name", "x"]).failed(2, &["the model `x`"]);
    assert!(!sandbox.files().contains(&"log.txt".to_owned()));
}
