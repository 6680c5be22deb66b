//! The most arithmetic the processor does in a given time: what a speed is a percentage of.

use crate::simd::{Isa, Kernel, Simd};
use std::hint::black_box;

/// Which instruction is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peak {
    /// Multiplications and additions of `f32`.
    MultiplyAdd,
    /// Products of unsigned by signed bytes, added up.
    ByteDot,
}

/// Sums that do not wait for each other: more than an instruction's latency times how many start at once.
const SUMS: usize = 12;

/// Repeats the instruction on independent sums and returns the number of operations done, a multiplication and an
/// addition being two. The caller measures the time.
pub fn peak(isa: Isa, kind: Peak, iterations: u64) -> u64 {
    match kind {
        Peak::MultiplyAdd => isa.run_float(Loop { kind, iterations }),
        Peak::ByteDot => isa.run(Loop { kind, iterations }),
    }
}

struct Loop {
    kind: Peak,
    iterations: u64,
}

impl Kernel for Loop {
    type Output = u64;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> u64 {
        let per_lane = match self.kind {
            Peak::MultiplyAdd => {
                let (a, b) = (black_box(s.splat(0.5)), black_box(s.splat(0.25)));
                let mut sums = [black_box(s.splat(1.0)); SUMS];
                for _ in 0..self.iterations {
                    for sum in &mut sums {
                        *sum = s.mul_add(*sum, a, b);
                    }
                }
                black_box(sums);
                2
            }
            Peak::ByteDot => {
                let (a, b) = (black_box(s.splat_i32(0x0102_0304)), black_box(s.splat_i32(0x0203_0405)));
                let mut sums = [black_box(s.splat_i32(1)); SUMS];
                for _ in 0..self.iterations {
                    for sum in &mut sums {
                        *sum = s.dot_u8_i8(*sum, a, b);
                    }
                }
                black_box(sums);
                8
            }
        };
        self.iterations * (SUMS * S::LANES * per_lane) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_counted_by_lane() {
        for isa in Isa::all() {
            let lanes = isa.lanes() as u64;
            assert_eq!(peak(isa, Peak::MultiplyAdd, 10), 240 * lanes);
            assert_eq!(peak(isa, Peak::ByteDot, 10), 960 * lanes);
        }
    }
}
