//! Pooling of activations in blocks.

use super::{Context, Done, Inputs};
use crate::error::OpError;
use crate::ops::window::window_axes;
use crate::value::Activations;
use quantize_ir::op::{AveragePool, Layout, MaxPool, Window};
use quantize_kernels::blocked::{self, Shape};
use quantize_kernels::{Axis, Number};

/// Maximum over windows.
///
/// # Errors
/// If a window does not fit.
pub(super) fn max_pool(attrs: &MaxPool, inputs: Inputs<'_, '_>, cx: &mut Context<'_>) -> Result<Option<Done>, OpError> {
    let Some(x) = inputs.required(0)?.blocked() else { return Ok(None) };
    let Some((shape, window)) = pooled(attrs.layout, &attrs.window, &attrs.kernel, x)? else { return Ok(None) };
    let mut y = cx.pool.take_blocks(&shape)?;
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
    let Some(x) = inputs.required(0)?.blocked() else { return Ok(None) };
    let Some((shape, window)) = pooled(attrs.layout, &attrs.window, &attrs.kernel, x)? else { return Ok(None) };
    let mut y = cx.pool.take_blocks(&shape)?;
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
    let mut y = cx.pool.take_blocks(&shape)?;
    if maximum {
        blocked::global_max_pool(cx.isa, x.view(), &mut y)?;
    } else {
        blocked::global_average_pool(cx.isa, x.view(), &mut y)?;
    }
    Ok(Some(Done::finished(Activations { shape, form: x.form, data: y }, "pooling of blocks")))
}

/// Shape of the result and windows of a pool over `x`, if it is one over the axes and in the layout of `x`.
///
/// # Errors
/// If a window does not fit.
pub(crate) fn pooled<T: Number>(
    layout: Layout,
    window: &Window,
    kernel: &[usize],
    x: &Activations<T>,
) -> Result<Option<(Shape, [Axis; 2])>, OpError> {
    if x.form.layout != layout || !(1..=2).contains(&kernel.len()) || x.form.rank != kernel.len() + 2 {
        return Ok(None);
    }
    let window = plane_window(window, kernel, &x.shape)?;
    let Shape { batch, channels, lanes, .. } = x.shape;
    Ok(Some((Shape::new(batch, channels, window[0].output, window[1].output, lanes)?, window)))
}

/// A window over one or two axes as one over rows and pixels.
///
/// # Errors
/// If it does not fit activations of this shape.
pub(crate) fn plane_window(window: &Window, kernel: &[usize], x: &Shape) -> Result<[Axis; 2], OpError> {
    let space = [x.height, x.width];
    let axes = window_axes(window, kernel, &space[2 - kernel.len().min(2)..])?;
    Ok(match axes[..] {
        [v, h] => [v, h],
        [h] => [Axis::UNIT, h],
        _ => [Axis::UNIT; 2],
    })
}
