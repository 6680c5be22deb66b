//! Elements chosen by a condition: limits, a slope below zero, a truth value.

use super::binary::{Arithmetic, Pair};
use crate::error::OpError;
use crate::operands::Operands;
use crate::ops::alloc;
use crate::ops::dispatch::{on_elements, on_numbers};
use crate::ops::strided::{Loops, broadcast_strides};
use crate::pool::Pool;
use quantize_ir::shape::broadcast;
use quantize_ir::{Element, Tensor, TensorData};

/// Limits elements to `[min, max]`, either of which may be left out; where they cross, `max` wins.
///
/// # Errors
/// If a limit is not one element of the operand's type.
pub(crate) fn clip(operands: Operands<'_>, pool: &mut Pool) -> Result<Vec<Tensor>, OpError> {
    let x = operands.required(0)?;
    let y = on_numbers!("Clip", x.data(), v => clip_elements(v, x, operands, pool))?;
    Ok(vec![y])
}

fn clip_elements<T: Element + Default + PartialOrd>(
    x: &[T],
    tensor: &Tensor,
    operands: Operands<'_>,
    pool: &mut Pool,
) -> Result<Tensor, OpError> {
    let (min, max) = (limit::<T>(operands, 1)?, limit::<T>(operands, 2)?);
    let mut out = alloc::buffer(tensor.shape(), pool)?;
    let at_least = |x: T, min: T| if x < min { min } else { x };
    let at_most = |x: T, max: T| if x > max { max } else { x };
    let pairs = out.iter_mut().zip(x);
    match (min, max) {
        (Some(min), Some(max)) => pairs.for_each(|(o, &x)| *o = at_most(at_least(x, min), max)),
        (Some(min), None) => pairs.for_each(|(o, &x)| *o = at_least(x, min)),
        (None, Some(max)) => pairs.for_each(|(o, &x)| *o = at_most(x, max)),
        (None, None) => out.copy_from_slice(x),
    }
    Ok(Tensor::new(tensor.shape(), out)?)
}

fn limit<T: Element>(operands: Operands<'_>, slot: usize) -> Result<Option<T>, OpError> {
    let Some(tensor) = operands.optional(slot) else { return Ok(None) };
    match tensor.as_slice()? {
        [value] => Ok(Some(*value)),
        values => Err(OpError::shape(format!("a limit of {} elements, expected one", values.len()))),
    }
}

/// `x < 0 ? slope * x : x`, the slope broadcast to `x`.
///
/// # Errors
/// If the slope does not broadcast to `x` or has another element type.
pub(crate) fn prelu(operands: Operands<'_>, pool: &mut Pool) -> Result<Vec<Tensor>, OpError> {
    let (x, slope) = (operands.required(0)?, operands.required(1)?);
    let pair = Pair::new(x, slope)?;
    if pair.shape != x.shape() {
        return Err(OpError::shape(format!("slope {:?} does not broadcast to {:?}", slope.shape(), x.shape())));
    }
    let y = on_numbers!("PRelu", x.data(), v => prelu_elements(v, slope, pair, pool))?;
    Ok(vec![y])
}

fn prelu_elements<T: Arithmetic + PartialOrd>(
    x: &[T],
    slope: &Tensor,
    pair: Pair,
    pool: &mut Pool,
) -> Result<Tensor, OpError> {
    pair.apply(x, slope.as_slice()?, pool, |x: T, slope: T| if x < T::default() { slope.times(x) } else { x })
}

/// Elements of `a` where the condition holds, else of `b`; all three broadcast.
///
/// # Errors
/// If shapes cannot be broadcast, the condition is not of truth values, or `a` and `b` differ in type.
pub(crate) fn select(operands: Operands<'_>, pool: &mut Pool) -> Result<Vec<Tensor>, OpError> {
    let (condition, a, b) = (operands.required(0)?, operands.required(1)?, operands.required(2)?);
    let shape = broadcast(&broadcast(condition.shape(), a.shape())?, b.shape())?;
    let y = on_elements!(a.data(), v => select_elements(condition, v, (a, b), shape, pool))?;
    Ok(vec![y])
}

