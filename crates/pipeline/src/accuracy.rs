//! What quantization costs: the simulated integer model against the fp32 model on the same samples.

use crate::data::Data;
use crate::error::Error;
use crate::memory::{constants_of, threads_for};
use quantize_exec::{Emulator, ExecError, Program, Session};
use quantize_ir::{DType, Graph, QuantPlan, Tensor, ValueId};
use quantize_numerics::measure::{sqnr_db, top1};
use quantize_parallel::{Progress, for_each};
use std::path::Path;

/// Agreement of two models over some samples.
#[derive(Clone, Debug, PartialEq)]
pub struct Accuracy {
    /// Number of samples.
    pub samples: usize,
    /// Whether they were used for nothing else.
    pub held_back: bool,
    /// One entry for each `float32` output that can be computed, in the model's order.
    pub outputs: Vec<OutputAccuracy>,
}

/// Agreement of one output.
#[derive(Clone, Debug, PartialEq)]
pub struct OutputAccuracy {
    /// The output's name.
    pub name: String,
    /// Mean over the samples of 10·log10(signal / noise), in dB.
    pub sqnr_db: f64,
    /// Samples whose largest score is the same, if the output is a vector of scores.
    pub agreeing: Option<usize>,
}

/// Ratio that stands for "no difference at all" in a mean.
pub(crate) const EXACT_DB: f64 = 150.0;

/// Samples on which quantized models are compared with fp32 where none is held back.
const CHECKED_SAMPLES: usize = 8;

/// The samples that a quantized model is compared with fp32 on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Judges {
    pub(crate) positions: Vec<usize>,
    /// Whether they are used for nothing else.
    pub(crate) held_back: bool,
}

impl Judges {
    /// The first few samples of a data set.
    pub(crate) fn first_of(data: &Data) -> Self {
        Self { positions: (0..CHECKED_SAMPLES.min(data.len())).collect(), held_back: false }
    }
}

/// Something that runs a quantized model: a simulation or an emulation.
pub(crate) trait Runner {
    /// Computes the targets for the inputs fed.
    fn run(&mut self, inputs: &[(ValueId, Tensor)]) -> Result<Vec<Tensor>, ExecError>;
}

impl Runner for Session<'_> {
    fn run(&mut self, inputs: &[(ValueId, Tensor)]) -> Result<Vec<Tensor>, ExecError> {
        Session::run(self, inputs, &mut ())
    }
}

impl Runner for Emulator<'_> {
    fn run(&mut self, inputs: &[(ValueId, Tensor)]) -> Result<Vec<Tensor>, ExecError> {
        Emulator::run(self, inputs, &mut ())
    }
}

/// Compares what computes `targets` in fp32, which is `reference`, with the simulation of a graph and its plan.
pub(crate) fn simulated(
    reference: &Graph,
    model: &Path,
    targets: &[ValueId],
    (graph, plan): (&Graph, &QuantPlan),
    (data, judges): (&Data, &Judges),
    threads: usize,
    progress: &dyn Progress,
) -> Result<Accuracy, Error> {
    let failed = |source| Error::exec(model, source);
    let compiled = |graph, plan| Program::compile_with(graph, targets, plan, constants_of(graph)).map_err(failed);
    let (fp32, simulated) = (compiled(reference, &QuantPlan::default())?, compiled(graph, plan)?);
    let threads = threads_for(&[&fp32, &simulated], threads);
    compare(graph, model, targets, &fp32, || Session::new(&simulated), (data, judges), threads, progress)
}

/// Compares what computes `targets` in fp32 with what computes them quantized, on these samples.
pub(crate) fn compare<R: Runner + Send>(
    graph: &Graph,
    model: &Path,
    targets: &[ValueId],
    reference: &Program,
    quantized: impl Fn() -> R + Sync,
    (data, judges): (&Data, &Judges),
    threads: usize,
    progress: &dyn Progress,
) -> Result<Accuracy, Error> {
    let failed = |source| Error::exec(model, source);
    let count = judges.positions.len();
    progress.begin("checking accuracy", count);
    let init = || (Session::new(reference), quantized(), Vec::new());
    let states = for_each(count, threads, progress, init, |(fp32, int8, rows), index| {
        let inputs = [(data.input(), data.sample(judges.positions[index])?)];
        let expected = fp32.run(&inputs, &mut ()).map_err(failed)?;
        let found = int8.run(&inputs).map_err(failed)?;
        rows.push((index, expected.iter().zip(&found).map(|(e, f)| agreement(e, f)).collect::<Vec<_>>()));
        Ok::<(), Error>(())
    })?;
    progress.end();
    let mut rows: Vec<_> = states.into_iter().flat_map(|(_, _, rows)| rows).collect();
    rows.sort_by_key(|(index, _)| *index);
    let outputs = targets.iter().enumerate().filter_map(|(i, v)| summarize(graph, *v, &rows, i)).collect();
    Ok(Accuracy { samples: count, held_back: judges.held_back, outputs })
}

/// Ratio and agreement of one output on one sample.
type Row = Option<(f64, Option<bool>)>;

fn agreement(expected: &Tensor, found: &Tensor) -> Row {
    if expected.dtype() != DType::F32 {
        return None;
    }
    let (e, f) = (expected.as_slice::<f32>().ok()?, found.as_slice::<f32>().ok()?);
    let ratio = sqnr_db(e, f).ok()?.clamp(-EXACT_DB, EXACT_DB);
    Some((ratio, class_count(expected.shape()).map(|_| top1(e) == top1(f))))
}

fn summarize(graph: &Graph, value: ValueId, rows: &[(usize, Vec<Row>)], output: usize) -> Option<OutputAccuracy> {
    let cells: Vec<(f64, Option<bool>)> = rows.iter().filter_map(|(_, row)| *row.get(output)?).collect();
    if cells.is_empty() {
        return None;
    }
    let sqnr_db = cells.iter().map(|(db, _)| db).sum::<f64>() / cells.len() as f64;
    let votes: Option<Vec<bool>> = cells.iter().map(|(_, agree)| *agree).collect();
    let agreeing = votes.map(|v| v.into_iter().filter(|agree| *agree).count());
    Some(OutputAccuracy { name: graph.value(value).name.clone(), sqnr_db, agreeing })
}

/// Number of classes, if a tensor of this shape is one sample's vector of scores.
pub(crate) fn class_count(shape: &[usize]) -> Option<usize> {
    let [1, classes, rest @ ..] = shape else { return None };
    (*classes > 1 && rest.iter().all(|d| *d == 1)).then_some(*classes)
}
