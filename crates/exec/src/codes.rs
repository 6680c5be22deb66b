//! Evaluation of steps on codes: the integer arithmetic of a plan, where operands are codes and the result is planned.
//!
//! What lives here: which kernel runs for which operands. What does not: steps that compute on reals (`blocked`, `ops`),
//! between which and codes values are converted where they meet.

use crate::blocked::{Context, Done, Inputs, joined, plane_window, pooled, residual};
use crate::error::OpError;
use crate::grid::{CodeGrid, EVERYTHING};
use crate::ops::window::conv_shape;
use crate::program::Step;
use crate::ready::{CodesKernel, CodesReady, CodesResult, Ready};
use crate::value::{Activations, Codes, Form, Value};
use quantize_ir::Op;
use quantize_ir::op::{AveragePool, Binary, GlobalPool, Layout, MaxPool};
use quantize_kernels::Axis;
use quantize_kernels::blocked::{Activation, Shape, activate, concat_channels};
use quantize_kernels::codes::{self, Addition, Mean, Output};

/// Evaluates a step on codes, with a result on `grid` if the plan rounds it; `None` if that is not the way for these
/// operands.
///
/// # Errors
/// If the operands do not fit the operator.
pub(crate) fn evaluate(
    step: &Step,
    inputs: Inputs<'_, '_>,
    grid: Option<CodeGrid>,
    cx: &mut Context<'_>,
) -> Result<Option<Done>, OpError> {
    let Some(Value::Codes(x)) = inputs.optional(0) else { return Ok(None) };
    // Narrow blocks are the network's input, which only a dense convolution reads as it is.
    let whole = x.activations.shape.lanes == cx.isa.lanes();
    if step.outputs.len() != 1 || !(whole || step.ready.is_some()) {
        return Ok(None);
    }
    match (step.ready.as_deref(), &step.op, grid) {
        (Some(Ready::Codes(ready)), op, _) => product(op, ready, x, (step.activation, inputs), cx).map(Some),
        _ if inputs.addend.is_some() => Ok(None),
        (_, Op::Binary(Binary::Add), Some(grid)) => add(step.activation, x, inputs, grid, cx),
        (_, Op::MaxPool(attrs), Some(grid)) if grid == x.grid => max_pool(attrs, x, cx),
        (_, Op::AveragePool(attrs), Some(grid)) => average_pool(attrs, x, grid, cx),
        (_, Op::GlobalPool(GlobalPool::Average), Some(grid)) => global_average(x, grid, cx),
        (_, Op::Concat(attrs), Some(grid)) => concat(attrs.axis, inputs, grid, cx),
        _ => Ok(None),
    }
}

fn done(shape: Shape, form: Form, grid: CodeGrid, data: quantize_kernels::Buffer<u8>, kernel: &'static str) -> Done {
    let value = Value::Codes(Codes { activations: Activations { shape, form, data }, grid });
    Done { value, finished: true, kernel, multiply_adds: 0 }
}

/// Convolution, or the product of a matrix whose rows are images of one pixel.
fn product(
    op: &Op,
    ready: &CodesReady,
    x: &Codes,
    (activation, inputs): (Activation, Inputs<'_, '_>),
    cx: &mut Context<'_>,
) -> Result<Done, OpError> {
    let (x_shape, weight) = (x.activations.shape, &ready.weight_shape);
    let (window, form) = match op {
        Op::Conv(attrs) => {
            conv_shape(attrs, &x.activations.dims(), weight)?;
            (plane_window(&attrs.window, &weight[2..], &x_shape)?, Form { rank: weight.len(), layout: attrs.layout })
        }
        _ => ([Axis::UNIT; 2], x.activations.form),
    };
    if form.layout != x.activations.form.layout || form.rank != x.activations.form.rank {
        return Err(OpError::shape("codes are not laid out as the operator reads them"));
    }
    let shape = Shape::new(x_shape.batch, weight[0], window[0].output, window[1].output, cx.isa.lanes())?;
    let depth: usize = weight[1..].iter().product();
    let multiply_adds = (shape.batch * shape.channels * shape.positions()) as u64 * depth as u64;
    let zero_point = x.grid.kernel().zero_point;
    let view = x.activations.view();
    let run = |output: Output<'_>, cx: &mut Context<'_>| match &ready.kernel {
        CodesKernel::Dense(packed) => packed.run(view, zero_point, window, output, cx.pool.code_scratch()),
        CodesKernel::Depthwise(packed) => packed.run(view, zero_point, window, output, cx.pool.code_scratch()),
    };
    match &ready.result {
        CodesResult::Codes { requantize, grid } => {
            let mut y = cx.pool.take_codes(&shape)?;
            run(Output::Codes { requantize, residual: None, y: &mut y }, cx)?;
            Ok(Done { multiply_adds, ..done(shape, form, *grid, y, "convolution of codes") })
        }
        CodesResult::Reals(dequantize) => {
            let mut y = cx.pool.take_blocks(&shape)?;
            run(Output::Reals { dequantize, y: &mut y }, cx)?;
            let added = residual(inputs.addend, (&shape, form), cx)?;
            if let Some(added) = &added {
                y.iter_mut().zip(added.activations().data.iter()).for_each(|(y, added)| *y += added);
                activate(cx.isa, activation, &mut y);
            }
            let finished = added.is_some();
            added.into_iter().for_each(|added| added.release(cx.pool));
            let value = Value::Blocked(Activations { shape, form, data: y });
            Ok(Done { value, finished, kernel: "convolution of codes", multiply_adds })
        }
    }
}

