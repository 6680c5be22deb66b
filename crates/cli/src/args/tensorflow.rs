//! The command lines of `quantize tf`: the flags of the original programs, in their spelling.

use super::eightbit::EightbitArgs;
use super::tensorflow_calibrate::GraphCalibrateArgs;
use super::tensorflow_quantize::GraphQuantizeArgs;
use super::tools::CompareHow;
use super::{OutputFormat, PreprocessArgs, RunArgs};
use clap::{Args, Subcommand};
use quantize_pipeline::{
    CompareOptions, DataOptions, EvaluateOptions, FreezeJob, FreezeOptions, ModelFiles, Other, PreparationOptions,
    Request, TensorflowFiles, TransformJob, node_names,
};
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct TensorflowArgs {
    #[command(subcommand)]
    pub(crate) command: Option<TensorflowCommand>,
    #[command(flatten)]
    pub(crate) quantize: GraphQuantizeArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TensorflowCommand {
    /// Quantize a graph at once: freeze, fold, calibrate, and write fused operators on integers.
    Run(Box<GraphQuantizeArgs>),
    /// Say what a graph is: likely inputs and outputs, sizes, operators; as summarize_graph does.
    Summarize(SummarizeArgs),
    /// Put the values of a checkpoint in place of variables; as freeze_graph.py does.
    Freeze(Box<FreezeArgs>),
    /// Change a graph by transforms; as transform_graph does. docs/tensorflow.md lists them.
    Transform(TransformArgs),
    /// Make operators compute on 8-bit codes; as quantize_graph.py does.
    Eightbit(Box<EightbitArgs>),
    /// Write the ranges that a graph takes on samples, as a log that freeze_requantization_ranges reads.
    Calibrate(Box<GraphCalibrateArgs>),
    /// Measure top-1 and top-5 accuracy of a graph on labelled images.
    Eval(Box<GraphEvalArgs>),
    /// Compare two graphs on the same images: outputs, and layer by layer.
    Compare(Box<GraphCompareArgs>),
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Graph")]
pub(crate) struct GraphArgs {
    /// The checkpoint of the graph's variables: its prefix, one of its files, or its folder; none for a frozen graph.
    #[arg(long, value_name = "PREFIX")]
    checkpoint: Option<PathBuf>,
    /// Names of the nodes that are fed, separated by commas [default: placeholders].
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    inputs: Vec<String>,
    /// Names of the nodes that are wanted, separated by commas [default: those of a SavedModel, or what nobody reads].
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    outputs: Vec<String>,
}

impl GraphArgs {
    pub(super) fn files(&self, graph: &Path) -> TensorflowFiles {
        TensorflowFiles {
            graph: graph.to_owned(),
            checkpoint: self.checkpoint.clone(),
            request: Request { inputs: self.inputs.clone(), outputs: self.outputs.clone() },
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct GraphEvalArgs {
    /// The graph: GraphDef or MetaGraph, binary or text, or the folder of a SavedModel.
    model: PathBuf,
    #[command(flatten)]
    graph: GraphArgs,
    /// Folder of images or arrays, or one file of them; `NAME=PATH` for each input of a graph with several.
    #[arg(long, value_name = "[NAME=]PATH", help_heading = "Data", required = true)]
    data: Vec<PathBuf>,
    /// Labels: a line `sample,class` for each sample; classes count from 0.
    #[arg(long, value_name = "FILE", help_heading = "Data")]
    labels: PathBuf,
    #[command(flatten)]
    preprocess: PreprocessArgs,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

impl GraphEvalArgs {
    /// The evaluation these arguments describe.
    pub(crate) fn options(&self) -> EvaluateOptions {
        EvaluateOptions {
            model: ModelFiles::Tensorflow(self.graph.files(&self.model)),
            data: DataOptions {
                paths: self.data.clone(),
                sampling: Default::default(),
                preparation: PreparationOptions::Pillow(self.preprocess.options()),
            },
            labels: self.labels.clone(),
            threads: self.run.threads,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct GraphCompareArgs {
    /// The graph that is right by definition, usually fp32.
    reference: PathBuf,
    /// The graph to compare with it.
    other: PathBuf,
    #[command(flatten)]
    graph: GraphArgs,
    #[command(flatten)]
    pub(crate) how: CompareHow,
}

impl GraphCompareArgs {
    /// The comparison these arguments describe.
    ///
    /// # Errors
    /// If there are no images.
    pub(crate) fn options(&self) -> Result<CompareOptions, String> {
        let files = |graph| ModelFiles::Tensorflow(self.graph.files(graph));
        self.how.options(files(&self.reference), Other::Model(files(&self.other)))
    }
}

#[derive(Debug, Args)]
pub(crate) struct SummarizeArgs {
    /// The graph: GraphDef or MetaGraph, binary or text, or the folder of a SavedModel.
    #[arg(long = "in_graph", value_name = "FILE")]
    pub(crate) in_graph: PathBuf,
    /// Print every node in the order of execution, too.
    #[arg(long = "print_structure", value_name = "BOOL", num_args = 0..=1, default_value = "false",
        default_missing_value = "true", value_parser = parse_bool)]
    pub(crate) print_structure: bool,
    /// Form of the result on standard output.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) output_format: OutputFormat,
}

#[derive(Debug, Args)]
pub(crate) struct FreezeArgs {
    /// The graph, a GraphDef, binary or text: which of them is found out.
    #[arg(long = "input_graph", value_name = "FILE", required_unless_present_any = ["input_meta_graph",
        "input_saved_model_dir"], conflicts_with_all = ["input_meta_graph", "input_saved_model_dir"])]
    input_graph: Option<PathBuf>,
    /// A MetaGraph, such as the .meta file of a checkpoint, instead of a graph.
    #[arg(long = "input_meta_graph", value_name = "FILE", conflicts_with = "input_saved_model_dir")]
    input_meta_graph: Option<PathBuf>,
    /// The folder of a SavedModel instead of a graph; its own variables are used.
    #[arg(long = "input_saved_model_dir", value_name = "DIR")]
    input_saved_model_dir: Option<PathBuf>,
    /// Tags of the graph in a SavedModel, separated by commas.
    #[arg(long = "saved_model_tags", value_name = "TAGS", default_value = "serve", value_delimiter = ',')]
    saved_model_tags: Vec<String>,
    /// The checkpoint: its prefix, one of its files, or its folder.
    #[arg(long = "input_checkpoint", value_name = "PREFIX")]
    input_checkpoint: Option<PathBuf>,
    /// Version that the checkpoint has to have, 1 or 2 [default: any].
    #[arg(long = "checkpoint_version", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=2))]
    checkpoint_version: Option<u32>,
    /// Where to write the frozen graph, as binary.
    #[arg(long = "output_graph", value_name = "FILE")]
    output_graph: PathBuf,
    /// Names of the nodes that are wanted, separated by commas.
    #[arg(long = "output_node_names", value_name = "NAMES")]
    output_node_names: String,
    /// Whether the graph is binary; it is found out, so that both are accepted for either.
    #[arg(long = "input_binary", value_name = "BOOL", num_args = 0..=1, default_value = "false",
        default_missing_value = "true", value_parser = parse_bool)]
    input_binary: bool,
    /// Take nodes off the devices they are assigned to.
    #[arg(long = "clear_devices", value_name = "BOOL", num_args = 0..=1, default_value = "true",
        default_missing_value = "true", value_parser = parse_bool)]
    clear_devices: bool,
    /// Freeze only these variables, separated by commas.
    #[arg(long = "variable_names_whitelist", value_name = "NAMES", default_value = "", hide_default_value = true)]
    variable_names_whitelist: String,
    /// Keep these variables, separated by commas.
    #[arg(
        long = "variable_names_denylist",
        alias = "variable_names_blacklist",
        value_name = "NAMES",
        default_value = "",
        hide_default_value = true
    )]
    variable_names_denylist: String,
    /// Use moving averages (NAME/ExponentialMovingAverage) where the checkpoint has them.
    #[arg(long)]
    use_ema: bool,
    /// Accepted and not needed: nothing is saved.
    #[arg(long = "input_saver", value_name = "FILE", hide = true)]
    input_saver: Option<PathBuf>,
    /// Accepted and not needed: the checkpoint is read without the graph's own nodes.
    #[arg(long = "restore_op_name", value_name = "NAME", hide = true)]
    restore_op_name: Option<String>,
    /// Accepted and not needed, likewise.
    #[arg(long = "filename_tensor_name", value_name = "NAME", hide = true)]
    filename_tensor_name: Option<String>,
    /// Nodes that the original runs before it freezes; none can be run here.
    #[arg(
        long = "initializer_nodes",
        value_name = "NAMES",
        default_value = "",
        hide_default_value = true,
        hide = true
    )]
    initializer_nodes: String,
}

