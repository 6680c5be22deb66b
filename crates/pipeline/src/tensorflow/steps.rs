//! The steps of the original tools from file to file: summarize, freeze, transform.

use crate::error::Error;
use quantize_document::{Limits, Location, OutputSet};
use quantize_exec::{FoldBudget, evaluate_constant};
use quantize_ir::{Constant, Graph, Node, Op, Origin, Tensor, Value};
use quantize_tensorflow::{
    Checkpoint, Encoding, Evaluator, FreezeOptions, GraphSummary, ReadOptions, Setting, TensorflowDocument,
    TensorflowError, freeze, node_name, parse_transforms, structure, transform,
};
use std::cell::Cell;
use std::path::{Path, PathBuf};

/// What a graph is.
#[derive(Clone, Debug)]
pub struct TensorflowSummary {
    /// Likely inputs and outputs, sizes and operators.
    pub summary: GraphSummary,
    /// Every node in the order of execution, if it was asked for.
    pub structure: Option<String>,
}

/// A graph and where the values of its variables are.
#[derive(Clone, Debug)]
pub struct FreezeJob {
    /// The graph: a GraphDef or MetaGraph, or the folder of a SavedModel.
    pub graph: PathBuf,
    /// Tags of the graph in a SavedModel.
    pub tags: Vec<String>,
    /// The checkpoint; `None` for that of the SavedModel.
    pub checkpoint: Option<PathBuf>,
    /// The version that the checkpoint has to have; `None` for any.
    pub version: Option<u32>,
    /// What to freeze.
    pub options: FreezeOptions,
    /// Where the frozen graph goes, as binary.
    pub output: PathBuf,
}

/// Transforms of a graph.
#[derive(Clone, Debug)]
pub struct TransformJob {
    /// The graph.
    pub graph: PathBuf,
    /// Names of the nodes that are fed.
    pub inputs: Vec<String>,
    /// Names of the nodes that are wanted.
    pub outputs: Vec<String>,
    /// The request, in the language of transforms.
    pub transforms: String,
    /// Where the changed graph goes.
    pub output: PathBuf,
    /// Whether it goes there as text.
    pub as_text: bool,
}

/// A graph that was written.
#[derive(Clone, Debug)]
pub struct WrittenGraph {
    /// The file.
    pub path: PathBuf,
    /// Number of nodes before and after.
    pub nodes: [usize; 2],
    /// What was done, in order.
    pub steps: Vec<String>,
    /// What deserves attention.
    pub warnings: Vec<String>,
}

/// Says what a graph is.
///
/// # Errors
/// If it cannot be read, or an input of it names no node.
pub fn summarize_tensorflow(path: &Path, with_structure: bool) -> Result<TensorflowSummary, Error> {
    let limits = Limits::default();
    let document = TensorflowDocument::open(path, &limits, &ReadOptions::default())?;
    let named = |error: TensorflowError| error.in_file(path);
    let summary = GraphSummary::of(document.graph(), &limits).map_err(named)?;
    let structure = with_structure.then(|| structure(document.graph())).transpose().map_err(named)?;
    Ok(TensorflowSummary { summary, structure })
}

/// Writes a graph with the values of a checkpoint in place of its variables.
///
/// # Errors
/// If a file cannot be read or written, an output is no node of the graph, or the checkpoint lacks a variable.
pub fn freeze_tensorflow(job: &FreezeJob) -> Result<WrittenGraph, Error> {
    let limits = Limits::default();
    let read = ReadOptions { tags: job.tags.clone(), ..ReadOptions::default() };
    let document = TensorflowDocument::open(&job.graph, &limits, &read)?;
    let named = |error: TensorflowError| error.in_file(&job.graph);
    refuse_functions(&document).map_err(named)?;
    let stored = job.checkpoint.as_deref().or(document.variables()).ok_or_else(|| Error::Conflict {
        first: "no `--input_checkpoint`".into(),
        second: "a graph that is no SavedModel".into(),
        why: "the values of its variables are not known".into(),
    })?;
    let checkpoint = Checkpoint::open(stored, &limits)?;
    if let Some(version) = job.version.filter(|version| *version != checkpoint.version()) {
        return Err(Error::Conflict {
            first: format!("`--checkpoint_version {version}`"),
            second: format!("{}", checkpoint.path().display()),
            why: format!("it is a checkpoint of version {}", checkpoint.version()),
        });
    }
    let frozen = freeze(document.graph(), &checkpoint, &job.options).map_err(named)?;
    let nodes = [document.graph().nodes().len(), frozen.graph.nodes().len()];
    let bytes = document.render(&frozen.graph, Encoding::Binary)?;
    let converted = frozen.variables.len();
    Ok(WrittenGraph {
        path: write(&job.output, bytes)?,
        nodes,
        steps: vec![format!("Converted {converted} variables to constants, from {}", checkpoint.path().display())],
        warnings: frozen.problems.iter().map(ToString::to_string).collect(),
    })
}

