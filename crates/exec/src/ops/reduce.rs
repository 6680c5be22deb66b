//! Reductions over axes, and the index of the largest element.

use super::alloc;
use super::dispatch::{on_numbers, unsupported};
use super::layout::{permute, resolve_axes};
use crate::error::OpError;
use crate::operands::Operands;
use crate::pool::Pool;
use quantize_ir::op::{ArgMax, Reduce, ReduceKind};
use quantize_ir::shape::resolve_axis;
use quantize_ir::{Element, Tensor, TensorData};

/// Reduces over the axes given, or over all if none are.
///
/// Floats are summed up and multiplied in double precision, integers wrap around. Over no elements a sum or mean is 0,
/// a product 1, and maximum and minimum the ends of the type.
///
/// # Errors
/// If an axis is outside the rank or comes twice, or the elements are neither floats nor 32 or 64 bit integers.
pub(crate) fn reduce(attrs: &Reduce, operands: Operands<'_>, pool: &mut Pool) -> Result<Vec<Tensor>, OpError> {
    let x = operands.required(0)?;
    let axes = operands.optional(1).map(Tensor::to_i64_vec).transpose()?.unwrap_or_default();
    let reduced = match axes.as_slice() {
        [] if attrs.noop_with_empty_axes => vec![],
        [] => (0..x.rank()).collect(),
        axes => resolve_axes(axes, x.rank())?,
    };
    let (rows, shape) = reduced_last(x, &reduced, attrs.keep_dims, pool)?;
    let y = match rows.as_ref().unwrap_or(x).data() {
        TensorData::F32(v) => fold_rows(v, shape, pool, |row| fold_single(attrs.kind, row)),
        TensorData::F64(v) => fold_rows(v, shape, pool, |row| fold_double(attrs.kind, row)),
        TensorData::I32(v) => fold_rows(v, shape, pool, |row| fold_integer(attrs.kind, row)),
        TensorData::I64(v) => fold_rows(v, shape, pool, |row| fold_integer(attrs.kind, row)),
        data => Err(unsupported(attrs.kind.name(), data.dtype())),
    }?;
    rows.into_iter().for_each(|t| pool.give(t));
    Ok(vec![y])
}

/// The operand with reduced axes moved to the end (`None` if they are there already), and the result's shape.
fn reduced_last(
    x: &Tensor,
    reduced: &[usize],
    keep_dims: bool,
    pool: &mut Pool,
) -> Result<(Option<Tensor>, Vec<usize>), OpError> {
    let (last, mut perm): (Vec<usize>, Vec<usize>) = (0..x.rank()).partition(|i| reduced.contains(i));
    let shape = match keep_dims {
        true => x.shape().iter().enumerate().map(|(i, &d)| if reduced.contains(&i) { 1 } else { d }).collect(),
        false => perm.iter().map(|&i| x.shape()[i]).collect(),
    };
    perm.extend(last);
    let in_place = perm.is_sorted();
    let moved = if in_place { None } else { Some(permute(x, x.shape(), &perm, None, pool)?) };
    Ok((moved, shape))
}

fn fold_rows<T: Element + Default>(
    x: &[T],
    shape: Vec<usize>,
    pool: &mut Pool,
    f: impl Fn(&[T]) -> T,
) -> Result<Tensor, OpError> {
    let mut out: Vec<T> = alloc::buffer(&shape, pool)?;
    match x.len().checked_div(out.len()) {
        None => {}
        Some(0) => out.fill(f(&[])),
        Some(row) => out.iter_mut().zip(x.chunks_exact(row)).for_each(|(o, row)| *o = f(row)),
    }
    Ok(Tensor::new(shape, out)?)
}

/// Sums up in several lanes, which the compiler can keep in one register.
fn sum_by(row: &[f32], f: impl Fn(f64) -> f64) -> f64 {
    const LANES: usize = 8;
    let mut lanes = [0f64; LANES];
    let chunks = row.chunks_exact(LANES);
    let rest: f64 = chunks.remainder().iter().map(|&x| f(f64::from(x))).sum();
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(lane, &x)| *lane += f(f64::from(x)));
    }
    lanes.iter().sum::<f64>() + rest
}

fn fold_single(kind: ReduceKind, row: &[f32]) -> f32 {
    let sum = match kind {
        ReduceKind::Max => {
            return row.iter().copied().fold(f32::NEG_INFINITY, |m, x| if x > m || x.is_nan() { x } else { m });
        }
        ReduceKind::Min => {
            return row.iter().copied().fold(f32::INFINITY, |m, x| if x < m || x.is_nan() { x } else { m });
        }
        ReduceKind::Sum => sum_by(row, |x| x),
        ReduceKind::Mean => mean(sum_by(row, |x| x), row.len()),
        ReduceKind::Prod => row.iter().map(|&x| f64::from(x)).product(),
        ReduceKind::L1 => sum_by(row, f64::abs),
        ReduceKind::L2 => sum_by(row, |x| x * x).sqrt(),
        ReduceKind::SumSquare => sum_by(row, |x| x * x),
    };
    sum as f32
}

