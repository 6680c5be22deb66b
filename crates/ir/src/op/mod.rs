//! The closed set of operators with shared semantics, and [`Opaque`] for everything else.
//!
//! Semantics follow the ONNX operator of the same name at its newest revision, with these conventions: what newer
//! revisions pass as operands (shapes, axes, pads, clip limits) is an operand here, and front-ends of formats that
//! keep it in attributes add a constant; what differs between frameworks is data on the operator (padding rule,
//! rounding, layout), never another operator. Operands are listed in each operator's docstring, `?` marks optional
//! ones.
//!
//! Rooms: [`window`] (convolution, pooling), [`elementwise`], [`linear`], [`norm`], [`layout`] (moving elements),
//! [`reduce`], [`meta`] (shapes and constants), [`quantize`], [`ranged`] (codes with their ranges); [`behaviour`] says what each
//! means to quantization.

pub mod behaviour;
pub mod elementwise;
pub mod layout;
pub mod linear;
pub mod meta;
pub mod norm;
pub mod quantize;
pub mod ranged;
pub mod reduce;
pub mod window;

pub use behaviour::RangeRule;
pub use elementwise::{Binary, Cast, Nary, Unary};
pub use layout::{
    AspectPolicy, Concat, CoordinateMode, DepthToSpace, DepthToSpaceMode, Flatten, Gather, NearestMode, Pad, PadMode,
    Reshape, Resize, ResizeMode, SpaceToDepth, Split, Transpose,
};
pub use linear::Gemm;
pub use meta::{ConstantOfShape, ShapeOf};
pub use norm::{BatchNorm, InstanceNorm, LayerNorm, Lrn, LrnRegion, Softmax};
pub use quantize::LinearQuantization;
pub use ranged::{
    ProductOutput, RangedConvolution, RangedOutput, RangedPadding, RangedProduct, RangedWindow, RangedWork,
};
pub use reduce::{ArgMax, Reduce, ReduceKind};
pub use window::{
    AveragePool, Conv, ConvTranspose, FilterLayout, GlobalPool, Layout, LpPool, MaxPool, Padding, Rounding, Window,
};

/// An operator.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Convolution. Operands: x, weight, bias?.
    Conv(Conv),
    /// Transposed convolution. Operands: x, weight, bias?. The largest and among the rarest, so it stands elsewhere.
    ConvTranspose(Box<ConvTranspose>),
    /// Maximum over windows. Operands: x. Results: y, indices?.
    MaxPool(MaxPool),
    /// Mean over windows. Operands: x.
    AveragePool(AveragePool),
    /// p-norm over windows. Operands: x.
    LpPool(LpPool),
    /// Reduction over all spatial axes, which stay as size 1. Operands: x.
    GlobalPool(GlobalPool),
    /// Function of one element. Operands: x.
    Unary(Unary),
    /// Function of two elements, broadcast. Operands: a, b.
    Binary(Binary),
    /// Fold over any number of operands, broadcast. Operands: x0, x1, ….
    Nary(Nary),
    /// Limits elements to an interval. Operands: x, min?, max? (scalars).
    Clip,
    /// `x < 0 ? slope * x : x`. Operands: x, slope (broadcast to x).
    PRelu,
    /// Chooses elements. Operands: condition, a, b, broadcast.
    Where,
    /// Converts the element type. Operands: x.
    Cast(Cast),
    /// Matrix product with batch broadcasting. Operands: a, b.
    MatMul,
    /// `alpha * op(a) * op(b) + beta * c`. Operands: a, b, c?.
    Gemm(Gemm),
    /// Batch normalization with stored statistics. Operands: x, scale, bias, mean, variance.
    BatchNorm(BatchNorm),
    /// Local response normalization, across channels or within one. Operands: x.
    Lrn(Lrn),
    /// Normalization of each channel of each sample. Operands: x, scale, bias.
    InstanceNorm(InstanceNorm),
    /// Normalization over trailing axes. Operands: x, scale, bias?. Results: y, mean?, inverse deviation?.
    LayerNorm(LayerNorm),
    /// Softmax or its logarithm. Operands: x.
    Softmax(Softmax),
    /// Joins along an axis. Operands: x0, x1, ….
    Concat(Concat),
    /// Cuts along an axis. Operands: x, sizes?. Results: as many as pieces.
    Split(Split),
    /// Takes ranges. Operands: x, starts, ends, axes?, steps?.
    Slice,
    /// Takes entries along an axis. Operands: x, indices.
    Gather(Gather),
    /// Permutes axes. Operands: x.
    Transpose(Transpose),
    /// Gives another shape. Operands: x, shape.
    Reshape(Reshape),
    /// Joins axes to a matrix. Operands: x.
    Flatten(Flatten),
    /// Drops axes of size 1. Operands: x, axes?.
    Squeeze,
    /// Adds axes of size 1. Operands: x, axes.
    Unsqueeze,
    /// Broadcasts to a shape. Operands: x, shape.
    Expand,
    /// Repeats along axes. Operands: x, repeats.
    Tile,
    /// Extends at the borders. Operands: x, pads, value?, axes?.
    Pad(Pad),
    /// Resamples. Operands: x, roi?, scales?, sizes?.
    Resize(Resize),
    /// Moves channels into space. Operands: x.
    DepthToSpace(DepthToSpace),
    /// Moves space into channels. Operands: x.
    SpaceToDepth(SpaceToDepth),
    /// Reduction over axes. Operands: x, axes?.
    Reduce(Reduce),
    /// Index of the largest element along an axis. Operands: x.
    ArgMax(ArgMax),
    /// Dimensions of the operand, `int64`. Operands: x.
    Shape(ShapeOf),
    /// Number of elements of the operand, `int64`. Operands: x.
    Size,
    /// A tensor of one repeated value. Operands: shape.
    ConstantOfShape(ConstantOfShape),
    /// Numbers from start to limit. Operands: start, limit, delta (scalars).
    Range,
    /// Passes its operand on; stands for inference-time dropout too. Operands: x, ignored…. Results: y, mask?.
    Identity,
    /// Real to integer codes. Operands: x, scale, zero point?.
    Quantize(LinearQuantization),
    /// Integer codes to real. Operands: x, scale, zero point?.
    Dequantize(LinearQuantization),
    /// Work on codes that travel with their ranges, each of which is two operands or results of its own: see there.
    Ranged(RangedWork),
    /// Carried, copied and never quantized; executing it is an error that names it.
    Opaque(Opaque),
}

