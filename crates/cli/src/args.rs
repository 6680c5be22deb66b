//! The command line: every option is a field, its doc comment is its help text.

pub(crate) mod bench;
pub(crate) mod caffe;
pub(crate) mod eightbit;
pub(crate) mod tensorflow;
pub(crate) mod tensorflow_calibrate;
pub(crate) mod tensorflow_quantize;
pub(crate) mod tools;

use crate::list::List;
use bench::BenchArgs;
use caffe::CaffeArgs;
use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use quantize_pipeline::{
    AccuracyTarget, ActivationCodes, BiasCorrection, Channels, Correction, DataOptions, Fallback, Form, Granularity,
    GroupSize, Interpolation, LabelledOptions, Layout, PRESETS, PreparationOptions, PreprocessOptions, Preset,
    Processor, QuantizeOptions, RangeMethod, RecipeOptions, Sampling, Shard, TargetOptions, WeightBits, WeightRounding,
};
use std::path::PathBuf;
use tensorflow::TensorflowArgs;
use tools::{CompareArgs, CompletionsArgs, ExplainArgs, InspectArgs, ManArgs};

/// Post-training quantization: an fp32 model and a folder of images in, an int8 model of the same format out.
#[derive(Debug, Parser)]
#[command(name = "quantize", version, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Quantize an ONNX model to int8 (or its weights to 4 bits), for onnxruntime and others.
    Onnx(Box<OnnxArgs>),
    /// Quantize a Caffe network for the xfDNN runtime (thresholds and scales as JSON), or emulate that runtime.
    Caffe(Box<CaffeArgs>),
    /// Quantize a TensorFlow graph for TensorFlow on x86, or carry out a single step of the original tools.
    Tf(Box<TensorflowArgs>),
    /// Measure top-1 and top-5 accuracy of a model, fp32 or int8, on labelled images.
    Eval(EvalArgs),
    /// Compare two models, or one and a plan for it, on the same samples: outputs, and layer by layer.
    Compare(CompareArgs),
    /// Show what a model is: operators, work, memory, and what can be quantized and why not.
    Inspect(InspectArgs),
    /// Measure how fast a model runs here, and what share of the processor's peak that is.
    Bench(BenchArgs),
    /// Merge or describe files of calibration statistics.
    Stats(StatsArgs),
    /// Quantize and evaluate the embedded example, a classifier of handwritten digits.
    Demo(DemoArgs),
    /// Explain a word of quantization, a method or an exit code; without a topic, list them.
    Explain(ExplainArgs),
    /// Write a completion script for a shell to standard output.
    Completions(CompletionsArgs),
    /// Write the manual for `man`.
    Man(ManArgs),
}

#[derive(Debug, Args)]
pub(crate) struct OnnxArgs {
    /// The fp32 model.
    pub(crate) model: PathBuf,
    /// Where to write the model [default: MODEL with the extension .int8.onnx, or .int4.onnx with 4-bit weights].
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    #[command(flatten)]
    pub(crate) recipe: RecipeArgs,
    #[command(flatten)]
    pub(crate) data: DataArgs,
    #[command(flatten)]
    pub(crate) preprocess: PreprocessArgs,
    /// Write the plan (every decision, scale and zero point) as JSON.
    #[arg(long, value_name = "FILE", help_heading = "Artefacts")]
    pub(crate) emit_plan: Option<PathBuf>,
    /// Carry out this plan, as `--emit-plan` wrote it or edited by hand; nothing is calibrated.
    #[arg(long, value_name = "FILE", help_heading = "Artefacts",
        conflicts_with_all = ["stats", "save_stats", "range", "weights"])]
    pub(crate) plan: Option<PathBuf>,
    /// Write the statistics of all activations, for `--stats`.
    #[arg(long, value_name = "FILE", help_heading = "Artefacts")]
    pub(crate) save_stats: Option<PathBuf>,
    /// Take statistics from this file instead of running the model; --calib is then needed for a check only.
    #[arg(long, value_name = "FILE", help_heading = "Artefacts", conflicts_with = "save_stats")]
    pub(crate) stats: Option<PathBuf>,
    /// Gather the statistics of share I of N of the images, I from 1, and write nothing else.
    #[arg(long, value_name = "I/N", help_heading = "Artefacts", requires_all = ["save_stats", "calib"],
        conflicts_with_all = ["emit_plan", "output"], value_parser = parse_shard)]
    pub(crate) shard: Option<Shard>,
    #[command(flatten)]
    pub(crate) run: RunArgs,
    /// Exit with code 3 if there was a warning.
    #[arg(long, help_heading = "Run")]
    pub(crate) strict: bool,
}

