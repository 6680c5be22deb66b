//! `cargo xtask bench`: `quantize` beside onnxruntime, both on one core in the same run.
//!
//! Every figure stands beside a peer's that was measured in turn with it, so that what else the machine does falls on
//! both; what counts is their ratio. Times are processor times, the shortest of several rounds. Each part is a module
//! that adds rows to the table.

mod calibration;
mod command;
mod engine;
mod request;
mod rounds;
mod speed;
mod subject;
mod table;
mod worker;

pub(crate) use worker::{WorkerArgs, run as run_worker};

use crate::conformance::Suite;
use crate::conformance::context::Context;
use crate::error::{Error, Result, at};
use clap::Args;
use serde_json::json;
use std::fs;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::thread;
use table::Table;

/// What is measured, and how often.
#[derive(Args)]
pub(crate) struct BenchArgs {
    /// Measure only this; may be repeated: resnet50, mobilenet_v1, vgg16, vgg16_conv, lite0 (networks), command
    /// (quantizing lite0 with 100 photos), threads, memory.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Rounds of each comparison of networks; the shortest one of each side counts.
    #[arg(long, value_name = "N", default_value = "7")]
    rounds: NonZeroUsize,
    /// Write the table as JSON too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The core that everything runs on [default: the last one].
    #[arg(long, value_name = "N")]
    core: Option<usize>,
}

/// A comparison under way: where things are and how they are run.
struct Bench {
    context: Context,
    rounds: usize,
    core: usize,
}

impl BenchArgs {
    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }

    fn check(&self) -> Result<()> {
        let known = |name: &&String| subject::names().chain(command::NAMES.iter().copied()).any(|known| known == *name);
        match self.only.iter().find(|name| !known(name)) {
            Some(name) => Err(Error::UnknownPart { name: name.clone() }),
            None => Ok(()),
        }
    }
}

/// Measures and prints the table.
///
/// # Errors
///
/// If the virtual environment or the program cannot be made, or a run fails.
pub(crate) fn run(args: &BenchArgs) -> Result<()> {
    args.check()?;
    let core = args.core.unwrap_or_else(|| thread::available_parallelism().map_or(0, |cores| cores.get() - 1));
    let bench = Bench { context: Context::prepare("bench", Suite::Onnx)?, rounds: args.rounds.get(), core };
    let mut table = Table::default();
    for subject in subject::all(&bench)?.iter().filter(|subject| args.wants(subject.name)) {
        speed::measure(&bench, subject, &mut table)?;
    }
    for name in command::NAMES.iter().filter(|name| args.wants(name)) {
        command::measure(&bench, name, &mut table)?;
    }
    println!("\n{table}");
    if let Some(path) = &args.json {
        let report = json!({ "rounds": bench.rounds, "rows": table.rows() });
        fs::write(path, format!("{report:#}\n")).map_err(at(path))?;
    }
    Ok(())
}
