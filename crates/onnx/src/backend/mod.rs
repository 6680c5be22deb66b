//! Writing: the source document with a plan carried out, as quantize-dequantize pairs or as operators on integers.
//!
//! The output is the original file with edits. Messages nothing changed in are copied byte for byte; a node whose
//! operands are renamed keeps every other field; what vanishes in folding, and what only fed it, is left out; only
//! quantization nodes and their constants are new. [`wiring`] decides the names, [`integer`] knows the operators on
//! integers, [`emit`] makes the new messages, [`placement`] says in which file tensors stand, this module lays them
//! over the document.
//!
//! Placement of pairs follows what onnxruntime turns into integer kernels: one pair for each quantized activation, shared by
//! all its readers, no pair around a float node's weight, bounded activations left to the saturation of the pair.

mod blocked;
mod emit;
mod integer;
mod placement;
#[cfg(test)]
mod tests;
mod wiring;

use crate::document::{
    GRAPH_INPUT, GRAPH_VALUE_INFO, MODEL_IR_VERSION, MODEL_OPSET_IMPORT, OnnxDocument, normal_domain,
};
use crate::error::OnnxError;
use crate::expand::RUNTIME_DOMAIN;
use crate::names::Names;
use crate::ops;
use crate::opset::{TARGET_OPSET, outdated_nodes};
use crate::recipe::Form;
use placement::{Outside, Placer, Spread};
use prost::Message;
use quantize_document::encode::{bytes_field, varint_field};
use quantize_document::{Piece, Splice};
use quantize_ir::quant::storage;
use quantize_ir::{ActivationPlan, DType, Graph, Node, NodeId, Op, QuantPlan, Shape, Tensor, ValueId};
use quantize_proto::onnx::{NodeProto, OperatorSetIdProto, StringStringEntryProto};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use wiring::{Request, Wired, Wiring};

/// `ModelProto.metadata_props`
const MODEL_METADATA: u32 = 14;
/// `NodeProto.input`
const NODE_INPUT: u32 = 1;
/// `NodeProto.output`
const NODE_OUTPUT: u32 = 2;

/// The file format version that opset 13 came with; from 4 on initializers need not be inputs.
const TARGET_IR_VERSION: i64 = 7;

/// The first opset whose quantize and dequantize nodes know 16-bit codes.
const WIDE_CODES_OPSET: i64 = 21;

/// Tells onnxruntime's own tools that the model went through their preparation, so that they do not warn.
const PREPARED: (&str, &str) = ("onnx.infer", "onnxruntime.quant");

pub use placement::{MAX_MODEL_BYTES, Placement};

/// An output document, ready to be written: a model, and what stands in a file beside it.
#[derive(Debug)]
pub struct Encoded<'a> {
    model: Splice<'a>,
    outside: Outside<'a>,
}

impl Encoded<'_> {
    /// Size of the model with everything it refers to, in bytes.
    pub fn byte_count(&self) -> u64 {
        self.model.encoded_len() as u64 + self.data_byte_count() + self.outside.referenced_byte_count()
    }

    /// Size of the model file, in bytes.
    pub fn model_byte_count(&self) -> usize {
        self.model.encoded_len()
    }

    /// Size of the file beside the model, in bytes; 0 if there is none.
    pub fn data_byte_count(&self) -> u64 {
        self.outside.byte_count()
    }

    /// Whether the model equals the source document byte for byte.
    pub fn is_unchanged(&self) -> bool {
        self.model.is_unchanged()
    }

    /// The model's bytes in memory.
    pub fn to_vec(&self) -> Vec<u8> {
        self.model.to_vec()
    }

    /// Writes the model.
    ///
    /// # Errors
    /// What the writer returns.
    pub fn write_to(&self, out: &mut dyn io::Write) -> io::Result<()> {
        self.model.write_to(out)
    }

    /// Writes what stands beside the model.
    ///
    /// # Errors
    /// What the writer returns, and what keeps files beside the source from being read.
    pub fn write_data_to(&self, out: &mut dyn io::Write) -> io::Result<()> {
        self.outside.write_to(out)
    }
}