/// An operator without shared semantics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opaque {
    /// Operator set it belongs to; empty for the format's own.
    pub domain: String,
    /// Its name there.
    pub kind: String,
}

impl Op {
    /// The operator's name, as messages and plans spell it.
    pub fn name(&self) -> &str {
        match self {
            Self::Conv(_) => "Conv",
            Self::ConvTranspose(_) => "ConvTranspose",
            Self::MaxPool(_) => "MaxPool",
            Self::AveragePool(_) => "AveragePool",
            Self::LpPool(_) => "LpPool",
            Self::GlobalPool(p) => p.name(),
            Self::Unary(f) => f.name(),
            Self::Binary(f) => f.name(),
            Self::Nary(f) => f.name(),
            Self::Clip => "Clip",
            Self::PRelu => "PRelu",
            Self::Where => "Where",
            Self::Cast(_) => "Cast",
            Self::MatMul => "MatMul",
            Self::Gemm(_) => "Gemm",
            Self::BatchNorm(_) => "BatchNormalization",
            Self::Lrn(_) => "LRN",
            Self::InstanceNorm(_) => "InstanceNormalization",
            Self::LayerNorm(_) => "LayerNormalization",
            Self::Softmax(s) => s.name(),
            Self::Concat(_) => "Concat",
            Self::Split(_) => "Split",
            Self::Slice => "Slice",
            Self::Gather(_) => "Gather",
            Self::Transpose(_) => "Transpose",
            Self::Reshape(_) => "Reshape",
            Self::Flatten(_) => "Flatten",
            Self::Squeeze => "Squeeze",
            Self::Unsqueeze => "Unsqueeze",
            Self::Expand => "Expand",
            Self::Tile => "Tile",
            Self::Pad(_) => "Pad",
            Self::Resize(_) => "Resize",
            Self::DepthToSpace(_) => "DepthToSpace",
            Self::SpaceToDepth(_) => "SpaceToDepth",
            Self::Reduce(r) => r.kind.name(),
            Self::ArgMax(_) => "ArgMax",
            Self::Shape(_) => "Shape",
            Self::Size => "Size",
            Self::ConstantOfShape(_) => "ConstantOfShape",
            Self::Range => "Range",
            Self::Identity => "Identity",
            Self::Quantize(_) => "QuantizeLinear",
            Self::Dequantize(_) => "DequantizeLinear",
            Self::Ranged(work) => work.name(),
            Self::Opaque(o) => &o.kind,
        }
    }
}
