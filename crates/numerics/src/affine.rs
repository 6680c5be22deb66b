//! The affine quantizer: integer types, real ranges, scale and zero point, and the conversions between reals and codes.
//!
//! How a range is chosen lives in [`crate::range`]; weight scales and bias codes live in [`crate::weights`].

use std::fmt;

use crate::NumericsError;

/// Scales below this lose precision in products of scales; a range this narrow counts as constant zero.
pub(crate) const MIN_SCALE: f64 = 1.0 / (1u128 << 100) as f64;

/// Adding and subtracting 1.5·2²³ rounds an f32 of magnitude up to 2²² half to even, without a call into libm.
const ROUND_MAGIC: f32 = 12_582_912.0;

/// An integer type together with the codes that may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum QuantType {
    /// Codes 0..=255, any zero point.
    U8,
    /// Codes 0..=127, any zero point: unsigned bytes of which a kernel uses the lower half.
    U7,
    /// Codes -128..=127, any zero point.
    I8,
    /// Codes -127..=127, zero point 0: weights. Symmetric, so negation never overflows.
    I8Narrow,
    /// Codes -64..=64, zero point 0: weights for kernels that add two u8·s8 products in a saturating i16.
    I8Reduced,
    /// Codes 0..=15, any zero point: 4-bit weights.
    U4,
    /// Codes -7..=7, zero point 0: 4-bit weights.
    I4Narrow,
    /// Codes 0..=65535, any zero point.
    U16,
    /// Codes -32767..=32767, zero point 0.
    I16Narrow,
    /// All 32-bit codes, zero point 0: biases.
    I32,
}

impl QuantType {
    /// Smallest code.
    pub const fn qmin(self) -> i32 {
        match self {
            Self::U8 | Self::U7 | Self::U4 | Self::U16 => 0,
            Self::I8 => -128,
            Self::I8Narrow => -127,
            Self::I8Reduced => -64,
            Self::I4Narrow => -7,
            Self::I16Narrow => -32767,
            Self::I32 => i32::MIN,
        }
    }

    /// Largest code.
    pub const fn qmax(self) -> i32 {
        match self {
            Self::U8 => 255,
            Self::U7 | Self::I8 | Self::I8Narrow => 127,
            Self::I8Reduced => 64,
            Self::U4 => 15,
            Self::I4Narrow => 7,
            Self::U16 => 65535,
            Self::I16Narrow => 32767,
            Self::I32 => i32::MAX,
        }
    }

    /// Number of steps between the smallest and the largest code.
    pub const fn steps(self) -> i64 {
        self.qmax() as i64 - self.qmin() as i64
    }

    /// Bits that one code takes in storage.
    pub const fn bits(self) -> u32 {
        match self {
            Self::U4 | Self::I4Narrow => 4,
            Self::U8 | Self::U7 | Self::I8 | Self::I8Narrow | Self::I8Reduced => 8,
            Self::U16 | Self::I16Narrow => 16,
            Self::I32 => 32,
        }
    }

    /// Whether negative codes exist.
    pub const fn is_signed(self) -> bool {
        self.qmin() < 0
    }

    /// Whether the zero point of this type is always 0.
    pub const fn is_symmetric(self) -> bool {
        matches!(self, Self::I8Narrow | Self::I8Reduced | Self::I4Narrow | Self::I16Narrow | Self::I32)
    }

    /// All types.
    pub const ALL: [Self; 10] = [
        Self::U8,
        Self::U7,
        Self::I8,
        Self::I8Narrow,
        Self::I8Reduced,
        Self::U4,
        Self::I4Narrow,
        Self::U16,
        Self::I16Narrow,
        Self::I32,
    ];

    /// Its name, by which plans and messages call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::U8 => "uint8",
            Self::U7 => "reduced uint8",
            Self::I8 => "int8",
            Self::I8Narrow => "narrow int8",
            Self::I8Reduced => "7-bit int8",
            Self::U4 => "uint4",
            Self::I4Narrow => "narrow int4",
            Self::U16 => "uint16",
            Self::I16Narrow => "narrow int16",
            Self::I32 => "int32",
        }
    }
}

impl fmt::Display for QuantType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A closed interval of reals with finite bounds, `lo <= hi`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Range {
    lo: f32,
    hi: f32,
}

