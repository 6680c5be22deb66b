//! Whole networks, quantized with random pictures: the files are valid, load, run, and keep in float what was said.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::models::{WheelModels, tiny_models};
use crate::conformance::context::Context;
use crate::conformance::files::stem;
use crate::conformance::report::{Report, Verdict};
use crate::conformance::structure::Structure;
use crate::error::Result;
use crate::workspace;

/// Networks that onnxruntime cannot load because of an operator of their own.
const NOT_LOADABLE: &[&str] = &["tiny_detector_custom"];

/// The part of the summary of `quantize onnx` that is read here.
#[derive(Deserialize)]
struct Summary {
    kept: Vec<Kept>,
}

/// Nodes that stay in float for one reason.
#[derive(Deserialize)]
struct Kept {
    nodes: Vec<String>,
}

impl Summary {
    fn names(&self, node: &String) -> bool {
        self.kept.iter().any(|kept| kept.nodes.contains(node))
    }
}

/// The networks of the onnx wheel and the small ones of the repository.
pub(super) fn check(context: &Context, report: &mut Report) -> Result<()> {
    let mut models = WheelModels::find(context)?.light;
    models.extend(tiny_models()?);
    for model in &models {
        let name = stem(model);
        let verdict = if NOT_LOADABLE.contains(&name.as_str()) {
            Verdict::Skipped("onnxruntime does not know one of its operators".into())
        } else {
            judge(context, model, &name).unwrap_or_else(|error| Verdict::Failed(error.to_string()))
        };
        report.record(format!("networks {name}"), verdict);
    }
    Ok(())
}

fn judge(context: &Context, model: &Path, name: &str) -> Result<Verdict> {
    let folder = context.folder("networks")?;
    let output = folder.join(format!("{name}.int8.onnx"));
    let summary = quantize(context, model, &random_images(context, model, name)?, &output)?;
    let structure = Structure::of(context, &output)?;
    let unexplained: Vec<&String> = structure.float_convs.iter().filter(|conv| !summary.names(conv)).collect();
    let unmet: Vec<String> = [
        (!structure.finite).then(|| "an output is not finite".to_owned()),
        (structure.quantized == 0).then(|| "nothing is quantized".to_owned()),
        (!unexplained.is_empty()).then(|| format!("run in float though the summary does not say so: {unexplained:?}")),
    ]
    .into_iter()
    .flatten()
    .collect();
    Ok(Verdict::of(structure.describe(), &unmet))
}

fn random_images(context: &Context, model: &Path, name: &str) -> Result<PathBuf> {
    let images = context.folder("networks")?.join(format!("{name}-images"));
    workspace::output(context.script("onnx/random_images.py").arg(model).arg("--out").arg(&images))?;
    Ok(images)
}

fn quantize(context: &Context, model: &Path, images: &Path, output: &Path) -> Result<Summary> {
    let mut command = context.quantize();
    command.arg("onnx").arg(model).arg("--calib").arg(images).arg("-o").arg(output);
    workspace::json(command.args(["--preprocess", "raw", "--output-format", "json"]))
}
