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

/// The first `f32` from which on neighbours are 1 apart, up to its double: 2²³.
const UNIT_STEP: f32 = 8_388_608.0;

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
        match &self.multipliers {
            Multipliers::Float(multipliers) => {
                let zero_point = i32::from(self.range.zero_point);
                let end = |code: u8| (i32::from(code) - zero_point) as f32;
                RequantizeVector::Float(FloatVector {
                    multiplier: load(s, multipliers, channel),
                    lowest: s.splat(end(self.range.lowest)),
                    highest: s.splat(end(self.range.highest)),
                    zero_point: s.splat_i32(zero_point),
                })
            }
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
    multiplier: S::F32,
    lowest: S::F32,
    highest: S::F32,
    zero_point: S::I32,
}

impl<S: Simd> FloatVector<S> {
    /// Distances from the zero point before rounding.
    #[inline(always)]
    fn distances(self, s: S, sums: S::I32) -> S::F32 {
        // The ends are integers, so it is the same before the rounding as after; and the rest fits an i32.
        s.min(s.max(s.mul(s.to_f32(sums), self.multiplier), self.lowest), self.highest)
    }

    /// Codes of sums that include the bias, each in a lane of 32 bits.
    #[inline(always)]
    pub(crate) fn codes(self, s: S, sums: S::I32) -> S::I32 {
        s.add_i32(s.to_i32(self.distances(s, sums)), self.zero_point)
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
    origin: f32,
    /// Ends of the result, as what their bytes stand for.
    lowest: f32,
    highest: f32,
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
        let origin = if sign == Sign::Signed { 128.0 } else { 0.0 };
        let real = |code: u8| f32::from(code) - origin;
        let zero_points = ratios[0].mul_add(real(a.zero_point), ratios[1] * real(b.zero_point));
        Ok(Self {
            a: ratios[0],
            b: ratios[1],
            constant: real(range.zero_point) - zero_points,
            origin,
            lowest: real(range.lowest),
            highest: real(range.highest),
        })
    }

    /// The parameters in registers.
    #[inline(always)]
    pub(crate) fn vector<S: Simd>(&self, s: S) -> AdditionVector<S> {
        AdditionVector {
            a: s.splat(self.a),
            b: s.splat(self.b),
            constant: s.splat(self.constant),
            origin: s.splat(UNIT_STEP + self.origin),
            lowest: s.splat(self.lowest),
            highest: s.splat(self.highest),
        }
    }

    /// The definition, for single codes.
    #[cfg(test)]
    pub(crate) fn code(&self, a: u8, b: u8) -> u8 {
        let real = |code: u8| f32::from(code) - self.origin;
        let sum = real(a).mul_add(self.a, real(b).mul_add(self.b, self.constant));
        (sum.round_ties_even().max(self.lowest).min(self.highest) + self.origin) as u8
    }
}

/// Parameters of an [`Addition`] in registers.
#[derive(Clone, Copy)]
pub(crate) struct AdditionVector<S: Simd> {
    a: S::F32,
    b: S::F32,
    constant: S::F32,
    /// With the first number whose neighbours are 1 apart.
    origin: S::F32,
    lowest: S::F32,
    highest: S::F32,
}

impl<S: Simd> AdditionVector<S> {
    /// Sums of codes that are in lanes of 32 bits, in the low bytes of lanes.
    #[inline(always)]
    pub(crate) fn codes(self, s: S, a: S::I32, b: S::I32) -> S::I32 {
        let sum = s.fused_mul_add(self.real(s, b), self.b, self.constant);
        let sum = s.fused_mul_add(self.real(s, a), self.a, sum);
        // Where floats are 1 apart, an addition rounds to integers, half to even, because the origin is even.
        s.bits(s.add(s.min(s.max(sum, self.lowest), self.highest), self.origin))
    }

    /// What bytes stand for, as integers in `f32`.
    #[inline(always)]
    fn real(self, s: S, bytes: S::I32) -> S::F32 {
        // Bytes added to the bits of 2²³ are added to the number, and taking it off again takes the origin off too.
        s.sub(s.from_bits(s.add_i32(bytes, s.bits(s.splat(UNIT_STEP)))), self.origin)
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
