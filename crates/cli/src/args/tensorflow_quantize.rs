//! The arguments of `quantize tf` without a step, and of `quantize tf run`: from graph to int8 graph at once.

use super::caffe::Emit;
use super::tensorflow::GraphArgs;
use super::{DataArgs, PreprocessArgs, RecipeArgs, RunArgs};
use clap::{Args, ValueEnum};
use quantize_pipeline::{
    PreparationOptions, QuantizeOptions, QuantizeTensorflowOptions, SignedSum, TargetOptions, TensorflowFiles,
    TensorflowRecipe,
};
use std::path::PathBuf;

/// What the arguments ask for.
#[derive(Debug)]
pub(crate) enum GraphJob {
    /// A graph on integers.
    Graph(Box<QuantizeTensorflowOptions>),
    /// An ONNX model.
    Onnx(TensorflowFiles, Box<QuantizeOptions>),
}

#[derive(Debug, Args)]
pub(crate) struct GraphQuantizeArgs {
    /// The fp32 graph: GraphDef or MetaGraph, binary or text, or the folder of a SavedModel.
    #[arg(value_name = "GRAPH", required = true)]
    model: Option<PathBuf>,
    /// Where to write the int8 graph: text if the name ends in .pbtxt [default: GRAPH with the extension .int8.pb].
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write ONNX instead: the int8 model for onnxruntime, or the fp32 network.
    #[arg(long, value_name = "FORM")]
    emit: Option<Emit>,
    #[command(flatten)]
    graph: GraphArgs,
    #[command(flatten)]
    recipe: RecipeArgs,
    /// How shortcuts that cannot be negative are added to convolutions, before a ReLU: on integers where TensorFlow's
    /// operator for it is safe, or in fp32.
    #[arg(long, value_name = "HOW", default_value = "int8", help_heading = "Recipe")]
    residual_sum: ArithmeticArg,
    /// How shortcuts that may be negative are added: on integers, with 7 bits for the sum, or in fp32.
    #[arg(long, value_name = "HOW", default_value = "fp32", help_heading = "Recipe")]
    signed_sum: SignedSumArg,
    /// How matrix products by constants are computed: on integers, with one scale for all weights of a product, or in fp32.
    #[arg(long, value_name = "HOW", default_value = "fp32", help_heading = "Recipe")]
    matmul: ArithmeticArg,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    preprocess: PreprocessArgs,
    /// Write the plan (every decision and scale) as JSON.
    #[arg(long, value_name = "FILE", help_heading = "Artefacts")]
    emit_plan: Option<PathBuf>,
    /// Carry out this plan, as `--emit-plan` wrote it or edited by hand; nothing is calibrated.
    #[arg(long, value_name = "FILE", help_heading = "Artefacts", conflicts_with_all = ["range", "weights"])]
    plan: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) run: RunArgs,
    /// Exit with code 3 if there was a warning.
    #[arg(long, help_heading = "Run")]
    pub(crate) strict: bool,
}

/// What something is computed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ArithmeticArg {
    /// On integers.
    Int8,
    /// On real numbers.
    Fp32,
}

/// The spellings of [`SignedSum`].
#[derive(Clone, Copy, Debug, ValueEnum)]
enum SignedSumArg {
    /// On integers: the sum has 7 bits, since TensorFlow's operator cuts off at code 127.
    Sum7bit,
    /// On real numbers.
    Fp32,
}

impl GraphQuantizeArgs {
    /// Which operators become operators on integers.
    fn operators(&self) -> TensorflowRecipe {
        let signed_sum = match self.signed_sum {
            SignedSumArg::Sum7bit => SignedSum::Sum7Bit,
            SignedSumArg::Fp32 => SignedSum::Fp32,
        };
        TensorflowRecipe {
            residual_sum: self.residual_sum == ArithmeticArg::Int8,
            signed_sum,
            matmul: self.matmul == ArithmeticArg::Int8,
        }
    }

    /// The job these arguments describe.
    ///
    /// # Errors
    /// If no graph is given.
    pub(crate) fn job(&self) -> Result<GraphJob, String> {
        let graph = self.model.as_ref().ok_or("no graph is given")?;
        let files = self.graph.files(graph);
        let preparation = PreparationOptions::Pillow(self.preprocess.options());
        let labelled = self.recipe.labelled(&preparation);
        let data = self.data.options(preparation);
        let output = |extension: &str| self.output.clone().unwrap_or_else(|| graph.with_extension(extension));
        let Some(emit) = self.emit else {
            return Ok(GraphJob::Graph(Box::new(QuantizeTensorflowOptions {
                model: files,
                output: output("int8.pb"),
                data,
                labelled,
                recipe: self.recipe.options(),
                operators: self.operators(),
                emit_plan: self.emit_plan.clone(),
                plan: self.plan.clone(),
                threads: self.run.threads,
            })));
        };
        let mut recipe = self.recipe.options();
        if emit == Emit::OnnxFp32 {
            recipe.skip = vec!["*".to_owned()];
        }
        let options = QuantizeOptions {
            model: graph.clone(),
            output: output(emit.extension()),
            target: TargetOptions::default(),
            data,
            labelled,
            recipe,
            emit_plan: self.emit_plan.clone(),
            plan: self.plan.clone(),
            statistics: None,
            save_statistics: None,
            threads: self.run.threads,
        };
        Ok(GraphJob::Onnx(files, Box::new(options)))
    }
}
