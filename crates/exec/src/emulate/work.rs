//! The integer arithmetic of one node.

use crate::error::OpError;
use crate::ops::window::{conv_geometry, window_sums};
use crate::pool::Pool;
use quantize_ir::op::{FilterLayout, Layout, Nary};
use quantize_ir::{IntegerNode, IntegerWork, Op, Tensor};
use quantize_kernels::ConvGeometry;
use quantize_kernels::integer::{Accumulator, PackedCodes, Scratch, conv_codes, conv_codes_wide};
use quantize_numerics::xfdnn::{BitWidth, Multiplier, Rescaler, SymmetricGrid, average_pool};
use std::sync::OnceLock;

/// A tensor, and whether it holds codes.
pub(super) type Operand<'a> = (&'a Tensor, bool);

/// Largest magnitude the 24-bit accumulator of the 8-bit hardware holds.
const LARGEST_SUM: i64 = (1 << 23) - 1;

/// One node's work, with its weights packed at the first run.
#[derive(Debug)]
pub(super) struct Work {
    node: IntegerNode,
    packed: OnceLock<Packed>,
}

/// Weights packed for activations of one size.
#[derive(Debug)]
struct Packed {
    /// Shape of the activation without its batch.
    shape: Vec<usize>,
    codes: PackedCodes,
}

/// Working memory that is kept from node to node.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    codes: Vec<i16>,
    sums: Vec<i32>,
    wide_sums: Vec<i64>,
    scratch: Scratch,
}

/// The outcome of a node.
pub(super) struct Done {
    pub(super) codes: Tensor,
    /// Sums that the hardware's accumulator cannot hold.
    pub(super) overflows: u64,
}

impl Work {
    pub(super) fn new(node: IntegerNode) -> Self {
        Self { node, packed: OnceLock::new() }
    }

    pub(super) fn output(&self) -> SymmetricGrid {
        self.node.output
    }

