//! Codes that travel with their ranges: what TensorFlow's kernels for Intel's processors compute.
//!
//! A tensor of codes comes with two numbers, the ends of a range. What a code stands for depends on the kernel that reads
//! it: a convolution looks at the larger magnitude of the two, `Dequantize` at both. All formulas are those of the kernels
//! of TensorFlow 2.21 on x86 with oneDNN, found by running them.

use std::ops::RangeInclusive;

/// 8-bit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codes {
    /// From 0 to 255.
    Unsigned,
    /// From -128 to 127.
    Signed,
}

/// The ends of a range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ends {
    /// The lower end.
    pub min: f32,
    /// The upper end.
    pub max: f32,
}

/// Number of steps between the ends of a range of 32-bit codes, on either side of zero.
const HALF_WIDE: f64 = (1u64 << 31) as f64;

impl Codes {
    /// All codes.
    pub fn all(self) -> RangeInclusive<i32> {
        match self {
            Self::Unsigned => 0..=255,
            Self::Signed => -128..=127,
        }
    }

    /// The code for the larger magnitude of a range.
    pub fn top(self) -> f32 {
        match self {
            Self::Unsigned => 255.0,
            Self::Signed => 127.0,
        }
    }

    /// The code nearest to `value`, ties to even; codes saturate, and what is no number is 0.
    pub fn nearest(self, value: f64) -> i32 {
        // A cast saturates, and makes 0 of what is no number.
        (value.round_ties_even() as i32).clamp(*self.all().start(), *self.all().end())
    }
}

impl Ends {
    /// Whether both are finite.
    pub fn is_finite(self) -> bool {
        self.min.is_finite() && self.max.is_finite()
    }

    /// The larger magnitude.
    pub fn magnitude(self) -> f32 {
        self.min.abs().max(self.max.abs())
    }

    /// What one code is for a convolution or matrix product, and in what these write.
    pub fn product_scale(self, codes: Codes) -> f32 {
        self.magnitude() / codes.top()
    }

    /// What one code is where the range of 32-bit codes follows from those of two factors: the width counts, and signed
    /// codes do without -128. It is less than [`product_scale`](Self::product_scale) where a signed range is not
    /// symmetric, and what 32-bit codes stand for is off by as much.
    pub fn width_scale(self, codes: Codes) -> f32 {
        let steps = match codes {
            Codes::Unsigned => 255.0,
            Codes::Signed => 254.0,
        };
        (self.max - self.min) / steps
    }
}

/// Real numbers to codes, by `QuantizeV2` in its mode `SCALED`: codes per unit.
///
/// Signed codes use 127.5 steps for the larger magnitude, half a step more than convolutions read them with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scaling {
    codes: Codes,
    scale: f32,
    /// The range that the codes come with.
    pub range: Ends,
}

impl Scaling {
    /// The scaling for numbers between the ends of a range.
    pub fn new(codes: Codes, range: Ends) -> Self {
        // Ends that are closer than a hundredth of a unit, or of the larger magnitude, are drawn apart.
        let least = 0.01 * range.magnitude().max(1.0);
        let min = range.min.min(0.0);
        let max = range.max.max(min + least).max(0.0);
        let magnitude = Ends { min, max }.magnitude();
        let (steps, low) = match codes {
            Codes::Unsigned => (255.0, 0.0),
            Codes::Signed => (127.5, -magnitude),
        };
        Self { codes, scale: steps / magnitude, range: Ends { min: low, max: magnitude } }
    }

    /// The code of a number.
    pub fn code(&self, value: f32) -> i32 {
        self.codes.nearest(f64::from(value * self.scale))
    }
}

/// How `Dequantize` reads codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Multiples of a step.
    Scaled,
    /// Steps from the lower end on, this moved to a multiple of a step.
    MinFirst,
}

/// Codes to real numbers, by `Dequantize`: `offset + code * step`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Unscaling {
    step: f32,
    offset: f32,
}

impl Unscaling {
    /// The reading of codes of a range.
    pub fn new(codes: Codes, reading: Reading, range: Ends) -> Self {
        match (reading, codes) {
            (Reading::Scaled, Codes::Unsigned) => Self { step: range.max / 255.0, offset: 0.0 },
            (Reading::Scaled, Codes::Signed) => Self { step: (range.min / -128.0).max(range.max / 127.0), offset: 0.0 },
            (Reading::MinFirst, codes) => {
                let step = (range.max - range.min) / 255.0;
                let low = if step == 0.0 { range.min } else { (range.min / step).round() * step };
                Self { step, offset: low - *codes.all().start() as f32 * step }
            }
        }
    }

    /// What a code stands for.
    pub fn value(&self, code: i32) -> f32 {
        self.offset + code as f32 * self.step
    }
}

/// The range of 32-bit codes of which each is `unit`.
pub fn wide_range(unit: f32) -> Ends {
    Ends { min: -(HALF_WIDE as f32) * unit, max: HALF_WIDE as f32 * unit }
}

