//! Arithmetic of activations with each other, with a number for each channel, and with a single number, followed by an
//! activation while the result is in the cache.

use super::activation::{self, Activation};
use super::{Blocked, Shape};
use crate::error::{KernelError, check_len};
use crate::simd::{Isa, Kernel, Simd};

/// A function of two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    /// `a + b`
    Add,
    /// `a - b`
    Sub,
    /// `a * b`
    Mul,
    /// `a / b`
    Div,
}

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

#[inline(always)]
fn calculate(op: Arithmetic, a: f32, b: f32) -> f32 {
    match op {
        Arithmetic::Add => a + b,
        Arithmetic::Sub => a - b,
        Arithmetic::Mul => a * b,
        Arithmetic::Div => a / b,
    }
}

/// The loop for one function: with the function known, it is vector code.
macro_rules! for_each_op {
    ($op:expr, $known:ident => $body:expr) => {
        match $op {
            Arithmetic::Add => {
                const $known: Arithmetic = Arithmetic::Add;
                $body
            }
            Arithmetic::Sub => {
                const $known: Arithmetic = Arithmetic::Sub;
                $body
            }
            Arithmetic::Mul => {
                const $known: Arithmetic = Arithmetic::Mul;
                $body
            }
            Arithmetic::Div => {
                const $known: Arithmetic = Arithmetic::Div;
                $body
            }
        }
    };
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
    fn run<S: Simd>(self, s: S) {
        let Shape { lanes, .. } = self.x.shape;
        let plane = self.x.shape.plane().max(1);
        let pixels = self.v.chunks_exact(lanes).cycle();
        for ((y, x), v) in self.y.chunks_exact_mut(plane).zip(self.x.data.chunks_exact(plane)).zip(pixels) {
            for (y, x) in y.chunks_mut(PART).zip(x.chunks(PART)) {
                for_each_op!(self.op, OP => {
                    for (y, x) in y.chunks_exact_mut(S::LANES).zip(x.chunks_exact(S::LANES)) {
                        for lane in 0..S::LANES {
                            let (a, b) = if self.reversed { (v[lane], x[lane]) } else { (x[lane], v[lane]) };
                            y[lane] = calculate(OP, a, b);
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
    fn run<S: Simd>(self, s: S) {
        let plane = self.x.shape.plane().max(1);
        let channels = self.scale.chunks_exact(S::LANES).zip(self.shift.chunks_exact(S::LANES)).cycle();
        for ((y, x), (scale, shift)) in
            self.y.chunks_exact_mut(plane).zip(self.x.data.chunks_exact(plane)).zip(channels)
        {
            for (y, x) in y.chunks_mut(PART).zip(x.chunks(PART)) {
                for (y, x) in y.chunks_exact_mut(S::LANES).zip(x.chunks_exact(S::LANES)) {
                    for lane in 0..S::LANES {
                        y[lane] = x[lane] * scale[lane] + shift[lane];
                    }
                }
                activation::apply(s, self.activation, y);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::noise;

    const OPS: [Arithmetic; 4] = [Arithmetic::Add, Arithmetic::Sub, Arithmetic::Mul, Arithmetic::Div];
    const RELU: Activation = Activation::Clamp { lo: 0.0, hi: f32::INFINITY };

    #[test]
    fn pairs_and_scalars_follow_the_definition() {
        for (isa, op) in Isa::all().flat_map(|isa| OPS.map(|op| (isa, op))) {
            for len in [0, 1, 7, 16, 33, PART + 5] {
                let (a, b) = (noise(1, len), noise(2, len));
                let mut y = vec![f32::NAN; len];
                combine(isa, op, &a, &b, RELU, &mut y).unwrap();
                let expected: Vec<f32> = a.iter().zip(&b).map(|(a, b)| calculate(op, *a, *b).max(0.0)).collect();
                assert_eq!(y, expected, "{} {op:?}", isa.name());
                for reversed in [false, true] {
                    combine_scalar(isa, op, &a, 0.3, reversed, Activation::Identity, &mut y).unwrap();
                    let of = |a: f32| if reversed { calculate(op, 0.3, a) } else { calculate(op, a, 0.3) };
                    assert_eq!(y, a.iter().map(|a| of(*a)).collect::<Vec<_>>(), "{} {op:?}", isa.name());
                }
            }
        }
        assert!(combine(Isa::active(), OPS[0], &[0.0], &[], RELU, &mut [0.0]).is_err());
        assert!(combine_scalar(Isa::active(), OPS[0], &[0.0], 1.0, false, RELU, &mut []).is_err());
    }

    #[test]
    fn channels_meet_their_number() {
        for (isa, op) in Isa::all().flat_map(|isa| OPS.map(|op| (isa, op))) {
            let shape = Shape::new(2, isa.lanes() + 3, 5, 3, isa.lanes()).unwrap();
            let pixel = shape.blocks() * shape.lanes;
            let x = noise(1, shape.len());
            let mut y = vec![f32::NAN; shape.len()];
            for (per_image, reversed) in [(false, false), (true, false), (true, true)] {
                let v = noise(2, if per_image { 2 * pixel } else { pixel });
                combine_channels(isa, op, Blocked { shape, data: &x }, &v, reversed, RELU, &mut y).unwrap();
                for (i, found) in y.iter().enumerate() {
                    let v = v[(i / shape.plane() * shape.lanes + i % shape.lanes) % v.len()];
                    let expected = if reversed { calculate(op, v, x[i]) } else { calculate(op, x[i], v) };
                    assert_eq!(*found, expected.max(0.0), "{} {op:?} element {i}", isa.name());
                }
            }
            let (scale, shift) = (noise(3, pixel), noise(4, pixel));
            affine_channels(isa, Blocked { shape, data: &x }, &scale, &shift, RELU, &mut y).unwrap();
            for (i, found) in y.iter().enumerate() {
                let c = (i / shape.plane() * shape.lanes + i % shape.lanes) % pixel;
                assert_eq!(*found, (x[i] * scale[c] + shift[c]).max(0.0), "{} element {i}", isa.name());
            }
            let view = Blocked { shape, data: &x };
            assert!(combine_channels(isa, op, view, &scale[1..], false, RELU, &mut y).is_err());
            assert!(affine_channels(isa, view, &scale, &shift, RELU, &mut y[1..]).is_err());
        }
    }
}