fn fold_double(kind: ReduceKind, row: &[f64]) -> f64 {
    match kind {
        ReduceKind::Max => row.iter().copied().fold(f64::NEG_INFINITY, |m, x| if x > m || x.is_nan() { x } else { m }),
        ReduceKind::Min => row.iter().copied().fold(f64::INFINITY, |m, x| if x < m || x.is_nan() { x } else { m }),
        ReduceKind::Sum => row.iter().sum(),
        ReduceKind::Mean => mean(row.iter().sum(), row.len()),
        ReduceKind::Prod => row.iter().product(),
        ReduceKind::L1 => row.iter().map(|x| x.abs()).sum(),
        ReduceKind::L2 => row.iter().map(|x| x * x).sum::<f64>().sqrt(),
        ReduceKind::SumSquare => row.iter().map(|x| x * x).sum(),
    }
}

fn mean(sum: f64, count: usize) -> f64 {
    if count == 0 { 0.0 } else { sum / count as f64 }
}

/// Integers that reductions are defined on.
trait Integer: Copy + Ord + 'static {
    const MIN: Self;
    const MAX: Self;
    fn wide(self) -> i64;
    /// The low bits of `wide`, which are the wrapped result.
    fn narrow(wide: i64) -> Self;
}

impl Integer for i32 {
    const MIN: Self = i32::MIN;
    const MAX: Self = i32::MAX;
    fn wide(self) -> i64 {
        i64::from(self)
    }
    fn narrow(wide: i64) -> Self {
        wide as i32
    }
}

impl Integer for i64 {
    const MIN: Self = i64::MIN;
    const MAX: Self = i64::MAX;
    fn wide(self) -> i64 {
        self
    }
    fn narrow(wide: i64) -> Self {
        wide
    }
}

fn fold_integer<T: Integer>(kind: ReduceKind, row: &[T]) -> T {
    let wide = || row.iter().map(|x| x.wide());
    let sum_square = || wide().fold(0i64, |sum, x| sum.wrapping_add(x.wrapping_mul(x)));
    let sum = || wide().fold(0i64, i64::wrapping_add);
    T::narrow(match kind {
        ReduceKind::Max => return row.iter().copied().max().unwrap_or(T::MIN),
        ReduceKind::Min => return row.iter().copied().min().unwrap_or(T::MAX),
        ReduceKind::Sum => sum(),
        ReduceKind::Mean => sum().checked_div(row.len() as i64).unwrap_or(0),
        ReduceKind::Prod => wide().fold(1i64, i64::wrapping_mul),
        ReduceKind::L1 => wide().fold(0i64, |sum, x| sum.wrapping_add(x.wrapping_abs())),
        ReduceKind::L2 => wide().map(|x| (x as f64).powi(2)).sum::<f64>().sqrt() as i64,
        ReduceKind::SumSquare => sum_square(),
    })
}

/// Index of the largest element along an axis, `int64`; NaN is larger than any number.
///
/// # Errors
/// If the axis is empty or outside the rank, or the elements are truth values.
pub(crate) fn arg_max(attrs: &ArgMax, operands: Operands<'_>, pool: &mut Pool) -> Result<Vec<Tensor>, OpError> {
    let x = operands.required(0)?;
    let axis = resolve_axis(attrs.axis, x.rank())?;
    let (rows, shape) = reduced_last(x, &[axis], attrs.keep_dims, pool)?;
    let data = rows.as_ref().unwrap_or(x).data();
    let indices = on_numbers!("ArgMax", data, v => arg_max_rows(v, &shape, attrs.select_last))?;
    Ok(vec![Tensor::new(shape, indices)?])
}

fn arg_max_rows<T: PartialOrd + Copy>(x: &[T], shape: &[usize], last: bool) -> Result<Vec<i64>, OpError> {
    let count = alloc::result_len(shape)?;
    match x.len().checked_div(count) {
        None => Ok(Vec::new()),
        Some(0) => Err(OpError::shape("an empty axis has no largest element")),
        Some(row) => Ok(x.chunks_exact(row).map(|row| arg_max_row(row, last) as i64).collect()),
    }
}

fn arg_max_row<T: PartialOrd + Copy>(row: &[T], last: bool) -> usize {
    let mut best = 0;
    for (i, &x) in row.iter().enumerate().skip(1) {
        let wins = match x.partial_cmp(&row[best]) {
            Some(order) => order.is_gt() || (last && order.is_eq()),
            None => is_nan(x) && (last || !is_nan(row[best])),
        };
        if wins {
            best = i;
        }
    }
    best
}

