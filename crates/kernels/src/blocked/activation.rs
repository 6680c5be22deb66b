//! Functions of single elements that follow a convolution or an addition.

use crate::simd::{Isa, Kernel, Simd};

/// A function applied to every element of a result while it is in the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Activation {
    /// `x`
    #[default]
    Identity,
    /// `min(hi, max(lo, x))`; NaN stays NaN. An end may be infinite.
    Clamp {
        /// Lower end.
        lo: f32,
        /// Upper end.
        hi: f32,
    },
    /// `x < 0 ? alpha * x : x`
    LeakyRelu {
        /// Slope below zero.
        alpha: f32,
    },
    /// `1 / (1 + exp(-x))`
    Sigmoid,
    /// `x / (1 + exp(-x))`
    Silu,
    /// `clamp(alpha * x + beta, 0, 1)`
    HardSigmoid {
        /// Slope.
        alpha: f32,
        /// Offset.
        beta: f32,
    },
    /// `x * clamp(x / 6 + 1/2, 0, 1)`
    HardSwish,
    /// Hyperbolic tangent.
    Tanh,
}

impl Activation {
    /// Ends of the interval it cuts to; infinite for those that do something else or nothing.
    pub(super) fn limits(self) -> (f32, f32) {
        match self {
            Self::Clamp { lo, hi } => (lo, hi),
            _ => (f32::NEG_INFINITY, f32::INFINITY),
        }
    }
}

/// Applies what a kernel that keeps to [`Activation::limits`] has not done already.
pub(super) fn finish(isa: Isa, activation: Activation, y: &mut [f32]) {
    if !matches!(activation, Activation::Identity | Activation::Clamp { .. }) {
        activate(isa, activation, y);
    }
}

/// Applies `activation` to every element. NaN stays NaN; infinities give the limits of the functions.
pub fn activate(isa: Isa, activation: Activation, y: &mut [f32]) {
    isa.run_float(Activate { activation, y });
}

struct Activate<'a> {
    activation: Activation,
    y: &'a mut [f32],
}

impl Kernel for Activate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        apply(s, self.activation, self.y);
    }
}

/// [`activate`] for code that is compiled for an instruction set already.
#[inline(always)]
pub(super) fn apply<S: Simd>(s: S, activation: Activation, y: &mut [f32]) {
    match activation {
        Activation::Identity => {}
        Activation::Clamp { lo, hi } => each(s, y, Clamp { lo, hi }),
        Activation::LeakyRelu { alpha } => each(s, y, LeakyRelu { alpha }),
        Activation::Sigmoid => each(s, y, Sigmoid),
        Activation::Silu => each(s, y, Silu),
        Activation::HardSigmoid { alpha, beta } => each(s, y, HardSigmoid { alpha, beta }),
        Activation::HardSwish => each(s, y, HardSwish),
        Activation::Tanh => each(s, y, Tanh),
    }
}

/// A function of single elements. No closure, because nothing promises that a closure is inlined into the code that is
/// compiled for an instruction set.
trait Function: Copy {
    /// Its values; to be marked `#[inline(always)]`.
    fn of<S: Simd>(self, s: S, x: S::F32) -> S::F32;
}

/// Replaces every element; what is left after whole vectors is padded to one.
#[inline(always)]
#[allow(unsafe_code)]
fn each<S: Simd>(s: S, y: &mut [f32], f: impl Function) {
    let mut vectors = y.chunks_exact_mut(S::LANES);
    for vector in &mut vectors {
        // SAFETY: the chunk has `LANES` elements.
        unsafe { s.store(vector.as_mut_ptr(), f.of(s, s.load(vector.as_ptr()))) };
    }
    let rest = vectors.into_remainder();
    if rest.is_empty() {
        return;
    }
    let mut padded = [0.0; MOST_LANES];
    padded[..rest.len()].copy_from_slice(rest);
    // SAFETY: the array has at least `LANES` elements.
    unsafe { s.store(padded.as_mut_ptr(), f.of(s, s.load(padded.as_ptr()))) };
    rest.copy_from_slice(&padded[..rest.len()]);
}

#[derive(Clone, Copy)]
struct Clamp {
    lo: f32,
    hi: f32,
}

impl Function for Clamp {
    #[inline(always)]
    fn of<S: Simd>(self, s: S, x: S::F32) -> S::F32 {
        s.min(s.splat(self.hi), s.max(s.splat(self.lo), x))
    }
}

#[derive(Clone, Copy)]
struct LeakyRelu {
    alpha: f32,
}

impl Function for LeakyRelu {
    #[inline(always)]
    fn of<S: Simd>(self, s: S, x: S::F32) -> S::F32 {
        s.select_less(x, s.splat(0.0), s.mul(s.splat(self.alpha), x), x)
    }
}

