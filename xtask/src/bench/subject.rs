//! The networks that are compared: those made by ourselves and, if the shared data are there, EfficientNet-Lite0.

use super::Bench;
use crate::conformance::onnx::lite0;
use crate::error::{Result, at};
use crate::networks::NETWORKS;
use crate::workspace;
use quantize_pipeline::PreprocessOptions;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Images that int8 models are made from.
const IMAGES: &str = "4";

/// Name of the real network.
pub(super) const LITE0: &str = "lite0";

/// A network with images and preprocessing to quantize it.
pub(super) struct Subject {
    pub(super) name: &'static str,
    pub(super) model: PathBuf,
    /// A folder of random pictures of the size of its input.
    pub(super) images: PathBuf,
}

/// Names of all networks.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    NETWORKS.iter().map(|network| network.name).chain([LITE0])
}

/// All networks that can be had; those of our own are made unless a former run has made them.
///
/// # Errors
///
/// If a file or folder cannot be written.
pub(super) fn all(bench: &Bench) -> Result<Vec<Subject>> {
    let folder = bench.context.cache("bench-models");
    fs::create_dir_all(&folder).map_err(at(&folder))?;
    let mut subjects = Vec::new();
    for network in &NETWORKS {
        let model = network.path(&folder);
        if !model.is_file() {
            network.write(&folder)?;
        }
        subjects.push(Subject { name: network.name, model, images: bench.context.work().join(network.name) });
    }
    match bench.context.shared_folder() {
        Some(shared) => subjects.push(Subject {
            name: LITE0,
            model: lite0::model(shared),
            images: bench.context.work().join(LITE0),
        }),
        None => println!("skipped {LITE0}: QUANTIZE_SHARED is not set"),
    }
    Ok(subjects)
}

impl Subject {
    /// Makes the images.
    ///
    /// # Errors
    ///
    /// If the script fails.
    pub(super) fn make_images(&self, bench: &Bench) -> Result<()> {
        let mut script = bench.context.script("onnx/random_images.py");
        workspace::output(script.arg(&self.model).arg("--out").arg(&self.images).args(["--count", IMAGES]))?;
        Ok(())
    }

    /// Quantizes the network.
    ///
    /// # Errors
    ///
    /// If the command fails.
    pub(super) fn quantize(&self, bench: &Bench) -> Result<PathBuf> {
        let output = bench.context.work().join(format!("{}.int8.onnx", self.name));
        let mut command: Command = bench.context.quantize();
        command.arg("onnx").arg(&self.model).arg("--calib").arg(&self.images).arg("-o").arg(&output);
        workspace::output(command.args(["--mean", &MEAN.to_string(), "--scale", &SCALE.to_string()]))?;
        Ok(output)
    }
}

const MEAN: f32 = 127.5;
const SCALE: f32 = 1.0 / 127.5;

/// What [`Subject::quantize`] does with the images: pixels become numbers from -1 to 1.
pub(super) fn preprocessing() -> PreprocessOptions {
    PreprocessOptions { mean: Some(vec![MEAN]), scale: Some(vec![SCALE]), ..PreprocessOptions::default() }
}
