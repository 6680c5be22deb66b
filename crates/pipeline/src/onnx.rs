//! ONNX from file to file: open, decide, check, write, verify.

use crate::accuracy::Simulated;
use crate::error::Error;
use crate::evidence::{Evidence, StatisticsSummary};
use crate::improve::Split;
use crate::model::Model;
use crate::options::{
    Granularity, Processor, QuantizeOptions, RecipeOptions, Shard, TargetOptions, WeightBits, thread_count,
};
use crate::plan_file::Prescription;
use crate::settle::{Job, Prepared, Settled, Stored, nothing_quantized, prepared, prescribed, recalled, settle};
use crate::summary::Summary;
use crate::{plan_file, summary};
use quantize_calib::{Fingerprint, Fingerprinting};
use quantize_document::{Limits, OutputSet, Place, SourceFile, same_folder};
use quantize_exec::{Program, Session};
use quantize_ir::{Tensor, ValueId};
use quantize_onnx::{
    ActivationCodes, Encoded, Form, OnnxDocument, OnnxRecipe, Placement, Revision, WeightCodes, encode, export, import,
};
use quantize_parallel::Progress;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Models up to this size are read back whole before they are written.
const READ_BACK_WHOLE: usize = 64 << 20;

/// A model to write, and where the file beside it stands, if it has one.
struct Output<'m> {
    encoded: Encoded<'m>,
    data: Option<Place>,
}

/// Where tensors outside the model at `path` stand.
fn data_path(path: &Path) -> PathBuf {
    path.with_file_name(format!("{}.data", file_name(path)))
}

/// A file's name as text, which is what a model can refer to.
fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// An opened ONNX model.
pub(crate) struct OnnxModel {
    pub(crate) document: Arc<OnnxDocument>,
    pub(crate) model: Model,
}

impl OnnxModel {
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let model = Self::from_source(SourceFile::read(path, &Limits::default())?)?;
        model.document.check_external_data()?;
        Ok(model)
    }

    fn from_source(source: SourceFile) -> Result<Self, Error> {
        let (path, bytes) = (source.path().to_owned(), source.bytes().len() as u64);
        let document = Arc::new(OnnxDocument::parse(source, &Limits::default())?);
        let beside = document.external_stretches()?;
        let bytes = beside.iter().filter_map(|stretch| stretch.length).fold(bytes, u64::saturating_add);
        let (graph, problems) = import(&document)?;
        let problems = problems.iter().map(ToString::to_string).collect();
        Ok(Self { document, model: Model::new(&path, graph, problems, bytes) })
    }

    fn encode(&self, settled: &Settled, form: Form, placement: &Placement) -> Result<Encoded<'_>, Error> {
        let Settled { graph, plan, .. } = settled;
        let revision = Revision { document: &self.document, original: self.model.graph(), graph, plan, form };
        Ok(encode(&revision, placement)?)
    }

    /// What is to be written to `path`, read back as its next reader will.
    fn verified(&self, settled: &Settled, form: Form, path: &Path) -> Result<Output<'_>, Error> {
        let wanted = data_path(path);
        let mut placement = Placement {
            beside_source: same_folder(self.model.path(), path),
            data_name: file_name(&wanted),
            ..Placement::default()
        };
        let mut encoded = self.encode(settled, form, &placement)?;
        let mut data = None;
        if encoded.data_byte_count() > 0 {
            let place = Place::find(&wanted, encoded.data_byte_count(), &|out| encoded.write_data_to(out));
            if place.path() != wanted {
                placement.data_name = file_name(place.path());
                encoded = self.encode(settled, form, &placement)?;
            }
            data = Some(place);
        }
        if encoded.is_unchanged() {
            return Ok(Output { encoded, data });
        }
        if encoded.model_byte_count() > READ_BACK_WHOLE {
            // The same model but for where its large tensors stand: they need not be in memory a second time.
            let outline = Placement { max_model_bytes: 0, ..placement };
            self.verify(&self.encode(settled, form, &outline)?, path)?;
        } else {
            self.verify(&encoded, path)?;
        }
        Ok(Output { encoded, data })
    }

    fn verify(&self, encoded: &Encoded<'_>, path: &Path) -> Result<(), Error> {
        let wrong = |cause: String| Error::Verification { path: path.to_owned(), cause };
        let read = Self::from_source(SourceFile::from_bytes(path, encoded.to_vec()));
        let read = read.map_err(|e| wrong(e.to_string()))?.model;
        let names = |m: &Model| (m.input_names().join(","), m.output_names().join(","));
        if names(&read) != names(&self.model) {
            return Err(wrong("its inputs or outputs changed".into()));
        }
        read.graph().topological_order().map_err(|e| wrong(e.to_string()))?;
        Ok(())
    }
}

