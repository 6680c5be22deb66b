//! Lite0 in onnxruntime after quantization by several recipes and in every form: accuracy, size, integer kernels.

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

/// How far the two forms of the default recipe may be apart, in dB.
const MOST_DB_APART: f64 = 0.1;

/// A recipe: name, options besides the common ones, what may run in float.
struct Row {
    name: &'static str,
    options: &'static [&'static str],
    float: Float,
}

/// What of a row's model onnxruntime runs in float.
enum Float {
    /// Nothing.
    Nothing,
    /// These convolutions.
    Convs(&'static [&'static str]),
    /// So much that at least this share of the multiply-accumulates is left for integers.
    Beside(f64),
}

const fn row(name: &'static str, options: &'static [&'static str], float: Float) -> Row {
    Row { name, options, float }
}

/// The first row is the one with required figures, the second holds the same decisions in the other form.
///
/// What runs in float with signed pairs was found by looking: onnxruntime turns a signed pair with one reader into an
/// unsigned one and has no kernels for a mixture of both, so that additions and what touches them stay in float.
const ROWS: &[Row] = &[
    row("per-channel minmax", &[], Float::Nothing),
    row("qoperator", &["--format", "qoperator"], Float::Nothing),
    row("per-tensor", &["--weights", "per-tensor"], Float::Nothing),
    row("percentile", &["--range", "percentile"], Float::Nothing),
    row("mse", &["--range", "mse"], Float::Nothing),
    row("rounded outputs", &["--quantize-outputs"], Float::Nothing),
    row("u8 symmetric", &["--symmetric-activations"], Float::Nothing),
    row("s8", &["--activations", "s8"], Float::Beside(0.6)),
    row("s8 symmetric", &["--activations", "s8", "--symmetric-activations"], Float::Beside(0.6)),
    row("s8 qoperator", &["--activations", "s8", "--format", "qoperator"], Float::Nothing),
    row(
        "s8 symmetric qoperator",
        &["--activations", "s8", "--symmetric-activations", "--format", "qoperator"],
        Float::Nothing,
    ),
    row("u16", &["--activations", "u16"], Float::Beside(0.0)),
    row("s16", &["--activations", "s16"], Float::Beside(0.0)),
    row(
        "skip",
        &["--skip", "stem_conv", "--skip", "block15_*_conv"],
        Float::Convs(&["block15_dw_conv", "block15_expand_conv", "block15_project_conv", "stem_conv"]),
    ),
];

/// One row of figures for each recipe.
pub(super) fn check(context: &Context, report: &mut Report) -> Result<()> {
    let Some(shared) = context.shared("lite0", report) else {
        return Ok(());
    };
    let lite0 = Lite0::prepare(context, shared)?;
    let mut default = None;
    for row in ROWS {
        match judge(context, &lite0, row) {
            Err(e) => report.record(format!("lite0 {}", row.name), Verdict::Failed(e.to_string())),
            Ok(judged) => {
                let unmet = judged.unmet(row, default);
                default = default.or(Some(judged.judgement.sqnr));
                report.record(format!("lite0 {}", row.name), Verdict::of(judged.figures(lite0.top1), &unmet));
            }
        }
    }
    Ok(())
}

/// A row's model in onnxruntime.
struct Judged {
    judgement: Judgement,
    structure: Structure,
    bytes: u64,
}

fn judge(context: &Context, lite0: &Lite0, row: &Row) -> Result<Judged> {
    let folder = context.folder("lite0")?;
    let output = folder.join(format!("{}.onnx", row.name.replace(' ', "-")));
    workspace::output(lite0.quantize(context, &lite0.calib, &output).args(row.options))?;
    let judgement = lite0.judge(context, &output, &output.with_extension("npy"))?;
    Ok(Judged { judgement, structure: Structure::of(context, &output)?, bytes: size(&output)? })
}

impl Judged {
    fn figures(&self, top1: f64) -> String {
        format!(
            "{:.2} dB, agreement {:.2} %, top-1 {:.2} % (fp32 {top1:.2} %), {:.1} % of multiply-accumulates on integers, \
             {} bytes; {}",
            self.judgement.sqnr,
            self.judgement.agreement,
            self.judgement.top1,
            100.0 * self.structure.integer_share,
            self.bytes,
            self.structure.describe()
        )
    }

    /// What the row should reach and does not; `default` is the ratio of the first row.
    fn unmet(&self, row: &Row, default: Option<f64>) -> Vec<String> {
        let mut unmet = float_ops(&self.structure, &row.float);
        match default {
            None => unmet.extend(missed(&self.judgement, self.bytes)),
            Some(first) if row.name == "qoperator" && (self.judgement.sqnr - first).abs() > MOST_DB_APART => {
                unmet.push(format!("more than {MOST_DB_APART} dB from the {first:.2} dB of pairs"));
            }
            Some(_) => {}
        }
        unmet
    }
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

/// What runs in float though it should not, and the convolutions that should and do not.
fn float_ops(structure: &Structure, expected: &Float) -> Vec<String> {
    match expected {
        Float::Nothing => {
            let in_float = FLOAT_OPS.iter().filter(|op| structure.count(op) > 0);
            in_float.map(|op| format!("{} {op} run in float", structure.count(op))).collect()
        }
        Float::Convs(names) if structure.float_convs == *names => Vec::new(),
        Float::Convs(names) => vec![format!("run in float: {:?} instead of {names:?}", structure.float_convs)],
        Float::Beside(share) if structure.integer_share >= *share => Vec::new(),
        Float::Beside(share) => vec![format!("less than {} % on integers", 100.0 * share)],
    }
}

fn size(file: &Path) -> Result<u64> {
    Ok(fs::metadata(file).map_err(at(file))?.len())
}
