//! Operators that slide a window: convolution and pooling.
//!
//! Kernels work on channels-first data; other layouts are permuted on the way in and back on the way out.

use super::alloc;
use super::layout::permute;
use crate::error::OpError;
use crate::operands::Operands;
use crate::pool::Pool;
use quantize_ir::op::{
    AveragePool, Conv, ConvTranspose, FilterLayout, GlobalPool, Layout, LpPool, MaxPool, Padding, Window,
};
use quantize_ir::shape::{WindowAxis, resolve_window};
use quantize_ir::{Op, Tensor};
use quantize_kernels::{self as kernels, Axis, ConvGeometry, PoolGeometry};
use std::borrow::Cow;

/// Convolution.
///
/// # Errors
/// If an operand is missing or not `float32`, or the shapes do not fit each other.
pub(crate) fn conv(attrs: &Conv, operands: Operands<'_>, pool: &mut Pool) -> Result<Vec<Tensor>, OpError> {
    let x = channels_first(operands.required(0)?, attrs.layout, pool)?;
    let weight = output_first(operands.required(1)?, attrs.filter, pool)?;
    let bias = operands.optional(2);
    x.as_slice::<f32>()?;
    let (geometry, shape) = conv_geometry(attrs, x.shape(), weight.shape())?;
    let mut y = alloc::buffer::<f32>(&shape, pool)?;
    let bias = bias.map(Tensor::as_slice::<f32>).transpose()?;
    kernels::conv(&geometry, x.as_slice()?, weight.as_slice()?, bias, &mut y, pool.scratch())?;
    release([x, weight], pool);
    laid_out(Tensor::new(shape, y)?, attrs.layout, pool)
}

/// Sizes of a convolution of a channels-first activation by a weight in output-first order, and the result's shape.
///
/// # Errors
/// If the shapes do not fit each other.
pub(crate) fn conv_geometry(
    attrs: &Conv,
    x: &[usize],
    weight: &[usize],
) -> Result<(ConvGeometry, Vec<usize>), OpError> {
    let (images, channels, spatial) = activation_shape(x)?;
    let (outputs, inputs, kernel) = filter(weight, spatial.len())?;
    if inputs.checked_mul(attrs.group) != Some(channels) {
        return Err(OpError::shape(format!(
            "a weight of shape {weight:?} in {} {} does not fit {channels} input channels",
            attrs.group,
            if attrs.group == 1 { "group" } else { "groups" }
        )));
    }
    let axes = axes(&resolve_window(&attrs.window, kernel, spatial)?, spatial);
    let geometry = ConvGeometry::new(images, channels, outputs, attrs.group, &axes)?;
    Ok((geometry, shape_of(images, outputs, axes.iter().map(|a| a.output))))
}

/// Transposed convolution.
///
/// # Errors
/// If an operand is missing or not `float32`, or the shapes do not fit each other.
pub(crate) fn conv_transpose(
    attrs: &ConvTranspose,
    operands: Operands<'_>,
    pool: &mut Pool,
) -> Result<Vec<Tensor>, OpError> {
    let x = channels_first(operands.required(0)?, attrs.layout, pool)?;
    let weight = output_first(operands.required(1)?, attrs.filter, pool)?;
    let bias = operands.optional(2);
    let (images, channels, spatial) = activation(&x)?;
    let (inputs, group_outputs, kernel) = filter(weight.shape(), spatial.len())?;
    if inputs != channels {
        return Err(OpError::shape(format!(
            "a weight of shape {:?} does not fit {channels} input channels",
            weight.shape()
        )));
    }
    let outputs = group_outputs.checked_mul(attrs.group).ok_or_else(|| OpError::shape("too many output channels"))?;
    let axes = transposed_axes(attrs, kernel, spatial)?;
    let shape = shape_of(images, outputs, axes.iter().map(|a| a.input));
    let geometry = ConvGeometry::new(images, outputs, channels, attrs.group, &axes)?;
    let mut y = alloc::buffer::<f32>(&shape, pool)?;
    let bias = bias.map(Tensor::as_slice::<f32>).transpose()?;
    kernels::conv_transpose(&geometry, x.as_slice()?, weight.as_slice()?, bias, &mut y, pool.scratch())?;
    release([x, weight], pool);
    laid_out(Tensor::new(shape, y)?, attrs.layout, pool)
}