impl OnnxModel {
    /// What statistics of this model are recognized by: its bytes, and those beside it that it refers to.
    fn fingerprint(&self) -> Result<Fingerprint, Error> {
        let mut fingerprint = Fingerprinting::default();
        fingerprint.add(self.document.source().bytes());
        self.document.read_external(&mut |bytes| fingerprint.add(bytes))?;
        Ok(fingerprint.finish())
    }
}

impl Model {
    /// Opens and imports an ONNX model.
    ///
    /// # Errors
    /// If the file cannot be read or is no valid model.
    pub fn open_onnx(path: impl AsRef<Path>) -> Result<Self, Error> {
        Ok(OnnxModel::open(path.as_ref())?.model)
    }
}

/// Quantizes an ONNX model from file to file. Nothing is written unless everything succeeds.
///
/// # Errors
/// If the model or the data cannot be read or used, or the output cannot be written.
pub fn quantize_onnx(options: &QuantizeOptions, progress: &dyn Progress) -> Result<Summary, Error> {
    quantize(&OnnxModel::open(&options.model)?, options, progress)
}

/// Whether the content of a plan file can be carried out on an ONNX model.
///
/// # Errors
/// If it is no plan, or does not fit the model; messages name the file `path`.
pub fn check_plan(model: &Model, target: &TargetOptions, path: &Path, plan: &[u8]) -> Result<(), Error> {
    let prescription = Prescription::parse(path, plan)?;
    let (recipe, options) = (recipe(target)?, RecipeOptions::default());
    let job =
        Job { model, recipe: &recipe, runtime: &Simulated, options: &options, data: None, labelled: None, threads: 1 };
    prescribed(&job, &prescription).map(drop)
}

/// Exports a model of another format and quantizes it as ONNX.
///
/// # Errors
/// If ONNX cannot express it, or as [`quantize_onnx()`].
pub(crate) fn quantize_graph(
    model: &Model,
    options: &QuantizeOptions,
    progress: &dyn Progress,
) -> Result<Summary, Error> {
    let name = model.path().file_stem().map_or_else(String::new, |s| s.to_string_lossy().into_owned());
    let bytes = export(model.graph(), &name)?;
    let exported = OnnxModel::from_source(SourceFile::from_bytes(model.path(), bytes))?;
    let mut summary = quantize(&exported, options, progress)?;
    summary.exported = true;
    summary.warnings.splice(0..0, model.problems().iter().cloned());
    Ok(summary)
}

fn quantize(model: &OnnxModel, options: &QuantizeOptions, progress: &dyn Progress) -> Result<Summary, Error> {
    let settled = decide(model, options, progress)?;
    let accuracy = settled.judged(&options.model, thread_count(options.threads), progress)?;
    let output = model.verified(&settled, options.target.form, &options.output)?;
    let bytes_after = output.encoded.byte_count();
    let statistics = settled.evidence.as_ref().zip(options.save_statistics.as_ref());
    let statistics = statistics.map(|(evidence, path)| {
        let file = evidence.to_file(&settled.graph, model.fingerprint()?);
        Ok::<_, Error>((path.clone(), file.encode()))
    });
    let written = write(options, &settled, statistics.transpose()?, output)?;
    Ok(summary::of(&model.model, &settled, &options.recipe, accuracy, written, Some(bytes_after)))
}

fn decide(model: &OnnxModel, options: &QuantizeOptions, progress: &dyn Progress) -> Result<Settled, Error> {
    let threads = thread_count(options.threads);
    let recipe = recipe(&options.target)?;
    if recipe.stores_weights_only() && options.recipe.weights == Granularity::PerTensor {
        return Err(idle("--weights per-tensor", "each group has a scale of its own"));
    }
    // Statistics in a file are of the model as it is.
    let may_scale = options.save_statistics.is_none();
    let (smooth, equalize) = (options.recipe.smooth && may_scale, options.recipe.equalize && may_scale);
    let choices = RecipeOptions { smooth, equalize, ..options.recipe.clone() };
    let job = Job {
        model: &model.model,
        recipe: &recipe,
        runtime: &Simulated,
        options: &choices,
        data: options.data.as_ref(),
        labelled: options.labelled.as_ref(),
        threads,
    };
    match (&options.plan, &options.statistics) {
        (Some(plan), _) => prescribed(&job, &Prescription::read(plan)?),
        (None, Some(path)) => recalled(&job, Stored { path, model: model.fingerprint()? }, progress),
        (None, None) => settle(&job, progress),
    }
}

