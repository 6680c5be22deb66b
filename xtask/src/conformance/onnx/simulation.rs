//! Our simulation of a plan predicts what onnxruntime makes of the written file.

use std::path::Path;

use quantize_pipeline::{
    DataOptions, PreparationOptions, QuantizeOptions, RecipeOptions, Silent, TargetOptions, simulate_onnx,
};

use super::lite0::{Lite0, preprocessing};
use crate::conformance::context::Context;
use crate::conformance::npy;
use crate::conformance::report::{Report, Verdict};
use crate::error::{Error, Result};
use crate::workspace;

/// Photos that both sides are compared on.
const PHOTOS: usize = 100;

/// The largest difference of the two ratios, in dB.
const TOLERANCE_DB: f64 = 0.2;

/// Lite0 by the default recipe: the mean ratio of signal to noise of the logits, simulated and in onnxruntime.
pub(super) fn check(context: &Context, report: &mut Report) -> Result<()> {
    let Some(shared) = context.shared("simulation", report) else {
        return Ok(());
    };
    let lite0 = Lite0::prepare(context, shared)?;
    let folder = context.folder("simulation")?;
    let (output, logits) = (folder.join("lite0.onnx"), folder.join("lite0.npy"));
    workspace::output(&mut lite0.quantize(context, &lite0.calib, &output))?;
    lite0.judge(context, &output, &logits)?;

    let fp32 = values(&lite0.data.join("logits.npy"))?;
    let runtime = mean_sqnr(&fp32, &values(&logits)?);
    let simulated = mean_sqnr(&fp32, &simulate(&lite0, &output)?);
    let apart = (runtime - simulated).abs();
    let figures =
        format!("{PHOTOS} photos: simulated {simulated:.2} dB, onnxruntime {runtime:.2} dB, {apart:.3} dB apart");
    let unmet = if apart <= TOLERANCE_DB { Vec::new() } else { vec![format!("more than {TOLERANCE_DB} dB apart")] };
    report.record("simulation", Verdict::of(figures, &unmet));
    Ok(())
}

/// The first rows of an array.
fn values(file: &Path) -> Result<Vec<Vec<f32>>> {
    let float =
        |error: quantize_pipeline::TensorError| Error::Array { path: file.to_owned(), cause: error.to_string() };
    npy::rows(file, PHOTOS)?.into_iter().map(|row| row.into_vec::<f32>().map_err(float)).collect()
}

/// The simulated logits of the first photos.
fn simulate(lite0: &Lite0, output: &Path) -> Result<Vec<Vec<f32>>> {
    let failed = |source| Error::Model { path: lite0.model.clone(), source: Box::new(source) };
    let simulation = simulate_onnx(&options(lite0, output), &Silent).map_err(failed)?;
    let file = lite0.data.join("x.npy");
    let mut logits = Vec::with_capacity(PHOTOS);
    for photo in npy::rows(&file, PHOTOS)? {
        let outputs = simulation.run(&[photo]).map_err(failed)?;
        let float =
            |error: quantize_pipeline::TensorError| Error::Array { path: file.clone(), cause: error.to_string() };
        for output in outputs {
            logits.push(output.into_vec::<f32>().map_err(float)?);
        }
    }
    Ok(logits)
}

/// The options of the command line that [`Lite0::quantize`] gives.
fn options(lite0: &Lite0, output: &Path) -> QuantizeOptions {
    QuantizeOptions {
        model: lite0.model.clone(),
        output: output.to_owned(),
        data: Some(DataOptions {
            paths: vec![lite0.calib.clone()],
            sampling: Default::default(),
            preparation: PreparationOptions::Pillow(preprocessing()),
        }),
        recipe: RecipeOptions::default(),
        target: TargetOptions::default(),
        threads: 0,
        ..QuantizeOptions::default()
    }
}

/// The mean over rows of 10 log10(sum y² / sum (y − yq)²), in dB; NaN if the rows do not pair up.
fn mean_sqnr(exact: &[Vec<f32>], quantized: &[Vec<f32>]) -> f64 {
    if exact.len() != quantized.len() || exact.is_empty() {
        return f64::NAN;
    }
    let sum: f64 = exact.iter().zip(quantized).map(|(y, yq)| sqnr(y, yq)).sum();
    sum / exact.len() as f64
}

fn sqnr(exact: &[f32], quantized: &[f32]) -> f64 {
    if exact.len() != quantized.len() {
        return f64::NAN;
    }
    let signal: f64 = exact.iter().map(|y| f64::from(*y).powi(2)).sum();
    let noise: f64 = exact.iter().zip(quantized).map(|(y, yq)| (f64::from(*y) - f64::from(*yq)).powi(2)).sum();
    10.0 * (signal / noise).log10()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_means_over_rows() {
        let exact = [vec![3.0, 4.0], vec![10.0, 0.0]];
        let quantized = [vec![3.0, 3.5], vec![9.0, 0.0]];
        assert!((mean_sqnr(&exact, &quantized) - 20.0).abs() < 1e-9);
        assert!(mean_sqnr(&exact, &quantized[..1]).is_nan());
        assert!(mean_sqnr(&exact, &[vec![3.0], vec![9.0]]).is_nan());
    }
}
