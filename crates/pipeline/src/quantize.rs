//! The main job on ONNX: open, import, fold, select, calibrate, plan, check, write, verify.

use crate::accuracy::compare;
use crate::calibrate::calibrate;
use crate::data::Data;
use crate::error::Error;
use crate::model::{ConstantEvaluator, Model};
use crate::options::{QuantizeOptions, thread_count};
use crate::plan_file;
use crate::planning::{Planned, make_plan};
use crate::progress::Progress;
use crate::selection::matching;
use crate::summary::{self, Summary};
use crate::unknown::Unknown;
use quantize_document::OutputSet;
use quantize_exec::Program;
use quantize_ir::{Decision, Graph, KeepReason, NodeId, NodePlan, QuantPlan, ValueId};
use quantize_numerics::Range;
use quantize_onnx::{Encoded, QdqRecipe};
use quantize_passes::{Preparation, prepare};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Samples on which the simulated int8 model is compared with fp32.
const CHECKED_SAMPLES: usize = 8;

/// Quantizes an ONNX model from file to file. Nothing is written unless everything succeeds.
///
/// # Errors
/// If the model or the data cannot be read or used, or the output cannot be written.
pub fn quantize_onnx(options: &QuantizeOptions, progress: &dyn Progress) -> Result<Summary, Error> {
    let model = Model::open(&options.model)?;
    let decided = decide(&model, options, progress)?;
    let encoded = model.encode(&decided.graph, &decided.plan)?;
    model.verify(&encoded, &options.output)?;
    let bytes_after = encoded.byte_count();
    let written = write(options, &decided, encoded)?;
    let mut warnings: Vec<String> = model.problems().to_vec();
    warnings.extend(decided.warnings);
    Ok(Summary {
        written,
        bytes_before: model.file_bytes(),
        bytes_after,
        images: decided.images,
        preprocessing: decided.preprocessing,
        range: options.recipe.range.to_string(),
        quantized: summary::quantized(&decided.graph, &decided.plan),
        folded: model.graph().nodes().count() - kept_or_quantized(&decided.plan),
        kept: summary::kept(&decided.graph, &decided.plan),
        worst: summary::worst(&decided.graph, &decided.plan),
        accuracy: decided.accuracy,
        warnings,
        log: decided.log,
    })
}

fn kept_or_quantized(plan: &QuantPlan) -> usize {
    plan.nodes.values().filter(|n| !matches!(n.decision, Decision::Absorbed { .. })).count()
}

/// A model with a plan, run in simulation.
pub struct Simulation {
    program: Program,
    inputs: Vec<ValueId>,
    model: std::path::PathBuf,
}

impl Simulation {
    /// The simulated outputs for one set of inputs, in the model's order.
    ///
    /// # Errors
    /// If the inputs do not fit the model.
    pub fn run(&self, inputs: &[quantize_ir::Tensor]) -> Result<Vec<quantize_ir::Tensor>, Error> {
        let fed: Vec<_> = self.inputs.iter().copied().zip(inputs.iter().cloned()).collect();
        let outputs = quantize_exec::Session::new(&self.program).run(&fed, &mut ());
        outputs.map_err(|source| Error::exec(&self.model, source))
    }
}

/// Makes the plan that [`quantize_onnx()`] would write and returns its simulation; writes nothing.
///
/// # Errors
/// As [`quantize_onnx()`], but for the output.
pub fn simulate_onnx(options: &QuantizeOptions, progress: &dyn Progress) -> Result<Simulation, Error> {
    let model = Model::open(&options.model)?;
    let decided = decide(&model, options, progress)?;
    let failed = |source| Error::exec(&options.model, source);
    let program = Program::simulate(&decided.graph, decided.graph.outputs(), &decided.plan).map_err(failed)?;
    Ok(Simulation { program, inputs: decided.graph.inputs().to_vec(), model: options.model.clone() })
}

/// Everything that is known once the plan stands.
struct Decided {
    graph: Graph,
    plan: QuantPlan,
    images: usize,
    preprocessing: String,
    accuracy: Option<crate::accuracy::Accuracy>,
    warnings: Vec<String>,
    log: Vec<String>,
}

impl Decided {
    /// Nothing is quantized, so nothing is folded, calibrated or changed.
    fn untouched(graph: Graph, nodes: BTreeMap<NodeId, NodePlan>) -> Self {
        let plan = QuantPlan { nodes, ..QuantPlan::default() };
        Self {
            graph,
            plan,
            images: 0,
            preprocessing: String::new(),
            accuracy: None,
            warnings: Vec::new(),
            log: Vec::new(),
        }
    }
}