/// Gathers the statistics of one share of the data and writes them; no model is written.
///
/// # Errors
/// If the model or the data cannot be read or used, or the output cannot be written.
pub fn gather_onnx(
    options: &QuantizeOptions,
    shard: Shard,
    output: &Path,
    progress: &dyn Progress,
) -> Result<StatisticsSummary, Error> {
    let opened = OnnxModel::open(&options.model)?;
    let (model, recipe, threads) = (&opened.model, recipe(&options.target)?, thread_count(options.threads));
    let job = Job {
        model,
        recipe: &recipe,
        runtime: &Simulated,
        options: &options.recipe,
        data: options.data.as_ref(),
        labelled: None,
        threads,
    };
    let ready = match prepared(&job)? {
        Prepared::Ready(ready) => ready,
        Prepared::Untouched(untouched) => return Err(nothing_quantized(model, &untouched.graph, &untouched.plan)),
    };
    let data = ready.samples(&job)?;
    let (graph, observed) = (&ready.graph, ready.selection.observed().collect());
    let split = Split::for_recipe(data.runs(), &options.recipe);
    let evidence = Evidence::gather(graph, model.path(), &observed, &data, &split, shard, threads, progress)?;
    let file = evidence.to_file(graph, opened.fingerprint()?);
    let mut outputs = OutputSet::new();
    outputs.add_bytes(output, file.encode());
    outputs.commit()?;
    Ok(StatisticsSummary::of(output, &file))
}

/// The rules for the kind of model asked for.
pub(crate) fn recipe(target: &TargetOptions) -> Result<OnnxRecipe, Error> {
    refuse_idle(target)?;
    let recipe = OnnxRecipe::new(target.form, target.activations, target.symmetric);
    let recipe = recipe.map_err(|source| Error::Target { source })?;
    let recipe = if target.quantize_results { recipe.with_rounded_results() } else { recipe };
    let weights = match (target.weights, target.processor) {
        (WeightBits::Four(group), _) => WeightCodes::U4(group),
        (WeightBits::Eight, Processor::GenericX86) => WeightCodes::I7,
        (WeightBits::Eight, Processor::Exact) => WeightCodes::I8,
    };
    recipe.with_weights(weights).map_err(|source| Error::Target { source })
}

/// Choices about activations say nothing where activations stay in fp32.
fn refuse_idle(target: &TargetOptions) -> Result<(), Error> {
    if target.weights == WeightBits::Eight {
        return Ok(());
    }
    let choices = [
        (target.activations != ActivationCodes::default(), "--activations"),
        (target.symmetric, "--symmetric-activations"),
        (target.quantize_results, "--quantize-outputs"),
        (target.processor != Processor::default(), "--isa"),
    ];
    match choices.into_iter().find(|(given, _)| *given) {
        None => Ok(()),
        Some((_, option)) => Err(idle(option, "activations stay in fp32, and nothing computes on integers")),
    }
}

fn idle(option: &str, why: &str) -> Error {
    Error::Conflict { first: "`--weight-bits 4`".into(), second: format!("`{option}`"), why: why.into() }
}

fn write(
    options: &QuantizeOptions,
    settled: &Settled,
    statistics: Option<(PathBuf, Vec<u8>)>,
    output: Output<'_>,
) -> Result<Vec<PathBuf>, Error> {
    let Output { encoded, data } = output;
    let encoded = &encoded;
    let mut outputs = OutputSet::new();
    if let Some(path) = &options.emit_plan {
        outputs.add_bytes(path, plan_file::bytes(settled, &options.model, &options.recipe, path)?);
    }
    let saved = statistics.map(|(path, bytes)| {
        outputs.add_bytes(&path, bytes);
        path
    });
    if let Some(Place::Free(path)) = &data {
        outputs.add_writer(path, |out| encoded.write_data_to(out));
    }
    outputs.add_writer(&options.output, |out| encoded.write_to(out));
    outputs.commit()?;
    let mut written = vec![options.output.clone()];
    written.extend(data.map(|place| place.path().to_owned()));
    written.extend(options.emit_plan.clone());
    written.extend(saved);
    Ok(written)
}

/// A model with a plan, run in simulation.
pub struct Simulation {
    program: Program,
    inputs: Vec<ValueId>,
    model: PathBuf,
}

impl Simulation {
    /// The simulated outputs for one set of inputs, in the model's order.
    ///
    /// # Errors
    /// If the inputs do not fit the model.
    pub fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, Error> {
        let fed: Vec<_> = self.inputs.iter().copied().zip(inputs.iter().cloned()).collect();
        let outputs = Session::new(&self.program).run(&fed, &mut ());
        outputs.map_err(|source| Error::exec(&self.model, source))
    }
}

/// Makes the plan that [`quantize_onnx()`] would write and returns its simulation; writes nothing.
///
/// # Errors
/// As [`quantize_onnx()`], but for the output.
pub fn simulate_onnx(options: &QuantizeOptions, progress: &dyn Progress) -> Result<Simulation, Error> {
    let Settled { graph, plan, .. } = decide(&OnnxModel::open(&options.model)?, options, progress)?;
    let failed = |source| Error::exec(&options.model, source);
    let program = Program::simulate(&graph, graph.outputs(), &plan).map_err(failed)?;
    Ok(Simulation { program, inputs: graph.inputs().to_vec(), model: options.model.clone() })
}
