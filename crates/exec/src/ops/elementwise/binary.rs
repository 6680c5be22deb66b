//! Functions of two broadcast elements.

use super::cast::convert;
use crate::error::OpError;
use crate::operands::Operands;
use crate::ops::dispatch::{self, on_elements, on_numbers};
use crate::ops::strided::{Loops, broadcast_strides, zip};
use crate::ops::{alloc, dispatch::unsupported};
use crate::pool::Pool;
use quantize_ir::op::Binary;
use quantize_ir::shape::broadcast;
use quantize_ir::{DType, Element, Tensor, TensorData, TensorError};

/// Applies a function of two elements to broadcast operands of one element type (`Pow` allows two).
///
/// Integer arithmetic wraps around; integer division rounds toward zero.
///
/// # Errors
/// If shapes cannot be broadcast, element types differ or do not fit the function, or an integer divisor is zero.
pub(crate) fn binary(f: Binary, operands: Operands<'_>, pool: &mut Pool) -> Result<Vec<Tensor>, OpError> {
    let (a, b) = (operands.required(0)?, operands.required(1)?);
    let result = match f {
        Binary::Pow => power(a, b, pool),
        Binary::Add | Binary::Sub | Binary::Mul | Binary::Div => {
            on_numbers!(f.name(), a.data(), x => arithmetic(f, x, same_type(x, b)?, Pair::new(a, b)?, pool))
        }
        Binary::And | Binary::Or => logic(f, a, b, pool),
        Binary::Equal => on_elements!(a.data(), x => compare(f, x, same_type(x, b)?, Pair::new(a, b)?, pool)),
        Binary::Less | Binary::LessOrEqual | Binary::Greater | Binary::GreaterOrEqual => {
            on_numbers!(f.name(), a.data(), x => compare(f, x, same_type(x, b)?, Pair::new(a, b)?, pool))
        }
    };
    Ok(vec![result?])
}

fn same_type<'b, T: Element>(_: &[T], b: &'b Tensor) -> Result<&'b [T], TensorError> {
    b.as_slice()
}

/// The broadcast of two operands: shape of the result and the loops over it.
pub(super) struct Pair {
    pub(super) shape: Vec<usize>,
    pub(super) loops: Loops<2>,
}

impl Pair {
    pub(super) fn new(a: &Tensor, b: &Tensor) -> Result<Self, OpError> {
        Self::of_shapes(a.shape(), b.shape())
    }

    pub(super) fn of_shapes(a: &[usize], b: &[usize]) -> Result<Self, OpError> {
        let shape = broadcast(a, b)?;
        alloc::result_len(&shape)?;
        let loops = Loops::new(&shape, [&broadcast_strides(a, &shape), &broadcast_strides(b, &shape)]);
        Ok(Self { shape, loops })
    }

    /// The result of `f` on every pair of elements.
    pub(super) fn apply<A: Copy, B: Copy, O: Element + Default>(
        self,
        a: &[A],
        b: &[B],
        pool: &mut Pool,
        f: impl Fn(A, B) -> O,
    ) -> Result<Tensor, OpError> {
        let mut out = alloc::buffer(&self.shape, pool)?;
        zip(a, b, &self.loops, &mut out, f);
        Ok(Tensor::new(self.shape, out)?)
    }
}

/// Arithmetic of one element type.
pub(super) trait Arithmetic: Element + Default + PartialEq {
    fn plus(self, other: Self) -> Self;
    fn minus(self, other: Self) -> Self;
    fn times(self, other: Self) -> Self;
    /// The quotient; an integer divisor is not zero.
    fn over(self, other: Self) -> Self;
    /// Whether the element must not divide.
    fn cannot_divide(self) -> bool;
}

macro_rules! float_arithmetic {
    ($($ty:ty),*) => {
        $(impl Arithmetic for $ty {
            fn plus(self, other: Self) -> Self { self + other }
            fn minus(self, other: Self) -> Self { self - other }
            fn times(self, other: Self) -> Self { self * other }
            fn over(self, other: Self) -> Self { self / other }
            fn cannot_divide(self) -> bool { false }
        })*
    };
}

macro_rules! integer_arithmetic {
    ($($ty:ty),*) => {
        $(impl Arithmetic for $ty {
            fn plus(self, other: Self) -> Self { self.wrapping_add(other) }
            fn minus(self, other: Self) -> Self { self.wrapping_sub(other) }
            fn times(self, other: Self) -> Self { self.wrapping_mul(other) }
            fn over(self, other: Self) -> Self { self.wrapping_div(other) }
            fn cannot_divide(self) -> bool { self == 0 }
        })*
    };
}

float_arithmetic!(f32, f64);
integer_arithmetic!(i8, u8, i16, u16, i32, u32, i64, u64);

fn arithmetic<T: Arithmetic>(f: Binary, a: &[T], b: &[T], pair: Pair, pool: &mut Pool) -> Result<Tensor, OpError> {
    match f {
        Binary::Add => pair.apply(a, b, pool, T::plus),
        Binary::Sub => pair.apply(a, b, pool, T::minus),
        Binary::Mul => pair.apply(a, b, pool, T::times),
        _ if b.iter().any(|d| d.cannot_divide()) => Err(OpError::shape("integer division by zero")),
        _ => pair.apply(a, b, pool, T::over),
    }
}

fn compare<T: Element + PartialOrd>(
    f: Binary,
    a: &[T],
    b: &[T],
    pair: Pair,
    pool: &mut Pool,
) -> Result<Tensor, OpError> {
    match f {
        Binary::Less => pair.apply(a, b, pool, |a, b| a < b),
        Binary::LessOrEqual => pair.apply(a, b, pool, |a, b| a <= b),
        Binary::Greater => pair.apply(a, b, pool, |a, b| a > b),
        Binary::GreaterOrEqual => pair.apply(a, b, pool, |a, b| a >= b),
        _ => pair.apply(a, b, pool, |a, b| a == b),
    }
}

