//! The example of `quantize demo` as a graph: the right answers that it gives in TensorFlow, in fp32 and on codes, beside
//! those that we count.

use std::path::Path;

use serde::Deserialize;

use super::graph_run::{GraphRun, Request};
use crate::conformance::context::Context;
use crate::conformance::report::{Report, Verdict};
use crate::error::Result;
use crate::workspace;

/// The graphs, and how many pictures our count may be off: fp32 is the same up to rounding, codes are the same.
const GRAPHS: [(&str, usize); 2] = [("digits.pb", 1), ("digits.int8.pb", 0)];

/// What `prepare_digits.py` prints.
#[derive(Deserialize)]
struct Prepared {
    images: usize,
}

/// What `quantize tf eval` prints.
#[derive(Deserialize)]
struct Evaluation {
    top1: usize,
}

/// Runs the demo and counts the right answers of its graphs in TensorFlow.
pub(super) fn check(context: &Context, report: &mut Report) -> Result<()> {
    let folder = context.folder("tensorflow-demo")?;
    workspace::output(context.quantize().args(["demo", "-q", "-o"]).arg(&folder))?;
    let mut script = context.script("tensorflow/prepare_digits.py");
    let prepared: Prepared = workspace::json(script.arg(&folder).arg("--out").arg(&folder))?;
    let (data, labels) = (folder.join("x.npy"), folder.join("labels.npy"));
    let request =
        Request { input: "input", output: "logits", data: &data, batch: 1, limit: None, labels: Some(&labels) };
    for (name, tolerance) in GRAPHS {
        let graph = folder.join(name);
        let run = GraphRun::of(context, &graph, &request, &graph.with_extension("npy"), None)?;
        let theirs = (run.top1.unwrap_or(0.0) / 100.0 * prepared.images as f64).round() as usize;
        let ours = counted(context, &folder, &graph)?;
        let is_near = ours.abs_diff(theirs) <= tolerance;
        let unmet = if is_near { Vec::new() } else { vec![format!("more than {tolerance} pictures apart")] };
        let (codes, reals) = run.convolutions();
        let figures = format!(
            "{ours} right, TensorFlow {theirs} of {}; convolutions: {codes} on codes, {reals} on reals",
            prepared.images
        );
        report.record(format!("demo {name}"), Verdict::of(figures, &unmet));
    }
    Ok(())
}

/// The right answers of a graph by our own count.
fn counted(context: &Context, folder: &Path, graph: &Path) -> Result<usize> {
    let mut command = context.quantize();
    command.args(["tf", "eval"]).arg(graph).args(["--outputs", "logits", "--output-format", "json", "-q"]);
    command.args(["--channels", "gray", "--scale", "0.003921569", "--data"]).arg(folder.join("val"));
    let found: Evaluation = workspace::json(command.arg("--labels").arg(folder.join("labels.csv")))?;
    Ok(found.top1)
}
