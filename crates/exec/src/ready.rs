//! Constants of a step in the form the kernels take them: packed once when a program is compiled, shared by all threads.
//!
//! What lives here: what is packed, and for which operators. What does not: running the kernels (`blocked`).

use crate::error::OpError;
use crate::ops::norm::channel_affine;
use crate::ops::window::output_first;
use crate::pool::Pool;
use quantize_ir::op::{BatchNorm, Conv, Gemm};
use quantize_ir::{DType, Op, Tensor};
use quantize_kernels::blocked::{Activation, Filter, PackedConv, PackedDepthwise};
use quantize_kernels::{Buffer, Isa};

/// What a step needs no operand for.
#[derive(Debug)]
pub(crate) enum Ready {
    /// Convolution by constant weights.
    Conv {
        kernel: ConvKernel,
        /// In output-first order.
        weight_shape: Vec<usize>,
    },
    /// Product with a constant matrix of `depth` rows and `columns` columns, as a pointwise convolution over rows.
    Product { kernel: PackedConv, depth: usize, columns: usize },
    /// A factor and an offset for each channel along axis 1.
    Affine(ChannelAffine),
    /// A function of single elements.
    Activation(Activation),
}

/// `x * scale + shift` for each channel, both filled up with zeros to whole vectors.
#[derive(Debug)]
pub(crate) struct ChannelAffine {
    pub(crate) channels: usize,
    pub(crate) scale: Buffer<f32>,
    pub(crate) shift: Buffer<f32>,
}

/// The kernels for convolution.
#[derive(Debug)]
pub(crate) enum ConvKernel {
    Dense(Box<PackedConv>),
    Depthwise(Box<PackedDepthwise>),
}

impl Ready {
    /// Whether constants of `op` are packed.
    pub(crate) fn packs(op: &Op) -> bool {
        matches!(op, Op::Conv(_) | Op::Gemm(_) | Op::MatMul | Op::BatchNorm(_))
    }

    /// Packs what `op` does with constant operands, given by slot, and for a convolution with a normalization of its
    /// result: `None` where an operand it needs is not constant or not `float32`, or no kernel suits it.
    ///
    /// # Errors
    /// If constants do not fit the operator.
    pub(crate) fn of(
        op: &Op,
        constants: &[Option<&Tensor>],
        norm: Option<&ChannelAffine>,
        isa: Isa,
    ) -> Result<Option<Self>, OpError> {
        if constants.iter().flatten().any(|tensor| tensor.dtype() != DType::F32) {
            return Ok(None);
        }
        let constant = |slot: usize| constants.get(slot).copied().flatten();
        match (op, constant(1)) {
            (Op::Conv(conv), Some(weight)) => Self::conv(conv, weight, constant(2), norm, isa),
            (Op::Gemm(gemm), Some(b)) if !gemm.trans_a => Self::gemm(gemm, b, constant(2), isa),
            (Op::MatMul, Some(b)) => match *b.shape() {
                [depth, columns] => Self::product(depth, columns, &transposed(b)?, None, isa),
                _ => Ok(None),
            },
            (Op::BatchNorm(norm), _) if norm.axis == 1 => Ok(ChannelAffine::of(norm, constants)?.map(Self::Affine)),
            _ => Ok(None),
        }
    }

    /// Whether the step reads its first operand only.
    pub(crate) fn replaces_operands(&self) -> bool {
        matches!(self, Self::Conv { .. } | Self::Product { .. })
    }

    fn conv(
        conv: &Conv,
        weight: &Tensor,
        bias: Option<&Tensor>,
        norm: Option<&ChannelAffine>,
        isa: Isa,
    ) -> Result<Option<Self>, OpError> {
        let weight = output_first(weight, conv.filter, &mut Pool::default())?;
        let weight_shape = weight.shape().to_vec();
        let [out_channels, group_in, kernel @ ..] = weight.shape() else { return Ok(None) };
        let (Some(kernel), Some(stride), Some(dilation)) =
            (plane(kernel), plane(&conv.window.strides), plane(&conv.window.dilations))
        else {
            return Ok(None);
        };
        let Some(in_channels) = group_in.checked_mul(conv.group) else { return Ok(None) };
        let filter = Filter { in_channels, out_channels: *out_channels, group: conv.group, kernel, stride, dilation };
        let (weight, bias) = (weight.as_slice::<f32>()?, bias.map(Tensor::as_slice).transpose()?);
        let scaled = norm.map(|norm| norm.applied(weight, bias, *out_channels)).transpose()?;
        let (weight, bias) = scaled.as_ref().map_or((weight, bias), |(w, b)| (w, Some(b)));
        let depthwise = conv.group > 1 && conv.group == in_channels && in_channels == *out_channels;
        let kernel = if depthwise {
            Some(ConvKernel::Depthwise(Box::new(PackedDepthwise::new(isa, &filter, weight, bias)?)))
        } else {
            PackedConv::new(isa, &filter, weight, bias)?.map(|packed| ConvKernel::Dense(Box::new(packed)))
        };
        Ok(kernel.map(|kernel| Self::Conv { kernel, weight_shape }))
    }

