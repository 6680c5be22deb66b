//! How fast a model runs here, and how near that is to what the processor could do.
//!
//! [`BenchModel`] is a model ready to be run again and again, [`Workload`] one way of running it, [`Lap`] the time of
//! one run; [`bench`] puts them together. Times are processor times wherever a share of the processor's peak is
//! meant, so that other programs on the machine do not count, and the shortest of several runs, so that what
//! interrupts one does not either. What lives here: preparing, timing, counting operations. What does not: other
//! engines to compare with, and how figures are shown.

mod clock;
mod layers;
mod model;
mod peak;
mod workload;

pub use clock::Lap;
pub use layers::LayerTime;
pub use model::{BenchModel, BenchOptions};
pub use peak::{Peak, PeakLoop};
pub use workload::{Work, Workload, Workspace};

use crate::error::Error;
use crate::options::thread_count;
use clock::Clock;
use quantize_parallel::Progress;
use std::thread;

/// What a bench measured.
#[derive(Clone, Debug, PartialEq)]
pub struct BenchReport {
    /// What was run.
    pub work: Work,
    /// Shape of each input, in the model's order.
    pub inputs: Vec<Vec<usize>>,
    /// Images that one run of one thread computes.
    pub batch: usize,
    /// Threads, each of which runs the whole network.
    pub threads: usize,
    /// Runs of each thread that were timed.
    pub rounds: usize,
    /// The shortest round: wall time, and processor time of all threads together.
    pub best: Lap,
    /// Operations for one image: each multiplication and each addition of convolutions and matrix products.
    pub operations: u64,
    /// The most one core can do of the instruction that the work consists of.
    pub peak: Peak,
    /// Time of each step in order, if asked for.
    pub layers: Vec<LayerTime>,
}

impl BenchReport {
    /// Images a second of all threads together, by wall time.
    pub fn images_per_second(&self) -> f64 {
        (self.batch * self.threads) as f64 / self.best.wall
    }

    /// Processor time of one image, in seconds.
    pub fn cpu_seconds(&self) -> f64 {
        self.best.cpu / (self.batch * self.threads) as f64
    }

    /// Operations a second of one core, by processor time.
    pub fn operations_per_second(&self) -> f64 {
        self.operations as f64 / self.cpu_seconds()
    }

    /// Share of the measured peak, 1 being all of it.
    pub fn share_of_peak(&self) -> f64 {
        self.operations_per_second() / self.peak.operations_per_second
    }
}

/// Times a model on a synthetic or given input.
///
/// A round runs the network once in each thread, then the loop that shows the processor's peak; the first round warms
/// up and is not counted.
///
/// # Errors
/// If the model cannot be read, prepared or run, or leaves the size of its input open.
pub fn bench(options: &BenchOptions, progress: &dyn Progress) -> Result<BenchReport, Error> {
    let model = BenchModel::open(options, progress)?;
    let work = if options.int8 { Work::Int8 } else { Work::Fp32 };
    let workload = model.workload(work)?;
    let threads = thread_count(options.threads);
    let rounds = options.rounds.max(1);
    let mut workspaces: Vec<Workspace<'_>> = (0..threads).map(|_| workload.workspace()).collect();
    let operations = workload.operations()?;
    let mut peak = PeakLoop::new(work);
    let mut best = Lap::LONGEST;
    progress.begin("timing", rounds);
    run_together(&mut workspaces)?;
    for _ in 0..rounds {
        best = best.shorter(run_together(&mut workspaces)?);
        peak.repeat();
        progress.step();
    }
    progress.end();
    let layers = if options.per_layer { workload.layers(rounds)? } else { Vec::new() };
    let batch = model.batch();
    Ok(BenchReport {
        work,
        inputs: model.inputs().map(|input| input.shape().to_vec()).collect(),
        batch,
        threads,
        rounds,
        best,
        operations: operations / batch as u64,
        peak: peak.best(),
        layers,
    })
}

/// One run in each thread, at the same time.
fn run_together(workspaces: &mut [Workspace<'_>]) -> Result<Lap, Error> {
    if let [only] = workspaces {
        return only.run();
    }
    let clock = Clock::start();
    thread::scope(|scope| {
        let threads: Vec<_> = workspaces.iter_mut().map(|workspace| scope.spawn(|| workspace.run())).collect();
        let mut joined = threads.into_iter().map(|t| t.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        joined.try_for_each(|lap| lap.map(|_| ()))
    })?;
    Ok(clock.lap())
}
