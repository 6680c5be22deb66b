//! The steps every format shares, from an imported model to a plan: fold, select, calibrate, plan.

use crate::accuracy::{Accuracy, Judges, Runtime, Simulated, Trial};
use crate::channels::{ScaledChannels, contested, drafted};
use crate::data::Data;
use crate::error::Error;
use crate::evidence::Evidence;
use crate::improve::{Improvement, Split, Workshop};
use crate::model::{ConstantEvaluator, Model};
use crate::options::{DataOptions, InputRange, LabelledOptions, RecipeOptions, WeightRounding};
use crate::plan_file::Prescription;
use crate::planning::{Parameters, Planned, make_plan};
use crate::search::{self, TargetOutcome};
use crate::selection::matching;
use crate::summary;
use crate::unknown::Unknown;
use quantize_calib::Fingerprint;
use quantize_ir::{Decision, Graph, KeepReason, NodeId, NodePlan, QuantPlan, Recipe, ValueId};
use quantize_parallel::Progress;
use quantize_passes::scaled::{Scaled, scale};
use quantize_passes::{Preparation, Selection, prepare, select};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// A model to quantize for a target.
pub(crate) struct Job<'a> {
    pub(crate) model: &'a Model,
    pub(crate) recipe: &'a dyn Recipe,
    /// What judges plans.
    pub(crate) runtime: &'a dyn Runtime,
    pub(crate) options: &'a RecipeOptions,
    pub(crate) data: Option<&'a DataOptions>,
    /// Labelled samples, for a bound on the loss of accuracy.
    pub(crate) labelled: Option<&'a LabelledOptions>,
    pub(crate) threads: usize,
}

/// A file of statistics, and the model it must be about.
#[derive(Clone, Copy)]
pub(crate) struct Stored<'a> {
    pub(crate) path: &'a Path,
    pub(crate) model: Fingerprint,
}

impl Job<'_> {
    /// The samples for `graph`, if there are any.
    fn open_data(&self, graph: &Graph) -> Result<Option<Data>, Error> {
        self.data.map(|data| Data::open(data, graph, self.model.path())).transpose()
    }
}

/// A model with its plan.
pub(crate) struct Settled {
    /// The graph after folding and corrections.
    pub(crate) graph: Graph,
    /// The graph before corrections, if there were any: what computes in fp32 what the model did.
    pub(crate) reference: Option<Graph>,
    pub(crate) plan: QuantPlan,
    /// Samples to judge the plan by, if there are any.
    pub(crate) data: Option<Data>,
    /// What the plan was made from; `None` if nothing was calibrated.
    pub(crate) evidence: Option<Evidence>,
    /// Values that show what quantization costs.
    pub(crate) targets: Vec<ValueId>,
    /// Samples held back to judge the plan by.
    pub(crate) judges: Option<Judges>,
    /// What came of a target of accuracy.
    pub(crate) outcome: Option<TargetOutcome>,
    /// What running the network made better.
    pub(crate) improvement: Option<Improvement>,
    /// The plan judged, if it was already.
    pub(crate) accuracy: Option<Accuracy>,
    /// Channels that are scaled.
    pub(crate) channels: ScaledChannels,
    pub(crate) warnings: Vec<String>,
    pub(crate) log: Vec<String>,
}

impl Settled {
    /// Nothing is quantized, so nothing is folded, calibrated or changed.
    fn untouched(graph: Graph, nodes: BTreeMap<NodeId, NodePlan>) -> Self {
        let plan = QuantPlan { nodes, ..QuantPlan::default() };
        Self {
            graph,
            reference: None,
            plan,
            data: None,
            evidence: None,
            targets: Vec::new(),
            judges: None,
            outcome: None,
            improvement: None,
            accuracy: None,
            channels: ScaledChannels::default(),
            warnings: Vec::new(),
            log: Vec::new(),
        }
    }

    /// The plan, simulated, against fp32 on a few samples, held back ones if there are any; `None` without samples.
    ///
    /// # Errors
    /// If the network cannot be run.
    pub(crate) fn judged(
        &self,
        model: &Path,
        threads: usize,
        progress: &dyn Progress,
    ) -> Result<Option<Accuracy>, Error> {
        let Some(data) = &self.data else { return Ok(None) };
        if let Some(accuracy) = &self.accuracy {
            return Ok(Some(accuracy.clone()));
        }
        let judges = self.judges.clone().unwrap_or_else(|| Judges::first_of(data));
        let Self { reference, graph, targets, plan, .. } = self;
        let reference = reference.as_ref().unwrap_or(graph);
        let trial = Trial { reference, model, targets, data, judges: &judges, threads, progress };
        let mut found = Simulated.accuracy(&trial, &[(graph, plan)])?;
        Ok(found.pop())
    }

