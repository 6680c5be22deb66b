//! What happens to each node: what a quantization would do with it, or what one has done.

use super::open::Opened;
use super::pairs::{Pairs, converts};
use crate::error::Error;
use crate::selection::matching;
use crate::unknown::Unknown;
use quantize_ir::{Decision, Graph, KeepReason, Node, NodeId};
use quantize_passes::{Preparation, prepare};
use std::collections::BTreeMap;

/// What happens to a node, or has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It computes on integers.
    Integers,
    /// It computes in fp32, its weight is stored as codes.
    WeightOnly,
    /// It becomes part of the weights of a node.
    Folded {
        /// That node.
        into: String,
    },
    /// It vanishes into the saturation of a node.
    Absorbed {
        /// That node.
        into: String,
    },
    /// It converts between real numbers and codes.
    Converts,
    /// Its results are known before a run.
    Constant,
    /// It works on something else than real numbers, such as shapes.
    NotReal,
    /// It stays in fp32.
    Real {
        /// Why.
        reason: String,
    },
}

/// What of a model computes on integers, or could.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Integers {
    /// Whether the model is quantized already.
    pub quantized: bool,
    /// Nodes of a quantized model that are real so far and could be quantized too.
    pub further: usize,
    /// Whether the runtime has integer kernels for the codes of activations that are asked for.
    pub has_kernels: bool,
    /// Why a quantization would refuse the model; with what to do about it, if something can be done.
    pub refusal: Option<String>,
}

/// The fate of each node of `graph`, the opened model with constants folded.
///
/// # Errors
/// If a pattern of `skip` matches nothing, or a pass fails.
pub(super) fn fates(
    opened: &Opened,
    graph: &Graph,
    skip: &[String],
) -> Result<(BTreeMap<NodeId, Fate>, Integers), Error> {
    let path = opened.model.path();
    let skip = matching(opened.model.graph(), skip)?;
    let preparation = prepare(graph.clone(), opened.rules.recipe(), &skip);
    let Preparation { graph: prepared, selection, .. } = preparation.map_err(|source| Error::pass(path, source))?;
    let pairs = Pairs::of(graph, &opened.rules);
    if let Some(pairs) = pairs.filter(|_| graph.nodes().any(|(_, node)| converts(node))) {
        let fates = graph.nodes().map(|(id, node)| (id, pairs.fate(id, node))).collect();
        let further = prepared.nodes().filter(|(id, _)| selection.quantizes(*id)).count();
        return Ok((fates, Integers { quantized: true, further, has_kernels: true, refusal: None }));
    }
    let fates = graph.nodes().map(|(id, node)| (id, fate(&prepared, id, node, selection.decisions.get(&id)))).collect();
    let unknown = Unknown::of(&prepared).map_err(|source| Error::graph(path, source))?;
    let refused = unknown.refuse(&prepared, path, &|id| selection.quantizes(id)).err();
    let refusal = refused.map(|error| match error.hint() {
        Some(hint) => format!("{error}; {hint}"),
        None => error.to_string(),
    });
    Ok((fates, Integers { quantized: false, further: 0, has_kernels: opened.rules.has_kernels(), refusal }))
}

/// The fate of a node that `decision` is about; a node without one was folded.
fn fate(prepared: &Graph, id: NodeId, node: &Node, decision: Option<&Decision>) -> Fate {
    match decision.filter(|_| prepared.node(id).is_some()) {
        Some(Decision::Quantize) => Fate::Integers,
        Some(Decision::WeightOnly) => Fate::WeightOnly,
        Some(Decision::Absorbed { into }) => Fate::Absorbed { into: prepared.label(*into) },
        Some(Decision::Keep(KeepReason::Folded)) => Fate::Constant,
        Some(Decision::Keep(KeepReason::NotReal)) => Fate::NotReal,
        Some(Decision::Keep(reason)) => Fate::Real { reason: reason.to_string() },
        None => {
            let heir = node.outputs.iter().flatten().find_map(|value| prepared.producer(*value));
            Fate::Folded { into: heir.map_or_else(|| "the node before it".to_owned(), |(id, _)| prepared.label(id)) }
        }
    }
}
