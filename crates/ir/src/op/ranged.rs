//! Codes that travel with their ranges, as TensorFlow's kernels take them: a tensor of codes has two further tensors, the
//! ends of its range, and whoever reads the codes asks these what they stand for.
//!
//! What lives here: the work of such operators as data. The arithmetic is in [`quantize_numerics::ranged`].

use crate::dtype::DType;
pub use quantize_numerics::ranged::{Codes, Reading};

/// What one node computes. Activations have their channels last; results come with their range, as two scalars, unless
/// said otherwise.
#[derive(Clone, Debug, PartialEq)]
pub enum RangedWork {
    /// Reals, the ends of a range: codes.
    Quantize(Codes),
    /// Codes, the ends of their range: reals, alone.
    Dequantize {
        /// The codes.
        codes: Codes,
        /// How they are read.
        reading: Reading,
    },
    /// A convolution.
    Convolution(RangedConvolution),
    /// A matrix product.
    Product(RangedProduct),
    /// 32-bit codes with their range: the range that they take up, alone.
    UsedRange,
    /// 32-bit codes with a range for each channel: one range that they take up, no greater than the number, alone.
    UsedChannelRange(f32),
    /// 32-bit codes with their range, and another range: codes of that without sign.
    Narrow,
    /// 32-bit codes with a range for each channel, and another range: 8-bit codes of that.
    NarrowChannels(Codes),
    /// The greatest code of each window.
    MaxPool(RangedWindow, Codes),
    /// The mean of the codes of each window, of those that exist.
    AveragePool(RangedWindow, Codes),
    /// So many tensors of codes, an axis, their lower ends and their upper ends: the codes put together, in the range that
    /// all of them need.
    Join {
        /// Number of tensors.
        parts: usize,
        /// The codes.
        codes: Codes,
    },
}

impl RangedWork {
    /// Its name, as messages spell it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Quantize(_) => "RangedQuantize",
            Self::Dequantize { .. } => "RangedDequantize",
            Self::Convolution(_) => "RangedConvolution",
            Self::Product(_) => "RangedProduct",
            Self::UsedRange => "UsedRange",
            Self::UsedChannelRange(_) => "UsedChannelRange",
            Self::Narrow => "RangedNarrow",
            Self::NarrowChannels(_) => "RangedNarrowChannels",
            Self::MaxPool(..) => "RangedMaxPool",
            Self::AveragePool(..) => "RangedAveragePool",
            Self::Join { .. } => "RangedJoin",
        }
    }

    /// Number of results.
    pub fn results(&self) -> usize {
        match self {
            Self::Dequantize { .. } | Self::Product(RangedProduct { output: ProductOutput::Reals, .. }) => 1,
            Self::UsedRange | Self::UsedChannelRange(_) => 2,
            _ => 3,
        }
    }

    /// Type of the elements of a result; ends of ranges are real.
    pub fn result_type(&self, slot: usize) -> DType {
        let codes = match self {
            _ if slot > 0 => return DType::F32,
            Self::Dequantize { .. }
            | Self::UsedRange
            | Self::UsedChannelRange(_)
            | Self::Product(RangedProduct { output: ProductOutput::Reals, .. }) => return DType::F32,
            Self::Narrow => Codes::Unsigned,
            Self::Product(RangedProduct { output: ProductOutput::Codes(codes), .. }) => *codes,
            Self::Convolution(RangedConvolution { output: RangedOutput::Wide { .. }, .. }) => return DType::I32,
            Self::Convolution(RangedConvolution { output: RangedOutput::Reals, .. }) => return DType::F32,
            Self::Convolution(RangedConvolution { output: RangedOutput::Narrow { codes, .. }, .. })
            | Self::Quantize(codes)
            | Self::NarrowChannels(codes)
            | Self::MaxPool(_, codes)
            | Self::AveragePool(_, codes)
            | Self::Join { codes, .. } => *codes,
        };
        match codes {
            Codes::Unsigned => DType::U8,
            Codes::Signed => DType::I8,
        }
    }
}

/// A convolution of 8-bit codes. Operands: codes, codes of weights, a bias if there is one, the ends of both ranges; then
/// what the result and the summand need.
#[derive(Clone, Debug, PartialEq)]
pub struct RangedConvolution {
    /// Codes of the input.
    pub input: Codes,
    /// Whether each input channel has filters of its own: weights are `[height, width, input channels, multiplier]` then,
    /// and `[height, width, input channels, output channels]` if not.
    pub is_depthwise: bool,
    /// How the window moves; its size is that of the weights.
    pub window: RangedWindow,
    /// Whether there is a bias, in reals or in 32-bit codes.
    pub has_bias: bool,
    /// Whether negative sums become zero.
    pub has_relu: bool,
    /// What is written.
    pub output: RangedOutput,
}

/// What a convolution writes, and what it adds before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangedOutput {
    /// 32-bit codes with the range that follows from those of the operands.
    Wide {
        /// Whether the last operand is a tensor of reals that is added.
        has_summand: bool,
    },
    /// 8-bit codes of a range that is given by two more operands.
    Narrow {
        /// The codes.
        codes: Codes,
        /// The codes of a tensor that is added; three more operands are this and its range.
        summand: Option<Codes>,
    },
    /// Reals.
    Reals,
}

/// A matrix product of 8-bit codes, `[rows, depth]` by signed ones `[depth, columns]`. Operands: both, a bias in reals or in
/// 32-bit codes, the ends of both ranges, and those of the range of the result.
#[derive(Clone, Debug, PartialEq)]
pub struct RangedProduct {
    /// Codes of the first operand.
    pub input: Codes,
    /// Whether negative sums become zero.
    pub has_relu: bool,
    /// What is written.
    pub output: ProductOutput,
}

/// What a matrix product writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProductOutput {
    /// 8-bit codes of the range of the result.
    Codes(Codes),
    /// Reals, alone, that the range has no part in.
    Reals,
}

/// A window over height and width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RangedWindow {
    /// Height and width; of convolutions that of the weights.
    pub size: [usize; 2],
    /// Step between windows.
    pub strides: [usize; 2],
    /// Distance between taps.
    pub dilations: [usize; 2],
    /// What lies around the input.
    pub padding: RangedPadding,
}

/// What lies around an input: zeros for convolutions, nothing for pools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangedPadding {
    /// As many as make outputs be inputs divided by strides, rounded up; the odd one last.
    Same,
    /// Top, bottom, left and right.
    Explicit([usize; 4]),
}
