//! Requantization on every instruction set against the arithmetic of simulations.

use super::*;
use crate::simd::{Isa, Kernel};
use proptest::prelude::*;
use quantize_numerics::{QuantType, Requantizer};

const BOTH: [Rounding; 2] = [Rounding::FloatHalfEven, Rounding::FixedPoint];

/// The codes of a sum in every channel, on vectors.
struct Codes<'a>(&'a Requantize, i32);

impl Kernel for Codes<'_> {
    type Output = Vec<u8>;

    #[inline(always)]
    #[allow(unsafe_code)]
    fn run<S: Simd>(self, s: S) -> Vec<u8> {
        let mut codes = vec![0; self.0.channels().next_multiple_of(S::LANES)];
        for (i, to) in codes.chunks_exact_mut(S::LANES).enumerate() {
            let found = self.0.vector(s, i * S::LANES).codes(s, s.splat_i32(self.1));
            // SAFETY: the chunk has that many elements.
            unsafe { s.store_low_bytes(to.as_mut_ptr(), found) };
        }
        codes.truncate(self.0.channels());
        codes
    }
}

fn numerics(rounding: Rounding) -> quantize_numerics::Rounding {
    match rounding {
        Rounding::FloatHalfEven => quantize_numerics::Rounding::FloatHalfEven,
        Rounding::FixedPoint => quantize_numerics::Rounding::FixedPoint,
    }
}

/// Multipliers over all magnitudes, powers of two among them.
fn any_multiplier() -> impl Strategy<Value = f64> {
    prop_oneof![
        (1.0f64..2.0, -45i32..31).prop_map(|(m, e)| m * 2f64.powi(e)),
        (-45i32..31).prop_map(|e| 2f64.powi(e)),
        (-45i32..31).prop_map(|e| 2f64.powi(e) * (1.0 - 2f64.powi(-40))),
    ]
}

/// Small sums, large ones, and those with a half behind a division by a power of two.
fn any_sum() -> impl Strategy<Value = i32> {
    prop_oneof![any::<i32>(), -1000i32..1000, (-300i32..300, 1u32..20).prop_map(|(x, s)| (2 * x + 1) << (s - 1))]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn requantization_is_that_of_a_simulation_on_every_instruction_set(
        sum in any_sum(), multipliers in proptest::collection::vec(any_multiplier(), 1..40),
        zero_point: u8, ends: (u8, u8), near in -2i32..3,
    ) {
        let (lowest, highest) = (ends.0.min(ends.1), ends.0.max(ends.1));
        let range = CodeRange { zero_point, lowest, highest };
        // Sums whose product is near the codes are rarer than those that saturate.
        let sum = if near == 0 { sum } else { ((f64::from(sum % 300) / multipliers[0]) as i32).saturating_add(near) };
        for rounding in BOTH {
            let requantize = Requantize::new(&vec![0; multipliers.len()], &multipliers, range, rounding).unwrap();
            let expected: Vec<u8> = multipliers.iter().map(|m| {
                let one = Requantizer::new(*m, QuantType::U8, zero_point.into(), numerics(rounding)).unwrap();
                one.clamped(lowest.into(), highest.into()).apply(sum) as u8
            }).collect();
            let definition: Vec<u8> = (0..multipliers.len()).map(|c| requantize.code(c, sum)).collect();
            prop_assert_eq!(&definition, &expected);
            for isa in Isa::all() {
                prop_assert_eq!(&isa.run(Codes(&requantize, sum)), &expected, "{} {:?}", isa.name(), rounding);
            }
        }
    }
}

#[test]
fn unusable_parameters_are_errors() {
    let range = CodeRange::full(0);
    for multiplier in [-1.0, f64::NAN, f64::INFINITY, 2f64.powi(31)] {
        for rounding in BOTH {
            let found = Requantize::new(&[0, 0], &[1.0, multiplier], range, rounding);
            assert_eq!(found.unwrap_err(), KernelError::Multiplier { channel: 1 }, "{multiplier}");
        }
    }
    assert!(Requantize::new(&[0, 0], &[1.0], range, BOTH[0]).is_err());
    assert!(Dequantize::new(&[0], &[1.0, 1.0]).is_err());
}

#[test]
fn a_multiplier_of_zero_gives_the_zero_point() {
    for rounding in BOTH {
        let requantize = Requantize::new(&[0; 3], &[0.0, 5e-324, 1e-300], CodeRange::full(7), rounding).unwrap();
        for isa in Isa::all() {
            assert_eq!(isa.run(Codes(&requantize, i32::MIN)), [7; 3]);
        }
    }
}
