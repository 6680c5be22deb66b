//! Our fp32 executor computes what the test cases of the onnx wheel recorded.
//!
//! A case is a folder with a model and folders of inputs and outputs as serialized tensors. What cannot be run is listed
//! with its reason; the number of cases that agree is a requirement of its own.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use quantize_pipeline::{Model, Tensor};

use super::models::WheelModels;
use crate::conformance::compare::relative_difference;
use crate::conformance::context::Context;
use crate::conformance::files::stem;
use crate::conformance::report::{Report, Verdict};
use crate::error::{Error, Result, at};

/// The folders of the wheel whose cases are run.
const KINDS: [&str; 3] = ["simple", "pytorch-converted", "pytorch-operator"];

/// How many cases must agree: all but those of sequences, of text and of gradients.
const REQUIRED: usize = 120;

/// The largest difference, as a part of the largest recorded output.
const TOLERANCE: f64 = 1e-4;

/// What became of a case.
enum Outcome {
    /// Its outputs are the recorded ones, up to this difference.
    Agrees(f64),
    /// They are not.
    Differs(String),
    /// It could not be run.
    NotRun(String),
}

/// Runs all cases; those that disagree are failures each, and so is a number of agreeing ones that is too small.
pub(super) fn check(context: &Context, report: &mut Report) -> Result<()> {
    let cases = cases(WheelModels::find(context)?.models)?;
    let (mut agreeing, mut worst) = (0, 0.0f64);
    let mut unmet = Vec::new();
    let mut not_run: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for case in &cases {
        match run(case) {
            Ok(Outcome::Agrees(difference)) => {
                agreeing += 1;
                worst = worst.max(difference);
            }
            Ok(Outcome::Differs(how)) => unmet.push(format!("{}: {how}", stem(case))),
            Ok(Outcome::NotRun(why)) => not_run.entry(why).or_default().push(stem(case)),
            Err(error) => unmet.push(format!("{}: {error}", stem(case))),
        }
    }
    for (why, names) in &not_run {
        report.record(format!("wheel {}", names.join(", ")), Verdict::Skipped(why.clone()));
    }
    if agreeing < REQUIRED {
        unmet.push(format!("fewer than {REQUIRED} agree"));
    }
    let figures = format!("{agreeing} of {} cases agree, difference {worst:.1e} of the output's scale", cases.len());
    report.record("wheel", Verdict::of(figures, &unmet));
    Ok(())
}

/// The folders of the cases among the models of the wheel, sorted; each kind must have some.
fn cases(models: Vec<PathBuf>) -> Result<Vec<PathBuf>> {
    let mut cases = Vec::new();
    for kind in KINDS {
        let before = cases.len();
        let folders = models.iter().filter_map(|model| model.parent());
        cases.extend(folders.filter(|case| case.parent().is_some_and(|p| p.ends_with(kind))).map(Path::to_owned));
        if cases.len() == before {
            return Err(Error::NothingToCheck { what: "cases of simple, pytorch-converted and pytorch-operator" });
        }
    }
    Ok(cases)
}

/// Runs the model of a case on each of its sets of inputs.
fn run(case: &Path) -> Result<Outcome> {
    let path = case.join("model.onnx");
    let not_run = |error: quantize_pipeline::Error| {
        let text = error.to_string();
        let reason = text.strip_prefix(&format!("{}: ", path.display()));
        Ok(Outcome::NotRun(reason.unwrap_or(&text).to_owned()))
    };
    let model = match Model::open_onnx(&path) {
        Ok(model) => model,
        Err(error) => return not_run(error),
    };
    let mut worst = 0.0f64;
    for set in sets(case)? {
        let (Some(inputs), Some(recorded)) = (tensors(&set, "input")?, tensors(&set, "output")?) else {
            return Ok(Outcome::NotRun("its inputs or outputs are no tensors of numbers".into()));
        };
        let outputs = match model.run(&inputs) {
            Ok(outputs) => outputs,
            Err(error) => return not_run(error),
        };
        if outputs.len() != recorded.len() {
            return Ok(Outcome::Differs(format!("{} outputs instead of {}", outputs.len(), recorded.len())));
        }
        worst = outputs.iter().zip(&recorded).map(|(a, b)| relative_difference(a, b)).fold(worst, f64::max);
    }
    if worst <= TOLERANCE { Ok(Outcome::Agrees(worst)) } else { Ok(Outcome::Differs(format!("{worst:.1e} apart"))) }
}

/// The folders of inputs and outputs of a case, sorted; there must be one.
fn sets(case: &Path) -> Result<Vec<PathBuf>> {
    let mut sets = Vec::new();
    for entry in fs::read_dir(case).map_err(at(case))? {
        let path = entry.map_err(at(case))?.path();
        if path.is_dir() && stem(&path).starts_with("test_data_set_") {
            sets.push(path);
        }
    }
    sets.sort();
    if sets.is_empty() {
        Err(Error::NothingToCheck { what: "test_data_set_* of a case of the onnx wheel" })
    } else {
        Ok(sets)
    }
}

/// The tensors of `input_0.pb` and so on, or of outputs; `None` if one is a sequence or holds text.
fn tensors(set: &Path, kind: &str) -> Result<Option<Vec<Tensor>>> {
    let files = (0..).map(|k| set.join(format!("{kind}_{k}.pb"))).take_while(|file| file.is_file());
    let mut tensors = Vec::new();
    for file in files {
        let bytes = fs::read(&file).map_err(at(&file))?;
        let Ok(tensor) = quantize_onnx::decode_tensor_message(&bytes) else { return Ok(None) };
        tensors.push(tensor);
    }
    Ok(Some(tensors))
}