/// Maximum over windows, and with `with_indices` where each was found in the operand.
///
/// # Errors
/// If the operand is missing or not `float32`, or a window does not fit.
pub(crate) fn max_pool(
    attrs: &MaxPool,
    with_indices: bool,
    operands: Operands<'_>,
    pool: &mut Pool,
) -> Result<Vec<Tensor>, OpError> {
    if !with_indices {
        return pooled(attrs.layout, &attrs.window, &attrs.kernel, operands, pool, |g, x, y, scratch| {
            kernels::max_pool(g, x, y, scratch)
        });
    }
    if attrs.layout == Layout::ChannelsLast {
        return Err(OpError::Unsupported("max pooling with indices and channels last".into()));
    }
    let mut indices = Vec::new();
    let mut results = pooled(attrs.layout, &attrs.window, &attrs.kernel, operands, pool, |g, x, y, _| {
        indices.resize(y.len(), 0);
        kernels::max_pool_with_indices(g, x, attrs.column_major, y, &mut indices)
    })?;
    let shape = results.first().map(|y| y.shape().to_vec()).unwrap_or_default();
    results.push(Tensor::new(shape, indices)?);
    Ok(results)
}

/// Mean over windows.
///
/// # Errors
/// If the operand is missing or not `float32`, or a window does not fit.
pub(crate) fn average_pool(
    attrs: &AveragePool,
    operands: Operands<'_>,
    pool: &mut Pool,
) -> Result<Vec<Tensor>, OpError> {
    pooled(attrs.layout, &attrs.window, &attrs.kernel, operands, pool, |g, x, y, scratch| {
        kernels::average_pool(g, x, attrs.count_include_pad, y, scratch)
    })
}

/// p-norm over windows.
///
/// # Errors
/// If the operand is missing or not `float32`, or a window does not fit.
pub(crate) fn lp_pool(attrs: &LpPool, operands: Operands<'_>, pool: &mut Pool) -> Result<Vec<Tensor>, OpError> {
    pooled(attrs.layout, &attrs.window, &attrs.kernel, operands, pool, |g, x, y, scratch| {
        kernels::lp_pool(g, x, attrs.p, y, scratch)
    })
}

/// Reduction over all spatial axes, as pooling with one window over all of them.
///
/// # Errors
/// If the operand is missing or not `float32`, or a spatial axis is empty.
pub(crate) fn global_pool(attrs: GlobalPool, operands: Operands<'_>, pool: &mut Pool) -> Result<Vec<Tensor>, OpError> {
    let kernel = activation(operands.required(0)?)?.2.to_vec();
    let window =
        Window { strides: Vec::new(), dilations: Vec::new(), padding: Padding::Valid, rounding: Default::default() };
    pooled(Layout::ChannelsFirst, &window, &kernel, operands, pool, |g, x, y, scratch| match attrs {
        GlobalPool::Average => kernels::average_pool(g, x, false, y, scratch),
        GlobalPool::Max => kernels::max_pool(g, x, y, scratch),
        GlobalPool::Lp(p) => kernels::lp_pool(g, x, p, y, scratch),
    })
}

type PoolResult = Result<(), kernels::KernelError>;

/// Sizes of sums over pooling windows of a channels-first activation, as a convolution of each channel by ones; and
/// the result's shape. `None` for an operator that is no average pool.
///
/// # Errors
/// If a window does not fit.
pub(crate) fn window_sums(op: &Op, x: &[usize]) -> Result<Option<(ConvGeometry, Vec<usize>)>, OpError> {
    let (images, channels, spatial) = activation_shape(x)?;
    let whole =
        || Window { strides: Vec::new(), dilations: Vec::new(), padding: Padding::Valid, rounding: Default::default() };
    let windows = match op {
        Op::AveragePool(pool) if pool.layout == Layout::ChannelsFirst => {
            resolve_window(&pool.window, &pool.kernel, spatial)?
        }
        Op::GlobalPool(GlobalPool::Average) => resolve_window(&whole(), spatial, spatial)?,
        _ => return Ok(None),
    };
    let axes = axes(&windows, spatial);
    let geometry = ConvGeometry::new(images, channels, channels, channels, &axes)?;
    Ok(Some((geometry, shape_of(images, channels, axes.iter().map(|a| a.output)))))
}

