//! MobileNet v1 with its real weights, quantized at once: accuracy in TensorFlow, beside a graph of the original tools.

use std::path::{Path, PathBuf};

use super::graph_run::{GraphRun, Request};
use super::photos::Photos;
use crate::conformance::context::Context;
use crate::conformance::report::{Report, Verdict};
use crate::error::Result;
use crate::workspace;

/// The fp32 graph in the shared folder.
const FP32: &str = "models/tf/mobilenet_v1_1.0_224/frozen.pb";
/// What the original tools' way of quantizing makes of it, with weights rounded and symmetric ranges.
const ORIGINAL: &str = "golden/tf/mobilenet_v1/int8_final_fused_symmetric_rounded.pb";

const INPUT: &str = "input";
/// The logits.
const OUTPUT: &str = "MobilenetV1/Predictions/Reshape";

/// Least percentage of photos with the class of the fp32 graph.
const LEAST_AGREEMENT: f64 = 96.0;
/// Most percentage points of top-1 accuracy that may be lost.
const MOST_DROP: f64 = 1.0;

/// Ours by the default recipe, and the other graph, which has to load but reach nothing.
pub(super) fn check(context: &Context, report: &mut Report) -> Result<()> {
    let Some(shared) = context.shared("mobilenet", report) else {
        return Ok(());
    };
    let photos = Photos::prepare(context, shared)?;
    let judge = Judge { context, photos, folder: context.folder("mobilenet")? };
    let fp32 = judge.run(&shared.join(FP32), "fp32", None)?;
    let verdict = judge.ours(shared, &fp32).unwrap_or_else(|error| Verdict::Failed(error.to_string()));
    report.record("mobilenet", verdict);
    let original = judge.run(&shared.join(ORIGINAL), "original", Some(&judge.outputs("fp32")))?;
    report.record("mobilenet of the original tools", Verdict::Passed(figures(&original, &fp32)));
    Ok(())
}

struct Judge<'a> {
    context: &'a Context,
    photos: Photos,
    folder: PathBuf,
}

impl Judge<'_> {
    /// Where the outputs of the run `name` go.
    fn outputs(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.npy"))
    }

    fn run(&self, graph: &Path, name: &str, reference: Option<&Path>) -> Result<GraphRun> {
        let Photos { data, labels, .. } = &self.photos;
        let request = Request { input: INPUT, output: OUTPUT, data, batch: 1, limit: None, labels: Some(labels) };
        GraphRun::of(self.context, graph, &request, &self.outputs(name), reference)
    }

    fn ours(&self, shared: &Path, fp32: &GraphRun) -> Result<Verdict> {
        let int8 = self.folder.join("int8.pb");
        let mut command = self.context.quantize();
        command.arg("tf").arg(shared.join(FP32)).args(["--inputs", INPUT, "--outputs", OUTPUT, "--preprocess", "tf"]);
        command.arg("--calib").arg(shared.join("images/calib")).args(["--quiet", "-o"]).arg(&int8);
        workspace::output(&mut command)?;
        let ours = self.run(&int8, "int8", Some(&self.outputs("fp32")))?;

        let (_, reals) = ours.convolutions();
        let unmet: Vec<String> = [
            (ours.images != self.photos.count).then(|| format!("{} photos were run", ours.images)),
            (ours.distance().agreement < LEAST_AGREEMENT).then(|| format!("agreement under {LEAST_AGREEMENT} %")),
            (drop(&ours, fp32) > MOST_DROP).then(|| format!("more than {MOST_DROP} points of top-1 accuracy lost")),
            (reals > 0).then(|| format!("{reals} convolutions compute on reals")),
        ]
        .into_iter()
        .flatten()
        .collect();
        Ok(Verdict::of(figures(&ours, fp32), &unmet))
    }
}

/// Percentage points of top-1 accuracy that are lost; infinite if one was not measured.
fn drop(graph: &GraphRun, fp32: &GraphRun) -> f64 {
    fp32.top1.zip(graph.top1).map_or(f64::INFINITY, |(before, after)| before - after)
}

fn figures(graph: &GraphRun, fp32: &GraphRun) -> String {
    let distance = graph.distance();
    let [top1, before] = [graph, fp32].map(|run| run.top1.unwrap_or(f64::NAN));
    let (codes, reals) = graph.convolutions();
    format!(
        "top-1 {top1:.2} % (fp32 {before:.2} %), agreement {:.2} %, {:.2} dB, cosine {:.4} on {} photos; convolutions: \
         {codes} on codes, {reals} on reals",
        distance.agreement, distance.sqnr, distance.cosine, graph.images,
    )
}
