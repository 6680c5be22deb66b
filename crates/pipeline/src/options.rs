//! What a caller may ask for: the settings of a quantization, of its data and of its run.

use quantize_calib::{Channels, Interpolation, Layout, Sampling};
use quantize_numerics::RangeMethod;
use quantize_onnx::{ActivationCodes, Form, GroupSize};
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

/// How the range of the network's input is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InputRange {
    /// What pixels can give, whatever the samples show; by the range method where samples are arrays.
    #[default]
    Possible,
    /// By the range method, like any other.
    Method,
    /// Smallest and largest value of the samples.
    Observed,
}

/// What brings the mean of each layer's result back to that in fp32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BiasCorrection {
    /// Nothing.
    #[default]
    None,
    /// Biases that answer the rounding of the layer's own weights.
    Analytic,
    /// Biases that answer whatever rounding did up to there.
    Sequential,
}

/// How codes of weights are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WeightRounding {
    /// The nearest.
    #[default]
    Nearest,
    /// Those that keep the layer's result best.
    Result,
}

/// What is changed of a plan by running the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Correction {
    /// How codes of weights are chosen.
    pub rounding: WeightRounding,
    /// Whether weight scales take back what amplitude is lost; not with
    /// [`BiasCorrection::Analytic`].
    pub gain: bool,
    /// What becomes of means.
    pub bias: BiasCorrection,
    /// Samples it is measured with, at most.
    pub images: usize,
}

impl Correction {
    /// Whether nothing is changed.
    pub fn is_none(&self) -> bool {
        self.rounding == WeightRounding::Nearest && !self.gain && self.bias == BiasCorrection::None
    }
}

/// What is given up to reach a target of accuracy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fallback {
    /// Rounding: layers compute in fp32.
    #[default]
    Real,
    /// 8 bits: activations get codes of 16, where the target has them.
    WideCodes,
}

/// What a quantized model has to reach on the samples that judge it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct AccuracyTarget {
    /// Mean signal to noise of the first output, before a softmax, in dB.
    pub sqnr_db: Option<f64>,
    /// Percent of samples with the fp32 model's class.
    pub agreement: Option<f64>,
    /// Points of percent of top-1 accuracy that labelled samples may lose; only with such samples.
    pub max_drop: Option<f64>,
    /// What is given up for it.
    pub fallback: Fallback,
}

/// Labelled samples, for a bound on the loss of accuracy.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelledOptions {
    /// Where they come from, and how they become model inputs.
    pub data: DataOptions,
    /// File of labels, one line for each sample.
    pub labels: PathBuf,
}

/// Which parameters are chosen, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct RecipeOptions {
    /// How activation ranges follow from statistics.
    pub range: RangeMethod,
    /// How the range of the network's input is found.
    pub input: InputRange,
    /// Whether the network's results, where they are rounded, get room for images that were not seen, whatever the
    /// range method.
    pub result_headroom: bool,
    /// Number of weight scales.
    pub weights: Granularity,
    /// What is changed by running the network.
    pub correction: Correction,
    /// Whether input channels of products are scaled where samples show that it makes the model better.
    pub smooth: bool,
    /// Whether channels between layers are scaled where weights have one scale each and samples show that it makes the
    /// model better.
    pub equalize: bool,
    /// What the quantized model has to reach; layers go back to fp32 until it does.
    pub target: Option<AccuracyTarget>,
    /// File that keeps what the search for the target finds, and from which an interrupted one goes on.
    pub search_record: Option<PathBuf>,
    /// Names or glob patterns of nodes that stay as they are; each must match a node, except `*`.
    pub skip: Vec<String>,
}

/// A set of choices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// Min-max ranges, corrected with the fewest samples that show something.
    Fast,
    /// Ranges of least error, weights rounded for the layer's result, corrected.
    Balanced,
    /// As balanced, with more samples.
    Best,
    /// What tools that correct nothing do, as onnxruntime's `quantize_static` by default: ranges and input as observed,
    /// one scale for each weight, nearest codes.
    Compat,
}

impl RecipeOptions {
    /// The choices of a preset.
    pub fn of(preset: Preset) -> Self {
        let corrected = |range, rounding, images| Self {
            range,
            smooth: rounding == WeightRounding::Result,
            correction: Correction { rounding, gain: true, bias: BiasCorrection::Sequential, images },
            ..Self::default()
        };
        match preset {
            Preset::Fast => corrected(RangeMethod::MinMax, WeightRounding::Nearest, 8),
            Preset::Balanced => corrected(RangeMethod::Mse, WeightRounding::Result, 64),
            Preset::Best => Self { equalize: true, ..corrected(RangeMethod::Mse, WeightRounding::Result, 128) },
            Preset::Compat => Self {
                input: InputRange::Observed,
                result_headroom: false,
                weights: Granularity::PerTensor,
                ..Self::default()
            },
        }
    }
}

