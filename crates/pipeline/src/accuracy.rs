//! What quantization costs: the simulated integer model against the fp32 model on the same samples.

use crate::data::Data;
use crate::error::Error;
use crate::memory::{constants_of, threads_for};
use crate::unknown::only_differences_count;
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
    /// Mean over the runs, of one sample each unless the model has a batch, of 10·log10(signal / noise), in dB.
    pub sqnr_db: f64,
    /// Samples whose largest score is the same, if the output is a vector of scores.
    pub agreeing: Option<usize>,
}

/// Ratio that stands for "no difference at all" in a mean.
pub(crate) const EXACT_DB: f64 = 150.0;

/// Samples on which quantized models are compared with fp32 where none is held back.
const CHECKED_SAMPLES: usize = 8;

/// The runs that a quantized model is compared with fp32 on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Judges {
    pub(crate) runs: Vec<usize>,
    /// Whether they are used for nothing else.
    pub(crate) held_back: bool,
}

impl Judges {
    /// The runs of the first few samples of a data set.
    pub(crate) fn first_of(data: &Data) -> Self {
        let runs = CHECKED_SAMPLES.div_ceil(data.batch()).min(data.runs());
        Self { runs: (0..runs).collect(), held_back: false }
    }

    /// Number of samples.
    pub(crate) fn samples(&self, data: &Data) -> usize {
        self.runs.iter().map(|run| data.samples_of(*run).len()).sum()
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

/// What quantized models are compared with, and on what.
#[derive(Clone, Copy)]
pub(crate) struct Trial<'a> {
    /// Computes in fp32 what the model does.
    pub(crate) reference: &'a Graph,
    pub(crate) model: &'a Path,
    /// The values compared.
    pub(crate) targets: &'a [ValueId],
    pub(crate) data: &'a Data,
    pub(crate) judges: &'a Judges,
    pub(crate) threads: usize,
    pub(crate) progress: &'a dyn Progress,
}

/// What computes plans.
pub(crate) trait Runtime: Sync {
    /// What each graph with its plan loses against fp32.
    fn accuracy(&self, trial: &Trial<'_>, quantized: &[(&Graph, &QuantPlan)]) -> Result<Vec<Accuracy>, Error>;
}

/// The simulation, which serves every format.
pub(crate) struct Simulated;

impl Runtime for Simulated {
    fn accuracy(&self, trial: &Trial<'_>, quantized: &[(&Graph, &QuantPlan)]) -> Result<Vec<Accuracy>, Error> {
        let Trial { reference, model, targets, .. } = *trial;
        let failed = |source| Error::exec(model, source);
        let compiled = |graph, plan| Program::compile_with(graph, targets, plan, constants_of(graph)).map_err(failed);
        let nothing = QuantPlan::default();
        let fp32 = compiled(reference, &nothing)?;
        let simulated: Vec<Program> =
            quantized.iter().map(|(graph, plan)| compiled(graph, plan)).collect::<Result<_, _>>()?;
        let programs: Vec<&Program> = simulated.iter().chain([&fp32]).collect();
        let threads = threads_for(&programs, trial.threads);
        compare(&Trial { threads, ..*trial }, &fp32, || simulated.iter().map(Session::new).collect())
    }
}

/// Compares what computes the targets in fp32 with whatever computes them quantized.
pub(crate) fn compare<R: Runner + Send>(
    trial: &Trial<'_>,
    fp32: &Program,
    quantized: impl Fn() -> Vec<R> + Sync,
) -> Result<Vec<Accuracy>, Error> {
    let Trial { reference, model, targets, data, judges, threads, progress } = *trial;
    let failed = |source| Error::exec(model, source);
    let relative: Vec<bool> = targets.iter().map(|value| only_differences_count(reference, *value)).collect();
    let runs = &judges.runs;
    progress.begin("checking accuracy", runs.len());
    let init = || (Session::new(fp32), quantized(), Vec::new());
    let states = for_each(runs.len(), threads, progress, init, |(fp32, quantized, rows), at| {
        let run = runs[at];
        let inputs = data.feed(run)?;
        let votes = Votes::of(data, run);
        let expected = fp32.run(&inputs, &mut ()).map_err(failed)?;
        let mut row = Vec::with_capacity(quantized.len());
        for runner in quantized {
            let found = runner.run(&inputs).map_err(failed)?;
            let pairs = expected.iter().zip(&found).zip(&relative);
            row.push(pairs.map(|((e, f), relative)| agreement(e, f, votes, *relative)).collect::<Vec<_>>());
        }
        rows.push((run, row));
        Ok::<(), Error>(())
    })?;
    progress.end();
    let mut rows: Vec<(usize, Vec<Vec<Row>>)> = states.into_iter().flat_map(|(_, _, rows)| rows).collect();
    rows.sort_by_key(|(run, _)| *run);
    let runners = rows.first().map_or(0, |(_, row)| row.len());
    let accuracy = |runner: usize| {
        let rows: Vec<&Vec<Row>> = rows.iter().filter_map(|(_, row)| row.get(runner)).collect();
        let outputs = targets.iter().enumerate().filter_map(|(i, v)| summarize(reference, *v, &rows, i)).collect();
        Accuracy { samples: judges.samples(data), held_back: judges.held_back, outputs }
    };
    Ok((0..runners).map(accuracy).collect())
}

/// Ratio of one output in one run, and on how many samples the largest score is the same.
type Row = Option<(f64, Option<usize>)>;

/// The samples of a run, each of which has a vote where outputs are scores.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Votes {
    /// Samples without copies.
    pub(crate) samples: usize,
    /// Samples with copies: the first extent of what is scored.
    pub(crate) batch: usize,
}

impl Votes {
    /// Those of run `run`; copies that fill it up have none.
    pub(crate) fn of(data: &Data, run: usize) -> Self {
        Self { samples: data.samples_of(run).len(), batch: data.batch() }
    }

