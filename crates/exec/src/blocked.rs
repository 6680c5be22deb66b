//! Evaluation of steps on activations in blocks: convolution and products always, everything else where its operands
//! are in blocks already, so that nothing is converted between neighbouring convolutions.
//!
//! What lives here: which kernel runs for which operands. What does not: operators on tensors in memory order (`ops`),
//! which take over wherever a function here returns `None`.

mod conv;
mod elementwise;
mod window;

use crate::error::OpError;
use crate::pool::Pool;
use crate::program::Step;
use crate::ready::Ready;
use crate::value::{Activations, Form, Value};
use quantize_ir::op::{GlobalPool, Layout};
use quantize_ir::{Op, Tensor};
use quantize_kernels::blocked::{Activation, Shape, concat_channels};
use quantize_kernels::{Isa, Number};
use std::borrow::Cow;
pub(crate) use window::{plane_window, pooled};

/// What a step works with.
pub(crate) struct Context<'a> {
    pub(crate) isa: Isa,
    pub(crate) pool: &'a mut Pool,
}

/// The operands of a step.
#[derive(Clone, Copy)]
pub(crate) struct Inputs<'v, 'a> {
    /// By slot of the step's operator.
    pub(crate) operands: &'v [Option<&'v Value<'a>>],
    /// What is added to the operator's result.
    pub(crate) addend: Option<&'v Value<'a>>,
}

/// The first result of a step.
pub(crate) struct Done {
    pub(crate) value: Value<'static>,
    /// Whether addend and activation are in it.
    pub(crate) finished: bool,
    /// How it was computed.
    pub(crate) kernel: &'static str,
    /// Multiplications that were added up.
    pub(crate) multiply_adds: u64,
}

impl Done {
    fn finished(value: Activations<f32>, kernel: &'static str) -> Self {
        Self { value: Value::Blocked(value), finished: true, kernel, multiply_adds: 0 }
    }
}

impl<'v, 'a> Inputs<'v, 'a> {
    /// The operand in `slot`, if it is given.
    pub(crate) fn optional(&self, slot: usize) -> Option<&'v Value<'a>> {
        self.operands.get(slot).copied().flatten()
    }

    /// The operand in `slot`.
    ///
    /// # Errors
    /// If it is left out.
    pub(crate) fn required(&self, slot: usize) -> Result<&'v Value<'a>, OpError> {
        self.optional(slot).ok_or(OpError::Missing { slot })
    }
}

/// Evaluates a step on blocks; `None` if it has several results or that is not the way for these operands.
///
/// # Errors
/// If the operands do not fit the operator.
pub(crate) fn evaluate(step: &Step, inputs: Inputs<'_, '_>, cx: &mut Context<'_>) -> Result<Option<Done>, OpError> {
    if step.outputs.len() != 1 {
        return Ok(None);
    }
    match (step.ready.as_deref(), &step.op) {
        (Some(Ready::Conv { kernel, weight_shape }), Op::Conv(attrs)) => {
            conv::conv(attrs, kernel, weight_shape, step.activation, inputs, cx).map(Some)
        }
        (Some(Ready::Product { kernel, depth, columns }), op) => {
            conv::product(op, kernel, [*depth, *columns], step.activation, inputs, cx).map(Some)
        }
        (Some(Ready::Affine(affine)), _) => elementwise::affine(affine, step.activation, inputs, cx),
        (Some(Ready::Activation(activation)), _) => elementwise::activation(*activation, inputs, cx),
        (_, Op::Binary(f)) => elementwise::binary(*f, step.activation, inputs, cx),
        (_, Op::MaxPool(attrs)) => window::max_pool(attrs, inputs, cx),
        (_, Op::AveragePool(attrs)) => window::average_pool(attrs, inputs, cx),
        (_, Op::GlobalPool(GlobalPool::Average)) => window::global_pool(false, inputs, cx),
        (_, Op::GlobalPool(GlobalPool::Max)) => window::global_pool(true, inputs, cx),
        (_, Op::Concat(attrs)) => concat(attrs.axis, inputs, cx),
        _ => Ok(None),
    }
}

/// Joins channels of activations that are all in blocks.
fn concat(axis: i64, inputs: Inputs<'_, '_>, cx: &mut Context<'_>) -> Result<Option<Done>, OpError> {
    let parts: Option<Vec<&Activations<f32>>> =
        inputs.operands.iter().map(|o| o.and_then(|value| value.blocked())).collect();
    let Some(parts) = parts else { return Ok(None) };
    let Some((shape, form)) = joined(axis, &parts) else { return Ok(None) };
    let mut y = cx.pool.take_blocks(&shape)?;
    let views: Vec<_> = parts.iter().map(|part| part.view()).collect();
    concat_channels(&views, &mut y)?;
    Ok(Some(Done::finished(Activations { shape, form, data: y }, "joined blocks")))
}