fn logic(f: Binary, a: &Tensor, b: &Tensor, pool: &mut Pool) -> Result<Tensor, OpError> {
    let (x, y) = (a.as_slice::<bool>()?, b.as_slice::<bool>()?);
    let pair = Pair::new(a, b)?;
    match f {
        Binary::And => pair.apply(x, y, pool, |a, b| a & b),
        _ => pair.apply(x, y, pool, |a, b| a | b),
    }
}

/// Powers have the type of their base. Integers go through double precision.
fn power(a: &Tensor, b: &Tensor, pool: &mut Pool) -> Result<Tensor, OpError> {
    let pair = Pair::new(a, b)?;
    if let Some(bad) = [a, b].into_iter().find(|t| t.dtype() == DType::Bool) {
        return Err(unsupported("Pow", bad.dtype()));
    }
    if let TensorData::F32(base) = a.data() {
        let exponents = convert(b.data(), DType::F32);
        return single_power(base, f32_elements(&exponents), pair, pool);
    }
    let (base, exponents) = (convert(a.data(), DType::F64), convert(b.data(), DType::F64));
    let (Some(x), Some(y)) = (f64::slice(&base), f64::slice(&exponents)) else {
        return Err(dispatch::unsupported("Pow", a.dtype()));
    };
    let wide = pair.apply(x, y, pool, f64::powf)?;
    let shape = wide.shape().to_vec();
    Ok(Tensor::from_data(shape, convert(wide.data(), a.dtype()))?)
}

fn f32_elements(data: &TensorData) -> &[f32] {
    f32::slice(data).unwrap_or_default()
}

fn single_power(base: &[f32], exponents: &[f32], pair: Pair, pool: &mut Pool) -> Result<Tensor, OpError> {
    match exponents {
        [2.0] => pair.apply(base, exponents, pool, |x, _| x * x),
        [3.0] => pair.apply(base, exponents, pool, |x, _| x * x * x),
        _ => pair.apply(base, exponents, pool, f32::powf),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::run;

    fn of(f: Binary, a: &Tensor, b: &Tensor) -> Result<Tensor, OpError> {
        run(&[a, b], |o, p| binary(f, o, p))
    }

    #[test]
    fn arithmetic_of_floats() {
        let (a, b) = (Tensor::vector(vec![1f32, -6.0]), Tensor::vector(vec![2f32, 4.0]));
        let cases = [
            (Binary::Add, [3.0f32, -2.0]),
            (Binary::Sub, [-1.0, -10.0]),
            (Binary::Mul, [2.0, -24.0]),
            (Binary::Div, [0.5, -1.5]),
            (Binary::Pow, [1.0, 1296.0]),
        ];
        for (f, expected) in cases {
            assert_eq!(of(f, &a, &b), Ok(Tensor::vector(expected.to_vec())), "{f:?}");
        }
    }

    #[test]
    fn integers_wrap_and_divide_toward_zero() {
        let (a, b) = (Tensor::vector(vec![i32::MAX, -7, i32::MIN]), Tensor::vector(vec![1, 2, -1]));
        assert_eq!(of(Binary::Add, &a, &b), Ok(Tensor::vector(vec![i32::MIN, -5, i32::MAX])));
        assert_eq!(of(Binary::Div, &a, &b), Ok(Tensor::vector(vec![i32::MAX, -3, i32::MIN])));
        assert!(of(Binary::Div, &a, &Tensor::scalar(0i32)).is_err());
        assert!(of(Binary::Add, &a, &Tensor::scalar(0i64)).is_err());
    }

    #[test]
    fn powers_keep_the_type_of_the_base() {
        let base = Tensor::vector(vec![2i32, 3, -2]);
        let exponents = Tensor::vector(vec![-1f32, 2.5, 3.0]);
        assert_eq!(of(Binary::Pow, &base, &exponents), Ok(Tensor::vector(vec![0i32, 15, -8])));
        let squares = of(Binary::Pow, &Tensor::vector(vec![-3f32, 0.5]), &Tensor::scalar(2i64));
        assert_eq!(squares, Ok(Tensor::vector(vec![9f32, 0.25])));
    }

    #[test]
    fn predicates() {
        let (a, b) = (Tensor::vector(vec![1u8, 2, 3]), Tensor::scalar(2u8));
        let cases = [
            (Binary::Equal, [false, true, false]),
            (Binary::Less, [true, false, false]),
            (Binary::LessOrEqual, [true, true, false]),
            (Binary::Greater, [false, false, true]),
            (Binary::GreaterOrEqual, [false, true, true]),
        ];
        for (f, expected) in cases {
            assert_eq!(of(f, &a, &b), Ok(Tensor::vector(expected.to_vec())), "{f:?}");
        }
        let nan = Tensor::scalar(f32::NAN);
        assert_eq!(of(Binary::Equal, &nan, &nan), Ok(Tensor::scalar(false)));
    }

    #[test]
    fn logic_of_truth_values() {
        let (a, b) = (Tensor::vector(vec![true, true, false]), Tensor::vector(vec![true, false, false]));
        assert_eq!(of(Binary::And, &a, &b), Ok(Tensor::vector(vec![true, false, false])));
        assert_eq!(of(Binary::Or, &a, &b), Ok(Tensor::vector(vec![true, true, false])));
        assert!(of(Binary::And, &a, &Tensor::scalar(1f32)).is_err());
    }
}
