//! Caffe from file to file: open, find thresholds, emulate, write.

mod emulation;
mod options;
mod sequential;

pub use emulation::{EmulatedLayer, EmulatedOutput, EmulationReport, emulate_caffe};
pub use options::{CaffeFiles, EmulateOptions, FileOptions, QuantizeCaffeOptions, Release, Thresholds, default_range};

use crate::accuracy::{Accuracy, Judges, compare};
use crate::error::Error;
use crate::model::Model;
use crate::onnx;
use crate::options::{QuantizeOptions, thread_count};
use crate::settle::{Job, Settled, settle};
use crate::summary::Summary;
use crate::{plan_file, summary};
use quantize_caffe::xfdnn::{QuantizationFile, XfdnnRecipe, integer_plan, quantization_file};
use quantize_caffe::{CaffeDocument, import};
use quantize_document::{Limits, OutputSet, SourceFile};
use quantize_exec::{Emulation, Emulator, Program};
use quantize_ir::{Graph, Op, ValueId};
use quantize_parallel::Progress;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An opened Caffe network.
pub(crate) struct CaffeModel {
    pub(crate) document: Arc<CaffeDocument>,
    pub(crate) model: Model,
}

impl CaffeModel {
    pub(crate) fn open(files: &CaffeFiles) -> Result<Self, Error> {
        let limits = Limits::default();
        let (deploy, weights) = (SourceFile::read(&files.deploy, &limits)?, SourceFile::read(&files.weights, &limits)?);
        let bytes = (deploy.bytes().len() + weights.bytes().len()) as u64;
        let document = Arc::new(CaffeDocument::parse(deploy, weights, &limits, &files.read)?);
        let (graph, problems) = import(&document)?;
        let problems = problems.iter().map(ToString::to_string).collect();
        Ok(Self { document, model: Model::new(&files.deploy, graph, problems, bytes) })
    }
}

impl Model {
    /// Opens and imports a Caffe network.
    ///
    /// # Errors
    /// If a file cannot be read or is not in its format, or the two do not fit each other.
    pub fn open_caffe(files: &CaffeFiles) -> Result<Self, Error> {
        Ok(CaffeModel::open(files)?.model)
    }
}

/// Quantizes a Caffe network for the xfDNN runtime. Nothing is written unless everything succeeds.
///
/// # Errors
/// If the network or the data cannot be read or used, two requests exclude each other, or an output cannot be written.
pub fn quantize_caffe(options: &QuantizeCaffeOptions, progress: &dyn Progress) -> Result<Summary, Error> {
    refuse_conflicts(options)?;
    let caffe = CaffeModel::open(&options.model)?;
    let recipe = recipe(&caffe, &options.file);
    let job = Job {
        model: &caffe.model,
        recipe: &recipe,
        options: &options.recipe,
        data: options.data.as_ref(),
        threads: thread_count(options.threads),
    };
    let (mut settled, file) = match options.file.thresholds {
        Thresholds::Groups => {
            let settled = settle(&job, progress)?;
            let (format, power_of_two) = (options.file.format(), options.file.power_of_two);
            let file = quantization_file(&recipe, &settled.graph, &settled.plan, format, power_of_two)?;
            (settled, file)
        }
        Thresholds::Sequential => sequential::run(&job, &recipe, &options.file, progress)?,
    };
    settled.warnings.extend(dead_layers(&file));
    let accuracy = check(&caffe, &settled, &file, options, progress)?;
    let written = write(options, &caffe, &settled, &file)?;
    Ok(summary::of(&caffe.model, &settled, &options.recipe, accuracy, written, None))
}

/// The rules of the hardware for a network and the form of its file.
pub(crate) fn recipe(caffe: &CaffeModel, file: &FileOptions) -> XfdnnRecipe {
    XfdnnRecipe {
        document: Arc::clone(&caffe.document),
        bits: file.bits,
        entries: file.entries(),
        keeps_lone_scale: file.release.is_some() && file.entries().scale,
        float_lrn: file.float_lrn,
    }
}

/// Leaves a Caffe network as ONNX: the fp32 network if `options` quantize nothing, else the int8 model that
/// [`quantize_onnx()`](crate::quantize_onnx) makes of it. `options.model` is not read.
///
/// # Errors
/// If the network cannot be read, ONNX cannot express it, or as [`quantize_onnx()`](crate::quantize_onnx).
pub fn caffe_to_onnx(files: &CaffeFiles, options: &QuantizeOptions, progress: &dyn Progress) -> Result<Summary, Error> {
    let caffe = CaffeModel::open(files)?;
    onnx::quantize_graph(&caffe.model, options, progress)
}

