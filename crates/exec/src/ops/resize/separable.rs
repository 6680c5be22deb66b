//! Interpolation as one pass over each axis that changes.

use super::axis::ResizedAxis;
use super::extrapolation;
use super::taps::{Tap, TapTable};
use crate::error::OpError;
use crate::ops::alloc;
use crate::pool::Pool;
use quantize_ir::Tensor;
use quantize_ir::op::Resize;

/// Interpolates `x` of `shape` to `out_shape`; neither is empty.
pub(super) fn interpolate(
    attrs: &Resize,
    x: &[f32],
    shape: &[usize],
    axes: &[ResizedAxis],
    out_shape: Vec<usize>,
    pool: &mut Pool,
) -> Result<Tensor, OpError> {
    let mut current = alloc::copied(x, shape.to_vec(), pool)?;
    let mut tables = Vec::new();
    // The last axis first: its pass reads element by element, and is cheaper before other axes have grown.
    for (k, axis) in axes.iter().enumerate().rev().filter(|(_, axis)| !axis.is_unchanged()) {
        let table = TapTable::new(attrs, axis);
        let next = pass(&current, k, axis.output, &table, pool)?;
        pool.give(std::mem::replace(&mut current, next));
        tables.push((k, table));
    }
    if let Some(value) = extrapolation(attrs.coordinates) {
        for (k, table) in &tables {
            overwrite_outside(current.as_mut_slice()?, &out_shape, *k, &table.outside, value);
        }
    }
    Ok(current)
}

/// Resamples axis `k` to `output` elements.
fn pass(x: &Tensor, k: usize, output: usize, table: &TapTable, pool: &mut Pool) -> Result<Tensor, OpError> {
    let mut shape = x.shape().to_vec();
    let (input, inner) = (shape[k], shape[k + 1..].iter().product::<usize>());
    shape[k] = output;
    let mut out: Vec<f32> = alloc::buffer(&shape, pool)?;
    let slabs = x.as_slice::<f32>()?.chunks_exact(input * inner);
    for (to, from) in out.chunks_exact_mut(output * inner).zip(slabs) {
        if inner == 1 {
            to.iter_mut().zip(table.outputs()).for_each(|(o, taps)| *o = weighted_sum(from, taps));
        } else {
            to.chunks_exact_mut(inner).zip(table.outputs()).for_each(|(row, taps)| blend_rows(from, taps, row));
        }
    }
    Ok(Tensor::new(shape, out)?)
}

fn weighted_sum(from: &[f32], taps: &[Tap]) -> f32 {
    taps.iter().map(|t| t.weight * from[t.index]).sum()
}

fn blend_rows(from: &[f32], taps: &[Tap], row: &mut [f32]) {
    row.fill(0.0);
    for tap in taps {
        let source = &from[tap.index * row.len()..][..row.len()];
        row.iter_mut().zip(source).for_each(|(o, x)| *o += tap.weight * x);
    }
}

fn overwrite_outside(out: &mut [f32], shape: &[usize], k: usize, outside: &[bool], value: f32) {
    let inner: usize = shape[k + 1..].iter().product();
    for slab in out.chunks_exact_mut(shape[k] * inner) {
        let rows = slab.chunks_exact_mut(inner).zip(outside);
        rows.filter(|(_, outside)| **outside).for_each(|(row, _)| row.fill(value));
    }
}
