//! Graphs on codes against those that the original script made: every node, with its operator, inputs, attributes and
//! elements.
#![allow(clippy::unwrap_used)]

use quantize_ir::Tensor;
use quantize_tensorflow::eightbit::{EightbitOptions, eightbit};
use quantize_tensorflow::{DataType, Encoding, GraphDef, NodeDef, TensorProto, render};
use quantize_tests::sandbox::Sandbox;
use quantize_tests::tensorflow::{canonical_node, open};
use quantize_tests::{counted, shared};
use std::collections::BTreeMap;

/// The nodes by name, each as a text; attributes in alphabetical order.
fn nodes(graph: &GraphDef) -> BTreeMap<String, String> {
    graph.nodes().iter().map(|node| (node.name().to_owned(), canonical_node(&sorted(node)))).collect()
}

fn sorted(node: &NodeDef) -> NodeDef {
    let mut attrs: Vec<_> = node.attrs().map(|(name, value)| (name.to_owned(), value.clone())).collect();
    attrs.sort_by(|a, b| a.0.cmp(&b.0));
    let sorted = NodeDef::new(node.name(), node.op()).with_inputs(node.inputs().to_vec());
    let sorted = attrs.into_iter().fold(sorted, |node, (name, value)| node.with_attr(&name, value));
    // One number may stand in a list or as bytes.
    match node.tensor_proto("value").unwrap() {
        Some(tensor) => {
            sorted.with_attr("value", TensorProto::new(tensor.dtype(), &tensor.to_tensor().unwrap()).unwrap())
        }
        None => sorted,
    }
}

/// Both graphs have the same nodes; how many.
fn assert_same(ours: &GraphDef, golden: &GraphDef, what: &str) -> usize {
    let (ours, golden) = (nodes(ours), nodes(golden));
    for (name, node) in &golden {
        let own = ours.get(name).unwrap_or_else(|| panic!("{what}: there is no `{name}`"));
        assert_eq!(own, node, "{what}: `{name}`");
    }
    let more: Vec<&String> = ours.keys().filter(|name| !golden.contains_key(*name)).collect();
    assert!(more.is_empty(), "{what}: {more:?}");
    golden.len()
}

#[test]
fn graphs_are_those_of_the_original() {
    let Some(shared) = shared() else { return };
    let folder = shared.join("golden/tf/small_net");
    let optimized = open(&folder.join("optimized_graph.pb"));
    let mut count = 0;
    for (per_channel, name) in
        [(false, "quantized_dynamic_range_graph.pb"), (true, "quantized_dynamic_range_graph_pc.pb")]
    {
        let options =
            EightbitOptions { outputs: vec!["predict".into()], intel: true, per_channel, ..EightbitOptions::default() };
        let ours = eightbit(optimized.graph(), &options).unwrap_or_else(|error| panic!("{error}"));
        count += assert_same(&ours.graph, open(&folder.join(name)).graph(), name);
    }
    counted(count, "nodes");
}

/// Ranges frozen by the log of the original, and fused: the published graph, with biases as 32-bit codes.
#[test]
fn fused_graphs_are_those_of_the_original() {
    let Some(shared) = shared() else { return };
    let folder = shared.join("golden/tf/small_net");
    let sandbox = Sandbox::new();
    let (quantized, log) = (folder.join("quantized_dynamic_range_graph.pb"), folder.join("min_max_log.txt"));
    let freeze = format!("freeze_requantization_ranges(min_max_log_file=\"{}\")", log.display());
    let transforms = format!("{freeze} fuse_quantized_conv_and_requantize");
    let words = ["tf", "transform", "--in_graph", &quantized.display().to_string(), "--out_graph", "fused.pb"];
    let _ = sandbox.quantize_words(&[&words[..], &["--transforms", &transforms]].concat()).succeeded();
    let ours = open(&sandbox.path("fused.pb"));
    let count = assert_same(ours.graph(), open(&folder.join("fused_graph.pb")).graph(), "fused_graph.pb");
    counted(count, "nodes");
}

