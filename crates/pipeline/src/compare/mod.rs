//! Two models on the same samples, or one and a plan for it: how far their outputs and the values between their layers
//! are apart.
//!
//! What lives here: running both, measuring, and putting the images' measures together in the images' order, so that
//! the result does not depend on the number of threads. [`pairing`] says which values correspond, `measures` what is
//! measured. What does not: the measures' formulas, and how they are shown.

mod measures;
mod pairing;

pub use measures::Difference;

use crate::accuracy::{Simulated, Votes};
use crate::data::Data;
use crate::error::Error;
use crate::memory::{constants_of, threads_for};
use crate::model::{Model, ModelFiles};
use crate::onnx::recipe;
use crate::options::{DataOptions, RecipeOptions, TargetOptions, thread_count};
use crate::plan_file::Prescription;
use crate::settle::{Job, Settled, prescribed};
use measures::{Measured, Totals};
use pairing::{Pair, Pairing};
use quantize_exec::{Observer, OpError, Program, Session, View};
use quantize_ir::{Graph, QuantPlan, Tensor, ValueId};
use quantize_parallel::{Progress, for_each};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// A comparison.
#[derive(Clone, Debug, PartialEq)]
pub struct CompareOptions {
    /// The model that is right by definition.
    pub reference: ModelFiles,
    /// What is compared with it.
    pub other: Other,
    /// Samples and their preprocessing, for both.
    pub data: DataOptions,
    /// Threads; 0 for one for each core.
    pub threads: usize,
}

/// What is compared with a model.
#[derive(Clone, Debug, PartialEq)]
pub enum Other {
    /// Another model.
    Model(ModelFiles),
    /// The simulation of a plan for the model.
    Plan {
        /// The plan file.
        plan: PathBuf,
        /// The kind of model that it was made for.
        target: TargetOptions,
    },
}

/// How far two models are apart.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// Number of samples.
    pub samples: usize,
    /// How they were prepared, in words.
    pub preprocessing: String,
    /// The outputs of `float32`, in the reference's order.
    pub outputs: Vec<OutputDifference>,
    /// Values between the layers, in the order the reference computes them.
    pub layers: Vec<LayerDifference>,
    /// What the caller should know.
    pub warnings: Vec<String>,
}

/// How far an output is apart.
#[derive(Clone, Debug, PartialEq)]
pub struct OutputDifference {
    /// Its name in the reference.
    pub name: String,
    /// The measures.
    pub difference: Difference,
    /// Samples on which the largest score is the same, if the output is a vector of scores.
    pub agreeing: Option<usize>,
}

/// How far a value between layers is apart.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerDifference {
    /// Its name in the reference.
    pub name: String,
    /// The node that computes it there; `None` for an input.
    pub node: Option<String>,
    /// That node's operator, or `input`.
    pub op: String,
    /// The measures.
    pub difference: Difference,
}

impl Comparison {
    /// The `count` layers with the lowest ratio of signal to noise, worst first; of equal ones the earlier.
    pub fn worst(&self, count: usize) -> Vec<&LayerDifference> {
        let mut layers: Vec<&LayerDifference> = self.layers.iter().collect();
        layers.sort_by(|a, b| a.difference.sqnr_db.total_cmp(&b.difference.sqnr_db));
        layers.truncate(count);
        layers
    }
}

/// Runs a model and what is compared with it on the same samples and measures how far they are apart.
///
/// # Errors
/// If a model, the plan or the samples cannot be read or used, or the models have different inputs or no output in
/// common.
pub fn compare(options: &CompareOptions, progress: &dyn Progress) -> Result<Comparison, Error> {
    let reference = options.reference.open()?;
    let data = Data::open(&options.data, reference.graph(), reference.path())?;
    match &options.other {
        Other::Model(files) => {
            let other = files.open()?;
            let pairing = Pairing::of(&reference, &other)?;
            let nothing = QuantPlan::default();
            let second = Subject { graph: other.graph(), plan: &nothing, path: other.path() };
            compared(&reference, second, &pairing, &data, options.threads, progress)
        }
        Other::Plan { plan, target } => {
            let Settled { graph, plan: simulated, warnings, .. } = carried_out(&reference, plan, target)?;
            let pairing = Pairing::of_folded(&reference, &graph, &simulated)?;
            let second = Subject { graph: &graph, plan: &simulated, path: reference.path() };
            let mut comparison = compared(&reference, second, &pairing, &data, options.threads, progress)?;
            comparison.warnings.extend(warnings);
            Ok(comparison)
        }
    }
}

/// What a plan file makes of a model.
fn carried_out(model: &Model, plan: &Path, target: &TargetOptions) -> Result<Settled, Error> {
    let (recipe, options) = (recipe(target)?, RecipeOptions::default());
    let job =
        Job { model, recipe: &recipe, runtime: &Simulated, options: &options, data: None, labelled: None, threads: 1 };
    prescribed(&job, &Prescription::read(plan)?)
}

/// What runs: a graph, in fp32 or as a plan says, and the file that messages name.
#[derive(Clone, Copy)]
struct Subject<'a> {
    graph: &'a Graph,
    plan: &'a QuantPlan,
    path: &'a Path,
}

