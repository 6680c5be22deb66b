//! `quantize tf`: what it says and what it refuses.
#![allow(clippy::unwrap_used)]

use quantize_ir::Tensor;
use quantize_tensorflow::{DataType, Encoding, GraphDef, NodeDef, PartialShape, TensorProto, render};
use quantize_tests::sandbox::Sandbox;

/// A sandbox with a graph of a product and a variable, in binary and in text.
fn sandbox() -> Sandbox {
    let weights = TensorProto::new(DataType::FLOAT, &Tensor::vector(vec![1f32, 2.0])).unwrap();
    let shape = PartialShape::Known(vec![None, Some(2)]);
    let graph = GraphDef::new(vec![
        NodeDef::new("input", "Placeholder").with_attr("dtype", DataType::FLOAT).with_attr("shape", shape.clone()),
        NodeDef::constant("w", weights),
        NodeDef::new("product", "Mul").with_inputs(["input", "w"]).with_attr("T", DataType::FLOAT),
        NodeDef::new("v", "VariableV2").with_attr("dtype", DataType::FLOAT).with_attr("shape", shape),
        NodeDef::new("sum", "Add").with_inputs(["product", "v", "^w"]).with_attr("T", DataType::FLOAT),
    ]);
    let sandbox = Sandbox::new();
    sandbox.write("graph.pb", render(&graph, Encoding::Binary).unwrap());
    sandbox.write("graph.pbtxt", render(&graph, Encoding::Text).unwrap());
    sandbox
}

const SUMMARY: &str = "Found 1 possible inputs: (name=input, type=float(1), shape=[?,2]) \n\
Found 1 variables: (name=v, type=float(1), shape=[?,2]) \n\
Found 1 possible outputs: (name=sum, op=Add) \n\
Found 2 (2) const parameters, 0 (0) variable parameters, and 1 control_edges\n\
Op types used: 1 Add, 1 Const, 1 Mul, 1 Placeholder, 1 VariableV2\n\
To use with tensorflow/tools/benchmark:benchmark_model try these arguments:\n\
bazel run tensorflow/tools/benchmark:benchmark_model -- --graph=GRAPH --show_flops --input_layer=input \
--input_layer_type=float --input_layer_shape=-1,2 --output_layer=sum\n";

#[test]
fn a_summary_is_the_same_for_binary_and_text() {
    let sandbox = sandbox();
    for graph in ["graph.pb", "graph.pbtxt"] {
        let outcome = sandbox.quantize(&format!("tf summarize --in_graph={graph}")).succeeded();
        assert_eq!((outcome.stdout, outcome.stderr.as_str()), (SUMMARY.replace("GRAPH", graph), ""));
    }
    let outcome = sandbox.quantize("tf summarize --in_graph graph.pb --print_structure").succeeded();
    assert!(outcome.stdout.ends_with("sum (Add): [product, v, ^w]\n"), "{}", outcome.stdout);
    let outcome = sandbox.quantize("tf summarize --in_graph graph.pb --output-format json").succeeded();
    let json: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!((&json["outputs"][0]["name"], &json["control_edges"]), (&"sum".into(), &1.into()));
}

#[test]
fn a_transform_that_changes_nothing_writes_the_same_bytes() {
    let sandbox = sandbox();
    let outcome = sandbox.quantize("tf transform --in_graph graph.pb --out_graph out.pb --transforms remove_device");
    let outcome = outcome.succeeded();
    assert_eq!(
        (outcome.stdout.as_str(), outcome.stderr.as_str()),
        ("out.pb\n", "Applying remove_device\n5 nodes before, 5 after\n")
    );
    assert!(sandbox.read("out.pb") == sandbox.read("graph.pb"));
    let text = "tf transform --in_graph graph.pb --out_graph out.pbtxt --output_as_text --transforms remove_device";
    let _ = sandbox.quantize(text).succeeded();
    assert!(sandbox.read("out.pbtxt") == sandbox.read("graph.pbtxt"));
}

