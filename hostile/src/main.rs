//! `cargo xtask hostile`: damaged files, given to every reader of the project.
//!
//! This file holds the command line. The driver starts this program again as workers, so that an input that ends the
//! process, or never ends, is one failure among others.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a task talks to the person who started it")]

mod bombs;
mod corpus;
mod driver;
mod error;
mod measure;
mod seeds;
mod target;
mod targets;
mod worker;

use clap::Parser;
use error::{Error, Result};
use peak_alloc::PeakAlloc;
use std::path::PathBuf;
use std::process::ExitCode;
use target::Target;

/// Counts what is allocated; every call of a reader is measured by it.
#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

/// Give damaged files to every reader: none may panic, take longer than a second, or allocate more than three times
/// the file and 64 MiB. Inputs follow from their numbers, which `--replay` takes.
#[derive(Parser)]
#[command(name = "cargo xtask hostile", bin_name = "cargo xtask hostile")]
struct Args {
    /// Damaged inputs for each target. Whole files, files cut short and large files made to cost much come on top.
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    inputs: u64,
    /// Try only this target; may be given several times.
    #[arg(long = "target", value_name = "NAME")]
    targets: Vec<String>,
    /// Read one input again in this process and say what comes of it.
    #[arg(long, value_name = "TARGET:NUMBER")]
    replay: Option<String>,
    /// With --replay: also write the input to a file.
    #[arg(long, value_name = "FILE", requires = "replay")]
    save: Option<PathBuf>,
    /// Processes at a time [default: one for each processor].
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Read the inputs of a range, as the driver asks.
    #[command(flatten)]
    worker: worker::WorkerArgs,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    if let Some(share) = args.worker.share() {
        return worker::run(&share);
    }
    if let Some(input) = &args.replay {
        return worker::replay(input, args.save.as_deref());
    }
    driver::run(&chosen(&args.targets)?, args.inputs, args.jobs)
}

/// The targets of these names, all of them if there are no names.
fn chosen(names: &[String]) -> Result<Vec<&'static Target>> {
    if names.is_empty() {
        return Ok(targets::TARGETS.iter().collect());
    }
    names.iter().map(|name| Target::named(name)).collect()
}

impl Target {
    /// The target of this name.
    ///
    /// # Errors
    ///
    /// If there is none.
    fn named(name: &str) -> Result<&'static Self> {
        let known = || targets::TARGETS.iter().map(|target| target.name).collect::<Vec<_>>().join(", ");
        let found = targets::TARGETS.iter().find(|target| target.name == name);
        found.ok_or_else(|| Error::UnknownTarget { name: name.to_owned(), known: known() })
    }
}
