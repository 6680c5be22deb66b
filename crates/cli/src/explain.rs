//! `quantize explain`: a topic in a few words, and the list of them.

use crate::args::OutputFormat;
use crate::args::tools::ExplainArgs;
use crate::terminal::{Failure, result};
use crate::topics::{TOPICS, Topic};
use serde_json::{Value, json};
use std::process::ExitCode;

/// Explains a topic, or lists all of them.
pub(crate) fn run(args: &ExplainArgs) -> Result<ExitCode, Failure> {
    let topic = args.topic.as_deref().and_then(Topic::named);
    match (topic, args.output_format) {
        (Some(topic), OutputFormat::Text) => result(topic.text())?,
        (Some(topic), OutputFormat::Json) => result(&json_of(topic).to_string())?,
        (None, OutputFormat::Text) => result(&list())?,
        (None, OutputFormat::Json) => result(&json_list().to_string())?,
    }
    Ok(ExitCode::SUCCESS)
}

/// One line for each topic.
fn list() -> String {
    let width = TOPICS.iter().map(|topic| topic.name.len()).max().unwrap_or(0);
    let lines = TOPICS.iter().map(|topic| format!("{:width$}  {}", topic.name, topic.summary()));
    let lines: Vec<String> = lines.collect();
    format!("{}\n\n`quantize explain TOPIC` explains one of them.", lines.join("\n"))
}

fn json_list() -> Value {
    let topic = |topic: &Topic| json!({"topic": topic.name, "summary": topic.summary()});
    json!({"topics": TOPICS.iter().map(topic).collect::<Vec<_>>()})
}

fn json_of(topic: &Topic) -> Value {
    json!({"topic": topic.name, "summary": topic.summary(), "text": topic.text(), "related": topic.related()})
}