/// A document, and the plan that is carried out on it.
#[derive(Clone, Copy, Debug)]
pub struct Revision<'d, 'p> {
    /// The document.
    pub document: &'d OnnxDocument,
    /// Its graph as imported.
    pub original: &'p Graph,
    /// The graph after passes, for which the plan was made.
    pub graph: &'p Graph,
    /// The plan.
    pub plan: &'p QuantPlan,
    /// How the model says that a node computes on integers.
    pub form: Form,
}

/// Carries out a plan.
///
/// In [`Form::Qdq`] every quantized activation gets a pair; in [`Form::QOperator`] quantized nodes read and write codes,
/// and only what is real on the other side is quantized or dequantized.
///
/// A plan that quantizes nothing gives the document back byte for byte, unless it goes to another folder than the files
/// it refers to. What is not changed keeps standing where it stood, as far as `placement` allows. A model below opset
/// 13, which has no scales for each channel, is raised to 13: only nodes whose operator changed are written anew.
///
/// # Errors
/// If the model cannot be raised to opset 13, a constant cannot be read, or refers to a file in a way that does not
/// survive another folder.
pub fn encode<'d>(revision: &Revision<'d, '_>, placement: &Placement) -> Result<Encoded<'d>, OnnxError> {
    let document = revision.document;
    if revision.plan.is_empty() {
        return moved(document, placement);
    }
    let mut encoded = encode_spread(revision, placement, Spread::Inside)?;
    for spread in Spread::ALL.into_iter().skip(1) {
        if encoded.model_byte_count() > placement.max_model_bytes {
            encoded = encode_spread(revision, placement, spread)?;
        }
    }
    match encoded.model_byte_count() {
        bytes if bytes > MAX_MODEL_BYTES => Err(document.invalid(None, too_large(bytes))),
        _ => Ok(encoded),
    }
}

fn too_large(bytes: usize) -> String {
    format!(
        "the output would have {bytes} bytes without its large tensors; no reader takes more than {MAX_MODEL_BYTES}"
    )
}

/// The document itself; in another folder its tensors outside the model are gathered there.
fn moved<'a>(document: &'a OnnxDocument, placement: &Placement) -> Result<Encoded<'a>, OnnxError> {
    let mut model = document.splice()?;
    let mut placer = Placer::new(document, placement, Spread::Inside);
    let mut body = document.graph_splice()?;
    placer.move_kept(&mut body, |_| true)?;
    model.replace_body(document.graph_field(), body)?;
    Ok(Encoded { model, outside: placer.outside })
}

fn encode_spread<'d>(
    &Revision { document, original, graph, plan, form }: &Revision<'d, '_>,
    placement: &Placement,
    spread: Spread,
) -> Result<Encoded<'d>, OnnxError> {
    let mut model = document.splice()?;
    let reemitted = reemitted(document, original, graph)?;
    let document_inputs = document_inputs(document, original)?;
    let request = Request { original, graph, plan, form, document_inputs: &document_inputs, reemitted: &reemitted };
    let mut names = Names::taken(document.names()?);
    let wiring = Wiring::new(&request, &mut names);
    let body = document.graph_splice()?;
    let pair_domain = pair_domain(document, plan);
    let placer = Placer::new(document, placement, spread);
    let mut editor = Editor { document, request: &request, wiring: &wiring, names, body, pair_domain, placer };
    editor.edit()?;
    model.replace_body(document.graph_field(), editor.body)?;
    let outside = editor.placer.outside;
    raise_versions(document, &mut model)?;
    if !pair_domain.is_empty() || wiring.nodes.values().any(|wired| wired.integer.is_some() || wired.blocked) {
        import_runtime_operators(document, &mut model)?;
    }
    mark_prepared(document, &mut model)?;
    Ok(Encoded { model, outside })
}

/// Nodes that are written from their operator: a pass made or changed it, or its definition changed between opsets.
fn reemitted(document: &OnnxDocument, original: &Graph, graph: &Graph) -> Result<BTreeSet<NodeId>, OnnxError> {
    let outdated: BTreeSet<usize> = outdated_nodes(document, original)?.into_iter().collect();
    let changed = |id: NodeId, node: &Node| original.node(id).is_none_or(|o| o.op != node.op);
    let is_outdated = |node: &Node| document.node_index(node).is_some_and(|i| outdated.contains(&i));
    Ok(graph.nodes().filter(|(id, node)| changed(*id, node) || is_outdated(node)).map(|(id, _)| id).collect())
}

