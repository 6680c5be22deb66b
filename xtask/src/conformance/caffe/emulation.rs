//! open_nsfw in the integer arithmetic of the xfDNN runtime: accuracy of the logits for each recipe.

use std::path::Path;

use serde::Deserialize;

use super::open_nsfw::{FEW, MANY, OpenNsfw};
use crate::conformance::context::Context;
use crate::conformance::files::Choice;
use crate::conformance::report::{Report, Verdict};
use crate::error::Result;
use crate::workspace;

/// A recipe, its calibration photos and the least ratio of signal to noise of the logits.
struct Row {
    name: &'static str,
    options: &'static [&'static str],
    photos: Choice,
    least_db: f64,
}

const ROWS: &[Row] = &[
    Row { name: "default", options: &[], photos: FEW, least_db: 26.0 },
    Row { name: "default", options: &[], photos: MANY, least_db: 26.0 },
    Row { name: "minmax", options: &["--range", "minmax"], photos: FEW, least_db: 24.0 },
    Row { name: "mse", options: &["--range", "mse"], photos: FEW, least_db: 24.0 },
    Row { name: "percentile", options: &["--range", "percentile"], photos: FEW, least_db: 24.0 },
    // Thresholds of the smallest divergence jump with the last bits of few values: kernels that sum in another order, or
    // round products, reach 22.5, 23.2 and 24.0 dB.
    Row { name: "kl", options: &["--range", "kl"], photos: FEW, least_db: 22.0 },
];

/// The part of the report of `quantize caffe emulate` that is read here.
#[derive(Deserialize)]
struct Emulation {
    samples: usize,
    output: Output,
    layers: Vec<Layer>,
}

/// The logits.
#[derive(Deserialize)]
struct Output {
    name: String,
    sqnr_db: f64,
    agreeing: usize,
}

/// A layer in integers.
#[derive(Deserialize)]
struct Layer {
    name: String,
    sqnr_db: f64,
    overflows: u64,
}

/// Quantizes and emulates by every recipe.
pub(super) fn check(context: &Context, report: &mut Report) -> Result<()> {
    let Some(shared) = context.shared("emulation", report) else {
        return Ok(());
    };
    let open_nsfw = OpenNsfw::find(shared)?;
    for row in ROWS {
        let verdict = judge(context, &open_nsfw, row).unwrap_or_else(|error| Verdict::Failed(error.to_string()));
        report.record(format!("emulation {} {} photos", row.name, row.photos.count), verdict);
    }
    Ok(())
}

fn judge(context: &Context, open_nsfw: &OpenNsfw, row: &Row) -> Result<Verdict> {
    let file = context.folder("emulation")?.join(format!("{}-{}.json", row.name, row.photos.count));
    let mut command = open_nsfw.network.quantize(context);
    command.args(row.options).args(["--quiet", "-o"]).arg(&file);
    workspace::output(command.arg("--calib").arg(open_nsfw.calibration(context, row.photos)?))?;
    let emulation = emulate(context, open_nsfw, &file)?;

    let Output { name, sqnr_db, agreeing } = &emulation.output;
    let overflows: u64 = emulation.layers.iter().map(|layer| layer.overflows).sum();
    let worst = emulation.layers.iter().min_by(|a, b| a.sqnr_db.total_cmp(&b.sqnr_db));
    let worst = worst.map_or_else(String::new, |layer| format!("; lowest {} {:.1} dB", layer.name, layer.sqnr_db));
    let figures = format!(
        "{name} {sqnr_db:.2} dB, agreement {agreeing} of {}, {overflows} overflows in {} layers{worst}",
        emulation.samples,
        emulation.layers.len(),
    );
    let unmet: Vec<String> = [
        (*sqnr_db < row.least_db).then(|| format!("less than {} dB", row.least_db)),
        emulation.layers.is_empty().then(|| "no layer was emulated".to_owned()),
    ]
    .into_iter()
    .flatten()
    .collect();
    Ok(Verdict::of(figures, &unmet))
}

/// Runs the test photos through the emulation of a quantization file.
fn emulate(context: &Context, open_nsfw: &OpenNsfw, file: &Path) -> Result<Emulation> {
    let mut command = context.quantize();
    command.args(["caffe", "emulate"]).arg(&open_nsfw.network.deploy).arg(&open_nsfw.network.weights);
    command.arg("--quantcfg").arg(file).arg("--data").arg(open_nsfw.test(context)?);
    workspace::json(command.args(["--quiet", "--output-format", "json"]))
}
