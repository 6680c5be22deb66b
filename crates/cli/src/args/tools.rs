//! The command lines of the tools around a model and around the command itself.

use super::OutputFormat;
use crate::topics::TOPICS;
use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser};
use clap_complete::Shell;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// What to explain; without one, all topics are listed.
    #[arg(value_parser = topic_names(), ignore_case = true, hide_possible_values = true)]
    pub(crate) topic: Option<String>,
    /// Form of the result on standard output.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) output_format: OutputFormat,
}

/// Topics with their other words, so that shells complete them and a wrong one is told the nearest.
fn topic_names() -> PossibleValuesParser {
    let names = TOPICS.iter().map(|t| PossibleValue::new(t.name).aliases(t.aliases.iter().copied()).help(t.summary()));
    PossibleValuesParser::new(names.collect::<Vec<_>>())
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell that will read the script.
    pub(crate) shell: Shell,
}

#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Folder to write a page for each command to, instead of the first page to standard output.
    #[arg(short, long, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
}
