//! The commands that work on the caller's own files.

use crate::args::caffe::{CaffeArgs, CaffeCommand, CaffeJob, EmulateArgs};
use crate::args::{EvalArgs, OnnxArgs, OutputFormat, RunArgs};
use crate::terminal::{Bar, Failure, note, result};
use crate::{emulation, report, statistics};
use quantize_pipeline::{
    DataOptions, EvaluateOptions, ModelFiles, PreparationOptions, Summary, caffe_to_onnx, emulate_caffe, evaluate,
    gather_onnx, quantize_caffe, quantize_onnx,
};
use serde_json::json;
use std::process::ExitCode;

/// Written, but a condition of `--strict` broke, or a target was missed.
const CONDITION_BROKEN: u8 = 3;

/// `quantize onnx`
pub(crate) fn onnx(args: &OnnxArgs) -> Result<ExitCode, Failure> {
    if let (Some(shard), Some(output)) = (args.shard, &args.save_stats) {
        let gathered = gather_onnx(&args.options(), shard, output, &Bar::new(args.run.quiet))?;
        return statistics::tell(&gathered, args.run.output_format, args.run.quiet);
    }
    let summary = quantize_onnx(&args.options(), &Bar::new(args.run.quiet))?;
    tell(&summary, &args.run, args.strict)
}

/// `quantize caffe`
pub(crate) fn caffe(args: &CaffeArgs) -> Result<ExitCode, Failure> {
    if let Some(CaffeCommand::Emulate(args)) = &args.command {
        return emulate(args);
    }
    let args = &args.quantize;
    let job = args.job().map_err(Failure::Usage)?;
    args.notices().filter(|_| !args.run.quiet).into_iter().for_each(note);
    let bar = Bar::new(args.run.quiet);
    let summary = match job {
        CaffeJob::File(options) => quantize_caffe(&options, &bar)?,
        CaffeJob::Onnx(files, options) => caffe_to_onnx(&files, &options, &bar)?,
    };
    tell(&summary, &args.run, args.strict)
}

/// `quantize caffe emulate`
fn emulate(args: &EmulateArgs) -> Result<ExitCode, Failure> {
    let options = args.options().map_err(Failure::Usage)?;
    let report = emulate_caffe(&options, &Bar::new(args.run.quiet))?;
    if args.is_json() {
        result(&emulation::json(&report).to_string())?;
    } else {
        result(&emulation::text(&report, args.run.verbose))?;
    }
    if !args.run.quiet {
        report.warnings.iter().for_each(|w| note(&format!("warning: {w}")));
    }
    Ok(ExitCode::SUCCESS)
}

/// Says what was done, and the written paths.
pub(crate) fn tell(summary: &Summary, run: &RunArgs, strict: bool) -> Result<ExitCode, Failure> {
    if !run.quiet {
        note(&report::text(summary, run.verbose));
    }
    match run.output_format {
        OutputFormat::Json => result(&report::json(summary).to_string())?,
        OutputFormat::Text => summary.written.iter().try_for_each(|path| result(&path.display().to_string()))?,
    }
    let broken = strict && !summary.warnings.is_empty();
    if broken && run.quiet {
        summary.warnings.iter().for_each(|w| note(&format!("warning: {w}")));
    }
    let missed = summary.target.as_ref().is_some_and(|target| !target.met);
    Ok(if broken || missed { ExitCode::from(CONDITION_BROKEN) } else { ExitCode::SUCCESS })
}

/// `quantize eval`
pub(crate) fn eval(args: &EvalArgs) -> Result<ExitCode, Failure> {
    let options = EvaluateOptions {
        model: ModelFiles::Onnx(args.model.clone()),
        data: DataOptions {
            paths: args.data.clone(),
            sampling: Default::default(),
            preparation: PreparationOptions::Pillow(args.preprocess.options()),
        },
        labels: args.labels.clone(),
        threads: args.run.threads,
    };
    tell_accuracy(&options, &args.run)
}

/// Evaluates a model of any format and says how often it was right.
pub(crate) fn tell_accuracy(options: &EvaluateOptions, run: &RunArgs) -> Result<ExitCode, Failure> {
    let evaluation = evaluate(options, &Bar::new(run.quiet))?;
    if !run.quiet {
        evaluation.warnings.iter().for_each(|w| note(&format!("warning: {w}")));
    }
    match run.output_format {
        OutputFormat::Text => result(&report::evaluation(&evaluation))?,
        OutputFormat::Json => {
            let counts = json!({"images": evaluation.images, "top1": evaluation.top1, "top5": evaluation.top5});
            result(&counts.to_string())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
