//! An encoder of words with outlier channels, quantized and run by onnxruntime on sentences that calibration has not
//! seen.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::models::tiny_models;
use crate::conformance::context::Context;
use crate::conformance::files::stem;
use crate::conformance::report::{Report, Verdict};
use crate::conformance::structure::Structure;
use crate::error::Result;
use crate::workspace;

const MODEL: &str = "tiny_encoder";

/// Sentences that calibration sees, and others to judge by.
const SEEN: usize = 64;
const UNSEEN: usize = 256;

/// The least mean cosine of an output to that of the fp32 model.
const LEAST_COSINE: f64 = 0.995;

/// Kinds of model: the options that ask for them, and the least share of multiply-accumulates on integers.
///
/// On x86 onnxruntime makes a signed pair unsigned if it has one reader, and has no kernel for products of the signed
/// ones that are left, those with several readers; operators on codes are written for what they are.
const KINDS: &[(&str, &[&str], f64)] = &[
    ("qdq", &[], 1.0),
    ("qoperator", &["--format", "qoperator"], 1.0),
    ("s8", &["--activations", "s8"], 0.6),
    ("s8 symmetric", &["--activations", "s8", "--symmetric-activations"], 0.6),
    ("s8 qoperator", &["--activations", "s8", "--format", "qoperator"], 1.0),
];

/// What scaling input channels has to gain at every output, in dB; its outlier channels cost more.
const LEAST_GAIN_DB: f64 = 6.0;

/// What `encoder.py` prints.
#[derive(Deserialize)]
struct Judgement {
    /// For each output, the mean signal to noise.
    sqnr_db: BTreeMap<String, f64>,
    /// For each output, one cosine for each sentence.
    cosines: BTreeMap<String, Vec<f64>>,
}

/// One row for each kind of model.
pub(super) fn check(context: &Context, report: &mut Report) -> Result<()> {
    let Some(model) = tiny_models()?.into_iter().find(|path| stem(path) == MODEL) else {
        report.record("encoder", Verdict::Failed(format!("there is no {MODEL}")));
        return Ok(());
    };
    let seen = sentences(context, &model, "seen", SEEN, 1)?;
    let unseen = sentences(context, &model, "unseen", UNSEEN, 2)?;
    for kind in KINDS {
        let name = kind.0;
        let verdict = judge(context, &model, kind, (&seen, &unseen));
        report.record(format!("encoder {name}"), verdict.unwrap_or_else(|error| Verdict::Failed(error.to_string())));
    }
    let gain = scaling(context, &model, (&seen, &unseen));
    report.record("encoder scaled channels", gain.unwrap_or_else(|error| Verdict::Failed(error.to_string())));
    Ok(())
}

/// The default with and without scaled input channels.
fn scaling(context: &Context, model: &Path, (seen, unseen): (&Path, &Path)) -> Result<Verdict> {
    let ratios = |how: &str| -> Result<BTreeMap<String, f64>> {
        let output = quantized(context, model, how, &["--smooth-quant", how], seen)?;
        Ok(judgement(context, model, &output, unseen)?.sqnr_db)
    };
    let (without, with) = (ratios("none")?, ratios("measured")?);
    let (mut unmet, mut figures) = (Vec::new(), Vec::new());
    for (output, before) in &without {
        let after = with.get(output).copied().unwrap_or(f64::NAN);
        figures.push(format!("`{output}`: {before:.2} dB without, {after:.2} dB with"));
        if after.is_nan() || after < before + LEAST_GAIN_DB {
            unmet.push(format!("`{output}` gains less than {LEAST_GAIN_DB} dB"));
        }
    }
    Ok(Verdict::of(figures.join("; "), &unmet))
}

/// Random sentences, which are pictures to this network.
pub(super) fn sentences(context: &Context, model: &Path, name: &str, count: usize, seed: u64) -> Result<PathBuf> {
    let folder = context.folder("encoder")?.join(name);
    let mut script = context.script("onnx/random_images.py");
    script.arg(model).arg("--out").arg(&folder);
    workspace::output(script.args(["--count", &count.to_string(), "--seed", &seed.to_string()]))?;
    Ok(folder)
}

fn judge(
    context: &Context,
    model: &Path,
    (name, options, least_share): &(&str, &[&str], f64),
    (seen, unseen): (&Path, &Path),
) -> Result<Verdict> {
    let output = quantized(context, model, name, options, seen)?;
    let structure = Structure::of(context, &output)?;
    let judgement = judgement(context, model, &output, unseen)?;

    let mut unmet = Vec::new();
    let mut figures = format!("{:.1} % of multiply-accumulates on integers", 100.0 * structure.integer_share);
    for (output, cosines) in &judgement.cosines {
        let (mean, lowest) = (mean(cosines), cosines.iter().copied().fold(f64::INFINITY, f64::min));
        figures += &format!("; `{output}`: cosine {mean:.5}, lowest {lowest:.5}");
        if mean.is_nan() || mean < LEAST_COSINE {
            unmet.push(format!("cosine of `{output}` under {LEAST_COSINE}"));
        }
    }
    if judgement.cosines.values().map(Vec::len).ne([UNSEEN, UNSEEN]) {
        unmet.push("sentences are missing".to_owned());
    }
    if structure.integer_share < *least_share {
        unmet.push(format!("less than {:.0} % on integers", 100.0 * least_share));
    }
    Ok(Verdict::of(figures + "; " + &structure.describe(), &unmet))
}

fn quantized(context: &Context, model: &Path, name: &str, options: &[&str], seen: &Path) -> Result<PathBuf> {
    let output = context.folder("encoder")?.join(format!("{}.onnx", name.replace(' ', "-")));
    let mut quantize = context.quantize();
    quantize.arg("onnx").arg(model).arg("--calib").arg(seen).arg("-o").arg(&output).args(["--preprocess", "raw"]);
    workspace::output(quantize.args(options))?;
    Ok(output)
}

fn judgement(context: &Context, model: &Path, output: &Path, unseen: &Path) -> Result<Judgement> {
    let mut script = context.script("onnx/encoder.py");
    workspace::json(script.arg(model).arg(output).arg("--images").arg(unseen))
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}
