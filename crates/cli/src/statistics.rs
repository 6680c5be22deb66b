//! Files of statistics: `quantize stats`, and what a shard says.

use crate::args::{OutputFormat, StatsArgs, StatsCommand};
use crate::terminal::{Failure, note, result};
use quantize_pipeline::{MergeOptions, StatisticsSummary, describe_statistics, merge_statistics};
use serde_json::json;
use std::process::ExitCode;

/// `quantize stats`
pub(crate) fn run(args: &StatsArgs) -> Result<ExitCode, Failure> {
    match &args.command {
        StatsCommand::Merge { inputs, output, output_format } => {
            let options = MergeOptions { inputs: inputs.clone(), output: output.clone() };
            tell(&merge_statistics(&options)?, *output_format, false)
        }
        StatsCommand::Show { file, output_format } => {
            let summary = describe_statistics(file)?;
            match output_format {
                OutputFormat::Text => result(&text(&summary))?,
                OutputFormat::Json => result(&json(&summary).to_string())?,
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Says what a written file holds, and its path.
pub(crate) fn tell(summary: &StatisticsSummary, format: OutputFormat, quiet: bool) -> Result<ExitCode, Failure> {
    if !quiet {
        note(&text(summary));
    }
    match format {
        OutputFormat::Text => result(&summary.path.display().to_string())?,
        OutputFormat::Json => result(&json(summary).to_string())?,
    }
    Ok(ExitCode::SUCCESS)
}

fn text(summary: &StatisticsSummary) -> String {
    let StatisticsSummary { seen, samples, tensors, preparation, .. } = summary;
    let share = match *seen as u64 == *samples {
        true => format!("all {samples} samples"),
        false => format!("{seen} of {samples} samples; merge with the other shards: `quantize stats merge`"),
    };
    format!("statistics: {tensors} tensors, {share}\ndata: {preparation}")
}

fn json(summary: &StatisticsSummary) -> serde_json::Value {
    json!({
        "path": summary.path.display().to_string(),
        "tensors": summary.tensors,
        "seen": summary.seen,
        "samples": summary.samples,
        "preparation": summary.preparation,
    })
}
