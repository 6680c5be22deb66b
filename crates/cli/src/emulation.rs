//! The report of an emulation as text and as JSON.

use crate::report::evaluation;
use quantize_pipeline::{EmulatedLayer, EmulationReport, Flavor};
use serde_json::{Value, json};
use std::fmt::Write;

/// Layers listed before the rest is counted.
const LAYERS: usize = 10;

/// What the emulated runtime loses, for people.
pub(crate) fn text(report: &EmulationReport, verbose: bool) -> String {
    let mut out = format!(
        "emulated xfDNN {} runtime against fp32 on {} samples, {}\n",
        generation(report.flavor),
        report.samples,
        report.preparation
    );
    for output in &report.outputs {
        let _ = write!(
            out,
            "output `{}`: {:.2} dB signal to noise, cosine {:.6}",
            output.name, output.sqnr_db, output.cosine
        );
        if let Some(agreeing) = output.agreeing {
            let _ = write!(out, ", same top-1 as fp32 on {agreeing} of {}", report.samples);
        }
        out.push('\n');
    }
    if let Some((fp32, int8)) = &report.labelled {
        let _ = write!(out, "fp32: {}\nint8: {}\n", evaluation(fp32), evaluation(int8));
    }
    let (shown, rest) = listed(&report.layers, verbose);
    if !shown.is_empty() {
        out.push_str(if verbose { "layers:\n" } else { "layers with the lowest signal-to-noise ratios:\n" });
    }
    for layer in shown {
        let _ = write!(out, "  {:6.1} dB  {} ({})", layer.sqnr_db, layer.name, layer.op);
        if layer.overflows > 0 {
            let _ = write!(out, ", {} sums beyond 24 bits", layer.overflows);
        }
        out.push('\n');
    }
    if rest > 0 {
        let _ = writeln!(out, "  and {rest} more (--verbose lists all)");
    }
    out.truncate(out.trim_end().len());
    out
}

/// All layers in order, or the worst ones, and how many are left out.
fn listed(layers: &[EmulatedLayer], verbose: bool) -> (Vec<&EmulatedLayer>, usize) {
    let mut shown: Vec<&EmulatedLayer> = layers.iter().collect();
    if !verbose {
        shown.sort_by(|a, b| a.sqnr_db.total_cmp(&b.sqnr_db));
        shown.truncate(LAYERS);
    }
    let rest = layers.len() - shown.len();
    (shown, rest)
}

fn generation(flavor: Flavor) -> &'static str {
    match flavor {
        Flavor::V2 => "v2",
        Flavor::V3 => "v3",
    }
}

/// The same as one JSON object; `output` is the first output.
pub(crate) fn json(report: &EmulationReport) -> Value {
    let finite = |db: f64| db.is_finite().then_some(db);
    let share = |agreeing: usize| agreeing as f64 / report.samples.max(1) as f64;
    let outputs: Vec<Value> = report
        .outputs
        .iter()
        .map(|o| {
            json!({
                "name": o.name, "sqnr_db": finite(o.sqnr_db), "cosine": o.cosine, "max_abs_error": o.max_abs_error,
                "agreement": o.agreeing.map(share), "agreeing": o.agreeing,
            })
        })
        .collect();
    let layer = |l: &EmulatedLayer| {
        let (db, cosine) = (finite(l.sqnr_db), l.cosine);
        json!({"name": l.name, "op": l.op, "sqnr_db": db, "cosine": cosine, "overflows": l.overflows})
    };
    let labelled = report.labelled.as_ref().map(|(fp32, int8)| {
        let counts = |e: &quantize_pipeline::Evaluation| json!({"images": e.images, "top1": e.top1, "top5": e.top5});
        json!({"fp32": counts(fp32), "int8": counts(int8)})
    });
    json!({
        "samples": report.samples,
        "preparation": report.preparation,
        "flavor": generation(report.flavor),
        "output": outputs.first(),
        "outputs": outputs,
        "layers": report.layers.iter().map(layer).collect::<Vec<_>>(),
        "accuracy": labelled,
        "warnings": report.warnings,
    })
}
