//! AVX2 with fused multiplication and addition.

use super::{Kernel, Simd};
use std::arch::x86_64::*;

/// Lanes of a vector.
const LANES: usize = 8;

#[derive(Clone, Copy)]
pub(super) struct Avx2(());

pub(super) fn available() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("popcnt")
}

#[target_feature(enable = "popcnt,avx2,fma")]
pub(super) fn run<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Avx2(()))
}

/// The set bits of each byte, ascending, then zeros.
static KEPT: [[u8; LANES]; 256] = kept();

const fn kept() -> [[u8; LANES]; 256] {
    let mut table = [[0; LANES]; 256];
    let mut keep = 0;
    while keep < 256 {
        let (mut lane, mut count) = (0, 0);
        while lane < LANES {
            if keep >> lane & 1 == 1 {
                table[keep][count] = lane as u8;
                count += 1;
            }
            lane += 1;
        }
        keep += 1;
    }
    table
}

// SAFETY (of every block): the value `self` exists only where the processor has the instructions; pointers are as the
// caller promises.
#[allow(unsafe_code)]
impl Simd for Avx2 {
    const LANES: usize = LANES;
    const PIXELS: usize = 6;
    const CODE_PIXELS: usize = 4;
    type F32 = __m256;
    type I32 = __m256i;