    fn rounds_activations(&self) -> bool {
        !self.plan.activations.is_empty()
    }

    /// Runs the network to make the plan better.
    fn improve(&mut self, job: &Job<'_>, split: &Split, progress: &dyn Progress) -> Result<(), Error> {
        let Some(data) = &self.data else { return Ok(()) };
        let workshop = Workshop {
            model: job.model.path(),
            data,
            split,
            targets: &self.targets,
            recipe: job.recipe,
            runtime: job.runtime,
            threads: job.threads,
        };
        let improved = workshop.improve(&self.graph, &self.plan, &job.options.correction, progress)?;
        self.reference = Some(std::mem::replace(&mut self.graph, improved.graph));
        (self.plan, self.improvement) = (improved.plan, Some(improved.report));
        self.accuracy = Some(improved.accuracy);
        self.log.extend(improved.log);
        Ok(())
    }
}

/// A model ready for calibration, or one of which nothing is quantized.
pub(crate) enum Prepared {
    Ready(Box<Ready>),
    Untouched(Box<Settled>),
}

/// A model ready for calibration.
pub(crate) struct Ready {
    pub(crate) graph: Graph,
    pub(crate) selection: Selection,
    /// Values that show what quantization costs.
    pub(crate) targets: Vec<ValueId>,
    /// Nodes that stay as they are.
    pub(crate) skip: BTreeSet<NodeId>,
    /// Channels that are scaled.
    pub(crate) channels: ScaledChannels,
    pub(crate) log: Vec<String>,
}

impl Ready {
    /// Whether the plan follows from the model alone: no activation becomes codes, and weights become the nearest ones.
    fn needs_no_samples(&self, job: &Job<'_>) -> bool {
        let rounds_to_nearest = job.options.correction.rounding == WeightRounding::Nearest;
        self.selection.observed().next().is_none() && rounds_to_nearest && job.options.target.is_none()
    }

    /// The same with more channels scaled.
    ///
    /// # Errors
    /// If an entry does not fit the graph.
    pub(crate) fn scaled(&self, job: &Job<'_>, scaled: Vec<Scaled>) -> Result<Self, Error> {
        let Self { graph, targets, skip, channels, log, .. } = self;
        let (mut graph, mut channels, mut log) = (graph.clone(), channels.clone(), log.clone());
        let selection = with_scaled(job, &mut graph, skip, &scaled, &mut log)?;
        channels.scaled.extend(scaled);
        Ok(Self { graph, selection, targets: targets.clone(), skip: skip.clone(), channels, log })
    }

    /// Values that statistics are needed of: with a target, of all that may get parameters of their own if another
    /// layer goes back to fp32.
    pub(crate) fn observed(&self, job: &Job<'_>) -> BTreeSet<ValueId> {
        match job.options.target {
            None => self.selection.observed().collect(),
            Some(_) => self.selection.activations().collect(),
        }
    }

    /// The samples to calibrate it with.
    ///
    /// # Errors
    /// If there are none, or they cannot be used.
    pub(crate) fn samples(&self, job: &Job<'_>) -> Result<Data, Error> {
        let nodes = self.selection.decisions.values().filter(|d| d.codes_constants()).count();
        let only_weights = self.selection.observed().next().is_none();
        job.open_data(&self.graph)?.ok_or(Error::NoData { nodes, only_weights })
    }
}

/// Makes the plan for a model from its data.
///
/// # Errors
/// If the options do not fit the model, nothing can be quantized, or the data cannot be used.
pub(crate) fn settle(job: &Job<'_>, progress: &dyn Progress) -> Result<Settled, Error> {
    match prepared(job)? {
        Prepared::Ready(ready) if job.data.is_none() && ready.needs_no_samples(job) => {
            planned(job, *ready, Evidence::none(), None, progress)
        }
        Prepared::Ready(ready) => {
            let data = ready.samples(job)?;
            calibrated(job, *ready, data, progress)
        }
        Prepared::Untouched(settled) => Ok(*settled),
    }
}

/// Makes the plan for a model from statistics that exist; data only serve a check.
///
/// # Errors
/// As [`settle`], or if the statistics cannot be used.
pub(crate) fn recalled(job: &Job<'_>, stored: Stored<'_>, progress: &dyn Progress) -> Result<Settled, Error> {
    match prepared(job)? {
        Prepared::Ready(ready) => {
            let data = job.open_data(&ready.graph)?;
            let observed = ready.observed(job);
            let evidence = Evidence::read(stored.path, &ready.graph, stored.model, &observed)?;
            search::meet(job, planned(job, *ready, evidence, data, progress)?, progress)
        }
        Prepared::Untouched(settled) => Ok(*settled),
    }
}

