//! From scale factors to the integer multiplier and the shifts that the hardware applies to an accumulator.
//!
//! Carrying them out lives in [`super::arithmetic`].

use super::{BitWidth, Flavor};
use crate::requantize::fraction_and_exponent;

/// What kind of accumulator is rescaled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Sum of products: convolution, inner product.
    Product,
    /// Sum of codes or a code times a factor: elementwise sum, average pooling, channel-wise scale.
    Elementwise,
}

/// What the hardware can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest right shift before the multiplication.
    pub prescale_shift: u32,
    /// Bits of the unsigned multiplier.
    pub scale_bits: u32,
    /// Largest right shift after the multiplication.
    pub postscale_shift: u32,
}

impl Limits {
    /// Limits of a flavour, width and stage, as the xfDNN quantizer assumes them.
    pub const fn of(flavor: Flavor, bits: BitWidth, stage: Stage) -> Self {
        let (prescale_shift, scale_bits, postscale_shift) = match (flavor, stage, bits) {
            (Flavor::V2, Stage::Product, BitWidth::Eight) => (16, 8, 8),
            (Flavor::V2, Stage::Product, BitWidth::Sixteen) => (32, 8, 8),
            (Flavor::V2, Stage::Elementwise, _) => (0, 8, 8),
            (Flavor::V3, Stage::Product, BitWidth::Eight) => (0, 16, 32),
            (Flavor::V3, Stage::Product, BitWidth::Sixteen) => (24, 16, 24),
            (Flavor::V3, Stage::Elementwise, BitWidth::Eight) => (0, 16, 40),
            (Flavor::V3, Stage::Elementwise, BitWidth::Sixteen) => (0, 16, 32),
        };
        Self { prescale_shift, scale_bits, postscale_shift }
    }
}

/// The factor `scale · 2^−(prescale_shift + postscale_shift)`, in the parts that the hardware applies one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Multiplier {
    /// Rounding right shift of the accumulator.
    pub prescale_shift: u32,
    /// Integer factor; negative only for a channel-wise scale with a negative factor.
    pub scale: i32,
    /// Rounding right shift of the product.
    pub postscale_shift: u32,
}

impl Multiplier {
    /// What a dead tensor or channel gets: every output code is zero.
    pub const ZERO: Self = Self { prescale_shift: 0, scale: 0, postscale_shift: 0 };

    /// The factor 1, which concatenation passes codes with.
    pub const ONE: Self = Self { prescale_shift: 0, scale: 1, postscale_shift: 0 };

    /// The factor as a real.
    pub fn value(&self) -> f64 {
        f64::from(self.scale) * (-f64::from(self.prescale_shift) - f64::from(self.postscale_shift)).exp2()
    }

    /// Multiplier nearest to `factor` within `limits`, with xfDNN's order of preference: shift before the
    /// multiplication, then after it, then as large a scale as the last shift allows, at most 2^(scale_bits − 1).
    ///
    /// A factor too small for the shifts loses precision and in the end gets scale 0; one too large saturates. The sign
    /// goes to the scale. A factor of zero, infinity (an output threshold of 0) or NaN gives [`Self::ZERO`].
    pub fn decompose(factor: f64, limits: Limits) -> Self {
        if factor == 0.0 || !factor.is_finite() {
            return Self::ZERO;
        }
        // |factor| = fraction · 2^exponent with fraction in (0.5, 1]
        let (mut fraction, mut exponent) = fraction_and_exponent(factor.abs());
        if fraction == 0.5 {
            (fraction, exponent) = (1.0, exponent - 1);
        }
        let right = exponent.min(0).unsigned_abs();
        let prescale_shift = right.min(limits.prescale_shift);
        let postscale_shift = (right - prescale_shift).min(limits.postscale_shift);
        // The factor is now fraction · 2^rest · 2^−shifts.
        let rest = exponent + (prescale_shift + postscale_shift) as i32;
        let largest = limits.scale_bits as i32 - 1;
        let grown = (largest - rest).clamp(0, (limits.postscale_shift - postscale_shift) as i32);
        let scale = (fraction * f64::from(rest + grown).exp2()).min(f64::from(largest).exp2()).round_ties_even() as i32;
        Self {
            prescale_shift,
            scale: if factor < 0.0 { -scale } else { scale },
            postscale_shift: postscale_shift + grown as u32,
        }
    }
}

/// Factor sf_in · sf_weights / sf_out of one channel of a convolution or inner product. In f32 like xfDNN's: in f64
/// about one channel in a thousand differs by one unit of scale.
pub fn product_factor(sf_in: f64, sf_weights: f32, sf_out: f64) -> f64 {
    f64::from(sf_in as f32 * sf_weights / sf_out as f32)
}

/// Factor sf_in / sf_out of an elementwise sum whose inputs share sf_in.
pub fn eltwise_factor(sf_in: f64, sf_out: f64) -> f64 {
    sf_in / sf_out
}

/// Factor sf_in / sf_out / window of average pooling, whose hardware sums the `window` codes (kernel height · width).
pub fn average_factor(sf_in: f64, sf_out: f64, window: usize) -> f64 {
    sf_in / sf_out / window as f64
}

