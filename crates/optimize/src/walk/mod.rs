//! The walk: every layer in turn, with all samples at once, in both branches.
//!
//! At each layer the quantized branch holds what the runtime will hold there, because all layers before it are final.
//! The layer gets its codes, then its gain, then its bias, each measured with what came before; then both branches go
//! on to the next layer. Samples join as soon as what lies between two layers is small enough for all of them, so that
//! memory is bounded whatever their number and size.
//!
//! What lives here: the way through the layers and the two branches. [`admission`] takes samples in, [`codes`] gives a
//! layer codes that keep its result, [`correct`] its gain and its bias.

mod admission;
mod codes;
mod correct;
#[cfg(test)]
mod tests;

use crate::error::OptimizeError;
use crate::layer::{Layer, WEIGHT};
use crate::live::Image;
use crate::moments::Moments;
use crate::route::{Stage, stages};
use quantize_exec::{Constants, Program, Session};
use quantize_ir::{ActivationPlan, Graph, NodeId, QuantPlan, Tensor, ValueId};
use quantize_parallel::{Progress, Silent, for_each};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

/// Samples for a walk, each fed on its own.
pub trait Samples: Sync {
    /// What goes wrong.
    type Error: Send;

    /// Number of samples.
    fn count(&self) -> usize;

    /// The values to feed for one of them.
    ///
    /// # Errors
    /// If the sample cannot be read.
    fn sample(&self, index: usize) -> Result<Vec<(ValueId, Tensor)>, Self::Error>;

    /// How the caller says that the walk failed.
    fn failed(&self, error: OptimizeError) -> Self::Error;
}

/// What a walk does at each layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Steps {
    /// Codes that keep the layer's result.
    pub rounding: bool,
    /// Gains on weight scales.
    pub gain: bool,
    /// Shifts of biases.
    pub bias: bool,
}

/// What layers are measured on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerInputs {
    /// What the layers before make of the samples on integers, so that errors of all of them are answered.
    Rounded,
    /// What they make of them in fp32: only errors of the layer's own weights are answered, which few samples show.
    Real,
}

/// How a walk is done.
#[derive(Clone, Copy, Debug)]
pub struct WalkOptions<'a> {
    /// What it does.
    pub steps: Steps,
    /// Layers that stay as the plan has them.
    pub fixed: &'a BTreeSet<NodeId>,
    /// What a layer's result is measured on.
    pub inputs: LayerInputs,
    /// Whether biases are 32-bit codes in the plan.
    pub coded_bias: bool,
    /// Where constants are while more than one stage runs; those of one stage are in memory.
    pub constants: Constants,
    /// Threads, at least 1.
    pub threads: usize,
}

/// What a walk did to one layer.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerChange {
    /// The layer's node, as messages name it.
    pub node: String,
    /// Samples it was measured with.
    pub images: usize,
    /// Weights whose code is not the nearest.
    pub codes: usize,
    /// Slope of the quantized result over the fp32 one, before the gain.
    pub slope: f64,
    /// Smallest and largest gain.
    pub gains: (f64, f64),
    /// Signal to noise of the result before gain and shift, in dB; infinite if there is no noise.
    pub before_db: f64,
    /// The same after them.
    pub after_db: f64,
}

/// A graph and a plan after a walk.
#[derive(Clone, Debug)]
pub struct Walked {
    /// The graph, with biases as they are now.
    pub graph: Graph,
    /// The plan, with codes and scales as they are now.
    pub plan: QuantPlan,
    /// What happened to each layer, in the order of the walk.
    pub changes: Vec<LayerChange>,
}

impl Walked {
    /// `plan`, from which the walk started, with the codes that weights have now.
    pub fn codes_on(&self, plan: &QuantPlan) -> QuantPlan {
        let mut plan = plan.clone();
        for (key, entry) in plan.weights.iter_mut().filter(|((_, slot), _)| *slot == WEIGHT) {
            if let Some(now) = self.plan.weights.get(key) {
                entry.codes.clone_from(&now.codes);
            }
        }
        plan
    }
}

