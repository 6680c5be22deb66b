//! From exact sums to output codes: as vectors for the end of a kernel.
//!
//! What lives here: the parameters of each channel, prepared once, and the rounding rules. What does not: loops over
//! tensors, and where the parameters come from.

use super::fixed_point::FixedPoint;
use crate::buffer::{Buffer, Number};
use crate::error::{KernelError, check_len};
use crate::simd::Simd;

/// Most lanes of any instruction set: parameters of channels fill up whole vectors of all of them.
pub(super) const MOST_LANES: usize = 16;

/// Arithmetic of a requantization.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// Sum and multiplier as `f32`, product in `f32`, half to even (ONNX Runtime).
    FloatHalfEven,
    /// A 31-bit mantissa: rounding doubling high multiplication, then a right shift that rounds half away from zero
    /// (gemmlowp, reference kernels of TensorFlow Lite).
    FixedPoint,
}

/// Codes a result may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeRange {
    /// Code of real 0.
    pub zero_point: u8,
    /// Smallest code: 0, or more after a fused activation.
    pub lowest: u8,
    /// Largest code: 255, or less after a fused activation. If it is below `lowest`, all codes are `highest`.
    pub highest: u8,
}

impl CodeRange {
    /// All codes.
    pub fn full(zero_point: u8) -> Self {
        Self { zero_point, lowest: 0, highest: 255 }
    }

    /// The range in registers.
    #[inline(always)]
    pub(crate) fn vector<S: Simd>(self, s: S) -> RangeVector<S> {
        let zero_point = i32::from(self.zero_point);
        RangeVector {
            lowest: s.splat((i32::from(self.lowest) - zero_point) as f32),
            highest: s.splat((i32::from(self.highest) - zero_point) as f32),
            zero_point: s.splat_i32(zero_point),
        }
    }

    /// A code from its distance to the zero point.
    pub(super) fn code(self, distance: i64) -> u8 {
        let code = distance + i64::from(self.zero_point);
        code.max(self.lowest.into()).min(self.highest.into()) as u8
    }
}

/// Requantization of a layer's sums: `code = round((sum + bias) * multiplier) + zero point`, saturated.
#[derive(Clone, Debug)]
pub struct Requantize {
    channels: usize,
    bias: Buffer<i32>,
    multipliers: Multipliers,
    range: CodeRange,
}

#[derive(Clone, Debug)]
enum Multipliers {
    Float(Buffer<f32>),
    Fixed { mantissas: Buffer<i32>, shifts: Buffer<i32> },
}

impl Requantize {
    /// Requantization with an int32 bias and a real multiplier (scale of x times scale of w by scale of y) for each
    /// output channel. To round as ONNX Runtime does, compute the multiplier in `f32`, in this order.
    ///
    /// # Errors
    /// If the two have different lengths, or a multiplier is negative, NaN, or not below 2³¹.
    pub fn new(bias: &[i32], multipliers: &[f64], range: CodeRange, rounding: Rounding) -> Result<Self, KernelError> {
        check_len("multipliers", bias.len(), multipliers.len())?;
        if let Some(channel) = multipliers.iter().position(|m| !(0.0..2f64.powi(31)).contains(m)) {
            return Err(KernelError::Multiplier { channel });
        }
        let multipliers = match rounding {
            Rounding::FloatHalfEven => Multipliers::Float(whole_vectors(multipliers.iter().map(|m| *m as f32))),
            Rounding::FixedPoint => Multipliers::Fixed {
                mantissas: whole_vectors(multipliers.iter().map(|m| FixedPoint::new(*m).mantissa)),
                shifts: whole_vectors(multipliers.iter().map(|m| FixedPoint::new(*m).shift)),
            },
        };
        Ok(Self { channels: bias.len(), bias: whole_vectors(bias.iter().copied()), multipliers, range })
    }

    /// Output channels it is for.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Bias of the vector of channels from `channel`: what their sums start with.
    #[inline(always)]
    pub(crate) fn bias<S: Simd>(&self, s: S, channel: usize) -> S::I32 {
        load_i32(s, &self.bias, channel)
    }

    /// Parameters of the vector of channels from `channel`, if it rounds as floats.
    ///
    /// Not by way of [`RequantizeVector`], whose variants would share memory instead of having registers.
    #[inline(always)]
    pub(super) fn float_vector<S: Simd>(&self, s: S, channel: usize) -> Option<FloatVector<S>> {
        match &self.multipliers {
            Multipliers::Float(multipliers) => {
                Some(FloatVector { multiplier: load(s, multipliers, channel), range: self.range.vector(s) })
            }
            Multipliers::Fixed { .. } => None,
        }
    }

    /// Parameters of the vector of channels from `channel`.
    #[inline(always)]
    pub(crate) fn vector<S: Simd>(&self, s: S, channel: usize) -> RequantizeVector<S> {
        match &self.multipliers {
            Multipliers::Float(multipliers) => RequantizeVector::Float(FloatVector {
                multiplier: load(s, multipliers, channel),
                range: self.range.vector(s),
            }),
            Multipliers::Fixed { mantissas, shifts } => RequantizeVector::Fixed(FixedVector {
                mantissas: load_i32(s, mantissas, channel),
                shifts: load_i32(s, shifts, channel),
                range: self.range,
            }),
        }
    }

    /// The definition, for one sum that includes the bias.
    #[cfg(test)]
    pub(crate) fn code(&self, channel: usize, sum: i32) -> u8 {
        let distance = match &self.multipliers {
            Multipliers::Float(scales) => (sum as f32 * scales[channel]).round_ties_even() as i64,
            Multipliers::Fixed { mantissas, shifts } => {
                let (mantissa, shift) = (mantissas[channel], shifts[channel]);
                FixedPoint { mantissa, shift }.multiply(sum).into()
            }
        };
        self.range.code(distance)
    }
}

