//! The Caffe networks of the shared data: where they are, how they run in OpenCV and here.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use quantize_pipeline::{CaffeFiles, Model, ReadOptions, Tensor};
use serde::Deserialize;

use crate::conformance::context::Context;
use crate::conformance::files::{files, stem};
use crate::conformance::npy;
use crate::error::{Error, Result, at};
use crate::workspace;

/// The folders of networks in the shared folder.
const NETWORKS: &str = "models/caffe";

/// Networks that are fed photos rather than random numbers, which they would be too sure of, and the file of the photos
/// in the shared folder.
const PHOTOS: &[(&str, &str)] = &[("open_nsfw", "golden/xfdnn/e2e_open_nsfw/input4.npy")];

/// A network in its two files.
pub(super) struct Network {
    /// Name of its description, or of its folder if the two files have different names.
    pub(super) name: String,
    /// The description.
    pub(super) deploy: PathBuf,
    /// The weights.
    pub(super) weights: PathBuf,
    /// Inputs, if they are not random.
    photos: Option<PathBuf>,
}

/// What `reference.py` and `run_onnx.py` print.
#[derive(Deserialize)]
pub(super) struct Runs {
    /// Each input and what became of it.
    pub(super) samples: Vec<Sample>,
}

/// The file of an input, and those of the outputs by name.
#[derive(Deserialize)]
pub(super) struct Sample {
    /// The input.
    pub(super) input: PathBuf,
    /// The outputs.
    pub(super) outputs: BTreeMap<String, PathBuf>,
}

/// All networks of the shared folder, sorted.
///
/// # Errors
///
/// If there are none.
pub(super) fn find(shared: &Path) -> Result<Vec<Network>> {
    let root = shared.join(NETWORKS);
    let entries = fs::read_dir(&root).map_err(at(&root))?;
    let mut folders: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    folders.retain(|folder| folder.is_dir());
    folders.sort();
    let mut networks = Vec::new();
    for folder in &folders {
        for weights in files(folder, |name| name.ends_with(".caffemodel"))? {
            networks.push(Network::of(folder, weights)?.with_photos(shared));
        }
    }
    if networks.is_empty() {
        return Err(Error::NothingToCheck { what: "models/caffe/*/*.caffemodel in the shared folder" });
    }
    Ok(networks)
}

impl Network {
    /// The network of a file of weights: its description has the same name, or is the only one of the folder.
    fn of(folder: &Path, weights: PathBuf) -> Result<Self> {
        let namesake = weights.with_extension("prototxt");
        if namesake.is_file() {
            return Ok(Self { name: stem(&weights), deploy: namesake, weights, photos: None });
        }
        let mut others = files(folder, |name| name.ends_with(".prototxt"))?;
        match (others.pop(), others.is_empty()) {
            (Some(deploy), true) => Ok(Self { name: stem(folder), deploy, weights, photos: None }),
            _ => Err(Error::NothingToCheck { what: "a description for each *.caffemodel in the shared folder" }),
        }
    }

    fn with_photos(self, shared: &Path) -> Self {
        let photos = PHOTOS.iter().find(|(name, _)| *name == self.name).map(|(_, file)| shared.join(file));
        Self { photos, ..self }
    }

    /// The command `quantize caffe` for it, without further options.
    pub(super) fn quantize(&self, context: &Context) -> Command {
        let mut command = context.quantize();
        command.arg("caffe").arg(&self.deploy).arg(&self.weights);
        command
    }

    /// Writes the network as an fp32 ONNX model.
    ///
    /// # Errors
    ///
    /// If the command fails.
    pub(super) fn export(&self, context: &Context, output: &Path) -> Result<()> {
        let mut command = self.quantize(context);
        workspace::output(command.args(["--emit", "onnx-fp32", "--quiet", "-o"]).arg(output)).map(drop)
    }

    /// Runs it in OpenCV, on photos or on random inputs.
    ///
    /// # Errors
    ///
    /// If the script fails, for instance because OpenCV does not read the network.
    pub(super) fn reference(&self, context: &Context) -> Result<Runs> {
        let mut script = context.script("caffe/reference.py");
        script.arg(&self.deploy).arg(&self.weights).arg("--out").arg(context.folder("opencv")?.join(&self.name));
        if let Some(photos) = &self.photos {
            script.arg("--input").arg(photos);
        }
        workspace::json(&mut script)
    }

    /// The largest difference between our fp32 outputs and the samples' by the given measure; infinite if the names
    /// of the outputs differ.
    ///
    /// # Errors
    ///
    /// If the network does not run here, or an array cannot be read.
    pub(super) fn difference(&self, runs: &Runs, measure: fn(&Tensor, &Tensor) -> f64) -> Result<f64> {
        let failed = |source| Error::Model { path: self.deploy.clone(), source: Box::new(source) };
        let files =
            CaffeFiles { deploy: self.deploy.clone(), weights: self.weights.clone(), read: ReadOptions::default() };
        let model = Model::open_caffe(&files).map_err(failed)?;
        let mut worst = 0.0f64;
        for sample in &runs.samples {
            let ours = model.run(&[npy::read(&sample.input)?]).map_err(failed)?;
            if ours.len() != sample.outputs.len() {
                return Ok(f64::INFINITY);
            }
            for (name, ours) in model.output_names().into_iter().zip(&ours) {
                let Some(theirs) = sample.outputs.get(name) else { return Ok(f64::INFINITY) };
                worst = worst.max(measure(ours, &npy::read(theirs)?));
            }
        }
        Ok(worst)
    }
}

impl Runs {
    /// How many runs of how many outputs, as `2 samples of 3 outputs`.
    pub(super) fn describe(&self) -> String {
        let outputs = self.samples.first().map_or(0, |sample| sample.outputs.len());
        format!("{} samples of {outputs} output{}", self.samples.len(), if outputs == 1 { "" } else { "s" })
    }
}
