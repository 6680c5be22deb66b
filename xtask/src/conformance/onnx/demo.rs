//! The embedded example: it runs, its files work in onnxruntime, and its figures are those of onnxruntime.

use std::path::Path;

use serde::Deserialize;

use crate::conformance::context::Context;
use crate::conformance::report::{Report, Verdict};
use crate::conformance::structure::Structure;
use crate::error::Result;
use crate::workspace;

/// The two models, as the demo names them in its text and as files, with the number of pictures that our count of
/// right answers may be off: fp32 arithmetic is the same up to rounding, int8 kernels may differ by a step.
const MODELS: [(&str, &str, usize); 2] = [("fp32", "digits.onnx", 1), ("int8", "digits.int8.onnx", 4)];

/// What `classify.py` prints.
#[derive(Deserialize)]
struct Count {
    images: usize,
    right: usize,
}

/// Runs the demo and counts its right answers once more.
pub(super) fn check(context: &Context, report: &mut Report) -> Result<()> {
    let folder = context.folder("demo")?;
    let done = workspace::output(context.quantize().args(["demo", "-o"]).arg(&folder))?;
    let text = String::from_utf8_lossy(&done.stderr).into_owned();
    let mut unmet = Vec::new();
    let mut figures = Vec::new();
    for (name, file, tolerance) in MODELS {
        let theirs = classify(context, &folder, file)?;
        let ours = right_answers(&text, name);
        if ours.is_none_or(|ours| ours.abs_diff(theirs.right) > tolerance) {
            unmet.push(format!("{name} is more than {tolerance} pictures off"));
        }
        let ours = ours.map_or("?".to_owned(), |ours| ours.to_string());
        figures.push(format!("{name} {ours} right, onnxruntime {} of {}", theirs.right, theirs.images));
    }
    let structure = Structure::of(context, &folder.join("digits.int8.onnx"))?;
    if !structure.float_convs.is_empty() {
        unmet.push(format!("run in float: {:?}", structure.float_convs));
    }
    report.record("demo", Verdict::of(format!("{}; {}", figures.join(", "), structure.describe()), &unmet));
    Ok(())
}

/// Counts the right answers of a model in onnxruntime.
fn classify(context: &Context, folder: &Path, model: &str) -> Result<Count> {
    let mut script = context.script("onnx/classify.py");
    script.arg(folder.join(model)).arg("--images").arg(folder.join("val"));
    workspace::json(script.arg("--labels").arg(folder.join("labels.csv")))
}

/// The number of right answers in the line `<model>  top-1 97.50 % (390 of 400), …`.
fn right_answers(text: &str, model: &str) -> Option<usize> {
    let of_model = |line: &&str| line.trim_start().strip_prefix(model).is_some_and(|rest| rest.contains("top-1"));
    let line = text.lines().find(of_model)?;
    let (_, counts) = line.split_once('(')?;
    counts.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_found_in_the_text() {
        let text = "fp32: 2 Gemm (`a`): why\n  fp32  top-1 97.50 % (390 of 400), top-5 100.00 % (400 of 400)\n";
        assert_eq!(right_answers(text, "fp32"), Some(390));
        assert_eq!(right_answers(text, "int8"), None);
    }
}