/// What a 32-bit code of a range stands for, by `RequantizationRange`: so many steps from the lower end on as the code is
/// above the least one. That makes half a step more than the code's own multiple; the lower end is rounded to a multiple
/// of a step in single precision.
fn wide_value(range: Ends, code: i32) -> f32 {
    let steps = 2.0 * HALF_WIDE;
    let step = f64::from(range.max - range.min) * (steps / (steps - 1.0)) / steps;
    let low = (range.min / step as f32).round() * step as f32;
    (f64::from(low) + (f64::from(code) + HALF_WIDE) * step) as f32
}

/// The range that 32-bit codes from `least` to `greatest` take up, by `RequantizationRange`; zero is in it or below it.
/// A range without width has nothing in it.
pub fn used_range(wide: Ends, least: i32, greatest: i32) -> Ends {
    if wide.min == wide.max {
        return Ends { min: 0.0, max: 0.0 };
    }
    Ends { min: wide_value(wide, least).min(0.0), max: wide_value(wide, greatest) }
}

/// 32-bit codes to codes without sign, counted from the lower end of a range, by `Requantize`: in integers, with 16 bits
/// behind the point. The lower end is no multiple of a step, so that zero has no code of its own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Narrowing {
    /// Narrow codes for 2^32 wide ones.
    factor: i64,
    offset: i64,
}

impl Narrowing {
    /// From codes of the range `wide` to those of `narrow`. A range without width has a single code.
    pub fn new(wide: Ends, narrow: Ends) -> Self {
        let (from, to) = (wide.max - wide.min, narrow.max - narrow.min);
        if to == 0.0 {
            return Self { factor: 0, offset: 0 };
        }
        // Casts saturate, and cut off what is behind the point; the lower end is rounded to the 16 bits behind it.
        let factor = (255.0 * 65536.0 * f64::from(from) / f64::from(to)) as i64;
        let middle = (f64::from((wide.min + wide.max) / 2.0 * (255.0 / f64::from(to)) as f32) * 65536.0) as i64;
        let low = (f64::from(narrow.min) * 255.0 / f64::from(to) * 65536.0).round() as i64;
        Self { factor, offset: middle.saturating_sub(low).saturating_add(1 << 15) }
    }

    /// The narrow code of a wide one.
    pub fn code(&self, wide: i32) -> i32 {
        let scaled = (i128::from(wide) * i128::from(self.factor)) >> 32;
        ((scaled + i128::from(self.offset)) >> 16).clamp(0, 255) as i32
    }
}

/// The range that 32-bit codes of several channels take up, by `RequantizationRangePerChannel`: symmetric, or from zero if
/// no code is negative, and cut off at `clip`. Each channel has its range and its least and greatest code.
pub fn used_channel_range(channels: &[(Ends, i32, i32)], clip: f32) -> Ends {
    let top = |(wide, least, greatest): &(Ends, i32, i32)| {
        let code = least.unsigned_abs().max(greatest.unsigned_abs());
        (f64::from(wide.magnitude()) * f64::from(code) / HALF_WIDE) as f32
    };
    let max = channels.iter().map(top).fold(0.0, f32::max).min(clip);
    let is_signed = channels.iter().any(|(_, least, _)| *least < 0);
    Ends { min: if is_signed { -max } else { 0.0 }, max }
}

/// What a 32-bit code of a bias stands for, where the input and the weights of its channel have these ranges. In the last
/// bit this can differ from the product of both steps.
pub fn bias_unit(input: (Ends, Codes), weights: Ends) -> f32 {
    let tops = input.1.top() * Codes::Signed.top();
    1.0 / (tops / (input.0.magnitude() * weights.magnitude()))
}

/// What a sum of products stands for with what is added to it, in single precision and in this order:
/// `sum * unit + bias + summand * step`, the last product not rounded by itself, cut off at zero if a `Relu` follows.
/// `unit` is the product of the steps of both factors.
pub fn sum_value(sum: i32, unit: f32, bias: f32, (summand, step): (f32, f32), is_relu: bool) -> f32 {
    let value = summand.mul_add(step, sum as f32 * unit + bias);
    if is_relu { value.max(0.0) } else { value }
}

/// The largest code of a sum of such codes with signed ones: TensorFlow's operator for it cuts unsigned results off there.
pub const SIGNED_SUM_TOP: i32 = 127;

