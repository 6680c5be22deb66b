//! The data side of calibration: where samples come from and how an image becomes a model input.
//!
//! An [`ImageFolder`] lists images and reads them, [`Sampling`] chooses some of them, and a [`Preparation`] turns each
//! into a [`Sample`] of plain `f32` values: a [`Preprocess`] as Pillow does it, a [`Transformer`] as Caffe does.
//! [`Labels`] says what the images show, and [`Statistics`] gathers what a model makes of them. Running a model and rounding its values live in other crates.
#![forbid(unsafe_code)]

mod bilinear;
mod choice;
mod dataset;
mod decode;
mod error;
mod labels;
mod mean;
mod npy;
mod preparation;
mod preprocess;
mod preset;
mod resample;
mod sampling;
mod statistics;
mod transformer;

pub use dataset::{ImageFolder, RawSample};
pub use decode::{DecodedImage, Limits};
pub use error::CalibError;
pub use labels::Labels;
pub use mean::{Mean, MeanImage};
pub use npy::Array;
pub use preparation::Preparation;
pub use preprocess::{Channels, Layout, Preprocess, Resize, Sample};
pub use preset::{PRESETS, Preset};
pub use resample::{Interpolation, Size};
pub use sampling::{DEFAULT_SEED, Sampling, SamplingError, choose};
pub use statistics::{
    Fingerprint, Fingerprinting, Provenance, Record, Statistics, StatisticsError, StatisticsFile, fingerprint,
};
pub use transformer::Transformer;
