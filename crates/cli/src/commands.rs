//! The commands that work on the caller's own files.

use crate::args::{EvalArgs, OnnxArgs, OutputFormat};
use crate::report;
use crate::terminal::{Bar, Failure, note, result};
use quantize_pipeline::{DataOptions, EvaluateOptions, evaluate, quantize_onnx};
use serde_json::json;
use std::process::ExitCode;

/// Written, but a condition of `--strict` broke.
const STRICT_BROKEN: u8 = 3;

/// `quantize onnx`
pub(crate) fn onnx(args: &OnnxArgs) -> Result<ExitCode, Failure> {
    let summary = quantize_onnx(&args.options(), &Bar::new(args.run.quiet))?;
    if !args.run.quiet {
        note(&report::text(&summary, args.run.verbose));
    }
    match args.run.output_format {
        OutputFormat::Json => result(&report::json(&summary).to_string())?,
        OutputFormat::Text => summary.written.iter().try_for_each(|path| result(&path.display().to_string()))?,
    }
    let broken = args.strict && !summary.warnings.is_empty();
    if broken && args.run.quiet {
        summary.warnings.iter().for_each(|w| note(&format!("warning: {w}")));
    }
    Ok(if broken { ExitCode::from(STRICT_BROKEN) } else { ExitCode::SUCCESS })
}

/// `quantize eval`
pub(crate) fn eval(args: &EvalArgs) -> Result<ExitCode, Failure> {
    let options = EvaluateOptions {
        model: args.model.clone(),
        data: DataOptions { path: args.data.clone(), preprocess: args.preprocess.options() },
        labels: args.labels.clone(),
        threads: args.run.threads,
    };
    let evaluation = evaluate(&options, &Bar::new(args.run.quiet))?;
    if !args.run.quiet {
        evaluation.warnings.iter().for_each(|w| note(&format!("warning: {w}")));
    }
    match args.run.output_format {
        OutputFormat::Text => result(&report::evaluation(&evaluation))?,
        OutputFormat::Json => {
            let counts = json!({"images": evaluation.images, "top1": evaluation.top1, "top5": evaluation.top5});
            result(&counts.to_string())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
