//! What can be given up: the rounding of values with common parameters, or its 8 bits, and the plan without it.

use crate::options::Fallback;
use crate::settle::Settled;
use quantize_ir::{Decision, Graph, NodeId, QuantPlan, ValueId};
use quantize_optimize::{layer_bias, set_bias};
use std::collections::{BTreeMap, BTreeSet};

/// Values with common parameters that could stay real, or have more bits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) values: BTreeSet<ValueId>,
    /// The quantized nodes that write or read them.
    pub(super) nodes: BTreeSet<NodeId>,
}

impl Candidate {
    /// Several as one.
    pub(super) fn together<'a>(candidates: impl Iterator<Item = &'a Self>) -> Self {
        candidates.fold(Self::default(), |mut all, candidate| {
            all.values.extend(&candidate.values);
            all.nodes.extend(&candidate.nodes);
            all
        })
    }
}

/// Each set of values with common parameters, in the order of the first.
pub(super) fn candidates(settled: &Settled) -> Vec<Candidate> {
    let Settled { graph, plan, .. } = settled;
    let mut groups: BTreeMap<ValueId, BTreeSet<ValueId>> = BTreeMap::new();
    for (value, entry) in &plan.activations {
        groups.entry(entry.shares).or_default().insert(*value);
    }
    let writer = |value: &ValueId| {
        let (id, _) = graph.producer(*value)?;
        Some(match plan.nodes.get(&id).map(|n| &n.decision) {
            Some(Decision::Absorbed { into }) => *into,
            _ => id,
        })
    };
    let nodes = |values: &BTreeSet<ValueId>| {
        let readers = values.iter().flat_map(|v| graph.value(*v).consumers()).map(|(id, _)| *id);
        let around = values.iter().filter_map(writer).chain(readers);
        around.filter(|id| plan.quantizes(*id)).collect()
    };
    groups.into_values().map(|values| Candidate { nodes: nodes(&values), values }).collect()
}

/// What shows the gain of giving a candidate up.
///
/// With more bits layers stay on integers, with corrections that answered the rounding to 8: to take that alone away
/// would show what they are worth to each other. So the candidate is rounded alone, in a model of reals.
pub(super) fn trial(fallback: Fallback, settled: &Settled, candidate: &Candidate) -> (Graph, QuantPlan) {
    match fallback {
        Fallback::Real => lacking(settled, candidate),
        Fallback::WideCodes => alone(settled, candidate),
    }
}

/// The gain in noise to signal, where the model has `whole` and the trial has `tried`.
pub(super) fn gain(fallback: Fallback, whole: f64, tried: f64) -> f64 {
    match fallback {
        Fallback::Real => whole - tried,
        Fallback::WideCodes => tried,
    }
}

/// The plan with some values real and the nodes around them in fp32, everything else as it is.
fn lacking(settled: &Settled, candidate: &Candidate) -> (Graph, QuantPlan) {
    let (mut graph, mut plan) = (settled.graph.clone(), settled.plan.clone());
    plan.weights.retain(|(node, _), _| !candidate.nodes.contains(node));
    plan.activations.retain(|value, _| !candidate.values.contains(value));
    for layer in &candidate.nodes {
        // Its bias answered what its rounding did.
        let before = settled.reference.as_ref().and_then(|reference| layer_bias(reference, *layer));
        if let Some(bias) = before {
            // The layer had one of this length before, so it takes it.
            let _ = set_bias(&mut graph, *layer, bias);
        }
    }
    (graph, plan)
}

/// Some values rounded, nothing else.
fn alone(settled: &Settled, candidate: &Candidate) -> (Graph, QuantPlan) {
    let graph = settled.reference.as_ref().unwrap_or(&settled.graph);
    let activations = settled.plan.activations.iter().filter(|(value, _)| candidate.values.contains(value));
    let activations = activations.map(|(value, entry)| (*value, entry.clone())).collect();
    (graph.clone(), QuantPlan { activations, ..QuantPlan::default() })
}