#[derive(Clone, Copy)]
struct Sigmoid;

impl Function for Sigmoid {
    #[inline(always)]
    fn of<S: Simd>(self, s: S, x: S::F32) -> S::F32 {
        let one = s.splat(1.0);
        s.div(one, s.add(one, exp(s, s.sub(s.splat(0.0), x))))
    }
}

#[derive(Clone, Copy)]
struct Silu;

impl Function for Silu {
    #[inline(always)]
    fn of<S: Simd>(self, s: S, x: S::F32) -> S::F32 {
        s.mul(x, Sigmoid.of(s, x))
    }
}

#[derive(Clone, Copy)]
struct HardSigmoid {
    alpha: f32,
    beta: f32,
}

impl Function for HardSigmoid {
    #[inline(always)]
    fn of<S: Simd>(self, s: S, x: S::F32) -> S::F32 {
        let line = s.add(s.mul(s.splat(self.alpha), x), s.splat(self.beta));
        Clamp { lo: 0.0, hi: 1.0 }.of(s, line)
    }
}

#[derive(Clone, Copy)]
struct HardSwish;

impl Function for HardSwish {
    #[inline(always)]
    fn of<S: Simd>(self, s: S, x: S::F32) -> S::F32 {
        let line = s.add(s.div(x, s.splat(6.0)), s.splat(0.5));
        s.mul(x, Clamp { lo: 0.0, hi: 1.0 }.of(s, line))
    }
}

#[derive(Clone, Copy)]
struct Tanh;

impl Function for Tanh {
    /// `1 - 2 / (exp(2x) + 1)`, and near 0, where that cancels, a polynomial of x².
    #[inline(always)]
    fn of<S: Simd>(self, s: S, x: S::F32) -> S::F32 {
        /// Below this magnitude the polynomial is exact to the last bits.
        const NEAR: f32 = 0.25;
        /// Taylor coefficients of x³, x⁵, … from the last to the first.
        const TAYLOR: [f32; 4] = [62.0 / 2835.0, -17.0 / 315.0, 2.0 / 15.0, -1.0 / 3.0];
        let one = s.splat(1.0);
        let squared = s.mul(x, x);
        let series = polynomial(s, &TAYLOR, squared);
        let near = s.mul_add(s.mul(series, squared), x, x);
        let far = s.sub(one, s.div(s.splat(2.0), s.add(exp(s, s.add(x, x)), one)));
        s.select_less(squared, s.splat(NEAR * NEAR), near, far)
    }
}

/// Lanes of the widest vector.
const MOST_LANES: usize = 16;

/// `exp(x)` to about 1 ulp: `2^n * p(r)` with `x = n ln 2 + r` and |r| at most half of ln 2, p the Taylor polynomial of
/// degree 7. Results below the smallest normal number are 0, above the largest infinite.
#[inline(always)]
fn exp<S: Simd>(s: S, x: S::F32) -> S::F32 {
    const LARGEST: f32 = 88.722_84;
    const SMALLEST: f32 = -87.336_54;
    /// ln 2 in two parts, the first with few enough bits that its multiples are exact.
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    const TAYLOR: [f32; 8] = [1.0 / 5040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];
    let (smallest, largest) = (s.splat(SMALLEST), s.splat(LARGEST));
    let clamped = s.min(largest, s.max(smallest, x));
    let n = s.round(s.mul(clamped, s.splat(std::f32::consts::LOG2_E)));
    let r = s.sub(clamped, s.mul(n, s.splat(LN_2[0])));
    let r = s.sub(r, s.mul(n, s.splat(LN_2[1])));
    let fraction = polynomial(s, &TAYLOR, r);
    // 2^n in two factors, because 2^128 is no number but the product may be one.
    let half = s.round(s.mul(n, s.splat(0.5)));
    let result = s.mul(s.mul(fraction, power_of_two(s, half)), power_of_two(s, s.sub(n, half)));
    let result = s.select_less(x, smallest, s.splat(0.0), result);
    s.select_less(largest, x, s.splat(f32::INFINITY), result)
}

/// `2^n` for an integer n between -126 and 127.
#[inline(always)]
fn power_of_two<S: Simd>(s: S, n: S::F32) -> S::F32 {
    s.of_bits(s.shift_left::<23>(s.add_i32(s.to_i32(n), s.splat_i32(127))))
}

/// The polynomial with these coefficients, the highest one first, by Horner's rule.
#[inline(always)]
fn polynomial<S: Simd, const N: usize>(s: S, coefficients: &[f32; N], x: S::F32) -> S::F32 {
    let mut value = s.splat(coefficients[0]);
    for i in 1..N {
        value = s.mul_add(value, x, s.splat(coefficients[i]));
    }
    value
}

#[cfg(test)]
mod tests;