/// Sum of two tensors of one shape.
fn add(
    activation: Activation,
    a: &Codes,
    inputs: Inputs<'_, '_>,
    grid: CodeGrid,
    cx: &mut Context<'_>,
) -> Result<Option<Done>, OpError> {
    let Some(Value::Codes(b)) = inputs.optional(1) else { return Ok(None) };
    let (left, right) = (&a.activations, &b.activations);
    let signs = a.grid.sign() == grid.sign() && b.grid.sign() == grid.sign();
    let Some(limits) = limits(activation).filter(|_| signs && left.shape == right.shape && left.form == right.form)
    else {
        return Ok(None);
    };
    let range = grid.range(limits);
    let addition = Addition::new(grid.sign(), a.grid.kernel(), b.grid.kernel(), grid.kernel().scale, range)?;
    let mut y = cx.pool.take_codes(&left.shape)?;
    codes::add(cx.isa, &addition, &left.data, &right.data, &mut y)?;
    Ok(Some(done(left.shape, left.form, grid, y, "elements of codes")))
}

/// Ends of the interval that an activation cuts to, if that is all it does.
pub(crate) fn limits(activation: Activation) -> Option<(f32, f32)> {
    match activation {
        Activation::Identity => Some(EVERYTHING),
        Activation::Clamp { lo, hi } => Some((lo, hi)),
        _ => None,
    }
}

fn max_pool(attrs: &MaxPool, x: &Codes, cx: &mut Context<'_>) -> Result<Option<Done>, OpError> {
    let Some((shape, window)) = pooled(attrs.layout, &attrs.window, &attrs.kernel, &x.activations)? else {
        return Ok(None);
    };
    let mut y = cx.pool.take_codes(&shape)?;
    codes::max_pool(cx.isa, x.activations.view(), window, &mut y)?;
    Ok(Some(done(shape, x.activations.form, x.grid, y, "pooling of codes")))
}

fn average_pool(attrs: &AveragePool, x: &Codes, grid: CodeGrid, cx: &mut Context<'_>) -> Result<Option<Done>, OpError> {
    let Some((shape, window)) = pooled(attrs.layout, &attrs.window, &attrs.kernel, &x.activations)? else {
        return Ok(None);
    };
    let mean = mean(x, grid);
    let mut y = cx.pool.take_codes(&shape)?;
    codes::average_pool(cx.isa, x.activations.view(), window, attrs.count_include_pad, &mean, &mut y)?;
    Ok(Some(done(shape, x.activations.form, grid, y, "pooling of codes")))
}

fn global_average(x: &Codes, grid: CodeGrid, cx: &mut Context<'_>) -> Result<Option<Done>, OpError> {
    if x.activations.form.layout == Layout::ChannelsLast {
        return Ok(None);
    }
    let shape = Shape { height: 1, width: 1, ..x.activations.shape };
    let mut y = cx.pool.take_codes(&shape)?;
    codes::global_average_pool(cx.isa, x.activations.view(), &mean(x, grid), &mut y)?;
    Ok(Some(done(shape, x.activations.form, grid, y, "pooling of codes")))
}

/// How means of codes become codes of the result.
fn mean(x: &Codes, grid: CodeGrid) -> Mean {
    Mean { x: x.grid.kernel(), y_scale: grid.kernel().scale, range: grid.range(EVERYTHING) }
}

/// Joined channels of codes on one grid.
fn concat(axis: i64, inputs: Inputs<'_, '_>, grid: CodeGrid, cx: &mut Context<'_>) -> Result<Option<Done>, OpError> {
    let mut parts = Vec::with_capacity(inputs.operands.len());
    for operand in inputs.operands {
        match operand {
            Some(Value::Codes(codes)) if codes.grid == grid => parts.push(&codes.activations),
            _ => return Ok(None),
        }
    }
    let Some((shape, form)) = joined(axis, &parts) else { return Ok(None) };
    let mut y = cx.pool.take_codes(&shape)?;
    let views: Vec<_> = parts.iter().map(|part| part.view()).collect();
    concat_channels(&views, &mut y)?;
    Ok(Some(done(shape, form, grid, y, "joined codes")))
}
