//! The same bytes for any number of threads and any order of the calibration files.

use super::lite0::Lite0;
use crate::conformance::context::Context;
use crate::conformance::files::{THREADS, differing, shuffled_copy};
use crate::conformance::report::{Report, Verdict};
use crate::error::Result;
use crate::workspace;

/// Quantizes Lite0 in each way and compares the files.
pub(super) fn check(context: &Context, report: &mut Report) -> Result<()> {
    let Some(shared) = context.shared("determinism", report) else {
        return Ok(());
    };
    let lite0 = Lite0::prepare(context, shared)?;
    let folder = context.folder("determinism")?;
    let mut outputs = Vec::new();
    for threads in THREADS {
        let output = folder.join(format!("threads-{threads}.onnx"));
        workspace::output(lite0.quantize(context, &lite0.calib, &output).args(["--threads", threads]))?;
        outputs.push(output);
    }
    let shuffled = shuffled_copy(&lite0.calib, &context.folder("shuffled")?)?;
    let output = folder.join("shuffled.onnx");
    workspace::output(&mut lite0.quantize(context, &shuffled, &output))?;
    outputs.push(output);

    let figures = format!("threads {} and files written in another order", THREADS.join(", "));
    report.record("determinism", Verdict::of(figures, &differing(&outputs)?));
    Ok(())
}