/// Factor of one channel of a channel-wise scale by `gamma`, quantized with `sf_gamma`: [`product_factor`] times the
/// code of gamma, so the sign of gamma is that of the factor. 0 if gamma is 0.
pub fn channel_scale_factor(sf_in: f64, gamma: f32, sf_gamma: f32, sf_out: f64, bits: BitWidth) -> f64 {
    let code = f64::from(gamma / sf_gamma).round_ties_even();
    let largest = f64::from(bits.largest());
    let code = if code.is_nan() { 0.0 } else { code.clamp(-largest, largest) };
    if code == 0.0 { 0.0 } else { product_factor(sf_in, sf_gamma, sf_out) * code }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FLAVORS: [Flavor; 2] = [Flavor::V2, Flavor::V3];
    const WIDTHS: [BitWidth; 2] = [BitWidth::Eight, BitWidth::Sixteen];
    const STAGES: [Stage; 2] = [Stage::Product, Stage::Elementwise];

    fn all_limits() -> Vec<Limits> {
        let mut all = Vec::new();
        for flavor in FLAVORS {
            for bits in WIDTHS {
                all.extend(STAGES.map(|stage| Limits::of(flavor, bits, stage)));
            }
        }
        all
    }

    fn parts(factor: f64, flavor: Flavor, bits: BitWidth, stage: Stage) -> (u32, i32, u32) {
        let found = Multiplier::decompose(factor, Limits::of(flavor, bits, stage));
        (found.prescale_shift, found.scale, found.postscale_shift)
    }

    #[test]
    fn hand_computed_factors_decompose_as_the_quantizer_does() {
        use BitWidth::{Eight, Sixteen};
        use Flavor::{V2, V3};
        use Stage::{Elementwise, Product};
        for (factor, flavor, bits, stage, expected) in [
            (1.0, V3, Eight, Elementwise, (0, 32768, 15)),
            (1.0, V2, Eight, Elementwise, (0, 128, 7)),
            (1.0 / 49.0, V3, Eight, Elementwise, (0, 21400, 20)),
            // 0.75 · 2^-3: three places before, seven after the multiplication by 96.
            (0.09375, V2, Eight, Product, (3, 96, 7)),
            (0.09375, V3, Eight, Product, (0, 24576, 18)),
            (0.09375, V3, Sixteen, Product, (3, 24576, 15)),
            // No places before, three of eight after: five are left to grow the scale.
            (0.09375, V2, Eight, Elementwise, (0, 24, 8)),
            (0.75 / 32.0, V2, Sixteen, Product, (5, 96, 7)),
            // 2^-30 needs more than the 24 places of v2: the scale shrinks to nothing.
            (2f64.powi(-30), V2, Eight, Product, (16, 0, 8)),
            (2f64.powi(-24), V2, Eight, Product, (16, 1, 8)),
            (3.0, V3, Eight, Product, (0, 24576, 13)),
            (1e9, V3, Eight, Product, (0, 32768, 0)),
            (-0.5, V3, Eight, Elementwise, (0, -32768, 16)),
        ] {
            assert_eq!(parts(factor, flavor, bits, stage), expected, "{factor} {flavor:?} {bits:?} {stage:?}");
        }
    }

    #[test]
    fn dead_tensors_get_zeros() {
        for limits in all_limits() {
            for factor in [0.0, -0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
                assert_eq!(Multiplier::decompose(factor, limits), Multiplier::ZERO);
            }
        }
        let dead = product_factor(0.5, 0.0, 0.0);
        assert_eq!(Multiplier::decompose(dead, all_limits()[0]), Multiplier::ZERO);
        assert_eq!(channel_scale_factor(0.5, 0.0, 0.0, 0.25, BitWidth::Eight), 0.0);
    }

    #[test]
    fn products_are_rounded_to_f32_twice() {
        let (sf_in, sf_weights, sf_out) = (1.186677319653, 0.003_104_1, 0.9);
        let expected = f64::from((1.186_677_3_f32 * 0.003_104_1) / 0.9f32);
        assert_eq!(product_factor(sf_in, sf_weights, sf_out), expected);
        assert_ne!(expected, sf_in * f64::from(sf_weights) / sf_out);
    }

    #[test]
    fn channel_scales_have_the_sign_and_size_of_gamma() {
        let sf = 0.5 / 127.0;
        for (gamma, code) in [(0.5, 127.0), (-0.5, -127.0), (0.25, 64.0), (2.0, 127.0)] {
            let found = channel_scale_factor(1.0, gamma, sf, 2.0, BitWidth::Eight);
            assert_eq!(found, product_factor(1.0, sf, 2.0) * code, "{gamma}");
        }
    }

    proptest! {
        #[test]
        fn decomposition_is_exact_to_half_a_unit_of_scale(mantissa in 1f64..2.0, exponent in -60i32..30, negative: bool) {
            let factor = mantissa * f64::from(exponent).exp2() * if negative { -1.0 } else { 1.0 };
            for limits in all_limits() {
                let found = Multiplier::decompose(factor, limits);
                prop_assert!(found.prescale_shift <= limits.prescale_shift);
                prop_assert!(found.postscale_shift <= limits.postscale_shift);
                prop_assert!(found.scale.abs() <= 1 << (limits.scale_bits - 1));
                let largest = f64::from(limits.scale_bits - 1).exp2();
                let unit = (-f64::from(found.prescale_shift + found.postscale_shift)).exp2();
                if factor.abs() <= largest {
                    prop_assert!((found.value() - factor).abs() <= 0.5 * unit, "{} {:?}", factor, found);
                } else {
                    prop_assert_eq!(found.value(), largest.copysign(factor));
                }
                // No place is wasted: either the scale uses its upper half or the last shift is at its limit.
                let full = f64::from(found.scale).abs() >= 0.5 * largest;
                prop_assert!(full || found.postscale_shift == limits.postscale_shift, "{} {:?}", factor, found);
            }
        }
    }
}
