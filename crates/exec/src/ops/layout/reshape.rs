//! The same elements under another shape.

use super::resolve_axes;
use crate::error::OpError;
use crate::operands::Operands;
use crate::ops::alloc;
use crate::ops::dispatch::on_elements;
use crate::pool::Pool;
use quantize_ir::op::{Flatten, Reshape};
use quantize_ir::shape::resolve_axis;
use quantize_ir::{Tensor, TensorData};

fn copy(x: &Tensor, shape: Vec<usize>, pool: &mut Pool) -> Result<Vec<Tensor>, OpError> {
    let y = on_elements!(x.data(), v => alloc::copied(v, shape, pool))?;
    Ok(vec![y])
}

/// Passes the first operand on.
///
/// # Errors
/// If it is missing.
pub(crate) fn identity(operands: Operands<'_>, pool: &mut Pool) -> Result<Vec<Tensor>, OpError> {
    let x = operands.required(0)?;
    copy(x, x.shape().to_vec(), pool)
}

/// Gives another shape: -1 stands for what is left, 0 for the operand's own dimension unless zeros are allowed.
///
/// # Errors
/// If the element counts differ or more than one dimension is -1.
pub(crate) fn reshape(attrs: &Reshape, operands: Operands<'_>, pool: &mut Pool) -> Result<Vec<Tensor>, OpError> {
    let (x, wanted) = (operands.required(0)?, operands.required(1)?.to_i64_vec()?);
    let shape = reshaped(x.shape(), &wanted, attrs.allow_zero)?;
    copy(x, shape, pool)
}

fn reshaped(from: &[usize], wanted: &[i64], allow_zero: bool) -> Result<Vec<usize>, OpError> {
    let misfit = || OpError::shape(format!("shape {from:?} cannot become {wanted:?}"));
    let dim = |(i, &w): (usize, &i64)| match w {
        -1 => Ok(1),
        0 if !allow_zero => from.get(i).copied().ok_or_else(misfit),
        w => usize::try_from(w).map_err(|_| misfit()),
    };
    let mut shape = wanted.iter().enumerate().map(dim).collect::<Result<Vec<_>, _>>()?;
    let mut inferred = wanted.iter().enumerate().filter(|(_, w)| **w == -1).map(|(i, _)| i);
    if let Some(i) = inferred.next() {
        let (total, known) = (alloc::result_len(from)?, alloc::result_len(&shape)?);
        shape[i] = total.checked_div(known).ok_or_else(misfit)?;
    }
    let fits = inferred.next().is_none() && alloc::result_len(&shape)? == alloc::result_len(from)?;
    if fits { Ok(shape) } else { Err(misfit()) }
}

/// Joins the axes before `axis`, and those from it on.
///
/// # Errors
/// If the axis is outside the rank.
pub(crate) fn flatten(attrs: &Flatten, operands: Operands<'_>, pool: &mut Pool) -> Result<Vec<Tensor>, OpError> {
    let x = operands.required(0)?;
    let at_rank = usize::try_from(attrs.axis) == Ok(x.rank());
    let axis = if at_rank { x.rank() } else { resolve_axis(attrs.axis, x.rank())? };
    let (rows, columns) = x.shape().split_at(axis);
    copy(x, vec![alloc::result_len(rows)?, alloc::result_len(columns)?], pool)
}

/// Drops the given axes of size 1, or all of them if none are given.
///
/// # Errors
/// If a given axis is not of size 1.
pub(crate) fn squeeze(operands: Operands<'_>, pool: &mut Pool) -> Result<Vec<Tensor>, OpError> {
    let x = operands.required(0)?;
    let axes = operands.optional(1).map(Tensor::to_i64_vec).transpose()?;
    let dropped = match axes {
        Some(axes) if !axes.is_empty() => resolve_axes(&axes, x.rank())?,
        _ => (0..x.rank()).filter(|&i| x.shape()[i] == 1).collect(),
    };
    if let Some(&axis) = dropped.iter().find(|&&i| x.shape()[i] != 1) {
        return Err(OpError::shape(format!("axis {axis} of {:?} cannot be dropped", x.shape())));
    }
    let shape = (0..x.rank()).filter(|i| !dropped.contains(i)).map(|i| x.shape()[i]).collect();
    copy(x, shape, pool)
}

/// Adds axes of size 1 at the given places of the result.
///
/// # Errors
/// If a place is outside the result or comes twice.
pub(crate) fn unsqueeze(operands: Operands<'_>, pool: &mut Pool) -> Result<Vec<Tensor>, OpError> {
    let (x, axes) = (operands.required(0)?, operands.required(1)?.to_i64_vec()?);
    let mut added = resolve_axes(&axes, x.rank() + axes.len())?;
    added.sort_unstable();
    let mut shape = x.shape().to_vec();
    added.into_iter().for_each(|axis| shape.insert(axis, 1));
    copy(x, shape, pool)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{counting, run};

    #[test]
    #[allow(clippy::type_complexity)]
    fn reshape_rules() {
        let cases: [(&[usize], &[i64], bool, Option<&[usize]>); 10] = [
            (&[2, 3, 4], &[4, 6], false, Some(&[4, 6])),
            (&[2, 3, 4], &[0, -1], false, Some(&[2, 12])),
            (&[2, 3, 4], &[-1], false, Some(&[24])),
            (&[2, 3, 4], &[-1, -1], false, None),
            (&[2, 3, 4], &[5, -1], false, None),
            (&[2, 3], &[2, 3, 0], false, None),
            (&[0, 3], &[3, 0], true, Some(&[3, 0])),
            (&[0, 3], &[-1, 0], true, None),
            (&[1], &[], false, Some(&[])),
            (&[2, 3], &[-2, -3], false, None),
        ];
        for (from, wanted, allow_zero, expected) in cases {
            assert_eq!(reshaped(from, wanted, allow_zero).ok().as_deref(), expected, "{from:?} to {wanted:?}");
        }
    }

    #[test]
    fn shapes() {
        let x = counting(&[1, 2, 1, 3]);
        let flat = |axis| run(&[&x], |o, p| flatten(&Flatten { axis }, o, p)).map(|t| t.shape().to_vec());
        assert_eq!(flat(2), Ok(vec![2, 3]));
        assert_eq!(flat(0), Ok(vec![1, 6]));
        assert_eq!(flat(4), Ok(vec![6, 1]));
        assert_eq!(flat(-1), Ok(vec![2, 3]));
        assert!(flat(5).is_err());
        let squeezed = |axes: Vec<i64>| run(&[&x, &Tensor::vector(axes)], squeeze).map(|t| t.shape().to_vec());
        assert_eq!(squeezed(vec![-2]), Ok(vec![1, 2, 3]));
        assert_eq!(squeezed(vec![]), Ok(vec![2, 3]));
        assert!(squeezed(vec![1]).is_err());
        let unsqueezed = |axes: Vec<i64>| run(&[&x, &Tensor::vector(axes)], unsqueeze).map(|t| t.shape().to_vec());
        assert_eq!(unsqueezed(vec![-1, 0]), Ok(vec![1, 1, 2, 1, 3, 1]));
        assert!(unsqueezed(vec![0, 0]).is_err());
        assert_eq!(run(&[&x], identity), Ok(x.clone()));
    }
}