fn document_inputs(document: &OnnxDocument, original: &Graph) -> Result<BTreeMap<NodeId, Vec<String>>, OnnxError> {
    let inputs = |(id, node): (NodeId, &Node)| {
        let index = document.node_index(node)?;
        Some(document.node(index).map(|n| (id, n.input)))
    };
    original.nodes().filter_map(inputs).collect()
}

/// Nothing is known of the operands.
struct Nothing;

impl ops::Operands for Nothing {
    fn rank(&self, _: usize) -> Option<usize> {
        None
    }

    fn shape(&self, _: usize) -> Option<Shape> {
        None
    }

    fn constant(&self, _: usize) -> Option<Arc<Tensor>> {
        None
    }
}

/// Lays the wiring over the graph message.
struct Editor<'r, 'a> {
    document: &'a OnnxDocument,
    request: &'r Request<'r>,
    wiring: &'r Wiring,
    names: Names,
    body: Splice<'a>,
    /// The domain of the quantize and dequantize nodes of activations.
    pair_domain: &'static str,
    placer: Placer<'a, 'r>,
}

impl Editor<'_, '_> {
    fn edit(&mut self) -> Result<(), OnnxError> {
        self.feed_pairs()?;
        for (id, node) in self.request.original.nodes() {
            if let Some(index) = self.document.node_index(node) {
                self.edit_node(id, index)?;
            }
        }
        self.add_initializers()?;
        let gone = self.drop_unread_initializers()?;
        self.drop_inputs(&gone)?;
        self.placer.move_kept(&mut self.body, |name| !gone.contains(name))?;
        self.drop_stale_descriptions()
    }

    /// Pairs of values no node computes stand before the first node.
    fn feed_pairs(&mut self) -> Result<(), OnnxError> {
        let fed = self.wiring.pairs.iter().filter(|(v, _)| self.request.graph.value(**v).producer().is_none());
        let pairs: Vec<u8> = fed.flat_map(|(_, names)| self.pair(names)).collect();
        if !pairs.is_empty() {
            self.body.insert_before(self.document.node_field(0)?, Piece::encoded(pairs))?;
        }
        Ok(())
    }

    fn edit_node(&mut self, id: NodeId, index: usize) -> Result<(), OnnxError> {
        let field = self.document.node_field(index)?;
        let Some(wired) = self.wiring.nodes.get(&id) else {
            return Ok(self.body.remove(field)?);
        };
        for (&(_, slot), names) in self.wiring.constants.range((id, 0)..=(id, usize::MAX)) {
            let first = names.first_reader == (id, slot);
            let first = first && self.wiring.dequantizes(&names.dequantized);
            if let Some(entry) = self.request.plan.weights.get(&(id, slot)).filter(|_| first) {
                let node = emit::dequantize_constant(names, &entry.params);
                self.body.insert_before(field, Piece::encoded(node))?;
            }
        }
        self.rewrite(id, index, field, wired)?;
        let behind = self.behind(id, wired)?;
        if !behind.is_empty() {
            self.body.insert_after(field, Piece::encoded(behind))?;
        }
        Ok(())
    }

    /// What stands behind a node: what completes it, the pairs of its results, and nodes that passes inserted.
    fn behind(&self, id: NodeId, wired: &Wired) -> Result<Vec<u8>, OnnxError> {
        let opset = self.document.opset().max(TARGET_OPSET);
        let mut behind: Vec<u8> = wired.guard.iter().flat_map(emit::guard).collect();
        if let Some(lookup) = &wired.lookup {
            behind.extend(emit::lookup(lookup, opset)?);
        }
        let results = self.request.graph.node(id).map(|n| n.outputs.as_slice()).unwrap_or_default();
        for names in self.written_by(results) {
            behind.extend(self.pair(names));
        }
        for (inserted, node) in self.inserted_behind(results) {
            if let Some(wired) = self.wiring.nodes.get(&inserted) {
                let name = self.wiring.node_name(self.request, inserted);
                let message = ops::emit(&node.op, name, wired.inputs.clone(), wired.outputs.clone(), opset)?;
                behind.extend(emit::node_field(&message));
                behind.extend(self.behind(inserted, wired)?);
            }
        }
        Ok(behind)
    }

