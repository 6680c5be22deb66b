//! EfficientNet-Lite0: the real network of the shared data, its preprocessing and its judgement.

use std::path::{Path, PathBuf};
use std::process::Command;

use quantize_pipeline::{Channels, Interpolation, PreprocessOptions};
use serde::Deserialize;

use crate::conformance::context::Context;
use crate::error::Result;
use crate::workspace;

/// The model in the shared folder.
const MODEL: &str = "models/onnx/efficientnet_lite0/efficientnet_lite0.onnx";

/// The model's own preprocessing, as options of the command line.
const PREPROCESSING: &[&str] = &[
    "--resize-short",
    "256",
    "--crop",
    "224",
    "--interpolation",
    "bicubic",
    "--channels",
    "rgb",
    "--mean",
    "127,127,127",
    "--scale",
    "0.0078125",
];

/// A recipe without corrections: nothing is changed after the choice of ranges.
const RECIPE: &[&str] = &["--preset", "fast", "--bias-correction", "none"];

/// The model and its photos.
pub(crate) struct Lite0 {
    /// The fp32 model.
    pub(crate) model: PathBuf,
    /// The calibration photos.
    pub(crate) calib: PathBuf,
    /// The preprocessed validation photos `x.npy`, with the fp32 model's `logits.npy` and `labels.npy`.
    pub(crate) data: PathBuf,
    /// Percent of the validation photos that the fp32 model classifies rightly in onnxruntime.
    pub(crate) top1: f64,
}

/// What `prepare_images.py` prints.
#[derive(Deserialize)]
struct Prepared {
    top1: f64,
}

/// What `judge.py` prints.
#[derive(Debug, Deserialize)]
pub(crate) struct Judgement {
    /// Mean over images of the ratio of signal to quantization noise of the logits, in dB.
    pub(crate) sqnr: f64,
    /// The ratio of each image.
    pub(crate) ratios: Vec<f64>,
    /// Percent of images with the fp32 model's class.
    pub(crate) agreement: f64,
    /// Percent of images with the right class.
    pub(crate) top1: f64,
    /// Mean over images of the Kullback-Leibler divergence of the classes' probabilities, in nats.
    pub(crate) kl: f64,
}

impl Lite0 {
    /// Preprocesses the validation photos and runs the fp32 model, unless a former run has done so.
    ///
    /// # Errors
    ///
    /// If the script fails.
    pub(crate) fn prepare(context: &Context, shared: &Path) -> Result<Self> {
        let model = model(shared);
        let data = context.cache("lite0");
        let mut script = context.script("onnx/prepare_images.py");
        script.arg("--model").arg(&model).arg("--images").arg(shared.join("images/val")).arg("--out").arg(&data);
        let prepared: Prepared = workspace::json(&mut script)?;
        Ok(Self { model, calib: shared.join("images/calib"), data, top1: prepared.top1 })
    }

    /// The command that quantizes the model with photos of a folder.
    pub(crate) fn quantize(&self, context: &Context, calib: &Path, output: &Path) -> Command {
        quantize(context, &self.model, calib, output)
    }

    /// Runs a quantized model over the validation photos; its logits go to a file.
    ///
    /// # Errors
    ///
    /// If the script fails, for instance because the model does not load.
    pub(crate) fn judge(&self, context: &Context, model: &Path, logits: &Path) -> Result<Judgement> {
        let mut script = context.script("onnx/judge.py");
        workspace::json(script.arg(model).arg("--data").arg(&self.data).arg("--logits").arg(logits))
    }
}

/// The fp32 model in the shared folder.
pub(crate) fn model(shared: &Path) -> PathBuf {
    shared.join(MODEL)
}

/// The command that quantizes the model with photos of a folder.
pub(crate) fn quantize(context: &Context, model: &Path, calib: &Path, output: &Path) -> Command {
    let mut command = quantize_by(context, model, calib, output);
    command.args(RECIPE);
    command
}

/// The command that quantizes the model with photos of a folder, by the default recipe.
pub(crate) fn quantize_by(context: &Context, model: &Path, calib: &Path, output: &Path) -> Command {
    let mut command = context.quantize();
    command.arg("onnx").arg(model).arg("--calib").arg(calib).arg("-o").arg(output).args(PREPROCESSING);
    command
}

/// The model's own preprocessing, as the library takes it.
pub(crate) fn preprocessing() -> PreprocessOptions {
    PreprocessOptions {
        resize_short: Some(256),
        crop: Some((224, 224)),
        interpolation: Some(Interpolation::Bicubic),
        channels: Some(Channels::Rgb),
        mean: Some(vec![127.0; 3]),
        scale: Some(vec![0.007_812_5]),
        ..PreprocessOptions::default()
    }
}
