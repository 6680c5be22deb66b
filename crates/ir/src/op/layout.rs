//! Operators that move elements without computing new ones, and resampling.

use super::window::Layout;

/// Joins along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Concat {
    /// The axis; may be negative.
    pub axis: i64,
}

/// Cuts along an axis: into the sizes given as operand, else into equal pieces, one for each result, the last
/// possibly smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    /// The axis; may be negative.
    pub axis: i64,
}

/// Takes entries along an axis; indices may be negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gather {
    /// The axis; may be negative.
    pub axis: i64,
}

/// Permutes axes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transpose {
    /// Source axis of each result axis; empty reverses all.
    pub perm: Vec<usize>,
}

/// Gives another shape; -1 stands for what is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reshape {
    /// Whether a 0 in the shape means an empty axis rather than "as the operand".
    pub allow_zero: bool,
}

/// Joins the axes before `axis` and those from it on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flatten {
    /// First axis of the second group; may be negative, and may equal the rank.
    pub axis: i64,
}

/// What is put beyond the border.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PadMode {
    /// A value, 0 if none is given.
    Constant,
    /// Mirrored without repeating the border element.
    Reflect,
    /// The border element.
    Edge,
    /// The other end.
    Wrap,
}

/// Extends at the borders; negative pads cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pad {
    /// What is put there.
    pub mode: PadMode,
}

/// Interpolation of a resize.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ResizeMode {
    /// The nearest element.
    Nearest(NearestMode),
    /// Linear along each axis.
    Linear,
    /// Cubic convolution along each axis.
    Cubic {
        /// Coefficient `a` of the kernel.
        coefficient: f32,
        /// Whether taps outside are left out and the weights renormalized.
        exclude_outside: bool,
    },
}

/// Which element is nearest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NearestMode {
    /// Halves down.
    RoundPreferFloor,
    /// Halves up.
    RoundPreferCeil,
    /// Always down.
    Floor,
    /// Always up.
    Ceil,
}

/// How an output coordinate maps to the input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum CoordinateMode {
    /// `(x + 0.5) / scale - 0.5`
    HalfPixel,
    /// As `HalfPixel`, centred on the output's exact extent.
    HalfPixelSymmetric,
    /// As `HalfPixel`, but 0 for an output of size 1.
    PytorchHalfPixel,
    /// `x * (input - 1) / (output - 1)`
    AlignCorners,
    /// `x / scale`
    Asymmetric,
    /// `(x + 0.5) / scale`, used by early revisions of TensorFlow exports for nearest.
    TfHalfPixelForNearest,
    /// Inside a region of interest; outside it `extrapolation`.
    TfCropAndResize {
        /// Value outside the region.
        extrapolation: f32,
    },
}

/// What "keep the aspect ratio" does to requested sizes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AspectPolicy {
    /// Nothing: sizes are taken as they are.
    #[default]
    Stretch,
    /// The result fits inside the sizes.
    NotLarger,
    /// The result covers the sizes.
    NotSmaller,
}

/// Resamples.
#[derive(Clone, Debug, PartialEq)]
pub struct Resize {
    /// Interpolation.
    pub mode: ResizeMode,
    /// Coordinate mapping.
    pub coordinates: CoordinateMode,
    /// Whether shrinking widens the kernel.
    pub antialias: bool,
    /// Axes the operands speak of; empty for all.
    pub axes: Vec<i64>,
    /// Aspect ratio rule for `sizes`.
    pub aspect: AspectPolicy,
}

/// Order in which channels are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DepthToSpaceMode {
    /// Channel = (row, column, depth).
    DepthColumnRow,
    /// Channel = (depth, row, column).
    ColumnRowDepth,
}

/// Moves channels into blocks of space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DepthToSpace {
    /// Side of a block.
    pub block: usize,
    /// Order of the channels.
    pub mode: DepthToSpaceMode,
    /// Activation layout.
    pub layout: Layout,
}

/// Moves blocks of space into channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpaceToDepth {
    /// Side of a block.
    pub block: usize,
    /// Activation layout.
    pub layout: Layout,
}
