//! From exact sums to output codes, and the addition of codes: as vectors for the end of a kernel.
//!
//! What lives here: the parameters of each channel, prepared once, and the rounding rules. What does not: loops over
//! tensors, and where the parameters come from.
//!
//! Codes are `u8`: signed ones and their zero points have the top bit flipped, which adds 128.

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

    /// A code from its distance to the zero point.
    pub(super) fn code(self, distance: i64) -> u8 {
        let code = distance + i64::from(self.zero_point);
        code.max(self.lowest.into()).min(self.highest.into()) as u8
    }

    /// Ends as distances from `origin`.
    fn ends<S: Simd>(self, s: S, origin: i32) -> (S::F32, S::F32) {
        let end = |code: u8| s.splat((i32::from(code) - origin) as f32);
        (end(self.lowest), end(self.highest))
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

    /// Parameters of the vector of channels from `channel`.
    #[inline(always)]
    pub(crate) fn vector<S: Simd>(&self, s: S, channel: usize) -> RequantizeVector<S> {
        let multiplier = match &self.multipliers {
            Multipliers::Float(scales) => MultiplierVector::Float(load(s, scales, channel)),
            Multipliers::Fixed { mantissas, shifts } => {
                MultiplierVector::Fixed(load_i32(s, mantissas, channel), load_i32(s, shifts, channel))
            }
        };
        RequantizeVector { multiplier, range: self.range }
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

/// Parameters of a requantization for one vector of channels.
#[derive(Clone, Copy)]
pub(crate) struct RequantizeVector<S: Simd> {
    multiplier: MultiplierVector<S>,
    range: CodeRange,
}

#[derive(Clone, Copy)]
enum MultiplierVector<S: Simd> {
    Float(S::F32),
    Fixed(S::I32, S::I32),
}

impl<S: Simd> RequantizeVector<S> {
    /// Codes of sums that include the bias, each in a lane of 32 bits.
    #[inline(always)]
    pub(crate) fn codes(&self, s: S, sums: S::I32) -> S::I32 {
        let zero_point = i32::from(self.range.zero_point);
        match self.multiplier {
            MultiplierVector::Float(multiplier) => {
                // The ends are integers, so it is the same before the rounding as after; and the rest fits an i32.
                let (lowest, highest) = self.range.ends(s, zero_point);
                let product = s.min(s.max(s.mul(s.to_f32(sums), multiplier), lowest), highest);
                s.add_i32(s.to_i32(product), s.splat_i32(zero_point))
            }
            MultiplierVector::Fixed(mantissas, shifts) => {
                let (mut sums, mantissas, shifts) = (lanes(s, sums), lanes(s, mantissas), lanes(s, shifts));
                for i in 0..S::LANES {
                    let product = FixedPoint { mantissa: mantissas[i], shift: shifts[i] }.multiply(sums[i]);
                    sums[i] = self.range.code(product.into()).into();
                }
                load_i32(s, &sums, 0)
            }
        }
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

/// What the codes of a tensor stand for: `real = (code - zero point) * scale`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Grid {
    /// Distance of neighbouring codes.
    pub scale: f32,
    /// Code of real 0.
    pub zero_point: u8,
}

/// What a byte without its flipped top bit is. Some roundings happen before the zero point is taken off, so that the
/// two do not always give the same codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// An unsigned code, as it is.
    Unsigned,
    /// A signed code; the byte is larger by 128.
    Signed,
}

/// Addition of the codes of two tensors: `y = round((a - za) * sa / sy + (b - zb) * sb / sy + zy)`, half to even,
/// saturated.
///
/// The order of operations is that of ONNX Runtime's `QLinearAdd` on x86-64: ratios of scales as `f32`, all that is
/// constant added up first, then the term of `b`, then that of `a`, each rounded once together with its product.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Addition {
    a: f32,
    b: f32,
    constant: f32,
    /// What a byte of 0 stands for is minus this.
    origin: i32,
    lowest: u8,
    highest: u8,
}

impl Addition {
    /// Addition of codes of `a` and `b` into `y`, all of the same sign. Of `range`, the zero point belongs to `y`.
    ///
    /// # Errors
    /// If a ratio of scales is negative, NaN, or not below 2³¹.
    pub fn new(sign: Sign, a: Grid, b: Grid, y_scale: f32, range: CodeRange) -> Result<Self, KernelError> {
        let ratios = [a.scale / y_scale, b.scale / y_scale];
        if let Some(channel) = ratios.iter().position(|r| !(0.0..2f32.powi(31)).contains(r)) {
            return Err(KernelError::Multiplier { channel });
        }
        let origin = if sign == Sign::Signed { 128 } else { 0 };
        let real = |code: u8| (i32::from(code) - origin) as f32;
        let zero_points = ratios[0].mul_add(real(a.zero_point), ratios[1] * real(b.zero_point));
        let constant = real(range.zero_point) - zero_points;
        let CodeRange { lowest, highest, .. } = range;
        Ok(Self { a: ratios[0], b: ratios[1], constant, origin, lowest, highest })
    }

    /// Sums of codes, each in a lane of 32 bits.
    #[inline(always)]
    pub(crate) fn codes<S: Simd>(&self, s: S, a: S::I32, b: S::I32) -> S::I32 {
        let origin = s.splat_i32(self.origin);
        let real = |codes| s.to_f32(s.sub_i32(codes, origin));
        let sum = s.fused_mul_add(real(b), s.splat(self.b), s.splat(self.constant));
        let sum = s.fused_mul_add(real(a), s.splat(self.a), sum);
        let range = CodeRange { zero_point: 0, lowest: self.lowest, highest: self.highest };
        let (lowest, highest) = range.ends(s, self.origin);
        s.add_i32(s.to_i32(s.min(s.max(sum, lowest), highest)), origin)
    }

    /// The definition, for single codes.
    #[cfg(test)]
    pub(crate) fn code(&self, a: u8, b: u8) -> u8 {
        let real = |code: u8| (i32::from(code) - self.origin) as f32;
        let sum = real(a).mul_add(self.a, real(b).mul_add(self.b, self.constant));
        let code = sum.round_ties_even() as i64 + i64::from(self.origin);
        code.max(self.lowest.into()).min(self.highest.into()) as u8
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
