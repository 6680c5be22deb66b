//! Functions of one element.

use super::erf::erf;
use crate::error::OpError;
use crate::operands::Operands;
use crate::ops::{alloc, dispatch};
use crate::pool::Pool;
use quantize_ir::op::Unary;
use quantize_ir::{Element, Tensor, TensorData};
use std::cmp::Ordering;

/// Applies a function of one element.
///
/// All functions are defined on floats; `Relu`, `LeakyRelu`, `Abs`, `Neg` and `Sign` on signed integers too, `Not` on
/// truth values alone.
///
/// # Errors
/// If the function is not defined on the element type.
pub(crate) fn unary(f: Unary, operands: Operands<'_>, pool: &mut Pool) -> Result<Vec<Tensor>, OpError> {
    let x = operands.required(0)?;
    let shape = x.shape();
    let result = match (x.data(), f) {
        (TensorData::F32(v), _) => single(f, v, shape, pool),
        (TensorData::F64(v), _) => map(v, shape, pool, double(f).ok_or_else(|| unsupported(f, x))?),
        (TensorData::I8(v), _) => map(v, shape, pool, integer(f).ok_or_else(|| unsupported(f, x))?),
        (TensorData::I16(v), _) => map(v, shape, pool, integer(f).ok_or_else(|| unsupported(f, x))?),
        (TensorData::I32(v), _) => map(v, shape, pool, integer(f).ok_or_else(|| unsupported(f, x))?),
        (TensorData::I64(v), _) => map(v, shape, pool, integer(f).ok_or_else(|| unsupported(f, x))?),
        (TensorData::Bool(v), Unary::Not) => map(v, shape, pool, |x: bool| !x),
        _ => Err(unsupported(f, x)),
    };
    Ok(vec![result?])
}

fn unsupported(f: Unary, x: &Tensor) -> OpError {
    dispatch::unsupported(f.name(), x.dtype())
}

fn map<T: Element + Default>(x: &[T], shape: &[usize], pool: &mut Pool, f: impl Fn(T) -> T) -> Result<Tensor, OpError> {
    let mut out = alloc::buffer(shape, pool)?;
    out.iter_mut().zip(x).for_each(|(o, &x)| *o = f(x));
    Ok(Tensor::new(shape, out)?)
}

/// Each function is its own loop, so that simple ones become vector code.
fn single(f: Unary, x: &[f32], shape: &[usize], pool: &mut Pool) -> Result<Tensor, OpError> {
    match f {
        Unary::Relu => map(x, shape, pool, |x| if x < 0.0 { 0.0 } else { x }),
        Unary::LeakyRelu { alpha } => map(x, shape, pool, |x| if x < 0.0 { alpha * x } else { x }),
        Unary::Sigmoid => map(x, shape, pool, |x| 1.0 / (1.0 + (-x).exp())),
        Unary::Tanh => map(x, shape, pool, f32::tanh),
        Unary::HardSigmoid { alpha, beta } => map(x, shape, pool, |x| (alpha * x + beta).clamp(0.0, 1.0)),
        Unary::HardSwish => map(x, shape, pool, |x| x * (x / 6.0 + 0.5).clamp(0.0, 1.0)),
        Unary::Elu { alpha } => map(x, shape, pool, |x| if x < 0.0 { alpha * x.exp_m1() } else { x }),
        Unary::Selu { alpha, gamma } => map(x, shape, pool, |x| gamma * if x < 0.0 { alpha * x.exp_m1() } else { x }),
        Unary::Exp => map(x, shape, pool, f32::exp),
        Unary::Log => map(x, shape, pool, f32::ln),
        Unary::Sqrt => map(x, shape, pool, f32::sqrt),
        Unary::Abs => map(x, shape, pool, f32::abs),
        Unary::Neg => map(x, shape, pool, |x| -x),
        Unary::Sign => map(x, shape, pool, sign),
        Unary::Reciprocal => map(x, shape, pool, |x| 1.0 / x),
        Unary::Floor => map(x, shape, pool, f32::floor),
        Unary::Ceil => map(x, shape, pool, f32::ceil),
        Unary::Round => map(x, shape, pool, f32::round_ties_even),
        Unary::Shrink { .. } | Unary::Softplus | Unary::Erf | Unary::Gelu { .. } | Unary::Mish | Unary::Not => {
            let f = double(f).ok_or_else(|| dispatch::unsupported(f.name(), quantize_ir::DType::F32))?;
            map(x, shape, pool, |x| f(f64::from(x)) as f32)
        }
    }
}

