//! Weighted sum of shifted copies of a row: the inner loop of depthwise convolution, for each instruction set.

/// Outputs are computed in blocks of this many elements, kept in registers over all taps.
pub(crate) const BLOCK: usize = 64;

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
pub(crate) fn tap_sum(source: &[f32], taps: &[Tap<f32>], start: f32, out: &mut [f32]) {
    check_reach(source, taps, out);
    #[cfg(target_arch = "x86_64")]
    if run_x86(source, taps, start, out) {
        return;
    }
    portable(source, taps, start, out);
}

/// Panics if a tap reads beyond `source` for the whole blocks of `out`.
pub(crate) fn check_reach<T>(source: &[T], taps: &[Tap<T>], out: &[T]) {
    let covered = out.len() / BLOCK * BLOCK;
    let reach = taps.iter().map(|t| t.offset.saturating_add(covered)).max().unwrap_or(0);
    assert!(reach <= source.len(), "a tap reads {reach} of {} elements", source.len());
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
fn run_x86(source: &[f32], taps: &[Tap<f32>], start: f32, out: &mut [f32]) -> bool {
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: the processor has AVX-512; the caller checked the reach of the taps.
        unsafe { x86::avx512(source, taps, start, out) };
    } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        // SAFETY: the processor has AVX2 and FMA; the caller checked the reach of the taps.
        unsafe { x86::avx2(source, taps, start, out) };
    } else {
        return false;
    }
    true
}

fn portable(source: &[f32], taps: &[Tap<f32>], start: f32, out: &mut [f32]) {
    for (i, block) in out.chunks_exact_mut(BLOCK).enumerate() {
        block.fill(start);
        for tap in taps {
            let from = &source[i * BLOCK + tap.offset..][..BLOCK];
            block.iter_mut().zip(from).for_each(|(sum, x)| *sum += tap.weight * x);
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    //! The same loop in vector registers.

    use super::{BLOCK, Tap};
    use std::arch::x86_64::{
        __m256, __m512, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_set1_ps, _mm256_storeu_ps, _mm512_fmadd_ps,
        _mm512_loadu_ps, _mm512_set1_ps, _mm512_storeu_ps,
    };

    /// # Safety
    /// The processor has AVX-512F, and for each tap `offset` plus the whole blocks of `out` lies within `source`.
    #[allow(unsafe_code)]
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn avx512(source: &[f32], taps: &[Tap<f32>], start: f32, out: &mut [f32]) {
        for (i, block) in out.chunks_exact_mut(BLOCK).enumerate() {
            let mut sums: [__m512; BLOCK / 16] = [_mm512_set1_ps(start); BLOCK / 16];
            for tap in taps {
                let weight = _mm512_set1_ps(tap.weight);
                for (v, sum) in sums.iter_mut().enumerate() {
                    // SAFETY: i * BLOCK + v * 16 + 16 is at most the whole blocks of `out`, see above.
                    let x = unsafe { _mm512_loadu_ps(source.as_ptr().add(i * BLOCK + tap.offset + v * 16)) };
                    *sum = _mm512_fmadd_ps(x, weight, *sum);
                }
            }
            for (to, sum) in block.chunks_exact_mut(16).zip(sums) {
                // SAFETY: `to` has 16 elements.
                unsafe { _mm512_storeu_ps(to.as_mut_ptr(), sum) };
            }
        }
    }

    /// # Safety
    /// The processor has AVX2 and FMA, and for each tap `offset` plus the whole blocks of `out` lies within `source`.
    #[allow(unsafe_code)]
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn avx2(source: &[f32], taps: &[Tap<f32>], start: f32, out: &mut [f32]) {
        for (i, block) in out.chunks_exact_mut(BLOCK).enumerate() {
            let mut sums: [__m256; BLOCK / 8] = [_mm256_set1_ps(start); BLOCK / 8];
            for tap in taps {
                let weight = _mm256_set1_ps(tap.weight);
                for (v, sum) in sums.iter_mut().enumerate() {
                    // SAFETY: i * BLOCK + v * 8 + 8 is at most the whole blocks of `out`, see above.
                    let x = unsafe { _mm256_loadu_ps(source.as_ptr().add(i * BLOCK + tap.offset + v * 8)) };
                    *sum = _mm256_fmadd_ps(x, weight, *sum);
                }
            }
            for (to, sum) in block.chunks_exact_mut(8).zip(sums) {
                // SAFETY: `to` has 8 elements.
                unsafe { _mm256_storeu_ps(to.as_mut_ptr(), sum) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, noise};
    use proptest::prelude::*;

    type Variant = fn(&[f32], &[Tap<f32>], f32, &mut [f32]);

    #[allow(unsafe_code)]
    fn variants() -> Vec<Variant> {
        #[cfg_attr(not(target_arch = "x86_64"), allow(unused_mut))]
        let mut all: Vec<Variant> = vec![tap_sum, portable];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") {
                // SAFETY: the processor has AVX-512; the test keeps the taps inside.
                all.push(|s, t, b, o| unsafe { x86::avx512(s, t, b, o) });
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                // SAFETY: the processor has AVX2 and FMA; the test keeps the taps inside.
                all.push(|s, t, b, o| unsafe { x86::avx2(s, t, b, o) });
            }
        }
        all
    }

    #[test]
    #[should_panic(expected = "a tap reads")]
    fn a_tap_beyond_the_source_is_caught() {
        tap_sum(&[0.0; BLOCK], &[Tap { offset: 1, weight: 1.0 }], 0.0, &mut [0.0; BLOCK]);
    }

    proptest! {
        #[test]
        fn every_variant_matches_the_definition(blocks in 0usize..4, offsets in proptest::collection::vec(0usize..50, 0..10), seed: u64) {
            let source = noise(seed, blocks * BLOCK + 50);
            let weights = noise(seed + 1, offsets.len());
            let taps: Vec<Tap<f32>> = offsets.iter().zip(&weights).map(|(&offset, &weight)| Tap { offset, weight }).collect();
            let expected: Vec<f32> = (0..blocks * BLOCK)
                .map(|i| 0.25 + taps.iter().map(|t| t.weight * source[i + t.offset]).sum::<f32>())
                .collect();
            for variant in variants() {
                let mut out = vec![f32::NAN; blocks * BLOCK];
                variant(&source, &taps, 0.25, &mut out);
                assert_close(&out, &expected, taps.len() as f32);
            }
        }
    }
}
