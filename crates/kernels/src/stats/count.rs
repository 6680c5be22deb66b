//! How often a value occurs.

use super::Values;
use crate::simd::{Isa, Kernel, Simd};

/// Elements whose matches fit 32 bits.
const PART: usize = 4096;

/// Number of values equal to `value`; zero stands for subnormals too.
pub fn count_equal(isa: Isa, values: Values<'_>, value: f32) -> u64 {
    isa.run_float(Count { values, value })
}

struct Count<'a> {
    values: Values<'a>,
    value: f32,
}

impl Kernel for Count<'_> {
    type Output = u64;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> u64 {
        let mut count = 0;
        for run in self.values.runs(S::LANES) {
            for part in run.data.chunks(PART) {
                count += u64::from(if run.lanes == 1 {
                    count_part(part, self.value)
                } else {
                    let mut count = 0;
                    for pixel in part.chunks_exact(run.lanes) {
                        count += count_part(&pixel[..run.present], self.value);
                    }
                    count
                });
            }
        }
        count
    }
}

#[inline(always)]
fn count_part(part: &[f32], value: f32) -> u32 {
    let mut count = 0;
    if value == 0.0 {
        for x in part {
            count += u32::from(x.abs() < f32::MIN_POSITIVE);
        }
    } else {
        for x in part {
            count += u32::from(*x == value);
        }
    }
    count
}
