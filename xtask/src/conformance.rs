//! `cargo xtask conformance`: what `quantize` writes and computes, compared with the real runtime of a format.
//!
//! Each format has a list of checks; a check records one or more verdicts with the figures it measured. A check that
//! needs what is not there is skipped in plain sight. The runtime lives in a virtual environment of its own.

mod caffe;
mod compare;
pub(crate) mod context;
pub(crate) mod files;
mod npy;
pub(crate) mod onnx;
pub(crate) mod report;
mod structure;
pub(crate) mod usage;
mod venv;

use std::fs;

use clap::ValueEnum;

use crate::error::{Error, Result, at};
use context::Context;
use report::{Report, Verdict};

/// The formats that have a conformance run.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Format {
    /// ONNX, against onnxruntime.
    Onnx,
    /// Caffe, against OpenCV and, as ONNX, against onnxruntime.
    Caffe,
}

/// A named check.
type Check = (&'static str, fn(&Context, &mut Report) -> Result<()>);

impl Format {
    fn name(self) -> &'static str {
        match self {
            Self::Onnx => "onnx",
            Self::Caffe => "caffe",
        }
    }

    /// The packages of its virtual environment, one a line.
    fn requirements(self) -> &'static str {
        match self {
            Self::Onnx => include_str!("../conformance/onnx/requirements.txt"),
            Self::Caffe => include_str!("../conformance/caffe/requirements.txt"),
        }
    }

    fn checks(self) -> &'static [Check] {
        match self {
            Self::Onnx => onnx::CHECKS,
            Self::Caffe => caffe::CHECKS,
        }
    }
}

/// Runs the checks of a format whose names contain one of `only`, or all if `only` is empty.
///
/// Prints each verdict as it comes and writes them as a table to `conformance/<format>.md` in the target folder.
///
/// # Errors
///
/// If a check fails, if no check is run, or if the virtual environment or the program cannot be made.
pub(crate) fn run(format: Format, only: &[String]) -> Result<()> {
    let context = Context::prepare(format.name(), format)?;
    let mut report = Report::default();
    let wanted = |name: &str| only.is_empty() || only.iter().any(|word| name.contains(word.as_str()));
    for (name, check) in format.checks().iter().filter(|(name, _)| wanted(name)) {
        if let Err(error) = check(&context, &mut report) {
            report.record(*name, Verdict::Failed(error.to_string()));
        }
    }
    let table = context.work().with_extension("md");
    fs::write(&table, report.table()).map_err(at(&table))?;
    println!("{}", report.totals());
    println!("{}", table.display());
    if report.is_good() { Ok(()) } else { Err(Error::Conformance { format: format.name() }) }
}