    /// Computes the codes of the node's result.
    ///
    /// # Errors
    /// If the operands do not fit the work.
    pub(super) fn run(
        &self,
        op: &Op,
        operands: &[Option<Operand<'_>>],
        pool: &mut Pool,
        buffers: &mut Buffers,
    ) -> Result<Done, OpError> {
        let x = operands.first().copied().flatten().ok_or(OpError::Missing { slot: 0 })?;
        match &self.node.work {
            IntegerWork::Product { weight, channels } => {
                let filter = operands.get(1).copied().flatten().ok_or(OpError::Missing { slot: 1 })?.0;
                let (geometry, shape) = product_geometry(op, x.0.shape(), filter.shape(), channels.len())?;
                self.product(&geometry, shape, x, weight, channels, pool, buffers)
            }
            IntegerWork::ChannelScale { factors, channels, offsets, bits } => {
                let scale = ChannelScale { factors, channels, offsets, bits: *bits };
                self.exact(scale.run(self.node.input, x, pool)?)
            }
            IntegerWork::Eltwise(rescaler) => self.exact(self.eltwise(op, operands, rescaler, pool)?),
            IntegerWork::AveragePool { channels, bits } => {
                let sums = window_sums(op, x.0.shape())?;
                let (geometry, shape) = sums.ok_or_else(|| OpError::Unsupported("this form of pooling".into()))?;
                self.exact(self.average(&geometry, shape, x, channels, *bits, pool, buffers)?)
            }
        }
    }

    fn exact(&self, codes: Tensor) -> Result<Done, OpError> {
        Ok(Done { codes, overflows: 0 })
    }

    fn product(
        &self,
        geometry: &ConvGeometry,
        shape: Vec<usize>,
        x: Operand<'_>,
        weight: &[i16],
        channels: &[Rescaler],
        pool: &mut Pool,
        buffers: &mut Buffers,
    ) -> Result<Done, OpError> {
        let mut codes = pool.take(geometry.output_len());
        let overflows = self.with_packed(geometry, x.0.shape(), weight, |packed| {
            self.sum(geometry, x, packed, buffers)?;
            let plane = shape.get(2..).map_or(1, |space| space.iter().product());
            Ok(match packed.accumulator() {
                Accumulator::I32 => rescale(channels, plane, &buffers.sums, &mut codes),
                Accumulator::I64 => rescale(channels, plane, &buffers.wide_sums, &mut codes),
            })
        })?;
        Ok(Done { codes: Tensor::new(shape, codes)?, overflows })
    }

    /// Sums of products into the buffer of the accumulator that the weights need.
    fn sum(
        &self,
        geometry: &ConvGeometry,
        x: Operand<'_>,
        packed: &PackedCodes,
        buffers: &mut Buffers,
    ) -> Result<(), OpError> {
        let Buffers { codes, sums, wide_sums, scratch } = buffers;
        to_codes(x, self.node.input, codes)?;
        match packed.accumulator() {
            Accumulator::I32 => {
                sums.resize(geometry.output_len(), 0);
                conv_codes(geometry, codes, packed, sums, scratch)?;
            }
            Accumulator::I64 => {
                wide_sums.resize(geometry.output_len(), 0);
                conv_codes_wide(geometry, codes, packed, wide_sums, scratch)?;
            }
        }
        Ok(())
    }

    /// Magnitude no input code exceeds: rescaling reaches one more than quantization.
    fn largest_input(&self) -> u16 {
        match self.node.input.bits() {
            BitWidth::Eight => 128,
            BitWidth::Sixteen => 32768,
        }
    }

    /// Calls `act` with the weights packed for activations of shape `x`: those of the first run are kept.
    fn with_packed<R>(
        &self,
        geometry: &ConvGeometry,
        x: &[usize],
        weight: &[i16],
        act: impl FnOnce(&PackedCodes) -> Result<R, OpError>,
    ) -> Result<R, OpError> {
        let shape = x.get(1..).unwrap_or_default();
        if let Some(packed) = self.packed.get().filter(|p| p.shape == shape) {
            return act(&packed.codes);
        }
        let fresh = Packed { shape: shape.to_vec(), codes: PackedCodes::new(geometry, weight, self.largest_input())? };
        // Of threads that come first together one wins; what they pack is the same.
        match self.packed.set(fresh) {
            Ok(()) => self.with_packed(geometry, x, weight, act),
            Err(other) => act(&other.codes),
        }
    }

    fn average(
        &self,
        geometry: &ConvGeometry,
        shape: Vec<usize>,
        x: Operand<'_>,
        channels: &[Multiplier],
        bits: BitWidth,
        pool: &mut Pool,
        buffers: &mut Buffers,
    ) -> Result<Tensor, OpError> {
        let mut codes = pool.take(geometry.output_len());
        let ones = vec![1i16; geometry.weight_len()];
        self.with_packed(geometry, x.0.shape(), &ones, |packed| self.sum(geometry, x, packed, buffers))?;
        let planes = shape.get(..2).map_or(1, |s| s.iter().product::<usize>()).max(1);
        let plane = (codes.len() / planes).max(1);
        let multiplier = |channel: usize| channels.get(if channels.len() == 1 { 0 } else { channel });
        let count = shape.get(1).copied().unwrap_or(1).max(1);
        for (index, (to, sums)) in codes.chunks_mut(plane).zip(buffers.sums.chunks(plane)).enumerate() {
            let missing = || OpError::shape(format!("{} multipliers for {count} channels", channels.len()));
            let multiplier = *multiplier(index % count).ok_or_else(missing)?;
            for (to, sum) in to.iter_mut().zip(sums) {
                *to = average_pool(i64::from(*sum), multiplier, bits) as f32;
            }
        }
        Ok(Tensor::new(shape, codes)?)
    }

    fn eltwise(
        &self,
        op: &Op,
        operands: &[Option<Operand<'_>>],
        rescaler: &Rescaler,
        pool: &mut Pool,
    ) -> Result<Tensor, OpError> {
        let given: Vec<Operand<'_>> = operands.iter().copied().flatten().collect();
        let Some((first, rest)) = given.split_first() else { return Err(OpError::Missing { slot: 0 }) };
        if let Some((other, _)) = rest.iter().find(|(t, _)| t.shape() != first.0.shape()) {
            return Err(OpError::shape(format!("shapes {:?} and {:?} differ", first.0.shape(), other.shape())));
        }
        let mut codes = pool.take(first.0.len());
        let code = |(_, coded): Operand<'_>, x: f32| if coded { x } else { self.node.input.input_code(x) as f32 };
        codes.iter_mut().zip(first.0.as_slice::<f32>()?).for_each(|(to, x)| *to = code(*first, *x));
        let largest = matches!(op, Op::Nary(Nary::Max));
        for operand in rest {
            let values = operand.0.as_slice::<f32>()?;
            for (to, x) in codes.iter_mut().zip(values) {
                let x = code(*operand, *x);
                // Sums of a few 16-bit codes are exact in f32.
                *to = if largest { to.max(x) } else { *to + x };
            }
        }
        codes.iter_mut().for_each(|sum| *sum = rescaler.apply(*sum as i64) as f32);
        Ok(Tensor::new(first.0.shape(), codes)?)
    }
}

/// The constants of a factor for each channel.
struct ChannelScale<'a> {
    factors: &'a [i32],
    channels: &'a [Rescaler],
    offsets: &'a [i32],
    bits: BitWidth,
}

impl ChannelScale<'_> {
    fn run(&self, input: SymmetricGrid, x: Operand<'_>, pool: &mut Pool) -> Result<Tensor, OpError> {
        let (tensor, coded) = x;
        let count = self.channels.len();
        let [images, channels, space @ ..] = tensor.shape() else { return Err(OpError::shape("no channel axis")) };
        if *channels != count {
            return Err(OpError::shape(format!("{count} factors for {channels} channels")));
        }
        let plane = space.iter().product::<usize>().max(1);
        let mut codes = pool.take(images * count * plane);
        let (lo, hi) = (self.bits.smallest(), self.bits.largest());
        for (index, (to, from)) in codes.chunks_mut(plane).zip(tensor.as_slice::<f32>()?.chunks(plane)).enumerate() {
            let channel = index % count.max(1);
            let (factor, rescaler) = (self.factors[channel], &self.channels[channel]);
            for (to, x) in to.iter_mut().zip(from) {
                let code = if coded { *x as i32 } else { input.input_code(*x) };
                let scaled = rescaler.apply(i64::from(code) * i64::from(factor));
                *to = scaled.saturating_add(self.offsets[channel]).clamp(lo, hi) as f32;
            }
        }
        Ok(Tensor::new(tensor.shape(), codes)?)
    }
}

