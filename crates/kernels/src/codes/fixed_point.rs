//! Multipliers as 31-bit integers with a shift, and the multiplication by them.

/// The multiplier `mantissa * 2^(shift - 31)`; the mantissa is 0 or in [2³⁰, 2³¹), the shift in -31..=31.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FixedPoint {
    pub(super) mantissa: i32,
    pub(super) shift: i32,
}

impl FixedPoint {
    /// The nearest to `multiplier`, which is in 0..2³¹; below 2⁻³² it becomes 0.
    pub(super) fn new(multiplier: f64) -> Self {
        if multiplier < 2f64.powi(-33) {
            return Self { mantissa: 0, shift: 0 };
        }
        // The exponent for a fraction in [1/2, 1), which the bits hold for one in [1, 2).
        let mut shift = (multiplier.to_bits() >> 52) as i32 - 1022;
        let mut mantissa = (multiplier * 2f64.powi(31 - shift)).round() as i64;
        if mantissa == 1 << 31 {
            mantissa >>= 1;
            shift += 1;
        }
        if shift < -31 { Self { mantissa: 0, shift: 0 } } else { Self { mantissa: mantissa as i32, shift } }
    }

    /// The product with `x`, rounded twice: gemmlowp's `SaturatingRoundingDoublingHighMul` of the mantissa, with `x`
    /// shifted left (and saturated) where the shift is positive, then its `RoundingDivideByPOT`.
    #[inline(always)]
    pub(super) fn multiply(self, x: i32) -> i32 {
        let left = i64::from(x) << self.shift.max(0);
        let left = left.max(i32::MIN.into()).min(i32::MAX.into());
        // Its ties go up, for negative products too: the nudge of these and the division that drops the fraction come
        // to the same. Nothing saturates, because the mantissa is not negative.
        let product = (left * i64::from(self.mantissa) + (1 << 30)) >> 31;
        let right = (-self.shift).max(0);
        let mask = (1i64 << right) - 1;
        let threshold = (mask >> 1) + i64::from(product < 0);
        ((product >> right) + i64::from(product & mask > threshold)) as i32
    }
}