    /// Nodes that are not in the document and whose first operand is one of these results.
    fn inserted_behind(&self, results: &[Option<ValueId>]) -> Vec<(NodeId, &Node)> {
        let graph = self.request.graph;
        let readers = results.iter().flatten().flat_map(|v| graph.value(*v).consumers());
        let inserted = readers.filter(|(id, slot)| *slot == 0 && self.request.original.node(*id).is_none());
        inserted.filter_map(|(id, _)| Some((*id, graph.node(*id)?))).collect()
    }

    fn pair(&self, names: &wiring::PairNames) -> Vec<u8> {
        emit::pair(names, self.wiring.dequantizes(&names.dequantized), self.pair_domain)
    }

    /// The pairs of these results, or of the bounded activations that vanish behind them.
    fn written_by(&self, results: &[Option<ValueId>]) -> impl Iterator<Item = &wiring::PairNames> {
        let values = results.iter().flatten().map(|v| self.request.plan.materialized(self.request.graph, *v));
        values.filter_map(|v| self.wiring.pairs.get(&v)).collect::<Vec<_>>().into_iter()
    }

    fn rewrite(&mut self, id: NodeId, index: usize, field: usize, wired: &Wired) -> Result<(), OnnxError> {
        let before = self.document.node(index)?;
        if let Some(integer) = &wired.integer {
            let Some(node) = self.request.graph.node(id) else { return Ok(()) };
            let float =
                if self.request.reemitted.contains(&id) { self.emit_one(&node.op, &before, wired)? } else { before };
            let bounds = integer.bounds.as_ref().map(|(_, names)| names);
            let written = integer::node(&node.op, float, &integer.operands, &integer.results, bounds)?;
            self.body.replace(field, Piece::encoded(emit::node_field(&written)))?;
        } else if wired.blocked {
            if let Some(entry) = self.request.plan.weights.get(&(id, wiring::WEIGHT)) {
                let written = blocked::node(&before, wired, entry)?;
                self.body.replace(field, Piece::encoded(emit::node_field(&written)))?;
            }
        } else if self.request.reemitted.contains(&id) {
            let Some(node) = self.request.graph.node(id) else { return Ok(()) };
            let nodes = self.emit(&node.op, &before, wired)?;
            let fields: Vec<u8> = nodes.iter().flat_map(emit::node_field).collect();
            self.body.replace(field, Piece::encoded(fields))?;
        } else if before.input != wired.inputs || before.output != wired.outputs {
            let renamed = renamed(self.document, index, wired)?;
            self.body.replace_body(field, renamed)?;
        }
        Ok(())
    }

    /// The nodes that stand for `before` at the target opset.
    fn emit(&mut self, op: &Op, before: &NodeProto, wired: &Wired) -> Result<Vec<NodeProto>, OnnxError> {
        let opset = self.document.opset().max(TARGET_OPSET);
        if matches!(op, Op::Softmax(softmax) if softmax.flatten) {
            return self.lowered(op, before, wired, opset);
        }
        Ok(vec![self.emit_one(op, before, wired)?])
    }

    /// The node that stands for `before` at the target opset, where it is one.
    fn emit_one(&self, op: &Op, before: &NodeProto, wired: &Wired) -> Result<NodeProto, OnnxError> {
        let opset = self.document.opset().max(TARGET_OPSET);
        let mut node = ops::emit(op, before.name(), wired.inputs.clone(), wired.outputs.clone(), opset)?;
        node.doc_string.clone_from(&before.doc_string);
        node.metadata_props.clone_from(&before.metadata_props);
        Ok(node)
    }

    /// An operator that takes several nodes.
    fn lowered(&mut self, op: &Op, before: &NodeProto, wired: &Wired, opset: i64) -> Result<Vec<NodeProto>, OnnxError> {
        let refused = |cause| OnnxError::Unwritable { node: before.name().to_owned(), cause };
        let lowered = ops::lower(op, wired.inputs.clone(), wired.outputs.clone(), &Nothing, &mut self.names);
        let steps = lowered.map_err(refused)?.steps.into_iter();
        let name = |step: &ops::Step| if step.part.is_empty() { before.name() } else { "" };
        steps.map(|step| ops::emit(&step.op, name(&step), step.inputs.clone(), step.outputs.clone(), opset)).collect()
    }

