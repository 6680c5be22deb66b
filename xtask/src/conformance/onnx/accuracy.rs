//! Lite0 in onnxruntime after quantization by several recipes: accuracy, size, integer kernels.

use std::fs;
use std::path::Path;

use super::lite0::{Judgement, Lite0};
use crate::conformance::context::Context;
use crate::conformance::report::{Report, Verdict};
use crate::conformance::structure::Structure;
use crate::error::{Result, at};
use crate::workspace;

/// What the default row has to reach. Ranges that differ in the last bit let up to three pictures of 400 change sides
/// at the same ratio, so agreement is held to two less than the 97.5 % it had with the first kernels.
const LEAST_SQNR_DB: f64 = 19.6;
const LEAST_AGREEMENT: f64 = 97.0;
const MOST_BYTES: u64 = 5_100_000;

/// Operators that run in float.
const FLOAT_OPS: &[&str] = &["Conv", "FusedConv", "Add", "Gemm", "FusedGemm", "MatMul"];

/// A recipe: name, options besides the common ones, convolutions that stay in float.
struct Row {
    name: &'static str,
    options: &'static [&'static str],
    float_convs: &'static [&'static str],
}

/// The first row is the one with required figures.
const ROWS: &[Row] = &[
    Row { name: "per-channel minmax", options: &[], float_convs: &[] },
    Row { name: "per-tensor", options: &["--weights", "per-tensor"], float_convs: &[] },
    Row { name: "percentile", options: &["--range", "percentile"], float_convs: &[] },
    Row { name: "mse", options: &["--range", "mse"], float_convs: &[] },
    Row {
        name: "skip",
        options: &["--skip", "stem_conv", "--skip", "block15_*_conv"],
        float_convs: &["block15_dw_conv", "block15_expand_conv", "block15_project_conv", "stem_conv"],
    },
];

/// One row of figures for each recipe.
pub(super) fn check(context: &Context, report: &mut Report) -> Result<()> {
    let Some(shared) = context.shared("lite0", report) else {
        return Ok(());
    };
    let lite0 = Lite0::prepare(context, shared)?;
    for (number, row) in ROWS.iter().enumerate() {
        let verdict = judge(context, &lite0, row, number == 0).unwrap_or_else(|e| Verdict::Failed(e.to_string()));
        report.record(format!("lite0 {}", row.name), verdict);
    }
    Ok(())
}

fn judge(context: &Context, lite0: &Lite0, row: &Row, is_required: bool) -> Result<Verdict> {
    let folder = context.folder("lite0")?;
    let output = folder.join(format!("{}.onnx", row.name.replace(' ', "-")));
    workspace::output(lite0.quantize(context, &lite0.calib, &output).args(row.options))?;
    let judgement = lite0.judge(context, &output, &output.with_extension("npy"))?;
    let structure = Structure::of(context, &output)?;
    let bytes = size(&output)?;
    let mut unmet = float_ops(&structure, row.float_convs);
    if is_required {
        unmet.extend(missed(&judgement, bytes));
    }
    let figures = format!(
        "{:.2} dB, agreement {:.2} %, top-1 {:.2} % (fp32 {:.2} %), {bytes} bytes; {}",
        judgement.sqnr,
        judgement.agreement,
        judgement.top1,
        lite0.top1,
        structure.describe()
    );
    Ok(Verdict::of(figures, &unmet))
}

/// The figures that the row with requirements does not reach.
fn missed(judgement: &Judgement, bytes: u64) -> Vec<String> {
    let limits = [
        (judgement.sqnr < LEAST_SQNR_DB, format!("less than {LEAST_SQNR_DB} dB")),
        (judgement.agreement < LEAST_AGREEMENT, format!("agreement under {LEAST_AGREEMENT} %")),
        (bytes > MOST_BYTES, format!("more than {MOST_BYTES} bytes")),
    ];
    limits.into_iter().filter_map(|(is_missed, message)| is_missed.then_some(message)).collect()
}

/// The operators that run in float though they should not, and the convolutions that should and do not.
fn float_ops(structure: &Structure, expected: &[&str]) -> Vec<String> {
    if expected.is_empty() {
        let in_float = FLOAT_OPS.iter().filter(|op| structure.count(op) > 0);
        return in_float.map(|op| format!("{} {op} run in float", structure.count(op))).collect();
    }
    if structure.float_convs == expected {
        return Vec::new();
    }
    vec![format!("run in float: {:?} instead of {expected:?}", structure.float_convs)]
}

fn size(file: &Path) -> Result<u64> {
    Ok(fs::metadata(file).map_err(at(file))?.len())
}