#[allow(clippy::eq_op)]
fn is_nan<T: PartialOrd + Copy>(x: T) -> bool {
    x != x
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, counting, run};

    fn of(kind: ReduceKind, x: &Tensor, axes: &[i64], keep_dims: bool) -> Result<Tensor, OpError> {
        let attrs = Reduce { kind, keep_dims, noop_with_empty_axes: false };
        run(&[x, &Tensor::vector(axes.to_vec())], |o, p| reduce(&attrs, o, p))
    }

    #[test]
    fn kinds() {
        let x = Tensor::new([2, 2], vec![1f32, -2.0, 3.0, 4.0]).unwrap();
        let cases = [
            (ReduceKind::Mean, [-0.5, 3.5]),
            (ReduceKind::Max, [1.0, 4.0]),
            (ReduceKind::Min, [-2.0, 3.0]),
            (ReduceKind::Sum, [-1.0, 7.0]),
            (ReduceKind::Prod, [-2.0, 12.0]),
            (ReduceKind::L1, [3.0, 7.0]),
            (ReduceKind::L2, [2.236068, 5.0]),
            (ReduceKind::SumSquare, [5.0, 25.0]),
        ];
        for (kind, expected) in cases {
            let y = of(kind, &x, &[-1], false).unwrap();
            assert_close(kind.name(), y.as_slice().unwrap(), &expected, 1e-6);
            let (TensorData::F32(v), TensorData::F64(e)) =
                (x.data(), TensorData::F64(expected.iter().map(|&e| f64::from(e)).collect()))
            else {
                unreachable!()
            };
            let wide = Tensor::new([2, 2], v.iter().map(|&v| f64::from(v)).collect::<Vec<_>>()).unwrap();
            let y: Vec<f64> = of(kind, &wide, &[-1], false).unwrap().into_vec().unwrap();
            assert!(y.iter().zip(&e).all(|(y, e)| (y - e).abs() < 1e-6), "{kind:?}");
            let whole = Tensor::new([2, 2], vec![1i32, -2, 3, 4]).unwrap();
            let y: Vec<i32> = of(kind, &whole, &[-1], false).unwrap().into_vec().unwrap();
            assert_eq!(y, expected.map(|e| e as i32), "{kind:?}");
        }
    }

    #[test]
    fn axes_and_shapes() {
        let x = counting(&[2, 3, 2]);
        let y = of(ReduceKind::Sum, &x, &[0, -1], true).unwrap();
        assert_eq!(y, Tensor::new([1, 3, 1], vec![18f32, 26.0, 34.0]).unwrap());
        assert_eq!(of(ReduceKind::Sum, &x, &[], false), Ok(Tensor::scalar(78f32)));
        assert_eq!(of(ReduceKind::Max, &x, &[0], false).unwrap().shape(), [3, 2]);
        assert!(of(ReduceKind::Max, &x, &[0, -3], false).is_err());
        assert!(of(ReduceKind::Max, &Tensor::vector(vec![true]), &[0], false).is_err());
    }

    #[test]
    fn without_axes_the_elements_stay_apart() {
        let x = Tensor::vector(vec![-3f32, 2.0]);
        let attrs = Reduce { kind: ReduceKind::SumSquare, keep_dims: true, noop_with_empty_axes: true };
        assert_eq!(run(&[&x], |o, p| reduce(&attrs, o, p)), Ok(Tensor::vector(vec![9f32, 4.0])));
    }

    #[test]
    fn nothing_to_reduce() {
        let x = Tensor::new([0, 2], Vec::<f32>::new()).unwrap();
        let cases = [
            (ReduceKind::Sum, 0.0),
            (ReduceKind::Mean, 0.0),
            (ReduceKind::Prod, 1.0),
            (ReduceKind::Max, f32::NEG_INFINITY),
            (ReduceKind::Min, f32::INFINITY),
        ];
        for (kind, expected) in cases {
            assert_eq!(of(kind, &x, &[0], false), Ok(Tensor::vector(vec![expected; 2])), "{kind:?}");
        }
        assert!(of(ReduceKind::Sum, &x, &[1], false).unwrap().is_empty());
    }

    #[test]
    fn long_sums_keep_their_precision() {
        let x = Tensor::vector(vec![0.1f32; 1_000_003]);
        let y: Vec<f32> = of(ReduceKind::Mean, &x, &[0], false).unwrap().into_vec().unwrap();
        assert_eq!(y, [0.1]);
    }

    #[test]
    fn largest_elements() {
        let x = Tensor::new([2, 3], vec![1f32, 5.0, 5.0, 7.0, 2.0, f32::NAN]).unwrap();
        let of =
            |axis, keep_dims, select_last| run(&[&x], |o, p| arg_max(&ArgMax { axis, keep_dims, select_last }, o, p));
        assert_eq!(of(-1, false, false), Ok(Tensor::vector(vec![1i64, 2])));
        assert_eq!(of(1, true, true), Ok(Tensor::new([2, 1], vec![2i64, 2]).unwrap()));
        assert_eq!(of(0, false, false), Ok(Tensor::vector(vec![1i64, 0, 1])));
        let none = counting(&[1, 0]);
        assert!(
            run(&[&none], |o, p| arg_max(&ArgMax { axis: 1, keep_dims: false, select_last: false }, o, p)).is_err()
        );
    }
}
