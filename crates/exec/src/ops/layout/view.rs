//! Elements read in another order, or more than once.

use super::sizes;
use crate::error::OpError;
use crate::operands::Operands;
use crate::ops::alloc;
use crate::ops::dispatch::on_elements;
use crate::ops::strided::{View, broadcast_strides, dense_strides};
use crate::pool::Pool;
use quantize_ir::op::{DepthToSpace, DepthToSpaceMode, Layout, SpaceToDepth, Transpose};
use quantize_ir::shape::broadcast;
use quantize_ir::{Tensor, TensorData};

/// Permutes axes.
///
/// # Errors
/// If the permutation is not one of the operand's axes.
pub(crate) fn transpose(attrs: &Transpose, operands: Operands<'_>, pool: &mut Pool) -> Result<Vec<Tensor>, OpError> {
    let x = operands.required(0)?;
    let reversed: Vec<usize> = (0..x.rank()).rev().collect();
    let perm = if attrs.perm.is_empty() { &reversed } else { &attrs.perm };
    let mut sorted = perm.clone();
    sorted.sort_unstable();
    if !sorted.into_iter().eq(0..x.rank()) {
        return Err(OpError::shape(format!("{perm:?} is not a permutation of {} axes", x.rank())));
    }
    Ok(vec![permute(x, x.shape(), perm, None, pool)?])
}

/// Reads `x` as if it had shape `split`, with axes in the order `perm`, under `shape` if it is given.
///
/// `split` holds as many elements as `x`, and `perm` is a permutation of its axes.
pub(crate) fn permute(
    x: &Tensor,
    split: &[usize],
    perm: &[usize],
    shape: Option<Vec<usize>>,
    pool: &mut Pool,
) -> Result<Tensor, OpError> {
    let source = dense_strides(split);
    let view = View {
        shape: perm.iter().map(|&p| split[p]).collect(),
        strides: perm.iter().map(|&p| source[p]).collect(),
        offset: 0,
    };
    let shape = shape.unwrap_or_else(|| view.shape.clone());
    on_elements!(x.data(), v => view.materialize(v, shape, pool))
}

/// Broadcasts with a shape given as operand.
///
/// # Errors
/// If the shapes cannot be broadcast together.
pub(crate) fn expand(operands: Operands<'_>, pool: &mut Pool) -> Result<Vec<Tensor>, OpError> {
    let (x, wanted) = (operands.required(0)?, operands.required(1)?.to_i64_vec()?);
    let shape = broadcast(x.shape(), &sizes(&wanted, "a dimension")?)?;
    Ok(vec![expand_to(x, shape, pool)?])
}

/// Stretches `x` to `shape`.
///
/// # Errors
/// If `x` does not broadcast to `shape`.
pub(crate) fn expand_to(x: &Tensor, shape: Vec<usize>, pool: &mut Pool) -> Result<Tensor, OpError> {
    if broadcast(x.shape(), &shape)? != shape {
        return Err(OpError::shape(format!("shape {:?} does not broadcast to {shape:?}", x.shape())));
    }
    let view = View { strides: broadcast_strides(x.shape(), &shape), shape: shape.clone(), offset: 0 };
    on_elements!(x.data(), v => view.materialize(v, shape, pool))
}

/// Repeats the operand along each axis.
///
/// # Errors
/// If there is not one repeat count for each axis, or one is negative.
pub(crate) fn tile(operands: Operands<'_>, pool: &mut Pool) -> Result<Vec<Tensor>, OpError> {
    let (x, repeats) = (operands.required(0)?, sizes(&operands.required(1)?.to_i64_vec()?, "a repeat count")?);
    if repeats.len() != x.rank() {
        return Err(OpError::shape(format!("{} repeat counts for {} axes", repeats.len(), x.rank())));
    }
    let shape: Option<Vec<usize>> = x.shape().iter().zip(&repeats).map(|(d, r)| d.checked_mul(*r)).collect();
    let shape = shape.ok_or_else(|| OpError::shape("the repeated size overflows"))?;
    let view = View {
        shape: repeats.iter().zip(x.shape()).flat_map(|(&r, &d)| [r, d]).collect(),
        strides: dense_strides(x.shape()).into_iter().flat_map(|s| [0, s]).collect(),
        offset: 0,
    };
    alloc::result_len(&shape)?;
    let y = on_elements!(x.data(), v => view.materialize(v, shape, pool))?;
    Ok(vec![y])
}

