//! One error for everything the facade does, with its cause and its cure.

use quantize_caffe::CaffeError;
use quantize_calib::CalibError;
use quantize_document::DocumentError;
use quantize_exec::ExecError;
use quantize_ir::{GraphError, QuantError};
use quantize_numerics::NumericsError;
use quantize_onnx::{NoSuchModel, OnnxError};
use quantize_optimize::OptimizeError;
use quantize_passes::PassError;
use quantize_tensorflow::TensorflowError;
use std::path::{Path, PathBuf};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The model file cannot be read or makes no sense.
    #[error(transparent)]
    Onnx(Box<OnnxError>),
    /// The Caffe network or its quantization file cannot be read or makes no sense.
    #[error(transparent)]
    Caffe(Box<CaffeError>),
    /// The TensorFlow graph or checkpoint cannot be read or makes no sense, or a transform of it fails.
    #[error(transparent)]
    Tensorflow(Box<TensorflowError>),
    /// A file cannot be read or written.
    #[error(transparent)]
    Document(Box<DocumentError>),
    /// The images, labels or preprocessing options do not work.
    #[error(transparent)]
    Data(Box<CalibError>),
    /// The model's graph is broken.
    #[error("{}: {source}", .model.display())]
    Graph {
        /// The model.
        model: PathBuf,
        /// What is wrong.
        source: Box<GraphError>,
    },
    /// A pass over the model failed.
    #[error("{}: {source}", .model.display())]
    Pass {
        /// The model.
        model: PathBuf,
        /// What is wrong.
        source: Box<PassError>,
    },
    /// The model cannot be executed.
    #[error("{}: {source}", .model.display())]
    Exec {
        /// The model.
        model: PathBuf,
        /// What is wrong.
        source: Box<ExecError>,
    },
    /// A plan cannot be improved.
    #[error("{}: {source}", .model.display())]
    Improve {
        /// The model.
        model: PathBuf,
        /// What is wrong.
        source: Box<OptimizeError>,
    },
    /// Operators that cannot be executed stand before nodes that would be quantized.
    #[error("{}: cannot execute {}, before nodes that would be quantized", .model.display(), .unknown.join(", "))]
    UnknownOperators {
        /// The model.
        model: PathBuf,
        /// Each such node with its operator.
        unknown: Vec<String>,
        /// Labels of the nodes that would be quantized behind them.
        behind: Vec<String>,
    },
    /// Quantization parameters of a tensor cannot be found.
    #[error("{}: {place}: {source}", .model.display())]
    Tensor {
        /// The model.
        model: PathBuf,
        /// The tensor, and the node it belongs to.
        place: String,
        /// Node whose `--skip` avoids the problem, if there is one.
        node: Option<String>,
        /// What is wrong.
        source: Box<NumericsError>,
    },
    /// Quantization parameters of a tensor were refused.
    #[error("{}: {place}: {source}", .model.display())]
    Params {
        /// The model.
        model: PathBuf,
        /// The tensor, and the node it belongs to.
        place: String,
        /// What is wrong.
        source: QuantError,
    },
    /// A `--skip` pattern matches no node.
    #[error("`--skip {pattern}` matches no node of the model")]
    SkipMatchesNothing {
        /// The pattern.
        pattern: String,
        /// Node names close to it, or the first ones.
        candidates: Vec<String>,
    },
    /// A `--skip` pattern is malformed.
    #[error("`--skip {pattern}` is not a valid pattern: {cause}")]
    SkipPattern {
        /// The pattern.
        pattern: String,
        /// What is wrong.
        cause: String,
    },
    /// Two requests exclude each other.
    #[error("{first} and {second} exclude each other: {why}")]
    Conflict {
        /// One, as the command line spells it.
        first: String,
        /// The other.
        second: String,
        /// Why.
        why: String,
    },
    /// A plan prescribes parameters that a constant cannot have.
    #[error("{}: {place}: {cause}", .model.display())]
    Unfit {
        /// The model.
        model: PathBuf,
        /// The constant.
        place: String,
        /// Why.
        cause: String,
    },
    /// The record of a search cannot be used.
    #[error("{}: {cause}", .path.display())]
    SearchRecord {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// A file of statistics cannot be used.
    #[error("{}: {cause}", .path.display())]
    Statistics {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: String,
        /// What to do about it.
        cure: Option<String>,
    },
    /// A plan cannot be carried out.
    #[error("{}: {place}: {cause}", .path.display())]
    Plan {
        /// The file.
        path: PathBuf,
        /// The entry.
        place: String,
        /// Why.
        cause: String,
        /// What to do about it.
        cure: Option<String>,
    },
    /// There is no such kind of model.
    #[error("no ONNX model can be written: {source}")]
    Target {
        /// Why.
        source: NoSuchModel,
    },
    /// Something would be quantized but there is no data.
    #[error("calibration data is needed to quantize {nodes} nodes")]
    NoData {
        /// Number of nodes.
        nodes: usize,
        /// Whether nearest codes would need none.
        only_weights: bool,
    },
    /// Nothing in the model can be quantized.
    #[error("{}: no node can be quantized", .model.display())]
    NothingToQuantize {
        /// The model.
        model: PathBuf,
        /// What the import noticed, then why, by operator.
        reasons: Vec<String>,
    },
    /// The data cannot feed this model.
    #[error("{}: these data cannot feed this model: {cause}", .model.display())]
    Input {
        /// The model.
        model: PathBuf,
        /// What does not fit.
        cause: String,
        /// What to do about it.
        cure: String,
    },
    /// No input can be made up for a model.
    #[error("{}: no synthetic input: {cause}", .model.display())]
    Synthetic {
        /// The model.
        model: PathBuf,
        /// Why.
        cause: String,
        /// What to do about it.
        cure: String,
    },
    /// Two models have nothing in common that could be compared.
    #[error("{} and {} cannot be compared: {cause}", .first.display(), .second.display())]
    Unlike {
        /// One model.
        first: PathBuf,
        /// The other.
        second: PathBuf,
        /// Why not.
        cause: String,
    },
    /// A shape is given that no input of the model can have.
    #[error("{}: no input `{input}` of that shape: {cause}", .model.display())]
    GivenShape {
        /// The model.
        model: PathBuf,
        /// Name of the input.
        input: String,
        /// Why not.
        cause: String,
    },
    /// A model is to run quantized, but was opened without a plan.
    #[error("{}: there is no plan to run it by", .model.display())]
    NoPlan {
        /// The model.
        model: PathBuf,
    },
    /// A sample does not fit the model input.
    #[error("image `{image}`: preprocessing gives {given}, but model input `{input}` takes {taken}")]
    SampleShape {
        /// The image.
        image: String,
        /// Name of the model input.
        input: String,
        /// Shape of the sample.
        given: String,
        /// Shape the input takes.
        taken: String,
        /// What to do about it.
        cure: String,
    },
    /// An array does not fit the model input.
    #[error("{given}, but model input `{input}` takes {taken}")]
    SampleArray {
        /// The array with its type and shape.
        given: String,
        /// Name of the model input.
        input: String,
        /// Type and shape the input takes.
        taken: String,
        /// What to do about it.
        cure: String,
    },
    /// A file holds no array for a model input.
    #[error("{} holds no array for model input `{input}`, but {held}", .path.display())]
    NoArray {
        /// The file.
        path: PathBuf,
        /// Name of the model input.
        input: String,
        /// The arrays it holds.
        held: String,
    },
    /// Samples that run together have different shapes.
    #[error("samples {first} and {other} have different shapes, but model input `{input}` takes {batch} at once")]
    UnequalSamples {
        /// Name of the model input.
        input: String,
        /// Samples of one run.
        batch: usize,
        /// One of the samples.
        first: String,
        /// The other.
        other: String,
    },
    /// A batch that takes too much memory.
    #[error("model input `{input}` takes {batch} samples of {elements} elements at once, which is too much")]
    BatchTooLarge {
        /// Name of the model input.
        input: String,
        /// Samples of one run.
        batch: usize,
        /// Elements of a sample.
        elements: usize,
    },
    /// Labels do not fit the model's classes.
    #[error(
        "label {label} of image `{image}` is not a class of the model, whose output `{output}` has {classes} scores"
    )]
    LabelRange {
        /// The image.
        image: String,
        /// Its label.
        label: u32,
        /// The output taken as scores.
        output: String,
        /// Number of scores.
        classes: usize,
    },
    /// The model has no output that could be class scores.
    #[error("{}: no output is a vector of class scores", .model.display())]
    NoScores {
        /// The model.
        model: PathBuf,
        /// Name and shape of each output.
        outputs: Vec<String>,
    },
    /// The written file does not read back as what was meant.
    #[error("{}: the written model does not read back: {cause}", .path.display())]
    Verification {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        cause: String,
    },
}

