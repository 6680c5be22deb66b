//! Constants of a step in the form the kernels take them: packed once when a program is compiled, shared by all threads.
//!
//! What lives here: what is packed, and for which operators. What does not: running the kernels (`blocked`).

use crate::codes::limits;
use crate::error::OpError;
use crate::grid::CodeGrid;
use crate::ops::norm::channel_affine;
use crate::ops::ranged::RangedPacking;
use crate::ops::window::output_first;
use crate::pool::Pool;
use quantize_ir::op::{BatchNorm, Conv, Gemm};
use quantize_ir::{Constant, DType, Element, Op, Tensor, TensorData, WeightPlan};
use quantize_kernels::blocked::{Activation, Filter, MatrixOrder, MatrixPacker, PackedConv, PackedDepthwise};
use quantize_kernels::codes::{Dequantize, PackedCodesConv, PackedCodesDepthwise, Requantize, Rounding};
use quantize_kernels::{Buffer, Isa};
use std::borrow::Cow;

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
    Product { kernel: Box<PackedConv>, depth: usize, columns: usize },
    /// A factor and an offset for each channel along axis 1.
    Affine(ChannelAffine),
    /// A function of single elements.
    Activation(Activation),
    /// Convolution or product of codes.
    Codes(Box<CodesReady>),
    /// Convolution of codes whose ranges are operands, by constant weights.
    Ranged(RangedPacking),
}

/// Integer arithmetic of a convolution, or of a product with a matrix as a convolution of images of one pixel.
#[derive(Debug)]
pub(crate) struct CodesReady {
    pub(crate) kernel: CodesKernel,
    /// In output-first order.
    pub(crate) weight_shape: Vec<usize>,
    pub(crate) result: CodesResult,
}

/// The kernels for convolution of codes.
#[derive(Debug)]
pub(crate) enum CodesKernel {
    Dense(PackedCodesConv),
    Depthwise(PackedCodesDepthwise),
}

/// What becomes of exact sums.
#[derive(Debug)]
pub(crate) enum CodesResult {
    /// Codes on a grid, cut off where an activation of the step says so.
    Codes { requantize: Requantize, grid: CodeGrid },
    /// Reals, to which the step's activation is applied afterwards.
    Reals(Dequantize),
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
                [depth, columns] => {
                    Self::product([depth, columns], Matrix::Here(b.as_slice()?), MatrixOrder::Rows, None, isa)
                }
                _ => Ok(None),
            },
            (Op::BatchNorm(norm), _) if norm.axis == 1 => Ok(ChannelAffine::of(norm, constants)?.map(Self::Affine)),
            _ => Ok(None),
        }
    }

    /// Packs what `op` does with a matrix of `float32` that is read piece by piece, and with a bias: `None` where that is
    /// no plain product.
    ///
    /// # Errors
    /// If the matrix cannot be read, or constants do not fit the operator.
    pub(crate) fn of_stored(
        op: &Op,
        matrix: &Constant,
        bias: Option<&Tensor>,
        isa: Isa,
    ) -> Result<Option<Self>, OpError> {
        let &[rows, columns] = matrix.shape() else { return Ok(None) };
        let (dims, order, bias) = match op {
            Op::MatMul => ([rows, columns], MatrixOrder::Rows, None),
            Op::Gemm(gemm) if !gemm.trans_a && gemm.alpha == 1.0 => {
                let (dims, order) = gemm_matrix(gemm, [rows, columns]);
                match bias.filter(|_| gemm.beta != 0.0).map(|c| gemm_bias(gemm, c, dims[1])).transpose()? {
                    Some(None) => return Ok(None),
                    bias => (dims, order, bias.flatten()),
                }
            }
            _ => return Ok(None),
        };
        Self::product(dims, Matrix::Stored(matrix), order, bias.as_deref(), isa)
    }

    /// Whether the step reads its first operand only.
    pub(crate) fn replaces_operands(&self) -> bool {
        matches!(self, Self::Conv { .. } | Self::Product { .. } | Self::Codes(_))
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
        let Some(filter) = conv_filter(conv, &weight_shape) else { return Ok(None) };
        let (weight, bias) = (weight.as_slice::<f32>()?, bias.map(Tensor::as_slice).transpose()?);
        let scaled = norm.map(|norm| norm.applied(weight, bias, filter.out_channels)).transpose()?;
        let (weight, bias) = scaled.as_ref().map_or((weight, bias), |(w, b)| (w, Some(b)));
        let kernel = if is_depthwise(&filter) {
            Some(ConvKernel::Depthwise(Box::new(PackedDepthwise::new(isa, &filter, weight, bias)?)))
        } else {
            PackedConv::new(isa, &filter, weight, bias)?.map(|packed| ConvKernel::Dense(Box::new(packed)))
        };
        Ok(kernel.map(|kernel| Self::Conv { kernel, weight_shape }))
    }

    fn gemm(gemm: &Gemm, b: &Tensor, c: Option<&Tensor>, isa: Isa) -> Result<Option<Self>, OpError> {
        let &[rows, columns] = b.shape() else { return Ok(None) };
        let (dims, order) = gemm_matrix(gemm, [rows, columns]);
        let product = |weight: &[f32], bias| Self::product(dims, Matrix::Here(weight), order, bias, isa);
        let mut weight = Cow::Borrowed(b.as_slice::<f32>()?);
        if gemm.alpha != 1.0 {
            weight.to_mut().iter_mut().for_each(|w| *w *= gemm.alpha);
        }
        let Some(c) = c.filter(|_| gemm.beta != 0.0) else {
            return product(&weight, None);
        };
        match gemm_bias(gemm, c, dims[1])? {
            Some(bias) => product(&weight, Some(&bias)),
            None => Ok(None),
        }
    }

    /// The product with a matrix of `depth` rows and `columns` columns.
    fn product(
        [depth, columns]: [usize; 2],
        matrix: Matrix<'_>,
        order: MatrixOrder,
        bias: Option<&[f32]>,
        isa: Isa,
    ) -> Result<Option<Self>, OpError> {
        let Some(mut packer) = MatrixPacker::new(isa, [depth, columns], order, bias)? else { return Ok(None) };
        match matrix {
            Matrix::Here(elements) => packer.push(elements),
            // Elements of another type would be missing in the end.
            Matrix::Stored(constant) => constant.pieces(&mut |piece| {
                if let TensorData::F32(elements) = piece {
                    packer.push(elements);
                }
            })?,
        }
        Ok(Some(Self::Product { kernel: Box::new(packer.finish()?), depth, columns }))
    }
}

