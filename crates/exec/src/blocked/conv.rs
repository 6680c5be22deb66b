//! Convolutions and products by packed weights.

use super::window::plane_window;
use super::{Context, Done, Inputs, applied, give_copy, in_blocks, residual};
use crate::error::OpError;
use crate::ops::window::conv_shape;
use crate::ready::ConvKernel;
use crate::value::{Activations, Form, Value};
use quantize_ir::op::Conv;
use quantize_ir::{Op, Tensor};
use quantize_kernels::Axis;
use quantize_kernels::blocked::{self, Activation, Blocked, PackedConv, Shape};

/// Convolution; the weight has the shape given, outputs first.
///
/// # Errors
/// If the operand is missing or not `float32`, or its shape does not fit the weight.
pub(super) fn conv(
    attrs: &Conv,
    kernel: &ConvKernel,
    weight_shape: &[usize],
    activation: Activation,
    inputs: Inputs<'_, '_>,
    cx: &mut Context<'_>,
) -> Result<Done, OpError> {
    let value = inputs.required(0)?;
    conv_shape(attrs, &value.dims(), weight_shape)?;
    let narrow = matches!(kernel, ConvKernel::Dense(_));
    let x = in_blocks(value, attrs.layout, narrow, cx)?;
    let operand = x.activations();
    let window = plane_window(&attrs.window, &weight_shape[2..], &operand.shape)?;
    let lanes = cx.isa.lanes();
    let outputs = weight_shape[0];
    let shape = Shape::new(operand.shape.batch, outputs, window[0].output, window[1].output, lanes)?;
    let form = Form { rank: weight_shape.len(), layout: attrs.layout };
    let added = residual(inputs.addend, (&shape, form), cx)?;
    let (activation, finished) = applied(activation, inputs, added.is_some());
    let mut y = cx.pool.take_blocks(&shape)?;
    let addend = added.as_ref().map(|a| &*a.activations().data);
    let name = match kernel {
        ConvKernel::Dense(packed) => {
            packed.run(operand.view(), window, addend, activation, &mut y, cx.pool.block_scratch())?;
            if packed.uses_winograd(&window) { "Winograd convolution" } else { "direct convolution" }
        }
        ConvKernel::Depthwise(packed) => {
            packed.run(operand.view(), window, addend, activation, &mut y)?;
            "depthwise convolution"
        }
    };
    added.into_iter().for_each(|a| a.release(cx.pool));
    x.release(cx.pool);
    let depth: usize = weight_shape[1..].iter().product();
    let multiply_adds = (shape.batch * outputs * shape.positions()) as u64 * depth as u64;
    Ok(Done { multiply_adds, finished, ..Done::finished(Activations { shape, form, data: y }, name) })
}

/// Product with a packed matrix of `[depth, columns]`; the rows of the operand are its pixels.
///
/// # Errors
/// If the operand is missing, not `float32`, or its rows have another length.
pub(super) fn product(
    op: &Op,
    kernel: &PackedConv,
    [depth, columns]: [usize; 2],
    activation: Activation,
    inputs: Inputs<'_, '_>,
    cx: &mut Context<'_>,
) -> Result<Done, OpError> {
    let a = inputs.required(0)?.plain(cx.isa, cx.pool)?;
    let x = a.as_slice::<f32>()?;
    let (dims, rows) = product_dims(op, a.shape(), [depth, columns])?;
    let lanes = cx.isa.lanes();
    let axis = Axis { input: rows, output: rows, ..Axis::UNIT };
    let (from, to) = (Shape::new(1, depth, 1, rows, lanes)?, Shape::new(1, columns, 1, rows, lanes)?);
    let mut operand = cx.pool.take_blocks(&from)?;
    blocked::from_channels_last(cx.isa, from, x, &mut operand)?;
    let mut result = cx.pool.take_blocks(&to)?;
    let (activation, finished) = applied(activation, inputs, false);
    let view = Blocked { shape: from, data: &operand };
    kernel.run(view, [Axis::UNIT, axis], None, activation, &mut result, cx.pool.block_scratch())?;
    let mut y = cx.pool.take(rows * columns);
    blocked::to_channels_last(cx.isa, Blocked { shape: to, data: &result }, &mut y)?;
    cx.pool.give_blocks(operand);
    cx.pool.give_blocks(result);
    give_copy(a, cx.pool);
    let multiply_adds = rows as u64 * depth as u64 * columns as u64;
    Ok(Done { value: Value::Plain(Tensor::new(dims, y)?), finished, kernel: "packed product", multiply_adds })
}

/// Dimensions of the result, and the rows of the operand.
fn product_dims(op: &Op, a: &[usize], [depth, columns]: [usize; 2]) -> Result<(Vec<usize>, usize), OpError> {
    let misfit = || OpError::shape(format!("cannot multiply {a:?} by [{depth}, {columns}]"));
    let (last, outer) = a.split_last().ok_or_else(|| OpError::shape("a scalar cannot be multiplied as a matrix"))?;
    if *last != depth {
        return Err(misfit());
    }
    if matches!(op, Op::Gemm(_)) && a.len() != 2 {
        return Err(OpError::shape(format!("an operand of shape {a:?} is not a matrix")));
    }
    let dims = [outer, &[columns]].concat();
    let rows = outer.iter().try_fold(1usize, |n, d| n.checked_mul(*d)).ok_or_else(misfit)?;
    crate::ops::alloc::result_len(&dims)?;
    Ok((dims, rows))
}
