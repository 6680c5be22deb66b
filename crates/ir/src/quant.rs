//! Quantization parameters of a tensor as data: grid, scales, zero points, axis. The arithmetic is in
//! `quantize-numerics`.

use crate::dtype::DType;
use quantize_numerics::{AffineParams, QuantType, Range};
use std::fmt;

/// Element type the codes of `qtype` are held in; those of 4 bits one to a byte.
pub const fn storage(qtype: QuantType) -> DType {
    match qtype {
        QuantType::U8 | QuantType::U7 | QuantType::U4 => DType::U8,
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
    /// Scales and zero points differ in number, or there are none, or several for one tensor.
    #[error("{scales} scales and {zero_points} zero points do not fit {spread}")]
    Lengths {
        /// Number of scales.
        scales: usize,
        /// Number of zero points.
        zero_points: usize,
        /// Which elements share one.
        spread: Spread,
    },
}

/// Which elements of a tensor share a scale and a zero point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// All of them.
    Tensor,
    /// Those with the same index along this axis.
    Channels {
        /// The axis of the channels.
        axis: usize,
    },
    /// Those that follow each other along an axis, with the same indices along all others.
    Blocks(Blocks),
}

/// Blocks of elements along one axis; the last of a row may be shorter. Scales are ordered as a tensor of the elements'
/// shape with the number of blocks in the place of the axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocks {
    /// The axis.
    pub axis: usize,
    /// Elements of a block, at least 1.
    pub size: usize,
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tensor => f.write_str("one tensor"),
            Self::Channels { axis } => write!(f, "the channels of axis {axis}"),
            Self::Blocks(Blocks { axis, size }) => write!(f, "blocks of {size} along axis {axis}"),
        }
    }
}

/// Where the scale of each element of a tensor stands among its scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScaleIndex {
    /// Size of the axis along which scales differ, and of its blocks.
    axis: usize,
    block: usize,
    /// Elements in a row with one index along the axis.
    inner: usize,
    /// Whether blocks of other indices have scales of their own.
    own: bool,
    scales: usize,
}

impl ScaleIndex {
    /// Of elements of `shape`; `None` if it has no such axis, or no elements.
    pub fn of(spread: Spread, shape: &[usize]) -> Option<Self> {
        let elements: usize = shape.iter().product();
        let (axis, block, inner) = match spread {
            Spread::Tensor => (1, 1, elements),
            Spread::Channels { axis } => (*shape.get(axis)?, 1, shape[axis + 1..].iter().product()),
            Spread::Blocks(Blocks { axis, size }) => (*shape.get(axis)?, size, shape[axis + 1..].iter().product()),
        };
        if elements == 0 || block == 0 {
            return None;
        }
        let own = matches!(spread, Spread::Blocks(_));
        let scales = if own { elements / axis * axis.div_ceil(block) } else { axis };
        Some(Self { axis, block, inner, own, scales })
    }

    /// Number of scales.
    pub fn scales(self) -> usize {
        self.scales
    }

    /// Index of the scale of element `element`, in memory order.
    pub fn scale_of(self, element: usize) -> usize {
        let row = element / self.inner;
        let index = row % self.axis;
        if !self.own {
            return index;
        }
        (row / self.axis * self.axis.div_ceil(self.block) + index / self.block) * self.inner + element % self.inner
    }
}

/// The quantizers of all elements of a tensor.
#[derive(Clone, Debug)]
pub struct Quantizers {
    index: ScaleIndex,
    affine: Vec<AffineParams>,
}

impl Quantizers {
    /// The quantizer of element `element`, in memory order.
    pub fn of(&self, element: usize) -> &AffineParams {
        &self.affine[self.index.scale_of(element)]
    }

    /// The nearest code of each value of a tensor.
    pub fn quantize(&self, values: &[f32]) -> Vec<i32> {
        values.iter().enumerate().map(|(i, x)| self.of(i).quantize(*x)).collect()
    }

    /// The real value of each code of a tensor.
    pub fn dequantize<T: Copy + Into<i32>>(&self, codes: &[T]) -> Vec<f32> {
        let inner = self.index.inner;
        if self.index.own {
            return codes.iter().enumerate().map(|(i, q)| self.of(i).dequantize((*q).into())).collect();
        }
        let mut values = Vec::with_capacity(codes.len());
        let rows = codes.chunks(inner).zip(self.affine.iter().cycle());
        rows.for_each(|(row, grid)| values.extend(row.iter().map(|q| grid.dequantize((*q).into()))));
        values
    }
}

