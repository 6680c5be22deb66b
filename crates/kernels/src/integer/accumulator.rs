//! The width of sums, and the digits of weights that keep 64-bit sums exact in 32-bit steps.

/// The integer type that holds every sum of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accumulator {
    /// 32 bits.
    I32,
    /// 64 bits.
    I64,
}

/// One digit of a weight: the weight is the sum of `of(weight) << shift` over its digits.
#[derive(Debug)]
pub(super) struct Digit {
    pub(super) shift: u32,
    pub(super) of: fn(i16) -> i16,
}

/// One digit: the weight itself.
static WHOLE: [Digit; 1] = [Digit { shift: 0, of: |code| code }];

/// Two digits of base 256, at most 128 in magnitude.
static BYTES: [Digit; 2] = [Digit { shift: 0, of: low_digit }, Digit { shift: 8, of: high_digit }];

/// Products of a digit of [`BYTES`] and any code whose sum fits 32 bits; even, to hold whole pairs.
pub(super) const TERMS_OF_BYTES: usize = i32::MAX as usize / (128 * 32768) / 2 * 2;

impl Accumulator {
    /// The narrowest that holds every sum, whatever the order of its terms: 32 bits if `largest_input`, the largest
    /// magnitude of an input code, times `largest_sum`, the largest sum of the magnitudes of an output channel's
    /// weights, does not exceed `i32::MAX`.
    pub fn for_sums(largest_input: u16, largest_sum: u64) -> Self {
        let bound = u64::from(largest_input).saturating_mul(largest_sum);
        if bound <= i32::MAX as u64 { Self::I32 } else { Self::I64 }
    }

    /// What weights are split into.
    pub(super) fn digits(self) -> &'static [Digit] {
        match self {
            Self::I32 => &WHOLE,
            Self::I64 => &BYTES,
        }
    }

    /// How many terms a 32-bit step may add up.
    pub(super) fn terms(self) -> usize {
        match self {
            Self::I32 => usize::MAX,
            Self::I64 => TERMS_OF_BYTES,
        }
    }
}

/// In -128..=127.
fn low_digit(code: i16) -> i16 {
    i16::from(code as i8)
}

/// In -128..=128.
fn high_digit(code: i16) -> i16 {
    ((i32::from(code) - i32::from(low_digit(code))) >> 8) as i16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_make_up_the_weight() {
        for (accumulator, code) in
            [Accumulator::I32, Accumulator::I64].into_iter().flat_map(|a| (i16::MIN..=i16::MAX).map(move |c| (a, c)))
        {
            let terms = accumulator.digits().iter().map(|digit| i32::from((digit.of)(code)) << digit.shift);
            assert_eq!(terms.sum::<i32>(), i32::from(code));
        }
    }

    #[test]
    fn sums_of_bytes_fit_32_bits() {
        assert!(TERMS_OF_BYTES as i64 * 128 * 32768 <= i64::from(i32::MAX));
        for code in i16::MIN..=i16::MAX {
            assert!(BYTES.iter().all(|digit| (digit.of)(code).unsigned_abs() <= 128), "{code}");
        }
    }

    #[test]
    fn the_bound_is_the_largest_32_bit_integer() {
        assert_eq!(Accumulator::for_sums(1, i32::MAX as u64), Accumulator::I32);
        assert_eq!(Accumulator::for_sums(1, i32::MAX as u64 + 1), Accumulator::I64);
        assert_eq!(Accumulator::for_sums(u16::MAX, u64::MAX), Accumulator::I64);
        assert_eq!(Accumulator::for_sums(0, u64::MAX), Accumulator::I32);
    }
}