fn select_elements<T: Element + Default>(
    condition: &Tensor,
    a: &[T],
    branches: (&Tensor, &Tensor),
    shape: Vec<usize>,
    pool: &mut Pool,
) -> Result<Tensor, OpError> {
    let (condition_elements, b) = (condition.as_slice::<bool>()?, branches.1.as_slice::<T>()?);
    let mut out: Vec<T> = alloc::buffer(&shape, pool)?;
    let strides = [condition, branches.0, branches.1].map(|t| broadcast_strides(t.shape(), &shape));
    let loops = Loops::new(&shape, [&strides[0], &strides[1], &strides[2]]);
    let mut runs = out.chunks_exact_mut(loops.run().max(1));
    let steps = loops.run_strides().map(|s| s as usize);
    loops.for_each_run([0; 3], |start| {
        let start = start.map(|s| s as usize);
        for (i, o) in runs.next().into_iter().flatten().enumerate() {
            let at = |k: usize| start[k] + i * steps[k];
            *o = if condition_elements[at(0)] { a[at(1)] } else { b[at(2)] };
        }
    });
    Ok(Tensor::new(shape, out)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::run;

    #[test]
    fn clip_limits() {
        let x = Tensor::vector(vec![-1f32, 0.5, 9.0]);
        let (lo, hi) = (Tensor::scalar(0f32), Tensor::scalar(6f32));
        let of = |slots: &[Option<&Tensor>]| {
            clip(Operands(slots), &mut Pool::default()).unwrap().remove(0).into_vec::<f32>().unwrap()
        };
        assert_eq!(of(&[Some(&x), Some(&lo), Some(&hi)]), [0.0, 0.5, 6.0]);
        assert_eq!(of(&[Some(&x), None, Some(&hi)]), [-1.0, 0.5, 6.0]);
        assert_eq!(of(&[Some(&x), Some(&lo)]), [0.0, 0.5, 9.0]);
        assert_eq!(of(&[Some(&x)]), [-1.0, 0.5, 9.0]);
        assert_eq!(of(&[Some(&x), Some(&hi), Some(&lo)]), [0.0, 0.0, 0.0]);
        assert!(run(&[&x, &Tensor::scalar(0i32)], clip).is_err());
        assert!(run(&[&x, &Tensor::vector(vec![0f32, 1.0])], clip).is_err());
    }

    #[test]
    fn prelu_per_channel() {
        let x = Tensor::new([1, 2, 2], vec![-1f32, 2.0, -3.0, 4.0]).unwrap();
        let slope = Tensor::new([2, 1], vec![0.5f32, 0.1]).unwrap();
        let expected = Tensor::new([1, 2, 2], vec![-0.5f32, 2.0, -0.3, 4.0]).unwrap();
        assert_eq!(run(&[&x, &slope], prelu).unwrap().shape(), expected.shape());
        crate::ops::testing::assert_close(
            "PRelu",
            run(&[&x, &slope], prelu).unwrap().as_slice().unwrap(),
            expected.as_slice().unwrap(),
            1e-6,
        );
        assert!(run(&[&slope, &x], prelu).is_err());
    }

    #[test]
    fn select_broadcasts_three_ways() {
        let condition = Tensor::new([2, 1], vec![true, false]).unwrap();
        let (a, b) = (Tensor::vector(vec![1i16, 2, 3]), Tensor::scalar(0i16));
        let expected = Tensor::new([2, 3], vec![1i16, 2, 3, 0, 0, 0]).unwrap();
        assert_eq!(run(&[&condition, &a, &b], select), Ok(expected));
        assert!(run(&[&a, &a, &b], select).is_err());
        assert!(run(&[&condition, &a, &Tensor::scalar(0i32)], select).is_err());
    }
}