fn refuse_conflicts(options: &QuantizeCaffeOptions) -> Result<(), Error> {
    if options.file.thresholds == Thresholds::Sequential && options.emit_plan.is_some() {
        return Err(Error::Conflict {
            first: "`--emit-plan`".into(),
            second: "`--sequential` (part of `--preset compat`)".into(),
            why: "a plan has one threshold for each tensor, the original's pass one for each side of it".into(),
        });
    }
    Ok(())
}

/// Layers whose output is always zero, for a warning.
fn dead_layers(file: &QuantizationFile) -> Option<String> {
    let dead: Vec<String> =
        file.network.iter().filter(|e| e.th_layer_out == 0.0).map(|e| format!("`{}`", e.name)).collect();
    (!dead.is_empty()).then(|| format!("the calibration samples leave {} at zero; multipliers are 0", dead.join(", ")))
}

/// The emulated runtime against fp32 on a few calibration samples.
fn check(
    caffe: &CaffeModel,
    settled: &Settled,
    file: &QuantizationFile,
    options: &QuantizeCaffeOptions,
    progress: &dyn Progress,
) -> Result<Option<Accuracy>, Error> {
    let Some(data) = settled.data.as_ref().filter(|_| !file.network.is_empty()) else { return Ok(None) };
    let path = caffe.model.path();
    let failed = |source| Error::exec(path, source);
    let flavor = options.file.flavor;
    let integers = integer_plan(&caffe.document, &settled.graph, file, flavor, options.output.clone())?;
    let targets = before_softmax(&settled.graph, &settled.targets);
    let reference = Program::compile(&settled.graph, &targets).map_err(failed)?;
    let emulation = Emulation::compile(&settled.graph, &targets, &integers).map_err(failed)?;
    let threads = thread_count(options.threads);
    let quantized = || Emulator::new(&emulation);
    compare(&settled.graph, path, &targets, &reference, quantized, (data, &Judges::first_of(data)), threads, progress)
        .map(Some)
}

/// The values that show what quantization costs: logits rather than the probabilities a softmax makes of them.
pub(crate) fn before_softmax(graph: &Graph, outputs: &[ValueId]) -> Vec<ValueId> {
    let logits = |value: &ValueId| match graph.producer(*value) {
        Some((_, node)) if matches!(node.op, Op::Softmax(_)) => node.input(0).unwrap_or(*value),
        _ => *value,
    };
    outputs.iter().map(logits).collect()
}

fn write(
    options: &QuantizeCaffeOptions,
    caffe: &CaffeModel,
    settled: &Settled,
    file: &QuantizationFile,
) -> Result<Vec<PathBuf>, Error> {
    let text = file.to_text(options.file.style);
    let text = text.map_err(|e| Error::Verification { path: options.output.clone(), cause: e.to_string() })?;
    verify(&text, file, &options.output)?;
    let merged = options.emit_merged.as_ref().map(|_| quantize_caffe::merged(&caffe.document, &settled.graph));
    let merged = merged.transpose()?;
    let mut outputs = OutputSet::new();
    outputs.add_bytes(&options.output, text.into_bytes());
    let mut written = vec![options.output.clone()];
    if let Some(path) = &options.emit_plan {
        outputs.add_bytes(path, plan_file::bytes(settled, &options.model.deploy, &options.recipe, path)?);
        written.push(path.clone());
    }
    if let (Some(prefix), Some(merged)) = (&options.emit_merged, &merged) {
        let (prototxt, caffemodel) = (with_suffix(prefix, ".prototxt"), with_suffix(prefix, ".caffemodel"));
        outputs.add_writer(&prototxt, |out| merged.prototxt().write_to(out));
        outputs.add_writer(&caffemodel, |out| merged.caffemodel().write_to(out));
        written.extend([prototxt, caffemodel]);
    }
    outputs.make_folders();
    outputs.commit()?;
    Ok(written)
}

/// Reads what is about to be written back, as its next reader will.
fn verify(text: &str, file: &QuantizationFile, path: &Path) -> Result<(), Error> {
    if file.network.is_empty() {
        return Ok(());
    }
    let wrong = |cause: String| Error::Verification { path: path.to_owned(), cause };
    let read = QuantizationFile::parse(&SourceFile::from_bytes(path, text.as_bytes().to_vec()));
    let read = read.map_err(|e| wrong(e.to_string()))?;
    if read == *file { Ok(()) } else { Err(wrong("its numbers changed".into())) }
}

/// `prefix` with `suffix` behind it, whatever dots it contains.
fn with_suffix(prefix: &Path, suffix: &str) -> PathBuf {
    let mut name = prefix.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
