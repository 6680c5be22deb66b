//! `quantize tf` step by step against what the original programs made of the same graph.
#![allow(clippy::unwrap_used)]

use quantize_tensorflow::{GraphDef, Input, NodeDef};
use quantize_tests::sandbox::Sandbox;
use quantize_tests::tensorflow::{canonical_node, open};
use quantize_tests::{counted, shared};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Largest relative difference of folded constants.
const FOLDED: f32 = 1e-6;

fn small_net() -> Option<PathBuf> {
    shared().map(|folder| folder.join("golden/tf/small_net"))
}

/// Runs `quantize tf` with these words and returns the graph it writes to `out`.
fn step(sandbox: &Sandbox, words: &[&str], out: &str) -> GraphDef {
    let _ = sandbox.quantize_words(&[&["tf"], words].concat()).succeeded();
    open(&sandbox.path(out)).graph().clone()
}

fn by_name(graph: &GraphDef) -> BTreeMap<&str, &NodeDef> {
    graph.nodes().iter().map(|node| (node.name(), node)).collect()
}

/// A node in which every input is spelled in full.
fn spelled(node: &NodeDef) -> String {
    let mut node = node.clone();
    let inputs = node.refs().map(|input: Input<'_>| input.to_string()).collect();
    node.set_inputs(inputs);
    canonical_node(&node)
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn freezing_gives_the_same_nodes_in_the_same_order() {
    let Some(golden) = small_net() else { return };
    let mut checked = 0;
    for graph in ["original_graph.pbtxt", "original_graph.pb"] {
        let sandbox = Sandbox::new();
        let (graph, checkpoint) = (golden.join(graph), golden.join("model.ckpt"));
        let words = ["freeze", "--input_graph", path(&graph), "--output_graph", "frozen.pb", "--input_binary", "False"];
        let rest = ["--input_checkpoint", path(&checkpoint), "--output_node_names", "predict"];
        let frozen = step(&sandbox, &[&words[..], &rest].concat(), "frozen.pb");
        let expected = open(&golden.join("freezed_graph.pb"));
        let names = |graph: &GraphDef| graph.nodes().iter().map(|node| node.name().to_owned()).collect::<Vec<_>>();
        assert_eq!(names(&frozen), names(expected.graph()));
        for (found, expected) in frozen.nodes().iter().zip(expected.graph().nodes()) {
            let values = [found, expected].map(|node| node.constant_value().unwrap());
            assert!(values[0] == values[1], "{}", found.name());
            if values[0].is_none() {
                assert_eq!(spelled(found), spelled(expected));
            }
            checked += 1;
        }
    }
    counted(checked, "frozen nodes");
}

#[test]
fn optimizing_gives_the_same_nodes() {
    let Some(golden) = small_net() else { return };
    let sandbox = Sandbox::new();
    let frozen = golden.join("freezed_graph.pb");
    let transforms = "strip_unused_nodes remove_nodes(op=Identity, op=CheckNumerics) fold_constants(ignore_errors=true) \
                      fold_batch_norms fold_old_batch_norms";
    let words = ["transform", "--in_graph", path(&frozen), "--out_graph=optimized.pb", "--inputs=input"];
    let graph =
        step(&sandbox, &[&words[..], &["--outputs=predict", "--transforms", transforms]].concat(), "optimized.pb");
    let document = open(&golden.join("optimized_graph.pb"));
    let (found, expected) = (by_name(&graph), by_name(document.graph()));
    // The original names one folded constant anew; ours keeps the name of the node.
    let renamed = |name: &str| name.replace("/_1__cf__1", "");
    assert_eq!(found.len(), expected.len());
    for (name, expected) in &expected {
        let found = found.get(renamed(name).as_str()).unwrap_or_else(|| panic!("no node {name}"));
        match (found.constant_value().unwrap(), expected.constant_value().unwrap()) {
            (None, None) => assert_eq!(spelled(found), renamed(&spelled(expected))),
            (Some(found), Some(expected)) => {
                assert_eq!(found.shape(), expected.shape(), "{name}");
                let Ok(values) = found.as_slice::<f32>() else {
                    assert!(found == expected, "{name}");
                    continue;
                };
                for (value, wanted) in values.iter().zip(expected.as_slice::<f32>().unwrap()) {
                    let largest = FOLDED * value.abs().max(wanted.abs()).max(1.0);
                    assert!((value - wanted).abs() <= largest, "{name}: {value} for {wanted}");
                }
            }
            _ => panic!("{name} is a constant in one of them only"),
        }
    }
    counted(expected.len(), "optimized nodes");
}

#[test]
fn logging_and_freezing_ranges_give_the_same_nodes() {
    let Some(golden) = small_net() else { return };
    let sandbox = Sandbox::new();
    let (dynamic, log) = (golden.join("quantized_dynamic_range_graph.pb"), golden.join("min_max_log.txt"));
    let insert = r#"insert_logging(op=RequantizationRange, show_name=true, message="__requant_min_max:")"#.to_owned();
    let freeze = format!("freeze_requantization_ranges(min_max_log_file=\"{}\")", log.display());
    let mut checked = 0;
    for (request, golden_name) in [(insert, "logged_quantized_graph.pb"), (freeze, "freezed_range_graph.pb")] {
        let words = ["transform", "--in_graph", path(&dynamic), "--out_graph", "out.pb", "--transforms", &request];
        let graph = step(&sandbox, &words, "out.pb");
        let document = open(&golden.join(golden_name));
        let (found, expected) = (by_name(&graph), by_name(document.graph()));
        assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{golden_name}");
        for (name, expected) in &expected {
            let values = [&found[name], expected].map(|node| node.constant_value().unwrap());
            assert!(values[0] == values[1], "{golden_name}: {name}");
            if values[0].is_none() {
                assert_eq!(spelled(found[name]), spelled(expected), "{golden_name}");
            }
            checked += 1;
        }
    }
    counted(checked, "nodes with ranges");
}

#[test]
fn a_graph_is_summarized_as_the_original_does() {
    let Some(golden) = small_net() else { return };
    let graph = golden.join("freezed_graph.pb");
    let words = ["tf", "summarize", "--in_graph", path(&graph), "--print_structure=false"];
    let outcome = Sandbox::new().quantize_words(&words).succeeded();
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    assert_eq!(lines[0], "Found 1 possible inputs: (name=input, type=float(1), shape=[?,32,32,3]) ");
    assert_eq!(lines[1], "No variables spotted.");
    assert_eq!(lines[2], "Found 1 possible outputs: (name=predict, op=Softmax) ");
    assert!(lines[3].ends_with(" const parameters, 0 (0) variable parameters, and 0 control_edges"), "{}", lines[3]);
    assert!(lines[4].starts_with("Op types used: 51 Const, 48 Identity, 11 Conv2D, "), "{}", lines[4]);
    counted(lines.len(), "lines");
}