/// Where the elements of a matrix are.
enum Matrix<'a> {
    /// In memory.
    Here(&'a [f32]),
    /// In their document.
    Stored(&'a Constant),
}

/// Depth and columns of the matrix that the second operand of `gemm` stands for, and the order of its elements.
fn gemm_matrix(gemm: &Gemm, [rows, columns]: [usize; 2]) -> ([usize; 2], MatrixOrder) {
    if gemm.trans_b { ([columns, rows], MatrixOrder::Columns) } else { ([rows, columns], MatrixOrder::Rows) }
}

/// The third operand of `gemm` as one element for each column, if it is the same for all rows.
fn gemm_bias(gemm: &Gemm, c: &Tensor, columns: usize) -> Result<Option<Vec<f32>>, OpError> {
    Ok(match (c.shape(), c.as_slice::<f32>()?) {
        (_, [value]) => Some(vec![value * gemm.beta; columns]),
        ([n] | [1, n], values) if *n == columns => Some(values.iter().map(|v| v * gemm.beta).collect()),
        _ => None,
    })
}

/// What the plan says about a step on codes.
pub(crate) struct Planned<'p> {
    /// Grid of the operand.
    pub(crate) x: CodeGrid,
    pub(crate) weight: &'p WeightPlan,
    /// The entry of the bias, if the node has one.
    pub(crate) bias: Option<&'p WeightPlan>,
    /// Grid of the result, if it is rounded to one.
    pub(crate) result: Option<CodeGrid>,
    /// Applied to the result of the operator.
    pub(crate) activation: Activation,
}

