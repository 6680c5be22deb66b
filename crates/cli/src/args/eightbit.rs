//! The command line of `quantize tf eightbit`: the flags of `quantize_graph.py`, in their spelling, and a few of our own.

use super::OutputFormat;
use super::tensorflow::parse_bool;
use clap::{Args, ValueEnum};
use quantize_pipeline::{EightbitJob, EightbitMode, EightbitOptions, EightbitRules, node_names};
use std::path::PathBuf;

/// What is done to the graph.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Mode {
    /// The default of the original; it inserts operators that no TensorFlow has.
    #[value(hide = true)]
    Round,
    /// Inserts operators that no TensorFlow has, too.
    #[value(hide = true)]
    Quantize,
    /// Operators compute on 8-bit codes.
    Eightbit,
    /// Constants are stored as 8-bit codes, and everything computes on reals.
    Weights,
    /// Constants are rounded to one of 2^bitdepth values.
    #[value(name = "weights_rounded")]
    WeightsRounded,
}

/// Whose decisions are taken.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Rules {
    /// The original's, node for node and code for code.
    Original,
    /// Ours: AddV2 and Pad are fused, weights are rounded in symmetric ranges.
    Sound,
}

impl Rules {
    pub(super) fn options(self) -> EightbitRules {
        match self {
            Self::Original => EightbitRules::Original,
            Self::Sound => EightbitRules::Sound,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct EightbitArgs {
    /// The graph, with its variables frozen; binary or text.
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// Where to write the quantized graph.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Names of the nodes that are wanted, separated by commas.
    #[arg(long = "output_node_names", value_name = "NAMES", default_value = "", hide_default_value = true)]
    output_node_names: String,
    /// What is done to the graph. `round`, the default of the original, is not possible any more.
    #[arg(long, value_name = "MODE", default_value = "round", hide_default_value = true)]
    mode: Mode,
    /// Use fused operators with signed weights, for Intel's processors.
    #[arg(long = "intel_cpu_eightbitize", value_name = "BOOL", num_args = 0..=1, default_value = "false",
        default_missing_value = "true", value_parser = parse_bool)]
    intel: bool,
    /// Give each output channel of weights a range of its own; of fused operators.
    #[arg(long = "per_channel", value_name = "BOOL", num_args = 0..=1, default_value = "false",
        default_missing_value = "true", value_parser = parse_bool)]
    per_channel: bool,
    /// Operators that stay as they are, separated by commas.
    #[arg(long = "excluded_ops", value_name = "OPS", default_value = "", hide_default_value = true)]
    excluded_ops: String,
    /// Nodes that stay as they are, separated by commas.
    #[arg(long = "excluded_nodes", value_name = "NAMES", default_value = "", hide_default_value = true)]
    excluded_nodes: String,
    /// Whose decisions are taken.
    #[arg(long, value_name = "RULES", default_value = "original")]
    rules: Rules,
    /// Let codes go on as codes instead of becoming reals in between.
    #[arg(long = "strip_redundant_quantization", value_name = "BOOL", num_args = 0..=1, default_value = "true",
        default_missing_value = "true", value_parser = parse_bool)]
    strip_redundant_quantization: bool,
    /// Feed the inputs 8-bit codes.
    #[arg(long = "quantized_input", value_name = "BOOL", num_args = 0..=1, default_value = "false",
        default_missing_value = "true", value_parser = parse_bool)]
    quantized_input: bool,
    /// What the least code of the inputs means.
    #[arg(long = "quantized_input_min", value_name = "X", default_value_t = 0.0, allow_negative_numbers = true)]
    quantized_input_min: f32,
    /// What the greatest code of the inputs means.
    #[arg(long = "quantized_input_max", value_name = "X", default_value_t = 1.0, allow_negative_numbers = true)]
    quantized_input_max: f32,
    /// A range for whatever finds its own otherwise; not of fused operators.
    #[arg(long = "quantized_fallback_min", value_name = "X", requires = "fallback_max", allow_negative_numbers = true)]
    fallback_min: Option<f32>,
    /// Its other end.
    #[arg(long = "quantized_fallback_max", value_name = "X", requires = "fallback_min", allow_negative_numbers = true)]
    fallback_max: Option<f32>,
    /// Bits of weights_rounded, from 1 to 16.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=16))]
    bitdepth: u32,
    /// FasterRCNN and R-FCN mean --signed-input-convs --exclude-concat; wide_deep_large_ds means --quantize-matmul
    /// --exclude-concat.
    #[arg(long = "model_name", value_name = "NAME", default_value = "", hide_default_value = true)]
    model_name: String,
    /// Quantize convolutions whether or not what they read may be negative.
    #[arg(long)]
    signed_input_convs: bool,
    /// Quantize matrix products that have a bias.
    #[arg(long)]
    quantize_matmul: bool,
    /// Leave concatenations as they are.
    #[arg(long)]
    exclude_concat: bool,
    /// Write binary.
    #[arg(long = "output_binary", value_name = "BOOL", num_args = 0..=1, default_value = "true",
        default_missing_value = "true", value_parser = parse_bool)]
    output_binary: bool,
    /// Form of the table of what was quantized; JSON goes to standard output.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) output_format: OutputFormat,
    /// Whether the graph is binary; it is found out.
    #[arg(long = "input_binary", value_name = "BOOL", num_args = 0..=1, default_value = "true",
        default_missing_value = "true", value_parser = parse_bool, hide = true)]
    input_binary: bool,
    /// Accepted and not needed.
    #[arg(long = "print_nodes", value_name = "BOOL", num_args = 0..=1, default_value = "false",
        default_missing_value = "true", value_parser = parse_bool, hide = true)]
    print_nodes: bool,
    /// Accepted and not needed: nothing is run.
    #[arg(long = "test_input_dims", value_name = "DIMS", hide = true)]
    test_input_dims: Option<String>,
}

