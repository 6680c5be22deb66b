//! Operators about shapes, and operators that make tensors from nothing.

use super::alloc;
use super::dispatch::{on_elements, unsupported};
use super::layout::sizes;
use crate::error::OpError;
use crate::operands::Operands;
use crate::pool::Pool;
use quantize_ir::op::{ConstantOfShape, ShapeOf};
use quantize_ir::{DType, Element, Tensor, TensorData};

/// Dimensions `start..end` of the operand as `int64`; bounds are cut to the rank.
///
/// # Errors
/// If the operand is missing.
pub(crate) fn shape_of(attrs: &ShapeOf, operands: Operands<'_>, _: &mut Pool) -> Result<Vec<Tensor>, OpError> {
    let x = operands.required(0)?;
    let rank = x.rank() as i64;
    let bound = |b: i64| (if b < 0 { b.saturating_add(rank) } else { b }).clamp(0, rank) as usize;
    let (start, end) = (bound(attrs.start), bound(attrs.end.unwrap_or(rank)));
    let dims = x.shape().get(start..end).unwrap_or_default();
    Ok(vec![Tensor::vector(dims.iter().map(|&d| d as i64).collect())])
}

/// Number of elements of the operand, an `int64` scalar.
///
/// # Errors
/// If the operand is missing.
pub(crate) fn size(operands: Operands<'_>, _: &mut Pool) -> Result<Vec<Tensor>, OpError> {
    Ok(vec![Tensor::scalar(operands.required(0)?.len() as i64)])
}

/// A tensor of the shape given as operand, filled with one value.
///
/// # Errors
/// If a dimension is negative or the value is not one element.
pub(crate) fn constant_of_shape(
    attrs: &ConstantOfShape,
    operands: Operands<'_>,
    pool: &mut Pool,
) -> Result<Vec<Tensor>, OpError> {
    let shape = sizes(&operands.required(0)?.to_i64_vec()?, "a dimension")?;
    let y = on_elements!(&attrs.value, v => filled(v, shape, pool))?;
    Ok(vec![y])
}

fn filled<T: Element + Default>(value: &[T], shape: Vec<usize>, pool: &mut Pool) -> Result<Tensor, OpError> {
    let [value] = value else {
        return Err(OpError::shape(format!("a fill value of {} elements, expected one", value.len())));
    };
    let mut out = alloc::buffer(&shape, pool)?;
    out.fill(*value);
    Ok(Tensor::new(shape, out)?)
}

/// Numbers from start to limit, each the one before plus delta, the limit left out.
///
/// # Errors
/// If delta is zero or not a number, or an operand is not one number of a common type.
pub(crate) fn range(operands: Operands<'_>, pool: &mut Pool) -> Result<Vec<Tensor>, OpError> {
    let start = operands.required(0)?;
    let y = match start.dtype() {
        DType::F32 => {
            let [start, limit, delta] = scalars::<f32>(operands)?;
            let count = real_count(f64::from(start), f64::from(limit), f64::from(delta), pool)?;
            Tensor::vector(steps(start, count, |x| x + delta))
        }
        DType::F64 => {
            let [start, limit, delta] = scalars::<f64>(operands)?;
            Tensor::vector(steps(start, real_count(start, limit, delta, pool)?, |x| x + delta))
        }
        DType::I16 => {
            let [start, limit, delta] = scalars::<i16>(operands)?;
            let count = integer_count(start.into(), limit.into(), delta.into(), pool)?;
            Tensor::vector(steps(start, count, |x| x.wrapping_add(delta)))
        }
        DType::I32 => {
            let [start, limit, delta] = scalars::<i32>(operands)?;
            let count = integer_count(start.into(), limit.into(), delta.into(), pool)?;
            Tensor::vector(steps(start, count, |x| x.wrapping_add(delta)))
        }
        DType::I64 => {
            let [start, limit, delta] = scalars::<i64>(operands)?;
            let count = integer_count(start, limit, delta, pool)?;
            Tensor::vector(steps(start, count, |x| x.wrapping_add(delta)))
        }
        other => return Err(unsupported("Range", other)),
    };
    Ok(vec![y])
}

