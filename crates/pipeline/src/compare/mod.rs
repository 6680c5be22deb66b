//! Two models on the same images: how far their outputs and the values between their layers are apart.
//!
//! What lives here: running both, measuring, and putting the images' measures together in the images' order, so that
//! the result does not depend on the number of threads. [`pairing`] says which values correspond, `measures` what is
//! measured. What does not: the measures' formulas, and how they are shown.

mod measures;
mod pairing;

pub use measures::Difference;

use crate::accuracy::Votes;
use crate::data::Data;
use crate::error::Error;
use crate::model::{Model, ModelFiles};
use crate::options::{DataOptions, thread_count};
use measures::{Measured, Totals};
use pairing::{Pair, Pairing};
use quantize_exec::{Observer, OpError, Program, Session, View};
use quantize_ir::{Graph, Tensor, ValueId};
use quantize_parallel::{Progress, for_each};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// A comparison.
#[derive(Clone, Debug, PartialEq)]
pub struct CompareOptions {
    /// The model that is right by definition.
    pub reference: ModelFiles,
    /// The model that is compared with it.
    pub other: ModelFiles,
    /// Images and their preprocessing, for both.
    pub data: DataOptions,
    /// Threads; 0 for one for each core.
    pub threads: usize,
}

/// How far two models are apart.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// Number of images.
    pub images: usize,
    /// How images were preprocessed, in words.
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
    /// Images on which the largest score is the same, if the output is a vector of scores.
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

/// Runs two models on the same images and measures how far they are apart.
///
/// # Errors
/// If a model or the images cannot be read or used, or the models have different inputs or no output in common.
pub fn compare(options: &CompareOptions, progress: &dyn Progress) -> Result<Comparison, Error> {
    let (reference, other) = (options.reference.open()?, options.other.open()?);
    let data = Data::open(&options.data, reference.graph(), reference.path())?;
    let pairing = Pairing::of(&reference, &other)?;
    let sides = (Side::of(&reference, &pairing, |pair| pair.a)?, Side::of(&other, &pairing, |pair| pair.b)?);
    let totals = Mutex::new(Totals::of(pairing.pairs.len()));
    progress.begin("comparing", data.runs());
    let init = || (Session::new(&sides.0.program), Session::new(&sides.1.program));
    for_each(data.runs(), thread_count(options.threads), progress, init, |(first, second), run| {
        let fed = data.feed(run)?;
        let votes = Votes::of(&data, run);
        let mut seen = Seen { side: &sides.0, values: vec![None; pairing.pairs.len()], error: None };
        let done = first.run(&fed, &mut seen);
        let expected = seen.result(done.map(|_| ()), reference.path())?;
        let fed: Vec<_> = fed.into_iter().map(|(value, tensor)| (pairing.input(value), tensor)).collect();
        let mut seen = Seen { side: &sides.1, values: vec![None; pairing.pairs.len()], error: None };
        let done = second.run(&fed, &mut seen);
        let found = seen.result(done.map(|_| ()), other.path())?;
        let measured =
            expected.iter().zip(&found).map(|(e, f)| Measured::of(e.as_ref()?, f.as_ref()?, votes)).collect();
        totals.lock().unwrap_or_else(PoisonError::into_inner).add(run, measured);
        Ok::<(), Error>(())
    })?;
    progress.end();
    let totals = totals.into_inner().unwrap_or_else(PoisonError::into_inner);
    let (images, preprocessing) = (data.samples(), data.preparation());
    let comparison = Comparison {
        images,
        preprocessing,
        outputs: outputs(reference.graph(), &pairing, &totals),
        layers: layers(reference.graph(), &pairing, &totals),
        warnings: data.assumed().chain(pairing.remark()).collect(),
    };
    if comparison.outputs.is_empty() {
        return Err(pairing::unlike(&reference, &other, "no output of float32 has the same shape in both".to_owned()));
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

/// One of the models: its program, and the pairs that each value belongs to.
struct Side {
    program: Program,
    places: BTreeMap<ValueId, Vec<usize>>,
}

impl Side {
    fn of(model: &Model, pairing: &Pairing, value: impl Fn(&Pair) -> ValueId) -> Result<Self, Error> {
        let mut places: BTreeMap<ValueId, Vec<usize>> = BTreeMap::new();
        for (index, pair) in pairing.pairs.iter().enumerate() {
            places.entry(value(pair)).or_default().push(index);
        }
        let values: Vec<ValueId> = places.keys().copied().collect();
        let program = Program::observe(model.graph(), &values).map_err(|source| Error::exec(model.path(), source))?;
        Ok(Self { program, places })
    }
}

/// Keeps the values of a run that are compared; keeps the first error, since observing cannot fail.
struct Seen<'a> {
    side: &'a Side,
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

impl Seen<'_> {
    /// The values, if the run and all observations went well.
    fn result(self, run: Result<(), quantize_exec::ExecError>, model: &Path) -> Result<Vec<Option<Tensor>>, Error> {
        run.map_err(|source| Error::exec(model, source))?;
        match self.error {
            None => Ok(self.values),
            Some(cause) => {
                let (node, op) = ("observed value".to_owned(), "copy".to_owned());
                Err(Error::exec(model, quantize_exec::ExecError::Node { node, op, cause }))
            }
        }
    }
}