/// Sizes of an image tensor.
struct Image {
    batch: usize,
    channels: usize,
    height: usize,
    width: usize,
}

impl Image {
    fn of(x: &Tensor, layout: Layout) -> Result<Self, OpError> {
        match (layout, x.shape()) {
            (Layout::ChannelsFirst, &[batch, channels, height, width])
            | (Layout::ChannelsLast, &[batch, height, width, channels]) => Ok(Self { batch, channels, height, width }),
            (_, shape) => Err(OpError::shape(format!("an image tensor of rank {}, expected 4", shape.len()))),
        }
    }

    fn shape(&self, layout: Layout) -> Vec<usize> {
        match layout {
            Layout::ChannelsFirst => vec![self.batch, self.channels, self.height, self.width],
            Layout::ChannelsLast => vec![self.batch, self.height, self.width, self.channels],
        }
    }
}

fn misfit(block: usize, x: &Tensor) -> OpError {
    OpError::shape(format!("blocks of {block} do not fit shape {:?}", x.shape()))
}

/// Moves channels into blocks of space.
///
/// # Errors
/// If the rank is not 4 or the block's area does not divide the channels.
pub(crate) fn depth_to_space(
    attrs: &DepthToSpace,
    operands: Operands<'_>,
    pool: &mut Pool,
) -> Result<Vec<Tensor>, OpError> {
    use DepthToSpaceMode::{ColumnRowDepth, DepthColumnRow};
    use Layout::{ChannelsFirst, ChannelsLast};
    let (x, b) = (operands.required(0)?, attrs.block);
    let Image { batch: n, channels, height: h, width: w } = Image::of(x, attrs.layout)?;
    let depth = match b.checked_mul(b) {
        Some(area) if area > 0 && channels % area == 0 => channels / area,
        _ => return Err(misfit(b, x)),
    };
    let (split, perm) = match (attrs.layout, attrs.mode) {
        (ChannelsFirst, DepthColumnRow) => ([n, b, b, depth, h, w], [0, 3, 4, 1, 5, 2]),
        (ChannelsFirst, ColumnRowDepth) => ([n, depth, b, b, h, w], [0, 1, 4, 2, 5, 3]),
        (ChannelsLast, DepthColumnRow) => ([n, h, w, b, b, depth], [0, 1, 3, 2, 4, 5]),
        (ChannelsLast, ColumnRowDepth) => ([n, h, w, depth, b, b], [0, 1, 4, 2, 5, 3]),
    };
    let (Some(height), Some(width)) = (h.checked_mul(b), w.checked_mul(b)) else { return Err(misfit(b, x)) };
    let shape = Image { batch: n, channels: depth, height, width }.shape(attrs.layout);
    Ok(vec![permute(x, &split, &perm, Some(shape), pool)?])
}

