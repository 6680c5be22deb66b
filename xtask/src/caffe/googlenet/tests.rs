//! The network is the published one, and reads.

use super::*;
use quantize_caffe::{CaffeDocument, ReadOptions, import};
use quantize_document::{Limits, SourceFile};
use std::io::Write;
use std::sync::Arc;

fn document() -> Arc<CaffeDocument> {
    let net = network();
    let prototxt = SourceFile::from_bytes(PROTOTXT, net.prototxt().into_bytes());
    let caffemodel = SourceFile::from_bytes(CAFFEMODEL, net.caffemodel());
    Arc::new(CaffeDocument::parse(prototxt, caffemodel, &Limits::default(), &ReadOptions::default()).unwrap())
}

/// Name and output channels of each convolution, in file order.
fn convolutions(document: &CaffeDocument) -> Vec<(String, usize)> {
    let layers = document.layers().iter().filter(|layer| layer.kind == "Convolution");
    let outputs = |blob: usize| document.weights().blobs()[blob].shape.axes()[0];
    layers.map(|layer| (layer.name.clone(), outputs(document.blobs(layer)[0]))).collect()
}

#[test]
fn layers_and_parameters_are_as_many_as_published() {
    let document = document();
    let count = |kind: &str| document.layers().iter().filter(|layer| layer.kind == kind).count();
    let kinds = ["Input", "Convolution", "ReLU", "Pooling", "Concat", "Dropout", "InnerProduct", "Softmax"];
    let counts = kinds.map(count);
    assert_eq!(counts, [1, 57, 57, 14, 9, 1, 1, 1]);
    assert_eq!(document.layers().len(), counts.iter().sum::<usize>());
    let parameters = |kind: &str| -> usize {
        let layers = document.layers().iter().filter(|layer| layer.kind == kind);
        let blobs = layers.flat_map(|layer| document.blobs(layer));
        blobs.map(|blob| document.weights().blobs()[blob].shape.axes().iter().product::<usize>()).sum()
    };
    assert_eq!((parameters("Convolution"), parameters("InnerProduct")), (5_973_552, 1_025_000));
}

#[test]
fn the_network_imports_without_remarks_and_ends_in_a_thousand_classes() {
    let (graph, problems) = import(&document()).unwrap();
    assert_eq!(problems, []);
    let [output] = graph.outputs() else { panic!("one output") };
    let shape = graph.value(*output).shape.clone().unwrap();
    assert_eq!(shape.iter().map(quantize_ir::Dim::known).collect::<Vec<_>>(), [None, Some(1000)]);
}

#[test]
fn convolutions_are_those_of_the_published_quantization_file() {
    let Some(shared) = std::env::var_os("QUANTIZE_SHARED") else {
        let _ = writeln!(std::io::stderr(), "skipped: QUANTIZE_SHARED is not set");
        return;
    };
    let file = Path::new(&shared).join("golden/xfdnn/json/googlenet_int8_v2.json");
    let json: serde_json::Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    let entries = json["network"].as_array().unwrap().iter();
    let published: Vec<(String, usize)> = entries
        .map(|entry| (entry["name"].as_str().unwrap().to_owned(), entry["th_params"].as_array().unwrap().len()))
        .collect();
    assert_eq!(published.len(), 57);
    assert_eq!(convolutions(&document()), published);
}

#[test]
fn a_tree_holds_what_the_manual_names() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    let written = write(folder, true).unwrap();
    let files = ["bvlc_googlenet_without_lrn.caffemodel", "bvlc_googlenet_without_lrn_deploy.prototxt"];
    assert_eq!(written, files.map(|file| folder.join(NETWORK_FOLDER).join(file)));
    assert!(OTHER_FOLDERS.iter().all(|other| folder.join(other).is_dir()));
}