/// Everything before calibration.
///
/// # Errors
/// As [`settle`].
pub(crate) fn prepared(job: &Job<'_>) -> Result<Prepared, Error> {
    search::check(job)?;
    prepared_without(job, &BTreeSet::new(), &ScaledChannels::default())
}

/// Everything before calibration, with more nodes left in fp32 than the options say, and with channels scaled.
///
/// # Errors
/// As [`settle`].
pub(crate) fn prepared_without(
    job: &Job<'_>,
    more: &BTreeSet<NodeId>,
    channels: &ScaledChannels,
) -> Result<Prepared, Error> {
    let (path, imported) = (job.model.path(), job.model.graph());
    let mut skip = matching(imported, &job.options.skip)?;
    skip.extend(more);
    if skip.len() == imported.nodes().count() && !job.options.skip.is_empty() {
        let skipped = NodePlan { decision: Decision::Keep(KeepReason::Skipped) };
        let nodes = skip.iter().map(|id| (*id, skipped.clone())).collect();
        return Ok(Prepared::Untouched(Box::new(Settled::untouched(imported.clone(), nodes))));
    }
    let Preparation { graph, selection, log } = chosen(job.model, job.recipe, &skip)?;
    if !selection.decisions.values().any(Decision::codes_constants) {
        let nodes = selection.decisions.into_iter().map(|(id, decision)| (id, NodePlan { decision })).collect();
        let untouched = Settled::untouched(graph, nodes);
        return if skip.is_empty() {
            Err(nothing_quantized(job.model, &untouched.graph, &untouched.plan))
        } else {
            Ok(Prepared::Untouched(Box::new(untouched)))
        };
    }
    let unknown = Unknown::of(&graph).map_err(|source| Error::graph(path, source))?;
    unknown.refuse(&graph, path, &|id| selection.quantizes(id))?;
    let targets = unknown.targets(&graph);
    let plain = Ready { graph, selection, targets, skip, channels: ScaledChannels::default(), log };
    if channels.scaled.is_empty() {
        return Ok(Prepared::Ready(Box::new(plain)));
    }
    let scaled = plain.scaled(job, channels.scaled.clone())?;
    Ok(Prepared::Ready(Box::new(Ready { channels: channels.clone(), ..scaled })))
}

/// The model's graph with constants folded, prepared with what `recipe` quantizes of it but for `skip`. No data is needed.
///
/// # Errors
/// If a pass fails.
fn chosen(model: &Model, recipe: &dyn Recipe, skip: &BTreeSet<NodeId>) -> Result<Preparation, Error> {
    prepare(constants_folded(model)?, recipe, skip).map_err(|source| Error::pass(model.path(), source))
}

/// The model's graph with everything that is constant computed.
pub(crate) fn constants_folded(model: &Model) -> Result<Graph, Error> {
    let mut folded = model.graph().clone();
    let done = quantize_passes::constant::fold_constants(&mut folded, &mut ConstantEvaluator::of(model));
    done.map_err(|source| Error::pass(model.path(), source))?;
    Ok(folded)
}

/// Everything from calibration on.
///
/// # Errors
/// As [`settle`].
pub(crate) fn calibrated(job: &Job<'_>, ready: Ready, data: Data, progress: &dyn Progress) -> Result<Settled, Error> {
    let split = Split::for_recipe(data.runs(), job.options);
    let draft = drafted(job, ready, &data, &split, progress)?;
    search::meet(job, contested(job, draft, data, &split, progress)?, progress)
}

/// Scales channels, and chooses anew what is quantized.
fn with_scaled(
    job: &Job<'_>,
    graph: &mut Graph,
    skip: &BTreeSet<NodeId>,
    scaled: &[Scaled],
    log: &mut Vec<String>,
) -> Result<Selection, Error> {
    let path = job.model.path();
    for entry in scaled {
        let patch = scale(graph, entry).map_err(|source| Error::pass(path, source))?;
        log.push(format!("{}: {}", patch.pass, patch.because));
        graph.apply(patch).map_err(|source| Error::graph(path, source))?;
    }
    let mut selection = select(graph, job.recipe, skip).map_err(|source| Error::pass(path, source))?;
    let inserted = graph.nodes().map(|(id, _)| id).filter(|id| job.model.graph().node(*id).is_none());
    selection.decisions.extend(inserted.map(|id| (id, Decision::Keep(KeepReason::Scaling))));
    Ok(selection)
}

