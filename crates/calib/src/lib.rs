//! The data side of calibration: where samples come from and how an image becomes a model input.
//!
//! An [`ImageFolder`] lists and decodes images, a [`Preprocess`] turns each into a [`Sample`] of plain `f32` values,
//! [`Labels`] says what the images show, and [`Statistics`]
//! gathers what a model makes of them. Running a model and rounding its values live in other crates.
#![forbid(unsafe_code)]

mod choice;
mod collect;
mod dataset;
mod decode;
mod error;
mod labels;
mod npy;
mod preprocess;
mod preset;
mod resample;
mod sampling;

pub use collect::Statistics;
pub use dataset::{ImageFolder, RawSample};
pub use decode::{DecodedImage, Limits};
pub use error::CalibError;
pub use labels::Labels;
pub use npy::Array;
pub use preprocess::{Channels, Layout, Preprocess, Resize, Sample};
pub use preset::{PRESETS, Preset};
pub use resample::{Interpolation, Size};
pub use sampling::{DEFAULT_SEED, Sampling, SamplingError, choose};
