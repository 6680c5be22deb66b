//! The arguments of `quantize tf calibrate`.

use super::eightbit::Rules;
use super::tensorflow::GraphArgs;
use super::{DataArgs, PreprocessArgs, RunArgs};
use clap::Args;
use quantize_pipeline::{CalibrateTensorflowJob, EightbitOptions, PreparationOptions, node_names};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct GraphCalibrateArgs {
    /// The graph, binary or text: with the nodes of insert_logging, or in fp32 as `eightbit` will get it.
    #[arg(long = "in_graph", value_name = "FILE")]
    in_graph: PathBuf,
    /// Where to write the log.
    #[arg(long = "min_max_log_file", value_name = "FILE")]
    min_max_log_file: PathBuf,
    #[command(flatten)]
    graph: GraphArgs,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    preprocess: PreprocessArgs,
    /// Operators that `eightbit` is told to leave as they are, separated by commas; of an fp32 graph.
    #[arg(
        long = "excluded_ops",
        value_name = "OPS",
        default_value = "",
        hide_default_value = true,
        help_heading = "What eightbit will do"
    )]
    excluded_ops: String,
    /// Nodes that it is told to leave as they are, separated by commas.
    #[arg(
        long = "excluded_nodes",
        value_name = "NAMES",
        default_value = "",
        hide_default_value = true,
        help_heading = "What eightbit will do"
    )]
    excluded_nodes: String,
    /// Whose decisions it takes.
    #[arg(long, value_name = "RULES", default_value = "original", help_heading = "What eightbit will do")]
    rules: Rules,
    /// The model that it is told.
    #[arg(
        long = "model_name",
        value_name = "NAME",
        default_value = "",
        hide_default_value = true,
        help_heading = "What eightbit will do"
    )]
    model_name: String,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

impl GraphCalibrateArgs {
    /// The job these arguments describe.
    ///
    /// # Errors
    /// If there are no samples, or the name of the model is not known.
    pub(crate) fn job(&self) -> Result<CalibrateTensorflowJob, String> {
        let data = self.data.options(PreparationOptions::Pillow(self.preprocess.options()));
        let mut eightbit = EightbitOptions {
            excluded_ops: node_names(&self.excluded_ops),
            excluded_nodes: node_names(&self.excluded_nodes),
            rules: self.rules.options(),
            ..EightbitOptions::default()
        };
        if !eightbit.set_model_name(&self.model_name) {
            return Err(format!("no rules are known for the model `{}`", self.model_name));
        }
        Ok(CalibrateTensorflowJob {
            model: self.graph.files(&self.in_graph),
            data: data.ok_or("ranges are those of samples; give them with --calib DIR")?,
            eightbit,
            threads: self.run.threads,
            output: self.min_max_log_file.clone(),
        })
    }
}
