//! The arithmetic of quantization as pure functions on slices.
//!
//! Here live the affine quantizer, mergeable tensor statistics, activation range estimation, weight scales and
//! bias codes, integer requantization, the division of spread between activations and weights and between layers, error
//! measures, the arithmetic of the xfDNN flow ([`xfdnn`]), and codes that travel with their ranges ([`ranged`]). Nothing
//! here knows graphs, files, images or threads.

#![forbid(unsafe_code)]

pub mod affine;
mod channels;
pub mod equalize;
mod error;
mod finite;
pub mod groups;
pub mod histogram;
pub mod measure;
pub mod range;
pub mod ranged;
pub mod requantize;
pub mod smooth;
pub mod stats;
pub mod weights;
pub mod xfdnn;

#[cfg(test)]
mod testing;

pub use affine::{AffineParams, QuantType, Range, RangeParams, params_from_range};
pub use channels::ChannelLayout;
pub use error::NumericsError;
pub use histogram::DyadicHistogram;
pub use range::{RangeEstimate, RangeMethod, RangeNote, estimate, expected_mse};
pub use requantize::{Requantizer, Rounding};
pub use stats::TensorStats;