/// Sizes of the convolution or matrix product, and the result's shape.
fn product_geometry(
    op: &Op,
    x: &[usize],
    filter: &[usize],
    outputs: usize,
) -> Result<(ConvGeometry, Vec<usize>), OpError> {
    match op {
        Op::Conv(c) if c.layout == Layout::ChannelsFirst && c.filter == FilterLayout::OutputFirst => {
            conv_geometry(c, x, filter)
        }
        Op::Gemm(g) if !g.trans_a => match x {
            [rows, depth] => Ok((ConvGeometry::new(*rows, *depth, outputs, 1, &[])?, vec![*rows, outputs])),
            _ => Err(OpError::shape(format!("an activation of shape {x:?} is no matrix"))),
        },
        _ => Err(OpError::Unsupported(format!("this form of {} on integer codes", op.name()))),
    }
}

/// An operand's codes: as they are, or rounded onto `grid` towards zero.
fn to_codes((tensor, coded): Operand<'_>, grid: SymmetricGrid, codes: &mut Vec<i16>) -> Result<(), OpError> {
    let values = tensor.as_slice::<f32>()?;
    codes.clear();
    if coded {
        codes.extend(values.iter().map(|x| *x as i16));
    } else {
        codes.extend(values.iter().map(|x| grid.input_code(*x) as i16));
    }
    Ok(())
}

/// Rescales planes of sums, channel by channel; returns how many sums leave the hardware's accumulator.
fn rescale<A: Copy + Into<i64>>(channels: &[Rescaler], plane: usize, sums: &[A], codes: &mut [f32]) -> u64 {
    let plane = plane.max(1);
    let mut overflows = 0;
    for ((to, from), rescaler) in codes.chunks_mut(plane).zip(sums.chunks(plane)).zip(channels.iter().cycle()) {
        let outside = |sum: &&A| {
            let sum: i64 = (**sum).into();
            !(-LARGEST_SUM - 1..=LARGEST_SUM).contains(&sum)
        };
        if rescaler.bits() == BitWidth::Eight {
            overflows += from.iter().filter(outside).count() as u64;
        }
        to.iter_mut().zip(from).for_each(|(to, sum)| *to = rescaler.apply((*sum).into()) as f32);
    }
    overflows
}
