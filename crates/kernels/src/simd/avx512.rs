//! AVX-512, and its byte products with and without VNNI.

use super::{Kernel, Simd};
use std::arch::x86_64::*;

/// Lanes of a vector.
const LANES: usize = 16;

/// `VNNI` says whether bytes are multiplied and added up in one instruction.
#[derive(Clone, Copy)]
pub(super) struct Avx512<const VNNI: bool>(());

pub(super) fn available() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && super::avx2::available()
}

#[target_feature(enable = "popcnt,avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) fn run<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Avx512::<false>(()))
}

#[target_feature(enable = "popcnt,avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) fn run_vnni<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Avx512::<true>(()))
}

// SAFETY (of every block): the value `self` exists only where the processor has the instructions; pointers are as the
// caller promises.
#[allow(unsafe_code)]
impl<const VNNI: bool> Simd for Avx512<VNNI> {
    const LANES: usize = LANES;
    const PIXELS: usize = 14;
    const CODE_PIXELS: usize = 14;
    type F32 = __m512;
    type I32 = __m512i;

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> __m512 {
        unsafe { _mm512_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32, x: __m512) {
        unsafe { _mm512_storeu_ps(to, x) }
    }
    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_div_ps(a, b) }
    }
    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_min_ps(a, b) }
    }
    #[inline(always)]
    fn select_less(self, a: __m512, b: __m512, x: __m512, y: __m512) -> __m512 {
        unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b), y, x) }
    }
    #[inline(always)]
    fn round(self, x: __m512) -> __m512 {
        unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x) }
    }
    #[inline(always)]
    fn to_i32(self, x: __m512) -> __m512i {
        unsafe { _mm512_cvtps_epi32(x) }
    }
    #[inline(always)]
    fn to_f32(self, x: __m512i) -> __m512 {
        unsafe { _mm512_cvtepi32_ps(x) }
    }
    #[inline(always)]
    fn bits(self, x: __m512) -> __m512i {
        unsafe { _mm512_castps_si512(x) }
    }
    #[inline(always)]
    fn of_bits(self, x: __m512i) -> __m512 {
        unsafe { _mm512_castsi512_ps(x) }
    }

    #[inline(always)]
    fn splat_i32(self, x: i32) -> __m512i {
        unsafe { _mm512_set1_epi32(x) }
    }
    #[inline(always)]
    unsafe fn load_i32(self, from: *const i32) -> __m512i {
        unsafe { _mm512_loadu_si512(from.cast()) }
    }
    #[inline(always)]
    unsafe fn store_i32(self, to: *mut i32, x: __m512i) {
        unsafe { _mm512_storeu_si512(to.cast(), x) }
    }
    #[inline(always)]
    fn add_i32(self, a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_add_epi32(a, b) }
    }
    #[inline(always)]
    fn sub_i32(self, a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_sub_epi32(a, b) }
    }
    #[inline(always)]
    fn mul_i32(self, a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_mullo_epi32(a, b) }
    }
    #[inline(always)]
    fn max_i32(self, a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_max_epi32(a, b) }
    }
    #[inline(always)]
    fn shift_left<const N: u32>(self, x: __m512i) -> __m512i {
        unsafe { _mm512_slli_epi32::<N>(x) }
    }
    #[inline(always)]
    fn and_i32(self, a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_and_si512(a, b) }
    }
    #[inline(always)]
    fn floor_i32(self, x: __m512) -> __m512i {
        unsafe { _mm512_cvt_roundps_epi32::<{ _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC }>(x) }
    }
    #[inline(always)]
    fn normal(self, x: __m512) -> u32 {
        /// Quiet NaN, zeros, infinities, subnormals, signalling NaN.
        const OTHERS: i32 = 0x01 | 0x02 | 0x04 | 0x08 | 0x10 | 0x20 | 0x80;
        unsafe { u32::from(!_mm512_fpclass_ps_mask::<OTHERS>(x)) }
    }
    #[inline(always)]
    unsafe fn store_kept(self, to: *mut i32, x: __m512i, keep: u32) {
        // Compressed in a register: some processors take hundreds of cycles for the form that writes to memory.
        unsafe { _mm512_storeu_si512(to.cast(), _mm512_maskz_compress_epi32(keep as u16, x)) }
    }

    #[inline(always)]
    unsafe fn load_u8(self, from: *const u8) -> __m512i {
        unsafe { _mm512_cvtepu8_epi32(_mm_loadu_si128(from.cast())) }
    }
    #[inline(always)]
    unsafe fn load_i8(self, from: *const i8) -> __m512i {
        unsafe { _mm512_cvtepi8_epi32(_mm_loadu_si128(from.cast())) }
    }
    #[inline(always)]
    fn quad_order(self) -> __m512i {
        // Were it known to the compiler, it would make one permutation of the two below, of many more instructions.
        let squares = unsafe { _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15) };
        std::hint::black_box(squares)
    }
    #[inline(always)]
    unsafe fn load_quads(self, from: *const u8, squares: __m512i) -> __m512i {
        // Four bytes of every pixel side by side, then each such square of bytes transposed.
        unsafe {
            let transpose = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
            let pixels = _mm512_loadu_si512(from.cast());
            _mm512_shuffle_epi8(_mm512_permutexvar_epi32(squares, pixels), transpose)
        }
    }
    #[inline(always)]
    unsafe fn store_low_bytes(self, to: *mut u8, x: __m512i) {
        unsafe { _mm_storeu_si128(to.cast(), _mm512_cvtepi32_epi8(x)) }
    }
    #[inline(always)]
    fn dot_i16(self, sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
        if VNNI {
            return unsafe { _mm512_dpwssd_epi32(sum, a, b) };
        }
        unsafe { _mm512_add_epi32(sum, _mm512_madd_epi16(a, b)) }
    }
    #[inline(always)]
    fn dot_u8_i8(self, sum: __m512i, x: __m512i, w: __m512i) -> __m512i {
        if VNNI {
            return unsafe { _mm512_dpbusd_epi32(sum, x, w) };
        }
        // Bytes widened to 16 bits, those at even and at odd places apart: no product saturates.
        unsafe {
            let low = _mm512_set1_epi16(0xff);
            let even = _mm512_srai_epi16::<8>(_mm512_slli_epi16::<8>(w));
            let odd = _mm512_srai_epi16::<8>(w);
            let sum = _mm512_add_epi32(sum, _mm512_madd_epi16(_mm512_and_si512(x, low), even));
            _mm512_add_epi32(sum, _mm512_madd_epi16(_mm512_srli_epi16::<8>(x), odd))
        }
    }
}
