//! What is known of the shapes of results. The batch is never known: Caffe reshapes to any.

use super::builder::{Fault, LayerBuilder, describe};
use crate::weights::MAX_AXES;
use quantize_ir::shape::resolve_axis;
use quantize_ir::{Dim, Shape, ValueId};

/// A known dimension.
pub(crate) fn known(n: usize) -> Dim {
    Dim::Known(n as u64)
}

/// The size of a dimension, if it is known.
pub(crate) fn size(dim: &Dim) -> Option<usize> {
    dim.known().and_then(|n| usize::try_from(n).ok())
}

/// The axis with negative ones counted from the end.
pub(crate) fn axis(axis: i64, shape: &[Dim]) -> Result<usize, Fault> {
    resolve_axis(axis, shape.len())
        .map_err(|_| Fault::invalid(format!("axis {axis} is outside of the shape {} it reads", describe(shape))))
}

/// The dimension along an axis.
pub(crate) fn dim(shape: &[Dim], axis: usize) -> Dim {
    shape.get(axis).cloned().unwrap_or(Dim::Unknown)
}

/// The product of dimensions, if all are known.
pub(crate) fn product(dims: &[Dim]) -> Option<usize> {
    dims.iter().try_fold(1usize, |n, dim| n.checked_mul(size(dim)?))
}

/// Whether two dimensions can be equal.
fn agree(a: &Dim, b: &Dim) -> bool {
    a.known().zip(b.known()).is_none_or(|(a, b)| a == b)
}

/// The shape of which each of the values is, as far as known.
///
/// # Errors
/// If two are known to differ; the error names both.
pub(crate) fn common(layer: &LayerBuilder<'_>, values: &[ValueId]) -> Result<Option<Shape>, Fault> {
    let mut common: Option<(usize, Shape)> = None;
    for (slot, value) in values.iter().enumerate() {
        let Some(shape) = layer.shape(*value) else { return Ok(None) };
        let Some((first, merged)) = &mut common else {
            common = Some((slot, shape));
            continue;
        };
        if merged.len() != shape.len() || !merged.iter().zip(&shape).all(|(a, b)| agree(a, b)) {
            return Err(differ(layer, *first, slot));
        }
        for (known, dim) in merged.iter_mut().zip(shape).filter(|(known, _)| known.known().is_none()) {
            *known = dim;
        }
    }
    Ok(common.map(|(_, shape)| shape))
}

/// The error that two blobs a layer reads do not fit together.
pub(crate) fn differ(layer: &LayerBuilder<'_>, first: usize, second: usize) -> Fault {
    Fault::invalid(format!("{} and {} do not fit together", layer.describe(first), layer.describe(second)))
}

/// The shape of values joined along `at`.
///
/// # Errors
/// If two are known to differ along another axis.
pub(crate) fn joined(layer: &LayerBuilder<'_>, values: &[ValueId], at: i64) -> Result<Option<Shape>, Fault> {
    let mut joined: Option<(Shape, usize)> = None;
    for (slot, value) in values.iter().enumerate() {
        let Some(shape) = layer.shape(*value) else { return Ok(None) };
        let Some((so_far, at)) = &mut joined else {
            let at = axis(at, &shape)?;
            joined = Some((shape, at));
            continue;
        };
        let beside = |(i, (a, b)): (usize, (&Dim, &Dim))| i == *at || agree(a, b);
        if so_far.len() != shape.len() || !so_far.iter().zip(&shape).enumerate().all(beside) {
            return Err(differ(layer, 0, slot));
        }
        for (i, (known, dim)) in so_far.iter_mut().zip(shape).enumerate() {
            match (i == *at, known.known(), dim.known()) {
                (true, Some(a), Some(b)) => *known = a.checked_add(b).map_or(Dim::Unknown, Dim::Known),
                (true, ..) => *known = Dim::Unknown,
                (false, None, Some(_)) => *known = dim,
                (false, ..) => {}
            }
        }
    }
    Ok(joined.map(|(shape, _)| shape))
}

/// The shape `x` has after a reshape to `target`, where 0 copies an axis and -1 stands for what is left.
///
/// # Errors
/// If the numbers of elements are known to differ, more than one axis is left, or there are too many axes.
pub(crate) fn reshaped(x: &[Dim], target: &[i64]) -> Result<Shape, Fault> {
    if target.len() > MAX_AXES {
        return Err(Fault::invalid(format!("a reshape to {} axes, a blob has {MAX_AXES} at most", target.len())));
    }
    let copied = |i: usize| target.get(i) == Some(&0);
    if target.iter().filter(|n| **n == -1).count() > 1 || target.iter().any(|n| *n < -1) {
        return Err(Fault::invalid(format!("{target:?} is not a shape")));
    }
    let elements: Vec<Dim> = x.iter().enumerate().filter(|(i, _)| !copied(*i)).map(|(_, dim)| dim.clone()).collect();
    let wanted: Vec<Dim> = target.iter().filter(|n| **n > 0).map(|n| Dim::Known(n.unsigned_abs())).collect();
    let open = target.contains(&-1);
    let mismatch = || Fault::invalid(format!("a reshape of {} to {target:?} is not possible", describe(x)));
    let left = match (product(&elements), product(&wanted)) {
        (Some(elements), Some(wanted)) if open && (wanted == 0 || elements % wanted != 0) => return Err(mismatch()),
        (Some(elements), Some(wanted)) if !open && elements != wanted => return Err(mismatch()),
        (Some(elements), Some(wanted)) if open => known(elements / wanted),
        _ => Dim::Unknown,
    };
    let axis = |(i, n): (usize, &i64)| match n {
        0 => x.get(i).cloned().ok_or_else(mismatch),
        -1 => Ok(left.clone()),
        n => Ok(Dim::Known(n.unsigned_abs())),
    };
    target.iter().enumerate().map(axis).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(dims: &[i64]) -> Shape {
        dims.iter().map(|n| u64::try_from(*n).map_or(Dim::Unknown, Dim::Known)).collect()
    }

    #[test]
    fn reshapes_keep_the_number_of_elements() {
        type Case = (&'static [i64], &'static [i64], Option<&'static [i64]>);
        let cases: [Case; 9] = [
            (&[-1, 4, 6], &[0, -1], Some(&[-1, 24])),
            (&[-1, 4, 6], &[0, 2, 12], Some(&[-1, 2, 12])),
            (&[-1, 4, 6], &[-1, 6], Some(&[-1, 6])),
            (&[-1, 4, 6], &[0, 0, 2, -1], Some(&[-1, 4, 2, 3])),
            (&[-1, 4, 6], &[1, 24], Some(&[1, 24])),
            (&[-1, 4, 6], &[0, 5, -1], None),
            (&[-1, 4, 6], &[0, 5, 5], None),
            (&[-1, 4, 6], &[0, -1, -1], None),
            (&[-1, 4], &[0, 4, 0], None),
        ];
        for (x, target, expected) in cases {
            assert_eq!(reshaped(&shape(x), target).ok(), expected.map(shape), "{x:?} {target:?}");
        }
    }
}