/// The 32-bit code nearest to a value in codes of which there are `per_unit` to 1, ties to even; codes saturate.
pub fn wide_code(value: f32, per_unit: f32) -> i32 {
    (value * per_unit).round_ties_even() as i32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ends(min: f32, max: f32) -> Ends {
        Ends { min, max }
    }

    /// What TensorFlow 2.21 answered.
    #[test]
    fn codes_are_those_of_the_runtime() {
        let x = [-1.0, -0.5, 0.0, 0.3, 0.9961, 1.0, 2.0];
        let codes = |codes, range| x.map(|x| Scaling::new(codes, range).code(x));
        assert_eq!(codes(Codes::Signed, ends(-1.0, 1.0)), [-128, -64, 0, 38, 127, 127, 127]);
        assert_eq!(codes(Codes::Signed, ends(-2.0, 1.0)), [-64, -32, 0, 19, 64, 64, 127]);
        assert_eq!(codes(Codes::Unsigned, ends(-2.0, 1.0)), [0, 0, 0, 38, 127, 128, 255]);
        assert_eq!(codes(Codes::Unsigned, ends(0.0, 1.0)), [0, 0, 0, 76, 254, 255, 255]);
        assert_eq!(Scaling::new(Codes::Signed, ends(-1.0, 2.0)).range, ends(-2.0, 2.0));
        assert_eq!(Scaling::new(Codes::Unsigned, ends(-1.0, 2.0)).range, ends(0.0, 2.0));
    }

    #[test]
    fn readings_are_those_of_the_runtime() {
        let value = |codes, reading, range, code| Unscaling::new(codes, reading, range).value(code);
        let close = |a: f32, b: f32| assert!((a - b).abs() <= 1e-6, "{a} {b}");
        close(value(Codes::Signed, Reading::Scaled, ends(-2.0, 1.0), -127), -1.984_375);
        close(value(Codes::Signed, Reading::Scaled, ends(-1.0, 2.0), 64), 1.007_874);
        close(value(Codes::Unsigned, Reading::Scaled, ends(-2.0, 1.0), 64), 0.250_980_4);
        close(value(Codes::Unsigned, Reading::MinFirst, ends(-2.0, 1.0), 64), -1.247_058_9);
        close(value(Codes::Unsigned, Reading::MinFirst, ends(-1.0, 2.0), 127), 0.494_117_62);
    }

    /// A layer of a network in TensorFlow 2.21: the ranges that came out, and codes.
    #[test]
    fn wide_codes_are_narrowed_as_the_runtime_does() {
        let wide = ends(-717_801.7, 717_801.7);
        let unit = f64::from(wide.max) / HALF_WIDE;
        let code = |value: f64| (value / unit).round() as i32;
        let used = used_range(wide, code(-12.787_162), code(11.153_002));
        assert!((used.min - -12.786_995).abs() < 4e-6 && (used.max - 11.153_169).abs() < 4e-6, "{used:?}");
        let narrowing = Narrowing::new(wide, used);
        assert_eq!([-12.787, 0.0, 11.153].map(|value| narrowing.code(code(value))), [0, 136, 255]);
        assert_eq!([i32::MIN, i32::MAX].map(|code| narrowing.code(code)), [0, 255]);
    }

    #[test]
    fn sums_are_put_together_in_single_precision() {
        assert_eq!(
            sum_value(59_525, 7.274_012e-5, 0.327_220_8, (0.0, 0.0), true),
            59_525.0 * 7.274_012e-5 + 0.327_220_8
        );
        assert_eq!(sum_value(-3, 0.5, 0.25, (0.0, 0.0), true), 0.0);
        assert_eq!(sum_value(-3, 0.5, 0.25, (4.0, 0.5), false), 0.75);
        assert_eq!([0.5, 1.5, f32::INFINITY, f32::NAN].map(|value| wide_code(value, 1.0)), [0, 2, i32::MAX, 0]);
        assert_eq!(ends(-1.0, 1.0).width_scale(Codes::Signed), 2.0 / 254.0);
        assert_eq!(ends(0.0, 1.0).width_scale(Codes::Unsigned), 1.0 / 255.0);
    }

    #[test]
    fn degenerate_ranges_are_defined() {
        assert_eq!(Scaling::new(Codes::Unsigned, ends(0.0, 0.0)).range, ends(0.0, 0.01));
        assert_eq!(Narrowing::new(ends(-1.0, 1.0), ends(0.0, 0.0)).code(5), 0);
        assert_eq!(used_range(ends(0.0, 0.0), 3, 4), ends(0.0, 0.0));
        assert_eq!(Codes::Signed.nearest(f64::NAN), 0);
        assert_eq!(used_channel_range(&[], 6.0), ends(0.0, 0.0));
        assert_eq!(Unscaling::new(Codes::Unsigned, Reading::MinFirst, ends(2.0, 2.0)).value(7), 2.0);
    }

    #[test]
    fn channels_share_the_largest_range() {
        let channels = [(ends(-2.0, 2.0), 0, 1 << 30), (ends(-8.0, 8.0), 0, 1 << 30)];
        assert_eq!(used_channel_range(&channels, 1e30), ends(0.0, 4.0));
        assert_eq!(used_channel_range(&channels, 3.0), ends(0.0, 3.0));
        assert_eq!(used_channel_range(&[(ends(-2.0, 2.0), -1 << 30, 0)], 3.0), ends(-1.0, 1.0));
    }

    proptest! {
        #[test]
        fn numbers_return_within_a_step(value in -10f32..10.0, top in 0.1f32..10.0) {
            let range = ends(0.0, top);
            let scaling = Scaling::new(Codes::Unsigned, range);
            let back = Unscaling::new(Codes::Unsigned, Reading::Scaled, scaling.range).value(scaling.code(value));
            prop_assert!((back - value.clamp(0.0, top)).abs() <= 0.51 * top / 255.0);
        }
    }
}
