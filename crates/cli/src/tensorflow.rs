//! `quantize tf`: TensorFlow's steps, each as the original program does it.

use crate::args::OutputFormat;
use crate::args::eightbit::EightbitArgs;
use crate::args::tensorflow::{SummarizeArgs, TensorflowArgs, TensorflowCommand};
use crate::args::tensorflow_calibrate::GraphCalibrateArgs;
use crate::args::tensorflow_quantize::{GraphJob, GraphQuantizeArgs};
use crate::commands::{self, tell_accuracy};
use crate::comparison;
use crate::terminal::{Bar, Failure, note, result};
use quantize_pipeline::{
    Covered, Fed, GraphSummary, TensorflowSummary, WrittenGraph, calibrate_tensorflow, eightbit_tensorflow,
    freeze_tensorflow, quantize_tensorflow, summarize_tensorflow, tensorflow_to_onnx, transform_tensorflow,
};
use serde_json::{Value, json};
use std::process::ExitCode;

/// `quantize tf`
pub(crate) fn run(args: &TensorflowArgs) -> Result<ExitCode, Failure> {
    let Some(command) = &args.command else { return quantize(&args.quantize) };
    match command {
        TensorflowCommand::Run(args) => quantize(args),
        TensorflowCommand::Summarize(args) => summarize(args),
        TensorflowCommand::Freeze(args) => tell(&freeze_tensorflow(&args.job().map_err(Failure::Usage)?)?),
        TensorflowCommand::Transform(args) => tell(&transform_tensorflow(&args.job())?),
        TensorflowCommand::Eightbit(args) => eightbit(args),
        TensorflowCommand::Calibrate(args) => calibrate(args),
        TensorflowCommand::Eval(args) => tell_accuracy(&args.options(), &args.run),
        TensorflowCommand::Compare(args) => comparison::tell(&args.options().map_err(Failure::Usage)?, &args.how),
    }
}

/// What the written graph needs of whoever runs it.
const RUNTIME: &str = "run it with TensorFlow 2 on an x86 processor with AVX512-VNNI or better; on others, and wherever \
                       `Missing 0-th output` comes up, set TF_ENABLE_ONEDNN_OPTS=1";

/// `quantize tf GRAPH`, `quantize tf run`
fn quantize(args: &GraphQuantizeArgs) -> Result<ExitCode, Failure> {
    let bar = Bar::new(args.run.quiet);
    let summary = match args.job().map_err(Failure::Usage)? {
        GraphJob::Graph(options) => quantize_tensorflow(&options, &bar)?,
        GraphJob::Onnx(files, options) => tensorflow_to_onnx(&files, &options, &bar)?,
    };
    let code = commands::tell(&summary, &args.run, args.strict)?;
    if !args.run.quiet && !summary.exported && !summary.quantized.is_empty() {
        note(RUNTIME);
    }
    Ok(code)
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

fn eightbit(args: &EightbitArgs) -> Result<ExitCode, Failure> {
    let done = eightbit_tensorflow(&args.job().map_err(Failure::Usage)?)?;
    match args.output_format {
        OutputFormat::Text => {
            covered(&done.coverage);
            if !done.coverage.is_empty() {
                let [to_codes, to_reals] = done.conversions;
                note(&format!("reals become codes {to_codes} times, codes become reals {to_reals} times"));
            }
            tell(&done.written)
        }
        OutputFormat::Json => {
            let node = |covered: &Covered| {
                json!({
                    "name": covered.node,
                    "op": covered.op,
                    "becomes": covered.outcome.as_ref().ok(),
                    "reason": covered.outcome.as_ref().err(),
                })
            };
            let [to_codes, to_reals] = done.conversions;
            let report = json!({
                "output": done.written.path,
                "nodes": done.coverage.iter().map(node).collect::<Vec<_>>(),
                "conversions": {"to_codes": to_codes, "to_reals": to_reals},
                "warnings": done.written.warnings,
            });
            result(&report.to_string())?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn calibrate(args: &GraphCalibrateArgs) -> Result<ExitCode, Failure> {
    let log = calibrate_tensorflow(&args.job().map_err(Failure::Usage)?, &Bar::new(args.run.quiet))?;
    if !args.run.quiet {
        log.warnings.iter().for_each(|warning| note(&format!("warning: {warning}")));
        let from = if log.is_printed { "printed by" } else { "of what becomes codes at" };
        note(&format!("{} lines {from} {} nodes, on {} samples", log.lines, log.nodes, log.samples));
    }
    match args.run.output_format {
        OutputFormat::Text => result(&log.path.display().to_string())?,
        OutputFormat::Json => {
            let report = json!({
                "output": log.path,
                "printed": log.is_printed,
                "nodes": log.nodes,
                "lines": log.lines,
                "samples": log.samples,
                "warnings": log.warnings,
            });
            result(&report.to_string())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Says of each operator how many nodes compute on codes, and of those that do not why.
fn covered(coverage: &[Covered]) {
    let mut ops: Vec<&str> = coverage.iter().map(|covered| covered.op.as_str()).collect();
    ops.sort_unstable();
    ops.dedup();
    for op in ops {
        let nodes = || coverage.iter().filter(|covered| covered.op == op);
        let quantized = nodes().filter(|covered| covered.outcome.is_ok()).count();
        note(&format!("{op}: {quantized} of {} compute on codes", nodes().count()));
        for covered in nodes() {
            if let Err(reason) = &covered.outcome {
                note(&format!("  `{}` stays: {reason}", covered.node));
            }
        }
    }
}
