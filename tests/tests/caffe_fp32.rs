//! The import of Caffe networks against Caffe itself: outputs, and statistics of every blob.
#![allow(clippy::unwrap_used)]

use quantize_ir::{Graph, Tensor};
use quantize_tests::arrays::{npy, npz};
use quantize_tests::caffe::{NETWORKS, Network, run};
use quantize_tests::shared;
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::path::Path;

/// Largest difference of an output.
const OUTPUT_TOLERANCE: f32 = 1e-5;
/// Largest difference of a statistic, as a part of it.
const STATISTIC_TOLERANCE: f64 = 1e-4;

/// What Caffe computed: an input, outputs, and statistics of blobs.
struct Reference {
    input: Tensor,
    outputs: Vec<(String, Tensor)>,
    blobs: Vec<Json>,
}

fn json(path: &Path) -> Json {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn blobs(json: &Json) -> Vec<Json> {
    json.as_array().cloned().unwrap_or_default()
}

/// The reference of a network in `golden`; `None` if it has none of this kind.
fn reference(golden: &Path, name: &str) -> Option<Reference> {
    let (file, prefix, blobs) = match name {
        "tiny_mix" | "tiny_v1" => {
            let log = json(&golden.join("tiny_mix/fp32_and_log.json"));
            let prefix = if name == "tiny_v1" { "v1_" } else { "" };
            (golden.join("tiny_mix/fp32.npz"), prefix, blobs(&log[format!("{name}_blobs")]))
        }
        _ => {
            let statistics = json(&golden.join("fp32/small_models_fp32.json"));
            (golden.join(format!("fp32/{name}.npz")), "", blobs(&statistics[name]["blobs"]))
        }
    };
    if !file.exists() {
        return None;
    }
    let own = |key: &str| key.starts_with("v1_") == (prefix == "v1_");
    let arrays: BTreeMap<String, Tensor> = npz(&file)
        .into_iter()
        .filter(|(key, _)| own(key))
        .map(|(key, array)| (key.trim_start_matches("v1_").to_owned(), array))
        .collect();
    let (inputs, outputs): (Vec<_>, Vec<_>) = arrays.into_iter().partition(|(name, _)| name == "input");
    Some(Reference { input: inputs.into_iter().next()?.1, outputs, blobs })
}

fn dims(input: &Tensor) -> [usize; 3] {
    input.shape()[1..].try_into().unwrap()
}

fn difference(expected: &Tensor, found: &Tensor) -> f32 {
    assert_eq!(expected.shape(), found.shape());
    let (expected, found) = (expected.as_slice::<f32>().unwrap(), found.as_slice::<f32>().unwrap());
    let apart = expected.iter().zip(found).map(|(e, f)| (e - f).abs());
    apart.fold(0.0, |worst, d| if d.is_nan() { f32::INFINITY } else { worst.max(d) })
}

/// Mean of magnitudes, minimum and maximum.
fn statistics(tensor: &Tensor) -> [f64; 3] {
    let data = tensor.as_slice::<f32>().unwrap();
    let abs_mean = data.iter().map(|v| f64::from(v.abs())).sum::<f64>() / data.len() as f64;
    let min = data.iter().copied().fold(f32::INFINITY, f32::min);
    let max = data.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    [abs_mean, min.into(), max.into()]
}

/// Compares statistics of a blob. Extremes are measured against the largest magnitude of the blob, since a minimum
/// near zero says nothing.
fn check_blob(network: &str, blob: &Json, values: &BTreeMap<String, Tensor>) {
    let name = blob["blob"].as_str().unwrap();
    let value = values.get(name).unwrap_or_else(|| panic!("{network}: no value is called `{name}`"));
    let shape: Vec<u64> = blob["shape"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect();
    assert_eq!(value.shape(), shape.iter().map(|n| *n as usize).collect::<Vec<_>>(), "{network} `{name}`");
    let expected = ["abs_mean", "min", "max"].map(|key| blob[key].as_f64().unwrap());
    let found = statistics(value);
    let scale = [expected[0], expected[1].abs().max(expected[2].abs()), expected[1].abs().max(expected[2].abs())];
    for ((e, f), scale) in expected.iter().zip(found).zip(scale) {
        assert!((e - f).abs() <= STATISTIC_TOLERANCE * scale, "{network} `{name}`: {found:?}, not {expected:?}");
    }
}

fn check_outputs(network: &str, graph: &Graph, reference: &Reference, values: &BTreeMap<String, Tensor>) {
    let names: Vec<&str> = graph.outputs().iter().map(|v| graph.value(*v).name.as_str()).collect();
    let mut expected: Vec<&str> = reference.outputs.iter().map(|(name, _)| name.as_str()).collect();
    expected.sort_unstable();
    let mut sorted = names.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, expected, "{network}");
    for (name, expected) in &reference.outputs {
        let worst = difference(expected, &values[name]);
        assert!(worst <= OUTPUT_TOLERANCE, "{network} `{name}`: {worst:e} apart");
    }
}

fn check(network: &Network, models: &Path, reference: &Reference) {
    let graph = network.graph(models, dims(&reference.input));
    let values = run(&graph, &reference.input);
    check_outputs(network.name, &graph, reference, &values);
    reference.blobs.iter().for_each(|blob| check_blob(network.name, blob, &values));
}

#[test]
fn every_network_computes_what_caffe_does() {
    let Some(shared) = shared() else { return };
    let (models, golden) = (shared.join("models/caffe"), shared.join("golden/xfdnn"));
    let present = NETWORKS.iter().filter(|network| models.join(network.prototxt).exists());
    let referenced: Vec<_> = present.filter_map(|n| Some((n, reference(&golden, n.name)?))).collect();
    for (network, reference) in &referenced {
        assert!(!reference.outputs.is_empty() && !reference.blobs.is_empty(), "{}", network.name);
        check(network, &models, reference);
    }
    assert!(!referenced.is_empty(), "no network with a reference in {}", shared.display());
}

/// Of this network there is an input and its probabilities.
#[test]
fn a_deep_residual_network_computes_what_caffe_does() {
    let Some(shared) = shared() else { return };
    let network = NETWORKS.iter().find(|network| network.name == "open_nsfw").unwrap();
    let golden = shared.join("golden/xfdnn/fp32");
    let input = npy(&golden.join("open_nsfw_input_0.npy"));
    let input = match input.shape() {
        [_, _, _] => {
            let shape: Vec<usize> = std::iter::once(1).chain(input.shape().iter().copied()).collect();
            input.reshaped(shape).unwrap()
        }
        _ => input,
    };
    let graph = network.graph(&shared.join("models/caffe"), dims(&input));
    let values = run(&graph, &input);
    let first = &json(&golden.join("open_nsfw_fp32.json"))["images"][0];
    let found = values["prob"].as_slice::<f32>().unwrap();
    for (found, key) in found.iter().zip(["sfw", "nsfw"]) {
        let expected = first[key].as_f64().unwrap() as f32;
        assert!((found - expected).abs() <= OUTPUT_TOLERANCE, "{key}: {found}, not {expected}");
    }
    assert_eq!(found.len(), 2);
    let names: Vec<&str> = graph.outputs().iter().map(|v| graph.value(*v).name.as_str()).collect();
    assert_eq!(names, ["prob"]);
}
