//! `cargo xtask conformance`: what `quantize` writes and computes, compared with the real runtime of a format.
//!
//! Each suite has a list of checks; a check records one or more verdicts with the figures it measured. A check that
//! needs what is not there is skipped in plain sight. The runtime lives in a virtual environment of its own.

mod accuracy;
mod caffe;
mod compare;
pub(crate) mod context;
pub(crate) mod files;
mod npy;
pub(crate) mod onnx;
pub(crate) mod report;
mod structure;
mod tensorflow;
pub(crate) mod usage;
mod venv;

use std::fs;

use clap::ValueEnum;

use crate::error::{Error, Result, at};
use context::Context;
use report::{Report, Verdict};

/// What there is a conformance run for.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Suite {
    /// The ONNX format, against onnxruntime.
    Onnx,
    /// The Caffe format, against OpenCV and, as ONNX, against onnxruntime.
    Caffe,
    /// The TensorFlow format, against TensorFlow.
    Tensorflow,
    /// What the recipes make of real networks, in onnxruntime, beside other tools.
    Accuracy,
}

/// A named check.
type Check = (&'static str, fn(&Context, &mut Report) -> Result<()>);

impl Suite {
    fn name(self) -> &'static str {
        match self {
            Self::Onnx => "onnx",
            Self::Caffe => "caffe",
            Self::Tensorflow => "tensorflow",
            Self::Accuracy => "accuracy",
        }
    }

    /// The name of its virtual environment.
    fn environment(self) -> &'static str {
        match self {
            Self::Onnx | Self::Accuracy => "onnx",
            Self::Caffe => "caffe",
            Self::Tensorflow => "tensorflow",
        }
    }

    /// The packages of its virtual environment, one a line.
    fn requirements(self) -> &'static str {
        match self {
            Self::Onnx | Self::Accuracy => include_str!("../conformance/onnx/requirements.txt"),
            Self::Caffe => include_str!("../conformance/caffe/requirements.txt"),
            Self::Tensorflow => include_str!("../conformance/tensorflow/requirements.txt"),
        }
    }

    fn checks(self) -> &'static [Check] {
        match self {
            Self::Onnx => onnx::CHECKS,
            Self::Caffe => caffe::CHECKS,
            Self::Tensorflow => tensorflow::CHECKS,
            Self::Accuracy => accuracy::CHECKS,
        }
    }
}

/// Runs the checks of a suite whose names contain one of `only`, or all if `only` is empty.
///
/// Prints each verdict as it comes and writes them as a table to `conformance/<suite>.md` in the target folder.
///
/// # Errors
///
/// If a check fails, if no check is run, or if the virtual environment or the program cannot be made.
pub(crate) fn run(suite: Suite, only: &[String]) -> Result<()> {
    let context = Context::prepare(suite.name(), suite)?;
    let mut report = Report::default();
    let wanted = |name: &str| only.is_empty() || only.iter().any(|word| name.contains(word.as_str()));
    for (name, check) in suite.checks().iter().filter(|(name, _)| wanted(name)) {
        if let Err(error) = check(&context, &mut report) {
            report.record(*name, Verdict::Failed(error.to_string()));
        }
    }
    let table = context.work().with_extension("md");
    fs::write(&table, report.table()).map_err(at(&table))?;
    println!("{}", report.totals());
    println!("{}", table.display());
    if report.is_good() { Ok(()) } else { Err(Error::Conformance { suite: suite.name() }) }
}
