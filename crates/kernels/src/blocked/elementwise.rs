//! Arithmetic of activations with each other, with a number for each channel, and with a single number, followed by an
//! activation while the result is in the cache.

use super::Blocked;
use super::activation::{self, Activation};
use super::arithmetic::{Arithmetic, calculate, calculate_vector, for_each_op};
use crate::error::{KernelError, check_len};
use crate::simd::{Isa, Kernel, Simd};

/// Elements handled before the activation follows: they stay in the first-level cache.
const PART: usize = 2048;

/// `y = activation(a op b)` of slices of one length.
///
/// # Errors
/// If the lengths differ.
pub fn combine(
    isa: Isa,
    op: Arithmetic,
    a: &[f32],
    b: &[f32],
    activation: Activation,
    y: &mut [f32],
) -> Result<(), KernelError> {
    check_len("second operand", a.len(), b.len())?;
    check_len("result", a.len(), y.len())?;
    isa.run_float(Combine { op, a, b, activation, y });
    Ok(())
}

/// `y = activation(y op b)` of slices of one length.
///
/// # Errors
/// If the lengths differ.
pub fn combine_in_place(
    isa: Isa,
    op: Arithmetic,
    y: &mut [f32],
    b: &[f32],
    activation: Activation,
) -> Result<(), KernelError> {
    check_len("second operand", y.len(), b.len())?;
    isa.run_float(CombineInPlace { op, b, activation, y });
    Ok(())
}

/// `y = activation(x op scalar)`, or with `reversed` of `scalar op x`.
///
/// # Errors
/// If the lengths differ.
pub fn combine_scalar(
    isa: Isa,
    op: Arithmetic,
    x: &[f32],
    scalar: f32,
    reversed: bool,
    activation: Activation,
    y: &mut [f32],
) -> Result<(), KernelError> {
    check_len("result", x.len(), y.len())?;
    isa.run_float(CombineScalar { op, x, scalar, reversed, activation, y });
    Ok(())
}

/// `y = activation(x op v)` with `v` a number for each channel, `[batch][blocks][lanes]` or `[blocks][lanes]`; with
/// `reversed` of `v op x`.
///
/// # Errors
/// If a length does not fit `x`, or `x` is not in blocks of a vector's lanes.
pub fn combine_channels(
    isa: Isa,
    op: Arithmetic,
    x: Blocked<'_, f32>,
    v: &[f32],
    reversed: bool,
    activation: Activation,
    y: &mut [f32],
) -> Result<(), KernelError> {
    let pixel = x.shape.blocks() * x.shape.lanes;
    let expected = if v.len() == pixel { pixel } else { x.shape.batch * pixel };
    check_len("channels", expected, v.len())?;
    check_blocks(isa, &x, y.len())?;
    isa.run_float(CombineChannels { op, x, v, reversed, activation, y });
    Ok(())
}

/// `y = activation(x * scale + shift)` with a scale and a shift for each channel, `[blocks][lanes]`.
///
/// # Errors
/// If a length does not fit `x`, or `x` is not in blocks of a vector's lanes.
pub fn affine_channels(
    isa: Isa,
    x: Blocked<'_, f32>,
    scale: &[f32],
    shift: &[f32],
    activation: Activation,
    y: &mut [f32],
) -> Result<(), KernelError> {
    let pixel = x.shape.blocks() * x.shape.lanes;
    check_len("scales", pixel, scale.len())?;
    check_len("shifts", pixel, shift.len())?;
    check_blocks(isa, &x, y.len())?;
    isa.run_float(Affine { x, scale, shift, activation, y });
    Ok(())
}

fn check_blocks(isa: Isa, x: &Blocked<'_, f32>, y: usize) -> Result<(), KernelError> {
    check_len("lanes", isa.lanes(), x.shape.lanes)?;
    check_len("operand", x.shape.len(), x.data.len())?;
    check_len("result", x.shape.len(), y)
}

struct Combine<'a> {
    op: Arithmetic,
    a: &'a [f32],
    b: &'a [f32],
    activation: Activation,
    y: &'a mut [f32],
}

impl Kernel for Combine<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let parts = self.y.chunks_mut(PART).zip(self.a.chunks(PART).zip(self.b.chunks(PART)));
        for (y, (a, b)) in parts {
            for_each_op!(self.op, OP => {
                for ((y, a), b) in y.iter_mut().zip(a).zip(b) {
                    *y = calculate(OP, *a, *b);
                }
            });
            activation::apply(s, self.activation, y);
        }
    }
}

