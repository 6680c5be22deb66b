//! The integer arithmetic of the xfDNN runtime: codes of reals, rescaling of accumulators, average pooling.
//!
//! Convolution itself is an exact integer sum and needs no definition here. An activation such as ReLU follows the
//! rescaling and acts on codes.

use super::{BitWidth, Flavor, Multiplier};
use crate::affine::check_len;
use crate::{ChannelLayout, NumericsError};

/// Thresholds this small stand for a tensor of zeros.
pub(super) const DEAD_THRESHOLD: f64 = 1e-8;

/// Symmetric grid of a tensor or channel: the code ±largest stands for ±threshold. All arithmetic is f32.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SymmetricGrid {
    threshold: f32,
    /// Width of one step while calibrating: of the threshold as it was given, not as f32 holds it.
    step: f32,
    bits: BitWidth,
}

impl SymmetricGrid {
    /// The grid of codes of `bits` with this clipping threshold; a threshold of 0 turns every real into the code 0.
    ///
    /// # Errors
    /// [`NumericsError::InvalidThreshold`] if it is negative, NaN or beyond f32.
    pub fn new(threshold: f64, bits: BitWidth) -> Result<Self, NumericsError> {
        let rounded = threshold as f32;
        let valid = rounded >= 0.0 && rounded.is_finite();
        let step = (threshold / f64::from(bits.largest())) as f32;
        if valid {
            Ok(Self { threshold: rounded, step, bits })
        } else {
            Err(NumericsError::InvalidThreshold { threshold })
        }
    }

    fn largest(self) -> f32 {
        self.bits.largest() as f32
    }

    /// The real on the scale of codes, clipped to ±largest; not for NaN.
    fn level(self, x: f32) -> f32 {
        // A finite factor keeps zeros at zero where the quotient overflows.
        let factor = (self.largest() / self.threshold).min(f32::MAX);
        (x.max(-self.threshold).min(self.threshold) * factor).clamp(-self.largest(), self.largest())
    }

    /// Width of the codes.
    pub const fn bits(self) -> BitWidth {
        self.bits
    }

    /// Code of a real network input, rounded towards zero. NaN gives 0.
    pub fn input_code(self, x: f32) -> i32 {
        if x.is_nan() { 0 } else { self.level(x) as i32 }
    }

    /// Code of a weight, rounded to nearest, half away from zero. NaN gives 0.
    pub fn weight_code(self, x: f32) -> i32 {
        if x.is_nan() { 0 } else { self.level(x).round() as i32 }
    }

    /// Real value (code / largest) · threshold.
    pub fn dequantize(self, code: i32) -> f32 {
        code as f32 / self.largest() * self.threshold
    }

    /// Replaces every element by the nearest point of the grid, as the quantizer does while it calibrates: clip, divide
    /// by the scale factor, round half to even, multiply. A threshold up to 10⁻⁸ gives zeros, NaN stays NaN.
    pub fn fake_quantize_in_place(self, values: &mut [f32]) {
        if f64::from(self.threshold) <= DEAD_THRESHOLD {
            values.fill(0.0);
            return;
        }
        for x in values {
            *x = (x.clamp(-self.threshold, self.threshold) / self.step).round_ties_even() * self.step;
        }
    }

    /// [`Self::input_code`] of every element.
    ///
    /// # Errors
    /// [`NumericsError::LengthMismatch`] if `codes` and `values` differ in length.
    pub fn input_codes(self, values: &[f32], codes: &mut [i32]) -> Result<(), NumericsError> {
        check_len("codes", values.len(), codes.len())?;
        codes.iter_mut().zip(values).for_each(|(code, &x)| *code = self.input_code(x));
        Ok(())
    }

    /// [`Self::weight_code`] of every element.
    ///
    /// # Errors
    /// [`NumericsError::LengthMismatch`] if `codes` and `values` differ in length.
    pub fn weight_codes(self, values: &[f32], codes: &mut [i32]) -> Result<(), NumericsError> {
        check_len("codes", values.len(), codes.len())?;
        codes.iter_mut().zip(values).for_each(|(code, &x)| *code = self.weight_code(x));
        Ok(())
    }