#[derive(Debug, Args)]
pub(crate) struct StatsArgs {
    #[command(subcommand)]
    pub(crate) command: StatsCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum StatsCommand {
    /// Merge the statistics of shards; the result has the same bytes for every split and order.
    Merge {
        /// Files that `--save-stats` wrote.
        #[arg(required = true, value_name = "FILE")]
        inputs: Vec<PathBuf>,
        /// Where to write the merged statistics.
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
        /// Form of the result on standard output.
        #[arg(long, value_name = "FORMAT", default_value = "text")]
        output_format: OutputFormat,
    },
    /// Say what a file of statistics holds.
    Show {
        /// The file.
        file: PathBuf,
        /// Form of the result on standard output.
        #[arg(long, value_name = "FORMAT", default_value = "text")]
        output_format: OutputFormat,
    },
}

#[derive(Debug, Args)]
pub(crate) struct EvalArgs {
    /// The model, fp32 or int8.
    pub(crate) model: PathBuf,
    /// Folder of images or arrays, or one file of them; `NAME=PATH` for each input of a model with several.
    #[arg(long, value_name = "[NAME=]PATH", help_heading = "Data", required = true)]
    pub(crate) data: Vec<PathBuf>,
    /// Labels: a line `sample,class` for each sample; classes count from 0.
    #[arg(long, value_name = "FILE", help_heading = "Data")]
    pub(crate) labels: PathBuf,
    #[command(flatten)]
    pub(crate) preprocess: PreprocessArgs,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Folder to write the model, the images and the results to.
    #[arg(short, long, value_name = "DIR", default_value = "quantize-demo")]
    pub(crate) output: PathBuf,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Data")]
pub(crate) struct DataArgs {
    /// Folder of calibration images (JPEG, PNG, BMP) or arrays (.npy, .npz, ONNX tensors .pb), or one file of them; no
    /// labels needed. For a model with several inputs, `NAME=PATH` for each, or .npz files with an array for each.
    #[arg(long, value_name = "[NAME=]PATH")]
    pub(crate) calib: Vec<PathBuf>,
    /// Number of samples, chosen at random [default: all of them].
    #[arg(long, value_name = "N")]
    calib_size: Option<usize>,
    /// Seed of the random choice [default: 0].
    #[arg(long, value_name = "N", conflicts_with = "calib_indices")]
    seed: Option<u32>,
    /// Positions of samples, in the order of file names, from 0.
    #[arg(long, value_name = "I,J,…")]
    calib_indices: Option<List<usize>>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Target")]
pub(crate) struct TargetArgs {
    /// How the model says that a node computes on integers [default: qdq; 4-bit weights have an operator of their own].
    #[arg(long, value_name = "FORM")]
    format: Option<FormArg>,
    /// Bits of a weight's code. 4: only weights of matrix products become codes, everything computes in fp32.
    #[arg(long, value_name = "BITS", default_value = "8")]
    weight_bits: WeightBitsArg,
    /// 4-bit weights that share a scale and a zero point, in a row along the axis a product sums over.
    #[arg(long, value_name = "N", default_value = "32")]
    group_size: GroupSizeArg,
    /// Codes of activations; u8 is what most processors run fastest.
    #[arg(long, value_name = "TYPE", default_value = "u8")]
    activations: CodesArg,
    /// Zero points of activations in the middle of their codes.
    #[arg(long)]
    symmetric_activations: bool,
    /// Instruction set of the processors that will run the model; what has no VNNI gets weights of 7 bits.
    #[arg(long, value_name = "ISA", default_value = "any")]
    isa: IsaArg,
    /// Round results of the network to codes like every other value.
    #[arg(long)]
    quantize_outputs: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FormArg {
    /// Float operators between quantize and dequantize nodes
    Qdq,
    /// Operators on integers (QLinearConv and the like), for onnxruntime
    Qoperator,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum WeightBitsArg {
    /// Layers compute on integers
    #[value(name = "8")]
    Eight,
    /// `MatMulNBits` of onnxruntime
    #[value(name = "4")]
    Four,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum GroupSizeArg {
    #[value(name = "16")]
    G16,
    #[value(name = "32")]
    G32,
    #[value(name = "64")]
    G64,
    #[value(name = "128")]
    G128,
    #[value(name = "256")]
    G256,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum CodesArg {
    /// 0 to 255
    U8,
    /// -128 to 127
    S8,
    /// 0 to 65535; onnxruntime's CPU provider computes such nodes in float
    U16,
    /// -32767 to 32767, symmetric; likewise
    S16,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum IsaArg {
    /// Whatever adds products without saturation: x86 with VNNI, Arm
    Any,
    /// x86 without VNNI, whose kernels saturate on pairs of large weights
    #[value(name = "generic-x86")]
    GenericX86,
}

impl From<GroupSizeArg> for GroupSize {
    fn from(size: GroupSizeArg) -> Self {
        match size {
            GroupSizeArg::G16 => Self::G16,
            GroupSizeArg::G32 => Self::G32,
            GroupSizeArg::G64 => Self::G64,
            GroupSizeArg::G128 => Self::G128,
            GroupSizeArg::G256 => Self::G256,
        }
    }
}

impl TargetArgs {
    fn options(&self) -> TargetOptions {
        TargetOptions {
            form: match (self.format, self.weight_bits) {
                (Some(FormArg::Qdq), _) | (None, WeightBitsArg::Eight) => Form::Qdq,
                (Some(FormArg::Qoperator), _) | (None, WeightBitsArg::Four) => Form::QOperator,
            },
            activations: match self.activations {
                CodesArg::U8 => ActivationCodes::U8,
                CodesArg::S8 => ActivationCodes::I8,
                CodesArg::U16 => ActivationCodes::U16,
                CodesArg::S16 => ActivationCodes::I16,
            },
            symmetric: self.symmetric_activations,
            quantize_results: self.quantize_outputs,
            processor: match self.isa {
                IsaArg::Any => Processor::Exact,
                IsaArg::GenericX86 => Processor::GenericX86,
            },
            weights: match self.weight_bits {
                WeightBitsArg::Eight => WeightBits::Eight,
                WeightBitsArg::Four => WeightBits::Four(self.group_size.into()),
            },
        }
    }

    /// How the name of a model with these codes ends.
    fn extension(&self) -> &'static str {
        match self.weight_bits {
            WeightBitsArg::Eight => "int8.onnx",
            WeightBitsArg::Four => "int4.onnx",
        }
    }
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Recipe")]
#[command(group(ArgGroup::new("accuracy").args(["target_sqnr", "target_agreement", "max_drop"]).multiple(true)))]
pub(crate) struct RecipeArgs {
    /// Set of choices below.
    #[arg(long, default_value = "balanced")]
    pub(crate) preset: RecipePreset,
    /// How activation ranges follow from statistics: minmax, mean-minmax, percentile, percentile=99.99, mse,
    /// kl, aciq, cdf-kl, headroom [default: of the preset].
    #[arg(long, value_name = "METHOD", value_parser = parse_range)]
    pub(crate) range: Option<RangeMethod>,
    /// Number of weight scales [default: of the preset].
    #[arg(long, value_name = "HOW")]
    pub(crate) weights: Option<WeightScales>,
    #[command(flatten)]
    pub(crate) correction: CorrectionArgs,
    /// Whether input channels of matrix products are scaled: large ones are divided, and their weights multiplied
    /// (SmoothQuant) [default: of the preset].
    #[arg(long, value_name = "HOW")]
    pub(crate) smooth_quant: Option<ScalingArg>,
    /// Whether channels between layers are scaled so that the weights' channels become alike (cross-layer equalization);
    /// only with `--weights per-tensor` [default: of the preset].
    #[arg(long, value_name = "HOW")]
    pub(crate) equalize: Option<ScalingArg>,
    /// Leave layers in fp32, as few as will do, until the logits reach this signal to noise, in dB, on images held back;
    /// exit with code 3 if that cannot be.
    #[arg(long, value_name = "DB")]
    pub(crate) target_sqnr: Option<f64>,
    /// The same for the percentage of images with the fp32 model's class.
    #[arg(long, value_name = "PERCENT")]
    pub(crate) target_agreement: Option<f64>,
    /// The same until labelled images lose at most so many points of percent of top-1 accuracy.
    #[arg(long, value_name = "POINTS", requires = "labelled")]
    pub(crate) max_drop: Option<f64>,
    /// What is given up to reach the target.
    #[arg(long, value_name = "WHAT", requires = "accuracy")]
    fallback: Option<FallbackArg>,
    /// Keep what the search for the target finds in this file, and go on from what an interrupted one left there.
    #[arg(long, value_name = "FILE", requires = "accuracy")]
    resume: Option<PathBuf>,
    /// Folder of labelled images that judge `--max-drop`, and serve nothing else.
    #[arg(long, value_name = "[NAME=]PATH", requires = "max_drop")]
    pub(crate) labelled: Vec<PathBuf>,
    /// Their labels: a line `image,class` for each; classes count from 0 [default: labels.csv in that folder].
    #[arg(long, value_name = "FILE", requires = "max_drop")]
    pub(crate) labels: Option<PathBuf>,
    /// Leave nodes in fp32: a node name or a pattern with `*` and `?`; may be repeated. `*` keeps everything.
    #[arg(long, value_name = "NAME")]
    pub(crate) skip: Vec<String>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Recipe")]
pub(crate) struct CorrectionArgs {
    /// Correction of what rounding does to the mean and the amplitude of each layer [default: sequential].
    #[arg(long, value_name = "HOW")]
    bias_correction: Option<BiasCorrectionArg>,
    /// How codes of weights are chosen [default: of the preset].
    #[arg(long, value_name = "HOW")]
    rounding: Option<RoundingArg>,
    /// Images that corrections are measured with, at most [default: of the preset].
    #[arg(long, value_name = "N", value_parser = parse_positive)]
    correction_images: Option<usize>,
}

impl CorrectionArgs {
    fn is_given(&self) -> bool {
        self.bias_correction.is_some() || self.rounding.is_some() || self.correction_images.is_some()
    }

    /// The corrections of a preset, with what was asked for otherwise.
    fn of(&self, preset: Correction) -> Correction {
        let mut correction = preset;
        match self.bias_correction {
            None => {}
            // Codes that keep a result but for its mean need the mean corrected.
            Some(BiasCorrectionArg::None) => correction = Correction::default(),
            Some(BiasCorrectionArg::Analytic) => correction.bias = BiasCorrection::Analytic,
            Some(BiasCorrectionArg::Sequential) => correction.bias = BiasCorrection::Sequential,
        }
        match self.rounding {
            None => {}
            Some(RoundingArg::Nearest) => correction.rounding = WeightRounding::Nearest,
            Some(RoundingArg::Result) => correction.rounding = WeightRounding::Result,
        }
        correction.images = self.correction_images.unwrap_or(preset.images);
        correction
    }
}

/// Sets of recipe choices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RecipePreset {
    /// Min-max ranges, corrected on 8 images
    Fast,
    /// Ranges of least error, weights rounded to keep each layer's result, corrected on 64 images
    Balanced,
    /// As balanced, corrected on 128 images
    Best,
    /// As tools that correct nothing: min-max ranges as seen, one scale for each weight, network results rounded
    Compat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FallbackArg {
    /// Integers: layers go back to fp32
    Fp32,
    /// 8 bits: activations get 16, for processors that compute with them; onnxruntime's CPU provider does so in float
    #[value(name = "16-bit")]
    Wide,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum WeightScales {
    /// One scale for each output channel
    PerChannel,
    /// One scale for each weight
    PerTensor,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ScalingArg {
    /// Never
    None,
    /// Where channels differ enough to expect a gain and samples show one
    Measured,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum BiasCorrectionArg {
    /// No correction
    None,
    /// Of the mean, for what rounding the layer's own weights does
    Analytic,
    /// Of mean and amplitude, layer by layer, for whatever rounding did up to there
    Sequential,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum RoundingArg {
    /// To the nearest code
    Nearest,
    /// To the codes that keep the layer's result best
    Result,
}

impl RecipePreset {
    fn options(self) -> RecipeOptions {
        RecipeOptions::of(match self {
            Self::Fast => Preset::Fast,
            Self::Balanced => Preset::Balanced,
            Self::Best => Preset::Best,
            Self::Compat => Preset::Compat,
        })
    }
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Preprocessing")]
pub(crate) struct PreprocessArgs {
    /// A named preprocessing; the options below change parts of it.
    #[arg(long, value_name = "NAME", value_parser = PRESETS.iter().map(|p| p.name).collect::<Vec<_>>())]
    preprocess: Option<String>,
    /// Resize the short side to N pixels, keeping the aspect ratio.
    #[arg(long, value_name = "N", conflicts_with = "resize")]
    resize_short: Option<usize>,
    /// Resize to exactly this size, e.g. 224x224 (width first).
    #[arg(long, value_name = "WxH", value_parser = parse_size)]
    resize: Option<(usize, usize)>,
    /// Cut this size out of the centre: N or WxH.
    #[arg(long, value_name = "N", value_parser = parse_size)]
    crop: Option<(usize, usize)>,
    /// How resizing interpolates, as Pillow does it.
    #[arg(long, value_name = "FILTER", value_parser = parse_named::<Interpolation>)]
    interpolation: Option<Interpolation>,
    /// Channels and their order: rgb, bgr or gray.
    #[arg(long, value_name = "ORDER", value_parser = parse_named::<Channels>)]
    channels: Option<Channels>,
    /// Subtract from pixel values 0..255: one number, or one for each channel separated by commas.
    #[arg(long, value_name = "A,B,C", value_delimiter = ',', allow_hyphen_values = true)]
    mean: Option<Vec<f32>>,
    /// Then multiply, x = (pixel - mean) * scale: one number, or one for each channel.
    #[arg(long, value_name = "A,B,C", value_delimiter = ',', allow_hyphen_values = true)]
    scale: Option<Vec<f32>>,
    /// Axis order of the model input: nchw or nhwc [default: from the input's shape].
    #[arg(long, value_name = "ORDER", value_parser = parse_named::<Layout>)]
    layout: Option<Layout>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Run")]
pub(crate) struct RunArgs {
    /// Threads, one image each [default: one for each core]; the result does not depend on it.
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub(crate) threads: usize,
    /// Say nothing but errors and the written paths.
    #[arg(short, long, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Name every node that stays in fp32 and everything that was folded.
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// Form of the result on standard output.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) output_format: OutputFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// For people
    Text,
    /// One JSON object
    Json,
}

impl OnnxArgs {
    /// The job these arguments describe.
    pub(crate) fn options(&self) -> QuantizeOptions {
        let preparation = PreparationOptions::Pillow(self.preprocess.options());
        let mut target = self.target.options();
        target.quantize_results |= self.recipe.preset == RecipePreset::Compat;
        QuantizeOptions {
            model: self.model.clone(),
            output: self.output.clone().unwrap_or_else(|| self.model.with_extension(self.target.extension())),
            target,
            labelled: self.recipe.labelled(&preparation),
            data: self.data.options(preparation),
            recipe: self.recipe.options(),
            emit_plan: self.emit_plan.clone(),
            plan: self.plan.clone(),
            statistics: self.stats.clone(),
            save_statistics: self.save_stats.clone(),
            threads: self.run.threads,
        }
    }
}

impl DataArgs {
    /// The data set, prepared as `preparation` says.
    fn options(&self, preparation: PreparationOptions) -> Option<DataOptions> {
        let sampling = sampling(self.calib_size, self.seed, self.calib_indices.as_ref());
        (!self.calib.is_empty()).then(|| DataOptions { paths: self.calib.clone(), sampling, preparation })
    }
}

/// The choice of samples.
fn sampling(size: Option<usize>, seed: Option<u32>, indices: Option<&List<usize>>) -> Sampling {
    Sampling { size, seed, indices: indices.cloned().map(List::into_vec).unwrap_or_default() }
}

impl RecipeArgs {
    fn options(&self) -> RecipeOptions {
        let preset = self.preset.options();
        RecipeOptions {
            range: self.range.unwrap_or(preset.range),
            weights: match self.weights {
                None => preset.weights,
                Some(WeightScales::PerChannel) => Granularity::PerChannel,
                Some(WeightScales::PerTensor) => Granularity::PerTensor,
            },
            correction: self.correction.of(preset.correction),
            smooth: self.smooth_quant.map_or(preset.smooth, |how| how == ScalingArg::Measured),
            equalize: self.equalize.map_or(preset.equalize, |how| how == ScalingArg::Measured),
            target: self.target(),
            search_record: self.resume.clone(),
            skip: self.skip.clone(),
            ..preset
        }
    }
}

impl RecipeArgs {
    fn target(&self) -> Option<AccuracyTarget> {
        let Self { target_sqnr: sqnr_db, target_agreement: agreement, max_drop, .. } = *self;
        let fallback = match self.fallback {
            None | Some(FallbackArg::Fp32) => Fallback::Real,
            Some(FallbackArg::Wide) => Fallback::WideCodes,
        };
        let is_given = sqnr_db.is_some() || agreement.is_some() || max_drop.is_some();
        is_given.then_some(AccuracyTarget { sqnr_db, agreement, max_drop, fallback })
    }

    /// The labelled samples, prepared as `preparation` says.
    pub(crate) fn labelled(&self, preparation: &PreparationOptions) -> Option<LabelledOptions> {
        let labels = self.labels.clone().or_else(|| Some(self.labelled.first()?.join("labels.csv")))?;
        let data = DataOptions {
            paths: self.labelled.clone(),
            sampling: Sampling::default(),
            preparation: preparation.clone(),
        };
        Some(LabelledOptions { data, labels })
    }
}

impl PreprocessArgs {
    /// The preprocessing these arguments describe.
    pub(crate) fn options(&self) -> PreprocessOptions {
        PreprocessOptions {
            preset: self.preprocess.clone(),
            resize_short: self.resize_short,
            resize: self.resize,
            crop: self.crop,
            interpolation: self.interpolation,
            channels: self.channels,
            mean: self.mean.clone(),
            scale: self.scale.clone(),
            layout: self.layout,
        }
    }
}

fn parse_range(text: &str) -> Result<RangeMethod, String> {
    text.parse().map_err(|e: <RangeMethod as std::str::FromStr>::Err| e.to_string())
}

fn parse_named<T: std::str::FromStr<Err = quantize_pipeline::CalibError>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|e: quantize_pipeline::CalibError| match e.hint() {
        Some(hint) => format!("{e}; {hint}"),
        None => e.to_string(),
    })
}

/// `I/N`, from 1 to N.
fn parse_shard(text: &str) -> Result<Shard, String> {
    let numbers = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
    let shard = numbers.and_then(|(number, count)| Shard::new(number, count));
    shard.ok_or_else(|| "expected a share such as 1/8, 2/8, … 8/8".to_owned())
}

/// A number from 1 on.
fn parse_positive(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| *n > 0).ok_or_else(|| "expected a number from 1 on".to_owned())
}

/// `N` or `WxH`, both positive.
fn parse_size(text: &str) -> Result<(usize, usize), String> {
    let side = |s: &str| s.parse::<usize>().ok().filter(|n| *n > 0);
    let parsed = match text.split_once(['x', 'X']) {
        Some((width, height)) => side(width).zip(side(height)),
        None => side(text).map(|n| (n, n)),
    };
    parsed.ok_or_else(|| "expected a size such as 224 or 320x240 (width first)".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn sizes() {
        assert_eq!(parse_size("224"), Ok((224, 224)));
        assert_eq!(parse_size("320x240"), Ok((320, 240)));
        for bad in ["", "0", "x", "3x", "-1", "1x0", "1.5"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }

    fn options(line: &str) -> QuantizeOptions {
        match Cli::try_parse_from(line.split(' ')).map(|c| c.command) {
            Ok(Command::Onnx(args)) => args.options(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_output_stands_beside_the_model() {
        assert_eq!(options("quantize onnx dir/net.onnx").output, PathBuf::from("dir/net.int8.onnx"));
        let options = options("quantize onnx dir/net.onnx --weight-bits 4 --group-size 128");
        assert_eq!(options.output, PathBuf::from("dir/net.int4.onnx"));
        let TargetOptions { form, weights, .. } = options.target;
        assert_eq!((form, weights), (Form::QOperator, WeightBits::Four(GroupSize::G128)));
    }

    #[test]
    fn lists_may_be_negative() {
        let data = options("quantize onnx m.onnx --calib d --mean -1,2.5,3e1 --scale 0.0078125").data.unwrap();
        let PreparationOptions::Pillow(preprocess) = data.preparation else { panic!("{data:?}") };
        assert_eq!(preprocess.mean, Some(vec![-1.0, 2.5, 30.0]));
        assert_eq!(preprocess.scale, Some(vec![0.0078125]));
    }

    #[test]
    fn given_choices_override_the_preset() {
        let options =
            options("quantize onnx m.onnx --preset fast --bias-correction none --range mse --weights per-tensor");
        assert_eq!((options.recipe.range, options.recipe.weights), (RangeMethod::Mse, Granularity::PerTensor));
    }
}
