//! The ways of running a model that are timed.

use super::clock::{Clock, Lap};
use super::layers::{LayerTime, LayerTimes};
use super::model::BenchModel;
use crate::calibrate::{Collector, observing};
use crate::error::Error;
use crate::work::operations;
use quantize_exec::{ExecError, Program, Session};
use quantize_ir::Tensor;
use std::collections::BTreeMap;

/// What is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// The fp32 network.
    Fp32,
    /// The fp32 network and statistics of every value that a plan needs.
    Calibration,
    /// The network as its plan has it.
    Int8,
}

/// A model compiled for one way of running it; shared by threads, each with a [`Workspace`].
#[derive(Debug)]
pub struct Workload<'m> {
    model: &'m BenchModel,
    work: Work,
    program: Program,
}

impl<'m> Workload<'m> {
    pub(crate) fn new(model: &'m BenchModel, work: Work) -> Result<Self, Error> {
        let (graph, path) = (&model.graph, &model.path);
        let failed = |source| Error::exec(path, source);
        let program = match (work, &model.plan) {
            (Work::Fp32, _) => Program::compile(graph, graph.outputs()).map_err(failed)?,
            (Work::Calibration, _) => observing(graph, path, &model.observed)?,
            (Work::Int8, Some(plan)) => Program::simulate(graph, graph.outputs(), plan).map_err(failed)?,
            (Work::Int8, None) => return Err(Error::NoPlan { model: path.clone() }),
        };
        Ok(Self { model, work, program })
    }

    /// What one thread needs to run it.
    pub fn workspace(&self) -> Workspace<'_> {
        let BenchModel { graph, path, observed, .. } = self.model;
        let engine = match self.work {
            Work::Calibration => Engine::Collector(Collector::new(graph, path, &self.program, observed)),
            Work::Fp32 | Work::Int8 => Engine::Session(Session::new(&self.program)),
        };
        Workspace { model: self.model, engine, runs: 0 }
    }

    /// The outputs, in the model's order; nothing where the work is calibration.
    ///
    /// # Errors
    /// If the network cannot be run.
    pub fn outputs(&self) -> Result<Vec<Tensor>, Error> {
        Session::new(&self.program).run(&self.model.fed, &mut ()).map_err(|source| self.failed(source))
    }

    /// Operations of one run: each multiplication and each addition of convolutions and matrix products.
    ///
    /// # Errors
    /// If the network cannot be run.
    pub fn operations(&self) -> Result<u64, Error> {
        Ok(self.operations_by_node()?.values().sum())
    }

    /// Time of each step, the shortest of several runs.
    ///
    /// # Errors
    /// If the network cannot be run.
    pub fn layers(&self, runs: usize) -> Result<Vec<LayerTime>, Error> {
        let mut session = Session::new(&self.program);
        let mut times = LayerTimes::new(self.operations_by_node()?);
        for _ in 0..runs.max(1) {
            times.begin();
            let outputs = session.run(&self.model.fed, &mut times).map_err(|source| self.failed(source))?;
            session.recycle(outputs);
        }
        Ok(times.into_layers())
    }

    fn operations_by_node(&self) -> Result<BTreeMap<String, u64>, Error> {
        operations(&self.model.graph, &self.model.fed).map_err(|source| self.failed(source))
    }

    fn failed(&self, source: ExecError) -> Error {
        Error::exec(&self.model.path, source)
    }
}

/// What one thread needs to run a [`Workload`].
pub struct Workspace<'w> {
    model: &'w BenchModel,
    engine: Engine<'w>,
    runs: u64,
}

enum Engine<'w> {
    Session(Session<'w>),
    Collector(Collector<'w>),
}

impl Workspace<'_> {
    /// Runs the network once and says how long it took.
    ///
    /// # Errors
    /// If it cannot be run.
    pub fn run(&mut self) -> Result<Lap, Error> {
        let fed = &self.model.fed;
        let clock = Clock::start();
        match &mut self.engine {
            Engine::Session(session) => {
                let outputs = session.run(fed, &mut ()).map_err(|source| Error::exec(&self.model.path, source))?;
                session.recycle(outputs);
            }
            Engine::Collector(collector) => collector.see(self.runs, fed)?,
        }
        let lap = clock.lap();
        self.runs += 1;
        Ok(lap)
    }
}
