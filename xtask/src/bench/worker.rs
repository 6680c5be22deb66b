//! Our engine: `cargo xtask bench-worker MODEL IMAGES`, which the driver starts as a process of its own.
//!
//! It answers the requests of [`Request`] until its input ends, on one thread.

use super::request::{Input, Job, Limits, Request};
use super::subject::{Subject, preprocessing};
use crate::error::{Error, Result, at};
use clap::Args;
use quantize_pipeline::{
    BenchModel, BenchOptions, DataOptions, PeakLoop, PreparationOptions, Silent, Tensor, Work, Workload, Workspace,
};
use serde_json::{Value, json};
use std::io::{BufRead, Write, stdin, stdout};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What to run.
#[derive(Args)]
pub(crate) struct WorkerArgs {
    /// The fp32 model.
    model: PathBuf,
    /// The images to make the int8 model from, as the driver prepares them; the first one is the input.
    images: PathBuf,
}

/// The command that starts this engine.
///
/// # Errors
///
/// If the path of this program is not known.
pub(super) fn command(subject: &Subject) -> Result<Command> {
    let program = std::env::current_exe().map_err(at(Path::new("xtask")))?;
    let mut command = Command::new(program);
    command.arg("bench-worker").arg(&subject.model).arg(&subject.images);
    Ok(command)
}

/// Answers requests until there are none.
///
/// # Errors
///
/// If the model cannot be run, or a request makes no sense.
pub(crate) fn run(args: &WorkerArgs) -> Result<()> {
    let failed = in_model(&args.model);
    let model = BenchModel::open(&options(args), &Silent).map_err(failed)?;
    let compiled = WORKS.iter().map(|work| model.workload(*work).map_err(in_model(&args.model)));
    let workloads = compiled.collect::<Result<Vec<_>>>()?;
    let mut worker = Worker { path: &args.model, model: &model, runners: Vec::new() };
    for (work, workload) in WORKS.into_iter().zip(&workloads) {
        worker.add(work, workload)?;
    }
    for line in stdin().lock().lines() {
        let line = line.map_err(at(Path::new("standard input")))?;
        let request = serde_json::from_str(&line).map_err(|error| unfit(error.to_string()))?;
        let answer = worker.answer(&request)?;
        let mut out = stdout().lock();
        writeln!(out, "{answer}").and_then(|()| out.flush()).map_err(at(Path::new("standard output")))?;
    }
    Ok(())
}

/// What our side can be asked to run.
const WORKS: [Work; 3] = [Work::Fp32, Work::Int8, Work::Calibration];

/// The model with everything that is needed to run it.
struct Worker<'m> {
    path: &'m Path,
    model: &'m BenchModel,
    runners: Vec<Runner<'m>>,
}

/// One way of running it.
struct Runner<'m> {
    work: Work,
    workload: &'m Workload<'m>,
    workspace: Workspace<'m>,
    operations: u64,
    peak: PeakLoop,
}

impl<'m> Worker<'m> {
    fn add(&mut self, work: Work, workload: &'m Workload<'m>) -> Result<()> {
        let operations = workload.operations().map_err(in_model(self.path))?;
        let (workspace, peak) = (workload.workspace(), PeakLoop::new(work));
        self.runners.push(Runner { work, workload, workspace, operations, peak });
        Ok(())
    }

    fn runner(&mut self, job: Job) -> Result<&mut Runner<'m>> {
        let found = self.runners.iter_mut().find(|runner| Some(runner.work) == work(job));
        found.ok_or_else(|| unfit(format!("{job:?} is the peer's")))
    }

    fn answer(&mut self, request: &Request) -> Result<Value> {
        let failed = in_model(self.path);
        Ok(match *request {
            Request::Input => self.model.inputs().next().map_or(Value::Null, |input| json!(described(input))),
            Request::Feed(_) => return Err(unfit("the input is its own".into())),
            Request::Time(job) => json!(self.runner(job)?.workspace.run().map_err(failed)?.cpu),
            Request::Outputs(job) => {
                let outputs = self.runner(job)?.workload.outputs().map_err(failed)?;
                json!(outputs.iter().map(|output| described(output).data).collect::<Vec<_>>())
            }
            Request::Limits(job) => {
                let Runner { operations, peak, .. } = self.runner(job)?;
                peak.repeat();
                json!(Limits { operations: *operations, peak: peak.best().operations_per_second })
            }
        })
    }
}

/// A request that cannot be answered.
fn unfit(cause: String) -> Error {
    Error::Engine { name: "quantize", cause }
}

/// Names the model in an error of the library; for `map_err`.
fn in_model(path: &Path) -> impl FnOnce(quantize_pipeline::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Model { path, source: Box::new(source) }
}

fn options(args: &WorkerArgs) -> BenchOptions {
    BenchOptions {
        model: args.model.clone(),
        int8: true,
        data: Some(DataOptions {
            paths: vec![args.images.clone()],
            sampling: Default::default(),
            preparation: PreparationOptions::Pillow(preprocessing()),
        }),
        size: None,
        threads: 1,
        rounds: 1,
        per_layer: false,
    }
}

fn work(job: Job) -> Option<Work> {
    match job {
        Job::Fp32 => Some(Work::Fp32),
        Job::Int8 => Some(Work::Int8),
        Job::Calibration => Some(Work::Calibration),
        Job::MinMax | Job::Percentile | Job::Entropy => None,
    }
}

/// The tensor; one that is not `float32` has no numbers.
fn described(tensor: &Tensor) -> Input {
    let data = tensor.as_slice::<f32>().unwrap_or_default().to_vec();
    Input { shape: tensor.shape().to_vec(), data }
}
