//! A TensorFlow graph as a model: opened, frozen if it has variables, imported.

use crate::error::Error;
use crate::model::Model;
use quantize_document::Limits;
use quantize_tensorflow::{
    Checkpoint, FreezeOptions, GraphDef, ReadOptions, Request, TensorflowDocument, TensorflowError, freeze, import,
    likely_outputs, node_name,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The purpose whose inputs and outputs a SavedModel is taken with.
const SERVING: &str = "serving_default";

/// A graph to run, with what it needs, and which of its tensors are fed and wanted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TensorflowFiles {
    /// The graph: a GraphDef or MetaGraph, binary or text, or the folder of a SavedModel.
    pub graph: PathBuf,
    /// The checkpoint of its variables; `None` for a frozen graph, and for a SavedModel, which has its own.
    pub checkpoint: Option<PathBuf>,
    /// Nodes that are fed and wanted.
    pub request: Request,
}

/// An opened graph.
pub(crate) struct TensorflowModel {
    pub(crate) document: TensorflowDocument,
    /// The graph that was imported: the document's, with constants in place of variables.
    pub(crate) graph: Arc<GraphDef>,
    pub(crate) model: Model,
}

impl TensorflowModel {
    pub(crate) fn open(files: &TensorflowFiles) -> Result<Self, Error> {
        let limits = Limits::default();
        let path = files.graph.as_path();
        let document = TensorflowDocument::open(path, &limits, &ReadOptions::default())?;
        let request = requested(&document, &files.request);
        let checkpoint = files.checkpoint.as_deref().or(document.variables().filter(|prefix| has_variables(prefix)));
        let (graph, mut problems) = match checkpoint {
            None => (document.graph().clone(), Vec::new()),
            Some(prefix) => frozen(&document, prefix, &request, path)?,
        };
        let named = |error: TensorflowError| error.in_file(path);
        let graph = Arc::new(graph);
        let (imported, noticed) = import(&graph, &request).map_err(named)?;
        problems.extend(noticed.iter().map(ToString::to_string));
        let bytes = graph.encoded_len() as u64;
        Ok(Self { document, graph, model: Model::new(path, imported, problems, bytes) })
    }
}

/// What is fed and wanted: what the caller says, else what a SavedModel was saved for.
fn requested(document: &TensorflowDocument, request: &Request) -> Request {
    let mut request = request.clone();
    let signature = document.signatures().iter().find(|signature| signature.name == SERVING);
    if let Some(signature) = signature.filter(|_| request.outputs.is_empty()) {
        request.outputs = signature.outputs.iter().map(|output| output.tensor.clone()).collect();
    }
    request
}

/// Whether a SavedModel has a checkpoint.
fn has_variables(prefix: &Path) -> bool {
    prefix.with_extension("index").is_file()
}

fn frozen(
    document: &TensorflowDocument,
    checkpoint: &Path,
    request: &Request,
    path: &Path,
) -> Result<(GraphDef, Vec<String>), Error> {
    let named = |error: TensorflowError| error.in_file(path);
    let checkpoint = Checkpoint::open(checkpoint, &Limits::default())?;
    let wanted = match request.outputs.is_empty() {
        true => likely_outputs(document.graph()).map_err(named)?,
        false => request.outputs.iter().map(|output| node_name(output).to_owned()).collect(),
    };
    let options = FreezeOptions { outputs: wanted, clear_devices: true, ..FreezeOptions::default() };
    let frozen = freeze(document.graph(), &checkpoint, &options).map_err(named)?;
    Ok((frozen.graph, frozen.problems.iter().map(ToString::to_string).collect()))
}

impl Model {
    /// Opens and imports a TensorFlow graph.
    ///
    /// # Errors
    /// If a file cannot be read or is not in its format, a name is no node's, or the checkpoint lacks a variable.
    pub fn open_tensorflow(files: &TensorflowFiles) -> Result<Self, Error> {
        Ok(TensorflowModel::open(files)?.model)
    }
}
