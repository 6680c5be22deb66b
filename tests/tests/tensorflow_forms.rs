//! What `quantize tf` makes of additions, borders and matrix products, and the forms it reads and writes.
#![allow(clippy::unwrap_used)]

use quantize_document::encode::{bytes_field, varint_field};
use quantize_pipeline::{Model, Request, TensorflowFiles};
use quantize_tests::arrays::npy;
use quantize_tests::sandbox::Sandbox;
use quantize_tests::tensorflow::{Network, canonical, images, open};
use serde_json::Value;

const SUM: &str = "QuantizedConv2DWithBiasSumAndReluAndRequantize";
const SIGNED_SUM: &str = "QuantizedConv2DWithBiasSignedSumAndReluAndRequantize";

/// A block with a shortcut behind a ReLU, one of its convolutions behind a `Pad`.
fn identity_block() -> Network {
    let mut net = Network::new();
    net.convolution("first", "input");
    net.node("shortcut", "Relu", &["first"]);
    net.padded("second", "shortcut");
    net.node("inner", "Relu", &["second"]);
    net.convolution("third", "inner");
    net.node("sum", "AddV2", &["third", "shortcut"]);
    net.node("rectified", "Relu", &["sum"]);
    net.convolution("last", "rectified");
    net.node("features", "Relu", &["last"]);
    net.head("scores", "features");
    net
}

/// A block whose shortcut is a convolution without ReLU.
fn projection_block() -> Network {
    let mut net = Network::new();
    net.convolution("first", "input");
    net.node("start", "Relu", &["first"]);
    net.convolution("shortcut", "start");
    net.convolution("second", "start");
    net.node("inner", "Relu", &["second"]);
    net.convolution("third", "inner");
    net.node("sum", "AddN", &["third", "shortcut"]);
    net.node("rectified", "Relu6", &["sum"]);
    net.convolution("last", "rectified");
    net.node("features", "Relu", &["last"]);
    net.head("scores", "features");
    net
}

fn sandbox(net: &Network) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("net.pb", net.bytes());
    sandbox.write("images.npy", images(16));
    sandbox
}

/// Runs `quantize tf net.pb` and returns its report.
fn quantized(sandbox: &Sandbox, options: &str) -> Value {
    let said = sandbox.quantize(&format!("tf net.pb --calib images.npy -q --output-format json {options}"));
    serde_json::from_str(&said.succeeded().stdout).unwrap()
}

fn count(sandbox: &Sandbox, path: &str, op: &str) -> usize {
    open(&sandbox.path(path)).graph().nodes().iter().filter(|node| node.op() == op).count()
}

/// Why nodes of an operator stay.
fn reasons(report: &Value, op: &str) -> String {
    let kept = report["kept"].as_array().unwrap().iter().filter(|kept| kept["op"] == op);
    kept.map(|kept| kept["reason"].as_str().unwrap().to_owned()).collect::<Vec<_>>().join("; ")
}

/// How far a graph's scores are from those of `net.pb`, in dB.
fn sqnr(sandbox: &Sandbox, path: &str) -> f64 {
    let line = format!("tf compare net.pb {path} --outputs scores --calib images.npy --output-format json -q");
    let report: Value = serde_json::from_str(&sandbox.quantize(&line).succeeded().stdout).unwrap();
    report["outputs"][0]["sqnr_db"].as_f64().unwrap()
}

/// The same as the simulation of the plan says of it.
fn simulated(report: &Value) -> f64 {
    report["accuracy"]["outputs"][0]["sqnr_db"].as_f64().unwrap()
}

#[test]
fn a_shortcut_is_added_on_integers_and_a_border_goes_along() {
    let sandbox = sandbox(&identity_block());
    let report = quantized(&sandbox, "-o int8.pb");
    assert_eq!(count(&sandbox, "int8.pb", SUM), 1);
    for gone in ["Conv2D", "AddV2", "Pad", "Relu"] {
        assert_eq!(count(&sandbox, "int8.pb", gone), 0, "{gone}");
    }
    assert_eq!(report["conversions"]["to_codes"], 1, "{report}");
    let document = open(&sandbox.path("int8.pb"));
    let index = document.graph().index().unwrap();
    let padded = index.find("second/conv_eightbit_requantize").unwrap();
    assert_eq!(padded.ints("padding_list").unwrap(), Some(vec![0, 0, 1, 1, 1, 1, 0, 0]));
    let sum = index.find("third/conv_eightbit_requantize").unwrap();
    let summand = "first/conv_eightbit_requantize";
    assert_eq!(sum.inputs()[9..], [summand.to_owned(), format!("{summand}:1"), format!("{summand}:2")]);
    assert!(sqnr(&sandbox, "int8.pb") > 25.0);

    let report = quantized(&sandbox, "-o real.pb --residual-sum fp32");
    assert_eq!((count(&sandbox, "real.pb", SUM), count(&sandbox, "real.pb", "AddV2")), (0, 1));
    assert!(reasons(&report, "Add").contains("--residual-sum fp32"), "{report}");
}

#[test]
fn a_plan_is_simulated_as_its_graph_runs() {
    for (net, options) in [(identity_block(), ""), (projection_block(), "--signed-sum sum7bit --matmul int8")] {
        let sandbox = sandbox(&net);
        // Without a walk no samples are held back: so many are all measured on both sides.
        sandbox.write("images.npy", images(8));
        let report = quantized(&sandbox, &format!("-o int8.pb --preset fast {options}"));
        let (simulated, run) = (simulated(&report), sqnr(&sandbox, "int8.pb"));
        assert!((simulated - run).abs() < 0.5, "{options}: {simulated} dB simulated, {run} dB in the graph");
    }
}

