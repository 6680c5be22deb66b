//! Graphs on codes against those that the original script made: every node, with its operator, inputs, attributes and
//! elements.
#![allow(clippy::unwrap_used)]

use quantize_tensorflow::eightbit::{EightbitOptions, eightbit};
use quantize_tensorflow::{GraphDef, NodeDef};
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
    attrs.into_iter().fold(sorted, |node, (name, value)| node.with_attr(&name, value))
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
