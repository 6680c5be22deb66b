//! What happens to each node: what a quantization would do with it, or what one has done.

use super::open::Opened;
use super::pairs::{Pairs, converts};
use crate::error::Error;
use crate::selection::matching;
use crate::settle::chosen;
use crate::unknown::Unknown;
use quantize_ir::{Decision, Graph, KeepReason, Node, NodeId, Op};
use quantize_passes::Preparation;
use std::collections::BTreeMap;

/// What happens to a node, or has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It computes on integers.
    Integers,
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
    /// Whether the runtime has integer kernels for the codes of activations that are asked for.
    pub has_kernels: bool,
    /// Why a quantization would refuse the model; with what to do about it, if something can be done.
    pub refusal: Option<String>,
}

/// Convolutions and matrix products on codes.
const PRODUCTS_OF_CODES: [&str; 5] = ["QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "QGemm"];

/// How other operators on codes begin.
const ON_CODES: &str = "QLinear";

/// Whether a node is a convolution or matrix product on codes by its operator alone.
pub(super) fn is_product_of_codes(node: &Node) -> bool {
    matches!(&node.op, Op::Opaque(op) if PRODUCTS_OF_CODES.contains(&op.kind.as_str()))
}

/// Whether a node computes on codes by its operator alone.
pub(super) fn is_on_codes(node: &Node) -> bool {
    is_product_of_codes(node) || matches!(&node.op, Op::Opaque(op) if op.kind.starts_with(ON_CODES))
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
    if graph.nodes().any(|(_, node)| converts(node) || is_on_codes(node)) {
        let pairs = Pairs { graph, recipe: opened.recipe.as_ref() };
        let fates = graph.nodes().map(|(id, node)| (id, pairs.fate(id, node))).collect();
        return Ok((fates, Integers { quantized: true, has_kernels: true, refusal: None }));
    }
    let path = opened.model.path();
    let skip = matching(opened.model.graph(), skip)?;
    let (_, Preparation { graph: prepared, selection, .. }) = chosen(&opened.model, opened.recipe.as_ref(), &skip)?;
    let fates = graph.nodes().map(|(id, node)| (id, fate(&prepared, id, node, selection.decisions.get(&id)))).collect();
    let unknown = Unknown::of(&prepared).map_err(|source| Error::graph(path, source))?;
    let refused = unknown.refuse(&prepared, path, &|id| selection.quantizes(id)).err();
    let refusal = refused.map(|error| match error.hint() {
        Some(hint) => format!("{error}; {hint}"),
        None => error.to_string(),
    });
    Ok((fates, Integers { quantized: false, has_kernels: opened.has_kernels, refusal }))
}

/// The fate of a node that `decision` is about; a node without one was folded.
fn fate(prepared: &Graph, id: NodeId, node: &Node, decision: Option<&Decision>) -> Fate {
    match decision.filter(|_| prepared.node(id).is_some()) {
        Some(Decision::Quantize) => Fate::Integers,
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
