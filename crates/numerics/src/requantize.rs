//! From int32 accumulators to output codes, as real integer kernels do it: q = RN(acc · M) + z, saturated.
//!
//! The variants differ by one code in about one element of a hundred, so a simulation must use its target's variant.

use crate::{NumericsError, QuantType};

/// Most u8·s8 products (codes up to 255 and ±127) whose sum always fits an int32 accumulator.
pub const MAX_SAFE_PRODUCTS: usize = i32::MAX as usize / (255 * 127);

/// Arithmetic of the multiplication and the rounding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rounding {
    /// acc and M as f32, product in f32, half to even (ONNX Runtime).
    FloatHalfEven,
    /// M = m·2^(shift − 31) with a 31-bit mantissa m: a rounding doubling high multiplication, then a right shift that
    /// rounds half away from zero (gemmlowp, TensorFlow Lite reference kernels).
    FixedPoint,
}

/// A multiplier prepared for one kind of rounding.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Multiplier {
    Float(f32),
    Fixed { mantissa: i32, shift: i32 },
}

/// Requantization of one channel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Requantizer {
    multiplier: Multiplier,
    zero_point: i32,
    qmin: i32,
    qmax: i32,
}

impl Requantizer {
    /// Requantization with the real multiplier M = s_x · s_w / s_y, given in f64, into codes of `qtype` with
    /// `zero_point`.
    ///
    /// # Errors
    /// [`NumericsError::InvalidMultiplier`] unless M is positive, finite and below 2³¹;
    /// [`NumericsError::InvalidZeroPoint`] if the zero point is not a code of the type.
    pub fn new(multiplier: f64, qtype: QuantType, zero_point: i32, rounding: Rounding) -> Result<Self, NumericsError> {
        if !(multiplier > 0.0 && multiplier < 2f64.powi(31)) {
            return Err(NumericsError::InvalidMultiplier { multiplier });
        }
        let (qmin, qmax) = (qtype.qmin(), qtype.qmax());
        if !(qmin..=qmax).contains(&zero_point) {
            return Err(NumericsError::InvalidZeroPoint { zero_point, qtype });
        }
        let multiplier = match rounding {
            Rounding::FloatHalfEven => Multiplier::Float(multiplier as f32),
            Rounding::FixedPoint => fixed_point(multiplier),
        };
        Ok(Self { multiplier, zero_point, qmin, qmax })
    }

    /// Narrows the output codes, for an activation fused into the kernel (code of 0 for ReLU, codes of 0 and 6 for
    /// ReLU6). An empty intersection leaves the nearest single code.
    #[must_use]
    pub fn clamped(self, lowest: i32, highest: i32) -> Self {
        let qmin = lowest.clamp(self.qmin, self.qmax);
        Self { qmin, qmax: highest.clamp(qmin, self.qmax), ..self }
    }

    /// Output code of an accumulator.
    pub fn apply(&self, acc: i32) -> i32 {
        let scaled = match self.multiplier {
            Multiplier::Float(multiplier) => (acc as f32 * multiplier).round_ties_even() as i32,
            Multiplier::Fixed { mantissa, shift } => multiply_fixed(acc, mantissa, shift),
        };
        scaled.saturating_add(self.zero_point).clamp(self.qmin, self.qmax)
    }
}

/// Mantissa in [2³⁰, 2³¹) and shift with M = mantissa · 2^(shift − 31); multipliers below 2⁻³² become 0.
fn fixed_point(multiplier: f64) -> Multiplier {
    let (fraction, mut shift) = fraction_and_exponent(multiplier);
    let mut mantissa = (fraction * 2f64.powi(31)).round() as i64;
    if mantissa == 1 << 31 {
        mantissa >>= 1;
        shift += 1;
    }
    if shift < -31 {
        return Multiplier::Fixed { mantissa: 0, shift: 0 };
    }
    Multiplier::Fixed { mantissa: mantissa as i32, shift }
}

/// x = fraction · 2^exponent with fraction in [0.5, 1), for positive finite x.
pub(crate) fn fraction_and_exponent(x: f64) -> (f64, i32) {
    const EXPONENT_MASK: u64 = 0x7ff << 52;
    if !x.is_normal() {
        let (fraction, exponent) = fraction_and_exponent(x * 2f64.powi(64));
        return (fraction, exponent - 64);
    }
    let exponent = ((x.to_bits() & EXPONENT_MASK) >> 52) as i32 - 1022;
    (f64::from_bits((x.to_bits() & !EXPONENT_MASK) | (1022 << 52)), exponent)
}

/// An accumulator that a left shift would overflow saturates first; the product is then far beyond any 8-bit code.
fn multiply_fixed(acc: i32, mantissa: i32, shift: i32) -> i32 {
    let shifted = i64::from(acc) << shift.max(0);
    let shifted = shifted.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32;
    rounding_shift_right(rounding_doubling_high_mul(shifted, mantissa), (-shift).max(0) as u32)
}

/// (a·b) / 2³¹ rounded to nearest, half away from zero for positive and towards zero for negative products, as
/// gemmlowp's `SaturatingRoundingDoublingHighMul`; b is never negative here, so nothing saturates.
fn rounding_doubling_high_mul(a: i32, b: i32) -> i32 {
    let product = i64::from(a) * i64::from(b);
    let nudge = if product >= 0 { 1 << 30 } else { 1 - (1 << 30) };
    ((product + nudge) / (1 << 31)) as i32
}

