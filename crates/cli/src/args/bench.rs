//! The command line of `quantize bench`.

use super::{DataArgs, OutputFormat, PreprocessArgs};
use clap::Args;
use quantize_pipeline::{BenchOptions, PreparationOptions};
use std::num::NonZeroUsize;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// The fp32 model, ONNX.
    model: PathBuf,
    /// Time the int8 model of the default recipe, simulated, instead of fp32. Its plan is made from synthetic inputs,
    /// or from images given with `--calib`.
    #[arg(long)]
    int8: bool,
    /// Name every step with its time, the shortest of as many runs.
    #[arg(long)]
    pub(crate) per_layer: bool,
    /// Runs of each thread; the shortest one counts.
    #[arg(long, value_name = "N", default_value = "10")]
    rounds: NonZeroUsize,
    /// Threads, each of which runs the whole network on an image of its own.
    #[arg(long, value_name = "N", default_value = "1")]
    threads: NonZeroUsize,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    preprocess: PreprocessArgs,
    /// Show no progress.
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Form of the result on standard output.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) output_format: OutputFormat,
}

impl BenchArgs {
    /// The job these arguments describe.
    ///
    /// # Errors
    /// If there are images, but nothing to make from them.
    pub(crate) fn options(&self) -> Result<BenchOptions, String> {
        let preprocess = self.preprocess.options();
        let size = preprocess.crop.or(preprocess.resize);
        let data = self.data.options(PreparationOptions::Pillow(preprocess));
        if data.is_some() && !self.int8 {
            return Err("--calib gives images to make an int8 model from; add --int8".to_owned());
        }
        Ok(BenchOptions {
            model: self.model.clone(),
            int8: self.int8,
            data,
            size,
            threads: self.threads.get(),
            rounds: self.rounds.get(),
            per_layer: self.per_layer,
        })
    }
}