struct CombineInPlace<'a> {
    op: Arithmetic,
    b: &'a [f32],
    activation: Activation,
    y: &'a mut [f32],
}

impl Kernel for CombineInPlace<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (y, b) in self.y.chunks_mut(PART).zip(self.b.chunks(PART)) {
            for_each_op!(self.op, OP => {
                for (y, b) in y.iter_mut().zip(b) {
                    *y = calculate(OP, *y, *b);
                }
            });
            activation::apply(s, self.activation, y);
        }
    }
}

struct CombineScalar<'a> {
    op: Arithmetic,
    x: &'a [f32],
    scalar: f32,
    reversed: bool,
    activation: Activation,
    y: &'a mut [f32],
}

impl Kernel for CombineScalar<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let scalar = self.scalar;
        for (y, x) in self.y.chunks_mut(PART).zip(self.x.chunks(PART)) {
            for_each_op!(self.op, OP => {
                if self.reversed {
                    for (y, x) in y.iter_mut().zip(x) {
                        *y = calculate(OP, scalar, *x);
                    }
                } else {
                    for (y, x) in y.iter_mut().zip(x) {
                        *y = calculate(OP, *x, scalar);
                    }
                }
            });
            activation::apply(s, self.activation, y);
        }
    }
}

struct CombineChannels<'a> {
    op: Arithmetic,
    x: Blocked<'a, f32>,
    v: &'a [f32],
    reversed: bool,
    activation: Activation,
    y: &'a mut [f32],
}

impl Kernel for CombineChannels<'_> {
    type Output = ();

    #[inline(always)]
    #[allow(unsafe_code)]
    fn run<S: Simd>(self, s: S) {
        let plane = self.x.shape.plane().max(1);
        let pixels = self.v.chunks_exact(S::LANES).cycle();
        for ((y, x), v) in self.y.chunks_exact_mut(plane).zip(self.x.data.chunks_exact(plane)).zip(pixels) {
            // SAFETY: the chunk has `LANES` elements.
            let v = unsafe { s.load(v.as_ptr()) };
            for (y, x) in y.chunks_mut(PART).zip(x.chunks(PART)) {
                for_each_op!(self.op, OP => {
                    for (y, x) in y.chunks_exact_mut(S::LANES).zip(x.chunks_exact(S::LANES)) {
                        // SAFETY: the chunks have `LANES` elements.
                        unsafe {
                            let x = s.load(x.as_ptr());
                            let (a, b) = if self.reversed { (v, x) } else { (x, v) };
                            s.store(y.as_mut_ptr(), calculate_vector(s, OP, a, b));
                        }
                    }
                });
                activation::apply(s, self.activation, y);
            }
        }
    }
}

struct Affine<'a> {
    x: Blocked<'a, f32>,
    scale: &'a [f32],
    shift: &'a [f32],
    activation: Activation,
    y: &'a mut [f32],
}

impl Kernel for Affine<'_> {
    type Output = ();

    #[inline(always)]
    #[allow(unsafe_code)]
    fn run<S: Simd>(self, s: S) {
        let plane = self.x.shape.plane().max(1);
        let channels = self.scale.chunks_exact(S::LANES).zip(self.shift.chunks_exact(S::LANES)).cycle();
        for ((y, x), (scale, shift)) in
            self.y.chunks_exact_mut(plane).zip(self.x.data.chunks_exact(plane)).zip(channels)
        {
            // SAFETY: the chunks have `LANES` elements.
            let (scale, shift) = unsafe { (s.load(scale.as_ptr()), s.load(shift.as_ptr())) };
            for (y, x) in y.chunks_mut(PART).zip(x.chunks(PART)) {
                for (y, x) in y.chunks_exact_mut(S::LANES).zip(x.chunks_exact(S::LANES)) {
                    // SAFETY: the chunks have `LANES` elements.
                    unsafe { s.store(y.as_mut_ptr(), s.add(s.mul(s.load(x.as_ptr()), scale), shift)) };
                }
                activation::apply(s, self.activation, y);
            }
        }
    }
}

#[cfg(test)]
mod tests;
