//! Batch normalization and scale of Caffe networks fold into the convolutions before them, and change nothing.
#![allow(clippy::unwrap_used)]

use quantize_ir::{Graph, Grids, KeepReason, NodeId, Op, QuantType, Recipe, Support};
use quantize_passes::prepare;
use quantize_tests::arrays::npy;
use quantize_tests::caffe::{NETWORKS, run};
use quantize_tests::shared;
use std::collections::BTreeSet;

/// A target for which convolutions and matrix products are worth quantizing.
struct Linear;

impl Recipe for Linear {
    fn support(&self, graph: &Graph, node: NodeId) -> Support {
        match graph.node(node).map(|node| &node.op) {
            Some(Op::Conv(_) | Op::Gemm(_)) => Support::Anchor,
            _ => Support::Keep(KeepReason::NoIntegerKernel),
        }
    }

    fn allows_real_result(&self, _: &Graph, _: NodeId) -> bool {
        true
    }

    fn channel_axis(&self, _: &Graph, _: NodeId, slot: usize) -> Option<usize> {
        (slot == 1).then_some(0)
    }

    fn grids(&self) -> Grids {
        Grids { activation: QuantType::I8, symmetric: true, weight: QuantType::I8Narrow, coded_bias: true }
    }
}

fn is_normalization(op: &Op) -> bool {
    matches!(op, Op::BatchNorm(_))
}

#[test]
fn a_residual_network_loses_its_normalizations_and_keeps_its_probabilities() {
    let Some(shared) = shared() else { return };
    let network = NETWORKS.iter().find(|network| network.name == "open_nsfw").unwrap();
    let graph = network.graph(&shared.join("models/caffe"), [3, 224, 224]);
    assert_eq!(graph.nodes().filter(|(_, node)| is_normalization(&node.op)).count(), 106);
    let folded = prepare(graph.clone(), &Linear, &BTreeSet::new()).unwrap().graph;
    assert_eq!(folded.nodes().filter(|(_, node)| is_normalization(&node.op)).count(), 0);
    assert_eq!(graph.nodes().count() - folded.nodes().count(), 106);
    let input = npy(&shared.join("golden/xfdnn/fp32/open_nsfw_input_0.npy"));
    let input = input.reshaped([1, 3, 224, 224]).unwrap();
    let (before, after) = (run(&graph, &input), run(&folded, &input));
    let probabilities = before["prob"].as_slice::<f32>().unwrap().iter().zip(after["prob"].as_slice::<f32>().unwrap());
    for (before, after) in probabilities {
        assert!((before - after).abs() <= 1e-6, "{before} became {after}");
    }
}