    /// Samples whose largest score is the same in both, if these are vectors of scores.
    pub(crate) fn agreeing(self, expected: &Tensor, found: &Tensor) -> Option<usize> {
        let classes = class_count(expected.shape(), self.batch)?;
        let (e, f) = (expected.as_slice::<f32>().ok()?, found.as_slice::<f32>().ok()?);
        let pairs = e.chunks_exact(classes).zip(f.chunks_exact(classes)).take(self.samples);
        Some(pairs.filter(|(e, f)| top1(e) == top1(f)).count())
    }
}

/// Of `relative` scores only differences count: what all scores of a sample have in common is left out.
fn agreement(expected: &Tensor, found: &Tensor, votes: Votes, relative: bool) -> Row {
    if expected.dtype() != DType::F32 {
        return None;
    }
    let (e, f) = (expected.as_slice::<f32>().ok()?, found.as_slice::<f32>().ok()?);
    let ratio = match class_count(expected.shape(), votes.batch).filter(|_| relative) {
        Some(classes) => sqnr_db(&centred(e, classes), &centred(f, classes)),
        None => sqnr_db(e, f),
    };
    Some((ratio.ok()?.clamp(-EXACT_DB, EXACT_DB), votes.agreeing(expected, found)))
}

/// Scores of several samples less the mean of each sample's.
fn centred(scores: &[f32], classes: usize) -> Vec<f32> {
    let less_mean = |scores: &[f32]| {
        let mean = scores.iter().map(|s| f64::from(*s)).sum::<f64>() / classes as f64;
        scores.iter().map(|s| (f64::from(*s) - mean) as f32).collect::<Vec<f32>>()
    };
    scores.chunks(classes).flat_map(less_mean).collect()
}

fn summarize(graph: &Graph, value: ValueId, rows: &[&Vec<Row>], output: usize) -> Option<OutputAccuracy> {
    let cells: Vec<(f64, Option<usize>)> = rows.iter().filter_map(|row| *row.get(output)?).collect();
    if cells.is_empty() {
        return None;
    }
    let sqnr_db = cells.iter().map(|(db, _)| db).sum::<f64>() / cells.len() as f64;
    let agreeing = cells.iter().map(|(_, agreeing)| *agreeing).sum();
    Some(OutputAccuracy { name: graph.value(value).name.clone(), sqnr_db, agreeing })
}

/// Number of classes, if a tensor of this shape has a vector of scores for each of `batch` samples.
pub(crate) fn class_count(shape: &[usize], batch: usize) -> Option<usize> {
    let [samples, classes, rest @ ..] = shape else { return None };
    (*samples == batch && *classes > 1 && rest.iter().all(|d| *d == 1)).then_some(*classes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_scores_of_a_sample_have_in_common_is_no_noise_before_a_softmax() {
        let votes = Votes { samples: 2, batch: 2 };
        let expected = Tensor::new([2, 2], vec![1f32, -1.0, 3.0, 5.0]).unwrap();
        let moved = Tensor::new([2, 2], vec![2f32, 0.0, 2.0, 4.0]).unwrap();
        assert_eq!(agreement(&expected, &moved, votes, true), Some((EXACT_DB, Some(2))));
        let (ratio, _) = agreement(&expected, &moved, votes, false).unwrap();
        assert!((ratio - 10.0 * 9f64.log10()).abs() < 1e-9, "{ratio}");
    }
}
