//! The arithmetic of Xilinx's xfDNN flow: symmetric 8- or 16-bit codes, clipping thresholds, integer multipliers with
//! shifts, and the exact integer operations of the hardware's runtime.
//!
//! Which layer has which threshold, and the JSON that carries the result, are the business of the front- and back-ends.

pub mod arithmetic;
pub mod multiplier;
pub mod threshold;

pub use arithmetic::{BiasGrid, Rescaler, SymmetricGrid, average_pool, rescale_channels};
pub use multiplier::{Limits, Multiplier, Stage};
pub use threshold::{kl_threshold, kl_threshold_of, power_of_two_threshold};

use crate::NumericsError;

/// Width of activation and weight codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BitWidth {
    /// Codes −128..=127, of which ±127 stand for the threshold.
    Eight,
    /// Codes −32768..=32767, of which ±32767 stand for the threshold.
    Sixteen,
}

impl BitWidth {
    /// 8 or 16.
    pub const fn bits(self) -> u32 {
        match self {
            Self::Eight => 8,
            Self::Sixteen => 16,
        }
    }

    /// Largest code, 2^(bits − 1) − 1: the code of the threshold.
    pub const fn largest(self) -> i32 {
        (1 << (self.bits() - 1)) - 1
    }

    /// Smallest code, −2^(bits − 1): rescaling reaches it, quantization of reals does not.
    pub const fn smallest(self) -> i32 {
        -self.largest() - 1
    }

    /// Saturation to a code.
    fn clamp(self, value: i64) -> i32 {
        value.clamp(self.smallest().into(), self.largest().into()) as i32
    }
}

impl TryFrom<i64> for BitWidth {
    type Error = NumericsError;

    /// The width of this many bits.
    ///
    /// # Errors
    /// [`NumericsError::UnsupportedBitWidth`] unless it is 8 or 16.
    fn try_from(bits: i64) -> Result<Self, NumericsError> {
        match bits {
            8 => Ok(Self::Eight),
            16 => Ok(Self::Sixteen),
            _ => Err(NumericsError::UnsupportedBitWidth { bits }),
        }
    }
}

/// Generation of the hardware, which differ in the width of the multiplier, the shifts and the place of the bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Flavor {
    /// 8-bit multiplier between two shifts; the bias is added to the output code.
    V2,
    /// 16-bit multiplier; the bias is added to the accumulator.
    V3,
}

/// Scale factor sf = th / (2^(bits − 1) − 1) of an activation tensor, the width of one step.
pub fn scale_factor(threshold: f64, bits: BitWidth) -> f64 {
    threshold / f64::from(bits.largest())
}

/// [`scale_factor`] of the weights of one channel, in f32 as xfDNN computes it.
pub fn weight_scale_factor(threshold: f32, bits: BitWidth) -> f32 {
    threshold / bits.largest() as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_know_their_codes() {
        for (bits, smallest, largest) in [(8, -128, 127), (16, -32768, 32767)] {
            let width = BitWidth::try_from(i64::from(bits)).unwrap();
            assert_eq!((width.bits(), width.smallest(), width.largest()), (bits, smallest, largest));
            assert_eq!((width.clamp(i64::MIN), width.clamp(i64::MAX), width.clamp(-5)), (smallest, largest, -5));
        }
        for bits in [0, 7, 32, -8, i64::MAX] {
            assert_eq!(BitWidth::try_from(bits), Err(NumericsError::UnsupportedBitWidth { bits }));
        }
    }

    #[test]
    fn a_scale_factor_times_the_largest_code_is_the_threshold() {
        assert_eq!(scale_factor(254.0, BitWidth::Eight), 2.0);
        assert_eq!(scale_factor(32767.0, BitWidth::Sixteen), 1.0);
        assert_eq!(weight_scale_factor(0.3, BitWidth::Eight), 0.3f32 / 127.0);
    }
}
