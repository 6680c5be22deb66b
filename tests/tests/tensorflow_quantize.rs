//! `quantize tf` from graph to int8 graph at once.
#![allow(clippy::unwrap_used)]

use quantize_tensorflow::{Container, NodeDef};
use quantize_tests::sandbox::Sandbox;
use quantize_tests::tensorflow::{canonical_node, files, open};
use quantize_tests::{counted, shared};
use std::collections::BTreeMap;

/// Numbers of operators in the graph `path`.
fn operators(sandbox: &Sandbox, path: &str) -> BTreeMap<String, usize> {
    let document = open(&sandbox.path(path));
    let mut counts = BTreeMap::new();
    for node in document.graph().nodes() {
        *counts.entry(node.op().to_owned()).or_default() += 1;
    }
    counts
}

#[test]
fn the_small_network_becomes_fused_operators() {
    let Some(shared) = shared() else { return };
    let golden = shared.join("golden/tf/small_net");
    let (graph, data) = (golden.join("freezed_graph.pb"), golden.join("input.npy"));
    let (graph, data) = (graph.to_str().unwrap(), data.to_str().unwrap());
    let sandbox = Sandbox::new();
    let words = ["tf", graph, "--calib", data, "-o", "int8.pb", "--quiet", "--threads", "1"];
    let _ = sandbox.quantize_words(&words).succeeded();
    let counts = operators(&sandbox, "int8.pb");
    let count = |op: &str| counts.get(op).copied().unwrap_or(0);
    assert_eq!(count("Conv2D"), 0, "{counts:?}");
    let rectified = count("QuantizedConv2DWithBiasAndReluAndRequantize");
    let added = count("QuantizedConv2DWithBiasSumAndReluAndRequantize");
    assert_eq!(rectified + added + count("QuantizedConv2DWithBiasAndRequantize"), 11, "{counts:?}");
    assert_eq!(added, 1, "{counts:?}");
    // The same graph from variables, with its parts spelled out, and on two threads, gives the same operators.
    let (variables, checkpoint) = (golden.join("original_graph.pbtxt"), golden.join("model.ckpt"));
    let (variables, checkpoint) = (variables.to_str().unwrap(), checkpoint.to_str().unwrap());
    let words = ["tf", "run", variables, "--checkpoint", checkpoint, "--inputs", "input", "--outputs", "predict"];
    let rest = ["--calib", data, "-o", "again.pb", "--quiet", "--threads", "2"];
    let _ = sandbox.quantize_words(&[&words[..], &rest].concat()).succeeded();
    assert_eq!(operators(&sandbox, "again.pb"), counts);
    let _ =
        sandbox.quantize_words(&["tf", graph, "--calib", data, "-o", "int8b.pb", "-q", "--threads", "2"]).succeeded();
    assert_eq!(sandbox.read("int8.pb"), sandbox.read("int8b.pb"), "the number of threads shows");
    counted(counts.values().sum(), "nodes of the int8 graph");
}

#[test]
fn a_graph_of_which_everything_is_kept_is_the_same_file() {
    let Some(shared) = shared() else { return };
    let paths = ["golden/tf", "models/tf"].map(|folder| files(&shared.join(folder), &[".pb"])).concat();
    // What stands in a SavedModel is written as a graph.
    let graphs: Vec<_> = paths.into_iter().filter(|path| open(path).container() == Container::Graph).collect();
    for graph in &graphs {
        let sandbox = Sandbox::new();
        let words = ["tf", graph.to_str().unwrap(), "--skip", "*", "-o", "same.pb", "-q"];
        let _ = sandbox.quantize_words(&words).succeeded();
        assert!(sandbox.read("same.pb") == std::fs::read(graph).unwrap(), "{}", graph.display());
    }
    counted(graphs.len(), "graphs");
}

#[test]
fn nodes_that_stay_are_as_they_were() {
    let Some(shared) = shared() else { return };
    let golden = shared.join("golden/tf/small_net");
    let data = golden.join("input.npy");
    let mut untouched = 0;
    for name in ["freezed_graph.pb", "optimized_graph.pb"] {
        let (graph, sandbox) = (golden.join(name), Sandbox::new());
        let words = ["tf", graph.to_str().unwrap(), "--calib", data.to_str().unwrap(), "-o", "int8.pb", "-q"];
        let _ = sandbox.quantize_words(&words).succeeded();
        let (before, after) = (open(&graph), open(&sandbox.path("int8.pb")));
        let index = before.graph().index().unwrap();
        let stays = |node: &&NodeDef| index.node(node.name()).is_some_and(|old| old.op() == node.op());
        for node in after.graph().nodes().iter().filter(stays) {
            let old = index.node(node.name()).unwrap();
            assert_eq!(canonical_node(node), canonical_node(old), "{name}: {}", node.name());
            untouched += 1;
        }
    }
    counted(untouched, "nodes that stay");
}
