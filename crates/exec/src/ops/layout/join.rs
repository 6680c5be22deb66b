//! Joining, cutting and picking along one axis.

use super::sizes;
use crate::error::OpError;
use crate::operands::Operands;
use crate::ops::alloc;
use crate::ops::dispatch::on_elements;
use crate::pool::Pool;
use quantize_ir::op::{Concat, Gather, Split};
use quantize_ir::shape::resolve_axis;
use quantize_ir::{Element, Tensor, TensorData};

/// Joins operands of one element type along an axis.
///
/// # Errors
/// If there is no operand, or element types or shapes away from the axis differ.
pub(crate) fn concat(attrs: &Concat, operands: Operands<'_>, pool: &mut Pool) -> Result<Vec<Tensor>, OpError> {
    let parts = (0..operands.len().max(1)).map(|slot| operands.required(slot)).collect::<Result<Vec<_>, _>>()?;
    let axis = resolve_axis(attrs.axis, parts[0].rank())?;
    let shape = joined_shape(&parts, axis)?;
    let y = on_elements!(parts[0].data(), v => join(v, &parts, axis, shape, pool))?;
    Ok(vec![y])
}

fn joined_shape(parts: &[&Tensor], axis: usize) -> Result<Vec<usize>, OpError> {
    let mut shape = parts[0].shape().to_vec();
    for part in &parts[1..] {
        let other = part.shape();
        let fits = other.len() == shape.len() && (0..shape.len()).all(|i| i == axis || other[i] == shape[i]);
        if !fits {
            return Err(OpError::shape(format!("shapes {shape:?} and {other:?} cannot be joined along axis {axis}")));
        }
        shape[axis] =
            shape[axis].checked_add(other[axis]).ok_or_else(|| OpError::shape("the joined axis overflows"))?;
    }
    alloc::result_len(&shape)?;
    Ok(shape)
}

fn join<T: Element + Default>(
    _: &[T],
    parts: &[&Tensor],
    axis: usize,
    shape: Vec<usize>,
    pool: &mut Pool,
) -> Result<Tensor, OpError> {
    let mut out: Vec<T> = alloc::buffer(&shape, pool)?;
    let row: usize = shape[axis..].iter().product();
    let mut start = 0;
    for part in parts {
        let (elements, len) = (part.as_slice::<T>()?, part.shape()[axis..].iter().product::<usize>());
        if len == 0 || row == 0 {
            continue;
        }
        for (to, from) in out.chunks_exact_mut(row).zip(elements.chunks_exact(len)) {
            to[start..start + len].copy_from_slice(from);
        }
        start += len;
    }
    Ok(Tensor::new(shape, out)?)
}

/// Cuts along an axis into `n_outputs` pieces: of the sizes given as operand, else equal ones, the last possibly
/// smaller.
///
/// # Errors
/// If sizes do not sum up to the axis, or are not one for each result.
pub(crate) fn split(
    attrs: &Split,
    n_outputs: usize,
    operands: Operands<'_>,
    pool: &mut Pool,
) -> Result<Vec<Tensor>, OpError> {
    let x = operands.required(0)?;
    let axis = resolve_axis(attrs.axis, x.rank())?;
    let pieces = match operands.optional(1) {
        Some(given) => sizes(&given.to_i64_vec()?, "a piece")?,
        None => equal_pieces(x.shape()[axis], n_outputs),
    };
    let total = pieces.iter().try_fold(0usize, |sum, &p| sum.checked_add(p));
    if total != Some(x.shape()[axis]) || pieces.len() != n_outputs {
        let dim = x.shape()[axis];
        return Err(OpError::shape(format!("an axis of {dim} cannot be cut into {n_outputs} pieces of {pieces:?}")));
    }
    on_elements!(x.data(), v => cut(v, x.shape(), axis, &pieces, pool))
}

fn equal_pieces(dim: usize, count: usize) -> Vec<usize> {
    let piece = dim.div_ceil(count.max(1));
    let left = dim.saturating_sub(piece.saturating_mul(count.saturating_sub(1)));
    // More pieces than elements cannot be equal; one piece too many makes the sum differ without a huge list.
    let mut pieces = vec![piece; count.saturating_sub(1).min(dim + 1)];
    pieces.push(left);
    pieces
}

fn cut<T: Element + Default>(
    x: &[T],
    shape: &[usize],
    axis: usize,
    pieces: &[usize],
    pool: &mut Pool,
) -> Result<Vec<Tensor>, OpError> {
    let inner: usize = shape[axis + 1..].iter().product();
    let row = shape[axis] * inner;
    let mut start = 0;
    let piece = |&size: &usize| {
        let mut piece_shape = shape.to_vec();
        piece_shape[axis] = size;
        let mut out = alloc::buffer(&piece_shape, pool)?;
        let (from, len) = (start, size * inner);
        start += len;
        if len > 0 {
            let rows = out.chunks_exact_mut(len).zip(x.chunks_exact(row));
            rows.for_each(|(to, row)| to.copy_from_slice(&row[from..from + len]));
        }
        Ok(Tensor::new(piece_shape, out)?)
    };
    pieces.iter().map(piece).collect()
}