fn compared(
    reference: &Model,
    other: Subject<'_>,
    pairing: &Pairing,
    data: &Data,
    threads: usize,
    progress: &dyn Progress,
) -> Result<Comparison, Error> {
    let (graph, path, nothing) = (reference.graph(), reference.path(), QuantPlan::default());
    let first = Side::of(Subject { graph, plan: &nothing, path }, pairing, |pair| pair.a)?;
    let second = Side::of(other, pairing, |pair| pair.b)?;
    let totals = Mutex::new(Totals::of(pairing.pairs.len()));
    let threads = threads_for(&[&first.program, &second.program], thread_count(threads));
    progress.begin("comparing", data.runs());
    let init = || (Session::new(&first.program), Session::new(&second.program));
    for_each(data.runs(), threads, progress, init, |sessions, run| {
        let fed = data.feed(run)?;
        let votes = Votes::of(data, run);
        let expected = first.values(&mut sessions.0, &fed)?;
        let fed: Vec<_> = fed.into_iter().map(|(value, tensor)| (pairing.input(value), tensor)).collect();
        let found = second.values(&mut sessions.1, &fed)?;
        let measured =
            expected.iter().zip(&found).map(|(e, f)| Measured::of(e.as_ref()?, f.as_ref()?, votes)).collect();
        totals.lock().unwrap_or_else(PoisonError::into_inner).add(run, measured);
        Ok::<(), Error>(())
    })?;
    progress.end();
    let totals = totals.into_inner().unwrap_or_else(PoisonError::into_inner);
    let (samples, preprocessing) = (data.samples(), data.preparation());
    let comparison = Comparison {
        samples,
        preprocessing,
        outputs: outputs(graph, pairing, &totals),
        layers: layers(graph, pairing, &totals),
        warnings: data.assumed().chain(pairing.remark()).collect(),
    };
    if comparison.outputs.is_empty() {
        let cause = "no output of float32 has the same shape in both".to_owned();
        return Err(pairing::unlike(path, other.path, cause));
    }
    Ok(comparison)
}

fn outputs(graph: &Graph, pairing: &Pairing, totals: &Totals) -> Vec<OutputDifference> {
    let output = |(index, pair): (usize, &Pair)| {
        let difference = totals.difference(index).filter(|_| pair.is_output)?;
        Some(OutputDifference {
            name: graph.value(pair.name).name.clone(),
            difference,
            agreeing: totals.agreeing(index),
        })
    };
    pairing.pairs.iter().enumerate().filter_map(output).collect()
}

fn layers(graph: &Graph, pairing: &Pairing, totals: &Totals) -> Vec<LayerDifference> {
    let layer = |(index, pair): (usize, &Pair)| {
        let difference = totals.difference(index).filter(|_| !pair.is_output)?;
        let producer = graph.producer(pair.name);
        Some(LayerDifference {
            name: graph.value(pair.name).name.clone(),
            node: producer.map(|(id, _)| graph.label(id)),
            op: producer.map_or("input", |(_, node)| node.op.name()).to_owned(),
            difference,
        })
    };
    pairing.pairs.iter().enumerate().filter_map(layer).collect()
}

/// One of the two: its program, and the pairs that each value belongs to.
struct Side<'a> {
    program: Program,
    places: BTreeMap<ValueId, Vec<usize>>,
    pairs: usize,
    path: &'a Path,
}

impl<'a> Side<'a> {
    fn of(subject: Subject<'a>, pairing: &Pairing, value: impl Fn(&Pair) -> ValueId) -> Result<Self, Error> {
        let Subject { graph, plan, path } = subject;
        let mut places: BTreeMap<ValueId, Vec<usize>> = BTreeMap::new();
        for (index, pair) in pairing.pairs.iter().enumerate() {
            places.entry(value(pair)).or_default().push(index);
        }
        let values: Vec<ValueId> = places.keys().copied().collect();
        let program = Program::observe_with(graph, &values, plan, constants_of(graph));
        let program = program.map_err(|source| Error::exec(path, source))?;
        Ok(Self { program, places, pairs: pairing.pairs.len(), path })
    }

    /// The values that are compared, by pair, as a session of its program computes them.
    fn values(&self, session: &mut Session<'_>, fed: &[(ValueId, Tensor)]) -> Result<Vec<Option<Tensor>>, Error> {
        let mut seen = Seen { side: self, values: vec![None; self.pairs], error: None };
        session.run(fed, &mut seen).map_err(|source| Error::exec(self.path, source))?;
        match seen.error {
            None => Ok(seen.values),
            Some(cause) => {
                let (node, op) = ("observed value".to_owned(), "copy".to_owned());
                Err(Error::exec(self.path, quantize_exec::ExecError::Node { node, op, cause }))
            }
        }
    }
}

/// Keeps the values of a run that are compared; keeps the first error, since observing cannot fail.
struct Seen<'a> {
    side: &'a Side<'a>,
    /// By pair.
    values: Vec<Option<Tensor>>,
    error: Option<OpError>,
}

impl Observer for Seen<'_> {
    fn observe(&mut self, value: ValueId, view: &View<'_>) {
        let Some(places) = self.side.places.get(&value) else { return };
        match view.tensor() {
            Ok(tensor) => places.iter().for_each(|place| self.values[*place] = Some(tensor.clone().into_owned())),
            Err(error) => self.error = self.error.take().or(Some(error)),
        }
    }
}