/// What all pools share: `kernel` gets the sizes, the operand, the result to fill and scratch memory.
fn pooled(
    layout: Layout,
    window: &Window,
    kernel_size: &[usize],
    operands: Operands<'_>,
    pool: &mut Pool,
    kernel: impl FnOnce(&PoolGeometry, &[f32], &mut [f32], &mut Vec<f32>) -> PoolResult,
) -> Result<Vec<Tensor>, OpError> {
    let x = channels_first(operands.required(0)?, layout, pool)?;
    let (images, channels, spatial) = activation(&x)?;
    let axes = axes(&resolve_window(window, kernel_size, spatial)?, spatial);
    let planes = images.checked_mul(channels).ok_or_else(|| OpError::shape("too many planes"))?;
    let geometry = PoolGeometry::new(planes, &axes)?;
    let shape = shape_of(images, channels, axes.iter().map(|a| a.output));
    let mut y = alloc::buffer::<f32>(&shape, pool)?;
    kernel(&geometry, x.as_slice()?, &mut y, pool.scratch())?;
    release([x], pool);
    laid_out(Tensor::new(shape, y)?, layout, pool)
}

/// Images, channels and spatial sizes of a channels-first activation.
fn activation(x: &Tensor) -> Result<(usize, usize, &[usize]), OpError> {
    x.as_slice::<f32>()?;
    activation_shape(x.shape())
}

fn activation_shape(shape: &[usize]) -> Result<(usize, usize, &[usize]), OpError> {
    match shape {
        [images, channels, spatial @ ..] => Ok((*images, *channels, spatial)),
        shape => Err(OpError::shape(format!("an activation of shape {shape:?} has no channel axis"))),
    }
}

/// The first two sizes and the kernel of a weight in output-first order.
fn filter(weight: &[usize], spatial_rank: usize) -> Result<(usize, usize, &[usize]), OpError> {
    match weight {
        [first, second, kernel @ ..] if kernel.len() == spatial_rank => Ok((*first, *second, kernel)),
        shape => Err(OpError::shape(format!("a weight of shape {shape:?} over {spatial_rank} spatial axes"))),
    }
}

fn shape_of(images: usize, channels: usize, spatial: impl Iterator<Item = usize>) -> Vec<usize> {
    [images, channels].into_iter().chain(spatial).collect()
}

/// The axes of a window over activations of `spatial` sizes.
///
/// # Errors
/// If the window does not fit.
pub(crate) fn window_axes(window: &Window, kernel: &[usize], spatial: &[usize]) -> Result<Vec<Axis>, OpError> {
    Ok(axes(&resolve_window(window, kernel, spatial)?, spatial))
}

/// Checks that an activation of shape `x`, in its own layout, fits a weight in output-first order.
///
/// # Errors
/// If it does not.
pub(crate) fn conv_shape(attrs: &Conv, x: &[usize], weight: &[usize]) -> Result<(), OpError> {
    let mut x = x.to_vec();
    if attrs.layout == Layout::ChannelsLast && x.len() > 2 {
        x[1..].rotate_right(1);
    }
    conv_geometry(attrs, &x, weight).map(|_| ())
}

fn axes(windows: &[WindowAxis], spatial: &[usize]) -> Vec<Axis> {
    let axis = |(w, input): (&WindowAxis, &usize)| Axis {
        input: *input,
        kernel: w.kernel,
        stride: w.stride,
        dilation: w.dilation,
        pad_begin: w.pad_begin,
        pad_end: w.pad_end,
        output: w.output,
    };
    windows.iter().zip(spatial).map(axis).collect()
}

/// Axes of the convolution a transposed convolution is the adjoint of.
fn transposed_axes(attrs: &ConvTranspose, kernel: &[usize], spatial: &[usize]) -> Result<Vec<Axis>, OpError> {
    let rank = spatial.len();
    let strides = listed(&attrs.window.strides, rank, 1, "strides")?;
    let dilations = listed(&attrs.window.dilations, rank, 1, "dilations")?;
    let extra = listed(&attrs.output_padding, rank, 0, "output paddings")?;
    let (begin, end) = match &attrs.window.padding {
        Padding::Explicit { begin, end } => (listed(begin, rank, 0, "pads")?, listed(end, rank, 0, "pads")?),
        Padding::SameUpper | Padding::SameLower | Padding::Valid => (vec![0; rank], vec![0; rank]),
    };
    let sizes = &attrs.output_shape;
    if !sizes.is_empty() && sizes.len() != rank {
        return Err(OpError::shape(format!("{} output sizes for {rank} spatial axes", sizes.len())));
    }
    let axis = |i: usize| {
        let axis = Axis {
            input: 0,
            kernel: kernel[i],
            stride: strides[i],
            dilation: dilations[i],
            pad_begin: begin[i],
            pad_end: end[i],
            output: spatial[i],
        };
        transposed_axis(axis, &attrs.window.padding, extra[i], sizes.get(i).copied())
    };
    (0..rank).map(axis).collect()
}

