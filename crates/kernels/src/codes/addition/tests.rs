//! Additions on every instruction set against the definition.

use super::*;
use crate::simd::{Isa, Kernel};
use proptest::prelude::*;

/// The sum of one code of `a` with all codes of `b`, on vectors.
struct Sums<'a>(&'a Addition, u8, &'a [u8; 256]);

impl Kernel for Sums<'_> {
    type Output = [u8; 256];

    #[inline(always)]
    #[allow(unsafe_code)]
    fn run<S: Simd>(self, s: S) -> [u8; 256] {
        let mut codes = [0; 256];
        for (to, b) in codes.chunks_exact_mut(S::LANES).zip(self.2.chunks_exact(S::LANES)) {
            // SAFETY: the chunks have that many elements.
            let b = unsafe { s.load_u8(b.as_ptr()) };
            let found = self.0.vector(s).codes(s, s.splat_i32(self.1.into()), b);
            // SAFETY: as above.
            unsafe { s.store_low_bytes(to.as_mut_ptr(), found) };
        }
        codes
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn additions_are_the_definition_on_every_instruction_set(
        a: u8, scales in [1e-4f32..1.0, 1e-4f32..1.0, 1e-3f32..1.0], zero_points: (u8, u8, u8), ends: (u8, u8),
        signed: bool, even: bool,
    ) {
        let scales = if even { [scales[0], 3.0 * scales[0], 2.0 * scales[0]] } else { scales };
        let sign = if signed { Sign::Signed } else { Sign::Unsigned };
        let grid = |scale, zero_point| Grid { scale, zero_point };
        let range = CodeRange { zero_point: zero_points.2, lowest: ends.0.min(ends.1), highest: ends.0.max(ends.1) };
        let (first, second) = (grid(scales[0], zero_points.0), grid(scales[1], zero_points.1));
        let addition = Addition::new(sign, first, second, scales[2], range).unwrap();
        let all: [u8; 256] = std::array::from_fn(|i| i as u8);
        let expected = all.map(|b| addition.code(a, b));
        for isa in Isa::all() {
            prop_assert_eq!(isa.run(Sums(&addition, a, &all)), expected, "{}", isa.name());
        }
    }
}

#[test]
fn sums_of_codes_round_half_to_even_and_saturate() {
    let grid = |scale, zero_point| Grid { scale, zero_point };
    let range = CodeRange { zero_point: 10, lowest: 8, highest: 250 };
    let addition = Addition::new(Sign::Unsigned, grid(0.5, 100), grid(0.5, 3), 1.0, range).unwrap();
    let found = [(100, 3), (101, 3), (103, 3), (103, 4), (90, 0), (255, 255), (101, 255)];
    assert_eq!(found.map(|(a, b)| addition.code(a, b)), [10, 10, 12, 12, 8, 214, 136]);
    // The same codes and zero points as signed ones: halves meet other neighbours only if the origin is odd.
    let signed = Addition::new(Sign::Signed, grid(0.5, 100), grid(0.5, 3), 1.0, range).unwrap();
    assert_eq!(found.map(|(a, b)| signed.code(a, b)), found.map(|(a, b)| addition.code(a, b)));
}

#[test]
fn ratios_that_no_grid_has_are_errors() {
    let range = CodeRange::full(0);
    let grid = |scale| Grid { scale, zero_point: 0 };
    assert!(Addition::new(Sign::Signed, grid(1.0), grid(1.0), 0.0, range).is_err());
    assert!(Addition::new(Sign::Signed, grid(f32::NAN), grid(1.0), 1.0, range).is_err());
}