impl Range {
    /// The interval [`lo`, `hi`]; a bound of -0.0 becomes +0.0.
    ///
    /// # Errors
    /// [`NumericsError::NonFiniteRange`] or [`NumericsError::ReversedRange`].
    pub fn new(lo: f32, hi: f32) -> Result<Self, NumericsError> {
        if !lo.is_finite() || !hi.is_finite() {
            return Err(NumericsError::NonFiniteRange { lo, hi });
        }
        if lo > hi {
            return Err(NumericsError::ReversedRange { lo, hi });
        }
        Ok(Self { lo: lo + 0.0, hi: hi + 0.0 })
    }

    /// Lower bound.
    pub const fn lo(self) -> f32 {
        self.lo
    }

    /// Upper bound.
    pub const fn hi(self) -> f32 {
        self.hi
    }

    /// Largest magnitude in the interval.
    pub fn abs_max(self) -> f32 {
        self.hi.max(-self.lo)
    }

    /// Smallest interval that contains both.
    pub fn union(self, other: Self) -> Self {
        Self { lo: self.lo.min(other.lo), hi: self.hi.max(other.hi) }
    }

    /// Smallest interval that contains this one and zero.
    pub fn including_zero(self) -> Self {
        Self { lo: self.lo.min(0.0), hi: self.hi.max(0.0) }
    }

    /// The values of this interval moved into `bound`; never empty, even if the two do not meet.
    pub fn clamp_to(self, bound: Self) -> Self {
        Self { lo: self.lo.clamp(bound.lo, bound.hi), hi: self.hi.clamp(bound.lo, bound.hi) }
    }
}

/// Scale and zero point of one affine grid: real = scale · (code − zero_point).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AffineParams {
    scale: f32,
    zero_point: i32,
    qtype: QuantType,
}

impl AffineParams {
    /// Checked parameters.
    ///
    /// # Errors
    /// [`NumericsError::InvalidScale`] unless `scale` and its reciprocal are positive and finite;
    /// [`NumericsError::InvalidZeroPoint`] unless `zero_point` is a code of `qtype`, and 0 for symmetric types.
    pub fn new(scale: f32, zero_point: i32, qtype: QuantType) -> Result<Self, NumericsError> {
        if !(scale > 0.0 && scale.is_finite() && scale.recip().is_finite()) {
            return Err(NumericsError::InvalidScale { scale });
        }
        let inside = (qtype.qmin()..=qtype.qmax()).contains(&zero_point);
        if !inside || (qtype.is_symmetric() && zero_point != 0) {
            return Err(NumericsError::InvalidZeroPoint { zero_point, qtype });
        }
        Ok(Self { scale, zero_point, qtype })
    }

    /// Width of one step.
    pub const fn scale(&self) -> f32 {
        self.scale
    }

    /// Code of the real value 0.
    pub const fn zero_point(&self) -> i32 {
        self.zero_point
    }

    /// Type of the codes.
    pub const fn qtype(&self) -> QuantType {
        self.qtype
    }

    /// The smallest and the largest representable real.
    pub fn covered(&self) -> (f32, f32) {
        (self.dequantize(self.qtype.qmin()), self.dequantize(self.qtype.qmax()))
    }

    /// Code of `x`: clamp(RN(x / scale) + zero_point), RN rounding half to even. Infinities saturate, NaN gives the
    /// zero point.
    pub fn quantize(&self, x: f32) -> i32 {
        let (lo, hi) = self.level_bounds();
        // Rounding and clamping to integers commute; a clamped value converts to an integer exactly.
        let level = nan_to_zero(x / self.scale).clamp(lo, hi).round_ties_even();
        (level as i32).saturating_add(self.zero_point)
    }

    /// Real value of a code; codes outside the type are extrapolated.
    pub fn dequantize(&self, q: i32) -> f32 {
        (i64::from(q) - i64::from(self.zero_point)) as f32 * self.scale
    }

    /// [`Self::quantize`] of every element.
    ///
    /// # Errors
    /// [`NumericsError::LengthMismatch`] if `codes` and `values` differ in length.
    pub fn quantize_slice(&self, values: &[f32], codes: &mut [i32]) -> Result<(), NumericsError> {
        check_len("codes", values.len(), codes.len())?;
        for (code, &x) in codes.iter_mut().zip(values) {
            *code = self.quantize(x);
        }
        Ok(())
    }

