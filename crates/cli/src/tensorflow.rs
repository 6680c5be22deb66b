//! `quantize tf`: TensorFlow's steps, each as the original program does it.

use crate::args::OutputFormat;
use crate::args::tensorflow::{SummarizeArgs, TensorflowArgs, TensorflowCommand};
use crate::terminal::{Failure, note, result};
use quantize_pipeline::{
    Fed, GraphSummary, TensorflowSummary, WrittenGraph, freeze_tensorflow, summarize_tensorflow, transform_tensorflow,
};
use serde_json::{Value, json};
use std::process::ExitCode;

/// `quantize tf`
pub(crate) fn run(args: &TensorflowArgs) -> Result<ExitCode, Failure> {
    match &args.command {
        TensorflowCommand::Summarize(args) => summarize(args),
        TensorflowCommand::Freeze(args) => tell(&freeze_tensorflow(&args.job().map_err(Failure::Usage)?)?),
        TensorflowCommand::Transform(args) => tell(&transform_tensorflow(&args.job())?),
    }
}

fn summarize(args: &SummarizeArgs) -> Result<ExitCode, Failure> {
    let found = summarize_tensorflow(&args.in_graph, args.print_structure)?;
    match args.output_format {
        OutputFormat::Json => result(&json(&found).to_string())?,
        OutputFormat::Text => {
            let text = found.summary.text(&args.in_graph.display().to_string());
            result((text + found.structure.as_deref().unwrap_or_default()).trim_end_matches('\n'))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn json(found: &TensorflowSummary) -> Value {
    let GraphSummary { inputs, variables, outputs, operators, devices, .. } = &found.summary;
    let fed = |node: &Fed| {
        let shape = node.shape.as_ref().map(ToString::to_string);
        json!({"name": node.name, "type": node.dtype.to_string(), "shape": shape})
    };
    let named = |(name, op): &(String, String)| json!({"name": name, "op": op});
    json!({
        "inputs": inputs.iter().map(fed).collect::<Vec<_>>(),
        "variables": variables.iter().map(fed).collect::<Vec<_>>(),
        "outputs": outputs.iter().map(named).collect::<Vec<_>>(),
        "const_parameters": found.summary.constant_elements,
        "variable_parameters": found.summary.variable_elements,
        "control_edges": found.summary.control_edges,
        "devices": devices,
        "operators": operators.iter().map(|(op, count)| json!({"op": op, "count": count})).collect::<Vec<_>>(),
        "structure": found.structure.as_ref().map(|text| text.lines().collect::<Vec<_>>()),
    })
}

/// Says what was done, and the written path.
fn tell(written: &WrittenGraph) -> Result<ExitCode, Failure> {
    written.steps.iter().for_each(|step| note(step));
    written.warnings.iter().for_each(|warning| note(&format!("warning: {warning}")));
    let [before, after] = written.nodes;
    note(&format!("{before} nodes before, {after} after"));
    result(&written.path.display().to_string())?;
    Ok(ExitCode::SUCCESS)
}
