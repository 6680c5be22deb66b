//! `quantize demo`: writes the embedded example to a folder, quantizes it and evaluates both models.

use crate::args::DemoArgs;
use crate::report;
use crate::terminal::{Bar, Failure, note, result};
use image::{DynamicImage, ImageFormat};
use quantize_pipeline::{
    CaffeFiles, Channels, DataOptions, EmulateOptions, EvaluateOptions, Evaluation, FileOptions, ModelFiles, OutputSet,
    PreparationOptions, PreprocessOptions, Preset, QuantizeCaffeOptions, QuantizeOptions, QuantizeTensorflowOptions,
    RecipeOptions, TargetOptions, TensorflowFiles, TensorflowRecipe, TransformerOptions, default_range, emulate_caffe,
    evaluate, quantize_caffe, quantize_onnx, quantize_tensorflow,
};
use std::fmt::Write;
use std::fs;
use std::io::{self, Cursor};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The fp32 classifier.
static MODEL: &[u8] = include_bytes!("../demo/digits.onnx");
/// The same network in Caffe's format: its description.
static DEPLOY: &[u8] = include_bytes!("../demo/digits.prototxt");
/// Its weights.
static WEIGHTS: &[u8] = include_bytes!("../demo/digits.caffemodel");
/// The same network as a frozen TensorFlow graph.
static GRAPH: &[u8] = include_bytes!("../demo/digits.pb");
/// Calibration images, side by side.
static CALIBRATION_SHEET: &[u8] = include_bytes!("../demo/calib.png");
/// Validation images, side by side.
static VALIDATION_SHEET: &[u8] = include_bytes!("../demo/val.png");
/// Labels of the validation images, one on each line.
static VALIDATION_LABELS: &str = include_str!("../demo/val_labels.txt");

/// Side of one image on a sheet.
const TILE: u32 = 16;

/// Where the parts of the example are written.
struct Example {
    model: PathBuf,
    quantized: PathBuf,
    caffe: CaffeFiles,
    quantcfg: PathBuf,
    graph: PathBuf,
    quantized_graph: PathBuf,
    calibration: PathBuf,
    validation: PathBuf,
    labels: PathBuf,
}

impl Example {
    fn in_folder(folder: &Path) -> Self {
        Self {
            model: folder.join("digits.onnx"),
            quantized: folder.join("digits.int8.onnx"),
            caffe: CaffeFiles {
                deploy: folder.join("digits.prototxt"),
                weights: folder.join("digits.caffemodel"),
                read: Default::default(),
            },
            quantcfg: folder.join("digits.json"),
            graph: folder.join("digits.pb"),
            quantized_graph: folder.join("digits.int8.pb"),
            calibration: folder.join("calib"),
            validation: folder.join("val"),
            labels: folder.join("labels.csv"),
        }
    }

    fn write(&self) -> Result<(), Failure> {
        let calibration = tiles(CALIBRATION_SHEET)?;
        let validation = tiles(VALIDATION_SHEET)?;
        let mut labels = String::from("image,label\n");
        for (index, label) in VALIDATION_LABELS.lines().enumerate() {
            let _ = writeln!(labels, "{},{label}", tile_name(index));
        }
        for (folder, images) in [(&self.calibration, calibration), (&self.validation, validation)] {
            fs::create_dir_all(folder).map_err(|e| unwritable(folder, e))?;
            for (index, png) in images.into_iter().enumerate() {
                let path = folder.join(tile_name(index));
                fs::write(&path, png).map_err(|e| unwritable(&path, e))?;
            }
        }
        let mut outputs = OutputSet::new();
        outputs.add_bytes(&self.labels, labels.into_bytes());
        outputs.add_bytes(&self.model, MODEL);
        outputs.add_bytes(&self.caffe.deploy, DEPLOY);
        outputs.add_bytes(&self.caffe.weights, WEIGHTS);
        outputs.add_bytes(&self.graph, GRAPH);
        outputs.commit().map_err(quantize_pipeline::Error::from)?;
        Ok(())
    }
}

