//! 4-bit weights of two encoders in onnxruntime: codes that keep each layer's result against the nearest ones, beside
//! what the runtime's own tool reaches.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::encoder::sentences;
use super::models::tiny_models;
use crate::conformance::context::Context;
use crate::conformance::files::stem;
use crate::conformance::report::{Report, Verdict};
use crate::error::Result;
use crate::workspace;

/// The test network with words in pictures.
const TINY: &str = "tiny_encoder";
const SEEN: usize = 64;
const UNSEEN: usize = 64;

/// What codes that keep the result have to gain over the nearest ones, in dB.
const LEAST_GAIN_DB: f64 = 2.0;

/// Sizes of groups.
const GROUPS: [&str; 2] = ["32", "128"];

/// What `four_bit.py judge` prints.
#[derive(Deserialize)]
struct Judgement {
    /// Mean signal to noise of the first output, by model.
    sqnr_db: BTreeMap<PathBuf, f64>,
    /// Products by blocks of codes, by model.
    products: BTreeMap<PathBuf, usize>,
}

/// A model with samples to calibrate with and others to judge by.
struct Subject {
    name: &'static str,
    model: PathBuf,
    seen: PathBuf,
    unseen: PathBuf,
    options: &'static [&'static str],
}

/// One row for each model and size of groups.
pub(super) fn check(context: &Context, report: &mut Report) -> Result<()> {
    for subject in subjects(context, report)? {
        for group in GROUPS {
            let verdict = judge(context, &subject, group);
            let name = format!("four-bit {} in groups of {group}", subject.name);
            report.record(name, verdict.unwrap_or_else(|error| Verdict::Failed(error.to_string())));
        }
    }
    Ok(())
}

fn subjects(context: &Context, report: &mut Report) -> Result<Vec<Subject>> {
    let folder = context.folder("four-bit")?;
    workspace::output(context.script("onnx/four_bit.py").arg("make").arg("--out").arg(&folder))?;
    let encoder = Subject {
        name: "encoder",
        model: folder.join("encoder.onnx"),
        seen: folder.join("seen"),
        unseen: folder.join("unseen"),
        options: &[],
    };
    let Some(model) = tiny_models()?.into_iter().find(|path| stem(path) == TINY) else {
        report.record("four-bit", Verdict::Failed(format!("there is no {TINY}")));
        return Ok(vec![encoder]);
    };
    let seen = sentences(context, &model, "four-bit-seen", SEEN, 3)?;
    let unseen = sentences(context, &model, "four-bit-unseen", UNSEEN, 4)?;
    Ok(vec![Subject { name: TINY, model, seen, unseen, options: &["--preprocess", "raw"] }, encoder])
}

fn judge(context: &Context, subject: &Subject, group: &str) -> Result<Verdict> {
    let folder = context.folder("four-bit")?;
    let path = |kind: &str| folder.join(format!("{}-{group}-{kind}.onnx", subject.name));
    let ours = [("result", path("result")), ("nearest", path("nearest"))];
    for (rounding, output) in &ours {
        let mut quantize = context.quantize();
        quantize.arg("onnx").arg(&subject.model).arg("--calib").arg(&subject.seen).arg("-o").arg(output);
        quantize.args(subject.options).args(["--weight-bits", "4", "--group-size", group, "--rounding", rounding]);
        workspace::output(&mut quantize)?;
    }
    let theirs = [("symmetric", path("symmetric")), ("asymmetric", path("asymmetric"))];
    for (kind, output) in &theirs {
        let mut script = context.script("onnx/four_bit.py");
        script.arg("theirs").arg(&subject.model).arg("--out").arg(output).args(["--group", group]);
        script.args((*kind == "asymmetric").then_some("--asymmetric"));
        workspace::output(&mut script)?;
    }
    let mut script = context.script("onnx/four_bit.py");
    script.arg("judge").arg(&subject.model).args(ours.iter().chain(&theirs).map(|(_, path)| path));
    let judgement: Judgement = workspace::json(script.arg("--data").arg(&subject.unseen))?;
    Ok(verdict(&judgement, [&ours[0].1, &ours[1].1], [&theirs[0].1, &theirs[1].1]))
}

fn verdict(judgement: &Judgement, ours: [&Path; 2], theirs: [&Path; 2]) -> Verdict {
    let db = |path: &Path| judgement.sqnr_db.get(path).copied().unwrap_or(f64::NAN);
    let products = judgement.products.get(ours[0]).copied().unwrap_or(0);
    let [result, nearest] = ours.map(db);
    let [symmetric, asymmetric] = theirs.map(db);
    let gain = result - nearest;
    let figures = format!(
        "{result:.2} dB, nearest codes {nearest:.2} dB ({gain:+.2}), onnxruntime's tool {symmetric:.2} dB, with zero \
         points {asymmetric:.2} dB; {products} products by 4-bit weights"
    );
    let mut unmet = Vec::new();
    // A ratio that is no number is no gain.
    if gain.is_nan() || gain < LEAST_GAIN_DB {
        unmet.push(format!("less than {LEAST_GAIN_DB} dB above the nearest codes"));
    }
    if products == 0 {
        unmet.push("no product by 4-bit weights".to_owned());
    }
    Verdict::of(figures, &unmet)
}