impl From<OnnxError> for Error {
    fn from(source: OnnxError) -> Self {
        Self::Onnx(Box::new(source))
    }
}

impl From<CaffeError> for Error {
    fn from(source: CaffeError) -> Self {
        Self::Caffe(Box::new(source))
    }
}

impl From<TensorflowError> for Error {
    fn from(source: TensorflowError) -> Self {
        Self::Tensorflow(Box::new(source))
    }
}

impl From<DocumentError> for Error {
    fn from(source: DocumentError) -> Self {
        Self::Document(Box::new(source))
    }
}

impl From<CalibError> for Error {
    fn from(source: CalibError) -> Self {
        Self::Data(Box::new(source))
    }
}

impl Error {
    /// The model's graph is broken.
    pub(crate) fn graph(model: &Path, source: GraphError) -> Self {
        Self::Graph { model: model.to_owned(), source: Box::new(source) }
    }

    /// A pass over the model failed.
    pub(crate) fn pass(model: &Path, source: PassError) -> Self {
        Self::Pass { model: model.to_owned(), source: Box::new(source) }
    }

    /// The model cannot be executed.
    pub(crate) fn exec(model: &Path, source: ExecError) -> Self {
        Self::Exec { model: model.to_owned(), source: Box::new(source) }
    }

    /// Quantization parameters cannot be found at `place`; skipping `node` avoids it.
    pub(crate) fn tensor(model: &Path, place: String, node: Option<String>, source: NumericsError) -> Self {
        Self::Tensor { model: model.to_owned(), place, node, source: Box::new(source) }
    }

