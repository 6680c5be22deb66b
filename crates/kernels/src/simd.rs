//! Vectors of an instruction set behind one trait, and the choice of the instruction set at run time.
//!
//! A kernel is written once, as a [`Kernel`] generic over [`Simd`], and [`Isa::run`] calls the version compiled for an
//! instruction set. What lives here: lanes and single instructions. What does not: loops over tensors.
//!
//! A value of a `Simd` type is the proof that the processor has the instruction set: only [`Isa::run`] hands it out,
//! and an [`Isa`] is only made after detection. Hence the methods are safe but for those that follow a pointer.

mod isa;
mod portable;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;

#[cfg(test)]
mod tests;

pub use isa::Isa;

/// Work that is compiled for every instruction set.
pub(crate) trait Kernel {
    /// What it computes.
    type Output;

    /// Does the work. To be marked `#[inline(always)]`, like every generic function it calls in an inner loop: only
    /// code inlined into the function that enables the instruction set is compiled for it.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// Vectors of `LANES` numbers of 32 bits.
#[allow(unsafe_code)]
pub(crate) trait Simd: Copy + Send + Sync + 'static {
    /// Numbers in a vector, which is also the number of channels in a block of activations: 16 or 8.
    const LANES: usize;
    /// Most pixels of a register tile of two vectors each: accumulators, two weights and an input fill the registers.
    const PIXELS: usize;
    /// The same for tiles of byte products, which need more registers where one instruction does not do all.
    const CODE_PIXELS: usize;
    /// A vector of `f32`.
    type F32: Copy;
    /// A vector of `i32`.
    type I32: Copy;

    /// `x` in every lane.
    fn splat(self, x: f32) -> Self::F32;
    /// `LANES` elements, at any alignment.
    ///
    /// # Safety
    /// `from` points to `LANES` readable elements.
    unsafe fn load(self, from: *const f32) -> Self::F32;
    /// Writes `LANES` elements, at any alignment.
    ///
    /// # Safety
    /// `to` points to `LANES` writable elements.
    unsafe fn store(self, to: *mut f32, x: Self::F32);
    /// `a + b`
    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a - b`
    fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a * b`
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a / b`
    fn div(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a * b + c`, rounded once where the processor can.
    fn mul_add(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32;
    /// `a * b + c`, rounded once everywhere.
    #[inline(always)]
    fn fused_mul_add(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32 {
        self.mul_add(a, b, c)
    }
    /// `a > b ? a : b`: with NaN on either side, `b`.
    fn max(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a < b ? a : b`: with NaN on either side, `b`.
    fn min(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a < b ? x : y`: with NaN on either side, `y`.
    fn select_less(self, a: Self::F32, b: Self::F32, x: Self::F32, y: Self::F32) -> Self::F32;
    /// Nearest integer, halves to even.
    fn round(self, x: Self::F32) -> Self::F32;
    /// Nearest integer, halves to even; unspecified unless it fits `i32`.
    fn to_i32(self, x: Self::F32) -> Self::I32;
    /// The nearest `f32`.
    fn to_f32(self, x: Self::I32) -> Self::F32;
    /// The same bits.
    fn bits(self, x: Self::F32) -> Self::I32;
    /// The same bits.
    fn of_bits(self, x: Self::I32) -> Self::F32;

    /// `x` in every lane.
    fn splat_i32(self, x: i32) -> Self::I32;
    /// `LANES` elements, at any alignment.
    ///
    /// # Safety
    /// `from` points to `LANES` readable elements.
    unsafe fn load_i32(self, from: *const i32) -> Self::I32;
    /// Writes `LANES` elements, at any alignment.
    ///
    /// # Safety
    /// `to` points to `LANES` writable elements.
    unsafe fn store_i32(self, to: *mut i32, x: Self::I32);
    /// `a + b`, wrapping.
    fn add_i32(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// `a - b`, wrapping.
    fn sub_i32(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// `a * b`, wrapping.
    fn mul_i32(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// The larger.
    fn max_i32(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// `x << N`
    fn shift_left<const N: u32>(self, x: Self::I32) -> Self::I32;
    /// Bits set in both.
    fn and_i32(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// Largest integer that is not larger; unspecified unless it fits `i32`.
    fn floor_i32(self, x: Self::F32) -> Self::I32;
    /// Which lanes are normal numbers, neither zero nor subnormal, infinite or NaN: bit `i` for lane `i`.
    fn normal(self, x: Self::F32) -> u32;
    /// Writes the lanes of `x` whose bit of `keep` is set next to each other, then unspecified elements up to `LANES`.
    ///
    /// # Safety
    /// `to` points to `LANES` writable elements.
    unsafe fn store_kept(self, to: *mut i32, x: Self::I32, keep: u32);

    /// `LANES` bytes, widened without sign.
    ///
    /// # Safety
    /// `from` points to `LANES` readable elements.
    unsafe fn load_u8(self, from: *const u8) -> Self::I32;
    /// `LANES` bytes, widened with sign.
    ///
    /// # Safety
    /// `from` points to `LANES` readable elements.
    unsafe fn load_i8(self, from: *const i8) -> Self::I32;
    /// What [`Simd::load_quads`] needs to know, to be asked for once before a loop.
    fn quad_order(self) -> Self::I32;
    /// Four neighbouring pixels of `LANES` bytes, turned: byte `i` of each lane is that of pixel `i`. `order` comes from
    /// [`Simd::quad_order`].
    ///
    /// # Safety
    /// `from` points to `4 * LANES` readable elements.
    unsafe fn load_quads(self, from: *const u8, order: Self::I32) -> Self::I32;
    /// Writes the low byte of each lane.
    ///
    /// # Safety
    /// `to` points to `LANES` writable elements.
    unsafe fn store_low_bytes(self, to: *mut u8, x: Self::I32);
    /// In each lane, the sum and the exact two products of signed halves of `a` and `b`, wrapping.
    fn dot_i16(self, sum: Self::I32, a: Self::I32, b: Self::I32) -> Self::I32;
    /// In each lane, the sum and the exact four products of unsigned bytes of `x` and signed bytes of `w`.
    fn dot_u8_i8(self, sum: Self::I32, x: Self::I32, w: Self::I32) -> Self::I32;
}