/// Affine quantization parameters of one tensor, `real = scale * (code - zero_point)`: one scale, or one for each
/// channel or block.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantParams {
    qtype: QuantType,
    spread: Spread,
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
        Self::checked(qtype, Spread::Tensor, vec![scale], vec![zero_point])
    }

    /// Per-channel parameters along `axis`, zero points all 0 (symmetric).
    ///
    /// # Errors
    /// If a scale is not positive and finite, or there is none.
    pub fn per_channel(qtype: QuantType, axis: usize, scale: Vec<f32>) -> Result<Self, QuantError> {
        let zero_point = vec![0; scale.len()];
        Self::checked(qtype, Spread::Channels { axis }, scale, zero_point)
    }

    /// A scale and a zero point for each block.
    ///
    /// # Errors
    /// If a scale is not positive and finite, a zero point is outside the grid, or there are not as many of both.
    pub fn blocked(
        qtype: QuantType,
        blocks: Blocks,
        scale: Vec<f32>,
        zero_point: Vec<i32>,
    ) -> Result<Self, QuantError> {
        Self::checked(qtype, Spread::Blocks(blocks), scale, zero_point)
    }

    fn checked(qtype: QuantType, spread: Spread, scale: Vec<f32>, zero_point: Vec<i32>) -> Result<Self, QuantError> {
        let enough = if spread == Spread::Tensor { scale.len() == 1 } else { !scale.is_empty() };
        if scale.len() != zero_point.len() || !enough {
            return Err(QuantError::Lengths { scales: scale.len(), zero_points: zero_point.len(), spread });
        }
        let bad_scale = scale.iter().position(|s| !(*s > 0.0 && s.is_finite() && s.recip().is_finite()));
        if let Some(channel) = bad_scale {
            return Err(QuantError::Scale { channel, scale: scale[channel] });
        }
        let (lo, hi) = (qtype.qmin(), qtype.qmax());
        if let Some(channel) = zero_point.iter().position(|z| !(lo..=hi).contains(z)) {
            return Err(QuantError::ZeroPoint { channel, zero_point: zero_point[channel], lo, hi });
        }
        Ok(Self { qtype, spread, scale, zero_point, range: None })
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

    /// Which elements share a scale.
    pub fn spread(&self) -> Spread {
        self.spread
    }

    /// Channel axis; `None` if there is not one scale for each channel.
    pub fn axis(&self) -> Option<usize> {
        match self.spread {
            Spread::Channels { axis } => Some(axis),
            Spread::Tensor | Spread::Blocks(_) => None,
        }
    }

    /// Blocks that have a scale each, if there are any.
    pub fn blocks(&self) -> Option<Blocks> {
        match self.spread {
            Spread::Blocks(blocks) => Some(blocks),
            Spread::Tensor | Spread::Channels { .. } => None,
        }
    }

    /// The same parameters with other scales, in the same order.
    ///
    /// # Errors
    /// If a scale is not positive and finite, or there is another number of them.
    pub fn with_scale(&self, scale: Vec<f32>) -> Result<Self, QuantError> {
        Self::checked(self.qtype, self.spread, scale, self.zero_point.clone())
    }

    /// The quantizers of the elements of a tensor of `shape`; `None` if these are not its parameters.
    pub fn quantizers(&self, shape: &[usize]) -> Option<Quantizers> {
        let index = ScaleIndex::of(self.spread, shape).filter(|index| index.scales() == self.scale.len())?;
        let affine = (0..self.scale.len()).map(|i| self.affine(i)).collect::<Option<_>>()?;
        Some(Quantizers { index, affine })
    }

    /// One scale, or one for each channel or block.
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

    /// The quantizer of channel or block `channel` (0 for per-tensor); `None` beyond the last one.
    pub fn affine(&self, channel: usize) -> Option<AffineParams> {
        AffineParams::new(*self.scale.get(channel)?, *self.zero_point.get(channel)?, self.qtype).ok()
    }
}

impl From<AffineParams> for QuantParams {
    fn from(params: AffineParams) -> Self {
        Self {
            qtype: params.qtype(),
            spread: Spread::Tensor,
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
    fn blocks_run_along_their_axis() {
        let blocks = |axis, size| Spread::Blocks(Blocks { axis, size });
        let scales = |spread, shape: &[usize]| -> Vec<usize> {
            let index = ScaleIndex::of(spread, shape).unwrap();
            (0..shape.iter().product()).map(|i| index.scale_of(i)).collect()
        };
        assert_eq!(scales(blocks(0, 2), &[3, 2]), [0, 1, 0, 1, 2, 3]);
        assert_eq!(scales(blocks(1, 2), &[2, 3]), [0, 0, 1, 2, 2, 3]);
        assert_eq!(scales(blocks(1, 9), &[2, 3]), [0, 0, 0, 1, 1, 1]);
        assert_eq!(scales(Spread::Channels { axis: 1 }, &[2, 3]), [0, 1, 2, 0, 1, 2]);
        assert_eq!(scales(Spread::Tensor, &[2, 3]), [0; 6]);
        assert_eq!(ScaleIndex::of(blocks(0, 2), &[3, 2]).unwrap().scales(), 4);
        assert!(ScaleIndex::of(blocks(2, 2), &[3, 2]).is_none());
        assert!(ScaleIndex::of(blocks(0, 0), &[3, 2]).is_none());
    }

    #[test]
    fn codes_take_the_parameters_of_their_block() {
        let blocks = Blocks { axis: 0, size: 2 };
        let params = QuantParams::blocked(QuantType::U4, blocks, vec![0.5, 1.0, 2.0, 4.0], vec![8, 0, 3, 15]).unwrap();
        let grid = params.quantizers(&[3, 2]).unwrap();
        assert_eq!(grid.quantize(&[1.0, 4.0, -9.0, 99.0, 2.0, -8.0]), [10, 4, 0, 15, 4, 13]);
        assert_eq!(grid.dequantize(&[10, 4, 0, 15, 4, 13]), [1.0, 4.0, -4.0, 15.0, 2.0, -8.0]);
        assert!(params.quantizers(&[5, 2]).is_none());
        assert!(QuantParams::blocked(QuantType::U4, blocks, vec![0.5], vec![16]).is_err());
        assert!(QuantParams::blocked(QuantType::U4, blocks, vec![0.5], vec![1, 2]).is_err());
    }

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
