//! Vectors of eight numbers without any instruction set: arrays. The reference for all others.

use super::{Kernel, Simd};

const LANES: usize = 8;

#[derive(Clone, Copy)]
pub(super) struct Portable;

pub(super) fn run<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Portable)
}

#[inline(always)]
fn zip<T: Copy, U>(a: [T; LANES], b: [T; LANES], f: impl Fn(T, T) -> U) -> [U; LANES] {
    std::array::from_fn(|i| f(a[i], b[i]))
}

#[allow(unsafe_code)]
impl Simd for Portable {
    const LANES: usize = LANES;
    const PIXELS: usize = 2;
    const CODE_PIXELS: usize = 2;
    type F32 = [f32; LANES];
    type I32 = [i32; LANES];

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F32 {
        [x; LANES]
    }
    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> Self::F32 {
        // SAFETY: the caller's.
        unsafe { from.cast::<Self::F32>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32, x: Self::F32) {
        // SAFETY: the caller's.
        unsafe { to.cast::<Self::F32>().write_unaligned(x) }
    }
    #[inline(always)]
    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        zip(a, b, |a, b| a / b)
    }
    #[inline(always)]
    fn mul_add(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32 {
        self.add(self.mul(a, b), c)
    }
    #[inline(always)]
    fn fused_mul_add(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32 {
        std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
    }
    #[inline(always)]
    fn max(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        zip(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn min(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        zip(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn select_less(self, a: Self::F32, b: Self::F32, x: Self::F32, y: Self::F32) -> Self::F32 {
        std::array::from_fn(|i| if a[i] < b[i] { x[i] } else { y[i] })
    }
    #[inline(always)]
    fn round(self, x: Self::F32) -> Self::F32 {
        x.map(f32::round_ties_even)
    }
    #[inline(always)]
    fn to_i32(self, x: Self::F32) -> Self::I32 {
        x.map(|x| x.round_ties_even() as i32)
    }
    #[inline(always)]
    fn to_f32(self, x: Self::I32) -> Self::F32 {
        x.map(|x| x as f32)
    }
    #[inline(always)]
    fn bits(self, x: Self::F32) -> Self::I32 {
        x.map(|x| x.to_bits() as i32)
    }
    #[inline(always)]
    fn of_bits(self, x: Self::I32) -> Self::F32 {
        x.map(|x| f32::from_bits(x as u32))
    }

    #[inline(always)]
    fn splat_i32(self, x: i32) -> Self::I32 {
        [x; LANES]
    }
    #[inline(always)]
    unsafe fn load_i32(self, from: *const i32) -> Self::I32 {
        // SAFETY: the caller's.
        unsafe { from.cast::<Self::I32>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store_i32(self, to: *mut i32, x: Self::I32) {
        // SAFETY: the caller's.
        unsafe { to.cast::<Self::I32>().write_unaligned(x) }
    }
    #[inline(always)]
    fn add_i32(self, a: Self::I32, b: Self::I32) -> Self::I32 {
        zip(a, b, i32::wrapping_add)
    }
    #[inline(always)]
    fn sub_i32(self, a: Self::I32, b: Self::I32) -> Self::I32 {
        zip(a, b, i32::wrapping_sub)
    }
    #[inline(always)]
    fn mul_i32(self, a: Self::I32, b: Self::I32) -> Self::I32 {
        zip(a, b, i32::wrapping_mul)
    }
    #[inline(always)]
    fn max_i32(self, a: Self::I32, b: Self::I32) -> Self::I32 {
        zip(a, b, i32::max)
    }
    #[inline(always)]
    fn shift_left<const N: u32>(self, x: Self::I32) -> Self::I32 {
        x.map(|x| x << N)
    }
    #[inline(always)]
    fn and_i32(self, a: Self::I32, b: Self::I32) -> Self::I32 {
        zip(a, b, |a, b| a & b)
    }
    #[inline(always)]
    fn floor_i32(self, x: Self::F32) -> Self::I32 {
        x.map(|x| x.floor() as i32)
    }
    #[inline(always)]
    fn normal(self, x: Self::F32) -> u32 {
        let mut mask = 0;
        for lane in 0..LANES {
            mask |= u32::from(x[lane].is_normal()) << lane;
        }
        mask
    }
    #[inline(always)]
    unsafe fn store_kept(self, to: *mut i32, x: Self::I32, keep: u32) {
        let mut kept = [0; LANES];
        let mut count = 0;
        for lane in 0..LANES {
            kept[count] = x[lane];
            count += (keep >> lane & 1) as usize;
        }
        // SAFETY: the caller's.
        unsafe { to.cast::<Self::I32>().write_unaligned(kept) }
    }

    #[inline(always)]
    unsafe fn load_u8(self, from: *const u8) -> Self::I32 {
        // SAFETY: the caller's.
        unsafe { from.cast::<[u8; LANES]>().read() }.map(i32::from)
    }
    #[inline(always)]
    unsafe fn load_i8(self, from: *const i8) -> Self::I32 {
        // SAFETY: the caller's.
        unsafe { from.cast::<[i8; LANES]>().read() }.map(i32::from)
    }
    #[inline(always)]
    fn quad_order(self) -> Self::I32 {
        self.splat_i32(0)
    }
    #[inline(always)]
    unsafe fn load_quads(self, from: *const u8, _: Self::I32) -> Self::I32 {
        // SAFETY: the caller's.
        let pixels = unsafe { from.cast::<[[u8; LANES]; 4]>().read() };
        std::array::from_fn(|c| i32::from_le_bytes([pixels[0][c], pixels[1][c], pixels[2][c], pixels[3][c]]))
    }
    #[inline(always)]
    unsafe fn store_low_bytes(self, to: *mut u8, x: Self::I32) {
        // SAFETY: the caller's.
        unsafe { to.cast::<[u8; LANES]>().write(x.map(|x| x as u8)) }
    }
    #[inline(always)]
    fn dot_i16(self, sum: Self::I32, a: Self::I32, b: Self::I32) -> Self::I32 {
        let products = |a: i32, b: i32| (i32::from(a as i16) * i32::from(b as i16)).wrapping_add((a >> 16) * (b >> 16));
        zip(sum, zip(a, b, products), i32::wrapping_add)
    }
    #[inline(always)]
    fn dot_u8_i8(self, sum: Self::I32, x: Self::I32, w: Self::I32) -> Self::I32 {
        let products = |x: i32, w: i32| -> i32 {
            let (x, w) = (x.to_le_bytes(), w.to_le_bytes());
            (0..4).map(|i| i32::from(x[i]) * i32::from(w[i] as i8)).sum()
        };
        zip(sum, zip(x, w, products), i32::wrapping_add)
    }
}
