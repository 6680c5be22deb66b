//! A plan that quantizes nothing writes the very same bytes, whatever the model contains.

use std::fs;
use std::path::Path;

use super::models::WheelModels;
use crate::conformance::context::Context;
use crate::conformance::files::stem;
use crate::conformance::report::{Report, Verdict};
use crate::error::{Result, at};
use crate::workspace;

/// `--skip '*'` on every model of the onnx wheel, without calibration data.
pub(super) fn check(context: &Context, report: &mut Report) -> Result<()> {
    let models = WheelModels::find(context)?.models;
    let folder = context.folder("identity")?;
    let mut unmet = Vec::new();
    for (number, model) in models.iter().enumerate() {
        let copy = folder.join(format!("{number}-{}.onnx", stem(model)));
        unmet.extend(difference(context, model, &copy)?.map(|what| format!("{}: {what}", model.display())));
    }
    let figures = format!("{} models, {} of them with identical bytes", models.len(), models.len() - unmet.len());
    report.record("identity", Verdict::of(figures, &unmet));
    Ok(())
}

/// What is wrong with the copy of one model.
fn difference(context: &Context, model: &Path, copy: &Path) -> Result<Option<String>> {
    let mut command = context.quantize();
    let done = workspace::any_output(command.arg("onnx").arg(model).args(["--skip", "*", "-o"]).arg(copy))?;
    if !done.status.success() {
        return Ok(Some(format!("{}{}", done.status, workspace::last_lines(&done.stderr))));
    }
    let same = fs::read(model).map_err(at(model))? == fs::read(copy).map_err(at(copy))?;
    Ok((!same).then(|| "the bytes differ".to_owned()))
}