impl EightbitArgs {
    /// The job these arguments describe.
    ///
    /// # Errors
    /// If the mode or the name of the model is not supported, or a range is none.
    pub(crate) fn job(&self) -> Result<EightbitJob, String> {
        let fallback = self.fallback_min.zip(self.fallback_max).map(|(min, max)| [min, max]);
        if fallback.is_some() && self.intel {
            return Err("`--quantized_fallback_min` has no meaning with `--intel_cpu_eightbitize`".into());
        }
        let input = [self.quantized_input_min, self.quantized_input_max];
        for (name, [min, max]) in
            [("--quantized_input", input), ("--quantized_fallback", fallback.unwrap_or([0.0, 1.0]))]
        {
            if !(min.is_finite() && max.is_finite() && min < max) {
                return Err(format!("`{name}_min` is not less than `{name}_max`"));
            }
        }
        let mut options = EightbitOptions {
            mode: self.mode()?,
            outputs: node_names(&self.output_node_names),
            bitdepth: self.bitdepth,
            intel: self.intel,
            per_channel: self.per_channel,
            strip_redundant: self.strip_redundant_quantization,
            quantized_input: self.quantized_input.then_some(input),
            fallback,
            excluded_ops: node_names(&self.excluded_ops),
            excluded_nodes: node_names(&self.excluded_nodes),
            signed_input_convs: self.signed_input_convs,
            quantize_matmul: self.quantize_matmul,
            exclude_concat: self.exclude_concat,
            rules: self.rules.options(),
        };
        if !options.set_model_name(&self.model_name) {
            return Err(format!("no rules are known for the model `{}`", self.model_name));
        }
        Ok(EightbitJob {
            graph: self.input.clone(),
            options,
            output: self.output.clone(),
            as_text: !self.output_binary,
        })
    }

    fn mode(&self) -> Result<EightbitMode, String> {
        match self.mode {
            Mode::Eightbit => Ok(EightbitMode::Eightbit),
            Mode::Weights => Ok(EightbitMode::Weights),
            Mode::WeightsRounded => Ok(EightbitMode::WeightsRounded),
            Mode::Round | Mode::Quantize => {
                let name = if matches!(self.mode, Mode::Round) { "round" } else { "quantize" };
                Err(format!(
                    "`--mode {name}` inserts operators that no TensorFlow has; `--mode eightbit` makes a graph that computes \
                     on codes"
                ))
            }
        }
    }
}