fn tile_name(index: usize) -> String {
    format!("digit_{index:04}.png")
}

fn unwritable(path: &Path, error: io::Error) -> Failure {
    Failure::Io(format!("cannot write {}", path.display()), error)
}

/// Cuts a sheet into its images, row by row, each encoded as PNG.
fn tiles(sheet: &[u8]) -> Result<Vec<Vec<u8>>, Failure> {
    let broken = |e: image::ImageError| Failure::Io("the embedded example is damaged".into(), io::Error::other(e));
    let sheet = image::load_from_memory_with_format(sheet, ImageFormat::Png).map_err(broken)?;
    let (columns, rows) = (sheet.width() / TILE, sheet.height() / TILE);
    let encode = |tile: DynamicImage| {
        let mut png = Cursor::new(Vec::new());
        tile.write_to(&mut png, ImageFormat::Png).map(|()| png.into_inner())
    };
    (0..rows * columns)
        .map(|i| encode(sheet.crop_imm(i % columns * TILE, i / columns * TILE, TILE, TILE)).map_err(broken))
        .collect()
}

/// `quantize demo`
pub(crate) fn run(args: &DemoArgs) -> Result<ExitCode, Failure> {
    let example = Example::in_folder(&args.output);
    fs::create_dir_all(&args.output).map_err(|e| unwritable(&args.output, e))?;
    example.write()?;
    let bar = Bar::new(args.run.quiet);
    let summary = quantize_onnx(&quantization(&example, args), &bar)?;
    let fp32 = evaluate(&evaluation(&example, &example.model, args), &bar)?;
    let int8 = evaluate(&evaluation(&example, &example.quantized, args), &bar)?;
    let file = quantize_caffe(&caffe_quantization(&example, args), &bar)?;
    let emulated = emulate_caffe(&emulation(&example, args), &bar)?;
    let graph = quantize_tensorflow(&graph_quantization(&example, args), &bar)?;
    let on_codes = evaluate(&graph_evaluation(&example, args), &bar)?;
    if !args.run.quiet {
        note(&report::text(&summary, args.run.verbose));
        note(&format!("\nthe same network in Caffe's format, for the xfDNN runtime:\n{}", report::text(&file, false)));
        note(&format!("\nthe same network as a graph for TensorFlow:\n{}", report::text(&graph, false)));
        let figures = [
            ("fp32", Some(&fp32), ""),
            ("int8", Some(&int8), ""),
            ("TensorFlow int8", Some(&on_codes), ""),
            ("xfDNN", emulated.labelled.as_ref().map(|(_, int8)| int8), " (emulated)"),
        ];
        note(&closing(&example, &figures));
    }
    result(&example.quantized.display().to_string())?;
    result(&example.quantcfg.display().to_string())?;
    result(&example.quantized_graph.display().to_string())?;
    Ok(ExitCode::SUCCESS)
}

fn preprocess() -> PreprocessOptions {
    PreprocessOptions { channels: Some(Channels::Gray), scale: Some(vec![1.0 / 255.0]), ..Default::default() }
}

fn quantization(example: &Example, args: &DemoArgs) -> QuantizeOptions {
    QuantizeOptions {
        model: example.model.clone(),
        output: example.quantized.clone(),
        data: Some(data(&example.calibration)),
        recipe: RecipeOptions::of(Preset::Balanced),
        target: TargetOptions::default(),
        threads: args.run.threads,
        ..QuantizeOptions::default()
    }
}

fn caffe_quantization(example: &Example, args: &DemoArgs) -> QuantizeCaffeOptions {
    let file = FileOptions::default();
    QuantizeCaffeOptions {
        model: example.caffe.clone(),
        output: example.quantcfg.clone(),
        data: Some(caffe_data(&example.calibration)),
        recipe: RecipeOptions { range: default_range(file.bits), ..RecipeOptions::default() },
        file,
        emit_merged: None,
        emit_plan: None,
        threads: args.run.threads,
    }
}

