//! What a caller may ask for: the settings of a quantization, of its data and of its run.

use quantize_calib::{Channels, Interpolation, Layout};
use quantize_numerics::RangeMethod;
use std::path::PathBuf;

/// Number of weight scales.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Granularity {
    /// One for each output channel, where the target allows it.
    #[default]
    PerChannel,
    /// One for each tensor.
    PerTensor,
}

/// Which parameters are chosen, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct RecipeOptions {
    /// How activation ranges follow from statistics.
    pub range: RangeMethod,
    /// Number of weight scales.
    pub weights: Granularity,
    /// Names or glob patterns of nodes that stay as they are; each must match a node, except `*`.
    pub skip: Vec<String>,
}

impl Default for RecipeOptions {
    fn default() -> Self {
        Self { range: RangeMethod::MinMax, weights: Granularity::PerChannel, skip: Vec::new() }
    }
}

/// How images become model inputs; what is `None` follows from the preset or from the model input.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PreprocessOptions {
    /// Name of a preset that fills in everything else.
    pub preset: Option<String>,
    /// Length of the short side after resizing, aspect ratio kept.
    pub resize_short: Option<usize>,
    /// Width and height after resizing, aspect ratio not kept.
    pub resize: Option<(usize, usize)>,
    /// Width and height of the centre crop.
    pub crop: Option<(usize, usize)>,
    /// How the resize interpolates.
    pub interpolation: Option<Interpolation>,
    /// Channels and their order.
    pub channels: Option<Channels>,
    /// Subtracted from pixel values 0 to 255: one value, or one for each channel.
    pub mean: Option<Vec<f32>>,
    /// Multiplied after that: one value, or one for each channel.
    pub scale: Option<Vec<f32>>,
    /// Axis order of the model input.
    pub layout: Option<Layout>,
}

/// Where samples come from.
#[derive(Clone, Debug, PartialEq)]
pub struct DataOptions {
    /// Folder of images, or one image.
    pub path: PathBuf,
    /// How they become model inputs.
    pub preprocess: PreprocessOptions,
}

/// A quantization from file to file.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizeOptions {
    /// The fp32 model.
    pub model: PathBuf,
    /// The model to write.
    pub output: PathBuf,
    /// Calibration data; may be absent if nothing is quantized.
    pub data: Option<DataOptions>,
    /// Which parameters are chosen, and how.
    pub recipe: RecipeOptions,
    /// Where to write the plan, if anywhere.
    pub emit_plan: Option<PathBuf>,
    /// Threads; 0 for one for each core.
    pub threads: usize,
}

/// Number of threads `requested` stands for.
pub(crate) fn thread_count(requested: usize) -> usize {
    match requested {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        n => n,
    }
}
