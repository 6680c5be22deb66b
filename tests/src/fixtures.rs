//! The files of `fixtures/`: models with reference tensors, and labelled images.

use prost::Message;
use quantize_calib::{Channels, ImageFolder, Layout, Limits, Preprocess, Resize, Size};
use quantize_pipeline::{DataOptions, PreparationOptions, PreprocessOptions, Tensor};
use quantize_proto::onnx::TensorProto;
use std::fs;
use std::path::{Path, PathBuf};

/// Subtracted from pixel values for the `tiny_*` models.
pub const MEAN: f32 = 127.5;
/// Multiplied after that.
pub const SCALE: f32 = 1.0 / 127.5;

/// A tensor with its name in the file.
#[derive(Clone, Debug)]
pub struct Named {
    /// The name.
    pub name: String,
    /// The tensor, or why it cannot be held in memory.
    pub tensor: Result<Tensor, String>,
}

/// Whether tensors are fed or expected.
#[derive(Clone, Copy, Debug)]
pub enum Side {
    /// Inputs.
    In,
    /// Outputs of the reference runtime.
    Out,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// The file of a model.
#[must_use]
pub fn model(name: &str) -> PathBuf {
    folder().join("models").join(format!("{name}.onnx"))
}

/// The bytes of a model.
///
/// # Panics
/// If there is no such model.
#[must_use]
pub fn model_bytes(name: &str) -> Vec<u8> {
    fs::read(model(name)).expect("a model of the fixtures")
}

/// Names of all models, in alphabetical order.
///
/// # Panics
/// If the folder cannot be listed or holds no model.
#[must_use]
pub fn model_names() -> Vec<String> {
    let entries = fs::read_dir(folder().join("models")).expect("the folder of models");
    let files = entries.map(|entry| entry.expect("an entry of the folder").file_name());
    let mut names: Vec<String> =
        files.filter_map(|file| file.to_str()?.strip_suffix(".onnx").map(str::to_owned)).collect();
    assert!(!names.is_empty(), "no model in the fixtures");
    names.sort();
    names
}

/// The reference tensors of a model, in the order of its inputs or outputs; empty if it has none.
///
/// # Panics
/// If a file is no tensor message.
#[must_use]
pub fn tensors(model: &str, side: Side) -> Vec<Named> {
    let kind = match side {
        Side::In => "in",
        Side::Out => "out",
    };
    let path = |k: usize| folder().join("models").join(format!("{model}.{kind}_{k}.pb"));
    (0..).map_while(|k| fs::read(path(k)).ok()).map(|bytes| named(&bytes)).collect()
}

fn named(bytes: &[u8]) -> Named {
    let message = TensorProto::decode(bytes).expect("a tensor message");
    Named { name: message.name().to_owned(), tensor: quantize_onnx::decode_tensor_message(bytes) }
}

/// The folder of labelled images.
#[must_use]
pub fn images() -> PathBuf {
    folder().join("images")
}

/// The labels of [`images`].
#[must_use]
pub fn labels() -> PathBuf {
    images().join("labels.csv")
}

/// File names of the images, in the order of [`samples`].
///
/// # Panics
/// If they cannot be listed.
#[must_use]
pub fn image_names() -> Vec<String> {
    let folder = ImageFolder::open(images(), Limits::default()).expect("the folder of images");
    folder.names().map(str::to_owned).collect()
}

/// [`images`] with the preprocessing of the `tiny_*` models.
#[must_use]
pub fn data() -> DataOptions {
    let preprocess = PreprocessOptions { mean: Some(vec![MEAN]), scale: Some(vec![SCALE]), ..Default::default() };
    DataOptions {
        paths: vec![images()],
        sampling: Default::default(),
        preparation: PreparationOptions::Pillow(preprocess),
    }
}

/// Every image as an input `[1, 3, side, side]` of a `tiny_*` model, in alphabetical order.
///
/// # Panics
/// If an image cannot be read.
#[must_use]
pub fn samples(side: usize) -> Vec<Tensor> {
    let folder = ImageFolder::open(images(), Limits::default()).expect("the folder of images");
    let preprocess = Preprocess {
        resize: Some(Resize::Exact(Size::square(side))),
        channels: Channels::Rgb,
        layout: Layout::Nchw,
        mean: vec![MEAN],
        scale: vec![SCALE],
        ..Preprocess::default()
    };
    let sample = |index| {
        let raw = folder.load(index).expect("an image");
        let sample = preprocess.apply(raw.image().expect("an image")).expect("a sample");
        Tensor::new(sample.dims.to_vec(), sample.data).expect("as many elements as the shape says")
    };
    (0..folder.len()).map(sample).collect()
}
