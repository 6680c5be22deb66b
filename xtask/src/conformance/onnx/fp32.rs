//! Our fp32 executor agrees with onnxruntime, graph optimisations off.

use std::path::{Path, PathBuf};

use quantize_pipeline::Model;
use serde::Deserialize;

use super::lite0::Lite0;
use super::models::{WheelModels, tiny_models};
use crate::conformance::compare::relative_difference;
use crate::conformance::context::Context;
use crate::conformance::files::stem;
use crate::conformance::npy::read_all;
use crate::conformance::report::{Report, Verdict};
use crate::error::{Error, Result};
use crate::workspace;

/// The largest difference, as a part of the largest output.
const TOLERANCE: f64 = 1e-4;

/// Test networks with outputs that one side cannot compute, and the outputs that both can.
const PARTS: &[(&str, &[&str])] = &[("tiny_detector", &["boxes", "scores"]), ("tiny_detector_custom", &[])];

/// What `reference.py` prints.
#[derive(Deserialize)]
struct Reference {
    model: PathBuf,
    samples: Vec<Sample>,
}

/// The files of one set of inputs and of what onnxruntime made of it.
#[derive(Deserialize)]
struct Sample {
    inputs: Vec<PathBuf>,
    outputs: Vec<PathBuf>,
}

/// A model, where its samples come from, how many are taken (all if not said), and which outputs (all if empty).
struct Case {
    name: String,
    model: PathBuf,
    input: Option<PathBuf>,
    samples: Option<usize>,
    outputs: &'static [&'static str],
}

impl Case {
    /// A model that is fed random numbers.
    fn random(model: PathBuf) -> Self {
        Self { name: stem(&model), model, input: None, samples: None, outputs: &[] }
    }
}

/// The goldens, the networks of the onnx wheel, Lite0 and the small networks of the repository.
pub(super) fn check(context: &Context, report: &mut Report) -> Result<()> {
    let mut cases: Vec<Case> = WheelModels::find(context)?.light.into_iter().map(Case::random).collect();
    for model in tiny_models()? {
        let name = stem(&model);
        match PARTS.iter().find(|(part, _)| *part == name) {
            Some((_, [])) => {
                let why = "all its outputs need an operator that onnxruntime does not know".to_owned();
                report.record(format!("fp32 {name}"), Verdict::Skipped(why));
            }
            Some((_, outputs)) => cases.push(Case { outputs, ..Case::random(model) }),
            None => cases.push(Case::random(model)),
        }
    }
    if let Some(shared) = context.shared("fp32 of the shared models", report) {
        cases.extend(goldens(shared)?);
        let lite0 = Lite0::prepare(context, shared)?;
        let input = Some(lite0.data.join("x.npy"));
        cases.push(Case { name: "lite0".into(), model: lite0.model, input, samples: Some(8), outputs: &[] });
    }
    for case in &cases {
        let verdict = judge(context, case).unwrap_or_else(|error| Verdict::Failed(error.to_string()));
        report.record(format!("fp32 {}", case.name), verdict);
    }
    Ok(())
}

/// The models with reference outputs in the shared folder, with their test inputs.
fn goldens(shared: &Path) -> Result<Vec<Case>> {
    let folder = shared.join("golden/onnx");
    let entries = std::fs::read_dir(&folder).map_err(crate::error::at(&folder))?;
    let mut folders: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    folders.retain(|folder| folder.join("fp32.onnx").is_file());
    folders.sort();
    if folders.is_empty() {
        return Err(Error::NothingToCheck { what: "golden/onnx/*/fp32.onnx in the shared folder" });
    }
    let case = |folder: &PathBuf| Case {
        name: format!("golden {}", stem(folder)),
        model: folder.join("fp32.onnx"),
        input: Some(folder.join("test_x.npy")),
        samples: None,
        outputs: &[],
    };
    Ok(folders.iter().map(case).collect())
}

/// Runs a model on both sides.
fn judge(context: &Context, case: &Case) -> Result<Verdict> {
    let reference = reference(context, case)?;
    let failed = |source| Error::Model { path: case.model.clone(), source: Box::new(source) };
    let model = Model::open_onnx(&reference.model).map_err(failed)?;
    let mut worst = 0.0f64;
    for sample in &reference.samples {
        let inputs = read_all(&sample.inputs)?;
        let ours = model.run(&inputs).map_err(failed)?;
        let theirs = read_all(&sample.outputs)?;
        if ours.len() != theirs.len() {
            return Ok(Verdict::Failed(format!("{} outputs instead of {}", ours.len(), theirs.len())));
        }
        worst = ours.iter().zip(&theirs).map(|(ours, theirs)| relative_difference(ours, theirs)).fold(worst, f64::max);
    }
    let figures = format!("{} samples, difference {worst:.1e} of the output's scale", reference.samples.len());
    let unmet = if worst <= TOLERANCE { Vec::new() } else { vec![format!("more than {TOLERANCE:.0e} apart")] };
    Ok(Verdict::of(figures, &unmet))
}

fn reference(context: &Context, case: &Case) -> Result<Reference> {
    let folder = context.folder("fp32")?.join(case.name.replace(' ', "-"));
    let mut script = context.script("onnx/reference.py");
    script.arg(&case.model).arg("--out").arg(folder);
    if let Some(input) = &case.input {
        script.arg("--input").arg(input);
    }
    if let Some(samples) = case.samples {
        script.arg("--samples").arg(samples.to_string());
    }
    if !case.outputs.is_empty() {
        script.arg("--outputs").args(case.outputs);
    }
    workspace::json(&mut script)
}
