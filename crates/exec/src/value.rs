//! What a value is while a program runs: a tensor in memory order, or activations in the blocks that kernels work on.

use crate::error::OpError;
use crate::grid::{CodeGrid, EVERYTHING};
use crate::pool::Pool;
use quantize_ir::Tensor;
use quantize_ir::op::Layout;
use quantize_kernels::Isa;
use quantize_kernels::blocked::{self, Blocked, Shape};
use quantize_kernels::{Buffer, Number, codes};
use std::borrow::Cow;

/// A value of one run.
#[derive(Debug)]
pub(crate) enum Value<'a> {
    /// A constant or an input.
    Shared(&'a Tensor),
    /// Computed, in memory order.
    Plain(Tensor),
    /// Computed, in blocks of channels.
    Blocked(Activations<f32>),
    /// Computed on integers, or rounded to codes, in blocks of channels.
    Codes(Codes),
}

/// Codes in blocks of channels, and what they stand for.
#[derive(Debug)]
pub(crate) struct Codes {
    pub(crate) activations: Activations<u8>,
    pub(crate) grid: CodeGrid,
}

impl Codes {
    /// The codes of reals in blocks.
    ///
    /// # Errors
    /// If a kernel refuses them.
    pub(crate) fn of(reals: &Activations<f32>, grid: CodeGrid, isa: Isa, pool: &mut Pool) -> Result<Self, OpError> {
        let mut data = pool.take_codes(&reals.shape)?;
        codes::quantize(isa, &reals.data, grid.kernel().scale, grid.range(EVERYTHING), &mut data)?;
        Ok(Self { activations: Activations { shape: reals.shape, form: reals.form, data }, grid })
    }

    /// The reals that the codes stand for.
    ///
    /// # Errors
    /// If a kernel refuses them.
    pub(crate) fn reals(&self, isa: Isa, pool: &mut Pool) -> Result<Activations<f32>, OpError> {
        let Activations { shape, form, .. } = self.activations;
        let mut data = pool.take_blocks(&shape)?;
        codes::dequantize(isa, &self.activations.data, self.grid.kernel(), &mut data)?;
        Ok(Activations { shape, form, data })
    }
}

/// A tensor in blocks of channels.
#[derive(Debug)]
pub(crate) struct Activations<T> {
    pub(crate) shape: Shape,
    pub(crate) form: Form,
    pub(crate) data: Buffer<T>,
}

/// Which tensor the blocks stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Form {
    /// Axes of the tensor: batch, channels, and up to two more.
    pub(crate) rank: usize,
    /// Where its channel axis is.
    pub(crate) layout: Layout,
}

impl Form {
    /// The tensor's dimensions; an axis it does not have is 1.
    pub(crate) fn dims(self, shape: &Shape) -> Vec<usize> {
        let space = [shape.height, shape.width];
        let space = &space[(4 - self.rank).min(2)..];
        match self.layout {
            Layout::ChannelsFirst => [&[shape.batch, shape.channels], space].concat(),
            Layout::ChannelsLast => [&[shape.batch], space, &[shape.channels]].concat(),
        }
    }

    /// Sizes of a tensor of dimensions `dims` in this layout; `None` unless it has two to four axes.
    ///
    /// # Errors
    /// If the sizes overflow.
    pub(crate) fn of(dims: &[usize], layout: Layout, lanes: usize) -> Result<Option<(Self, Shape)>, OpError> {
        let form = Self { rank: dims.len(), layout };
        let (batch, channels, space) = match (dims, layout) {
            ([n, c, space @ ..], Layout::ChannelsFirst) => (n, c, space),
            ([n, space @ .., c], Layout::ChannelsLast) => (n, c, space),
            _ => return Ok(None),
        };
        let (height, width) = match space {
            [] => (1, 1),
            [width] => (1, *width),
            [height, width] => (*height, *width),
            _ => return Ok(None),
        };
        Ok(Some((form, Shape::new(*batch, *channels, height, width, lanes)?)))
    }
}