    /// What to do about it, where something can be done.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Onnx(e) => e.hint(),
            Self::Caffe(e) => e.hint(),
            Self::Tensorflow(e) => e.hint(),
            Self::Document(e) => e.hint(),
            Self::Data(e) => e.hint(),
            Self::Statistics { cure, .. } | Self::Plan { cure, .. } => cure.clone(),
            Self::SearchRecord { .. } => Some("name a file that does not exist, to begin a search of its own".into()),
            Self::Target { source: NoSuchModel::Activations { .. } } => {
                Some("write quantize-dequantize pairs (`--format qdq`), or 8-bit activations".into())
            }
            Self::Target { source: NoSuchModel::DequantizedWeights } => {
                Some("leave out `--format`: onnxruntime would round activations to 8 bits in the other form".into())
            }
            Self::Graph { source, .. } if unreadable(source) => Some(DAMAGED.into()),
            Self::Pass { source, .. } if matches!(&**source, PassError::Graph(g) if unreadable(g)) => {
                Some(DAMAGED.into())
            }
            Self::Exec { source, .. } if matches!(&**source, ExecError::Graph(g) if unreadable(g)) => {
                Some(DAMAGED.into())
            }
            Self::Exec { source, .. } if matches!(**source, ExecError::Opaque { .. }) => {
                Some("only a runtime that knows these operators can run this model".into())
            }
            Self::UnknownOperators { behind, .. } => Some(skip_hint(behind)),
            Self::SkipMatchesNothing { candidates, .. } if !candidates.is_empty() => {
                Some(format!("nodes of this model: {}", candidates.join(", ")))
            }
            Self::NoData { only_weights: true, .. } => {
                Some("give images or arrays with `--calib PATH`; `--rounding nearest` needs none".into())
            }
            Self::NoData { only_weights: false, .. } => {
                Some("give images or arrays with `--calib PATH`, or keep everything with `--skip '*'`".into())
            }
            Self::NothingToQuantize { reasons, .. } => Some(reasons.join("; ")),
            Self::Input { cure, .. }
            | Self::Synthetic { cure, .. }
            | Self::SampleShape { cure, .. }
            | Self::SampleArray { cure, .. } => Some(cure.clone()),
            Self::NoArray { .. } => {
                Some("call the array as the model calls its input, or keep it alone in its file".into())
            }
            Self::UnequalSamples { .. } | Self::BatchTooLarge { .. } => {
                Some("export the model with a batch of 1, or an open one".into())
            }
            Self::Unlike { .. } => {
                Some("compare a model with another form of the same, such as its quantized one".into())
            }
            Self::LabelRange { .. } => Some("labels count from 0, in the order of the model's outputs".into()),
            Self::Tensor { source, .. } if matches!(**source, NumericsError::EmptyStats) => {
                Some("no image produced a finite value there; check the preprocessing and the model".into())
            }
            Self::Tensor { node: Some(node), .. } => {
                Some(format!("export the model again, or keep the node in fp32 with `--skip '{node}'`"))
            }
            Self::NoScores { outputs, .. } => {
                Some(format!("outputs: {}; scores have shape [1, classes]", outputs.join(", ")))
            }
            Self::Verification { .. } => Some("this is a defect of quantize; please report it with the model".into()),
            _ => None,
        }
    }

    /// Whether the command line itself, rather than a file, is at fault.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::NoData { .. } | Self::SkipPattern { .. } | Self::GivenShape { .. } | Self::Conflict { .. })
    }
}

/// What to do about a constant that does not decode.
const DAMAGED: &str = "the file is damaged or was edited; export the model again";

fn unreadable(source: &GraphError) -> bool {
    matches!(source, GraphError::Constant(_))
}

/// Nodes named in a hint before the rest is left to the reader.
const NAMED: usize = 6;

fn skip_hint(behind: &[String]) -> String {
    let named: Vec<String> = behind.iter().take(NAMED).map(|n| format!("--skip '{n}'")).collect();
    let rest = if behind.len() > NAMED { format!(" and {} more", behind.len() - NAMED) } else { String::new() };
    format!("keep what follows in fp32: {}{rest}", named.join(" "))
}
