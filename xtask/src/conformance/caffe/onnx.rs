//! The networks as fp32 ONNX models: valid, and the same numbers in onnxruntime.

use super::networks::{self, Network, Runs};
use crate::conformance::compare::relative_difference;
use crate::conformance::context::Context;
use crate::conformance::report::{Report, Verdict};
use crate::error::Result;
use crate::workspace;

/// The largest difference, as a part of the largest output.
const TOLERANCE: f64 = 1e-5;

/// Every network of the shared data.
pub(super) fn check(context: &Context, report: &mut Report) -> Result<()> {
    let Some(shared) = context.shared("onnx", report) else {
        return Ok(());
    };
    for network in networks::find(shared)? {
        let verdict = judge(context, &network).unwrap_or_else(|error| Verdict::Failed(error.to_string()));
        report.record(format!("onnx {}", network.name), verdict);
    }
    Ok(())
}

fn judge(context: &Context, network: &Network) -> Result<Verdict> {
    let runs = run(context, network)?;
    let worst = network.difference(&runs, relative_difference)?;
    let figures = format!("{}, difference {worst:.1e} of the output's scale", runs.describe());
    let unmet = if worst <= TOLERANCE { Vec::new() } else { vec![format!("more than {TOLERANCE:.0e} apart")] };
    Ok(Verdict::of(figures, &unmet))
}

/// Exports a network and runs the model on the inputs that OpenCV had.
fn run(context: &Context, network: &Network) -> Result<Runs> {
    let folder = context.folder("onnx")?;
    let model = folder.join(format!("{}.onnx", network.name));
    network.export(context, &model)?;
    let inputs = network.reference(context)?.samples.into_iter().map(|sample| sample.input);
    let mut script = context.script("caffe/run_onnx.py");
    workspace::json(script.arg(&model).arg("--inputs").args(inputs).arg("--out").arg(folder.join(&network.name)))
}