/// Graphs of TensorFlow 2 keep everything in functions, and variables under the paths of objects.
fn refuse_functions(document: &TensorflowDocument) -> Result<(), TensorflowError> {
    let is_call = |op: &str| matches!(op, "StatefulPartitionedCall" | "PartitionedCall");
    if document.has_objects() && document.graph().nodes().iter().any(|node| is_call(node.op())) {
        return Err(TensorflowError::Unsupported {
            location: Box::new(Location::default()),
            cause: "it is a SavedModel of TensorFlow 2, whose graph stands in functions".into(),
            hint: Some("freeze it with `convert_variables_to_constants_v2` of TensorFlow, and go on from there".into()),
        });
    }
    Ok(())
}

/// Writes a graph after transforms.
///
/// # Errors
/// If a file cannot be read or written, a transform or parameter does not exist, or a transform fails.
pub fn transform_tensorflow(job: &TransformJob) -> Result<WrittenGraph, Error> {
    let limits = Limits::default();
    let calls = parse_transforms(&job.transforms)?;
    let document = TensorflowDocument::open(&job.graph, &limits, &ReadOptions::default())?;
    let names = |names: &[String]| names.iter().map(|name| node_name(name).to_owned()).collect();
    let evaluator = ConstantEvaluator::of(&document);
    let setting = Setting { inputs: names(&job.inputs), outputs: names(&job.outputs), limits, evaluator: &evaluator };
    let done = transform(document.graph(), &calls, &setting).map_err(|error| error.in_file(&job.graph))?;
    let nodes = [document.graph().nodes().len(), done.graph.nodes().len()];
    let bytes = document.render(&done.graph, if job.as_text { Encoding::Text } else { Encoding::Binary })?;
    Ok(WrittenGraph {
        path: write(&job.output, bytes)?,
        nodes,
        steps: calls.iter().map(|call| format!("Applying {}", call.name)).collect(),
        warnings: done.problems.iter().map(ToString::to_string).collect(),
    })
}

pub(super) fn write(path: &Path, bytes: Vec<u8>) -> Result<PathBuf, Error> {
    let mut outputs = OutputSet::new();
    outputs.add_bytes(path, bytes);
    outputs.commit()?;
    Ok(path.to_owned())
}

/// Computes constants as the executor does, at a cost that the size of the graph bounds.
struct ConstantEvaluator(Cell<FoldBudget>);

impl ConstantEvaluator {
    /// For a document, once.
    fn of(document: &TensorflowDocument) -> Self {
        Self(Cell::new(FoldBudget::of_file(document.source().bytes().len() as u64)))
    }
}

impl Evaluator for ConstantEvaluator {
    fn evaluate(&self, op: Op, operands: &[&Tensor]) -> Result<Tensor, String> {
        let mut graph = Graph::default();
        let operand = |(slot, tensor): (usize, &&Tensor)| {
            let mut value = Value::named(format!("operand {slot}"));
            value.dtype = Some(tensor.dtype());
            value.constant = Some(Constant::owned((*tensor).clone()));
            Some(graph.add_value(value))
        };
        let inputs = operands.iter().enumerate().map(operand).collect();
        let outputs = vec![Some(graph.add_value(Value::named("result")))];
        let origin = Origin::Synthesized { pass: "fold_constants", from: Vec::new() };
        let node = Node { name: "constant".into(), op, inputs, outputs, after: Vec::new(), origin };
        let node = graph.add_node(node).map_err(|error| error.to_string())?;
        let mut budget = self.0.get();
        let results = evaluate_constant(&graph, node, &mut budget);
        self.0.set(budget);
        let results = results.map_err(|error| error.to_string())?;
        results.into_iter().next().ok_or_else(|| "it has no result".to_owned())
    }
}
