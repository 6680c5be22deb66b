//! Caffe networks written back with folded layers merged: what nothing was folded in is the same file, and everything
//! else computes the same.
#![allow(clippy::unwrap_used)]

use quantize_caffe::xfdnn::{EntryKinds, XfdnnRecipe};
use quantize_caffe::{CaffeDocument, import, merged};
use quantize_ir::{Graph, Op, Tensor};
use quantize_numerics::xfdnn::BitWidth;
use quantize_passes::prepare;
use quantize_tests::arrays::{npy, npz};
use quantize_tests::caffe::{NETWORKS, blob, parse, run, stored};
use quantize_tests::shared;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Largest difference of an output, as a part of its largest magnitude.
const TOLERANCE: f32 = 1e-6;
/// The same for networks that were not trained as they are wired, and may be far more sensitive.
const COARSE: f32 = 1e-4;

/// The description and the weights of a network.
type Files = (PathBuf, PathBuf);

/// The networks of the project.
fn own_networks() -> Vec<Files> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let file = |folder: &str, name: &str, end: &str| root.join(folder).join(format!("{name}.{end}"));
    let fixtures = ["residual", "former", "parametric", "scaled"].map(|name| ("fixtures/caffe", name));
    let all = fixtures.into_iter().chain([("../crates/cli/demo", "digits")]);
    all.map(|(folder, name)| (file(folder, name, "prototxt"), file(folder, name, "caffemodel"))).collect()
}

fn shared_networks(shared: &Path) -> Vec<Files> {
    let folder = shared.join("models/caffe");
    NETWORKS.iter().map(|network| (folder.join(network.prototxt), folder.join(network.caffemodel))).collect()
}

fn open((prototxt, caffemodel): &Files) -> Arc<CaffeDocument> {
    parse(&fs::read(prototxt).unwrap(), &fs::read(caffemodel).unwrap()).unwrap()
}

fn graph(document: &Arc<CaffeDocument>) -> Graph {
    import(document).unwrap().0
}

/// What quantization for the xfDNN runtime folds.
fn folded(document: &Arc<CaffeDocument>) -> Graph {
    let entries = EntryKinds { inner_product: true, eltwise: true, average_pool: true, scale: true };
    let recipe = XfdnnRecipe {
        document: Arc::clone(document),
        bits: BitWidth::Eight,
        entries,
        keeps_lone_scale: false,
        corrections: false,
        float_lrn: false,
    };
    prepare(graph(document), &recipe, &BTreeSet::new()).unwrap().graph
}

/// Merges what folds, and reads the two files back.
fn merge(document: &Arc<CaffeDocument>) -> Arc<CaffeDocument> {
    let merged = merged(document, &folded(document)).unwrap();
    let read = parse(&merged.prototxt().to_vec(), &merged.caffemodel().to_vec()).unwrap();
    assert_eq!(document.layers().len() - read.layers().len(), merged.vanished().len());
    read
}

fn outputs(document: &Arc<CaffeDocument>, input: &Tensor) -> Vec<(String, Vec<f32>)> {
    let graph = graph(document);
    let values = run(&graph, input);
    let names = graph.outputs().iter().map(|output| graph.value(*output).name.clone());
    names.map(|name| (name.clone(), values[&name].as_slice::<f32>().unwrap().to_vec())).collect()
}

/// Checks that the outputs of two networks on some input are the same, and returns how many numbers were compared.
fn compare(before: &Arc<CaffeDocument>, after: &Arc<CaffeDocument>, input: &Tensor, tolerance: f32) -> usize {
    let (before, after) = (outputs(before, input), outputs(after, input));
    assert_eq!(before.len(), after.len());
    for ((name, before), (same, after)) in before.iter().zip(&after) {
        assert_eq!((name, before.len()), (same, after.len()));
        let scale = before.iter().fold(0.0_f32, |largest, number| largest.max(number.abs()));
        for (before, after) in before.iter().zip(after) {
            assert!((before - after).abs() <= tolerance * scale, "`{name}`: {before} became {after}");
        }
    }
    before.iter().map(|(_, numbers)| numbers.len()).sum()
}

/// An input of the shape a network states, from -1 to 1.
fn some_input(document: &CaffeDocument) -> Tensor {
    let shape = document.inputs()[0].shape.clone();
    let wave = |i: usize| (i as f32 * 0.37).sin();
    Tensor::new(shape.clone(), (0..shape.iter().product()).map(wave).collect()).unwrap()
}

fn unchanged(networks: &[Files]) -> usize {
    for files in networks {
        let document = open(files);
        let merged = merged(&document, &graph(&document)).unwrap();
        assert!(merged.is_unchanged() && merged.vanished().is_empty(), "{files:?}");
        assert!(merged.prototxt().to_vec() == fs::read(&files.0).unwrap(), "{files:?}");
        assert!(merged.caffemodel().to_vec() == fs::read(&files.1).unwrap(), "{files:?}");
    }
    networks.len()
}

#[test]
fn nothing_folded_leaves_the_files_of_every_network_as_they_are() {
    assert_eq!(unchanged(&own_networks()), 5);
    let Some(shared) = shared() else { return };
    assert_eq!(unchanged(&shared_networks(&shared)), 8);
}

#[test]
fn small_networks_compute_the_same_when_merged() {
    let mut vanished = Vec::new();
    for files in own_networks() {
        let document = open(&files);
        let read = merge(&document);
        assert!(compare(&document, &read, &some_input(&document), TOLERANCE) > 0);
        vanished.push(document.layers().len() - read.layers().len());
    }
    assert_eq!(vanished, [5, 0, 0, 0, 12]);
}

