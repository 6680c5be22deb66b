//! What the bytes of an activation in codes stand for.

use quantize_kernels::codes::{CodeRange, Grid, Sign};
use quantize_numerics::{AffineParams, QuantType};

/// Ends that cut nothing off.
pub(crate) const EVERYTHING: (f32, f32) = (f32::NEG_INFINITY, f32::INFINITY);

/// The grid of 8-bit codes, with the code type they belong to. Kernels take all codes as unsigned bytes: signed ones have
/// their top bit flipped.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct CodeGrid {
    params: AffineParams,
}

impl CodeGrid {
    /// The grid of a quantizer, if its codes have 8 bits.
    pub(crate) fn of(params: AffineParams) -> Option<Self> {
        let bytes = matches!(params.qtype(), QuantType::U8 | QuantType::U7 | QuantType::I8 | QuantType::I8Narrow);
        bytes.then_some(Self { params })
    }

    /// What kernels need to know of it.
    pub(crate) fn kernel(&self) -> Grid {
        Grid { scale: self.params.scale(), zero_point: self.byte(self.params.zero_point()) }
    }

    /// Whether a byte is a code as it is.
    pub(crate) fn sign(&self) -> Sign {
        if self.params.qtype().is_signed() { Sign::Signed } else { Sign::Unsigned }
    }

    /// The codes of reals between `lo` and `hi`.
    pub(crate) fn range(&self, (lo, hi): (f32, f32)) -> CodeRange {
        let code = |x: f32| self.byte(self.params.quantize(x));
        CodeRange { zero_point: self.byte(self.params.zero_point()), lowest: code(lo), highest: code(hi) }
    }

    fn byte(&self, code: i32) -> u8 {
        let first = if self.params.qtype().is_signed() { -128 } else { 0 };
        (code - first).clamp(0, 255) as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signed_codes_are_bytes_with_the_top_bit_flipped() {
        let grid = |zero_point, qtype| CodeGrid::of(AffineParams::new(0.5, zero_point, qtype).unwrap());
        let unsigned = grid(3, QuantType::U8).unwrap();
        assert_eq!(unsigned.kernel(), Grid { scale: 0.5, zero_point: 3 });
        assert_eq!(unsigned.range((0.0, 6.0)), CodeRange { zero_point: 3, lowest: 3, highest: 15 });
        let signed = grid(-128, QuantType::I8).unwrap();
        assert_eq!((signed.kernel().zero_point, signed.sign()), (0, Sign::Signed));
        assert_eq!(signed.range(EVERYTHING), CodeRange { zero_point: 0, lowest: 0, highest: 255 });
        let narrow = grid(0, QuantType::I8Narrow).unwrap();
        assert_eq!(narrow.range(EVERYTHING), CodeRange { zero_point: 128, lowest: 1, highest: 255 });
        assert!(grid(0, QuantType::U16).is_none());
    }
}
