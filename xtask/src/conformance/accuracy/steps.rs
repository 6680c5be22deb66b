//! What each step of the recipe is worth on networks of other kinds: with and without it, in onnxruntime.
//!
//! The networks are those of the onnx package's test data, which have no weights of their own and get random ones that
//! behave like trained ones, and open_nsfw out of the shared data, a residual network with an activation behind each sum.

use std::path::{Path, PathBuf};

use quantize_pipeline::{
    BiasCorrection, Channels, DataOptions, Interpolation, PreparationOptions, PreprocessOptions, Preset,
    QuantizeOptions, RecipeOptions, Sampling, Silent, Summary, WeightRounding, quantize_onnx,
};
use serde::Deserialize;

use crate::conformance::context::Context;
use crate::conformance::files::stem;
use crate::conformance::onnx::lite0::{Judgement, preprocessing};
use crate::conformance::onnx::models::WheelModels;
use crate::conformance::report::{Report, Verdict};
use crate::error::{Error, Result};
use crate::workspace;

/// Photos that figures are of.
const PHOTOS: usize = 100;

/// How much better a network may be without one of the steps, or without all of them, in dB: held-back photos are few.
/// What the photos here leave to chance comes on top.
const TOLERANCE_DB: f64 = 0.5;

/// A change of the default recipe.
struct Variant {
    name: &'static str,
    change: fn(&mut RecipeOptions),
}

/// The default recipe, and without all steps and each of them.
const VARIANTS: &[Variant] = &[
    Variant { name: "all steps", change: |_| {} },
    Variant { name: "none", change: |recipe| recipe.correction = Default::default() },
    Variant { name: "without rounding", change: |recipe| recipe.correction.rounding = WeightRounding::Nearest },
    Variant { name: "without gain", change: |recipe| recipe.correction.gain = false },
    Variant { name: "without bias", change: |recipe| recipe.correction.bias = BiasCorrection::None },
];

/// A network with what it is judged by.
struct Network {
    name: String,
    model: PathBuf,
    preprocessing: PreprocessOptions,
    calib: PathBuf,
    /// The photos, preprocessed.
    data: PathBuf,
    /// The fp32 model's outputs of them.
    outputs: PathBuf,
    /// Whether these are probabilities.
    probabilities: bool,
}

/// What `light_model.py` prints.
#[derive(Deserialize)]
struct Filled {
    model: PathBuf,
    logits: PathBuf,
}

/// One row of figures for each network and each variant.
pub(super) fn check(context: &Context, report: &mut Report) -> Result<()> {
    let Some(shared) = context.shared("steps", report) else {
        return Ok(());
    };
    let mut networks = vec![open_nsfw(context, shared)];
    networks.extend(WheelModels::find(context)?.light.iter().map(|model| light(context, shared, model)));
    for network in networks {
        let network = network?;
        if let Err(error) = judge(context, &network, report) {
            report.record(format!("steps {}", network.name), Verdict::Failed(error.to_string()));
        }
    }
    Ok(())
}

/// A network of the onnx package with random weights.
fn light(context: &Context, shared: &Path, model: &Path) -> Result<Network> {
    let (data, calib) = (context.cache("light"), shared.join("images/calib"));
    let mut script = context.script("onnx/light_model.py");
    script.arg(model).arg("--calib").arg(&calib).arg("--val").arg(shared.join("images/val"));
    let filled: Filled = workspace::json(script.args(["--count", &PHOTOS.to_string()]).arg("--out").arg(&data))?;
    let (name, preprocessing) = (stem(model), preprocessing());
    Ok(Network { name, model: filled.model, preprocessing, calib, data, outputs: filled.logits, probabilities: false })
}