/// The function in double precision; `None` if it is not one of real numbers.
fn double(f: Unary) -> Option<impl Fn(f64) -> f64> {
    let defined = !matches!(f, Unary::Not);
    defined.then_some(move |x: f64| match f {
        Unary::Relu => if_negative(x, 0.0),
        Unary::LeakyRelu { alpha } => if_negative(x, f64::from(alpha) * x),
        Unary::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Unary::Tanh => x.tanh(),
        Unary::HardSigmoid { alpha, beta } => (f64::from(alpha) * x + f64::from(beta)).clamp(0.0, 1.0),
        Unary::HardSwish => x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
        Unary::Elu { alpha } => if_negative(x, f64::from(alpha) * x.exp_m1()),
        Unary::Selu { alpha, gamma } => f64::from(gamma) * if_negative(x, f64::from(alpha) * x.exp_m1()),
        Unary::Shrink { lambda, bias } => shrink(x, f64::from(lambda), f64::from(bias)),
        Unary::Softplus => softplus(x),
        Unary::Erf => erf(x),
        Unary::Gelu { tanh: true } => 0.5 * x * (1.0 + tanh_argument(x).tanh()),
        Unary::Gelu { tanh: false } => 0.5 * x * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2)),
        Unary::Mish => x * softplus(x).tanh(),
        Unary::Exp => x.exp(),
        Unary::Log => x.ln(),
        Unary::Sqrt => x.sqrt(),
        Unary::Abs => x.abs(),
        Unary::Neg => -x,
        Unary::Sign => sign(x),
        Unary::Reciprocal => 1.0 / x,
        Unary::Floor => x.floor(),
        Unary::Ceil => x.ceil(),
        Unary::Round => x.round_ties_even(),
        Unary::Not => x,
    })
}

fn if_negative(x: f64, below: f64) -> f64 {
    if x < 0.0 { below } else { x }
}

/// -1 or 1; zeros and what is not a number stay.
fn sign<T: PartialOrd + Default + From<i8>>(x: T) -> T {
    match x.partial_cmp(&T::default()) {
        Some(Ordering::Greater) => T::from(1),
        Some(Ordering::Less) => T::from(-1),
        _ => x,
    }
}

/// Toward zero by `bias`, to zero within `lambda` of it; what is not a number stays.
fn shrink(x: f64, lambda: f64, bias: f64) -> f64 {
    if x < -lambda {
        x + bias
    } else if x > lambda {
        x - bias
    } else if x.is_nan() {
        x
    } else {
        0.0
    }
}

/// `ln(1 + exp(x))` without overflow.
fn softplus(x: f64) -> f64 {
    if x.is_nan() { x } else { x.max(0.0) + (-x.abs()).exp().ln_1p() }
}

/// `sqrt(2 / pi) * (x + 0.044715 x^3)`, from D. Hendrycks and K. Gimpel, "Gaussian Error Linear Units".
fn tanh_argument(x: f64) -> f64 {
    let sqrt_2_over_pi = std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2;
    sqrt_2_over_pi * (x + 0.044715 * x * x * x)
}

/// Signed integers, as far as functions of one element need them.
trait Signed: Copy + PartialOrd + Default + From<i8> {
    fn negated(self) -> Self;
    fn scaled(self, factor: f32) -> Self;
}

macro_rules! signed {
    ($($ty:ty),*) => {
        $(impl Signed for $ty {
            fn negated(self) -> Self {
                self.wrapping_neg()
            }
            fn scaled(self, factor: f32) -> Self {
                (f64::from(factor) * self as f64) as $ty
            }
        })*
    };
}

signed!(i8, i16, i32, i64);

