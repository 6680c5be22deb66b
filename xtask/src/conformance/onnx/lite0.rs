//! EfficientNet-Lite0: the real network of the shared data, its preprocessing and its judgement.

use std::path::{Path, PathBuf};
use std::process::Command;

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

/// The recipe of every row: no correction after the choice of ranges.
const RECIPE: &[&str] = &["--preset", "fast", "--bias-correction", "none"];

/// The model and its photos.
pub(super) struct Lite0 {
    /// The fp32 model.
    pub(super) model: PathBuf,
    /// The calibration photos.
    pub(super) calib: PathBuf,
    /// The preprocessed validation photos `x.npy`, with the fp32 model's `logits.npy` and `labels.npy`.
    pub(super) data: PathBuf,
    /// Percent of the validation photos that the fp32 model classifies rightly in onnxruntime.
    pub(super) top1: f64,
}

/// What `prepare_images.py` prints.
#[derive(Deserialize)]
struct Prepared {
    top1: f64,
}

/// What `judge.py` prints.
#[derive(Debug, Deserialize)]
pub(super) struct Judgement {
    /// Mean over images of the ratio of signal to quantization noise of the logits, in dB.
    pub(super) sqnr: f64,
    /// Percent of images with the fp32 model's class.
    pub(super) agreement: f64,
    /// Percent of images with the right class.
    pub(super) top1: f64,
}

impl Lite0 {
    /// Preprocesses the validation photos and runs the fp32 model, unless a former run has done so.
    ///
    /// # Errors
    ///
    /// If the script fails.
    pub(super) fn prepare(context: &Context, shared: &Path) -> Result<Self> {
        let model = shared.join(MODEL);
        let data = context.cache("lite0");
        let mut script = context.script("onnx/prepare_images.py");
        script.arg("--model").arg(&model).arg("--images").arg(shared.join("images/val")).arg("--out").arg(&data);
        let prepared: Prepared = workspace::json(&mut script)?;
        Ok(Self { model, calib: shared.join("images/calib"), data, top1: prepared.top1 })
    }

    /// The command that quantizes the model with photos of a folder.
    pub(super) fn quantize(&self, context: &Context, calib: &Path, output: &Path) -> Command {
        let mut command = context.quantize();
        command.arg("onnx").arg(&self.model).arg("--calib").arg(calib).arg("-o").arg(output);
        command.args(RECIPE).args(PREPROCESSING);
        command
    }

    /// Runs a quantized model over the validation photos; its logits go to a file.
    ///
    /// # Errors
    ///
    /// If the script fails, for instance because the model does not load.
    pub(super) fn judge(&self, context: &Context, model: &Path, logits: &Path) -> Result<Judgement> {
        let mut script = context.script("onnx/judge.py");
        workspace::json(script.arg(model).arg("--data").arg(&self.data).arg("--logits").arg(logits))
    }
}
