//! Functions of two numbers and of two vectors. Loops over activations are not here.

use crate::simd::Simd;

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
    /// The larger; NaN if either is.
    Max,
    /// The smaller; NaN if either is.
    Min,
}

/// The result for two numbers.
#[inline(always)]
pub(super) fn calculate(op: Arithmetic, a: f32, b: f32) -> f32 {
    match op {
        Arithmetic::Add => a + b,
        Arithmetic::Sub => a - b,
        Arithmetic::Mul => a * b,
        Arithmetic::Div => a / b,
        Arithmetic::Max => {
            if a > b || a.is_nan() {
                a
            } else {
                b
            }
        }
        Arithmetic::Min => {
            if a < b || a.is_nan() {
                a
            } else {
                b
            }
        }
    }
}

/// [`calculate`] of vectors.
#[inline(always)]
pub(super) fn calculate_vector<S: Simd>(s: S, op: Arithmetic, a: S::F32, b: S::F32) -> S::F32 {
    match op {
        Arithmetic::Add => s.add(a, b),
        Arithmetic::Sub => s.sub(a, b),
        Arithmetic::Mul => s.mul(a, b),
        Arithmetic::Div => s.div(a, b),
        // `max` and `min` give their second operand if one is NaN, which is right if the first one is not; where both
        // may be NaN, a sum is it too, and of equal infinities that infinity.
        Arithmetic::Max => {
            let top = s.splat(f32::INFINITY);
            s.select_less(a, top, s.max(a, b), s.select_less(b, top, s.max(b, a), s.add(a, b)))
        }
        Arithmetic::Min => {
            let bottom = s.splat(f32::NEG_INFINITY);
            s.select_less(bottom, a, s.min(a, b), s.select_less(bottom, b, s.min(b, a), s.add(a, b)))
        }
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
            Arithmetic::Max => {
                const $known: Arithmetic = Arithmetic::Max;
                $body
            }
            Arithmetic::Min => {
                const $known: Arithmetic = Arithmetic::Min;
                $body
            }
        }
    };
}

pub(super) use for_each_op;