/// Shape of the parts joined along `axis`, if that is the channels' one and they agree in all others.
pub(crate) fn joined<T: Number>(axis: i64, parts: &[&Activations<T>]) -> Option<(Shape, Form)> {
    let first = parts.first()?;
    let channel_axis = match first.form.layout {
        Layout::ChannelsFirst => axis == 1 || axis == 1 - first.form.rank as i64,
        Layout::ChannelsLast => axis == -1 || axis == first.form.rank as i64 - 1,
    };
    let size = |a: &Activations<T>| (a.form, a.shape.batch, a.shape.height, a.shape.width, a.shape.lanes);
    let agree = parts.iter().all(|part| size(part) == size(first));
    let channels = parts.iter().map(|part| part.shape.channels).sum();
    (channel_axis && agree).then_some((Shape { channels, ..first.shape }, first.form))
}

/// A value in blocks: as it is, or taken there if it is a `float32` tensor of two to four axes.
pub(crate) enum InBlocks<'v> {
    Already(&'v Activations<f32>),
    Taken(Activations<f32>),
}

impl InBlocks<'_> {
    pub(crate) fn activations(&self) -> &Activations<f32> {
        match self {
            InBlocks::Already(blocks) => blocks,
            InBlocks::Taken(blocks) => blocks,
        }
    }

    /// Hands back the memory of a copy.
    pub(crate) fn release(self, pool: &mut Pool) {
        if let InBlocks::Taken(blocks) = self {
            pool.give_blocks(blocks.data);
        }
    }
}

/// Channels of a pixel up to which a tensor is taken into narrow blocks.
pub(crate) const NARROW: usize = 4;

/// The value in blocks of a vector's lanes, or with `narrow` of four if it has at most four channels.
///
/// # Errors
/// If it is not `float32`, or has not two to four axes.
pub(crate) fn in_blocks<'v>(
    value: &'v Value<'_>,
    layout: Layout,
    narrow: bool,
    cx: &mut Context<'_>,
) -> Result<InBlocks<'v>, OpError> {
    if let Some(blocks) = value.blocked().filter(|blocks| blocks.form.layout == layout || blocks.form.rank == 2) {
        return Ok(InBlocks::Already(blocks));
    }
    if let Value::Codes(codes) = value {
        let Activations { shape, form, .. } = &codes.activations;
        if shape.lanes == cx.isa.lanes() && form.layout == layout {
            return Ok(InBlocks::Taken(codes.reals(cx.isa, cx.pool)?));
        }
    }
    let tensor = value.plain(cx.isa, cx.pool)?;
    let channels = match layout {
        Layout::ChannelsFirst => tensor.shape().get(1),
        Layout::ChannelsLast => tensor.shape().last(),
    };
    let few = narrow && channels.is_some_and(|c| *c <= NARROW);
    let lanes = if few { NARROW } else { cx.isa.lanes() };
    let taken = Activations::of(&tensor, layout, lanes, cx.isa, cx.pool)?;
    give_copy(tensor, cx.pool);
    let rank = || OpError::shape(format!("an operand of shape {:?} has no place for channels", value.dims()));
    taken.map(InBlocks::Taken).ok_or_else(rank)
}

/// Hands back the memory of a copy out of blocks.
pub(crate) fn give_copy(tensor: Cow<'_, Tensor>, pool: &mut Pool) {
    if let Cow::Owned(tensor) = tensor {
        pool.give(tensor);
    }
}

/// The addend as a kernel takes it, if it is laid out like a result of these sizes; else it is added afterwards.
pub(crate) fn residual<'v>(
    addend: Option<&'v Value<'_>>,
    result: (&Shape, Form),
    cx: &mut Context<'_>,
) -> Result<Option<InBlocks<'v>>, OpError> {
    let Some(addend) = addend.filter(|value| *value.dims() == *result.1.dims(result.0)) else { return Ok(None) };
    let blocks = in_blocks(addend, result.1.layout, false, cx)?;
    let fits = {
        let a = blocks.activations();
        a.shape == *result.0 && a.form == result.1
    };
    if fits {
        return Ok(Some(blocks));
    }
    blocks.release(cx.pool);
    Ok(None)
}

/// What is left to do after a kernel that could not add the addend.
fn applied(activation: Activation, inputs: Inputs<'_, '_>, added: bool) -> (Activation, bool) {
    let all = inputs.addend.is_none() || added;
    (if all { activation } else { Activation::Identity }, all)
}
