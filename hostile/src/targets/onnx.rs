//! ONNX: models up to the graph, with their constants and with what passes make of it; tensors in files of their own.

use crate::error::Result;
use crate::seeds;
use crate::target::Seed;
use quantize_document::{Limits, SourceFile, index_message};
use quantize_exec::{FoldBudget, evaluate_constant};
use quantize_ir::{Graph, NodeId, Tensor};
use quantize_onnx::{OnnxDocument, OnnxRecipe, decode_tensor_message, import};
use quantize_passes::Evaluator;
use quantize_passes::constant::fold_constants;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Largest model that inputs are made from.
const MAX_SEED: usize = 16 << 10;

/// Fields of `ModelProto`: the graph and the operator sets, without which nothing is a model.
const GRAPH: u32 = 7;
const OPSET_IMPORT: u32 = 8;
/// `TensorProto.raw_data`.
const RAW_DATA: u32 = 9;

/// The small models of the fixtures: every operator, several operator sets.
pub(super) fn models() -> Result<Vec<Seed>> {
    seeds::files("tests/fixtures/models", ".onnx", MAX_SEED)
}

/// The inputs of the models.
pub(super) fn tensors() -> Result<Vec<Seed>> {
    let mut tensors = seeds::files("tests/fixtures/models", ".in_0.pb", 4096)?;
    // Tensors of types that are not read are no valid files.
    tensors.retain(|seed| decode_tensor_message(&seed.bytes).is_ok());
    Ok(tensors)
}

/// Whether a model cut after `length` bytes lacks its graph or all its operator sets, or ends within a field. A cut
/// behind them, between two fields of the model, leaves a complete model with fewer descriptions.
pub(super) fn is_incomplete(model: &[u8], length: usize) -> bool {
    let Ok(left) = index_message(&model[..length], 0..length, &Limits::default()) else { return true };
    [GRAPH, OPSET_IMPORT].iter().any(|number| left.with_number(*number).next().is_none())
}

/// Whether a tensor cut after `length` bytes lacks elements.
pub(super) fn is_cut_tensor(tensor: &[u8], length: usize) -> bool {
    let Ok(left) = index_message(&tensor[..length], 0..length, &Limits::default()) else { return true };
    left.with_number(RAW_DATA).next().is_none()
}

fn graph(bytes: Vec<u8>) -> std::result::Result<Graph, String> {
    let source = SourceFile::from_bytes("damaged.onnx", bytes);
    let document = OnnxDocument::parse(source, &Limits::default()).map_err(|error| error.to_string())?;
    let (graph, problems) = import(&Arc::new(document)).map_err(|error| error.to_string())?;
    problems.iter().for_each(|problem| drop(problem.to_string()));
    Ok(graph)
}

/// Imports a model and reads its constants one by one.
pub(super) fn read(_: &Seed, bytes: Vec<u8>) -> std::result::Result<(), String> {
    let graph = graph(bytes)?;
    graph.topological_order().map_err(|error| error.to_string())?;
    read_constants(&graph, |_| ());
    Ok(())
}

/// Reads the constants of a graph one by one. One that cannot be read is an error only for those who need it.
pub(super) fn read_constants(graph: &Graph, mut look: impl FnMut(&Tensor)) {
    for (id, _) in graph.values() {
        if let Ok(Some(tensor)) = graph.constant(id) {
            look(&tensor);
        }
    }
}

/// Folds constants as the pipeline does.
struct Folding(FoldBudget);

impl Evaluator for Folding {
    fn evaluate(&mut self, graph: &Graph, node: NodeId) -> Option<Vec<Tensor>> {
        evaluate_constant(graph, node, &mut self.0).ok()
    }
}

/// Imports a model, folds its constants and prepares it for quantization.
pub(super) fn prepare(_: &Seed, bytes: Vec<u8>) -> std::result::Result<(), String> {
    let mut folding = Folding(FoldBudget::of_file(bytes.len() as u64));
    let mut graph = graph(bytes)?;
    fold_constants(&mut graph, &mut folding).map_err(|error| error.to_string())?;
    let prepared = quantize_passes::prepare(graph, &OnnxRecipe::default(), &BTreeSet::new());
    prepared.map(|_| ()).map_err(|error| error.to_string())
}

/// Reads a tensor.
pub(super) fn read_tensor(_: &Seed, bytes: Vec<u8>) -> std::result::Result<(), String> {
    decode_tensor_message(&bytes).map(|_| ())
}