fn emulation(example: &Example, args: &DemoArgs) -> EmulateOptions {
    EmulateOptions {
        model: example.caffe.clone(),
        quantcfg: example.quantcfg.clone(),
        data: caffe_data(&example.validation),
        limit: None,
        labels: Some(example.labels.clone()),
        flavor: None,
        threads: args.run.threads,
    }
}

/// The example's images as [`data`] has them, in the words of Caffe's tools.
fn caffe_data(folder: &Path) -> DataOptions {
    let transformer = TransformerOptions { raw_scale: Some(1.0), ..Default::default() };
    let preparation = PreparationOptions::Caffe(transformer);
    DataOptions { paths: vec![folder.to_owned()], sampling: Default::default(), preparation }
}

/// The example's images, as the network was trained on them.
fn data(folder: &Path) -> DataOptions {
    let preparation = PreparationOptions::Pillow(preprocess());
    DataOptions { paths: vec![folder.to_owned()], sampling: Default::default(), preparation }
}

fn graph_files(graph: &Path) -> TensorflowFiles {
    TensorflowFiles { graph: graph.to_owned(), ..TensorflowFiles::default() }
}

fn graph_quantization(example: &Example, args: &DemoArgs) -> QuantizeTensorflowOptions {
    QuantizeTensorflowOptions {
        model: graph_files(&example.graph),
        output: example.quantized_graph.clone(),
        data: Some(data(&example.calibration)),
        labelled: None,
        recipe: RecipeOptions::of(Preset::Balanced),
        operators: TensorflowRecipe::default(),
        emit_plan: None,
        plan: None,
        threads: args.run.threads,
    }
}

fn graph_evaluation(example: &Example, args: &DemoArgs) -> EvaluateOptions {
    let model = ModelFiles::Tensorflow(graph_files(&example.quantized_graph));
    EvaluateOptions { model, ..evaluation(example, &example.model, args) }
}

fn evaluation(example: &Example, model: &Path, args: &DemoArgs) -> EvaluateOptions {
    EvaluateOptions {
        model: ModelFiles::Onnx(model.to_owned()),
        data: data(&example.validation),
        labels: example.labels.clone(),
        threads: args.run.threads,
    }
}

/// What was reached by which form of the network, and where everything is.
fn closing(example: &Example, figures: &[(&str, Option<&Evaluation>, &str)]) -> String {
    let (model, calibration) = (example.model.display(), example.calibration.display());
    let graph = example.graph.display();
    let (deploy, weights) = (example.caffe.deploy.display(), example.caffe.weights.display());
    let mut text = "\non 400 digits that were not used for calibration:\n".to_owned();
    for (name, figure, how) in figures {
        if let Some(figure) = figure {
            let _ = writeln!(text, "  {name:<5} {}{how}", report::evaluation(figure));
        }
    }
    let _ = write!(
        text,
        "
fp32 model: {model}
int8 model: {}
Caffe:      {deploy}, {weights} (fp32), {} (quantization file)
TensorFlow: {graph} (fp32), {} (int8)
images:     {calibration} (calibration), {} with {}

the same by hand:
  quantize onnx {model} --calib {calibration} --channels gray --scale 0.003921569
  quantize caffe {deploy} {weights} --calib {calibration} --raw_scale 1
  quantize tf {graph} --calib {calibration} --channels gray --scale 0.003921569",
        example.quantized.display(),
        example.quantcfg.display(),
        example.quantized_graph.display(),
        example.validation.display(),
        example.labels.display(),
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_parts_fit_together() {
        assert_eq!(tiles(CALIBRATION_SHEET).unwrap().len(), 100);
        let validation = tiles(VALIDATION_SHEET).unwrap().len();
        assert_eq!((validation, VALIDATION_LABELS.lines().count()), (400, 400));
    }
}