    /// [`Self::dequantize`] of every element.
    ///
    /// # Errors
    /// [`NumericsError::LengthMismatch`] if `values` and `codes` differ in length.
    pub fn dequantize_slice(self, codes: &[i32], values: &mut [f32]) -> Result<(), NumericsError> {
        check_len("values", codes.len(), values.len())?;
        values.iter_mut().zip(codes).for_each(|(x, &code)| *x = self.dequantize(code));
        Ok(())
    }
}

/// Grid of the biases of one output channel, which follows from those around it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BiasGrid(BiasSteps);

#[derive(Debug, Clone, Copy, PartialEq)]
enum BiasSteps {
    /// Those of the layer's output.
    Output(SymmetricGrid),
    /// Accumulator units, of this real value.
    Accumulator(f32),
    /// 2¹⁶ accumulator units, each of this real value.
    WideAccumulator(f32),
}

impl BiasGrid {
    /// The grid of a channel whose input, weights and output have the grids given, all of the same width: for v2 that
    /// of the output, for v3 the accumulator's, with unit (th_weights / largest) · (th_in / largest), or 2¹⁶ times as
    /// coarse for 16 bits.
    pub fn of(flavor: Flavor, input: SymmetricGrid, weights: SymmetricGrid, output: SymmetricGrid) -> Self {
        let unit = (weights.threshold / weights.largest()) * (input.threshold / input.largest());
        Self(match (flavor, output.bits) {
            (Flavor::V2, _) => BiasSteps::Output(output),
            (Flavor::V3, BitWidth::Eight) => BiasSteps::Accumulator(unit),
            (Flavor::V3, BitWidth::Sixteen) => BiasSteps::WideAccumulator(unit),
        })
    }

    /// Code of a bias, half away from zero. Beyond the output's threshold (v2), ±8388607 accumulator units (v3, 8 bits)
    /// or ±2⁴⁷ of them (16 bits) it saturates; NaN, or a dead channel, gives 0.
    pub fn code(self, bias: f32) -> i32 {
        if bias.is_nan() {
            return 0;
        }
        let within = |limit: f32| bias.max(-limit).min(limit);
        match self.0 {
            BiasSteps::Output(grid) => grid.weight_code(bias),
            BiasSteps::Accumulator(unit) => (within(unit * 8_388_607.0) / unit).round() as i32,
            BiasSteps::WideAccumulator(unit) => (within(unit * 47f32.exp2()) / unit / 65_536.0).round() as i32,
        }
    }
}

/// Right shift that rounds half up (towards +∞).
const fn rounding_shift(value: i64, shift: u32) -> i64 {
    if shift > 63 {
        return 0;
    }
    // The bit below the shifted ones decides; a shift of 0 has none.
    let half = (value >> shift.saturating_sub(1)) & (shift > 0) as i64;
    (value >> shift) + half
}

/// Order of the operations between accumulator and code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// clamp(clamp(clamp(acc >> pre) · scale >> post) + bias)
    BiasLast,
    /// clamp((acc + bias) · scale >> post)
    BiasFirst,
    /// clamp(clamp24((acc + (bias << 16)) >> pre) · scale >> post)
    WideBiasFirst,
}

/// Rescaling of one output channel from accumulator to code.
///
/// Elementwise sums of codes are rescaled the same way, without a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rescaler {
    order: Order,
    bits: BitWidth,
    multiplier: Multiplier,
    bias: i64,
}

impl Rescaler {
    /// Rescaling with `multiplier`, and a bias that [`BiasGrid::code`] gave for the same flavour and width (0: none).
    ///
    /// # Errors
    /// [`NumericsError::UnsupportedMultiplier`] if |scale| exceeds 255 (v2) or 65535 (v3), a shift exceeds 63, or, for
    /// v3 with 8 bits, there is a prescale shift or the postscale shift exceeds 40.
    pub fn new(flavor: Flavor, bits: BitWidth, multiplier: Multiplier, bias: i32) -> Result<Self, NumericsError> {
        let (order, max_prescale_shift, max_scale, max_postscale_shift) = match (flavor, bits) {
            (Flavor::V2, _) => (Order::BiasLast, 63, 255, 63),
            (Flavor::V3, BitWidth::Eight) => (Order::BiasFirst, 0, 65_535, 40),
            (Flavor::V3, BitWidth::Sixteen) => (Order::WideBiasFirst, 63, 65_535, 63),
        };
        let Multiplier { prescale_shift, scale, postscale_shift } = multiplier;
        let valid = prescale_shift <= max_prescale_shift
            && scale.unsigned_abs() <= max_scale
            && postscale_shift <= max_postscale_shift;
        if !valid {
            return Err(NumericsError::UnsupportedMultiplier {
                prescale_shift,
                scale,
                postscale_shift,
                max_prescale_shift,
                max_scale,
                max_postscale_shift,
            });
        }
        let bias = if order == Order::WideBiasFirst { i64::from(bias) << 16 } else { i64::from(bias) };
        Ok(Self { order, bits, multiplier, bias })
    }

