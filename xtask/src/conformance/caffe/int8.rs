//! open_nsfw as an int8 ONNX model in onnxruntime: accuracy and integer kernels.

use serde::Deserialize;

use super::open_nsfw::{FEW, MANY, OpenNsfw};
use crate::conformance::context::Context;
use crate::conformance::files::Choice;
use crate::conformance::report::{Report, Verdict};
use crate::conformance::structure::Structure;
use crate::error::Result;
use crate::workspace;

/// The least ratio of signal to quantization noise of the logits.
const LEAST_SQNR_DB: f64 = 25.0;

/// What `judge.py` prints.
#[derive(Deserialize)]
struct Judgement {
    sqnr_db: f64,
    agreeing: usize,
    images: usize,
}

/// With few and with more calibration photos.
pub(super) fn check(context: &Context, report: &mut Report) -> Result<()> {
    let Some(shared) = context.shared("int8", report) else {
        return Ok(());
    };
    let open_nsfw = OpenNsfw::find(shared)?;
    for choice in [FEW, MANY] {
        let verdict = judge(context, &open_nsfw, choice).unwrap_or_else(|error| Verdict::Failed(error.to_string()));
        report.record(format!("int8 open_nsfw {} photos", choice.count), verdict);
    }
    Ok(())
}

fn judge(context: &Context, open_nsfw: &OpenNsfw, choice: Choice) -> Result<Verdict> {
    let folder = context.folder("int8")?;
    let [fp32, int8] = ["fp32.onnx".into(), format!("int8-{}.onnx", choice.count)].map(|name| folder.join(name));
    open_nsfw.network.export(context, &fp32)?;
    let mut command = open_nsfw.network.quantize(context);
    command.args(["--emit", "onnx", "--quiet", "-o"]).arg(&int8);
    workspace::output(command.arg("--calib").arg(open_nsfw.calibration(context, choice)?))?;

    let mut script = context.script("caffe/judge.py");
    script.arg(&int8).arg("--fp32").arg(&fp32).arg("--images").arg(open_nsfw.test(context)?);
    let judgement: Judgement = workspace::json(&mut script)?;
    let structure = Structure::of(context, &int8)?;
    let unmet: Vec<String> = [
        (judgement.sqnr_db < LEAST_SQNR_DB).then(|| format!("less than {LEAST_SQNR_DB} dB")),
        (!structure.float_convs.is_empty()).then(|| format!("run in float: {:?}", structure.float_convs)),
    ]
    .into_iter()
    .flatten()
    .collect();
    let Judgement { sqnr_db, agreeing, images } = judgement;
    let figures = format!("{sqnr_db:.2} dB, agreement {agreeing} of {images}; {}", structure.describe());
    Ok(Verdict::of(figures, &unmet))
}
