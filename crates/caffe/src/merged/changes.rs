//! What happened to the layers of a document in a graph: which are gone, into which they went, and which have other
//! weights.

use crate::document::CaffeDocument;
use crate::error::CaffeError;
use crate::frontend::{FRONTEND, import};
use crate::input::is_source;
use crate::net::Layer;
use quantize_ir::{Graph, GraphError, Node, Op, Origin, Tensor, ValueId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The new blobs of a layer, by their place among its blobs.
pub(super) type NewBlobs = BTreeMap<usize, Arc<Tensor>>;

/// What happened to the layers, which are known by their index.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Layers without a node.
    pub(super) vanished: BTreeSet<usize>,
    /// New weights by layer.
    pub(super) weights: BTreeMap<usize, NewBlobs>,
    /// For a layer that others were folded into, the last of these: what that wrote, it writes now.
    pub(super) last: BTreeMap<usize, usize>,
    /// Layers that leave a folded result as it is, with the blob they work on and the layer that writes it.
    pub(super) passing: Vec<Passing>,
}

/// A layer that does nothing to what it reads.
#[derive(Debug)]
pub(super) struct Passing {
    pub(super) layer: usize,
    pub(super) blob: String,
    pub(super) writer: usize,
}

/// Compares `graph` with a fresh import of its document.
pub(super) fn find(document: &Arc<CaffeDocument>, graph: &Graph) -> Result<Changes, CaffeError> {
    let (original, _) = import(document)?;
    let (before, after) = (nodes_by_layer(&original), nodes_by_layer(graph));
    let mut changes = Changes { weights: new_weights(document, graph)?, ..Changes::default() };
    for (index, count) in &before {
        match after.get(index) {
            None => {
                changes.vanished.insert(*index);
            }
            Some(left) if left < count => {
                let cause = "only a part of it was folded, which no layer can express";
                return Err(refusal(document, *index, cause.into()));
            }
            Some(_) => {}
        }
    }
    changes.follow(document, &before)?;
    Ok(changes)
}

/// Number of nodes of each layer.
fn nodes_by_layer(graph: &Graph) -> BTreeMap<usize, usize> {
    let mut counts = BTreeMap::new();
    for id in graph.nodes().flat_map(|(_, node)| node.origin.documents()) {
        *counts.entry(id.0 as usize).or_default() += 1;
    }
    counts
}

/// The constants that passes made for layers with weights.
fn new_weights(document: &CaffeDocument, graph: &Graph) -> Result<BTreeMap<usize, NewBlobs>, CaffeError> {
    let broken = |source: GraphError| CaffeError::Graph { file: document.text().source().path().to_owned(), source };
    let mut changed: BTreeMap<usize, NewBlobs> = BTreeMap::new();
    for (_, node) in graph.nodes().filter(|(_, node)| has_weights(node)) {
        let Some(layer) = node.origin.source() else { continue };
        // Weight and bias follow the input, in the order of the layer's blobs.
        for (blob, value) in node.inputs.iter().skip(1).enumerate() {
            let Some(value) = value.filter(|value| is_new(graph, *value)) else { continue };
            let Some(tensor) = graph.constant(value).map_err(broken)? else { continue };
            changed.entry(layer.0 as usize).or_default().insert(blob, tensor);
        }
    }
    Ok(changed)
}

fn has_weights(node: &Node) -> bool {
    matches!(node.op, Op::Conv(_) | Op::ConvTranspose(_) | Op::Gemm(_))
}

/// Whether a pass made a value.
fn is_new(graph: &Graph, value: ValueId) -> bool {
    matches!(&graph.value(value).origin, Some(Origin::Synthesized { pass, .. }) if *pass != FRONTEND)
}

impl Changes {
    /// Follows the blobs through the file to find what each vanished layer became part of.
    fn follow(&mut self, document: &CaffeDocument, nodes: &BTreeMap<usize, usize>) -> Result<(), CaffeError> {
        // The layer whose result, in the merged network, is in a blob at this place.
        let mut writers: BTreeMap<&str, usize> = BTreeMap::new();
        for (index, layer) in document.layers().iter().enumerate() {
            if self.vanished.contains(&index) {
                let writer = layer.bottoms.first().and_then(|bottom| writers.get(bottom.as_str())).copied();
                let Some(writer) = writer.filter(|writer| self.weights.contains_key(writer)) else {
                    return Err(refusal(document, index, "it is gone, but no layer has become more".into()));
                };
                self.last.insert(writer, index);
                writers.extend(layer.tops.iter().map(|top| (top.as_str(), writer)));
            } else if nodes.contains_key(&index) || is_source(layer) {
                writers.extend(layer.tops.iter().map(|top| (top.as_str(), index)));
            } else {
                self.passing.extend(passing(index, layer, &writers));
            }
        }
        Ok(())
    }

    /// Whether a layer has a bias only now.
    pub(super) fn gains_bias(&self, document: &CaffeDocument, index: usize) -> bool {
        let new = self.weights.get(&index).is_some_and(|blobs| blobs.contains_key(&BIAS));
        new && document.layers().get(index).is_some_and(|layer| document.blobs(layer).len() <= BIAS)
    }
}

/// The blob of a bias.
pub(super) const BIAS: usize = 1;

fn passing(index: usize, layer: &Layer, writers: &BTreeMap<&str, usize>) -> Vec<Passing> {
    let read = |blob: &String| {
        let writer = *writers.get(blob.as_str())?;
        Some(Passing { layer: index, blob: blob.clone(), writer })
    };
    layer.bottoms.iter().filter_map(read).collect()
}

/// The error that a layer cannot be written.
pub(super) fn refusal(document: &CaffeDocument, index: usize, cause: String) -> CaffeError {
    let location = document.layers().get(index).map_or_else(|| document.file(), |layer| document.location(layer));
    CaffeError::unsupported(location, format!("the merged network cannot be written: {cause}"))
        .with_hint("keep the layers concerned from being quantized, so that nothing is folded into them")
}