fn listed(list: &[usize], rank: usize, default: usize, what: &str) -> Result<Vec<usize>, OpError> {
    match list.len() {
        0 => Ok(vec![default; rank]),
        n if n == rank => Ok(list.to_vec()),
        n => Err(OpError::shape(format!("{n} {what} for {rank} spatial axes"))),
    }
}

/// Settles padding and size of the result along an axis. A requested size, or `stride * input` for the "same" rules,
/// decides the padding; its odd element comes last for [`Padding::SameUpper`] and first otherwise.
fn transposed_axis(mut axis: Axis, padding: &Padding, extra: usize, requested: Option<usize>) -> Result<Axis, OpError> {
    if axis.kernel == 0 || axis.stride == 0 || axis.dilation == 0 {
        return Err(OpError::shape("kernel sizes, strides and dilations must be positive"));
    }
    let full = full_size(&axis, extra).ok_or_else(|| OpError::shape("window sizes overflow"))?;
    let same = matches!(padding, Padding::SameUpper | Padding::SameLower);
    let decided = requested.or_else(|| same.then(|| axis.output.saturating_mul(axis.stride)));
    if let Some(size) = decided {
        let total = full.saturating_sub(size);
        let small = total / 2;
        let upper = matches!(padding, Padding::SameUpper);
        (axis.pad_begin, axis.pad_end) = if upper { (small, total - small) } else { (total - small, small) };
    }
    let cut = axis.pad_begin.checked_add(axis.pad_end).and_then(|pads| full.checked_sub(pads));
    let cut = || cut.ok_or_else(|| OpError::shape(format!("pads leave nothing of an output of {full}")));
    axis.input = requested.map_or_else(cut, Ok)?;
    Ok(axis)
}

/// Size of the result before padding cuts it.
fn full_size(axis: &Axis, extra: usize) -> Option<usize> {
    let last = axis.output.checked_sub(1).map_or(Some(0), |n| n.checked_mul(axis.stride))?;
    let extent = (axis.kernel - 1).checked_mul(axis.dilation)?.checked_add(1)?;
    if axis.output == 0 { Some(0) } else { last.checked_add(extent)?.checked_add(extra) }
}

/// The operand with its channels first.
fn channels_first<'a>(x: &'a Tensor, layout: Layout, pool: &mut Pool) -> Result<Cow<'a, Tensor>, OpError> {
    if layout == Layout::ChannelsFirst || x.rank() < 3 {
        return Ok(Cow::Borrowed(x));
    }
    let perm: Vec<usize> = [0, x.rank() - 1].into_iter().chain(1..x.rank() - 1).collect();
    permute(x, x.shape(), &perm, None, pool).map(Cow::Owned)
}

/// The weight with its outputs first, or for a transposed convolution its inputs.
pub(crate) fn output_first<'a>(
    weight: &'a Tensor,
    filter: FilterLayout,
    pool: &mut Pool,
) -> Result<Cow<'a, Tensor>, OpError> {
    let rank = weight.rank();
    if filter == FilterLayout::OutputFirst || rank < 2 {
        return Ok(Cow::Borrowed(weight));
    }
    let perm: Vec<usize> = [rank - 1, rank - 2].into_iter().chain(0..rank - 2).collect();
    permute(weight, weight.shape(), &perm, None, pool).map(Cow::Owned)
}

/// A channels-first result in the layout asked for.
fn laid_out(y: Tensor, layout: Layout, pool: &mut Pool) -> Result<Vec<Tensor>, OpError> {
    if layout == Layout::ChannelsFirst || y.rank() < 3 {
        return Ok(vec![y]);
    }
    let perm: Vec<usize> = [0].into_iter().chain(2..y.rank()).chain([1]).collect();
    let result = permute(&y, y.shape(), &perm, None, pool)?;
    pool.give(y);
    Ok(vec![result])
}

/// Gives back the buffers of permuted operands.
fn release<const N: usize>(operands: [Cow<'_, Tensor>; N], pool: &mut Pool) {
    for operand in operands {
        if let Cow::Owned(tensor) = operand {
            pool.give(tensor);
        }
    }
}

#[cfg(test)]
mod tests;