#[test]
fn a_shortcut_that_is_still_needed_is_added_in_fp32() {
    let mut net = identity_block();
    net.convolution("late", "shortcut");
    net.node("other", "Tanh", &["late"]);
    let outputs = "--outputs scores,other";
    for (net, options) in [(net, outputs), (identity_block(), "--outputs scores,shortcut")] {
        let sandbox = sandbox(&net);
        let report = quantized(&sandbox, &format!("-o int8.pb {options}"));
        assert_eq!((count(&sandbox, "int8.pb", SUM), count(&sandbox, "int8.pb", "AddV2")), (0, 1), "{options}");
        assert!(reasons(&report, "Add").contains("may still be needed"), "{report}");
    }
}

#[test]
fn a_shortcut_that_may_be_negative_has_seven_bits_on_request() {
    let sandbox = sandbox(&projection_block());
    let report = quantized(&sandbox, "-o real.pb");
    assert_eq!((count(&sandbox, "real.pb", SIGNED_SUM), count(&sandbox, "real.pb", "AddN")), (0, 1));
    assert!(reasons(&report, "Add").contains("--signed-sum sum7bit"), "{report}");
    let _ = quantized(&sandbox, "-o int8.pb --signed-sum sum7bit --emit-plan plan.json");
    assert_eq!((count(&sandbox, "int8.pb", SIGNED_SUM), count(&sandbox, "int8.pb", "AddN")), (1, 0));
    assert!(String::from_utf8(sandbox.read("plan.json")).unwrap().contains("reduced uint8"));
    assert!(sqnr(&sandbox, "int8.pb") > 25.0);
}

#[test]
fn matrix_products_are_on_integers_on_request() {
    let mut net = identity_block();
    net.node("hidden", "Relu", &["scores"]);
    net.dense("logits", "hidden");
    let sandbox = sandbox(&net);
    let report = quantized(&sandbox, "-o real.pb --outputs logits");
    assert!(reasons(&report, "Gemm").contains("--matmul int8"), "{report}");
    let _ = quantized(&sandbox, "-o int8.pb --outputs logits --matmul int8");
    for op in ["QuantizedMatMulWithBiasAndReluAndRequantize", "QuantizedMatMulWithBiasAndDequantize"] {
        assert_eq!(count(&sandbox, "int8.pb", op), 1, "{op}");
    }
    let line = "tf compare net.pb int8.pb --outputs logits --calib images.npy --output-format json -q";
    let report: Value = serde_json::from_str(&sandbox.quantize(line).succeeded().stdout).unwrap();
    assert!(report["outputs"][0]["sqnr_db"].as_f64().unwrap() > 20.0, "{report}");
}

#[test]
fn a_graph_leaves_as_onnx() {
    let sandbox = sandbox(&identity_block());
    let _ = sandbox.quantize("tf net.pb --emit onnx-fp32 -q -o net.onnx").succeeded();
    let _ = sandbox.quantize("tf net.pb --calib images.npy --emit onnx -q -o net.int8.onnx").succeeded();
    let files = TensorflowFiles { graph: sandbox.path("net.pb"), checkpoint: None, request: Request::default() };
    let images = npy(&sandbox.path("images.npy"));
    let expected = Model::open_tensorflow(&files).unwrap().run(std::slice::from_ref(&images)).unwrap().remove(0);
    let expected = expected.as_slice::<f32>().unwrap();
    for (path, tolerance) in [("net.onnx", 1e-4), ("net.int8.onnx", 0.2)] {
        let found = Model::open_onnx(sandbox.path(path)).unwrap().run(std::slice::from_ref(&images)).unwrap().remove(0);
        let found = found.as_slice::<f32>().unwrap();
        assert_eq!(found.len(), expected.len());
        let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        assert!(worst < tolerance, "{path}: {worst}");
    }
}

#[test]
fn a_plan_gives_the_graph_it_was_written_with() {
    let sandbox = sandbox(&projection_block());
    for options in ["", "--signed-sum sum7bit --matmul int8"] {
        let _ = quantized(&sandbox, &format!("-o made.pb --emit-plan plan.json {options}"));
        let line = format!("tf net.pb --plan plan.json -q -o again.pb {options}");
        let _ = sandbox.quantize(&line).succeeded();
        assert!(sandbox.read("made.pb") == sandbox.read("again.pb"), "{options}");
    }
}

#[test]
fn a_saved_model_and_text_are_read_and_written() {
    let net = identity_block();
    let sandbox = sandbox(&net);
    let tags = bytes_field(1, &bytes_field(4, b"serve"));
    let meta = [tags, bytes_field(2, &net.bytes())].concat();
    std::fs::create_dir(sandbox.path("saved")).unwrap();
    sandbox.write("saved/saved_model.pb", [varint_field(1, 1), bytes_field(2, &meta)].concat());
    let _ = quantized(&sandbox, "-o int8.pb");
    let options = "--calib images.npy --outputs scores -q";
    let _ = sandbox.quantize(&format!("tf run saved {options} -o saved.pb")).succeeded();
    let _ = sandbox.quantize(&format!("tf run net.pb {options} -o int8.pbtxt")).succeeded();
    let expected = canonical(open(&sandbox.path("int8.pb")).graph());
    for path in ["saved.pb", "int8.pbtxt"] {
        assert!(canonical(open(&sandbox.path(path)).graph()) == expected, "{path}");
    }
    assert!(String::from_utf8(sandbox.read("int8.pbtxt")).unwrap().contains(SUM));
}