    #[inline(always)]
    fn splat(self, x: f32) -> __m256 {
        unsafe { _mm256_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> __m256 {
        unsafe { _mm256_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32, x: __m256) {
        unsafe { _mm256_storeu_ps(to, x) }
    }
    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_mul_ps(a, b) }
    }
    #[inline(always)]
    fn div(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_div_ps(a, b) }
    }
    #[inline(always)]
    fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_max_ps(a, b) }
    }
    #[inline(always)]
    fn min(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_min_ps(a, b) }
    }
    #[inline(always)]
    fn select_less(self, a: __m256, b: __m256, x: __m256, y: __m256) -> __m256 {
        unsafe { _mm256_blendv_ps(y, x, _mm256_cmp_ps::<_CMP_LT_OQ>(a, b)) }
    }
    #[inline(always)]
    fn round(self, x: __m256) -> __m256 {
        unsafe { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x) }
    }
    #[inline(always)]
    fn to_i32(self, x: __m256) -> __m256i {
        unsafe { _mm256_cvtps_epi32(x) }
    }
    #[inline(always)]
    fn to_f32(self, x: __m256i) -> __m256 {
        unsafe { _mm256_cvtepi32_ps(x) }
    }
    #[inline(always)]
    fn bits(self, x: __m256) -> __m256i {
        unsafe { _mm256_castps_si256(x) }
    }
    #[inline(always)]
    fn of_bits(self, x: __m256i) -> __m256 {
        unsafe { _mm256_castsi256_ps(x) }
    }

    #[inline(always)]
    fn splat_i32(self, x: i32) -> __m256i {
        unsafe { _mm256_set1_epi32(x) }
    }
    #[inline(always)]
    unsafe fn load_i32(self, from: *const i32) -> __m256i {
        unsafe { _mm256_loadu_si256(from.cast()) }
    }
    #[inline(always)]
    unsafe fn store_i32(self, to: *mut i32, x: __m256i) {
        unsafe { _mm256_storeu_si256(to.cast(), x) }
    }
    #[inline(always)]
    fn add_i32(self, a: __m256i, b: __m256i) -> __m256i {
        unsafe { _mm256_add_epi32(a, b) }
    }
    #[inline(always)]
    fn sub_i32(self, a: __m256i, b: __m256i) -> __m256i {
        unsafe { _mm256_sub_epi32(a, b) }
    }
    #[inline(always)]
    fn mul_i32(self, a: __m256i, b: __m256i) -> __m256i {
        unsafe { _mm256_mullo_epi32(a, b) }
    }
    #[inline(always)]
    fn max_i32(self, a: __m256i, b: __m256i) -> __m256i {
        unsafe { _mm256_max_epi32(a, b) }
    }
    #[inline(always)]
    fn shift_left<const N: u32>(self, x: __m256i) -> __m256i {
        unsafe { _mm256_sll_epi32(x, _mm_cvtsi32_si128(N as i32)) }
    }
    #[inline(always)]
    fn and_i32(self, a: __m256i, b: __m256i) -> __m256i {
        unsafe { _mm256_and_si256(a, b) }
    }
    #[inline(always)]
    fn floor_i32(self, x: __m256) -> __m256i {
        unsafe { _mm256_cvtps_epi32(_mm256_floor_ps(x)) }
    }
    #[inline(always)]
    fn normal(self, x: __m256) -> u32 {
        // Without its sign, a float orders like its bits.
        unsafe {
            let magnitude = _mm256_and_si256(_mm256_castps_si256(x), _mm256_set1_epi32(i32::MAX));
            let above = _mm256_cmpgt_epi32(magnitude, _mm256_set1_epi32(f32::MIN_POSITIVE.to_bits() as i32 - 1));
            let below = _mm256_cmpgt_epi32(_mm256_set1_epi32(f32::INFINITY.to_bits() as i32), magnitude);
            _mm256_movemask_ps(_mm256_castsi256_ps(_mm256_and_si256(above, below))) as u32
        }
    }
    #[inline(always)]
    unsafe fn store_kept(self, to: *mut i32, x: __m256i, keep: u32) {
        unsafe {
            let lanes = _mm_loadl_epi64(KEPT[keep as usize & 255].as_ptr().cast());
            _mm256_storeu_si256(to.cast(), _mm256_permutevar8x32_epi32(x, _mm256_cvtepu8_epi32(lanes)));
        }
    }

    #[inline(always)]
    unsafe fn load_u8(self, from: *const u8) -> __m256i {
        unsafe { _mm256_cvtepu8_epi32(_mm_loadl_epi64(from.cast())) }
    }
    #[inline(always)]
    unsafe fn load_i8(self, from: *const i8) -> __m256i {
        unsafe { _mm256_cvtepi8_epi32(_mm_loadl_epi64(from.cast())) }
    }
    #[inline(always)]
    fn quad_order(self) -> __m256i {
        // Were it known to the compiler, it would make one permutation of the two below, of many more instructions.
        std::hint::black_box(unsafe { _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7) })
    }
    #[inline(always)]
    unsafe fn load_quads(self, from: *const u8, squares: __m256i) -> __m256i {
        // Four bytes of every pixel side by side, then each such square of bytes transposed.
        unsafe {
            let transpose = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
            let pixels = _mm256_permutevar8x32_epi32(_mm256_loadu_si256(from.cast()), squares);
            _mm256_shuffle_epi8(pixels, _mm256_broadcastsi128_si256(transpose))
        }
    }
    #[inline(always)]
    unsafe fn store_low_bytes(self, to: *mut u8, x: __m256i) {
        // The low byte of each number moves to the front of its half, then both halves side by side.
        unsafe {
            let gather = _mm256_set1_epi64x(0x0c_08_04_00 | (-1i64 << 32));
            let bytes = _mm256_shuffle_epi8(x, gather);
            let halves = _mm_unpacklo_epi32(_mm256_castsi256_si128(bytes), _mm256_extracti128_si256::<1>(bytes));
            _mm_storel_epi64(to.cast(), halves);
        }
    }
    #[inline(always)]
    fn dot_i16(self, sum: __m256i, a: __m256i, b: __m256i) -> __m256i {
        unsafe { _mm256_add_epi32(sum, _mm256_madd_epi16(a, b)) }
    }
    #[inline(always)]
    fn dot_u8_i8(self, sum: __m256i, x: __m256i, w: __m256i) -> __m256i {
        // Bytes widened to 16 bits, those at even and at odd places apart: no product saturates.
        unsafe {
            let low = _mm256_set1_epi16(0xff);
            let even = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(w));
            let odd = _mm256_srai_epi16::<8>(w);
            let sum = _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_and_si256(x, low), even));
            _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_srli_epi16::<8>(x), odd))
        }
    }
}
