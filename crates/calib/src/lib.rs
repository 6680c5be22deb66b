//! The data side of calibration: where samples come from and how an image becomes a model input.
//!
//! A [`DataSet`] is an [`ImageFolder`], which lists images and reads them, or [`ArrayFiles`], which does so with arrays
//! that are model inputs already. [`Sampling`] chooses some of them, and a [`Preparation`] turns an image into a
//! [`Sample`] of plain `f32` values: a [`Preprocess`] as Pillow does it, a [`Transformer`] as Caffe does. [`Labels`] says
//! what the samples show, and [`Statistics`] gathers what a model makes of them. Running a model and rounding its values
//! live in other crates.
#![forbid(unsafe_code)]

mod array;
mod arrays;
mod bilinear;
mod choice;
mod dataset;
mod decode;
mod error;
mod images;
mod labels;
mod listing;
mod mean;
mod npy;
mod npz;
mod preparation;
mod preprocess;
mod preset;
mod resample;
mod sampling;
mod statistics;
mod transformer;

pub use array::Array;
pub use arrays::{ArrayFiles, Outline, ReadMessage};
pub use dataset::DataSet;
pub use decode::{DecodedImage, Limits};
pub use error::CalibError;
pub use images::{ImageFolder, RawSample};
pub use labels::Labels;
pub use mean::{Mean, MeanImage};
pub use preparation::Preparation;
pub use preprocess::{Channels, Layout, Preprocess, Resize, Sample};
pub use preset::{PRESETS, Preset};
pub use resample::{Interpolation, Size};
pub use sampling::{DEFAULT_SEED, Sampling, SamplingError, choose};
pub use statistics::{
    Fingerprint, Fingerprinting, Provenance, Record, Statistics, StatisticsError, StatisticsFile, fingerprint,
};
pub use transformer::Transformer;
