//! Our fp32 executor agrees with onnxruntime, graph optimisations off.

use std::path::{Path, PathBuf};

use quantize_pipeline::{Model, Tensor};
use serde::Deserialize;

use super::identity::WheelModels;
use crate::conformance::context::{Context, stem, tiny_models};
use crate::conformance::lite0::Lite0;
use crate::conformance::npy;
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
        worst = ours.iter().zip(&theirs).map(|(ours, theirs)| difference(ours, theirs)).fold(worst, f64::max);
    }
    let figures = format!("{} samples, difference {worst:.1e} of the output's scale", reference.samples.len());
    let unmet = if worst <= TOLERANCE { Vec::new() } else { vec![format!("more than {TOLERANCE:.0e} apart")] };
    Ok(Verdict::of(figures, &unmet))
}

fn reference(context: &Context, case: &Case) -> Result<Reference> {
    let folder = context.folder("fp32")?.join(case.name.replace(' ', "-"));
    let mut script = context.script("reference.py");
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

fn read_all(files: &[PathBuf]) -> Result<Vec<Tensor>> {
    files.iter().map(|file| npy::read(file)).collect()
}

/// The largest difference as a part of the largest magnitude of `theirs`; infinite if shapes, types or integers
/// differ or a number is NaN.
fn difference(ours: &Tensor, theirs: &Tensor) -> f64 {
    if ours.shape() != theirs.shape() {
        return f64::INFINITY;
    }
    match (ours.as_slice::<f32>(), theirs.as_slice::<f32>()) {
        (Ok(ours), Ok(theirs)) => relative(ours, theirs),
        _ if ours == theirs => 0.0,
        _ => f64::INFINITY,
    }
}

fn relative(ours: &[f32], theirs: &[f32]) -> f64 {
    let scale = theirs.iter().map(|value| f64::from(value.abs())).fold(0.0, f64::max);
    let differences = ours.iter().zip(theirs).map(|(a, b)| (f64::from(*a) - f64::from(*b)).abs());
    let largest = differences.fold(0.0, |largest, d| if d.is_nan() { f64::INFINITY } else { f64::max(largest, d) });
    if largest == 0.0 { 0.0 } else { largest / scale }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_relative_and_never_hide_anything() {
        let vector = |values: &[f32]| Tensor::vector(values.to_vec());
        let cases = [
            ("equal", vector(&[1.0, -4.0]), vector(&[1.0, -4.0]), 0.0),
            ("a part of the scale", vector(&[1.0, -4.0]), vector(&[2.0, -4.0]), 0.25),
            ("another shape", vector(&[1.0]), vector(&[1.0, 1.0]), f64::INFINITY),
            ("not a number", vector(&[f32::NAN]), vector(&[1.0]), f64::INFINITY),
            ("beside zeros", vector(&[1.0]), vector(&[0.0]), f64::INFINITY),
            ("equal integers", Tensor::vector(vec![3i64]), Tensor::vector(vec![3i64]), 0.0),
            ("other integers", Tensor::vector(vec![3i64]), Tensor::vector(vec![4i64]), f64::INFINITY),
            ("another type", Tensor::vector(vec![3i64]), vector(&[3.0]), f64::INFINITY),
        ];
        for (name, ours, theirs, expected) in cases {
            assert_eq!(difference(&ours, &theirs), expected, "{name}");
        }
    }
}
