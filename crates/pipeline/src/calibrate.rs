//! Runs the fp32 model over the data and gathers statistics of the values that will be quantized.

use crate::data::Data;
use crate::error::Error;
use crate::memory::{constants_of, threads_for};
use quantize_calib::Statistics;
use quantize_exec::{Observer, Program, Session, View};
use quantize_ir::{Graph, QuantPlan, Tensor, ValueId};
use quantize_numerics::NumericsError;
use quantize_parallel::{Progress, for_each};
use std::collections::BTreeSet;
use std::path::Path;

/// One thread's share: its session and what it has seen.
pub(crate) struct Collector<'a> {
    graph: &'a Graph,
    model: &'a Path,
    session: Session<'a>,
    statistics: Statistics,
}

impl<'a> Collector<'a> {
    /// Gathers statistics of `values`, which `program` computes.
    pub(crate) fn new(graph: &'a Graph, model: &'a Path, program: &'a Program, values: &BTreeSet<ValueId>) -> Self {
        let statistics = Statistics::of(values.iter().copied());
        Self { graph, model, session: Session::new(program), statistics }
    }

    /// Runs the network on what begins with image number `image` and adds what it produces.
    pub(crate) fn see(&mut self, image: u64, inputs: &[(ValueId, Tensor)]) -> Result<(), Error> {
        let mut recorder = Recorder { statistics: &mut self.statistics, image, error: None };
        self.session.run(inputs, &mut recorder).map_err(|source| Error::exec(self.model, source))?;
        match recorder.error {
            Some((value, source)) => {
                let place = format!("activation `{}`", self.graph.value(value).name);
                Err(Error::tensor(self.model, place, None, source))
            }
            None => Ok(()),
        }
    }

    /// What was seen.
    pub(crate) fn into_statistics(self) -> Statistics {
        self.statistics
    }
}

/// Shows what one image produces to the statistics; keeps the first error, since observing cannot fail.
struct Recorder<'s> {
    statistics: &'s mut Statistics,
    image: u64,
    error: Option<(ValueId, NumericsError)>,
}

impl Observer for Recorder<'_> {
    fn observe(&mut self, value: ValueId, view: &View<'_>) {
        let Some(values) = view.values() else { return };
        let seen = self.statistics.observe(self.image, value, &values);
        if let (Err(error), None) = (seen, &self.error) {
            self.error = Some((value, error));
        }
    }
}

/// Statistics of `values` over runs of `data`, given with the number of their first sample; the same for any number of
/// threads.
pub(crate) fn calibrate(
    graph: &Graph,
    model: &Path,
    values: &BTreeSet<ValueId>,
    data: &Data,
    runs: &[(u64, usize)],
    threads: usize,
    progress: &dyn Progress,
) -> Result<Statistics, Error> {
    let program = observing(graph, model, values)?;
    progress.begin("calibrating", runs.len());
    let threads = threads_for(&[&program], threads);
    let init = || Collector::new(graph, model, &program, values);
    let collectors = for_each(runs.len(), threads, progress, init, |collector, at| {
        let (number, run) = runs[at];
        collector.see(number, &data.feed(run)?)
    })?;
    progress.end();
    let mut statistics = Statistics::of(values.iter().copied());
    for collector in &collectors {
        let merged = statistics.merge(&collector.statistics);
        merged.map_err(|source| Error::tensor(model, "statistics".into(), None, source))?;
    }
    Ok(statistics)
}

/// The program that computes `values` for a [`Collector`] to see.
pub(crate) fn observing(graph: &Graph, model: &Path, values: &BTreeSet<ValueId>) -> Result<Program, Error> {
    let targets: Vec<ValueId> = values.iter().copied().collect();
    let program = Program::observe_with(graph, &targets, &QuantPlan::default(), constants_of(graph));
    program.map_err(|source| Error::exec(model, source))
}
