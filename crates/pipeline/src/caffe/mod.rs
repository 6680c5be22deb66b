//! Caffe from file to file: open, find thresholds, emulate, write.

mod carried;
mod emulation;
mod options;
mod sequential;

pub use emulation::{EmulatedLayer, EmulatedOutput, EmulationReport, emulate_caffe};
pub use options::{CaffeFiles, EmulateOptions, FileOptions, QuantizeCaffeOptions, Release, Thresholds, default_range};

use crate::accuracy::{Accuracy, Judges, Trial};
use crate::error::Error;
use crate::improve::Improvement;
use crate::model::Model;
use crate::onnx;
use crate::options::{Correction, QuantizeOptions, thread_count};
use crate::settle::{Job, Settled, settle};
use crate::summary::Summary;
use crate::unknown::before_softmax;
use crate::{plan_file, summary};
use carried::{Carried, Emulated};
use quantize_caffe::xfdnn::{QuantizationFile, WeightThresholds, XfdnnRecipe};
use quantize_caffe::{CaffeDocument, import};
use quantize_document::{Limits, OutputSet, SourceFile};
use quantize_ir::Decision;
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
    let corrections = options.emit_merged.is_some() && !options.file.power_of_two;
    let recipe = XfdnnRecipe { corrections, ..recipe(&caffe, &options.file) };
    let runtime = Emulated { caffe: &caffe, recipe: &recipe, file: &options.file, path: &options.output };
    let mut choices = options.recipe.clone();
    if !recipe.corrections {
        choices.correction = Correction::default();
    }
    let job = Job {
        model: &caffe.model,
        recipe: &recipe,
        runtime: &runtime,
        options: &choices,
        data: options.data.as_ref(),
        labelled: None,
        threads: thread_count(options.threads),
    };
    let (mut settled, carried) = match options.file.thresholds {
        Thresholds::Groups => {
            let settled = settle(&job, progress)?;
            let changed = settled.improvement.as_ref().is_some_and(Improvement::changes_something);
            let weights = if changed { WeightThresholds::Planned } else { WeightThresholds::Largest };
            let carried = runtime.carried(&settled.graph, &settled.plan, weights)?;
            (settled, carried)
        }
        Thresholds::Sequential => {
            let (settled, file) = sequential::run(&job, &recipe, &options.file, progress)?;
            let graph = settled.graph.clone();
            (settled, Carried { graph, file })
        }
    };
    settled.warnings.extend(dead_layers(&carried.file));
    let accuracy = check(&runtime, &settled, &carried, job.threads, progress)?;
    let written = write(options, &caffe, &settled, &carried)?;
    let mut summary = summary::of(&caffe.model, &settled, &choices, accuracy, written, None);
    summary.hints.extend(without_corrections(options, &settled));
    Ok(summary)
}

/// What would make the model better, where corrections were wanted and have nowhere to go.
fn without_corrections(options: &QuantizeCaffeOptions, settled: &Settled) -> Option<String> {
    let wanted = options.file.thresholds == Thresholds::Groups && !options.recipe.correction.is_none();
    let quantizes = settled.plan.nodes.values().any(|node| node.decision == Decision::Quantize);
    if !wanted || !quantizes || settled.improvement.is_some() {
        return None;
    }
    Some(if options.file.power_of_two {
        "weights and biases are not corrected: their steps are not those of the plan with `--power-of-two`".into()
    } else {
        "try: `--emit-merged PREFIX` writes a network with corrected weights and biases along; the file alone holds \
         thresholds only"
            .into()
    })
}

/// The rules of the hardware for a network and the form of its file, which is written alone.
pub(crate) fn recipe(caffe: &CaffeModel, file: &FileOptions) -> XfdnnRecipe {
    XfdnnRecipe {
        document: Arc::clone(&caffe.document),
        bits: file.bits,
        entries: file.entries(),
        keeps_lone_scale: file.release.is_some() && file.entries().scale,
        corrections: false,
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

/// The emulated runtime against fp32 on a few samples, held back ones if there are any.
fn check(
    runtime: &Emulated<'_>,
    settled: &Settled,
    carried: &Carried,
    threads: usize,
    progress: &dyn Progress,
) -> Result<Option<Accuracy>, Error> {
    let Some(data) = settled.data.as_ref().filter(|_| !carried.file.network.is_empty()) else { return Ok(None) };
    let judges = settled.judges.clone().unwrap_or_else(|| Judges::first_of(data));
    let reference = settled.reference.as_ref().unwrap_or(&settled.graph);
    let targets = before_softmax(reference, &settled.targets);
    let model = runtime.caffe.model.path();
    let trial = Trial { reference, model, targets: &targets, data, judges: &judges, threads, progress };
    Ok(runtime.emulated(&trial, std::slice::from_ref(carried))?.pop())
}

fn write(
    options: &QuantizeCaffeOptions,
    caffe: &CaffeModel,
    settled: &Settled,
    carried: &Carried,
) -> Result<Vec<PathBuf>, Error> {
    let text = carried.file.to_text(options.file.style);
    let text = text.map_err(|e| Error::Verification { path: options.output.clone(), cause: e.to_string() })?;
    verify(&text, &carried.file, &options.output)?;
    let merged = options.emit_merged.as_ref().map(|_| quantize_caffe::merged(&caffe.document, &carried.graph));
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
