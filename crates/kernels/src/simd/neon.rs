//! NEON: a vector is a pair of quads.

use super::{Kernel, Simd};
use std::arch::aarch64::*;

/// Lanes of a pair.
const LANES: usize = 8;

#[derive(Clone, Copy)]
pub(super) struct Neon(());

#[target_feature(enable = "neon")]
pub(super) fn run<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Neon(()))
}

/// For each choice of a quad's lanes, where their bytes are, ascending, then zeros.
static KEPT: [[u8; 16]; 16] = kept();

const fn kept() -> [[u8; 16]; 16] {
    let mut table = [[0; 16]; 16];
    let mut keep = 0;
    while keep < 16 {
        let (mut byte, mut count) = (0, 0);
        while byte < 16 {
            if keep >> (byte / 4) & 1 == 1 {
                table[keep][count] = byte as u8;
                count += 1;
            }
            byte += 1;
        }
        keep += 1;
    }
    table
}

/// Applies an instruction to both quads.
#[inline(always)]
fn both<A: Copy, B: Copy, C>(a: (A, A), b: (B, B), f: impl Fn(A, B) -> C) -> (C, C) {
    (f(a.0, b.0), f(a.1, b.1))
}

// SAFETY (of every block): the value `self` exists only where the processor has the instructions; pointers are as the
// caller promises.
#[allow(unsafe_code)]
impl Simd for Neon {
    const LANES: usize = LANES;
    const PIXELS: usize = 6;
    const CODE_PIXELS: usize = 4;
    type F32 = (float32x4_t, float32x4_t);
    type I32 = (int32x4_t, int32x4_t);

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F32 {
        let quad = unsafe { vdupq_n_f32(x) };
        (quad, quad)
    }
    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> Self::F32 {
        unsafe { (vld1q_f32(from), vld1q_f32(from.add(4))) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32, x: Self::F32) {
        unsafe {
            vst1q_f32(to, x.0);
            vst1q_f32(to.add(4), x.1);
        }
    }
    #[inline(always)]
    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        both(a, b, |a, b| unsafe { vaddq_f32(a, b) })
    }
    #[inline(always)]
    fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        both(a, b, |a, b| unsafe { vsubq_f32(a, b) })
    }
    #[inline(always)]
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        both(a, b, |a, b| unsafe { vmulq_f32(a, b) })
    }
    #[inline(always)]
    fn div(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        both(a, b, |a, b| unsafe { vdivq_f32(a, b) })
    }
    #[inline(always)]
    fn mul_add(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32 {
        unsafe { (vfmaq_f32(c.0, a.0, b.0), vfmaq_f32(c.1, a.1, b.1)) }
    }
    #[inline(always)]
    fn max(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        both(a, b, |a, b| unsafe { vbslq_f32(vcgtq_f32(a, b), a, b) })
    }
    #[inline(always)]
    fn min(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        both(a, b, |a, b| unsafe { vbslq_f32(vcltq_f32(a, b), a, b) })
    }
    #[inline(always)]
    fn select_less(self, a: Self::F32, b: Self::F32, x: Self::F32, y: Self::F32) -> Self::F32 {
        let mask = both(a, b, |a, b| unsafe { vcltq_f32(a, b) });
        unsafe { (vbslq_f32(mask.0, x.0, y.0), vbslq_f32(mask.1, x.1, y.1)) }
    }
    #[inline(always)]
    fn round(self, x: Self::F32) -> Self::F32 {
        unsafe { (vrndnq_f32(x.0), vrndnq_f32(x.1)) }
    }
    #[inline(always)]
    fn to_i32(self, x: Self::F32) -> Self::I32 {
        unsafe { (vcvtnq_s32_f32(x.0), vcvtnq_s32_f32(x.1)) }
    }
    #[inline(always)]
    fn to_f32(self, x: Self::I32) -> Self::F32 {
        unsafe { (vcvtq_f32_s32(x.0), vcvtq_f32_s32(x.1)) }
    }
    #[inline(always)]
    fn bits(self, x: Self::F32) -> Self::I32 {
        unsafe { (vreinterpretq_s32_f32(x.0), vreinterpretq_s32_f32(x.1)) }
    }
    #[inline(always)]
    fn of_bits(self, x: Self::I32) -> Self::F32 {
        unsafe { (vreinterpretq_f32_s32(x.0), vreinterpretq_f32_s32(x.1)) }
    }

    #[inline(always)]
    fn splat_i32(self, x: i32) -> Self::I32 {
        let quad = unsafe { vdupq_n_s32(x) };
        (quad, quad)
    }
    #[inline(always)]
    unsafe fn load_i32(self, from: *const i32) -> Self::I32 {
        unsafe { (vld1q_s32(from), vld1q_s32(from.add(4))) }
    }
    #[inline(always)]
    unsafe fn store_i32(self, to: *mut i32, x: Self::I32) {
        unsafe {
            vst1q_s32(to, x.0);
            vst1q_s32(to.add(4), x.1);
        }
    }
    #[inline(always)]
    fn add_i32(self, a: Self::I32, b: Self::I32) -> Self::I32 {
        both(a, b, |a, b| unsafe { vaddq_s32(a, b) })
    }
    #[inline(always)]
    fn sub_i32(self, a: Self::I32, b: Self::I32) -> Self::I32 {
        both(a, b, |a, b| unsafe { vsubq_s32(a, b) })
    }
    #[inline(always)]
    fn mul_i32(self, a: Self::I32, b: Self::I32) -> Self::I32 {
        both(a, b, |a, b| unsafe { vmulq_s32(a, b) })
    }
    #[inline(always)]
    fn max_i32(self, a: Self::I32, b: Self::I32) -> Self::I32 {
        both(a, b, |a, b| unsafe { vmaxq_s32(a, b) })
    }
    #[inline(always)]
    fn shift_left<const N: u32>(self, x: Self::I32) -> Self::I32 {
        let by = unsafe { vdupq_n_s32(N as i32) };
        both(x, (by, by), |x, by| unsafe { vshlq_s32(x, by) })
    }
    #[inline(always)]
    fn and_i32(self, a: Self::I32, b: Self::I32) -> Self::I32 {
        both(a, b, |a, b| unsafe { vandq_s32(a, b) })
    }
    #[inline(always)]
    fn floor_i32(self, x: Self::F32) -> Self::I32 {
        unsafe { (vcvtmq_s32_f32(x.0), vcvtmq_s32_f32(x.1)) }
    }
    #[inline(always)]
    fn normal(self, x: Self::F32) -> u32 {
        // The bit of each lane where it is normal, added up.
        let quad = |x: float32x4_t, bits: [u32; 4]| unsafe {
            let magnitude = vabsq_f32(x);
            let above = vcgeq_u32(vreinterpretq_u32_f32(magnitude), vdupq_n_u32(f32::MIN_POSITIVE.to_bits()));
            let below = vcltq_u32(vreinterpretq_u32_f32(magnitude), vdupq_n_u32(f32::INFINITY.to_bits()));
            vaddvq_u32(vandq_u32(vandq_u32(above, below), vld1q_u32(bits.as_ptr())))
        };
        quad(x.0, [1, 2, 4, 8]) | quad(x.1, [16, 32, 64, 128])
    }
    #[inline(always)]
    unsafe fn store_kept(self, to: *mut i32, x: Self::I32, keep: u32) {
        // The second quad goes where the first one's kept lanes end.
        let (low, high) = (keep & 15, keep >> 4 & 15);
        unsafe {
            let quad = |x: int32x4_t, keep: u32| {
                let bytes = vld1q_u8(KEPT[keep as usize].as_ptr());
                vreinterpretq_s32_u8(vqtbl1q_u8(vreinterpretq_u8_s32(x), bytes))
            };
            vst1q_s32(to, quad(x.0, low));
            vst1q_s32(to.add(low.count_ones() as usize), quad(x.1, high));
        }
    }

    #[inline(always)]
    unsafe fn load_u8(self, from: *const u8) -> Self::I32 {
        unsafe {
            let wide = vmovl_u8(vld1_u8(from));
            let quad = |half| vreinterpretq_s32_u32(vmovl_u16(half));
            (quad(vget_low_u16(wide)), quad(vget_high_u16(wide)))
        }
    }
    #[inline(always)]
    unsafe fn load_i8(self, from: *const i8) -> Self::I32 {
        unsafe {
            let wide = vmovl_s8(vld1_s8(from));
            (vmovl_s16(vget_low_s16(wide)), vmovl_s16(vget_high_s16(wide)))
        }
    }
    #[inline(always)]
    fn quad_order(self) -> Self::I32 {
        self.splat_i32(0)
    }
    #[inline(always)]
    unsafe fn load_quads(self, from: *const u8, _: Self::I32) -> Self::I32 {
        unsafe {
            let front = vzip_u8(vld1_u8(from), vld1_u8(from.add(LANES)));
            let back = vzip_u8(vld1_u8(from.add(2 * LANES)), vld1_u8(from.add(3 * LANES)));
            let quad = |front, back| {
                let both = vzip_u16(vreinterpret_u16_u8(front), vreinterpret_u16_u8(back));
                vreinterpretq_s32_u16(vcombine_u16(both.0, both.1))
            };
            (quad(front.0, back.0), quad(front.1, back.1))
        }
    }
    #[inline(always)]
    unsafe fn store_low_bytes(self, to: *mut u8, x: Self::I32) {
        unsafe {
            let half = |quad| vmovn_u32(vreinterpretq_u32_s32(quad));
            vst1_u8(to, vmovn_u16(vcombine_u16(half(x.0), half(x.1))));
        }
    }
    #[inline(always)]
    fn dot_i16(self, sum: Self::I32, a: Self::I32, b: Self::I32) -> Self::I32 {
        let quad = |sum: int32x4_t, a: int32x4_t, b: int32x4_t| unsafe {
            let (a, b) = (vreinterpretq_s16_s32(a), vreinterpretq_s16_s32(b));
            let low = vmull_s16(vget_low_s16(a), vget_low_s16(b));
            let high = vmull_s16(vget_high_s16(a), vget_high_s16(b));
            vaddq_s32(sum, vpaddq_s32(low, high))
        };
        (quad(sum.0, a.0, b.0), quad(sum.1, a.1, b.1))
    }
    #[inline(always)]
    fn dot_u8_i8(self, sum: Self::I32, x: Self::I32, w: Self::I32) -> Self::I32 {
        // Bytes widened to 16 bits: no product saturates. Neighbouring sums are added twice, four products to a lane.
        let quad = |sum: int32x4_t, x: int32x4_t, w: int32x4_t| unsafe {
            let (x, w) = (vreinterpretq_u8_s32(x), vreinterpretq_s8_s32(w));
            let wide = |x: uint8x8_t| vreinterpretq_s16_u16(vmovl_u8(x));
            let products = |x: int16x8_t, w: int16x8_t| {
                vpaddq_s32(vmull_s16(vget_low_s16(x), vget_low_s16(w)), vmull_s16(vget_high_s16(x), vget_high_s16(w)))
            };
            let low = products(wide(vget_low_u8(x)), vmovl_s8(vget_low_s8(w)));
            let high = products(wide(vget_high_u8(x)), vmovl_s8(vget_high_s8(w)));
            vaddq_s32(sum, vpaddq_s32(low, high))
        };
        (quad(sum.0, x.0, w.0), quad(sum.1, x.1, w.1))
    }
}
