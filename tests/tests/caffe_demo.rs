//! The example of `quantize demo` in Caffe's format computes what its ONNX model computes.
#![allow(clippy::unwrap_used)]

use quantize_calib::{Channels, ImageFolder, Layout, Limits, Preprocess};
use quantize_document::SourceFile;
use quantize_exec::{Program, Session};
use quantize_ir::{Graph, Tensor};
use quantize_onnx::OnnxDocument;
use quantize_tests::caffe::{Network, run};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Side of a picture on a sheet.
const SIDE: usize = 16;
/// Largest difference of a logit: a few units of the last place of the largest, since one side folds normalizations.
const TOLERANCE: f32 = 3e-5;

const NETWORK: Network = Network { name: "digits", prototxt: "digits.prototxt", caffemodel: "digits.caffemodel" };

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/cli/demo")
}

/// What the ONNX model makes of `input`.
fn logits_of_onnx(graph: &Graph, input: &Tensor) -> Tensor {
    let program = Program::compile(graph, graph.outputs()).unwrap();
    let fed = [(graph.inputs()[0], input.clone())];
    Session::new(&program).run(&fed, &mut ()).unwrap().remove(0)
}

fn onnx() -> Graph {
    let limits = quantize_document::Limits::default();
    let source = SourceFile::read(folder().join("digits.onnx"), &limits).unwrap();
    let document = Arc::new(OnnxDocument::parse(source, &limits).unwrap());
    quantize_onnx::import(&document).unwrap().0
}

/// The pictures of a sheet as one batch `[N, 1, 16, 16]` of numbers in [0, 1].
fn pictures(sheet: &str) -> Tensor {
    let folder = ImageFolder::open(folder(), Limits::default()).unwrap();
    let index = folder.names().position(|name| name == sheet).unwrap();
    let raw = folder.load(index).unwrap();
    let preprocess = Preprocess {
        channels: Channels::Gray,
        layout: Layout::Nchw,
        mean: vec![0.0],
        scale: vec![1.0 / 255.0],
        resize: None,
        ..Preprocess::default()
    };
    let sample = preprocess.apply(raw.image().unwrap()).unwrap();
    let [_, _, height, width] = sample.dims;
    let tiles = (0..height / SIDE).flat_map(|row| (0..width / SIDE).map(move |column| (row * SIDE, column * SIDE)));
    let corners: Vec<(usize, usize)> = tiles.collect();
    let mut data = Vec::with_capacity(height * width);
    for (top, left) in &corners {
        for row in *top..top + SIDE {
            data.extend_from_slice(&sample.data[row * width + left..][..SIDE]);
        }
    }
    Tensor::new(vec![corners.len(), 1, SIDE, SIDE], data).unwrap()
}

#[test]
fn logits_of_every_embedded_picture_are_those_of_the_onnx_model() {
    let caffe = NETWORK.graph(&folder(), [1, SIDE, SIDE]);
    let onnx = onnx();
    let mut compared = 0;
    for sheet in ["calib.png", "val.png"] {
        let input = pictures(sheet);
        let found = &run(&caffe, &input)["head/fc"];
        let expected = logits_of_onnx(&onnx, &input);
        assert_eq!(found.shape(), expected.shape());
        for (found, expected) in found.as_slice::<f32>().unwrap().iter().zip(expected.as_slice::<f32>().unwrap()) {
            assert!((found - expected).abs() <= TOLERANCE, "{sheet}: {found}, not {expected}");
            compared += 1;
        }
    }
    assert_eq!(compared, 10 * (100 + 400));
}
