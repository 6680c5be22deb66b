//! The networks that the benchmark runs, as ONNX models with random weights: ResNet-50 v1.5, MobileNetV1 and VGG16 for
//! images of 224 x 224 pixels, batch 1, batch normalization already folded. Always the same bytes.
//!
//! Layers and sizes are the published ones. What a network consists of lives here; how operators become nodes is in
//! [`builder`], how a model becomes bytes in [`mod@file`].

pub(crate) mod big;
mod builder;
mod file;
mod mobilenet;
mod resnet;
mod vgg;

#[cfg(test)]
mod tests;

use crate::error::{Result, at};
use file::Model;
use quantize_document::OutputSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Number of classes of every classifier.
const CLASSES: usize = 1000;

/// A network that can be made.
pub(crate) struct Network {
    /// Name of the file, without its extension.
    pub(crate) name: &'static str,
    model: fn() -> Model,
}

/// All networks.
pub(crate) static NETWORKS: [Network; 4] = [
    Network { name: "resnet50", model: resnet::resnet50 },
    Network { name: "mobilenet_v1", model: mobilenet::mobilenet_v1 },
    Network { name: "vgg16", model: vgg::vgg16 },
    Network { name: "vgg16_conv", model: vgg::convolutions },
];

impl Network {
    /// Where the network stands in `folder`.
    pub(crate) fn path(&self, folder: &Path) -> PathBuf {
        folder.join(format!("{}.onnx", self.name))
    }

    /// Writes the network into `folder`.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub(crate) fn write(&self, folder: &Path) -> Result<PathBuf> {
        let path = self.path(folder);
        let model = (self.model)();
        let mut outputs = OutputSet::new();
        outputs.add_writer(&path, |out| model.write_to(out));
        outputs.commit()?;
        Ok(path)
    }
}

/// Writes every network into `folder`, which is made if it is not there.
///
/// # Errors
///
/// If the folder or a file cannot be written.
pub(crate) fn write(folder: &Path) -> Result<Vec<PathBuf>> {
    fs::create_dir_all(folder).map_err(at(folder))?;
    NETWORKS.iter().map(|network| network.write(folder)).collect()
}
