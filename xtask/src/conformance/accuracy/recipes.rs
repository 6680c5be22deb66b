//! Lite0 by each recipe, beside what onnxruntime's own tool makes of the same photos.

use std::path::{Path, PathBuf};

use crate::conformance::context::Context;
use crate::conformance::onnx::lite0::{Lite0, quantize_by};
use crate::conformance::report::{Report, Verdict};
use crate::conformance::structure::Structure;
use crate::error::Result;
use crate::workspace;

/// A recipe and what it has to reach.
struct Row {
    name: &'static str,
    options: &'static [&'static str],
    /// Ratio of signal to noise of the logits, in dB.
    sqnr: f64,
    /// Percent of photos with the fp32 model's class.
    agreement: f64,
    /// Share of the multiply-accumulates on integers, 0 to 1.
    integers: f64,
}

const fn row(name: &'static str, options: &'static [&'static str], [sqnr, agreement, integers]: [f64; 3]) -> Row {
    Row { name, options, sqnr, agreement, integers }
}

const ROWS: &[Row] = &[
    row("fast", &["--preset", "fast"], [23.5, 98.5, 1.0]),
    row("balanced", &[], [26.0, 98.75, 1.0]),
    row("best", &["--preset", "best"], [26.4, 98.75, 1.0]),
    row("best to 27 dB", &["--preset", "best", "--target-sqnr", "27.3"], [27.0, 99.0, 0.9]),
    row("balanced to 28 dB", &["--target-sqnr", "28"], [28.0, 99.0, 0.8]),
    // What has 16 bits is not on integers in this runtime.
    row("balanced to 28 dB with 16 bits", &["--target-sqnr", "28", "--fallback", "16-bit"], [28.0, 99.0, 0.6]),
    row("balanced, per-tensor", &["--weights", "per-tensor"], [17.5, 96.5, 1.0]),
    row("balanced, generic x86", &["--isa", "generic-x86"], [22.3, 98.5, 1.0]),
];

/// Calibrators of onnxruntime's own tool.
const PEERS: &[&str] = &["MinMax", "Percentile"];

/// One row of figures for each recipe and each calibrator.
pub(super) fn check(context: &Context, report: &mut Report) -> Result<()> {
    let Some(shared) = context.shared("recipes", report) else {
        return Ok(());
    };
    let lite0 = Lite0::prepare(context, shared)?;
    for method in PEERS {
        let verdict = match theirs(context, &lite0, method) {
            Ok(figures) => Verdict::Passed(figures),
            Err(e) => Verdict::Failed(e.to_string()),
        };
        report.record(format!("onnxruntime {method}"), verdict);
    }
    for row in ROWS {
        let verdict = ours(context, &lite0, row).unwrap_or_else(|e| Verdict::Failed(e.to_string()));
        report.record(format!("recipe {}", row.name), verdict);
    }
    Ok(())
}

fn output(context: &Context, name: &str) -> Result<PathBuf> {
    Ok(context.folder("recipes")?.join(format!("{}.onnx", name.replace([' ', ','], "-"))))
}

fn theirs(context: &Context, lite0: &Lite0, method: &str) -> Result<String> {
    let output = output(context, method)?;
    let mut script = context.script("bench/quantize_static.py");
    script.arg(&lite0.model).arg("--calib").arg(&lite0.calib).args(["--method", method]);
    workspace::output(script.arg("--output").arg(&output))?;
    Ok(measured(context, lite0, &output)?.0)
}

fn ours(context: &Context, lite0: &Lite0, row: &Row) -> Result<Verdict> {
    let output = output(context, row.name)?;
    workspace::output(quantize_by(context, &lite0.model, &lite0.calib, &output).args(row.options))?;
    let (figures, [sqnr, agreement, integers]) = measured(context, lite0, &output)?;
    let limits = [
        (sqnr < row.sqnr, format!("less than {} dB", row.sqnr)),
        (agreement < row.agreement, format!("agreement under {} %", row.agreement)),
        (integers < row.integers, format!("less than {} % on integers", 100.0 * row.integers)),
    ];
    let unmet: Vec<String> = limits.into_iter().filter_map(|(missed, what)| missed.then_some(what)).collect();
    Ok(Verdict::of(figures, &unmet))
}

/// Figures of a model in onnxruntime, in words and as ratio, agreement and share.
pub(super) fn measured(context: &Context, lite0: &Lite0, model: &Path) -> Result<(String, [f64; 3])> {
    let judged = lite0.judge(context, model, &model.with_extension("npy"))?;
    let share = Structure::of(context, model)?.integer_share;
    let figures = format!(
        "{:.2} dB, agreement {:.2} %, top-1 {:.2} % (fp32 {:.2} %), {:.1} % of multiply-accumulates on integers",
        judged.sqnr,
        judged.agreement,
        judged.top1,
        lite0.top1,
        100.0 * share
    );
    Ok((figures, [judged.sqnr, judged.agreement, share]))
}
