//! Pooling of activations in blocks.

use super::conv::plane;
use super::{Context, Done, Inputs};
use crate::error::OpError;
use crate::ops::window::window_axes;
use crate::value::Activations;
use quantize_ir::op::{AveragePool, Layout, MaxPool, Window};
use quantize_kernels::Axis;
use quantize_kernels::blocked::{self, Shape};

/// Maximum over windows.
///
/// # Errors
/// If a window does not fit.
pub(super) fn max_pool(attrs: &MaxPool, inputs: Inputs<'_, '_>, cx: &mut Context<'_>) -> Result<Option<Done>, OpError> {
    let Some((x, window)) = operand(attrs.layout, &attrs.window, &attrs.kernel, inputs)? else { return Ok(None) };
    let (shape, mut y) = result(x, &window, cx)?;
    blocked::max_pool(cx.isa, x.view(), window, &mut y)?;
    Ok(Some(Done::finished(Activations { shape, form: x.form, data: y }, "pooling of blocks")))
}

/// Mean over windows.
///
/// # Errors
/// If a window does not fit.
pub(super) fn average_pool(
    attrs: &AveragePool,
    inputs: Inputs<'_, '_>,
    cx: &mut Context<'_>,
) -> Result<Option<Done>, OpError> {
    let Some((x, window)) = operand(attrs.layout, &attrs.window, &attrs.kernel, inputs)? else { return Ok(None) };
    let (shape, mut y) = result(x, &window, cx)?;
    blocked::average_pool(cx.isa, x.view(), window, attrs.count_include_pad, &mut y)?;
    Ok(Some(Done::finished(Activations { shape, form: x.form, data: y }, "pooling of blocks")))
}

/// Mean or maximum over all pixels of channels-first activations.
///
/// # Errors
/// If sizes do not fit.
pub(super) fn global_pool(
    maximum: bool,
    inputs: Inputs<'_, '_>,
    cx: &mut Context<'_>,
) -> Result<Option<Done>, OpError> {
    let x = inputs.required(0)?.blocked();
    let suits = |x: &&Activations<f32>| x.form.layout == Layout::ChannelsFirst && x.shape.positions() > 0;
    let Some(x) = x.filter(suits) else { return Ok(None) };
    let shape = Shape { height: 1, width: 1, ..x.shape };
    let mut y = cx.pool.take_blocks(shape.len());
    if maximum {
        blocked::global_max_pool(cx.isa, x.view(), &mut y)?;
    } else {
        blocked::global_average_pool(cx.isa, x.view(), &mut y)?;
    }
    Ok(Some(Done::finished(Activations { shape, form: x.form, data: y }, "pooling of blocks")))
}

/// An operand with its windows.
type Pooled<'v> = (&'v Activations<f32>, [Axis; 2]);

/// The operand, if it is in blocks of this layout, and its windows.
fn operand<'v>(
    layout: Layout,
    window: &Window,
    kernel: &[usize],
    inputs: Inputs<'v, '_>,
) -> Result<Option<Pooled<'v>>, OpError> {
    let x = inputs.required(0)?.blocked();
    let suits = |x: &&Activations<f32>| x.form.layout == layout && (1..=2).contains(&kernel.len());
    let Some(x) = x.filter(suits).filter(|x| x.form.rank == kernel.len() + 2) else { return Ok(None) };
    let space = [x.shape.height, x.shape.width];
    let axes = window_axes(window, kernel, &space[2 - kernel.len()..])?;
    Ok(Some((x, plane(&axes))))
}

fn result(
    x: &Activations<f32>,
    window: &[Axis; 2],
    cx: &mut Context<'_>,
) -> Result<(Shape, quantize_kernels::Buffer<f32>), OpError> {
    let Shape { batch, channels, lanes, .. } = x.shape;
    let shape = Shape::new(batch, channels, window[0].output, window[1].output, lanes)?;
    Ok((shape, cx.pool.take_blocks(shape.len())))
}