/// Takes entries along an axis: the result's shape has the indices' in place of the axis.
///
/// # Errors
/// If an index lies outside the axis.
pub(crate) fn gather(attrs: &Gather, operands: Operands<'_>, pool: &mut Pool) -> Result<Vec<Tensor>, OpError> {
    let (x, indices) = (operands.required(0)?, operands.required(1)?);
    let axis = resolve_axis(attrs.axis, x.rank())?;
    let dim = x.shape()[axis];
    let entries = indices.to_i64_vec()?.into_iter().map(|i| resolve_index(i, dim)).collect::<Result<Vec<_>, _>>()?;
    let shape = [&x.shape()[..axis], indices.shape(), &x.shape()[axis + 1..]].concat();
    let y = on_elements!(x.data(), v => pick(v, x.shape(), axis, &entries, shape, pool))?;
    Ok(vec![y])
}

fn resolve_index(index: i64, dim: usize) -> Result<usize, OpError> {
    resolve_axis(index, dim).map_err(|_| OpError::shape(format!("index {index} is outside an axis of {dim}")))
}

fn pick<T: Element + Default>(
    x: &[T],
    x_shape: &[usize],
    axis: usize,
    entries: &[usize],
    shape: Vec<usize>,
    pool: &mut Pool,
) -> Result<Tensor, OpError> {
    let mut out: Vec<T> = alloc::buffer(&shape, pool)?;
    let inner: usize = x_shape[axis + 1..].iter().product();
    if !out.is_empty() {
        let rows = x.chunks_exact(x_shape[axis] * inner);
        let sources = rows.flat_map(|row| entries.iter().map(|&e| &row[e * inner..(e + 1) * inner]));
        out.chunks_exact_mut(inner).zip(sources).for_each(|(to, from)| to.copy_from_slice(from));
    }
    Ok(Tensor::new(shape, out)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{counting, run};

    #[test]
    fn concat_along_either_axis() {
        let (a, b) = (counting(&[2, 2]), counting(&[2, 1]));
        let joined = run(&[&a, &b], |o, p| concat(&Concat { axis: -1 }, o, p));
        assert_eq!(joined, Ok(Tensor::new([2, 3], vec![1f32, 2.0, 1.0, 3.0, 4.0, 2.0]).unwrap()));
        assert!(run(&[&a, &b], |o, p| concat(&Concat { axis: 0 }, o, p)).is_err());
        let flags = Tensor::vector(vec![true]);
        let two = run(&[&flags, &flags], |o, p| concat(&Concat { axis: 0 }, o, p));
        assert_eq!(two, Ok(Tensor::vector(vec![true, true])));
        assert!(run(&[&flags, &Tensor::vector(vec![1u8])], |o, p| concat(&Concat { axis: 0 }, o, p)).is_err());
    }

    #[test]
    fn split_into_sizes_or_equal_pieces() {
        let x = counting(&[2, 7]);
        let mut pool = Pool::default();
        let attrs = Split { axis: 1 };
        let equal = split(&attrs, 4, Operands(&[Some(&x)]), &mut pool).unwrap();
        let shapes: Vec<_> = equal.iter().map(|t| t.shape().to_vec()).collect();
        assert_eq!(shapes, [[2, 2], [2, 2], [2, 2], [2, 1]]);
        assert_eq!(equal[3].as_slice(), Ok(&[7f32, 14.0][..]));
        let given = Tensor::vector(vec![1i64, 0, 6]);
        let pieces = split(&attrs, 3, Operands(&[Some(&x), Some(&given)]), &mut pool).unwrap();
        assert_eq!(pieces[0].as_slice(), Ok(&[1f32, 8.0][..]));
        assert!(pieces[1].is_empty());
        assert!(split(&attrs, 2, Operands(&[Some(&x), Some(&given)]), &mut pool).is_err());
        assert!(split(&attrs, usize::MAX, Operands(&[Some(&x)]), &mut pool).is_err());
        assert!(split(&Split { axis: 0 }, 0, Operands(&[Some(&x)]), &mut pool).is_err());
    }

    #[test]
    fn gather_counts_from_either_end() {
        let x = counting(&[2, 3]);
        let indices = Tensor::new([1, 2], vec![-1i64, 0]).unwrap();
        let picked = run(&[&x, &indices], |o, p| gather(&Gather { axis: 1 }, o, p));
        assert_eq!(picked, Ok(Tensor::new([2, 1, 2], vec![3f32, 1.0, 6.0, 4.0]).unwrap()));
        let row = run(&[&x, &Tensor::scalar(1i32)], |o, p| gather(&Gather { axis: 0 }, o, p));
        assert_eq!(row, Ok(Tensor::vector(vec![4f32, 5.0, 6.0])));
        assert!(run(&[&x, &Tensor::scalar(3i64)], |o, p| gather(&Gather { axis: 1 }, o, p)).is_err());
    }
}