/// Moves blocks of space into channels, ordered (row, column, depth).
///
/// # Errors
/// If the rank is not 4 or the block does not divide height and width.
pub(crate) fn space_to_depth(
    attrs: &SpaceToDepth,
    operands: Operands<'_>,
    pool: &mut Pool,
) -> Result<Vec<Tensor>, OpError> {
    let (x, b) = (operands.required(0)?, attrs.block);
    let Image { batch: n, channels: c, height, width } = Image::of(x, attrs.layout)?;
    let (h, w) = match b {
        1.. if height % b == 0 && width % b == 0 => (height / b, width / b),
        _ => return Err(misfit(b, x)),
    };
    let (split, perm) = match attrs.layout {
        Layout::ChannelsFirst => ([n, c, h, b, w, b], [0, 3, 5, 1, 2, 4]),
        Layout::ChannelsLast => ([n, h, b, w, b, c], [0, 1, 3, 2, 4, 5]),
    };
    let channels = b.checked_mul(b).and_then(|area| area.checked_mul(c)).ok_or_else(|| misfit(b, x))?;
    let shape = Image { batch: n, channels, height: h, width: w }.shape(attrs.layout);
    Ok(vec![permute(x, &split, &perm, Some(shape), pool)?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{counting, run};

    fn values(result: Result<Tensor, OpError>) -> Vec<f32> {
        result.unwrap().into_vec().unwrap()
    }

    #[test]
    fn transpose_permutes() {
        let x = counting(&[1, 2, 3]);
        let of = |perm: &[usize]| run(&[&x], |o, p| transpose(&Transpose { perm: perm.to_vec() }, o, p));
        assert_eq!(of(&[]), Ok(Tensor::new([3, 2, 1], vec![1f32, 4.0, 2.0, 5.0, 3.0, 6.0]).unwrap()));
        assert_eq!(of(&[1, 0, 2]), Ok(counting(&[2, 1, 3])));
        assert!(of(&[0, 1]).is_err() && of(&[0, 0, 1]).is_err() && of(&[0, 1, 3]).is_err());
    }

    #[test]
    fn expand_and_tile_repeat() {
        let x = Tensor::new([2, 1], vec![1i8, 2]).unwrap();
        let y = run(&[&x, &Tensor::vector(vec![2i64, 1, 3])], expand).unwrap();
        assert_eq!(y, Tensor::new([2, 2, 3], vec![1i8, 1, 1, 2, 2, 2, 1, 1, 1, 2, 2, 2]).unwrap());
        assert!(run(&[&x, &Tensor::vector(vec![-1i64])], expand).is_err());
        let x = counting(&[1, 2]);
        let y = run(&[&x, &Tensor::vector(vec![2i64, 2])], tile);
        assert_eq!(y, Ok(Tensor::new([2, 4], vec![1f32, 2.0, 1.0, 2.0, 1.0, 2.0, 1.0, 2.0]).unwrap()));
        assert!(run(&[&x, &Tensor::vector(vec![2i64])], tile).is_err());
        assert!(run(&[&x, &Tensor::vector(vec![1i64 << 40, 1 << 40])], tile).is_err());
    }

    #[test]
    fn depth_and_space() {
        let x = counting(&[1, 8, 1, 1]);
        let of = |mode, layout, x: &Tensor| {
            values(run(&[x], |o, p| depth_to_space(&DepthToSpace { block: 2, mode, layout }, o, p)))
        };
        let depth_column_row = [1.0, 3.0, 5.0, 7.0, 2.0, 4.0, 6.0, 8.0];
        assert_eq!(of(DepthToSpaceMode::DepthColumnRow, Layout::ChannelsFirst, &x), depth_column_row);
        assert_eq!(of(DepthToSpaceMode::ColumnRowDepth, Layout::ChannelsFirst, &x), values(Ok(x.clone())));
        let last = x.clone().reshaped([1, 1, 1, 8]).unwrap();
        assert_eq!(of(DepthToSpaceMode::DepthColumnRow, Layout::ChannelsLast, &last), values(Ok(x.clone())));
        let crd_last = of(DepthToSpaceMode::ColumnRowDepth, Layout::ChannelsLast, &last);
        assert_eq!(crd_last, [1.0, 5.0, 2.0, 6.0, 3.0, 7.0, 4.0, 8.0]);
    }

    #[test]
    fn space_to_depth_undoes_depth_to_space() {
        for (layout, shape) in [(Layout::ChannelsFirst, [2, 8, 2, 3]), (Layout::ChannelsLast, [2, 2, 3, 8])] {
            let x = counting(&shape);
            let spread = DepthToSpace { block: 2, mode: DepthToSpaceMode::DepthColumnRow, layout };
            let y = run(&[&x], |o, p| depth_to_space(&spread, o, p)).unwrap();
            let back = run(&[&y], |o, p| space_to_depth(&SpaceToDepth { block: 2, layout }, o, p));
            assert_eq!(back, Ok(x), "{layout:?}");
        }
        let odd = counting(&[1, 1, 3, 2]);
        let attrs = SpaceToDepth { block: 2, layout: Layout::ChannelsFirst };
        assert!(run(&[&odd], |o, p| space_to_depth(&attrs, o, p)).is_err());
    }
}