/// Walks through the layers of `graph` that `plan` quantizes and that `targets` depend on, but for fixed ones, and answers
/// what rounding does there. The same for any number of threads.
///
/// # Errors
/// If the network cannot be run, or a sample cannot be read.
pub fn walk<S: Samples>(
    graph: &Graph,
    plan: &QuantPlan,
    targets: &[ValueId],
    samples: &S,
    options: &WalkOptions<'_>,
    progress: &dyn Progress,
) -> Result<Walked, S::Error> {
    let fail = |e: OptimizeError| samples.failed(e);
    let stages = stages(graph, plan, targets, options.fixed).map_err(fail)?;
    let walked = Walked { graph: graph.clone(), plan: plan.clone(), changes: Vec::new() };
    if stages.is_empty() || samples.count() == 0 {
        return Ok(walked);
    }
    let mut walker = Walker { reference: graph, samples, options, walked, images: Vec::new(), room: Vec::new() };
    walker.room = walker.measure_room(&stages)?;
    progress.begin("correcting", stages.len());
    for (index, stage) in stages.iter().enumerate() {
        walker.admit(index, stage)?;
        walker.pass(stage)?;
        progress.step();
    }
    progress.end();
    Ok(walker.walked)
}

/// Weights of more elements than this are in memory as reals in one branch at a time; what follows from them then is
/// kept for all samples, which is small beside them.
const LARGE: usize = 16 << 20;

struct Walker<'a, S> {
    /// The graph that the fp32 branch runs.
    reference: &'a Graph,
    samples: &'a S,
    options: &'a WalkOptions<'a>,
    walked: Walked,
    images: Vec<Mutex<Image>>,
    /// Samples that fit at each stage.
    room: Vec<usize>,
}

