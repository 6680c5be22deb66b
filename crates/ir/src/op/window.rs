//! Operators that slide a window over spatial axes.
//!
//! Activations are `[N, C, spatial…]` (`ChannelsFirst`) or `[N, spatial…, C]` (`ChannelsLast`), with any number of
//! spatial axes.

/// Where the channel axis of an activation stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// `[N, C, spatial…]`
    #[default]
    ChannelsFirst,
    /// `[N, spatial…, C]`
    ChannelsLast,
}

/// Order of a convolution weight's axes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FilterLayout {
    /// `[output, input / group, spatial…]`; transposed convolution: `[input, output / group, spatial…]`.
    #[default]
    OutputFirst,
    /// `[spatial…, input / group, output]`; transposed convolution: `[spatial…, output / group, input]`.
    OutputLast,
}

/// How the border is extended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Padding {
    /// Given numbers of elements before and after each spatial axis; empty lists stand for zeros.
    Explicit {
        /// Before each axis.
        begin: Vec<usize>,
        /// After each axis.
        end: Vec<usize>,
    },
    /// As many outputs as input / stride rounded up, the odd element at the end.
    SameUpper,
    /// As many outputs as input / stride rounded up, the odd element at the start.
    SameLower,
    /// None.
    Valid,
}

impl Padding {
    /// No padding, as explicit zeros.
    pub fn none() -> Self {
        Self::Explicit { begin: Vec::new(), end: Vec::new() }
    }
}

/// What happens to a last window that only partly fits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rounding {
    /// It is dropped.
    #[default]
    Floor,
    /// It is kept if it starts inside the input or its leading padding.
    Ceil,
}

/// Steps and borders of a sliding window. Empty lists stand for ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Step along each spatial axis.
    pub strides: Vec<usize>,
    /// Distance between taps along each spatial axis.
    pub dilations: Vec<usize>,
    /// Border.
    pub padding: Padding,
    /// Treatment of a last partial window; convolutions round down.
    pub rounding: Rounding,
}

/// Convolution; the kernel size is the weight's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conv {
    /// Steps and borders.
    pub window: Window,
    /// Number of independent channel groups.
    pub group: usize,
    /// Activation layout.
    pub layout: Layout,
    /// Weight layout.
    pub filter: FilterLayout,
}

/// Transposed convolution; the kernel size is the weight's.
///
/// Output size along an axis: `stride * (input - 1) + output_padding + dilation * (kernel - 1) + 1 - pads`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvTranspose {
    /// Steps and borders.
    pub window: Window,
    /// Number of independent channel groups.
    pub group: usize,
    /// Elements added at the end of each spatial axis; empty for none.
    pub output_padding: Vec<usize>,
    /// Spatial output sizes that decide the padding; empty if the padding decides them.
    pub output_shape: Vec<usize>,
    /// Activation layout.
    pub layout: Layout,
    /// Weight layout.
    pub filter: FilterLayout,
}

/// Maximum over windows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaxPool {
    /// Window size along each spatial axis.
    pub kernel: Vec<usize>,
    /// Steps and borders; padded elements never win.
    pub window: Window,
    /// Whether indices count column-major.
    pub column_major: bool,
    /// Activation layout.
    pub layout: Layout,
}

/// Mean over windows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AveragePool {
    /// Window size along each spatial axis.
    pub kernel: Vec<usize>,
    /// Steps and borders.
    pub window: Window,
    /// Whether padded elements count in the divisor.
    pub count_include_pad: bool,
    /// Activation layout.
    pub layout: Layout,
}

/// p-norm over windows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LpPool {
    /// Window size along each spatial axis.
    pub kernel: Vec<usize>,
    /// Steps and borders.
    pub window: Window,
    /// Exponent of the norm, at least 1.
    pub p: u32,
    /// Activation layout.
    pub layout: Layout,
}

/// What a global pool computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GlobalPool {
    /// Mean, channels first.
    Average,
    /// Maximum, channels first.
    Max,
    /// p-norm, channels first.
    Lp(u32),
}

impl GlobalPool {
    /// The operator's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Average => "GlobalAveragePool",
            Self::Max => "GlobalMaxPool",
            Self::Lp(_) => "GlobalLpPool",
        }
    }
}