/// The plan that follows from what is known.
pub(crate) fn planned(
    job: &Job<'_>,
    ready: Ready,
    evidence: Evidence,
    data: Option<Data>,
    progress: &dyn Progress,
) -> Result<Settled, Error> {
    let Ready { graph, selection, targets, channels, mut log, .. } = ready;
    let path = job.model.path();
    let correction = &job.options.correction;
    let split = data.as_ref().map(|data| Split::for_recipe(data.runs(), job.options));
    let unbounded = BTreeMap::new();
    let bounds = if job.options.input == InputRange::Possible { &evidence.bounds } else { &unbounded };
    let parameters = Parameters::Found { statistics: &evidence.statistics, bounds };
    let Planned { plan, remarks } = make_plan(&graph, path, &selection, parameters, job.recipe, job.options)?;
    log.extend(absorbed(&graph, &plan));
    log.extend(data.iter().flat_map(Data::remarks));
    let mut warnings: Vec<String> = data.iter().flat_map(Data::assumed).collect();
    warnings.extend(not_finite(&graph, &evidence));
    warnings.extend(remarks);
    let mut settled = Settled {
        graph,
        reference: None,
        plan,
        data,
        evidence: Some(evidence),
        targets,
        judges: split.as_ref().and_then(Split::judges),
        outcome: None,
        improvement: None,
        accuracy: None,
        channels,
        warnings,
        log,
    };
    match split.filter(|_| !correction.is_none()) {
        Some(split) => settled.improve(job, &split, progress)?,
        None if !correction.is_none() && settled.rounds_activations() => settled
            .warnings
            .push("rounding is not corrected: that needs images, which `--calib` gives, besides statistics".into()),
        None => {}
    }
    Ok(settled)
}

/// Carries out a plan that exists: nothing is calibrated, data only serve a check.
///
/// # Errors
/// If the plan does not fit the model, or the data cannot be used.
pub(crate) fn prescribed(job: &Job<'_>, prescription: &Prescription) -> Result<Settled, Error> {
    let path = job.model.path();
    let mut kept = prescription.kept(job.model.graph())?;
    kept.extend(matching(job.model.graph(), &job.options.skip)?);
    let Preparation { mut graph, mut selection, mut log } = chosen(job.model, job.recipe, &kept)?;
    if !selection.decisions.values().any(Decision::codes_constants) {
        let nodes = selection.decisions.into_iter().map(|(id, decision)| (id, NodePlan { decision })).collect();
        return Ok(Settled::untouched(graph, nodes));
    }
    let channels = ScaledChannels { scaled: prescription.scaled(&graph)?, ..ScaledChannels::default() };
    if !channels.scaled.is_empty() {
        selection = with_scaled(job, &mut graph, &kept, &channels.scaled, &mut log)?;
    }
    let given = prescription.given(&graph, &selection, job.recipe)?;
    let reference = (!given.biases.is_empty()).then(|| graph.clone());
    prescription.set_biases(&mut graph, &given)?;
    let parameters = Parameters::Given(&given);
    let Planned { plan, remarks } = make_plan(&graph, path, &selection, parameters, job.recipe, job.options)?;
    let data = job.open_data(&graph)?;
    let unknown = Unknown::of(&graph).map_err(|source| Error::graph(path, source))?;
    let targets = unknown.targets(&graph);
    log.extend(absorbed(&graph, &plan));
    Ok(Settled {
        graph,
        reference,
        plan,
        data,
        evidence: None,
        targets,
        judges: None,
        outcome: None,
        improvement: None,
        accuracy: None,
        channels,
        warnings: remarks,
        log,
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

fn not_finite(graph: &Graph, evidence: &Evidence) -> Vec<String> {
    let message = |(value, count, image): (ValueId, u64, u64)| {
        let (tensor, image) = (&graph.value(value).name, evidence.name(image));
        format!(
            "activation `{tensor}`: {count} values are NaN or infinite and were left out, first with image `{image}`"
        )
    };
    evidence.statistics.not_finite().map(message).collect()
}

/// The error that nothing in a model can be quantized.
pub(crate) fn nothing_quantized(model: &Model, graph: &Graph, plan: &QuantPlan) -> Error {
    let kept = summary::kept(graph, plan);
    let kept = kept.into_iter().map(|k| format!("{} {}: {}", k.nodes.len(), k.op, k.reason));
    let reasons = model.problems().iter().cloned().chain(kept).collect();
    Error::NothingToQuantize { model: model.path().to_owned(), reasons }
}
