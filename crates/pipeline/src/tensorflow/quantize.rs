//! A TensorFlow graph from file to file: open, decide, check, write, verify.

use super::{TensorflowFiles, TensorflowModel};
use crate::accuracy::Simulated;
use crate::error::Error;
use crate::options::{DataOptions, LabelledOptions, QuantizeOptions, RecipeOptions, thread_count};
use crate::plan_file::Prescription;
use crate::settle::{Job, Settled, prescribed, settle};
use crate::summary::{Conversions, Summary};
use crate::{onnx, plan_file, summary};
use quantize_document::{Limits, OutputSet, SourceFile};
use quantize_parallel::Progress;
use quantize_tensorflow::{
    Encoded, Encoding, ReadOptions, Request, Revision, TensorflowDocument, TensorflowError, TensorflowRecipe, encode,
    import,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Extension of files in the text format.
const TEXT: &str = "pbtxt";

/// A quantization of a TensorFlow graph.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizeTensorflowOptions {
    /// The graph.
    pub model: TensorflowFiles,
    /// The graph to write: text if its extension is `pbtxt`, binary otherwise.
    pub output: PathBuf,
    /// Images and their preprocessing; not needed where nothing is calibrated.
    pub data: Option<DataOptions>,
    /// Labelled samples that judge how much accuracy may be lost.
    pub labelled: Option<LabelledOptions>,
    /// Which parameters are chosen, and how.
    pub recipe: RecipeOptions,
    /// Which operators become operators on integers.
    pub operators: TensorflowRecipe,
    /// Where to write the plan, if at all.
    pub emit_plan: Option<PathBuf>,
    /// A plan to carry out instead of making one.
    pub plan: Option<PathBuf>,
    /// Threads; 0 for one for each core.
    pub threads: usize,
}

/// Quantizes a TensorFlow graph from file to file. Nothing is written unless everything succeeds.
///
/// # Errors
/// If the graph or the data cannot be read or used, or the output cannot be written.
pub fn quantize_tensorflow(options: &QuantizeTensorflowOptions, progress: &dyn Progress) -> Result<Summary, Error> {
    let opened = TensorflowModel::open(&options.model)?;
    let threads = thread_count(options.threads);
    let (model, recipe, data) = (&opened.model, &options.operators, options.data.as_ref());
    let labelled = options.labelled.as_ref();
    let job = Job { model, recipe, runtime: &Simulated, options: &options.recipe, data, labelled, threads };
    let settled = match &options.plan {
        Some(plan) => prescribed(&job, &Prescription::read(plan)?)?,
        None => settle(&job, progress)?,
    };
    let accuracy = settled.judged(model.path(), threads, progress)?;
    let encoded = encoded(&opened, &settled)?;
    let bytes = rendered(&opened, &encoded, &settled, &options.output)?;
    let bytes_after = bytes.len() as u64;
    let written = write(options, &settled, model.path(), bytes)?;
    let mut summary = summary::of(model, &settled, &options.recipe, accuracy, written, Some(bytes_after));
    summary.conversions = Some(Conversions { to_codes: encoded.quantized, to_reals: encoded.dequantized });
    Ok(summary)
}

/// Leaves a TensorFlow graph as ONNX: the fp32 network if `options` quantize nothing, else the int8 model that
/// [`quantize_onnx()`](crate::quantize_onnx) makes of it. `options.model` is not read.
///
/// # Errors
/// If the graph cannot be read, ONNX cannot express it, or as [`quantize_onnx()`](crate::quantize_onnx).
pub fn tensorflow_to_onnx(
    files: &TensorflowFiles,
    options: &QuantizeOptions,
    progress: &dyn Progress,
) -> Result<Summary, Error> {
    onnx::quantize_graph(&TensorflowModel::open(files)?.model, options, progress)
}

fn encoded(opened: &TensorflowModel, settled: &Settled) -> Result<Encoded, Error> {
    let revision = Revision { source: &opened.graph, graph: &settled.graph, plan: &settled.plan };
    Ok(encode(&revision).map_err(|error| error.in_file(opened.model.path()))?)
}

/// What is to be written to `path`, read back as its next reader will.
fn rendered(opened: &TensorflowModel, encoded: &Encoded, settled: &Settled, path: &Path) -> Result<Vec<u8>, Error> {
    let encoding = if path.extension().is_some_and(|e| e == TEXT) { Encoding::Text } else { Encoding::Binary };
    let bytes = opened.document.render(&encoded.graph, encoding)?;
    let wrong = |error: TensorflowError| Error::Verification { path: path.to_owned(), cause: error.to_string() };
    let source = SourceFile::from_bytes(path, bytes.clone());
    let read = TensorflowDocument::parse(source, &Limits::default(), &ReadOptions::default()).map_err(wrong)?;
    let name = |value: &quantize_ir::ValueId| settled.graph.value(*value).name.clone();
    let request = Request {
        inputs: settled.graph.inputs().iter().map(name).collect(),
        outputs: settled.graph.outputs().iter().map(name).collect(),
    };
    import(&Arc::new(read.graph().clone()), &request).map_err(wrong)?;
    Ok(bytes)
}

fn write(
    options: &QuantizeTensorflowOptions,
    settled: &Settled,
    model: &Path,
    bytes: Vec<u8>,
) -> Result<Vec<PathBuf>, Error> {
    let mut outputs = OutputSet::new();
    let mut written = vec![options.output.clone()];
    if let Some(path) = &options.emit_plan {
        outputs.add_bytes(path, plan_file::bytes(settled, model, &options.recipe, path)?);
        written.push(path.clone());
    }
    outputs.add_bytes(&options.output, bytes);
    outputs.commit()?;
    Ok(written)
}