fn decide(model: &Model, options: &QuantizeOptions, progress: &dyn Progress) -> Result<Decided, Error> {
    let path = &options.model;
    let skip = matching(model.graph(), &options.recipe.skip)?;
    if skip.len() == model.graph().nodes().count() && !options.recipe.skip.is_empty() {
        let skipped = NodePlan { decision: Decision::Keep(KeepReason::Skipped) };
        let nodes = skip.iter().map(|id| (*id, skipped.clone())).collect();
        return Ok(Decided::untouched(model.graph().clone(), nodes));
    }
    let broken = |source| Error::pass(path, source);
    let mut folded = model.graph().clone();
    quantize_passes::constant::fold_constants(&mut folded, &ConstantEvaluator).map_err(broken)?;
    let Preparation { graph, selection, mut log } = prepare(&folded, &QdqRecipe, &skip).map_err(broken)?;
    let quantized = selection.decisions.values().filter(|d| **d == Decision::Quantize).count();
    if quantized == 0 {
        let nodes = selection.decisions.into_iter().map(|(id, decision)| (id, NodePlan { decision })).collect();
        let untouched = Decided::untouched(folded, nodes);
        return if skip.is_empty() { Err(nothing(model, path, &untouched)) } else { Ok(untouched) };
    }
    let data = options.data.as_ref().ok_or(Error::NoData { nodes: quantized })?;
    let data = Data::open(data, &graph, path)?;
    let threads = thread_count(options.threads);
    let observed: BTreeSet<ValueId> = selection.observed().collect();
    let unknown = Unknown::of(&graph).map_err(|source| Error::graph(path, source))?;
    unknown.refuse(&graph, path, &|id| selection.quantizes(id))?;
    let statistics = calibrate(&graph, path, &observed, &data, threads, progress)?;
    let (lo, hi) = data.preprocess().possible_range()?;
    let input_range = Range::new(lo, hi).ok().map(|range| (data.input(), range));
    let Planned { plan, remarks } =
        make_plan(&graph, path, &selection, &statistics, &QdqRecipe, &options.recipe, input_range)?;
    log.extend(absorbed(&graph, &plan));
    let mut warnings: Vec<String> = data.assumed().map(str::to_owned).into_iter().collect();
    warnings.extend(not_finite(&graph, &data, &statistics));
    warnings.extend(remarks);
    drop(statistics);
    let targets = unknown.computable_outputs(&graph);
    let accuracy = check(&graph, path, &targets, &plan, &data, threads, progress)?;
    Ok(Decided {
        images: data.len(),
        preprocessing: data.preprocess().to_string(),
        accuracy: Some(accuracy),
        warnings,
        log,
        graph,
        plan,
    })
}

/// Log entries for activations that vanish into a saturation.
fn absorbed(graph: &Graph, plan: &QuantPlan) -> Vec<String> {
    let entry = |(id, node): (&NodeId, &NodePlan)| match node.decision {
        Decision::Absorbed { into } => {
            Some(format!("absorb: `{}` is the saturation of `{}`", graph.label(*id), graph.label(into)))
        }
        _ => None,
    };
    plan.nodes.iter().filter_map(entry).collect()
}

fn check(
    graph: &Graph,
    path: &Path,
    targets: &[ValueId],
    plan: &QuantPlan,
    data: &Data,
    threads: usize,
    progress: &dyn Progress,
) -> Result<crate::accuracy::Accuracy, Error> {
    let failed = |source| Error::exec(path, source);
    let reference = Program::compile(graph, targets).map_err(failed)?;
    let simulated = Program::simulate(graph, targets, plan).map_err(failed)?;
    compare(graph, path, targets, (&reference, &simulated), data, CHECKED_SAMPLES, threads, progress)
}

fn not_finite(graph: &Graph, data: &Data, statistics: &quantize_calib::Statistics) -> Vec<String> {
    let message = |(value, count, image): (ValueId, u64, u64)| {
        let (tensor, image) = (&graph.value(value).name, data.name(image));
        format!(
            "activation `{tensor}`: {count} values are NaN or infinite and were left out, first with image `{image}`"
        )
    };
    statistics.not_finite().map(message).collect()
}

fn nothing(model: &Model, path: &Path, untouched: &Decided) -> Error {
    let kept = summary::kept(&untouched.graph, &untouched.plan);
    let kept = kept.into_iter().map(|k| format!("{} {}: {}", k.nodes.len(), k.op, k.reason));
    let reasons = model.problems().iter().cloned().chain(kept).collect();
    Error::NothingToQuantize { model: path.to_owned(), reasons }
}

fn write(options: &QuantizeOptions, decided: &Decided, encoded: Encoded<'_>) -> Result<Vec<std::path::PathBuf>, Error> {
    let mut outputs = OutputSet::new();
    if let Some(path) = &options.emit_plan {
        let model = options.model.display().to_string();
        let json = plan_file::to_json(&decided.graph, &decided.plan, &model, &options.recipe.range.to_string());
        let json = json.map_err(|e| Error::Verification { path: path.clone(), cause: e.to_string() })?;
        outputs.add_bytes(path, json.into_bytes());
    }
    outputs.add_writer(&options.output, move |out| encoded.write_to(out));
    outputs.commit()?;
    let mut written = vec![options.output.clone()];
    written.extend(options.emit_plan.clone());
    Ok(written)
}
