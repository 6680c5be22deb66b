//! Allocation of results: every size computed from operands passes here before memory is asked for.

use crate::error::OpError;
use crate::pool::Pool;
use quantize_ir::tensor::element_count;
use quantize_ir::{DType, Element, Tensor, TensorData};
use quantize_kernels::blocked::Shape;

/// Largest number of elements a result may have.
const MAX_ELEMENTS: usize = 1 << 31;
/// Largest rank a result may have; no operator of a network comes near it.
const MAX_RANK: usize = 64;

/// Number of elements of a result of `shape`.
///
/// # Errors
/// If it overflows or is larger than what the executor is willing to allocate.
pub(crate) fn result_len(shape: &[usize]) -> Result<usize, OpError> {
    if shape.len() > MAX_RANK {
        return Err(OpError::shape(format!("a result of rank {}, at most {MAX_RANK} are allowed", shape.len())));
    }
    // Zeros do not count: what walks along the other axes of an empty tensor must not overflow either.
    let occupied: Vec<usize> = shape.iter().copied().filter(|&d| d != 0).collect();
    match element_count(&occupied)? {
        len if len <= MAX_ELEMENTS && occupied.len() < shape.len() => Ok(0),
        len if len <= MAX_ELEMENTS => Ok(len),
        len => Err(OpError::shape(format!("a result of shape {shape:?} has {len} elements, at most 2^31 are allowed"))),
    }
}

/// As [`result_len`], also respecting the limit of the pool.
///
/// # Errors
/// If it overflows or is larger than what the executor or the pool is willing to allocate.
pub(crate) fn admitted_len(shape: &[usize], pool: &Pool) -> Result<usize, OpError> {
    let len = result_len(shape)?;
    if pool.admits(len) {
        Ok(len)
    } else {
        Err(OpError::shape(format!("a result of shape {shape:?} is too large here")))
    }
}

/// A buffer for a result of `shape` with unspecified contents; `f32` buffers come from the pool.
///
/// # Errors
/// As [`admitted_len`].
pub(crate) fn buffer<T: Element + Default>(shape: &[usize], pool: &mut Pool) -> Result<Vec<T>, OpError> {
    let len = admitted_len(shape, pool)?;
    let pooled = if T::DTYPE == DType::F32 { T::take(TensorData::F32(pool.take(len))) } else { None };
    Ok(pooled.unwrap_or_else(|| vec![T::default(); len]))
}

/// Checks that the activations of a shape, what fills up its last blocks included, may be allocated.
///
/// # Errors
/// As [`admitted_len`].
pub(crate) fn admit_blocks(shape: &Shape, pool: &Pool) -> Result<(), OpError> {
    admitted_len(&[shape.batch, shape.blocks() * shape.lanes, shape.positions()], pool).map(|_| ())
}

/// The elements of `x` copied under another shape of the same element count.
///
/// # Errors
/// If the element counts differ.
pub(crate) fn copied<T: Element + Default>(x: &[T], shape: Vec<usize>, pool: &mut Pool) -> Result<Tensor, OpError> {
    if result_len(&shape)? != x.len() {
        return Err(OpError::shape(format!("shape {shape:?} does not hold {} elements", x.len())));
    }
    let mut out = buffer(&shape, pool)?;
    out.copy_from_slice(x);
    Ok(Tensor::new(shape, out)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_refused_before_they_are_allocated() {
        assert_eq!(result_len(&[2, 3]), Ok(6));
        assert_eq!(result_len(&[1 << 31]), Ok(1 << 31));
        assert!(result_len(&[1 << 16, (1 << 15) + 1]).is_err());
        assert_eq!(result_len(&[0, 3]), Ok(0));
        assert!(result_len(&[0, 1 << 40]).is_err());
        assert!(result_len(&[1; 65]).is_err());
        assert!(buffer::<u8>(&[usize::MAX, 2], &mut Pool::default()).is_err());
    }

    #[test]
    fn a_copy_keeps_the_element_count() {
        let mut pool = Pool::default();
        assert_eq!(copied(&[1u8, 2], vec![2, 1], &mut pool), Ok(Tensor::new(vec![2, 1], vec![1u8, 2]).unwrap()));
        assert!(copied(&[1f32, 2.0], vec![3], &mut pool).is_err());
    }
}
