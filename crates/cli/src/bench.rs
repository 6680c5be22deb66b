//! `quantize bench`, and its report as text and as JSON.

use crate::args::OutputFormat;
use crate::args::bench::BenchArgs;
use crate::terminal::{Bar, Failure, result};
use quantize_pipeline::{BenchReport, LayerTime, Work, bench};
use serde_json::{Value, json};
use std::fmt::Write;
use std::process::ExitCode;

/// Measures and says what was found.
pub(crate) fn run(args: &BenchArgs) -> Result<ExitCode, Failure> {
    let options = args.options().map_err(Failure::Usage)?;
    let report = bench(&options, &Bar::new(args.quiet))?;
    match args.output_format {
        OutputFormat::Text => result(&text(&report))?,
        OutputFormat::Json => result(&json(&report).to_string())?,
    }
    Ok(ExitCode::SUCCESS)
}

/// For people.
fn text(report: &BenchReport) -> String {
    let (threads, unit) = (report.threads, unit(report.work));
    let mut out = format!(
        "{}, input {}, {threads} thread{}, instruction set {}; the shortest of {} runs\n",
        name(report.work),
        shapes(report),
        if threads == 1 { "" } else { "s" },
        report.peak.isa,
        report.rounds,
    );
    let _ = writeln!(
        out,
        "{:.2} images/s; {:.3} ms of processor time for an image",
        report.images_per_second(),
        1e3 * report.cpu_seconds()
    );
    let _ = writeln!(
        out,
        "{} for an image: {:.1} G{unit}/s of a core, {:.1} % of its measured peak of {:.1}",
        quantity(report.operations as f64, unit),
        giga(report.operations_per_second()),
        100.0 * report.share_of_peak(),
        giga(report.peak.operations_per_second),
    );
    if !report.layers.is_empty() {
        let _ = writeln!(out, "{:>10} {:>6} {:>8}  operator, node, kernel", "ms", "% time", format!("G{unit}/s"));
    }
    let total: f64 = report.layers.iter().map(|layer| layer.seconds).sum();
    for layer in &report.layers {
        let speed = speed(layer).map_or_else(|| "-".to_owned(), |speed| format!("{:.1}", giga(speed)));
        let (time, share) = (1e3 * layer.seconds, 100.0 * layer.seconds / total);
        let _ = writeln!(out, "{time:>10.3} {share:>6.1} {speed:>8}  {} `{}`, {}", layer.op, layer.label, layer.kernel);
    }
    out.truncate(out.trim_end().len());
    out
}

/// The same as one JSON object.
fn json(report: &BenchReport) -> Value {
    let layer = |l: &LayerTime| {
        json!({
            "node": l.label, "op": l.op, "kernel": l.kernel, "seconds": l.seconds, "operations": l.operations,
            "operations_per_second": speed(l),
        })
    };
    json!({
        "arithmetic": name(report.work),
        "inputs": report.inputs,
        "batch": report.batch,
        "threads": report.threads,
        "rounds": report.rounds,
        "isa": report.peak.isa,
        "images_per_second": report.images_per_second(),
        "cpu_seconds": report.cpu_seconds(),
        "operations": report.operations,
        "operations_per_second": report.operations_per_second(),
        "peak_operations_per_second": report.peak.operations_per_second,
        "share_of_peak": report.share_of_peak(),
        "layers": report.layers.iter().map(layer).collect::<Vec<_>>(),
    })
}

fn name(work: Work) -> &'static str {
    match work {
        Work::Fp32 => "fp32",
        Work::Calibration => "calibration",
        Work::Int8 => "int8",
    }
}

fn unit(work: Work) -> &'static str {
    match work {
        Work::Fp32 | Work::Calibration => "FLOP",
        Work::Int8 => "OP",
    }
}

fn shapes(report: &BenchReport) -> String {
    report.inputs.iter().map(|shape| format!("{shape:?}")).collect::<Vec<_>>().join(", ")
}

/// Operations a second, where there are any.
fn speed(layer: &LayerTime) -> Option<f64> {
    (layer.operations > 0 && layer.seconds > 0.0).then(|| layer.operations as f64 / layer.seconds)
}

/// A number of things with three digits behind the point, in units, thousands, millions or thousands of millions.
fn quantity(number: f64, unit: &str) -> String {
    let (factor, prefix) = match number {
        ..1e3 => (1.0, ""),
        ..1e6 => (1e3, "k"),
        ..1e9 => (1e6, "M"),
        _ => (1e9, "G"),
    };
    format!("{:.3} {prefix}{unit}", number / factor)
}

fn giga(number: f64) -> f64 {
    number / 1e9
}
