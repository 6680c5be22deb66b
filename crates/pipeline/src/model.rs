//! A model as it stands in its file: opened, imported, runnable, and written back under a plan.

use crate::error::Error;
use quantize_document::{Limits, SourceFile};
use quantize_exec::{Program, Session, evaluate_constant};
use quantize_ir::{Graph, NodeId, QuantPlan, Tensor, ValueId};
use quantize_onnx::{Encoded, OnnxDocument, encode_qdq, import};
use quantize_passes::Evaluator;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An opened ONNX model.
pub struct Model {
    path: PathBuf,
    document: Arc<OnnxDocument>,
    graph: Graph,
    problems: Vec<String>,
}

impl Model {
    /// Opens and imports a model.
    ///
    /// # Errors
    /// If the file cannot be read or is no valid model.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let limits = Limits::default();
        Self::from_source(SourceFile::read(path, &limits)?, &limits)
    }

    fn from_source(source: SourceFile, limits: &Limits) -> Result<Self, Error> {
        let path = source.path().to_owned();
        let document = Arc::new(OnnxDocument::parse(source, limits)?);
        let (graph, problems) = import(&document)?;
        let problems = problems.iter().map(ToString::to_string).collect();
        Ok(Self { path, document, graph, problems })
    }

    /// The imported graph.
    pub(crate) fn graph(&self) -> &Graph {
        &self.graph
    }

    /// What the import noticed.
    pub(crate) fn problems(&self) -> &[String] {
        &self.problems
    }

    /// Size of the file.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.document.source().bytes().len() as u64
    }

    /// Names of the inputs to feed, in order.
    pub fn input_names(&self) -> Vec<&str> {
        self.graph.inputs().iter().map(|v| self.graph.value(*v).name.as_str()).collect()
    }

    /// Names of the outputs, in order.
    pub fn output_names(&self) -> Vec<&str> {
        self.graph.outputs().iter().map(|v| self.graph.value(*v).name.as_str()).collect()
    }

    /// Runs the model as it is, one tensor for each input, and returns its outputs.
    ///
    /// # Errors
    /// If an operator is unknown, or the inputs do not fit.
    pub fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, Error> {
        let program = self.compile(self.graph.outputs())?;
        let fed: Vec<_> = self.graph.inputs().iter().copied().zip(inputs.iter().cloned()).collect();
        Session::new(&program).run(&fed, &mut ()).map_err(|source| self.failed(source))
    }

    pub(crate) fn compile(&self, targets: &[ValueId]) -> Result<Program, Error> {
        Program::compile(&self.graph, targets).map_err(|source| self.failed(source))
    }

    fn failed(&self, source: quantize_exec::ExecError) -> Error {
        Error::exec(&self.path, source)
    }

    /// The document with `plan`, made for `graph` (this model's graph after folding), carried out.
    pub(crate) fn encode(&self, graph: &Graph, plan: &QuantPlan) -> Result<Encoded<'_>, Error> {
        Ok(encode_qdq(&self.document, &self.graph, graph, plan)?)
    }

    /// Reads what is about to be written to `path` back, as its next reader will.
    pub(crate) fn verify(&self, encoded: &Encoded<'_>, path: &Path) -> Result<(), Error> {
        if encoded.is_unchanged() {
            return Ok(());
        }
        let wrong = |cause: String| Error::Verification { path: path.to_owned(), cause };
        let source = SourceFile::from_bytes(path, encoded.to_vec());
        let read = Self::from_source(source, &Limits::default()).map_err(|e| wrong(e.to_string()))?;
        let names = |m: &Self| (m.input_names().join(","), m.output_names().join(","));
        if names(&read) != names(self) {
            return Err(wrong("its inputs or outputs changed".into()));
        }
        read.graph.topological_order().map_err(|e| wrong(e.to_string()))?;
        Ok(())
    }
}

/// Elements up to which a result is folded: weights of the largest layers of classifiers, made by the model itself.
const MAX_FOLDED_ELEMENTS: usize = 1 << 28;

/// Constant folding by the executor.
pub(crate) struct ConstantEvaluator;

impl Evaluator for ConstantEvaluator {
    fn evaluate(&self, graph: &Graph, node: NodeId) -> Option<Vec<Tensor>> {
        evaluate_constant(graph, node, MAX_FOLDED_ELEMENTS).ok()
    }
}