    fn add_initializers(&mut self) -> Result<(), OnnxError> {
        for (value, names) in self.wiring.pairs.iter().filter(|(_, names)| names.owns_parameters) {
            if let Some(entry) = self.request.plan.activations.get(value) {
                self.body.append(Piece::encoded(emit::pair_parameters(names, &entry.params)?));
            }
        }
        for (at, names) in self.wiring.constants.iter().filter(|(at, names)| names.first_reader == **at) {
            let Some(entry) = self.request.plan.weights.get(at) else { continue };
            if entry.params.blocks().is_some() {
                for (name, tensor) in blocked::initializers(&names.quantized, entry)? {
                    self.body.append(self.placer.initializer(name, &Arc::new(tensor)));
                }
            } else {
                let coded = !self.wiring.dequantizes(&names.dequantized);
                let needed = |name: &str| !coded || self.wiring.read.contains(name);
                self.body.append(self.placer.initializer(&names.quantized.codes, &entry.codes));
                self.body.append(Piece::encoded(emit::constant_parameters(names, &entry.params, &needed)?));
            }
        }
        let integers = self.wiring.nodes.values().filter_map(|wired| wired.integer.as_ref());
        for (value, names) in integers.filter_map(|integer| integer.bounds.as_ref()) {
            self.add_bounds(*value, names)?;
        }
        for (value, name) in &self.wiring.added {
            let broken = |e: quantize_ir::GraphError| self.document.invalid(None, e.to_string());
            if let Some(tensor) = self.request.graph.constant(*value).map_err(broken)? {
                self.body.append(self.placer.initializer(name, &tensor));
            }
        }
        Ok(())
    }

    /// The codes between which the results of a bounded activation lie.
    fn add_bounds(&mut self, value: ValueId, names: &[String; 2]) -> Result<(), OnnxError> {
        let graph = self.request.graph;
        let bound = graph.producer(value).and_then(|(_, node)| integer::bound(graph, node));
        let Some((entry, (lo, hi))) = self.request.plan.activations.get(&value).zip(bound) else { return Ok(()) };
        for (name, end) in names.iter().zip([lo, hi]) {
            self.body.append(Piece::encoded(emit::code(name, &entry.params, end)?));
        }
        Ok(())
    }

    /// Takes out initializers that had a reader and have none any more; returns their names.
    fn drop_unread_initializers(&mut self) -> Result<BTreeSet<String>, OnnxError> {
        let values = self.request.original.values().map(|(_, v)| v);
        let had_reader: BTreeSet<&str> =
            values.filter(|v| v.producer().is_none() && !v.consumers().is_empty()).map(|v| v.name.as_str()).collect();
        let unread = |name: &str| !self.wiring.read.contains(name);
        let mut gone = BTreeSet::new();
        for head in
            self.document.initializers().iter().filter(|h| unread(&h.name) && had_reader.contains(h.name.as_str()))
        {
            self.body.remove(head.field)?;
            gone.insert(head.name.clone());
        }
        Ok(gone)
    }

    /// An initializer may be listed among the inputs too.
    fn drop_inputs(&mut self, gone: &BTreeSet<String>) -> Result<(), OnnxError> {
        for info in self.document.value_infos(GRAPH_INPUT) {
            let (field, info) = info?;
            if gone.contains(info.name()) {
                self.body.remove(field)?;
            }
        }
        Ok(())
    }

    /// Descriptions of values that are gone.
    fn drop_stale_descriptions(&mut self) -> Result<(), OnnxError> {
        let written: BTreeSet<&String> = self.wiring.nodes.values().flat_map(|w| &w.outputs).collect();
        let results = self.wiring.pairs.values().map(|p| &p.dequantized).filter(|name| self.wiring.dequantizes(name));
        let guarded = self.wiring.nodes.values().filter_map(|w| w.guard.as_ref()).map(|g| &g.output);
        let looked_up = self.wiring.nodes.values().filter_map(|w| w.lookup.as_ref()).map(|l| &l.output);
        let exists: BTreeSet<&String> = written.into_iter().chain(results).chain(guarded).chain(looked_up).collect();
        let values = self.request.original.values().map(|(_, v)| v);
        let computed: BTreeSet<&str> = values.filter(|v| v.producer().is_some()).map(|v| v.name.as_str()).collect();
        for info in self.document.value_infos(GRAPH_VALUE_INFO) {
            let (field, info) = info?;
            let name = info.name().to_owned();
            if !exists.contains(&name) && computed.contains(name.as_str()) {
                self.body.remove(field)?;
            }
        }
        Ok(())
    }
}