#[test]
fn a_merged_network_has_nothing_left_to_fold() {
    for files in own_networks() {
        let read = merge(&open(&files));
        let again = merged(&read, &folded(&read)).unwrap();
        assert!(again.is_unchanged(), "{files:?}");
    }
}

#[test]
fn a_residual_network_of_229_layers_has_123_when_merged_and_computes_the_same() {
    let Some(shared) = shared() else { return };
    let network = NETWORKS.iter().position(|network| network.name == "open_nsfw").unwrap();
    let document = open(&shared_networks(&shared)[network]);
    let read = merge(&document);
    assert_eq!((document.layers().len(), read.layers().len()), (229, 123));
    assert!(graph(&read).nodes().all(|(_, node)| !matches!(node.op, Op::BatchNorm(_))));
    // The layers of training that only the caffemodel has are in it still.
    let stored = |document: &CaffeDocument| document.weights().layers().len();
    assert_eq!(stored(&document) - stored(&read), 106);
    let input = npy(&shared.join("golden/xfdnn/fp32/open_nsfw_input_0.npy")).reshaped([1, 3, 224, 224]).unwrap();
    assert_eq!(compare(&document, &read, &input, TOLERANCE), 2);
}

#[test]
fn a_mixed_network_computes_the_same_when_merged() {
    let Some(shared) = shared() else { return };
    let network = NETWORKS.iter().position(|network| network.name == "tiny_mix").unwrap();
    let document = open(&shared_networks(&shared)[network]);
    let read = merge(&document);
    assert!(read.layers().len() < document.layers().len());
    let input = &npz(&shared.join("golden/xfdnn/tiny_mix/fp32.npz"))["input"];
    assert!(compare(&document, &read, input, TOLERANCE) > 0);
}

#[test]
fn inner_products_take_normalization_scale_and_bias() {
    let text = |params: &str| {
        format!(
            "layer {{ name: 'data' type: 'Input' top: 'data' input_param {{ shape {{ dim: [2, 3] }} }} }}
             layer {{ name: 'fc' type: 'InnerProduct' bottom: 'data' top: 'fc'
                      inner_product_param {{ num_output: 2{params} }} }}
             layer {{ name: 'bn' type: 'BatchNorm' bottom: 'fc' top: 'bn' }}
             layer {{ name: 'scale' type: 'Scale' bottom: 'bn' top: 'scale' scale_param {{ bias_term: true }} }}
             layer {{ name: 'bias' type: 'Bias' bottom: 'scale' top: 'bias' }}
             layer {{ name: 'relu' type: 'ReLU' bottom: 'bias' top: 'relu' }}"
        )
    };
    let rows = [0.5, -1.0, 2.0, 1.5, 0.25, -0.75];
    let columns = [0.5, 1.5, -1.0, 0.25, 2.0, -0.75];
    let bias = blob(&[2], &[0.1, -0.2]);
    let cases = [
        ("", vec![blob(&[2, 3], &rows), bias]),
        (" bias_term: false", vec![blob(&[2, 3], &rows)]),
        (" bias_term: false transpose: true", vec![blob(&[3, 2], &columns)]),
    ];
    for (params, weights) in cases {
        let weights = [
            stored("fc", &weights),
            stored("bn", &[blob(&[2], &[0.5, 1.0]), blob(&[2], &[4.0, 9.0]), blob(&[1], &[2.0])]),
            stored("scale", &[blob(&[2], &[3.0, -2.0]), blob(&[2], &[0.5, 0.25])]),
            stored("bias", &[blob(&[2], &[-1.0, 4.0])]),
        ];
        let document = parse(text(params).as_bytes(), &weights.concat()).unwrap();
        let read = merge(&document);
        let names: Vec<&str> = read.layers().iter().map(|layer| layer.name.as_str()).collect();
        assert_eq!(names, ["data", "fc", "relu"], "{params}");
        assert_eq!((&*read.layers()[1].tops[0], read.blobs(&read.layers()[1]).len()), ("bias", 2), "{params}");
        assert_eq!(compare(&document, &read, &some_input(&document), TOLERANCE), 4);
    }
}

/// Every text that differs from `text` in one quoted string, which is another one of the text.
fn rewired(text: &str) -> Vec<String> {
    let parts: Vec<&str> = text.split('"').collect();
    // Strings are between an odd and the next quote.
    let strings: BTreeSet<&str> = parts.iter().skip(1).step_by(2).copied().collect();
    let mut texts = Vec::new();
    for at in (1..parts.len()).step_by(2) {
        for string in strings.iter().filter(|string| **string != parts[at]) {
            let mut parts = parts.clone();
            parts[at] = string;
            texts.push(parts.join("\""));
        }
    }
    texts
}

/// Merges a network and compares what it computes; `None` if it is no network, or layers are not understood.
fn survives(text: &str, weights: &[u8]) -> Option<()> {
    let document = parse(text.as_bytes(), weights).ok()?;
    let (graph, problems) = import(&document).ok()?;
    if !problems.is_empty() {
        return None;
    }
    let model = merged(&document, &folded(&document)).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let read = parse(&model.prototxt().to_vec(), &model.caffemodel().to_vec());
    let read = read.unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert_eq!(import(&read).map(|(read, _)| read.outputs().len()).ok(), Some(graph.outputs().len()), "{text}");
    compare(&document, &read, &some_input(&document), COARSE);
    Some(())
}

#[test]
fn networks_wired_in_any_way_compute_the_same_when_merged() {
    for (files, least) in [(0, 300), (4, 300)] {
        let (prototxt, caffemodel) = &own_networks()[files];
        let (text, weights) = (fs::read_to_string(prototxt).unwrap(), fs::read(caffemodel).unwrap());
        let compared = rewired(&text).iter().filter_map(|text| survives(text, &weights)).count();
        assert!(compared >= least, "{compared} of {}", prototxt.display());
    }
}
