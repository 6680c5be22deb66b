//! Addition of codes, rounded to codes: as vectors, for the end of a kernel and for elementwise loops.
//!
//! What lives here: the parameters and the order of roundings. What does not: loops over tensors.

use super::requantize::CodeRange;
use crate::error::KernelError;
use crate::simd::Simd;

/// The first `f32` from which on neighbours are 1 apart, up to its double: 2²³.
const UNIT_STEP: f32 = 8_388_608.0;

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
        s.sub(s.of_bits(s.add_i32(bytes, s.bits(s.splat(UNIT_STEP)))), self.origin)
    }
}

#[cfg(test)]
mod tests;