/// A node's message with other inputs and outputs, everything else as it was.
fn renamed<'a>(document: &'a OnnxDocument, index: usize, wired: &Wired) -> Result<Splice<'a>, OnnxError> {
    let (mut message, fields) = document.node_splice(index)?;
    for (number, names) in [(NODE_INPUT, &wired.inputs), (NODE_OUTPUT, &wired.outputs)] {
        let encoded: Vec<u8> = names.iter().flat_map(|n| bytes_field(number, n.as_bytes())).collect();
        let mut old = fields.iter().enumerate().filter(|(_, f)| f.number() == number).map(|(i, _)| i);
        match old.next() {
            Some(first) => message.replace(first, Piece::encoded(encoded))?,
            None => message.append(Piece::encoded(encoded)),
        }
        old.try_for_each(|i| message.remove(i))?;
    }
    Ok(message)
}

/// Raises the opset and the file format version where the quantized model needs it.
fn raise_versions(document: &OnnxDocument, model: &mut Splice<'_>) -> Result<(), OnnxError> {
    if document.opset() < TARGET_OPSET {
        for (index, field) in document.model_fields().with_number(MODEL_OPSET_IMPORT) {
            let mut import: OperatorSetIdProto = document.decode_model_field(field)?;
            if normal_domain(import.domain()).is_empty() {
                import.version = Some(TARGET_OPSET);
                let raised = bytes_field(MODEL_OPSET_IMPORT, &import.encode_to_vec());
                model.replace(index, Piece::encoded(raised))?;
            }
        }
    }
    if document.ir_version() < TARGET_IR_VERSION {
        let raised = varint_field(MODEL_IR_VERSION, TARGET_IR_VERSION as u64);
        let mut old = document.model_fields().with_number(MODEL_IR_VERSION).map(|(i, _)| i);
        match old.next() {
            Some(first) => model.replace(first, Piece::encoded(raised))?,
            None => model.append(Piece::encoded(raised)),
        }
        old.try_for_each(|i| model.remove(i))?;
    }
    Ok(())
}

/// The domain of quantize and dequantize nodes: the standard ones know 16-bit codes from opset 21 on, onnxruntime's own
/// at any.
fn pair_domain(document: &OnnxDocument, plan: &QuantPlan) -> &'static str {
    let wide = |entry: &ActivationPlan| !matches!(storage(entry.params.qtype()), DType::U8 | DType::I8);
    let standard = document.opset() >= WIDE_CODES_OPSET || !plan.activations.values().any(wide);
    if standard { "" } else { RUNTIME_DOMAIN }
}

/// Lets the model use onnxruntime's own operators.
fn import_runtime_operators(document: &OnnxDocument, model: &mut Splice<'_>) -> Result<(), OnnxError> {
    for (_, field) in document.model_fields().with_number(MODEL_OPSET_IMPORT) {
        let import: OperatorSetIdProto = document.decode_model_field(field)?;
        if import.domain() == RUNTIME_DOMAIN {
            return Ok(());
        }
    }
    let import = OperatorSetIdProto { domain: Some(RUNTIME_DOMAIN.to_owned()), version: Some(1) };
    model.append(Piece::encoded(bytes_field(MODEL_OPSET_IMPORT, &import.encode_to_vec())));
    Ok(())
}

fn mark_prepared(document: &OnnxDocument, model: &mut Splice<'_>) -> Result<(), OnnxError> {
    for (_, field) in document.model_fields().with_number(MODEL_METADATA) {
        let entry: StringStringEntryProto = document.decode_model_field(field)?;
        if entry.key() == PREPARED.0 {
            return Ok(());
        }
    }
    let entry = StringStringEntryProto { key: Some(PREPARED.0.to_owned()), value: Some(PREPARED.1.to_owned()) };
    model.append(Piece::encoded(bytes_field(MODEL_METADATA, &entry.encode_to_vec())));
    Ok(())
}