fn scalars<T: Element>(operands: Operands<'_>) -> Result<[T; 3], OpError> {
    let scalar = |slot| match operands.required(slot)?.as_slice::<T>() {
        Ok([value]) => Ok(*value),
        Ok(values) => Err(OpError::shape(format!("operand {slot} has {} elements, expected one", values.len()))),
        Err(error) => Err(OpError::from(error)),
    };
    Ok([scalar(0)?, scalar(1)?, scalar(2)?])
}

fn real_count(start: f64, limit: f64, delta: f64, pool: &Pool) -> Result<usize, OpError> {
    let count = ((limit - start) / delta).ceil();
    if delta == 0.0 || count.is_nan() {
        return Err(OpError::shape(format!("no range leads from {start} to {limit} in steps of {delta}")));
    }
    alloc::admitted_len(&[count as usize], pool)
}

fn integer_count(start: i64, limit: i64, delta: i64, pool: &Pool) -> Result<usize, OpError> {
    let (span, delta) = (i128::from(limit) - i128::from(start), i128::from(delta));
    let (span, step) = if delta < 0 { (-span, -delta) } else { (span, delta) };
    match step {
        0 => Err(OpError::shape("a range in steps of 0")),
        _ if span <= 0 => Ok(0),
        _ => alloc::admitted_len(&[usize::try_from((span - 1) / step + 1).unwrap_or(usize::MAX)], pool),
    }
}

fn steps<T: Copy>(start: T, count: usize, next: impl Fn(T) -> T) -> Vec<T> {
    let mut x = start;
    (0..count)
        .map(|_| {
            let following = next(x);
            std::mem::replace(&mut x, following)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{counting, run};

    #[test]
    fn shapes_and_sizes() {
        let x = counting(&[2, 3, 4]);
        let of = |start, end| run(&[&x], |o, p| shape_of(&ShapeOf { start, end }, o, p)).unwrap().to_i64_vec().unwrap();
        assert_eq!(of(0, None), [2, 3, 4]);
        assert_eq!(of(-2, None), [3, 4]);
        assert_eq!(of(0, Some(-1)), [2, 3]);
        assert_eq!(of(2, Some(1)), []);
        assert_eq!(of(i64::MIN, Some(i64::MAX)), [2, 3, 4]);
        assert_eq!(run(&[&x], size), Ok(Tensor::scalar(24i64)));
    }

    #[test]
    fn constants() {
        let of = |value, shape: Vec<i64>| {
            run(&[&Tensor::vector(shape)], |o, p| constant_of_shape(&ConstantOfShape { value }, o, p))
        };
        assert_eq!(of(TensorData::I8(vec![7]), vec![2, 1]), Ok(Tensor::new([2, 1], vec![7i8, 7]).unwrap()));
        assert_eq!(of(TensorData::Bool(vec![true]), vec![]), Ok(Tensor::scalar(true)));
        assert!(of(TensorData::F32(vec![]), vec![2]).is_err());
        assert!(of(TensorData::F32(vec![1.0]), vec![-1]).is_err());
        assert!(of(TensorData::F32(vec![1.0]), vec![1 << 20, 1 << 20]).is_err());
    }

    #[test]
    fn ranges() {
        let of = |v: [i64; 3]| {
            let [a, b, c] = v.map(Tensor::scalar);
            run(&[&a, &b, &c], range)
        };
        assert_eq!(of([1, 8, 3]), Ok(Tensor::vector(vec![1i64, 4, 7])));
        assert_eq!(of([5, 0, -2]), Ok(Tensor::vector(vec![5i64, 3, 1])));
        assert_eq!(of([5, 0, 2]), Ok(Tensor::vector(Vec::<i64>::new())));
        assert!(of([0, 1, 0]).is_err());
        assert!(of([i64::MIN, i64::MAX, 1]).is_err());
        let [a, b, c] = [0.0f32, 1.0, 0.3].map(Tensor::scalar);
        assert_eq!(run(&[&a, &b, &c], range), Ok(Tensor::vector(vec![0.0f32, 0.3, 0.6, 0.6 + 0.3])));
        assert!(run(&[&a, &Tensor::scalar(f32::INFINITY), &c], range).is_err());
    }
}