/// The residual network of the shared data, exported from Caffe.
fn open_nsfw(context: &Context, shared: &Path) -> Result<Network> {
    let (folder, data) = (shared.join("models/caffe/open_nsfw"), context.cache("open_nsfw"));
    let model = context.folder("steps")?.join("open_nsfw.onnx");
    let mut export = context.quantize();
    export.arg("caffe").arg(folder.join("deploy.prototxt")).arg(folder.join("resnet_50_1by2_nsfw.caffemodel"));
    workspace::output(export.args(["--emit", "onnx-fp32", "--quiet", "-o"]).arg(&model))?;
    let mut script = context.script("onnx/prepare_images.py");
    script.arg("--model").arg(&model).arg("--images").arg(shared.join("images/val")).arg("--out").arg(&data);
    script.args(["--limit", &PHOTOS.to_string(), "--stretch", "--bgr", "--scale", "1", "--mean", "104", "117", "123"]);
    workspace::output(&mut script)?;
    let preprocessing = PreprocessOptions {
        resize: Some((224, 224)),
        interpolation: Some(Interpolation::Bicubic),
        channels: Some(Channels::Bgr),
        mean: Some(vec![104.0, 117.0, 123.0]),
        scale: Some(vec![1.0]),
        ..PreprocessOptions::default()
    };
    let (calib, outputs) = (shared.join("images/calib"), data.join("logits.npy"));
    Ok(Network { name: "open_nsfw".into(), model, preprocessing, calib, data, outputs, probabilities: true })
}

fn judge(context: &Context, network: &Network, report: &mut Report) -> Result<()> {
    let mut with_all = None;
    for variant in VARIANTS {
        let output = context.folder("steps")?.join(format!("{}-{}.onnx", network.name, variant.name.replace(' ', "-")));
        let summary = network.quantize(variant, &output)?;
        let found = network.judged(context, &output)?;
        let Judgement { sqnr, ratios, agreement, kl, .. } = found;
        let (gained, chance) = difference(&ratios, with_all.get_or_insert_with(|| ratios.clone()));
        let figures = format!(
            "{sqnr:.2} dB ({gained:+.2} ± {chance:.2}), agreement {agreement:.0} %, divergence {kl:.4}{}",
            taken_back(&summary)
        );
        let better = gained - 2.0 * chance > TOLERANCE_DB;
        let unmet = better.then(|| format!("more than {TOLERANCE_DB} dB better than with all steps, beyond chance"));
        report.record(format!("steps {}, {}", network.name, variant.name), Verdict::of(figures, unmet.as_slice()));
    }
    Ok(())
}

impl Network {
    /// Quantizes it with the change.
    fn quantize(&self, variant: &Variant, output: &Path) -> Result<Summary> {
        let mut recipe = RecipeOptions::of(Preset::Balanced);
        (variant.change)(&mut recipe);
        let options = QuantizeOptions {
            model: self.model.clone(),
            output: output.to_owned(),
            data: Some(DataOptions {
                paths: vec![self.calib.clone()],
                sampling: Sampling::default(),
                preparation: PreparationOptions::Pillow(self.preprocessing.clone()),
            }),
            recipe,
            ..QuantizeOptions::default()
        };
        let failed = |source| Error::Model { path: self.model.clone(), source: Box::new(source) };
        quantize_onnx(&options, &Silent).map_err(failed)
    }

    /// Its figures in onnxruntime.
    fn judged(&self, context: &Context, output: &Path) -> Result<Judgement> {
        let mut script = context.script("onnx/judge.py");
        script.arg(output).arg("--data").arg(&self.data).arg("--reference").arg(&self.outputs);
        script.arg("--logits").arg(output.with_extension("npy"));
        workspace::json(script.args(self.probabilities.then_some("--probabilities")))
    }
}

/// The mean difference of two models' ratios on the same photos, and its standard error.
fn difference(ratios: &[f64], than: &[f64]) -> (f64, f64) {
    let each: Vec<f64> = ratios.iter().zip(than).map(|(a, b)| a - b).collect();
    let count = each.len().max(2) as f64;
    let mean = each.iter().sum::<f64>() / count;
    let variance = each.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / (count - 1.0);
    (mean, (variance / count).sqrt())
}

/// The steps that the recipe itself took back, in words.
fn taken_back(summary: &Summary) -> String {
    let steps = summary.improvement.iter().flat_map(|i| &i.steps).filter(|step| !step.kept);
    let names: Vec<&str> = steps.map(|step| step.step).collect();
    if names.is_empty() { String::new() } else { format!("; taken back: {}", names.join(", ")) }
}