impl<S: Samples> Walker<'_, S> {
    fn fail(&self, error: impl Into<OptimizeError>) -> S::Error {
        self.samples.failed(error.into())
    }

    fn pass(&mut self, stage: &Stage) -> Result<(), S::Error> {
        let computed: Vec<ValueId> = stage.after.iter().copied().filter(|v| !stage.before.contains(v)).collect();
        match &stage.layer {
            None => {
                self.advance_reals(stage, &computed, None)?;
            }
            Some(layer) => {
                let codes = if self.options.steps.rounding { self.round(layer)? } else { 0 };
                let images = self.advance_reals(stage, &computed, Some(layer))?;
                let change = self.correct(layer, codes, &images).map_err(|e| self.fail(e))?;
                self.walked.changes.push(change);
            }
        }
        self.advance_rounded(stage, &computed)
    }

    /// Takes the fp32 branch through a stage; the moments of the layer's result in both branches, for each sample.
    fn advance_reals(
        &self,
        stage: &Stage,
        computed: &[ValueId],
        layer: Option<&Layer>,
    ) -> Result<Vec<Moments>, S::Error> {
        let mut targets = computed.to_vec();
        targets.extend(layer.map(|l| l.result).filter(|v| !computed.contains(v)));
        let alone = layer.filter(|layer| self.is_large(layer)).map(|layer| self.probed(layer)).transpose()?;
        let segment =
            Program::segment(self.reference, &stage.before, &targets, &QuantPlan::default(), Constants::Resident);
        let segment = segment.map_err(|e| self.fail(e))?;
        let beside = layer.filter(|_| alone.is_none());
        let probe = beside.map(|layer| self.probe(layer)).transpose().map_err(|e| self.fail(e))?;
        let init = || (Session::new(&segment), probe.as_ref().map(Session::new), Vec::new());
        let work = |real: &mut Session<'_>, probe: Option<&mut Session<'_>>, index: usize| {
            let mut image = self.images[index].lock().unwrap_or_else(PoisonError::into_inner);
            let values = real.run(&image.reals, &mut ())?;
            let at = |layer: &Layer| targets.iter().position(|v| *v == layer.result).unwrap_or_default();
            let moments = match (layer, &alone, probe) {
                (Some(layer), Some(alone), _) => moments(layer, &values[at(layer)], &alone[index])?,
                (Some(layer), None, Some(probe)) => {
                    let found = self.run_probe(probe, layer, &image)?;
                    let moments = moments(layer, &values[at(layer)], &found[0])?;
                    probe.recycle(found);
                    moments
                }
                _ => Moments::default(),
            };
            image.advance_reals(&targets, values, &stage.after);
            Ok::<_, OptimizeError>(moments)
        };
        let found = for_each(self.images.len(), self.options.threads, &Silent, init, |(real, probe, found), index| {
            found.push((index, work(real, probe.as_mut(), index).map_err(|e| self.fail(e))?));
            Ok(())
        })?;
        let mut found: Vec<_> = found.into_iter().flat_map(|(_, _, found)| found).collect();
        found.sort_by_key(|(index, _)| *index);
        Ok(found.into_iter().map(|(_, moments)| moments).collect())
    }

    /// The layer alone, as the plan computes it, with its result before it is rounded.
    fn probe(&self, layer: &Layer) -> Result<Program, OptimizeError> {
        let Walked { graph, plan, .. } = &self.walked;
        let entry = |value: ValueId| Some((value, plan.activations.get(&value)?.clone()));
        let rounded = (self.options.inputs == LayerInputs::Rounded).then(|| entry(layer.input)).flatten();
        let activations: BTreeMap<ValueId, ActivationPlan> = rounded.into_iter().collect();
        let weights = plan.weights.range((layer.node, 0)..=(layer.node, usize::MAX));
        let weights = weights.map(|(key, entry)| (*key, entry.clone())).collect();
        let plan = QuantPlan { activations, weights, ..QuantPlan::default() };
        Ok(Program::segment(graph, &[layer.input], &[layer.result], &plan, Constants::Resident)?)
    }

    /// Whether a layer's weights are not to be in memory in both branches at once.
    fn is_large(&self, layer: &Layer) -> bool {
        let weight = self.reference.value(layer.weight).constant.as_ref();
        weight.is_some_and(|w| w.shape().iter().product::<usize>() > LARGE)
    }

    /// The layer's result as the plan computes it, for each sample.
    fn probed(&self, layer: &Layer) -> Result<Vec<Tensor>, S::Error> {
        let probe = self.probe(layer).map_err(|e| self.fail(e))?;
        let init = || (Session::new(&probe), Vec::new());
        let found = for_each(self.images.len(), self.options.threads, &Silent, init, |(probe, found), index| {
            let image = self.images[index].lock().unwrap_or_else(PoisonError::into_inner);
            let result = self.run_probe(probe, layer, &image).map_err(|e| self.fail(e))?;
            found.push((index, result));
            Ok(())
        })?;
        let mut found: Vec<_> = found.into_iter().flat_map(|(_, found)| found).collect();
        found.sort_by_key(|(index, _)| *index);
        Ok(found.into_iter().flat_map(|(_, result)| result).collect())
    }

    fn run_probe(&self, probe: &mut Session<'_>, layer: &Layer, image: &Image) -> Result<Vec<Tensor>, OptimizeError> {
        Ok(match self.options.inputs {
            LayerInputs::Rounded => probe.run(&image.fed(&[layer.input])?, &mut ())?,
            LayerInputs::Real => probe.run(&image.reals, &mut ())?,
        })
    }

    /// Takes the quantized branch through a stage.
    fn advance_rounded(&self, stage: &Stage, computed: &[ValueId]) -> Result<(), S::Error> {
        let Walked { graph, plan, .. } = &self.walked;
        let segment =
            Program::segment(graph, &stage.before, computed, plan, Constants::Resident).map_err(|e| self.fail(e))?;
        let init = || Session::new(&segment);
        for_each(self.images.len(), self.options.threads, &Silent, init, |session, index| {
            let mut image = self.images[index].lock().unwrap_or_else(PoisonError::into_inner);
            let values = if computed.is_empty() {
                Vec::new()
            } else {
                let fed = image.fed(&stage.before).map_err(|e| self.fail(e))?;
                session.run(&fed, &mut ()).map_err(|e| self.fail(e))?
            };
            image.advance_rounded(computed, values, &stage.after, (&self.walked.graph, plan));
            Ok(())
        })?;
        Ok(())
    }
}

fn moments(layer: &Layer, real: &Tensor, rounded: &Tensor) -> Result<Moments, OptimizeError> {
    let found = Moments::of(real.as_slice()?, rounded.as_slice()?, real.shape(), layer.channel_axis);
    let unfit =
        || OptimizeError::layer(&layer.label, format!("a result of shape {:?} has not its channels", real.shape()));
    found.filter(|found| found.0.len() == layer.channels).ok_or_else(unfit)
}
