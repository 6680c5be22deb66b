//! The arguments of `quantize caffe` and `quantize caffe emulate`.
//!
//! Options of the original quantizer keep their names, with underscores or hyphens; the toolkit's shared names are
//! aliases of the same fields.

use super::{CorrectionArgs, OutputFormat, PreprocessArgs, RunArgs, sampling};
use crate::list::List;
use clap::{Args, Subcommand, ValueEnum};
use quantize_pipeline::{
    BitWidth, CaffeFiles, Correction, DataOptions, EmulateOptions, FileOptions, Flavor, Granularity, InputRange,
    PreparationOptions, Preset, QuantizeCaffeOptions, QuantizeOptions, RangeMethod, ReadOptions, RecipeOptions,
    Release, TargetOptions, TextStyle, Thresholds, TransformerOptions, default_range,
};
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct CaffeArgs {
    #[command(subcommand)]
    pub(crate) command: Option<CaffeCommand>,
    #[command(flatten)]
    pub(crate) quantize: QuantizeArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CaffeCommand {
    /// Run a network in the integer arithmetic of the xfDNN runtime and compare it with fp32.
    Emulate(EmulateArgs),
}

#[derive(Debug, Args)]
pub(crate) struct NetworkArgs {
    /// The network's description (prototxt).
    #[arg(value_name = "DEPLOY", required_unless_present = "deploy_model", conflicts_with = "deploy_model")]
    deploy: Option<PathBuf>,
    /// The network's weights (caffemodel).
    #[arg(value_name = "WEIGHTS", required_unless_present = "weights", conflicts_with = "weights")]
    caffemodel: Option<PathBuf>,
    /// The network's description, as an option.
    #[arg(long = "deploy_model", alias = "deploy-model", value_name = "FILE", help_heading = "Network")]
    deploy_model: Option<PathBuf>,
    /// The network's weights, as an option.
    #[arg(long, value_name = "FILE", help_heading = "Network")]
    weights: Option<PathBuf>,
    /// Channels, height and width of the input, which must be the network's own.
    #[arg(long, value_name = "C,H,W", help_heading = "Network")]
    dims: Option<List<usize>>,
    /// Let height and width of `--dims` replace the network's own.
    #[arg(long = "override-dims", alias = "override_dims", requires = "dims", help_heading = "Network")]
    override_dims: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Caffe preprocessing (the default)")]
pub(crate) struct TransformerArgs {
    /// Transpose height, width, channels [default: 2,0,1].
    #[arg(long, value_name = "A,B,C")]
    transpose: Option<List<usize>>,
    /// Channel order, e.g. from RGB to BGR with 2,1,0 [default: 2,1,0 for three channels].
    #[arg(long = "channel_swap", alias = "channel-swap", value_name = "A,B,C")]
    channel_swap: Option<List<usize>>,
    /// Factor of pixels, which are 0 to 1 [default: 255].
    #[arg(long = "raw_scale", alias = "raw-scale", value_name = "X", allow_hyphen_values = true)]
    raw_scale: Option<f32>,
    /// Subtract after that: one number, or one for each channel after the swap [default: 104,117,123 for three channels].
    #[arg(long = "mean_value", alias = "mean-value", value_name = "A,B,C", allow_hyphen_values = true)]
    mean_value: Option<List<f64>>,
    /// Subtract a mean image instead: .npy or .binaryproto.
    #[arg(long = "mean_file", alias = "mean-file", value_name = "FILE", conflicts_with = "mean_value")]
    mean_file: Option<PathBuf>,
    /// Factor after that, e.g. 0.017 for MobileNet [default: 1].
    #[arg(long = "input_scale", alias = "input-scale", value_name = "X", allow_hyphen_values = true)]
    input_scale: Option<f32>,
}

#[derive(Debug, Args)]
pub(crate) struct QuantizeArgs {
    #[command(flatten)]
    network: NetworkArgs,
    /// The quantization file to write [default: DEPLOY with the extension .json]; with `--emit onnx` the model.
    #[arg(short, long = "output_json", aliases = ["output-json", "output"], value_name = "FILE")]
    output: Option<PathBuf>,
    /// Former spelling: the file is written here, with the extension .json.
    #[arg(
        long = "quantized_train_val_model",
        alias = "quantized-train-val-model",
        hide = true,
        conflicts_with = "output"
    )]
    quantized_train_val_model: Option<PathBuf>,
    /// Former spelling, without effect.
    #[arg(long = "train_val_model", alias = "train-val-model", hide = true)]
    train_val_model: Option<PathBuf>,
    /// Write ONNX instead: the int8 model for onnxruntime, or the fp32 network.
    #[arg(long, value_name = "FORM")]
    emit: Option<Emit>,
    #[command(flatten)]
    recipe: CaffeRecipeArgs,
    #[command(flatten)]
    file: FileArgs,
    #[command(flatten)]
    data: CalibrationArgs,
    #[command(flatten)]
    transformer: TransformerArgs,
    #[command(flatten)]
    preprocess: PreprocessArgs,
    /// Write the network with batch normalization folded, which the thresholds are of: PREFIX.prototxt and
    /// PREFIX.caffemodel.
    #[arg(long = "emit-merged", alias = "emit_merged", value_name = "PREFIX", help_heading = "Artefacts")]
    emit_merged: Option<PathBuf>,
    /// Write the plan (every decision and scale) as JSON.
    #[arg(long = "emit-plan", alias = "emit_plan", value_name = "FILE", help_heading = "Artefacts")]
    emit_plan: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) run: RunArgs,
    /// Exit with code 3 if there was a warning.
    #[arg(long, help_heading = "Run")]
    pub(crate) strict: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Data")]