    /// Width of the codes.
    pub const fn bits(&self) -> BitWidth {
        self.bits
    }

    /// Code of an accumulator, in [−2^(bits − 1), 2^(bits − 1) − 1].
    pub fn apply(&self, acc: i64) -> i32 {
        match self.order {
            Order::BiasLast => self.bias_last(acc),
            Order::BiasFirst => self.bias_first(acc),
            Order::WideBiasFirst => self.wide_bias_first(acc),
        }
    }

    fn bias_last(&self, acc: i64) -> i32 {
        let shifted = self.bits.clamp(rounding_shift(acc, self.multiplier.prescale_shift));
        // At most 8 · 8 bits: always fits the int16 of the 8-bit hardware.
        let code = self.scaled(i64::from(shifted));
        self.bits.clamp(i64::from(code) + self.bias)
    }

    fn bias_first(&self, acc: i64) -> i32 {
        self.scaled(acc.saturating_add(self.bias))
    }

    fn wide_bias_first(&self, acc: i64) -> i32 {
        const LARGEST: i64 = (1 << 23) - 1;
        let shifted = rounding_shift(acc.saturating_add(self.bias), self.multiplier.prescale_shift);
        self.scaled(shifted.clamp(-LARGEST - 1, LARGEST))
    }

    /// A product that saturates 64 bits is beyond any code even after the largest shift such a value may meet.
    fn scaled(&self, value: i64) -> i32 {
        let product = value.saturating_mul(i64::from(self.multiplier.scale));
        self.bits.clamp(rounding_shift(product, self.multiplier.postscale_shift))
    }

    /// [`Self::apply`] of every element.
    ///
    /// # Errors
    /// [`NumericsError::LengthMismatch`] if `codes` and `accumulators` differ in length.
    pub fn apply_slice<A: Copy + Into<i64>>(&self, accumulators: &[A], codes: &mut [i32]) -> Result<(), NumericsError> {
        check_len("codes", accumulators.len(), codes.len())?;
        // One loop for each order, so that none has a branch inside.
        match self.order {
            Order::BiasLast => each(accumulators, codes, |acc| self.bias_last(acc)),
            Order::BiasFirst => each(accumulators, codes, |acc| self.bias_first(acc)),
            Order::WideBiasFirst => each(accumulators, codes, |acc| self.wide_bias_first(acc)),
        }
        Ok(())
    }
}

fn each<A: Copy + Into<i64>>(accumulators: &[A], codes: &mut [i32], one: impl Fn(i64) -> i32) {
    codes.iter_mut().zip(accumulators).for_each(|(code, &acc)| *code = one(acc.into()));
}

/// Rescales accumulators laid out as `[outer][channels][inner]` with one rescaler for each channel.
///
/// # Errors
/// [`NumericsError::InvalidLayout`], or [`NumericsError::LengthMismatch`] of the rescalers or codes.
pub fn rescale_channels<A: Copy + Into<i64>>(
    rescalers: &[Rescaler],
    layout: ChannelLayout,
    accumulators: &[A],
    codes: &mut [i32],
) -> Result<(), NumericsError> {
    layout.check(accumulators.len())?;
    check_len("rescalers", layout.channels, rescalers.len())?;
    check_len("codes", accumulators.len(), codes.len())?;
    for ((channel, run), (_, out)) in layout.runs(accumulators).zip(layout.runs_mut(codes)) {
        rescalers[channel].apply_slice(run, out)?;
    }
    Ok(())
}

/// Code of an average-pooling window from the sum of its codes: the product with the scale is an f32, truncated, then
/// shifted. The multiplier contains the window's size; its prescale shift is 0 and not looked at.
pub fn average_pool(sum: i64, multiplier: Multiplier, bits: BitWidth) -> i32 {
    let product = sum as f32 * multiplier.scale as f32;
    bits.clamp(rounding_shift(product as i64, multiplier.postscale_shift))
}

#[cfg(test)]
mod tests;
