//! What a graph is saved with: tags, signatures, and signs of TensorFlow 2.

use super::{children, texts};
use bytes::Bytes;
use quantize_document::{Limits, MessageIndex, WireError};
use std::collections::BTreeSet;

// Fields of `SavedModel`, `MetaGraphDef`, `MetaInfoDef`, `SignatureDef` and `TensorInfo`, and of entries of maps.
const META_GRAPHS: u32 = 2;
const META_INFO: u32 = 1;
const GRAPH: u32 = 2;
const SIGNATURE: u32 = 5;
const OBJECT_GRAPH: u32 = 7;
const TAGS: u32 = 4;
const INPUTS: u32 = 1;
const OUTPUTS: u32 = 2;
const TENSOR_NAME: u32 = 1;
const KEY: u32 = 1;
const VALUE: u32 = 2;

/// Inputs and outputs of a graph for one purpose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signature {
    /// The purpose, e.g. `serving_default`.
    pub name: String,
    /// What is fed, by name.
    pub inputs: Vec<TensorName>,
    /// What is fetched, by name.
    pub outputs: Vec<TensorName>,
}

/// A tensor of a signature.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TensorName {
    /// Its name in the signature.
    pub name: String,
    /// The tensor in the graph, e.g. `input:0`.
    pub tensor: String,
}

/// The parts of a `MetaGraphDef` that are of use here.
pub(super) struct MetaGraph {
    pub(super) graph: Option<MessageIndex>,
    pub(super) signatures: Vec<Signature>,
    pub(super) has_objects: bool,
}

/// The graphs of a SavedModel, each with its tags.
pub(super) fn meta_graphs(
    bytes: &Bytes,
    saved_model: &MessageIndex,
    limits: &Limits,
) -> Result<Vec<(BTreeSet<String>, MessageIndex)>, WireError> {
    let tagged = |meta: Result<MessageIndex, WireError>| {
        let meta = meta?;
        let mut tags = BTreeSet::new();
        for info in children(bytes, &meta, META_INFO, limits) {
            tags.extend(texts(bytes, &info?, TAGS));
        }
        Ok((tags, meta))
    };
    children(bytes, saved_model, META_GRAPHS, limits).map(tagged).collect()
}

/// The first graph that has exactly these tags; otherwise what is wrong and what to do.
pub(super) fn choose(
    graphs: Vec<(BTreeSet<String>, MessageIndex)>,
    wanted: &[String],
) -> Result<MessageIndex, (String, String)> {
    let wanted: BTreeSet<String> = wanted.iter().cloned().collect();
    let listed = |tags: &BTreeSet<String>| format!("{{{}}}", tags.iter().cloned().collect::<Vec<_>>().join(", "));
    let present: Vec<String> = graphs.iter().map(|(tags, _)| listed(tags)).collect();
    let chosen = graphs.into_iter().find(|(tags, _)| *tags == wanted);
    chosen.map(|(_, graph)| graph).ok_or_else(|| {
        let hint = match present.as_slice() {
            [] => "the SavedModel has no graph at all".to_owned(),
            _ => format!("its graphs have the tags {}", present.join(" and ")),
        };
        (format!("there is no graph with the tags {}", listed(&wanted)), hint)
    })
}

impl MetaGraph {
    pub(super) fn read(bytes: &Bytes, meta: MessageIndex, limits: &Limits) -> Result<Self, WireError> {
        let graph = children(bytes, &meta, GRAPH, limits).last().transpose()?;
        let mut signatures = Vec::new();
        for entry in children(bytes, &meta, SIGNATURE, limits) {
            signatures.push(signature(bytes, &entry?, limits)?);
        }
        signatures.sort_by(|a: &Signature, b| a.name.cmp(&b.name));
        let has_objects = meta.with_number(OBJECT_GRAPH).any(|(_, field)| !field.payload().is_empty());
        Ok(Self { graph, signatures, has_objects })
    }
}

fn signature(bytes: &Bytes, entry: &MessageIndex, limits: &Limits) -> Result<Signature, WireError> {
    let mut signature = Signature { name: texts(bytes, entry, KEY).last().unwrap_or_default(), ..Signature::default() };
    for value in children(bytes, entry, VALUE, limits) {
        let value = value?;
        signature.inputs = tensors(bytes, &value, INPUTS, limits)?;
        signature.outputs = tensors(bytes, &value, OUTPUTS, limits)?;
    }
    Ok(signature)
}

/// The tensors in a map of the signature, by name.
fn tensors(
    bytes: &Bytes,
    signature: &MessageIndex,
    number: u32,
    limits: &Limits,
) -> Result<Vec<TensorName>, WireError> {
    let mut tensors = Vec::new();
    for entry in children(bytes, signature, number, limits) {
        let entry = entry?;
        let name = texts(bytes, &entry, KEY).last().unwrap_or_default();
        for info in children(bytes, &entry, VALUE, limits) {
            let tensor = texts(bytes, &info?, TENSOR_NAME).last().unwrap_or_default();
            tensors.push(TensorName { name: name.clone(), tensor });
        }
    }
    tensors.sort();
    Ok(tensors)
}