    /// [`Self::dequantize`] of every element.
    ///
    /// # Errors
    /// [`NumericsError::LengthMismatch`] if `values` and `codes` differ in length.
    pub fn dequantize_slice(&self, codes: &[i32], values: &mut [f32]) -> Result<(), NumericsError> {
        check_len("values", codes.len(), values.len())?;
        for (x, &code) in values.iter_mut().zip(codes) {
            *x = self.dequantize(code);
        }
        Ok(())
    }

    /// Replaces every element by `dequantize(quantize(x))`, bit for bit.
    pub fn fake_quantize_in_place(&self, values: &mut [f32]) {
        let (lo, hi) = self.level_bounds();
        if self.qtype == QuantType::I32 {
            values.iter_mut().for_each(|x| *x = self.dequantize(self.quantize(*x)));
            return;
        }
        for x in values {
            let level = nan_to_zero(*x / self.scale).max(lo).min(hi);
            *x = ((level + ROUND_MAGIC) - ROUND_MAGIC) * self.scale;
        }
    }

    /// Smallest and largest code relative to the zero point.
    fn level_bounds(&self) -> (f32, f32) {
        let zero_point = i64::from(self.zero_point);
        let lo = i64::from(self.qtype.qmin()) - zero_point;
        let hi = i64::from(self.qtype.qmax()) - zero_point;
        (lo as f32, hi as f32)
    }
}

fn nan_to_zero(x: f32) -> f32 {
    if x.is_nan() { 0.0 } else { x }
}

pub(crate) fn check_len(what: &'static str, expected: usize, found: usize) -> Result<(), NumericsError> {
    if expected == found { Ok(()) } else { Err(NumericsError::LengthMismatch { what, expected, found }) }
}

/// Parameters derived from a range.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RangeParams {
    /// Scale and zero point.
    pub params: AffineParams,
    /// The range holds nothing but zero (or values too small for a usable scale); the scale is 1.
    pub constant_zero: bool,
}

/// Scale and zero point that cover `range` extended to contain zero.
///
/// Asymmetric: s = (hi − lo) / (qmax − qmin), z = RN(qmin − lo / s) with s already rounded to f32, so that up to half
/// a step at one end may be clipped. Symmetric (asked for, or demanded by the type): s = max(|lo|, |hi|) / qmax with
/// z = 0; an unsigned type has its middle code (128 for uint8) as zero point instead, and no gain over a signed one.
///
/// # Errors
/// [`NumericsError::InvalidScale`] if no finite f32 scale covers the range.
pub fn params_from_range(range: Range, qtype: QuantType, symmetric: bool) -> Result<RangeParams, NumericsError> {
    let range = range.including_zero();
    let symmetric = symmetric || qtype.is_symmetric();
    let scale = if symmetric { symmetric_scale(range, qtype) } else { asymmetric_scale(range, qtype) } as f32;
    let constant_zero = f64::from(scale) < MIN_SCALE;
    let scale = if constant_zero { 1.0 } else { scale };
    let zero_point = if symmetric { middle_code(qtype) } else { zero_point(range, scale, qtype, constant_zero) };
    Ok(RangeParams { params: AffineParams::new(scale, zero_point, qtype)?, constant_zero })
}

fn symmetric_scale(range: Range, qtype: QuantType) -> f64 {
    f64::from(range.abs_max()) / (i64::from(qtype.qmax()) - i64::from(middle_code(qtype))) as f64
}

fn asymmetric_scale(range: Range, qtype: QuantType) -> f64 {
    (f64::from(range.hi) - f64::from(range.lo)) / qtype.steps() as f64
}

const fn middle_code(qtype: QuantType) -> i32 {
    if qtype.is_signed() { 0 } else { qtype.qmax() / 2 + 1 }
}

fn zero_point(range: Range, scale: f32, qtype: QuantType, constant_zero: bool) -> i32 {
    if constant_zero {
        return if qtype.is_signed() { 0 } else { qtype.qmin() };
    }
    let (qmin, qmax) = (f64::from(qtype.qmin()), f64::from(qtype.qmax()));
    (qmin - f64::from(range.lo) / f64::from(scale)).round_ties_even().clamp(qmin, qmax) as i32
}

#[cfg(test)]
mod tests;