#[test]
fn wrong_requests_are_refused_with_their_place() {
    let sandbox = sandbox();
    let transform = |transforms: &str| {
        let words = ["tf", "transform", "--in_graph=graph.pb", "--out_graph=out.pb", "--outputs=sum", "--transforms"];
        sandbox.quantize_words(&[&words[..], &[transforms]].concat())
    };
    transform("fold_constant").failed(
        1,
        &["transforms, character 1: Transform 'fold_constant' not recognized.", "did you mean `fold_constants`"],
    );
    transform("remove_nodes(op:Identity)")
        .failed(1, &["transforms, character 16: Looking for =, but found :Identity)"]);
    transform("remove_nodes(op=A, max=2)").failed(1, &["character 20: remove_nodes has no parameter `max`"]);
    transform("freeze_requantization_ranges(min_max_log_file=none.txt)").failed(1, &["cannot read none.txt"]);
    transform("remove_device quantize_nodes").failed(
        1,
        &[
            "character 15: Transform 'quantize_nodes' is known, but not carried out here.",
            "use `quantize tf eightbit --intel_cpu_eightbitize=False`",
        ],
    );
    transform("round_weights(num_steps=0)").failed(1, &["character 1: round_weights: `num_steps` is from 1 on"]);
    transform("quantize_weights(minimum_sizes=4)")
        .failed(1, &["character 18: quantize_weights has no parameter `minimum_sizes`", "did you mean `minimum_size`"]);
    transform("").failed(1, &["You must specify at least one transform."]);
    assert!(!sandbox.files().contains(&"out.pb".to_owned()));
}

#[test]
fn transforms_are_carried_out_one_after_the_other() {
    let sandbox = sandbox();
    let transforms = "add_default_attributes merge_duplicate_nodes fold_subdivmul_batch_norms flatten_atrous_conv \
                      quantize_weights(minimum_size=2) round_weights(num_steps=16) obfuscate_names";
    let words = ["tf", "transform", "--in_graph=graph.pb", "--out_graph=out.pb", "--inputs=input", "--outputs=sum"];
    let outcome = sandbox.quantize_words(&[&words[..], &["--transforms", transforms]].concat()).succeeded();
    assert!(outcome.stderr.starts_with("Applying add_default_attributes\n"), "{}", outcome.stderr);
    assert!(outcome.stderr.ends_with("Applying obfuscate_names\n5 nodes before, 8 after\n"), "{}", outcome.stderr);
    let outcome = sandbox.quantize("tf summarize --in_graph out.pb --print_structure").succeeded();
    assert!(outcome.stdout.contains("sum (Add): ["), "{}", outcome.stdout);
}

#[test]
fn names_and_variables_that_do_not_exist_are_named() {
    let sandbox = sandbox();
    let line = "tf transform --in_graph graph.pb --out_graph out.pb --outputs sun --transforms strip_unused_nodes";
    sandbox.quantize(line).failed(1, &["graph.pb: there is no node `sun` in the graph", "did you mean `sum`?"]);
    let freeze =
        "tf freeze --input_graph graph.pbtxt --output_graph out.pb --input_binary=False --output_node_names sum";
    sandbox.quantize(freeze).failed(2, &["no `--input_checkpoint`"]);
    sandbox.quantize(&format!("{freeze} --input_checkpoint none")).failed(1, &["none: there is no checkpoint"]);
    sandbox.quantize("tf summarize --in_graph none.pb").failed(1, &["cannot read none.pb"]);
}

#[test]
fn a_graph_with_a_cycle_is_refused() {
    let sandbox = Sandbox::new();
    let nodes = [("a", "b"), ("b", "a")].map(|(name, input)| NodeDef::new(name, "Relu").with_inputs([input]));
    sandbox.write("cycle.pb", render(&GraphDef::new(nodes.to_vec()), Encoding::Binary).unwrap());
    let line = "tf transform --in_graph cycle.pb --out_graph out.pb --transforms sort_by_execution_order";
    sandbox.quantize(line).failed(1, &["cycle.pb: the graph has a cycle: `b`, `a` wait for each other"]);
}
