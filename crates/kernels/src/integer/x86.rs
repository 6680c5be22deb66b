//! The kernels for instruction sets of x86-64, one file each.

pub(super) mod avx2;
pub(super) mod avx512;
pub(super) mod vnni;

use std::arch::x86_64::{
    __m256i, __m512i, _mm256_loadu_si256, _mm256_storeu_si256, _mm512_loadu_si512, _mm512_storeu_si512,
};

#[inline]
#[target_feature(enable = "avx512f")]
#[allow(unsafe_code)]
fn load_512(from: &[i32; 16]) -> __m512i {
    // SAFETY: `from` has the 64 bytes that are read.
    unsafe { _mm512_loadu_si512(from.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
#[allow(unsafe_code)]
fn store_512(to: &mut [i32; 16], value: __m512i) {
    // SAFETY: `to` has the 64 bytes that are written.
    unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), value) };
}

#[inline]
#[target_feature(enable = "avx2")]
#[allow(unsafe_code)]
fn load_256(from: &[i32; 8]) -> __m256i {
    // SAFETY: `from` has the 32 bytes that are read.
    unsafe { _mm256_loadu_si256(from.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
#[allow(unsafe_code)]
fn store_256(to: &mut [i32; 8], value: __m256i) {
    // SAFETY: `to` has the 32 bytes that are written.
    unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), value) };
}