/// x / 2^shift rounded to nearest, half away from zero; 0 <= shift <= 31.
fn rounding_shift_right(x: i32, shift: u32) -> i32 {
    let mask = (1i64 << shift) - 1;
    let remainder = i64::from(x) & mask;
    let threshold = (mask >> 1) + i64::from(x < 0);
    ((i64::from(x) >> shift) + i64::from(remainder > threshold)) as i32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOTH: [Rounding; 2] = [Rounding::FloatHalfEven, Rounding::FixedPoint];

    fn requantize(acc: i32, multiplier: f64, rounding: Rounding) -> i32 {
        Requantizer::new(multiplier, QuantType::I32, 0, rounding).unwrap().apply(acc)
    }

    #[test]
    fn ties_tell_the_variants_apart() {
        for (acc, float, fixed) in [(1, 0, 1), (3, 2, 2), (5, 2, 3), (-1, 0, -1), (-3, -2, -2), (-5, -2, -3)] {
            assert_eq!(requantize(acc, 0.5, Rounding::FloatHalfEven), float, "float {acc}");
            // 0.5 has shift 0, where the doubling multiplication alone rounds: negative halves go towards zero.
            let doubling = if acc < 0 { fixed + 1 } else { fixed };
            assert_eq!(requantize(acc, 0.5, Rounding::FixedPoint), doubling, "fixed {acc}");
        }
        for (acc, fixed) in [(2, 1), (6, 2), (-2, -1), (-6, -2), (10, 3), (-10, -3)] {
            // 0.25 has shift −1, where the right shift rounds half away from zero.
            assert_eq!(requantize(acc, 0.25, Rounding::FixedPoint), fixed, "fixed {acc}");
        }
    }

    #[test]
    fn zero_point_is_added_and_codes_saturate() {
        for rounding in BOTH {
            let requantizer = Requantizer::new(0.01, QuantType::U8, 10, rounding).unwrap();
            for (acc, code) in
                [(0, 10), (1000, 20), (-900, 1), (-100_000, 0), (100_000, 255), (i32::MIN, 0), (i32::MAX, 255)]
            {
                assert_eq!(requantizer.apply(acc), code, "{rounding:?} {acc}");
            }
            assert_eq!(requantizer.clamped(10, 15).apply(-900), 10);
            assert_eq!(requantizer.clamped(10, 15).apply(9000), 15);
            assert_eq!(requantizer.clamped(300, 2).apply(0), 255);
        }
    }

    #[test]
    fn mantissa_covers_every_magnitude() {
        assert_eq!(fixed_point(1.0), Multiplier::Fixed { mantissa: 1 << 30, shift: 1 });
        assert_eq!(fixed_point(0.75), Multiplier::Fixed { mantissa: 3 << 29, shift: 0 });
        assert_eq!(fixed_point(1.0 - 2f64.powi(-40)), Multiplier::Fixed { mantissa: 1 << 30, shift: 1 });
        assert_eq!(fixed_point(2f64.powi(-33)), Multiplier::Fixed { mantissa: 0, shift: 0 });
        assert_eq!(fixed_point(5e-324), Multiplier::Fixed { mantissa: 0, shift: 0 });
        assert_eq!(fraction_and_exponent(5e-324), (0.5, -1073));
    }

    #[test]
    fn multipliers_above_one_saturate() {
        for rounding in BOTH {
            assert_eq!(requantize(7, 3.0, rounding), 21);
            let wide = Requantizer::new(1e6, QuantType::I8, 0, rounding).unwrap();
            assert_eq!((wide.apply(i32::MAX), wide.apply(i32::MIN), wide.apply(0)), (127, -128, 0));
        }
    }

    #[test]
    fn accumulators_hold_the_documented_number_of_products() {
        let worst = 255i32 * 127;
        assert_eq!(MAX_SAFE_PRODUCTS, 66_311);
        assert!(worst.checked_mul(MAX_SAFE_PRODUCTS as i32).is_some());
        assert!(worst.checked_mul(MAX_SAFE_PRODUCTS as i32 + 1).is_none());
    }

    #[test]
    fn unusable_parameters_are_errors() {
        for multiplier in [0.0, -1.0, f64::NAN, f64::INFINITY, 2f64.powi(31)] {
            for rounding in BOTH {
                let found = Requantizer::new(multiplier, QuantType::I8, 0, rounding);
                assert!(matches!(found, Err(NumericsError::InvalidMultiplier { .. })), "{multiplier}");
            }
        }
        assert!(Requantizer::new(1.0, QuantType::U8, -1, Rounding::FixedPoint).is_err());
    }

    proptest! {
        #[test]
        fn both_variants_stay_within_one_code_of_the_real_product(acc in -(1i32 << 24)..(1 << 24), multiplier in 1e-6f64..1e-4) {
            let exact = f64::from(acc) * multiplier;
            for rounding in BOTH {
                let found = f64::from(requantize(acc, multiplier, rounding));
                prop_assert!((found - exact).abs() <= 0.501, "{:?}: {} {}", rounding, found, exact);
            }
        }

        #[test]
        fn shift_rounds_half_away_from_zero(x: i32, shift in 0u32..=31) {
            let expected = (f64::from(x) / f64::from(shift).exp2()).round();
            prop_assert_eq!(f64::from(rounding_shift_right(x, shift)), expected);
        }
    }
}