pub(crate) struct CalibrationArgs {
    /// Folder of calibration images (JPEG, PNG, BMP, whatever their names) or `.npy` arrays, or one of them.
    #[arg(
        long = "calibration_directory",
        visible_alias = "calib",
        alias = "calibration-directory",
        value_name = "PATH"
    )]
    calib: Option<PathBuf>,
    /// Number of images, chosen at random [default: all of them; 8 with `--preset compat`].
    #[arg(
        long = "calibration_size", visible_alias = "calib-size", aliases = ["calibration-size", "calib_size"],
        value_name = "N"
    )]
    size: Option<usize>,
    /// Seed of the random choice [default: 0].
    #[arg(
        long = "calibration_seed",
        visible_alias = "seed",
        alias = "calibration-seed",
        value_name = "N",
        conflicts_with = "indices"
    )]
    seed: Option<u32>,
    /// Positions of images in the folder, sorted by name, from 0.
    #[arg(
        long = "calibration_indices", visible_alias = "calib-indices", aliases = ["calibration-indices", "calib_indices"],
        value_name = "I,J,…"
    )]
    indices: Option<List<usize>>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Recipe")]
pub(crate) struct CaffeRecipeArgs {
    /// Set of choices below.
    #[arg(long, default_value = "balanced")]
    preset: CaffePreset,
    /// Release that `--preset compat` reproduces [default: 1.3].
    #[arg(long = "compat-release", aliases = ["compat_release", "compat"], value_name = "RELEASE")]
    compat_release: Option<CompatRelease>,
    /// How thresholds follow from statistics: kl (the original's), minmax, percentile, percentile=99.99, mse
    /// [default: of the preset].
    #[arg(long, alias = "method", value_name = "METHOD", value_parser = parse_range)]
    range: Option<RangeMethod>,
    /// The original's pass: thresholds of a network that is rounded on the way, not shared.
    #[arg(long)]
    sequential: bool,
    #[command(flatten)]
    correction: CorrectionArgs,
    /// Threshold of the network's input [default: what pixels can give; by the range method for arrays and in the
    /// original's pass].
    #[arg(long = "input-threshold", alias = "input_threshold", value_name = "HOW")]
    input_threshold: Option<InputThreshold>,
    /// Threshold of the network's results.
    #[arg(long, value_name = "HOW", default_value = "headroom")]
    results: Results,
    /// Threshold of what local response normalization computes.
    #[arg(long, value_name = "HOW", default_value = "pass")]
    lrn: Lrn,
    /// Leave layers in fp32: a name or a pattern with `*` and `?`; may be repeated. `*` keeps everything.
    #[arg(long, value_name = "NAME")]
    skip: Vec<String>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Quantization file")]
pub(crate) struct FileArgs {
    /// Bits of input activations, parameters and output activations: all 8 or all 16 [default: 8,8,8].
    #[arg(long, value_name = "A,B,C")]
    bitwidths: Option<List<i64>>,
    /// Generation of the hardware [default: v3; v2 with `--preset compat`].
    #[arg(long, value_name = "GENERATION")]
    flavor: Option<HardwareFlavor>,
    /// Whether inner products have entries [default: true; false with `--preset compat`].
    #[arg(long = "emit-fc", alias = "emit_fc", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    emit_fc: Option<bool>,
    /// Raise thresholds until every step is a power of two, with one threshold for the weights of a layer.
    #[arg(long = "power-of-two", alias = "power_of_two")]
    power_of_two: bool,
    /// Ends of lines [default: plain; py2 with `--preset compat`].
    #[arg(long = "json-style", alias = "json_style", value_name = "STYLE")]
    json_style: Option<JsonStyle>,
}

#[derive(Debug, Args)]
pub(crate) struct EmulateArgs {
    #[command(flatten)]
    network: NetworkArgs,
    /// The quantization file.
    #[arg(long, alias = "json", value_name = "FILE")]
    quantcfg: PathBuf,
    /// Folder of samples, or one sample.
    #[arg(long, value_name = "PATH", help_heading = "Data")]
    data: PathBuf,
    /// Samples at most, the first ones by name.
    #[arg(long, value_name = "N", help_heading = "Data")]
    limit: Option<std::num::NonZeroUsize>,
    /// Labels, for top-1 and top-5 accuracy: a line `image,class` for each sample; classes count from 0.
    #[arg(long, value_name = "FILE", help_heading = "Data")]
    labels: Option<PathBuf>,
    /// Generation of the hardware [default: that of the file's multipliers].
    #[arg(long, value_name = "GENERATION")]
    flavor: Option<HardwareFlavor>,
    #[command(flatten)]
    transformer: TransformerArgs,
    #[command(flatten)]
    preprocess: PreprocessArgs,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

/// Sets of recipe choices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CaffePreset {
    /// Shared thresholds by percentiles, found on the fp32 network; with `--emit-merged`, corrected on 8 images
    Fast,
    /// Likewise, weights rounded to keep each layer's result, corrected on 64 images
    Balanced,
    /// As balanced, corrected on 128 images
    Best,
    /// What the original does, with its own defaults
    Compat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CompatRelease {
    /// Entries for convolutions
    #[value(name = "1.1")]
    V1_1,
    /// Entries for convolutions
    #[value(name = "1.2")]
    V1_2,
    /// Entries for convolutions, Eltwise and Scale
    #[value(name = "1.3")]
    V1_3,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum InputThreshold {
    /// By the range method
    Range,
    /// The largest magnitude of the samples
    Max,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Results {
    /// Room for images that were not seen, so that no score is cut off
    Headroom,
    /// By the range method, like any other
    Range,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Lrn {
    /// That of its input, as the original has it
    Pass,
    /// One of its own; it runs in float
    Float,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum HardwareFlavor {
    /// 8-bit multipliers, shifts on both sides
    V2,
    /// 16-bit multipliers
    V3,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum JsonStyle {
    /// No space after commas, a line break at the end
    Plain,
    /// As Python 2 writes it
    Py2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Emit {
    /// An int8 model in quantize-dequantize form
    Onnx,
    /// The fp32 network
    OnnxFp32,
}

impl Emit {
    /// Extension of the written model.
    pub(super) fn extension(self) -> &'static str {
        match self {
            Self::Onnx => "int8.onnx",
            Self::OnnxFp32 => "onnx",
        }
    }
}

/// What the arguments of `quantize caffe` ask for.
#[derive(Debug)]
pub(crate) enum CaffeJob {
    /// A quantization file.
    File(Box<QuantizeCaffeOptions>),
    /// An ONNX model.
    Onnx(CaffeFiles, Box<QuantizeOptions>),
}

impl NetworkArgs {
    fn files(&self) -> Result<CaffeFiles, String> {
        let given = |option: &Option<PathBuf>, positional: &Option<PathBuf>| option.clone().or(positional.clone());
        let deploy = given(&self.deploy_model, &self.deploy).ok_or("no network description given")?;
        let weights = given(&self.weights, &self.caffemodel).ok_or("no weights given")?;
        let dims = self.dims.as_ref().map(|d| d.exactly("--dims")).transpose()?;
        Ok(CaffeFiles { deploy, weights, read: ReadOptions { dims, override_dims: self.override_dims } })
    }
}

impl TransformerArgs {
    fn options(&self) -> Result<TransformerOptions, String> {
        Ok(TransformerOptions {
            transpose: self.transpose.as_ref().map(|t| t.exactly("--transpose")).transpose()?,
            channel_swap: self.channel_swap.clone().map(List::into_vec),
            raw_scale: self.raw_scale,
            mean_value: self.mean_value.clone().map(List::into_vec),
            mean_file: self.mean_file.clone(),
            input_scale: self.input_scale,
        })
    }
}

/// The preparation that was asked for: Caffe's, unless an option of the shared preprocessing was given.
fn preparation(transformer: &TransformerArgs, shared: &PreprocessArgs) -> Result<PreparationOptions, String> {
    let caffe = transformer.options()?;
    let pillow = shared.options();
    match (pillow == Default::default(), caffe == TransformerOptions::default()) {
        (true, _) => Ok(PreparationOptions::Caffe(caffe)),
        (false, true) => Ok(PreparationOptions::Pillow(pillow)),
        (false, false) => Err("options of Caffe's preprocessing (--transpose, --channel_swap, --raw_scale, \
            --mean_value, --mean_file, --input_scale) and of the shared one (--preprocess, --resize, --mean, …) cannot \
            be mixed"
            .to_owned()),
    }
}

impl QuantizeArgs {
    fn is_compat(&self) -> bool {
        self.recipe.preset == CaffePreset::Compat || self.recipe.compat_release.is_some()
    }

    /// The job these arguments describe.
    ///
    /// # Errors
    /// If they contradict each other.
    pub(crate) fn job(&self) -> Result<CaffeJob, String> {
        let model = self.network.files()?;
        let compat = self.is_compat();
        if (compat || self.recipe.sequential) && self.recipe.correction.is_given() {
            return Err("--bias-correction, --rounding and --correction-images: not in the original's pass".to_owned());
        }
        let data = self.data_options(compat)?;
        match self.emit {
            Some(emit) => self.onnx(model, data, emit),
            None => {
                let file = self.file_options(compat)?;
                let recipe = self.recipe.options(compat, file.bits);
                let output = self.output(&model.deploy, "json");
                Ok(CaffeJob::File(Box::new(QuantizeCaffeOptions {
                    output,
                    data,
                    recipe,
                    file,
                    emit_merged: self.emit_merged.clone(),
                    emit_plan: self.emit_plan.clone(),
                    threads: self.run.threads,
                    model,
                })))
            }
        }
    }

    fn onnx(&self, model: CaffeFiles, data: Option<DataOptions>, emit: Emit) -> Result<CaffeJob, String> {
        let given = self.file_only();
        if !given.is_empty() {
            return Err(format!("{}: only for the quantization file, not with --emit", given.join(", ")));
        }
        let skip = match emit {
            Emit::Onnx => self.recipe.skip.clone(),
            Emit::OnnxFp32 => vec!["*".to_owned()],
        };
        let preset = self.recipe.preset();
        let options = QuantizeOptions {
            model: model.deploy.clone(),
            output: self.output(&model.deploy, emit.extension()),
            data,
            recipe: RecipeOptions {
                range: self.recipe.range.unwrap_or(preset.range),
                input: self.recipe.input(),
                correction: self.recipe.correction.of(preset.correction),
                skip,
                ..preset
            },
            target: TargetOptions::default(),
            emit_plan: self.emit_plan.clone(),
            threads: self.run.threads,
            ..QuantizeOptions::default()
        };
        Ok(CaffeJob::Onnx(model, Box::new(options)))
    }

    /// Options given that speak of the quantization file alone.
    fn file_only(&self) -> Vec<&'static str> {
        let options = [
            ("--emit-merged", self.emit_merged.is_some()),
            ("--preset compat", self.is_compat()),
            ("--sequential", self.recipe.sequential),
            ("--lrn", self.recipe.lrn == Lrn::Float),
            ("--results", self.recipe.results == Results::Range),
            ("--bitwidths other than 8", self.file.bits().is_ok_and(|bits| bits != BitWidth::Eight)),
            ("--flavor", self.file.flavor.is_some()),
            ("--emit-fc", self.file.emit_fc.is_some()),
            ("--power-of-two", self.file.power_of_two),
            ("--json-style", self.file.json_style.is_some()),
        ];
        options.into_iter().filter(|(_, given)| *given).map(|(name, _)| name).collect()
    }

    fn output(&self, deploy: &Path, extension: &str) -> PathBuf {
        let former = self.quantized_train_val_model.as_ref().map(|path| path.with_extension("json"));
        self.output.clone().or(former).unwrap_or_else(|| match deploy.extension() {
            Some(old) if old == "prototxt" => deploy.with_extension(extension),
            _ => PathBuf::from(format!("{}.{extension}", deploy.display())),
        })
    }

    fn data_options(&self, compat: bool) -> Result<Option<DataOptions>, String> {
        let Some(path) = &self.data.calib else { return Ok(None) };
        let mut sampling = sampling(self.data.size, self.data.seed, self.data.indices.as_ref());
        if compat && sampling.size.is_none() && sampling.indices.is_empty() {
            sampling.size = Some(ORIGINAL_SIZE);
        }
        let preparation = preparation(&self.transformer, &self.preprocess)?;
        Ok(Some(DataOptions { paths: vec![path.clone()], sampling, preparation }))
    }

    fn file_options(&self, compat: bool) -> Result<FileOptions, String> {
        let args = &self.file;
        let flavor = args.flavor.unwrap_or(if compat { HardwareFlavor::V2 } else { HardwareFlavor::V3 });
        let style = args.json_style.unwrap_or(if compat { JsonStyle::Py2 } else { JsonStyle::Plain });
        let release = self.recipe.compat_release.or(compat.then_some(CompatRelease::V1_3));
        let sequential = compat || self.recipe.sequential;
        Ok(FileOptions {
            flavor: flavor.into(),
            bits: args.bits()?,
            thresholds: if sequential { Thresholds::Sequential } else { Thresholds::Groups },
            release: release.map(Release::from),
            inner_product: args.emit_fc.unwrap_or(!compat),
            power_of_two: args.power_of_two,
            float_lrn: self.recipe.lrn == Lrn::Float,
            style: match style {
                JsonStyle::Plain => TextStyle::Plain,
                JsonStyle::Py2 => TextStyle::Py2,
            },
        })
    }

    /// Notices about options that have no effect any more.
    pub(crate) fn notices(&self) -> Option<&'static str> {
        self.train_val_model.is_some().then_some("note: --train_val_model is not needed and not read")
    }
}

/// Number of images the original takes where none is given.
const ORIGINAL_SIZE: usize = 8;

impl CaffeRecipeArgs {
    fn input(&self) -> InputRange {
        match self.input_threshold {
            None => InputRange::Possible,
            Some(InputThreshold::Range) => InputRange::Method,
            Some(InputThreshold::Max) => InputRange::Observed,
        }
    }

    /// The choices of the preset where the original's pass is not meant.
    fn preset(&self) -> RecipeOptions {
        RecipeOptions::of(match self.preset {
            CaffePreset::Fast => Preset::Fast,
            CaffePreset::Best => Preset::Best,
            CaffePreset::Balanced | CaffePreset::Compat => Preset::Balanced,
        })
    }

    fn options(&self, compat: bool, bits: BitWidth) -> RecipeOptions {
        let default = if compat { RangeMethod::CdfKl } else { default_range(bits) };
        let range = self.range.unwrap_or(default);
        RecipeOptions {
            range,
            input: self.input(),
            result_headroom: self.results == Results::Headroom,
            weights: Granularity::PerChannel,
            correction: match compat || self.sequential {
                true => Correction::default(),
                false => self.correction.of(self.preset().correction),
            },
            smooth: false,
            equalize: false,
            target: None,
            search_record: None,
            skip: self.skip.clone(),
        }
    }
}

impl FileArgs {
    fn bits(&self) -> Result<BitWidth, String> {
        let widths: [i64; 3] = self.bitwidths.as_ref().map_or(Ok([8; 3]), |list| list.exactly("--bitwidths"))?;
        if widths.iter().any(|w| *w != widths[0]) {
            return Err(format!("--bitwidths {widths:?}: the three must be equal"));
        }
        BitWidth::try_from(widths[0]).map_err(|e| format!("--bitwidths: {e}"))
    }
}

impl EmulateArgs {
    /// The job these arguments describe.
    ///
    /// # Errors
    /// If they contradict each other.
    pub(crate) fn options(&self) -> Result<EmulateOptions, String> {
        let preparation = preparation(&self.transformer, &self.preprocess)?;
        Ok(EmulateOptions {
            model: self.network.files()?,
            quantcfg: self.quantcfg.clone(),
            data: DataOptions { paths: vec![self.data.clone()], sampling: Default::default(), preparation },
            limit: self.limit.map(std::num::NonZeroUsize::get),
            labels: self.labels.clone(),
            flavor: self.flavor.map(Flavor::from),
            threads: self.run.threads,
        })
    }

    /// Whether the result is one JSON object.
    pub(crate) fn is_json(&self) -> bool {
        self.run.output_format == OutputFormat::Json
    }
}

impl From<HardwareFlavor> for Flavor {
    fn from(flavor: HardwareFlavor) -> Self {
        match flavor {
            HardwareFlavor::V2 => Self::V2,
            HardwareFlavor::V3 => Self::V3,
        }
    }
}

impl From<CompatRelease> for Release {
    fn from(release: CompatRelease) -> Self {
        match release {
            CompatRelease::V1_1 => Self::V1_1,
            CompatRelease::V1_2 => Self::V1_2,
            CompatRelease::V1_3 => Self::V1_3,
        }
    }
}

/// A range method, by its own name or one the original's users know.
fn parse_range(text: &str) -> Result<RangeMethod, String> {
    match text {
        "kl" => Ok(RangeMethod::CdfKl),
        "max" => Ok(RangeMethod::MinMax),
        other => super::parse_range(other),
    }
}