    fn gemm(gemm: &Gemm, b: &Tensor, c: Option<&Tensor>, isa: Isa) -> Result<Option<Self>, OpError> {
        let &[rows, columns] = b.shape() else { return Ok(None) };
        let (depth, columns) = if gemm.trans_b { (columns, rows) } else { (rows, columns) };
        let weight = if gemm.trans_b { b.as_slice()?.to_vec() } else { transposed(b)? };
        let weight: Vec<f32> = weight.iter().map(|w| w * gemm.alpha).collect();
        let Some(c) = c.filter(|_| gemm.beta != 0.0) else {
            return Self::product(depth, columns, &weight, None, isa);
        };
        let values = c.as_slice::<f32>()?;
        let bias: Vec<f32> = match (c.shape(), values) {
            (_, [value]) => vec![value * gemm.beta; columns],
            ([n] | [1, n], values) if *n == columns => values.iter().map(|v| v * gemm.beta).collect(),
            _ => return Ok(None),
        };
        Self::product(depth, columns, &weight, Some(&bias), isa)
    }

    /// `weight` is `[columns, depth]`.
    fn product(
        depth: usize,
        columns: usize,
        weight: &[f32],
        bias: Option<&[f32]>,
        isa: Isa,
    ) -> Result<Option<Self>, OpError> {
        let ones = [1; 2];
        let filter =
            Filter { in_channels: depth, out_channels: columns, group: 1, kernel: ones, stride: ones, dilation: ones };
        let packed = PackedConv::new(isa, &filter, weight, bias)?;
        Ok(packed.map(|kernel| Self::Product { kernel, depth, columns }))
    }
}

impl ChannelAffine {
    /// What a normalization by constants comes to, if it has all of them in one length.
    ///
    /// # Errors
    /// If they are not `float32`.
    pub(crate) fn of(norm: &BatchNorm, constants: &[Option<&Tensor>]) -> Result<Option<Self>, OpError> {
        let &[_, Some(gamma), Some(beta), Some(mean), Some(variance)] = constants else { return Ok(None) };
        let (gamma, beta) = (gamma.as_slice::<f32>()?, beta.as_slice::<f32>()?);
        let (mean, variance) = (mean.as_slice::<f32>()?, variance.as_slice::<f32>()?);
        let channels = gamma.len();
        if [beta.len(), mean.len(), variance.len()] != [channels; 3] {
            return Ok(None);
        }
        let len = channels.next_multiple_of(Isa::active().lanes());
        let (mut scale, mut shift) = (Buffer::new(len), Buffer::new(len));
        for c in 0..channels {
            (scale[c], shift[c]) = channel_affine(norm, gamma[c], beta[c], mean[c], variance[c]);
        }
        Ok(Some(Self { channels, scale, shift }))
    }

    /// Weights, outputs first, and bias of a convolution whose result is scaled and shifted.
    fn applied(&self, weight: &[f32], bias: Option<&[f32]>, outputs: usize) -> Result<(Vec<f32>, Vec<f32>), OpError> {
        if self.channels != outputs || bias.is_some_and(|b| b.len() != outputs) {
            return Err(OpError::Channels { slot: 1, name: None, found: self.channels, channels: outputs });
        }
        let rows = weight.chunks((weight.len() / outputs.max(1)).max(1)).zip(self.scale.iter());
        let scaled = rows.flat_map(|(row, scale)| row.iter().map(move |w| w * scale)).collect();
        let bias = |c: usize| bias.map_or(0.0, |b| b[c]);
        Ok((scaled, (0..outputs).map(|c| bias(c) * self.scale[c] + self.shift[c]).collect()))
    }
}

/// One or two spatial numbers, vertical first; no numbers stand for ones. `None` for more axes.
fn plane(numbers: &[usize]) -> Option<[usize; 2]> {
    match *numbers {
        [] => Some([1, 1]),
        [h] => Some([1, h]),
        [v, h] => Some([v, h]),
        _ => None,
    }
}

fn transposed(matrix: &Tensor) -> Result<Vec<f32>, OpError> {
    let &[rows, columns] = matrix.shape() else { return Err(OpError::shape("a matrix has two axes")) };
    let values = matrix.as_slice::<f32>()?;
    Ok((0..columns).flat_map(|c| (0..rows).map(move |r| values[r * columns + c])).collect())
}