impl FreezeArgs {
    /// The job these arguments describe.
    ///
    /// # Errors
    /// If nodes are to be run first.
    pub(crate) fn job(&self) -> Result<FreezeJob, String> {
        if !node_names(&self.initializer_nodes).is_empty() {
            return Err("`--initializer_nodes` is not supported: no node of the graph is run".into());
        }
        let graphs = [&self.input_graph, &self.input_meta_graph, &self.input_saved_model_dir];
        let graph = graphs.into_iter().flatten().next().cloned().ok_or("no graph is given")?;
        Ok(FreezeJob {
            graph,
            tags: self.saved_model_tags.clone(),
            checkpoint: self.input_checkpoint.clone(),
            version: self.checkpoint_version,
            options: FreezeOptions {
                outputs: node_names(&self.output_node_names),
                clear_devices: self.clear_devices,
                only: node_names(&self.variable_names_whitelist),
                except: node_names(&self.variable_names_denylist),
                averages: self.use_ema,
            },
            output: self.output_graph.clone(),
        })
    }
}

#[derive(Debug, Args)]
pub(crate) struct TransformArgs {
    /// The graph, binary or text.
    #[arg(long = "in_graph", value_name = "FILE")]
    in_graph: PathBuf,
    /// Where to write the changed graph.
    #[arg(long = "out_graph", value_name = "FILE")]
    out_graph: PathBuf,
    /// Names of the nodes that are fed, separated by commas.
    #[arg(long, value_name = "NAMES", default_value = "", hide_default_value = true)]
    inputs: String,
    /// Names of the nodes that are wanted, separated by commas.
    #[arg(long, value_name = "NAMES", default_value = "", hide_default_value = true)]
    outputs: String,
    /// The transforms, e.g. 'remove_nodes(op=Identity) fold_constants fold_batch_norms'.
    #[arg(long, value_name = "LIST")]
    transforms: String,
    /// Write text instead of binary.
    #[arg(long = "output_as_text", value_name = "BOOL", num_args = 0..=1, default_value = "false",
        default_missing_value = "true", value_parser = parse_bool)]
    output_as_text: bool,
}

impl TransformArgs {
    /// The job these arguments describe.
    pub(crate) fn job(&self) -> TransformJob {
        TransformJob {
            graph: self.in_graph.clone(),
            inputs: node_names(&self.inputs),
            outputs: node_names(&self.outputs),
            transforms: self.transforms.clone(),
            output: self.out_graph.clone(),
            as_text: self.output_as_text,
        }
    }
}

/// A truth value in any of the spellings of the original programs: `False`, `false`, `0`.
pub(super) fn parse_bool(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "t" => Ok(true),
        "false" | "0" | "no" | "f" => Ok(false),
        _ => Err("expected true or false".into()),
    }
}
