//! Local response normalization, across channels and within one.

use super::Lanes;
use crate::error::OpError;
use crate::operands::Operands;
use crate::ops::alloc;
use crate::pool::Pool;
use quantize_ir::Tensor;
use quantize_ir::op::{Lrn, LrnRegion};
use quantize_ir::shape::resolve_axis;
use quantize_kernels::{self as kernels, Axis, PoolGeometry};

/// Local response normalization of `float32` elements, channels first; what lies outside the operand counts as zero.
///
/// # Errors
/// If there is no channel axis, the size is zero, or a window within a channel is too large to slide.
pub(crate) fn lrn(attrs: &Lrn, operands: Operands<'_>, pool: &mut Pool) -> Result<Vec<Tensor>, OpError> {
    let x = operands.required(0)?;
    let elements = x.as_slice::<f32>()?;
    let channels = resolve_axis(1, x.rank())?;
    if attrs.size == 0 {
        return Err(OpError::shape("a normalization over a region of size 0"));
    }
    let mut out: Vec<f32> = alloc::buffer(x.shape(), pool)?;
    match attrs.region {
        LrnRegion::Across => across(attrs, &Lanes::new(x.shape(), channels), elements, &mut out),
        LrnRegion::Within => within(attrs, x, elements, &mut out, pool)?,
    }
    Ok(vec![Tensor::new(x.shape(), out)?])
}

fn across(attrs: &Lrn, lanes: &Lanes, x: &[f32], out: &mut [f32]) {
    let sample = (lanes.axis * lanes.inner).max(1);
    for (out, x) in out.chunks_mut(sample).zip(x.chunks(sample)) {
        for (c, out) in out.chunks_mut(lanes.inner).enumerate() {
            across_channel(attrs, lanes, x, c, out);
        }
    }
}

fn across_channel(attrs: &Lrn, lanes: &Lanes, x: &[f32], c: usize, out: &mut [f32]) {
    let first = c.saturating_sub((attrs.size - 1) / 2);
    let end = c.saturating_add(attrs.size / 2).saturating_add(1).min(lanes.axis);
    out.fill(0.0);
    for row in x[first * lanes.inner..end * lanes.inner].chunks(lanes.inner) {
        out.iter_mut().zip(row).for_each(|(sum, x)| *sum += x * x);
    }
    let row = &x[c * lanes.inner..(c + 1) * lanes.inner];
    scale(attrs, attrs.alpha / attrs.size as f32, row, out);
}

/// A mean over windows that counts its padding is the sum divided by the elements of a whole window everywhere.
fn within(attrs: &Lrn, x: &Tensor, elements: &[f32], out: &mut [f32], pool: &mut Pool) -> Result<(), OpError> {
    let axis = |&size: &usize| Axis {
        input: size,
        kernel: attrs.size,
        stride: 1,
        dilation: 1,
        pad_begin: (attrs.size - 1) / 2,
        pad_end: attrs.size / 2,
        output: size,
    };
    let axes: Vec<Axis> = x.shape()[2..].iter().map(axis).collect();
    let planes = alloc::result_len(&x.shape()[..2])?;
    let geometry = PoolGeometry::new(planes, &axes)?;
    let mut squares: Vec<f32> = alloc::buffer(x.shape(), pool)?;
    squares.iter_mut().zip(elements).for_each(|(square, x)| *square = x * x);
    kernels::average_pool(&geometry, &squares, true, out, pool.scratch())?;
    pool.give(Tensor::new(x.shape(), squares)?);
    scale(attrs, attrs.alpha, elements, out);
    Ok(())
}

/// `x / (bias + factor * sum) ^ beta`, the sums standing where the results go.
fn scale(attrs: &Lrn, factor: f32, x: &[f32], out: &mut [f32]) {
    out.iter_mut().zip(x).for_each(|(o, x)| *o = x * (attrs.bias + factor * *o).powf(-attrs.beta));
}
