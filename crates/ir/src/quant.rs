//! Quantization parameters as data: type, scale, zero point, axis. The arithmetic is in `quantize-numerics`.

use crate::dtype::DType;
use std::fmt;

/// Integer grid a tensor is quantized to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QuantType {
    /// 0..=255
    U8,
    /// -128..=127
    I8,
    /// -127..=127, zero point 0: weights, and symmetric activations.
    I8Narrow,
    /// Biases; zero point 0.
    I32,
}

impl QuantType {
    /// Smallest and largest integer of the grid.
    pub const fn bounds(self) -> (i32, i32) {
        match self {
            Self::U8 => (0, 255),
            Self::I8 => (-128, 127),
            Self::I8Narrow => (-127, 127),
            Self::I32 => (i32::MIN, i32::MAX),
        }
    }

    /// Element type the codes are stored in.
    pub const fn storage(self) -> DType {
        match self {
            Self::U8 => DType::U8,
            Self::I8 | Self::I8Narrow => DType::I8,
            Self::I32 => DType::I32,
        }
    }
}

impl fmt::Display for QuantType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::U8 => "u8",
            Self::I8 => "s8",
            Self::I8Narrow => "s8-narrow",
            Self::I32 => "s32",
        })
    }
}

/// The real interval quantization parameters were made from; `lo <= hi`, both finite.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QuantRange {
    /// Lower end.
    pub lo: f32,
    /// Upper end.
    pub hi: f32,
}

/// Why quantization parameters were refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum QuantError {
    /// A scale is zero, negative, infinite, not a number, or its reciprocal overflows.
    #[error("scale {scale} of channel {channel} is not a positive finite number")]
    Scale {
        /// Index into the scales.
        channel: usize,
        /// The refused scale.
        scale: f32,
    },
    /// A zero point lies outside the integer grid.
    #[error("zero point {zero_point} of channel {channel} lies outside {lo}..={hi}")]
    ZeroPoint {
        /// Index into the zero points.
        channel: usize,
        /// The refused zero point.
        zero_point: i32,
        /// Smallest code.
        lo: i32,
        /// Largest code.
        hi: i32,
    },
    /// Scales and zero points differ in number, or there is no axis for several of them, or none at all.
    #[error("{scales} scales and {zero_points} zero points do not fit axis {axis:?}")]
    Lengths {
        /// Number of scales.
        scales: usize,
        /// Number of zero points.
        zero_points: usize,
        /// The channel axis, `None` for per-tensor.
        axis: Option<usize>,
    },
}

/// Affine quantization parameters of one tensor, `real = scale * (code - zero_point)`; per tensor (`axis` is `None`,
/// one scale) or per channel (one scale for each index along `axis`).
#[derive(Clone, Debug, PartialEq)]
pub struct QuantParams {
    qtype: QuantType,
    axis: Option<usize>,
    scale: Vec<f32>,
    zero_point: Vec<i32>,
    range: Option<QuantRange>,
}

impl QuantParams {
    /// Per-tensor parameters.
    ///
    /// # Errors
    /// If the scale is not positive and finite or the zero point is outside the grid.
    pub fn per_tensor(qtype: QuantType, scale: f32, zero_point: i32) -> Result<Self, QuantError> {
        Self::checked(qtype, None, vec![scale], vec![zero_point])
    }

    /// Per-channel parameters along `axis`, zero points all 0 (symmetric).
    ///
    /// # Errors
    /// If a scale is not positive and finite, or there is none.
    pub fn per_channel(qtype: QuantType, axis: usize, scale: Vec<f32>) -> Result<Self, QuantError> {
        let zero_point = vec![0; scale.len()];
        Self::checked(qtype, Some(axis), scale, zero_point)
    }

    fn checked(
        qtype: QuantType,
        axis: Option<usize>,
        scale: Vec<f32>,
        zero_point: Vec<i32>,
    ) -> Result<Self, QuantError> {
        let fits = scale.len() == zero_point.len() && if axis.is_some() { !scale.is_empty() } else { scale.len() == 1 };
        if !fits {
            return Err(QuantError::Lengths { scales: scale.len(), zero_points: zero_point.len(), axis });
        }
        let bad_scale = scale.iter().position(|s| !(*s > 0.0 && s.is_finite() && s.recip().is_finite()));
        if let Some(channel) = bad_scale {
            return Err(QuantError::Scale { channel, scale: scale[channel] });
        }
        let (lo, hi) = qtype.bounds();
        if let Some(channel) = zero_point.iter().position(|z| !(lo..=hi).contains(z)) {
            return Err(QuantError::ZeroPoint { channel, zero_point: zero_point[channel], lo, hi });
        }
        Ok(Self { qtype, axis, scale, zero_point, range: None })
    }

    /// The same parameters, remembering the interval they were made from.
    pub fn with_range(mut self, range: QuantRange) -> Self {
        self.range = Some(range);
        self
    }

    /// Integer grid.
    pub fn qtype(&self) -> QuantType {
        self.qtype
    }

    /// Channel axis; `None` for per-tensor.
    pub fn axis(&self) -> Option<usize> {
        self.axis
    }

    /// One scale, or one for each channel.
    pub fn scale(&self) -> &[f32] {
        &self.scale
    }

    /// Zero points, as many as scales.
    pub fn zero_point(&self) -> &[i32] {
        &self.zero_point
    }

    /// The interval the parameters were made from, where there was one.
    pub fn range(&self) -> Option<QuantRange> {
        self.range
    }

    /// Real interval the codes of channel 0 cover.
    pub fn covered(&self) -> QuantRange {
        let (lo, hi) = self.qtype.bounds();
        let (s, z) = (f64::from(self.scale[0]), f64::from(self.zero_point[0]));
        QuantRange { lo: (s * (f64::from(lo) - z)) as f32, hi: (s * (f64::from(hi) - z)) as f32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_that_cannot_be_executed_are_refused() {
        for scale in [0.0, -1.0, f32::NAN, f32::INFINITY, 1e-40] {
            assert!(QuantParams::per_tensor(QuantType::U8, scale, 0).is_err(), "{scale}");
        }
        assert!(QuantParams::per_tensor(QuantType::U8, 1.0, 256).is_err());
        assert!(QuantParams::per_tensor(QuantType::I8Narrow, 1.0, -128).is_err());
        assert!(QuantParams::per_channel(QuantType::I8Narrow, 0, vec![]).is_err());
    }

    #[test]
    fn covered_interval_of_u8() {
        let p = QuantParams::per_tensor(QuantType::U8, 0.5, 128).unwrap();
        assert_eq!(p.covered(), QuantRange { lo: -64.0, hi: 63.5 });
    }
}
