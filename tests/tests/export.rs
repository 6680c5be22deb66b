//! A model written anew from its graph computes what it did before.
#![allow(clippy::unwrap_used)]

use quantize_exec::Program;
use quantize_ir::{Graph, Op, Tensor, ValueId};
use quantize_onnx::{OnnxError, export};
use quantize_tests::fixtures::{self, Side};
use quantize_tests::graphs::{compare, read};
use std::path::{Path, PathBuf};

/// Outputs that need a form of an operator that ONNX has no more: model, output, and a part of the message.
const NOT_WRITTEN: &[(&str, &str, &str)] =
    &[("resize_opset11", "nearest_tf_half_pixel", "tf_half_pixel_for_nn was removed with opset 13")];

#[test]
fn every_fixture_computes_the_same_after_export() {
    let mut compared = 0;
    for name in fixtures::model_names() {
        let graph = writable(&name, computed(read(&fixtures::model_bytes(&name))));
        if graph.outputs().is_empty() {
            continue;
        }
        let bytes = export(&graph, &name).unwrap_or_else(|error| panic!("{name}: {error}"));
        let inputs: Vec<Tensor> = fixtures::tensors(&name, Side::In).into_iter().map(|t| t.tensor.unwrap()).collect();
        compared += compare(&name, &graph, &read(&bytes), &inputs);
    }
    assert!(compared >= 640, "only {compared} outputs");
}

/// The graph without the outputs that cannot be written, after a look at what is said of them.
fn writable(model: &str, mut graph: Graph) -> Graph {
    let mut outputs = graph.outputs().to_vec();
    for (_, output, why) in NOT_WRITTEN.iter().filter(|(name, ..)| *name == model) {
        let at = outputs.iter().position(|v| graph.value(*v).name == *output).unwrap();
        graph.set_outputs(vec![outputs.remove(at)]);
        let error = export(&graph, model).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
    graph.set_outputs(outputs);
    graph
}

#[test]
fn unknown_operators_are_named_all_at_once() {
    let graph = read(&fixtures::model_bytes("rare_operators"));
    let Err(OnnxError::Inexpressible { refusals, .. }) = export(&graph, "rare") else { panic!("it was written") };
    let opaque = |op: &Op| matches!(op, Op::Opaque(_));
    let unknown = graph.nodes().filter(|(_, node)| opaque(&node.op) && !is_known(&graph, &node.outputs)).count();
    assert!(unknown > 10, "only {unknown} unknown operators in the fixture");
    assert!(refusals.len() >= unknown, "{refusals:#?}");
}

#[test]
fn shared_models_compute_the_same_after_export() {
    let Some(folder) = std::env::var_os("QUANTIZE_SHARED") else {
        return quantize_tests::skipped("QUANTIZE_SHARED is not set");
    };
    let files = models_below(&Path::new(&folder).join("models/onnx"));
    assert!(!files.is_empty(), "no models");
    for file in files {
        let graph = computed(read(&std::fs::read(&file).unwrap()));
        let bytes = export(&graph, "shared").unwrap();
        assert!(compare(&file.display().to_string(), &graph, &read(&bytes), &waves(&graph)) > 0);
    }
}

/// Every model in a folder and the folders in it.
fn models_below(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries
        .flat_map(|path| if path.is_dir() { models_below(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|e| e == "onnx"))
        .collect();
    files.sort();
    files
}

/// An input for each of the graph's, a dimension that is not known being 1.
fn waves(graph: &Graph) -> Vec<Tensor> {
    let wave = |value: &ValueId| {
        let shape = graph.value(*value).shape.clone().unwrap();
        let shape: Vec<usize> = shape.iter().map(|dim| usize::try_from(dim.known().unwrap_or(1)).unwrap()).collect();
        let len = shape.iter().product::<usize>();
        Tensor::new(shape, (0..len).map(|i| (i as f32 * 0.37).sin()).collect::<Vec<f32>>()).unwrap()
    };
    graph.inputs().iter().map(wave).collect()
}

/// The graph with the outputs that can be computed.
fn computed(mut graph: Graph) -> Graph {
    let possible = |output: &ValueId| Program::compile(&graph, &[*output]).is_ok();
    let outputs: Vec<ValueId> = graph.outputs().iter().copied().filter(possible).collect();
    graph.set_outputs(outputs);
    graph
}

fn is_known(graph: &Graph, results: &[Option<ValueId>]) -> bool {
    results.iter().flatten().all(|value| graph.value(*value).constant.is_some())
}
