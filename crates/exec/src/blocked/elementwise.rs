//! Functions of single elements of activations in blocks.

use super::{Context, Done, Inputs};
use crate::error::OpError;
use crate::ready::ChannelAffine;
use crate::value::{Activations, Value};
use quantize_ir::op::{Binary, Layout};
use quantize_ir::{DType, Tensor};
use quantize_kernels::Buffer;
use quantize_kernels::blocked::{self, Activation, Arithmetic, Shape};

/// How this is called in reports.
const KERNEL: &str = "elements of blocks";

/// A function of each element.
///
/// # Errors
/// If the operand is missing.
pub(super) fn activation(
    activation: Activation,
    inputs: Inputs<'_, '_>,
    cx: &mut Context<'_>,
) -> Result<Option<Done>, OpError> {
    match inputs.required(0)? {
        Value::Blocked(x) => {
            let mut y = copy(x, cx)?;
            blocked::activate(cx.isa, activation, &mut y.data);
            Ok(Some(Done::finished(y, KERNEL)))
        }
        Value::Shared(x) => on_tensor(activation, x, cx),
        Value::Plain(x) => on_tensor(activation, x, cx),
        Value::Codes(_) => Ok(None),
    }
}

fn copy(x: &Activations<f32>, cx: &mut Context<'_>) -> Result<Activations<f32>, OpError> {
    let mut data = cx.pool.take_blocks(&x.shape)?;
    data.copy_from_slice(&x.data);
    Ok(Activations { shape: x.shape, form: x.form, data })
}

fn on_tensor(activation: Activation, x: &Tensor, cx: &mut Context<'_>) -> Result<Option<Done>, OpError> {
    if x.dtype() != DType::F32 {
        return Ok(None);
    }
    let x_elements = x.as_slice::<f32>()?;
    let mut y = cx.pool.take(x_elements.len());
    y.copy_from_slice(x_elements);
    blocked::activate(cx.isa, activation, &mut y);
    let value = Value::Plain(Tensor::new(x.shape(), y)?);
    Ok(Some(Done { value, finished: true, kernel: "elements", multiply_adds: 0 }))
}

/// `activation(x * scale + shift)` for each channel.
///
/// # Errors
/// If the operand is missing or has other channels.
pub(super) fn affine(
    affine: &ChannelAffine,
    activation: Activation,
    inputs: Inputs<'_, '_>,
    cx: &mut Context<'_>,
) -> Result<Option<Done>, OpError> {
    let x = inputs.required(0)?.blocked().filter(|x| x.form.layout == Layout::ChannelsFirst || x.form.rank == 2);
    let Some(x) = x.filter(|x| x.shape.channels == affine.channels && x.shape.lanes == cx.isa.lanes()) else {
        return Ok(None);
    };
    let mut y = cx.pool.take_blocks(&x.shape)?;
    blocked::affine_channels(cx.isa, x.view(), &affine.scale, &affine.shift, activation, &mut y)?;
    Ok(Some(Done::finished(Activations { shape: x.shape, form: x.form, data: y }, KERNEL)))
}

/// Arithmetic of two operands of which at least one is in blocks; the other is like it, has one element for each
/// channel, or only one.
///
/// # Errors
/// If an operand is missing.
pub(super) fn binary(
    f: Binary,
    activation: Activation,
    inputs: Inputs<'_, '_>,
    cx: &mut Context<'_>,
) -> Result<Option<Done>, OpError> {
    let op = match f {
        Binary::Add => Arithmetic::Add,
        Binary::Sub => Arithmetic::Sub,
        Binary::Mul => Arithmetic::Mul,
        Binary::Div => Arithmetic::Div,
        _ => return Ok(None),
    };
    let (a, b) = (inputs.required(0)?, inputs.required(1)?);
    if let (Some(x), Some(y)) = (a.blocked(), b.blocked())
        && x.shape == y.shape
        && x.form == y.form
    {
        let mut out = cx.pool.take_blocks(&x.shape)?;
        blocked::combine(cx.isa, op, &x.data, &y.data, activation, &mut out)?;
        return Ok(Some(Done::finished(Activations { shape: x.shape, form: x.form, data: out }, KERNEL)));
    }
    match (spread(a, b, cx)?, spread(b, a, cx)?) {
        (Some((x, operand)), _) => combine_spread(op, x, &operand, false, activation, cx).map(Some),
        (None, Some((x, operand))) => combine_spread(op, x, &operand, true, activation, cx).map(Some),
        (None, None) => Ok(None),
    }
}

/// An operand that meets every pixel alike.
enum Spread {
    Scalar(f32),
    /// One pixel, for one image or for each.
    Pixel(Buffer<f32>),
}

fn combine_spread(
    op: Arithmetic,
    x: &Activations<f32>,
    operand: &Spread,
    reversed: bool,
    activation: Activation,
    cx: &mut Context<'_>,
) -> Result<Done, OpError> {
    let mut y = cx.pool.take_blocks(&x.shape)?;
    match operand {
        Spread::Scalar(scalar) => {
            blocked::combine_scalar(cx.isa, op, &x.data, *scalar, reversed, activation, &mut y)?;
        }
        Spread::Pixel(pixel) => {
            blocked::combine_channels(cx.isa, op, x.view(), pixel, reversed, activation, &mut y)?;
        }
    }
    Ok(Done::finished(Activations { shape: x.shape, form: x.form, data: y }, KERNEL))
}

/// `x` in blocks, and `other` if it is spread over all pixels of `x`.
fn spread<'v>(
    x: &'v Value<'_>,
    other: &Value<'_>,
    cx: &mut Context<'_>,
) -> Result<Option<(&'v Activations<f32>, Spread)>, OpError> {
    let Some(x) = x.blocked() else { return Ok(None) };
    let found = match other {
        Value::Blocked(pixel) => {
            let one = pixel.shape.positions() == 1 && pixel.form == x.form;
            let like = |s: &Shape| (s.channels, s.lanes) == (x.shape.channels, x.shape.lanes);
            let fits = one && like(&pixel.shape) && [1, x.shape.batch].contains(&pixel.shape.batch);
            fits.then(|| Spread::Pixel(pixel.data.clone()))
        }
        Value::Shared(tensor) => spread_tensor(x, tensor, cx)?,
        Value::Plain(tensor) => spread_tensor(x, tensor, cx)?,
        Value::Codes(_) => None,
    };
    Ok(found.map(|operand| (x, operand)))
}

fn spread_tensor(x: &Activations<f32>, tensor: &Tensor, cx: &mut Context<'_>) -> Result<Option<Spread>, OpError> {
    if tensor.dtype() != DType::F32 || tensor.rank() > x.form.rank {
        return Ok(None);
    }
    let values = tensor.as_slice::<f32>()?;
    if let [value] = values {
        return Ok(Some(Spread::Scalar(*value)));
    }
    // Aligned at the last axis: all axes are 1 but the channels' one.
    let mut expected = vec![1; x.form.rank];
    expected[if x.form.layout == Layout::ChannelsFirst { 1 } else { x.form.rank - 1 }] = x.shape.channels;
    let missing = x.form.rank - tensor.rank();
    if expected[..missing].iter().any(|d| *d != 1) || expected[missing..] != *tensor.shape() {
        return Ok(None);
    }
    let shape = Shape { batch: 1, height: 1, width: 1, ..x.shape };
    let mut pixel = cx.pool.take_blocks(&shape)?;
    blocked::to_blocked(cx.isa, shape, values, &mut pixel)?;
    Ok(Some(Spread::Pixel(pixel)))
}