/// A sandbox with a graph of two convolutions, of which the second reads what is not negative.
fn sandbox() -> Sandbox {
    let floats = |name: &str, shape: &[usize]| {
        let values = (0u8..).take(shape.iter().product()).map(|n| f32::from(n) - 1.0).collect();
        let tensor = Tensor::new(shape, values).unwrap();
        NodeDef::constant(name, TensorProto::new(DataType::FLOAT, &tensor).unwrap())
    };
    let node = |name: &str, op: &str, inputs: [&str; 2]| {
        let inputs = inputs.into_iter().filter(|input| !input.is_empty());
        NodeDef::new(name, op).with_inputs(inputs).with_attr("T", DataType::FLOAT)
    };
    let conv = |name: &str, inputs| {
        node(name, "Conv2D", inputs).with_attr("strides", vec![1, 1, 1, 1]).with_attr("padding", "SAME")
    };
    let graph = GraphDef::new(vec![
        NodeDef::new("input", "Placeholder").with_attr("dtype", DataType::FLOAT),
        floats("w", &[1, 1, 2, 2]),
        conv("first", ["input", "w"]),
        node("relu", "Relu", ["first", ""]),
        floats("w2", &[1, 1, 2, 2]),
        conv("second", ["relu", "w2"]),
        floats("bias", &[2]),
        node("sum", "AddV2", ["second", "bias"]),
        node("out", "Relu", ["sum", ""]),
    ]);
    let sandbox = Sandbox::new();
    sandbox.write("graph.pb", render(&graph, Encoding::Binary).unwrap());
    sandbox
}

const COMMAND: &str = "tf eightbit --input=graph.pb --output=out.pb --output_node_names=out";

#[test]
fn what_became_of_each_operator_is_said() {
    let sandbox = sandbox();
    let command = format!("{COMMAND} --mode=eightbit --intel_cpu_eightbitize=True");
    let outcome = sandbox.quantize(&command).succeeded();
    assert_eq!(outcome.stdout, "out.pb\n");
    assert_eq!(
        outcome.stderr,
        "Conv2D: 1 of 2 compute on codes\n  `first` stays: what it reads, `input` (Placeholder), may be negative\n\
         reals become codes 1 times, codes become reals 1 times\n9 nodes before, 20 after\n"
    );
    let first = sandbox.read("out.pb");
    let outcome = sandbox.quantize(&format!("{command} --output-format json")).succeeded();
    let json: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(json["nodes"][1]["becomes"], "QuantizedConv2D");
    assert_eq!(json["nodes"][0]["reason"], "what it reads, `input` (Placeholder), may be negative");
    assert!(sandbox.read("out.pb") == first);
    let outcome = sandbox.quantize(&format!("{command} --rules sound --output_binary=false")).succeeded();
    assert!(outcome.stderr.ends_with("9 nodes before, 18 after\n"), "{}", outcome.stderr);
    let text = String::from_utf8(sandbox.read("out.pb")).unwrap();
    assert!(text.contains("QuantizedConv2DWithBiasAndRelu"), "{text}");
}

#[test]
fn other_modes_and_wrong_requests() {
    let sandbox = sandbox();
    sandbox.quantize(COMMAND).failed(2, &["`--mode round` inserts operators that no TensorFlow has"]);
    let eightbit = format!("{COMMAND} --mode eightbit");
    let _ = sandbox.quantize(&eightbit).succeeded();
    for mode in ["weights", "weights_rounded"] {
        let _ = sandbox.quantize(&format!("{COMMAND} --mode={mode} --bitdepth 4")).succeeded();
    }
    sandbox.quantize(&format!("{eightbit} --model_name=resnet")).failed(2, &["no rules are known for the model"]);
    sandbox
        .quantize(&format!("{eightbit} --quantized_fallback_min=1 --quantized_fallback_max=-1"))
        .failed(2, &["`--quantized_fallback_min` is not less than"]);
    sandbox
        .quantize("tf eightbit --input=graph.pb --output=out2.pb --output_node_names=outt --mode=eightbit")
        .failed(1, &["graph.pb: there is no node `outt` in the graph", "did you mean `out`?"]);
    sandbox
        .quantize("tf eightbit --input=graph.pb --output=out2.pb --mode=eightbit")
        .failed(1, &["no output is named", "quantize tf summarize"]);
    assert!(!sandbox.files().contains(&"out2.pb".to_owned()));
}
