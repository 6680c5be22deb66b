//! Lite0 as NNCF quantizes it, with its full bias correction, on the same photos.

use super::recipes::measured;
use crate::conformance::context::Context;
use crate::conformance::onnx::lite0::Lite0;
use crate::conformance::report::{Report, Verdict};
use crate::conformance::venv::Venv;
use crate::error::Result;
use crate::workspace;
use serde::Deserialize;

/// The packages of NNCF's own virtual environment, one a line.
const REQUIREMENTS: &str = include_str!("../../../conformance/accuracy/requirements.txt");

/// What `quantize_nncf.py` prints.
#[derive(Deserialize)]
struct Made {
    version: String,
    seconds: f64,
}

/// One row of figures; skipped in plain sight where NNCF cannot be installed.
pub(super) fn check(context: &Context, report: &mut Report) -> Result<()> {
    let Some(shared) = context.shared("nncf", report) else {
        return Ok(());
    };
    let venv = match Venv::prepare(&context.cache("venv-nncf"), REQUIREMENTS) {
        Ok(venv) => venv,
        Err(error) => {
            report.record("nncf", Verdict::Skipped(format!("NNCF could not be installed: {error}")));
            return Ok(());
        }
    };
    let lite0 = Lite0::prepare(context, shared)?;
    let output = context.folder("nncf")?.join("lite0.onnx");
    let mut script = venv.script("accuracy/quantize_nncf.py");
    script.arg(&lite0.model).arg("--calib").arg(&lite0.calib).arg("--output").arg(&output);
    let made: Made = workspace::json(&mut script)?;
    let (figures, _) = measured(context, &lite0, &output)?;
    report.record("nncf", Verdict::Passed(format!("{figures}; NNCF {}, {:.0} s", made.version, made.seconds)));
    Ok(())
}
