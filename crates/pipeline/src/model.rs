//! A model as it stands in its file: opened, imported and runnable, whatever its format.

use crate::caffe::CaffeFiles;
use crate::error::Error;
use crate::memory::constants_of;
use crate::tensorflow::TensorflowFiles;
use quantize_exec::{FoldBudget, Program, Session, evaluate_constant};
use quantize_ir::{Graph, NodeId, QuantPlan, Tensor, ValueId};
use quantize_passes::Evaluator;
use std::path::{Path, PathBuf};

/// The files of a model.
#[derive(Clone, Debug, PartialEq)]
pub enum ModelFiles {
    /// An ONNX model.
    Onnx(PathBuf),
    /// A Caffe network.
    Caffe(CaffeFiles),
    /// A TensorFlow graph.
    Tensorflow(TensorflowFiles),
}

impl ModelFiles {
    /// Opens and imports the model.
    ///
    /// # Errors
    /// If a file cannot be read or is no valid model of its format.
    pub(crate) fn open(&self) -> Result<Model, Error> {
        match self {
            Self::Onnx(path) => Model::open_onnx(path),
            Self::Caffe(files) => Model::open_caffe(files),
            Self::Tensorflow(files) => Model::open_tensorflow(files),
        }
    }
}

/// An imported model: what every format's front-end gives.
#[derive(Debug)]
pub struct Model {
    path: PathBuf,
    graph: Graph,
    problems: Vec<String>,
    bytes: u64,
}

impl Model {
    /// A model imported from the file `path`, whose files have `bytes` bytes together.
    pub(crate) fn new(path: &Path, graph: Graph, problems: Vec<String>, bytes: u64) -> Self {
        Self { path: path.to_owned(), graph, problems, bytes }
    }

    /// The file that messages name.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The imported graph.
    pub(crate) fn graph(&self) -> &Graph {
        &self.graph
    }

    /// What the import noticed.
    pub(crate) fn problems(&self) -> &[String] {
        &self.problems
    }

    /// Size of its files together.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.bytes
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
        let constants = constants_of(&self.graph);
        let program = Program::compile_with(&self.graph, targets, &QuantPlan::default(), constants);
        program.map_err(|source| self.failed(source))
    }

    fn failed(&self, source: quantize_exec::ExecError) -> Error {
        Error::exec(&self.path, source)
    }
}

/// Constant folding by the executor, at a cost that the size of the model bounds.
pub(crate) struct ConstantEvaluator(FoldBudget);

impl ConstantEvaluator {
    /// For a model, once.
    pub(crate) fn of(model: &Model) -> Self {
        Self(FoldBudget::of_file(model.bytes))
    }
}

impl Evaluator for ConstantEvaluator {
    fn evaluate(&mut self, graph: &Graph, node: NodeId) -> Option<Vec<Tensor>> {
        evaluate_constant(graph, node, &mut self.0).ok()
    }
}