impl Default for RecipeOptions {
    fn default() -> Self {
        Self {
            range: RangeMethod::MinMax,
            input: InputRange::Possible,
            result_headroom: true,
            weights: Granularity::PerChannel,
            correction: Correction::default(),
            smooth: false,
            equalize: false,
            target: None,
            search_record: None,
            skip: Vec::new(),
        }
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

/// The arguments of Caffe's Python Transformer; what is `None` is the xfDNN quantizer's default for the network.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TransformerOptions {
    /// Axis k of the result is axis `transpose[k]` of height, width, channels.
    pub transpose: Option<[usize; 3]>,
    /// Channel k of the result is channel `channel_swap[k]` of the sample.
    pub channel_swap: Option<Vec<usize>>,
    /// Factor of the sample, whose pixels are 0 to 1.
    pub raw_scale: Option<f32>,
    /// Subtracted after that: one value, or one for each channel in the order after the swap.
    pub mean_value: Option<Vec<f64>>,
    /// A mean image to subtract instead, `.npy` or `.binaryproto`.
    pub mean_file: Option<PathBuf>,
    /// Factor after that; 0 for none.
    pub input_scale: Option<f32>,
}

/// How samples become model inputs.
#[derive(Clone, Debug, PartialEq)]
pub enum PreparationOptions {
    /// As Pillow resizes; images only.
    Pillow(PreprocessOptions),
    /// As Caffe's Python tools do; images and arrays.
    Caffe(TransformerOptions),
}

/// Where samples come from.
#[derive(Clone, Debug, PartialEq)]
pub struct DataOptions {
    /// What feeds the model: one folder or file for all inputs, or `NAME=PATH` for each input.
    pub paths: Vec<PathBuf>,
    /// Which of them are taken.
    pub sampling: Sampling,
    /// How they become model inputs.
    pub preparation: PreparationOptions,
}

/// What processors an integer model is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Processor {
    /// Those that add products of codes without saturation: x86 with VNNI, Arm, and kernels that widen first.
    #[default]
    Exact,
    /// x86 without VNNI, whose kernels add products in pairs of 16 bits, which two large weights saturate.
    GenericX86,
}

/// Bits of a weight's code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WeightBits {
    /// 8, or 7 where the processor needs that; layers compute on integers.
    #[default]
    Eight,
    /// 4, in groups with a scale and a zero point each: of matrix products only, which compute in fp32.
    Four(GroupSize),
}

/// What kind of ONNX model is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TargetOptions {
    /// How it says that a node computes on integers.
    pub form: Form,
    /// Codes of activations.
    pub activations: ActivationCodes,
    /// Whether their zero points lie in the middle.
    pub symmetric: bool,
    /// Whether results of the network are rounded to codes like every other value.
    pub quantize_results: bool,
    /// What processors it is for.
    pub processor: Processor,
    /// Bits of a weight; 4 need [`Form::QOperator`].
    pub weights: WeightBits,
}

/// One of several equal shares of the samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    index: usize,
    count: usize,
}

impl Shard {
    /// All samples.
    pub const WHOLE: Self = Self { index: 0, count: 1 };

    /// Share number `number` of `count`, counted from 1; `None` if there is no such share.
    pub fn new(number: usize, count: usize) -> Option<Self> {
        let index = number.checked_sub(1)?;
        (index < count).then_some(Self { index, count })
    }

    /// Positions of its samples among `samples`.
    pub fn positions(self, samples: usize) -> impl Iterator<Item = usize> {
        (self.index..samples).step_by(self.count)
    }
}

/// A quantization from file to file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QuantizeOptions {
    /// The fp32 model.
    pub model: PathBuf,
    /// The model to write.
    pub output: PathBuf,
    /// What kind of model it is.
    pub target: TargetOptions,
    /// Calibration data; may be absent if nothing is quantized.
    pub data: Option<DataOptions>,
    /// Labelled samples that judge the bound on the loss of accuracy, and serve nothing else.
    pub labelled: Option<LabelledOptions>,
    /// Which parameters are chosen, and how.
    pub recipe: RecipeOptions,
    /// Where to write the plan, if anywhere.
    pub emit_plan: Option<PathBuf>,
    /// The plan to carry out, instead of making one.
    pub plan: Option<PathBuf>,
    /// Statistics of earlier runs, instead of running the model over the data.
    pub statistics: Option<PathBuf>,
    /// Where to write the statistics, if anywhere.
    pub save_statistics: Option<PathBuf>,
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