/// The function on signed integers; `None` if it is not defined there.
fn integer<T: Signed>(f: Unary) -> Option<impl Fn(T) -> T> {
    let defined = matches!(f, Unary::Relu | Unary::LeakyRelu { .. } | Unary::Abs | Unary::Neg | Unary::Sign);
    defined.then_some(move |x: T| match f {
        Unary::Neg => x.negated(),
        Unary::Sign => sign(x),
        _ if x >= T::default() => x,
        Unary::Abs => x.negated(),
        Unary::LeakyRelu { alpha } => x.scaled(alpha),
        _ => T::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, run};

    fn of(f: Unary, x: &[f32]) -> Vec<f32> {
        let x = Tensor::vector(x.to_vec());
        run(&[&x], |o, p| unary(f, o, p)).unwrap().into_vec().unwrap()
    }

    #[test]
    fn values() {
        let cases = [
            (Unary::Relu, [0.0, 0.0, 0.0, 2.0]),
            (Unary::LeakyRelu { alpha: 0.1 }, [-0.3, -0.05, 0.0, 2.0]),
            (Unary::Sigmoid, [0.047425874, 0.37754068, 0.5, 0.880797]),
            (Unary::Tanh, [-0.9950548, -0.46211717, 0.0, 0.9640276]),
            (Unary::HardSigmoid { alpha: 0.2, beta: 0.5 }, [0.0, 0.4, 0.5, 0.9]),
            (Unary::HardSwish, [0.0, -0.20833333, 0.0, 1.6666666]),
            (Unary::Elu { alpha: 2.0 }, [-1.9004259, -0.7869387, 0.0, 2.0]),
            (Unary::Selu { alpha: 2.0, gamma: 0.5 }, [-0.95021296, -0.39346935, 0.0, 1.0]),
            (Unary::Shrink { lambda: 0.5, bias: 1.5 }, [-1.5, 0.0, 0.0, 0.5]),
            (Unary::Softplus, [0.048587352, 0.474077, std::f32::consts::LN_2, 2.126928]),
            (Unary::Erf, [-0.9999779, -0.5204999, 0.0, 0.9953223]),
            (Unary::Gelu { tanh: false }, [-0.004049694, -0.15426877, 0.0, 1.9544997]),
            (Unary::Gelu { tanh: true }, [-0.0036373436, -0.154286, 0.0, 1.9545977]),
            (Unary::Mish, [-0.14564747, -0.22074378, 0.0, 1.943959]),
            (Unary::Exp, [0.049787067, 0.60653067, 1.0, 7.389056]),
            (Unary::Abs, [3.0, 0.5, 0.0, 2.0]),
            (Unary::Neg, [3.0, 0.5, 0.0, -2.0]),
            (Unary::Sign, [-1.0, -1.0, 0.0, 1.0]),
            (Unary::Reciprocal, [-0.33333334, -2.0, f32::INFINITY, 0.5]),
            (Unary::Floor, [-3.0, -1.0, 0.0, 2.0]),
            (Unary::Ceil, [-3.0, 0.0, 0.0, 2.0]),
            (Unary::Round, [-3.0, 0.0, 0.0, 2.0]),
        ];
        for (f, expected) in cases {
            assert_close(f.name(), &of(f, &[-3.0, -0.5, 0.0, 2.0]), &expected, 1e-6);
            let double = double(f).unwrap();
            let wide: Vec<f32> = [-3.0, -0.5, 0.0, 2.0].iter().map(|&x| double(x) as f32).collect();
            assert_close(f.name(), &wide, &expected, 1e-6);
        }
        assert_close("Log", &of(Unary::Log, &[1.0, 10.0]), &[0.0, std::f32::consts::LN_10], 1e-6);
        assert_close("Sqrt", &of(Unary::Sqrt, &[0.0, 2.0]), &[0.0, std::f32::consts::SQRT_2], 1e-6);
    }

    #[test]
    fn extremes_stay_defined() {
        assert_eq!(of(Unary::Sigmoid, &[-1e4, 1e4]), [0.0, 1.0]);
        assert_eq!(of(Unary::Softplus, &[-1e4, 1e4]), [0.0, 1e4]);
        assert_eq!(of(Unary::Round, &[0.5, 1.5, 2.5, -0.5]), [0.0, 2.0, 2.0, 0.0]);
        let shrink = Unary::Shrink { lambda: 0.5, bias: 0.0 };
        let sigmoid = Unary::HardSigmoid { alpha: 1.0, beta: 0.0 };
        for f in [Unary::Relu, sigmoid, Unary::Softplus, Unary::Erf, Unary::Sign, shrink] {
            assert!(of(f, &[f32::NAN])[0].is_nan(), "{f:?}");
        }
    }

    #[test]
    fn integers_and_truth_values() {
        let x = Tensor::vector(vec![i32::MIN, -3, 4]);
        let abs = run(&[&x], |o, p| unary(Unary::Abs, o, p)).unwrap();
        assert_eq!(abs, Tensor::vector(vec![i32::MIN, 3, 4]));
        let relu = run(&[&x], |o, p| unary(Unary::Relu, o, p)).unwrap();
        assert_eq!(relu, Tensor::vector(vec![0, 0, 4]));
        let sign = run(&[&x], |o, p| unary(Unary::Sign, o, p)).unwrap();
        assert_eq!(sign, Tensor::vector(vec![-1, -1, 1]));
        let not = run(&[&Tensor::vector(vec![true, false])], |o, p| unary(Unary::Not, o, p));
        assert_eq!(not, Ok(Tensor::vector(vec![false, true])));
        let error = run(&[&x], |o, p| unary(Unary::Exp, o, p)).unwrap_err();
        assert_eq!(error.to_string(), "Exp of int32 elements is not supported by the executor");
    }
}
