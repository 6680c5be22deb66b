//! Runs the fp32 model over the data and gathers statistics of the values that will be quantized.

use crate::data::Data;
use crate::error::Error;
use crate::parallel::for_each;
use crate::progress::Progress;
use quantize_calib::Statistics;
use quantize_exec::{Observer, Program, Session, View};
use quantize_ir::{Graph, ValueId};
use quantize_numerics::NumericsError;
use std::collections::BTreeSet;
use std::path::Path;

/// One thread's share: its session and what it has seen.
struct Worker<'p> {
    session: Session<'p>,
    statistics: Statistics,
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

/// Statistics of `values` over every image of `data`; the same for any number of threads.
pub(crate) fn calibrate(
    graph: &Graph,
    model: &Path,
    values: &BTreeSet<ValueId>,
    data: &Data,
    threads: usize,
    progress: &dyn Progress,
) -> Result<Statistics, Error> {
    let failed = |source| Error::exec(model, source);
    let targets: Vec<ValueId> = values.iter().copied().collect();
    let program = Program::observe(graph, &targets).map_err(failed)?;
    progress.begin("calibrating", data.len());
    let init = || Worker { session: Session::new(&program), statistics: Statistics::of(values.iter().copied()) };
    let workers = for_each(data.len(), threads, progress, init, |worker, index| {
        let inputs = [(data.input(), data.sample(index)?)];
        let mut recorder = Recorder { statistics: &mut worker.statistics, image: index as u64, error: None };
        worker.session.run(&inputs, &mut recorder).map_err(failed)?;
        match recorder.error {
            Some((value, source)) => {
                Err(Error::tensor(model, format!("activation `{}`", graph.value(value).name), None, source))
            }
            None => Ok(()),
        }
    })?;
    progress.end();
    let mut statistics = Statistics::of(values.iter().copied());
    for worker in &workers {
        let merged = statistics.merge(&worker.statistics);
        merged.map_err(|source| Error::tensor(model, "statistics".into(), None, source))?;
    }
    Ok(statistics)
}