impl<T: Number> Activations<T> {
    /// The blocks as kernels take them.
    pub(crate) fn view(&self) -> Blocked<'_, T> {
        Blocked { shape: self.shape, data: &self.data }
    }

    /// Dimensions of the tensor they stand for.
    pub(crate) fn dims(&self) -> Vec<usize> {
        self.form.dims(&self.shape)
    }
}

impl Activations<f32> {
    /// Takes a tensor into blocks; `None` unless it has two to four axes.
    ///
    /// # Errors
    /// If it is not `float32` or its sizes overflow.
    pub(crate) fn of(
        tensor: &Tensor,
        layout: Layout,
        lanes: usize,
        isa: Isa,
        pool: &mut Pool,
    ) -> Result<Option<Self>, OpError> {
        let x = tensor.as_slice::<f32>()?;
        let Some((form, shape)) = Form::of(tensor.shape(), layout, lanes)? else { return Ok(None) };
        let mut data = pool.take_blocks(&shape)?;
        match layout {
            Layout::ChannelsFirst => blocked::to_blocked(isa, shape, x, &mut data)?,
            Layout::ChannelsLast => blocked::from_channels_last(isa, shape, x, &mut data)?,
        }
        Ok(Some(Self { shape, form, data }))
    }

    /// The tensor in memory order.
    ///
    /// # Errors
    /// If it does not have the elements its shape says.
    pub(crate) fn tensor(&self, isa: Isa, pool: &mut Pool) -> Result<Tensor, OpError> {
        let dims = self.dims();
        let mut y = pool.take(dims.iter().product());
        match self.form.layout {
            Layout::ChannelsFirst => blocked::to_planes(isa, self.view(), &mut y)?,
            Layout::ChannelsLast => blocked::to_channels_last(isa, self.view(), &mut y)?,
        }
        Ok(Tensor::new(dims, y)?)
    }
}

impl Value<'_> {
    /// Dimensions of the tensor.
    pub(crate) fn dims(&self) -> Cow<'_, [usize]> {
        match self {
            Value::Shared(tensor) => Cow::Borrowed(tensor.shape()),
            Value::Plain(tensor) => Cow::Borrowed(tensor.shape()),
            Value::Blocked(blocks) => Cow::Owned(blocks.dims()),
            Value::Codes(codes) => Cow::Owned(codes.activations.dims()),
        }
    }

    /// The tensor in memory order: itself, or a copy out of its blocks.
    ///
    /// # Errors
    /// As [`Activations::tensor`].
    pub(crate) fn plain(&self, isa: Isa, pool: &mut Pool) -> Result<Cow<'_, Tensor>, OpError> {
        match self {
            Value::Shared(tensor) => Ok(Cow::Borrowed(tensor)),
            Value::Plain(tensor) => Ok(Cow::Borrowed(tensor)),
            Value::Blocked(blocks) => blocks.tensor(isa, pool).map(Cow::Owned),
            Value::Codes(codes) => {
                let reals = codes.reals(isa, pool)?;
                let tensor = reals.tensor(isa, pool)?;
                pool.give_blocks(reals.data);
                Ok(Cow::Owned(tensor))
            }
        }
    }

    /// The blocks, if it is in blocks.
    pub(crate) fn blocked(&self) -> Option<&Activations<f32>> {
        match self {
            Value::Blocked(blocks) => Some(blocks),
            Value::Shared(_) | Value::Plain(_) | Value::Codes(_) => None,
        }
    }

    /// Hands its memory back.
    pub(crate) fn release(self, pool: &mut Pool) {
        match self {
            Value::Shared(_) => {}
            Value::Plain(tensor) => pool.give(tensor),
            Value::Blocked(blocks) => pool.give_blocks(blocks.data),
            Value::Codes(codes) => pool.give_codes(codes.activations.data),
        }
    }
}
