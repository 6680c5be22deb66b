//! The fp32 executor against the reference runtime, on every model and output of the fixtures.
#![allow(clippy::unwrap_used)]

use quantize_pipeline::{Error, Model, Tensor};
use quantize_tests::fixtures::{self, Named, Side};
use quantize_tests::models::{edited, keep_output};
use quantize_tests::sandbox::Sandbox;

/// The largest difference, as a part of the largest output.
const TOLERANCE: f64 = 1e-4;

/// Outputs that are not computed: model, output, and a part of the message that says why.
const NOT_COMPUTED: &[(&str, &str, &str)] = &[
    ("rare_operators", "sin", "(Sin)"),
    ("rare_operators", "cos", "(Cos)"),
    ("rare_operators", "atan", "(Atan)"),
    ("rare_operators", "celu", "(Celu)"),
    ("rare_operators", "softsign", "(Softsign)"),
    ("rare_operators", "thresholdedrelu", "(ThresholdedRelu)"),
    ("rare_operators", "hardmax", "(Hardmax)"),
    ("rare_operators", "celu_alpha", "(Celu)"),
    ("rare_operators", "thresholdedrelu_alpha", "(ThresholdedRelu)"),
    ("rare_operators", "lp_norm_l2", "(LpNormalization)"),
    ("rare_operators", "lp_norm_l1_last_axis", "(LpNormalization)"),
    ("rare_operators", "mod_int64", "(Mod)"),
    ("rare_operators", "mod_fmod", "(Mod)"),
    ("rare_operators", "reduce_logsumexp", "(ReduceLogSumExp)"),
    ("rare_operators", "arg_min", "(ArgMin)"),
    ("rare_operators", "xor", "(Xor)"),
    ("tiny_detector", "selected", "(NonMaxSuppression)"),
];

#[test]
fn every_model_computes_what_the_reference_runtime_does() {
    let mut found = Vec::new();
    let mut compared = 0;
    for name in fixtures::model_names() {
        let expected = fixtures::tensors(&name, Side::Out);
        compared += expected.len();
        found.extend(failures(&name, &expected).into_iter().map(|(output, why)| (name.clone(), output, why)));
    }
    let allowed = |(model, output, why): &(String, String, String)| {
        NOT_COMPUTED.iter().any(|(m, o, part)| m == model && o == output && why.contains(part))
    };
    let unexpected: Vec<_> = found.iter().filter(|failure| !allowed(failure)).collect();
    assert!(unexpected.is_empty(), "{} of {compared} outputs: {unexpected:#?}", unexpected.len());
    assert_eq!(found.len(), NOT_COMPUTED.len(), "an output is computed now: take it off the list: {found:#?}");
    assert!(compared >= 672, "only {compared} outputs in the fixtures");
}

/// Outputs that are not as expected, and why.
fn failures(name: &str, expected: &[Named]) -> Vec<(String, String)> {
    let inputs: Vec<Tensor> = fixtures::tensors(name, Side::In).into_iter().map(|t| t.tensor.unwrap()).collect();
    match Model::open_onnx(fixtures::model(name)).and_then(|model| model.run(&inputs)) {
        Ok(found) => {
            assert_eq!(found.len(), expected.len(), "{name}");
            expected.iter().zip(&found).filter_map(|(e, f)| Some((e.name.clone(), difference(e, f)?))).collect()
        }
        // One output of an unknown operator hides all others, so each is computed by itself.
        Err(_) => expected.iter().filter_map(|e| Some((e.name.clone(), failure_alone(name, e, &inputs)?))).collect(),
    }
}

fn failure_alone(name: &str, expected: &Named, inputs: &[Tensor]) -> Option<String> {
    match run_alone(name, &expected.name, inputs) {
        Ok(found) => difference(expected, &found[0]),
        Err(error) => Some(error.to_string()),
    }
}

fn run_alone(name: &str, output: &str, inputs: &[Tensor]) -> Result<Vec<Tensor>, Error> {
    let sandbox = Sandbox::new();
    sandbox.write("model.onnx", edited(name, |model| keep_output(model, output)));
    Model::open_onnx(sandbox.path("model.onnx"))?.run(inputs)
}

/// What is wrong with an output, if anything.
fn difference(expected: &Named, found: &Tensor) -> Option<String> {
    let expected = match &expected.tensor {
        Ok(tensor) => tensor,
        Err(why) => return Some(format!("reference {why}")),
    };
    if (expected.shape(), expected.dtype()) != (found.shape(), found.dtype()) {
        let (e, f) = (expected, found);
        return Some(format!("{} {:?} instead of {} {:?}", f.dtype(), f.shape(), e.dtype(), e.shape()));
    }
    match (expected.as_slice::<f32>(), found.as_slice::<f32>()) {
        (Ok(expected), Ok(found)) => real_difference(expected, found),
        _ => (expected != found).then(|| format!("{found:?} instead of {expected:?}")),
    }
}

fn real_difference(expected: &[f32], found: &[f32]) -> Option<String> {
    let finite = expected.iter().filter(|value| value.is_finite());
    let scale = finite.map(|value| f64::from(value.abs())).fold(1e-6, f64::max);
    let apart = |e: f32, f: f32| {
        if e == f || (e.is_nan() && f.is_nan()) { 0.0 } else { (f64::from(e) - f64::from(f)).abs() / scale }
    };
    let ratios = expected.iter().zip(found).map(|(e, f)| apart(*e, *f));
    let worst = ratios.fold(0.0, |worst, r| if r.is_nan() { f64::INFINITY } else { f64::max(worst, r) });
    (worst > TOLERANCE).then(|| format!("{worst:.1e} of the output's scale apart"))
}