impl CodesReady {
    /// Packs the codes of a convolution's or a product's weights: `None` for an operator, or codes, that no kernel takes.
    ///
    /// # Errors
    /// If the codes do not fit the operator.
    pub(crate) fn of(op: &Op, plan: &Planned<'_>, isa: Isa) -> Result<Option<Self>, OpError> {
        let symmetric = plan.weight.params.zero_point().iter().all(|z| *z == 0);
        if plan.weight.codes.dtype() != DType::I8 || !symmetric {
            return Ok(None);
        }
        let codes = &*plan.weight.codes;
        let (filter, weight) = match op {
            Op::Conv(conv) => {
                let weight = output_first(codes, conv.filter, &mut Pool::default())?.into_owned();
                let Some(filter) = conv_filter(conv, weight.shape()) else { return Ok(None) };
                (filter, weight)
            }
            Op::Gemm(gemm) if !gemm.trans_a && gemm.alpha == 1.0 && (gemm.beta == 1.0 || plan.bias.is_none()) => {
                let &[rows, columns] = codes.shape() else { return Ok(None) };
                let (columns, depth) = if gemm.trans_b { (rows, columns) } else { (columns, rows) };
                let weight = if gemm.trans_b { codes.as_slice()?.to_vec() } else { transposed::<i8>(codes)? };
                let weight = Tensor::new([columns, depth], weight)?;
                (pointwise(depth, columns), weight)
            }
            _ => return Ok(None),
        };
        let values = weight.as_slice::<i8>()?;
        let kernel = if is_depthwise(&filter) {
            Some(CodesKernel::Depthwise(PackedCodesDepthwise::new(isa, &filter, values)?))
        } else {
            PackedCodesConv::new(isa, &filter, values)?.map(CodesKernel::Dense)
        };
        let result = CodesResult::of(plan, filter.out_channels)?;
        let weight_shape = weight.shape().to_vec();
        Ok(kernel.zip(result).map(|(kernel, result)| Self { kernel, weight_shape, result }))
    }
}

impl CodesResult {
    fn of(plan: &Planned<'_>, channels: usize) -> Result<Option<Self>, OpError> {
        let scales = plan.weight.params.scale();
        let bias = match plan.bias {
            None => vec![0; channels],
            Some(bias) if bias.codes.dtype() == DType::I32 => bias.codes.as_slice::<i32>()?.to_vec(),
            Some(_) => return Ok(None),
        };
        if bias.len() != channels || ![1, channels].contains(&scales.len()) {
            return Ok(None);
        }
        // In this order and precision, as onnxruntime computes it.
        let scale = |channel: usize| plan.x.kernel().scale * scales[channel % scales.len()];
        let limits = limits(plan.activation);
        Ok(Some(match (plan.result, limits) {
            (Some(grid), Some(limits)) => {
                let multiplier = |channel| f64::from(scale(channel) / grid.kernel().scale);
                let multipliers: Vec<f64> = (0..channels).map(multiplier).collect();
                let range = grid.range(limits);
                Self::Codes { requantize: Requantize::new(&bias, &multipliers, range, Rounding::FloatHalfEven)?, grid }
            }
            _ => Self::Reals(Dequantize::new(&bias, &(0..channels).map(scale).collect::<Vec<f32>>())?),
        }))
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

/// What a convolution is to the kernels, by a weight of this shape, outputs first; `None` for more than two spatial axes.
fn conv_filter(conv: &Conv, weight: &[usize]) -> Option<Filter> {
    let [out_channels, group_in, kernel @ ..] = weight else { return None };
    Some(Filter {
        in_channels: group_in.checked_mul(conv.group)?,
        out_channels: *out_channels,
        group: conv.group,
        kernel: plane(kernel)?,
        stride: plane(&conv.window.strides)?,
        dilation: plane(&conv.window.dilations)?,
    })
}

fn pointwise(in_channels: usize, out_channels: usize) -> Filter {
    Filter { in_channels, out_channels, group: 1, kernel: [1; 2], stride: [1; 2], dilation: [1; 2] }
}

/// Whether each channel is convolved on its own.
fn is_depthwise(filter: &Filter) -> bool {
    filter.group > 1 && filter.group == filter.in_channels && filter.in_channels == filter.out_channels
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

/// The elements of a matrix with its axes exchanged.
///
/// # Errors
/// If it is no matrix, or of another element type.
fn transposed<T: Element + Copy>(matrix: &Tensor) -> Result<Vec<T>, OpError> {
    let &[rows, columns] = matrix.shape() else { return Err(OpError::shape("a matrix has two axes")) };
    let values = matrix.as_slice::<T>()?;
    let mut turned = Vec::with_capacity(values.len());
    (0..columns).for_each(|c| turned.extend((0..rows).map(|r| values[r * columns + c])));
    Ok(turned)
}
