//! Folds over any number of broadcast operands.

use super::binary::{Arithmetic, Pair};
use crate::error::OpError;
use crate::operands::Operands;
use crate::ops::alloc;
use crate::ops::dispatch::{on_numbers, unsupported};
use crate::pool::Pool;
use quantize_ir::op::Nary;
use quantize_ir::{Element, Tensor, TensorData};

/// Folds broadcast operands of one element type, from the first to the last. `Mean` needs floats; NaN wins in `Min`
/// and `Max`.
///
/// # Errors
/// If there is no operand, shapes cannot be broadcast, or element types differ or do not fit.
pub(crate) fn nary(f: Nary, operands: Operands<'_>, pool: &mut Pool) -> Result<Vec<Tensor>, OpError> {
    let first = operands.required(0)?;
    let mut sum = on_numbers!(f.name(), first.data(), x => alloc::copied(x, first.shape().to_vec(), pool))?;
    for slot in 1..operands.len() {
        let next = operands.required(slot)?;
        let folded = on_numbers!(f.name(), sum.data(), x => step(f, x, &sum, next, pool))?;
        pool.give(std::mem::replace(&mut sum, folded));
    }
    if f == Nary::Mean {
        divide(&mut sum, operands.len())?;
    }
    Ok(vec![sum])
}

fn step<T: Arithmetic + PartialOrd>(
    f: Nary,
    x: &[T],
    sum: &Tensor,
    next: &Tensor,
    pool: &mut Pool,
) -> Result<Tensor, OpError> {
    let (pair, y) = (Pair::new(sum, next)?, next.as_slice()?);
    match f {
        Nary::Sum | Nary::Mean => pair.apply(x, y, pool, T::plus),
        Nary::Min => pair.apply(x, y, pool, smaller),
        Nary::Max => pair.apply(x, y, pool, larger),
    }
}

/// The smaller of two elements; NaN if one is.
fn smaller<T: Element + PartialOrd>(a: T, b: T) -> T {
    if a < b || is_nan(a) { a } else { b }
}

/// The larger of two elements; NaN if one is.
fn larger<T: Element + PartialOrd>(a: T, b: T) -> T {
    if a > b || is_nan(a) { a } else { b }
}

#[allow(clippy::eq_op)]
fn is_nan<T: PartialEq + Copy>(x: T) -> bool {
    x != x
}

fn divide(sum: &mut Tensor, count: usize) -> Result<(), OpError> {
    if let Ok(v) = sum.as_mut_slice::<f32>() {
        v.iter_mut().for_each(|x| *x /= count as f32);
        return Ok(());
    }
    let found = sum.dtype();
    let v = sum.as_mut_slice::<f64>().map_err(|_| unsupported("Mean", found))?;
    v.iter_mut().for_each(|x| *x /= count as f64);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::run;

    #[test]
    fn folds_broadcast() {
        let (a, b) = (Tensor::new([2, 1], vec![1f32, 4.0]).unwrap(), Tensor::vector(vec![2f32, 3.0, 9.0]));
        let cases = [
            (Nary::Sum, [3.0f32, 4.0, 10.0, 6.0, 7.0, 13.0]),
            (Nary::Mean, [1.5, 2.0, 5.0, 3.0, 3.5, 6.5]),
            (Nary::Min, [1.0, 1.0, 1.0, 2.0, 3.0, 4.0]),
            (Nary::Max, [2.0, 3.0, 9.0, 4.0, 4.0, 9.0]),
        ];
        for (f, expected) in cases {
            let expected = Tensor::new([2, 3], expected.to_vec()).unwrap();
            assert_eq!(run(&[&a, &b], |o, p| nary(f, o, p)), Ok(expected), "{f:?}");
        }
    }

    #[test]
    fn one_operand_is_itself_and_none_an_error() {
        let x = Tensor::vector(vec![3i64]);
        assert_eq!(run(&[&x], |o, p| nary(Nary::Max, o, p)), Ok(x));
        assert_eq!(run(&[], |o, p| nary(Nary::Max, o, p)), Err(OpError::Missing { slot: 0 }));
    }

    #[test]
    fn nan_wins() {
        let (a, b) = (Tensor::vector(vec![f32::NAN, 1.0]), Tensor::vector(vec![0.0, f32::NAN]));
        for f in [Nary::Min, Nary::Max] {
            let v: Vec<f32> = run(&[&a, &b], |o, p| nary(f, o, p)).unwrap().into_vec().unwrap();
            assert!(v.iter().all(|x| x.is_nan()), "{f:?}");
        }
    }
}
