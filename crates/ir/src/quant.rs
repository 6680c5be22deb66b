//! Quantization parameters of a tensor as data: grid, scales, zero points, axis. The arithmetic is in
//! `quantize-numerics`.

use crate::dtype::DType;
use quantize_numerics::{AffineParams, QuantType, Range};

/// Element type the codes of `qtype` are stored in.
pub const fn storage(qtype: QuantType) -> DType {
    match qtype {
        QuantType::U8 => DType::U8,
        QuantType::U16 => DType::U16,
        QuantType::I16Narrow => DType::I16,
        QuantType::I32 => DType::I32,
        _ => DType::I8,
    }
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
    range: Option<Range>,
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
        let (lo, hi) = (qtype.qmin(), qtype.qmax());
        if let Some(channel) = zero_point.iter().position(|z| !(lo..=hi).contains(z)) {
            return Err(QuantError::ZeroPoint { channel, zero_point: zero_point[channel], lo, hi });
        }
        Ok(Self { qtype, axis, scale, zero_point, range: None })
    }

    /// The same parameters, remembering the interval they were made from.
    pub fn with_range(mut self, range: Range) -> Self {
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
    pub fn range(&self) -> Option<Range> {
        self.range
    }

    /// The quantizer of channel `channel` (0 for per-tensor); `None` beyond the last channel.
    pub fn affine(&self, channel: usize) -> Option<AffineParams> {
        AffineParams::new(*self.scale.get(channel)?, *self.zero_point.get(channel)?, self.qtype).ok()
    }
}

impl From<AffineParams> for QuantParams {
    fn from(params: AffineParams) -> Self {
        Self {
            qtype: params.qtype(),
            axis: None,
            scale: vec![params.scale()],
            zero_point: vec![params.zero_point()],
            range: None,
        }
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
}