/// Parameters of a requantization for one vector of channels, in registers: what is written to a result might change
/// those in memory, as far as the compiler knows.
#[derive(Clone, Copy)]
pub(crate) enum RequantizeVector<S: Simd> {
    Float(FloatVector<S>),
    Fixed(FixedVector<S>),
}

impl<S: Simd> RequantizeVector<S> {
    /// Codes of sums that include the bias, each in a lane of 32 bits.
    #[inline(always)]
    pub(crate) fn codes(self, s: S, sums: S::I32) -> S::I32 {
        match self {
            Self::Float(vector) => vector.codes(s, sums),
            Self::Fixed(vector) => vector.codes(s, sums),
        }
    }
}

/// Parameters of [`Rounding::FloatHalfEven`] for one vector of channels.
#[derive(Clone, Copy)]
pub(crate) struct FloatVector<S: Simd> {
    pub(super) multiplier: S::F32,
    pub(super) range: RangeVector<S>,
}

impl<S: Simd> FloatVector<S> {
    /// Codes of sums that include the bias, each in a lane of 32 bits.
    #[inline(always)]
    pub(crate) fn codes(self, s: S, sums: S::I32) -> S::I32 {
        self.range.codes(s, s.mul(s.to_f32(sums), self.multiplier))
    }
}

/// A [`CodeRange`] in registers.
#[derive(Clone, Copy)]
pub(crate) struct RangeVector<S: Simd> {
    /// Ends, as distances from the zero point.
    lowest: S::F32,
    highest: S::F32,
    zero_point: S::I32,
}

impl<S: Simd> RangeVector<S> {
    /// Codes of distances from the zero point, rounded half to even, each in a lane of 32 bits; of NaN the lowest.
    #[inline(always)]
    pub(crate) fn codes(self, s: S, distances: S::F32) -> S::I32 {
        // The ends are integers, so it is the same before the rounding as after; and the rest fits an i32.
        let distances = s.min(s.max(distances, self.lowest), self.highest);
        s.add_i32(s.to_i32(distances), self.zero_point)
    }
}

/// Parameters of [`Rounding::FixedPoint`] for one vector of channels.
#[derive(Clone, Copy)]
pub(crate) struct FixedVector<S: Simd> {
    mantissas: S::I32,
    shifts: S::I32,
    range: CodeRange,
}

impl<S: Simd> FixedVector<S> {
    #[inline(always)]
    fn codes(self, s: S, sums: S::I32) -> S::I32 {
        let (mut sums, mantissas, shifts) = (lanes(s, sums), lanes(s, self.mantissas), lanes(s, self.shifts));
        for i in 0..S::LANES {
            let product = FixedPoint { mantissa: mantissas[i], shift: shifts[i] }.multiply(sums[i]);
            sums[i] = self.range.code(product.into()).into();
        }
        load_i32(s, &sums, 0)
    }
}

/// Results that stay real: `y = (sum + bias) * scale`, in `f32`.
#[derive(Clone, Debug)]
pub struct Dequantize {
    channels: usize,
    bias: Buffer<i32>,
    scales: Buffer<f32>,
}

impl Dequantize {
    /// An int32 bias and a scale (scale of x times scale of w) for each output channel.
    ///
    /// # Errors
    /// If the two have different lengths.
    pub fn new(bias: &[i32], scales: &[f32]) -> Result<Self, KernelError> {
        check_len("scales", bias.len(), scales.len())?;
        let scales = whole_vectors(scales.iter().copied());
        Ok(Self { channels: bias.len(), bias: whole_vectors(bias.iter().copied()), scales })
    }

    /// Output channels it is for.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Bias of the vector of channels from `channel`: what their sums start with.
    #[inline(always)]
    pub(crate) fn bias<S: Simd>(&self, s: S, channel: usize) -> S::I32 {
        load_i32(s, &self.bias, channel)
    }

    /// Scales of the vector of channels from `channel`.
    #[inline(always)]
    pub(crate) fn scales<S: Simd>(&self, s: S, channel: usize) -> S::F32 {
        load(s, &self.scales, channel)
    }
}

/// Elements, filled up with zeros to whole vectors of any instruction set.
pub(super) fn whole_vectors<T: Number>(elements: impl ExactSizeIterator<Item = T>) -> Buffer<T> {
    let mut buffer = Buffer::new(elements.len().next_multiple_of(MOST_LANES));
    buffer.iter_mut().zip(elements).for_each(|(to, element)| *to = element);
    buffer
}

/// The vector from element `at`.
#[inline(always)]
#[allow(unsafe_code)]
pub(super) fn load<S: Simd>(s: S, from: &[f32], at: usize) -> S::F32 {
    let from = &from[at..at + S::LANES];
    // SAFETY: the slice has that many elements.
    unsafe { s.load(from.as_ptr()) }
}

/// The vector from element `at`.
#[inline(always)]
#[allow(unsafe_code)]
pub(super) fn load_i32<S: Simd>(s: S, from: &[i32], at: usize) -> S::I32 {
    let from = &from[at..at + S::LANES];
    // SAFETY: the slice has that many elements.
    unsafe { s.load_i32(from.as_ptr()) }
}

/// Lanes as an array, of which the first `LANES` count.
#[inline(always)]
#[allow(unsafe_code)]
fn lanes<S: Simd>(s: S, x: S::I32) -> [i32; MOST_LANES] {
    let mut lanes = [0; MOST_LANES];
    // SAFETY: no vector has more lanes.
    unsafe { s.store_i32(lanes.as_mut_ptr(), x) };
    lanes
}

#[cfg(test)]
mod tests;
