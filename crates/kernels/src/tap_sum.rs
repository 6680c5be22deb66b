//! Weighted sums of shifted copies of a row: the inner loop of depthwise convolution on planes.

use crate::simd::{Isa, Kernel, Simd};

/// Outputs are computed in blocks of this many elements, kept in registers over all taps.
pub(crate) const BLOCK: usize = 64;

/// Most vectors of a block.
const VECTORS: usize = BLOCK / 8;

/// One term of the sum.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tap<T> {
    /// Distance of the element read from the element written.
    pub(crate) offset: usize,
    /// Its factor.
    pub(crate) weight: T,
}

/// `out[i] = start + sum over taps of weight * source[i + offset]`, for the whole blocks of `out`.
///
/// # Panics
/// If a tap reads beyond `source`.
pub(crate) fn tap_sum(isa: Isa, source: &[f32], taps: &[Tap<f32>], start: f32, out: &mut [f32]) {
    check_reach(source, taps, out);
    isa.run_float(Floats { source, taps, start, out });
}

/// `out[i] = sum over taps of weight * source[i + offset]`, for the whole blocks of `out`.
///
/// # Panics
/// If a tap reads beyond `source`.
pub(crate) fn tap_sum_i32(isa: Isa, source: &[i32], taps: &[Tap<i32>], out: &mut [i32]) {
    check_reach(source, taps, out);
    isa.run_float(Integers { source, taps, out });
}

/// Panics if a tap reads beyond `source` for the whole blocks of `out`.
fn check_reach<T>(source: &[T], taps: &[Tap<T>], out: &[T]) {
    let covered = out.len() / BLOCK * BLOCK;
    let reach = taps.iter().map(|t| t.offset.saturating_add(covered)).max().unwrap_or(0);
    assert!(reach <= source.len(), "a tap reads {reach} of {} elements", source.len());
}

struct Floats<'a> {
    source: &'a [f32],
    taps: &'a [Tap<f32>],
    start: f32,
    out: &'a mut [f32],
}

impl Kernel for Floats<'_> {
    type Output = ();

    #[inline(always)]
    #[allow(unsafe_code)]
    fn run<S: Simd>(self, s: S) {
        for (i, block) in self.out.chunks_exact_mut(BLOCK).enumerate() {
            let mut sums = [s.splat(self.start); VECTORS];
            for tap in self.taps {
                let weight = s.splat(tap.weight);
                for (v, sum) in sums[..BLOCK / S::LANES].iter_mut().enumerate() {
                    // SAFETY: `check_reach` has compared what taps read for all whole blocks with the source.
                    let x = unsafe { s.load(self.source.as_ptr().add(i * BLOCK + tap.offset + v * S::LANES)) };
                    *sum = s.mul_add(x, weight, *sum);
                }
            }
            for (to, sum) in block.chunks_exact_mut(S::LANES).zip(sums) {
                // SAFETY: `to` has that many elements.
                unsafe { s.store(to.as_mut_ptr(), sum) };
            }
        }
    }
}

struct Integers<'a> {
    source: &'a [i32],
    taps: &'a [Tap<i32>],
    out: &'a mut [i32],
}

impl Kernel for Integers<'_> {
    type Output = ();

    #[inline(always)]
    #[allow(unsafe_code)]
    fn run<S: Simd>(self, s: S) {
        for (i, block) in self.out.chunks_exact_mut(BLOCK).enumerate() {
            let mut sums = [s.splat_i32(0); VECTORS];
            for tap in self.taps {
                let weight = s.splat_i32(tap.weight);
                for (v, sum) in sums[..BLOCK / S::LANES].iter_mut().enumerate() {
                    // SAFETY: `check_reach` has compared what taps read for all whole blocks with the source.
                    let x = unsafe { s.load_i32(self.source.as_ptr().add(i * BLOCK + tap.offset + v * S::LANES)) };
                    *sum = s.add_i32(*sum, s.mul_i32(x, weight));
                }
            }
            for (to, sum) in block.chunks_exact_mut(S::LANES).zip(sums) {
                // SAFETY: `to` has that many elements.
                unsafe { s.store_i32(to.as_mut_ptr(), sum) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, codes, noise};
    use proptest::prelude::*;

    #[test]
    #[should_panic(expected = "a tap reads")]
    fn a_tap_beyond_the_source_is_caught() {
        tap_sum(Isa::active(), &[0.0; BLOCK], &[Tap { offset: 1, weight: 1.0 }], 0.0, &mut [0.0; BLOCK]);
    }

    #[test]
    #[should_panic(expected = "a tap reads")]
    fn a_tap_of_integers_beyond_the_source_is_caught() {
        tap_sum_i32(Isa::active(), &[0; BLOCK], &[Tap { offset: 1, weight: 1 }], &mut [0; BLOCK]);
    }

    proptest! {
        #[test]
        fn every_instruction_set_matches_the_definition(
            blocks in 0usize..4, offsets in proptest::collection::vec(0usize..50, 0..10), seed in 0..u64::MAX,
        ) {
            let source = noise(seed, blocks * BLOCK + 50);
            let weights = noise(seed + 1, offsets.len());
            let taps: Vec<Tap<f32>> =
                offsets.iter().zip(&weights).map(|(&offset, &weight)| Tap { offset, weight }).collect();
            let expected: Vec<f32> = (0..blocks * BLOCK)
                .map(|i| 0.25 + taps.iter().map(|t| t.weight * source[i + t.offset]).sum::<f32>())
                .collect();
            for isa in Isa::all() {
                let mut out = vec![f32::NAN; blocks * BLOCK];
                tap_sum(isa, &source, &taps, 0.25, &mut out);
                assert_close(&out, &expected, taps.len() as f32);
            }
        }

        #[test]
        fn integers_are_exact_on_every_instruction_set(
            blocks in 0usize..4, offsets in proptest::collection::vec(0usize..50, 0..10), seed in 0..u64::MAX,
        ) {
            let numbers = |seed, len| codes(seed, len, 9999).into_iter().map(i32::from).collect::<Vec<_>>();
            let (source, weights) = (numbers(seed, blocks * BLOCK + 50), numbers(seed + 1, offsets.len()));
            let taps: Vec<Tap<i32>> =
                offsets.iter().zip(&weights).map(|(&offset, &weight)| Tap { offset, weight }).collect();
            let expected: Vec<i32> =
                (0..blocks * BLOCK).map(|i| taps.iter().map(|t| t.weight * source[i + t.offset]).sum()).collect();
            for isa in Isa::all() {
                let mut out = vec![i32::MIN; blocks * BLOCK];
                tap_sum_i32(isa, &source, &taps, &mut out);
                prop_assert_eq!(&out, &expected, "{}", isa.name());
            }
        }
    }
}
