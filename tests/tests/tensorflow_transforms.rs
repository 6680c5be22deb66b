//! Transforms that must not change what a graph computes: the same graph run before and after.
#![allow(clippy::unwrap_used)]

use quantize_pipeline::{Model, Request, Tensor, TensorflowFiles};
use quantize_tensorflow::{DataType, Encoding, GraphDef, NodeDef, PartialShape, TensorProto, render};
use quantize_tests::sandbox::Sandbox;
use quantize_tests::tensorflow::open;

/// Largest difference of results of single precision, where they are about 1.
const TOLERANCE: f32 = 1e-5;

fn node(name: &str, op: &str, inputs: &[&str]) -> NodeDef {
    NodeDef::new(name, op).with_inputs(inputs.to_vec()).with_attr("T", DataType::FLOAT)
}

fn input(channels: u64) -> NodeDef {
    let shape = PartialShape::Known(vec![Some(1), Some(9), Some(9), Some(channels)]);
    NodeDef::new("x", "Placeholder").with_attr("dtype", DataType::FLOAT).with_attr("shape", shape)
}

fn convolution(name: &str, inputs: &[&str], padding: &str) -> NodeDef {
    node(name, "Conv2D", inputs).with_attr("strides", vec![1; 4]).with_attr("padding", padding)
}

/// Numbers between -1 and 1 that follow no pattern.
fn uneven(count: usize, seed: f32) -> Vec<f32> {
    (0..count).map(|at| (at as f32 * 1.7 + seed).sin()).collect()
}

fn floats(name: &str, shape: &[usize], values: Vec<f32>) -> NodeDef {
    NodeDef::constant(name, TensorProto::new(DataType::FLOAT, &Tensor::new(shape, values).unwrap()).unwrap())
}

fn integers(name: &str, shape: &[usize], values: &[i32]) -> NodeDef {
    let value = Tensor::new(shape, values.to_vec()).unwrap();
    NodeDef::constant(name, TensorProto::new(DataType::INT32, &value).unwrap())
}

fn transformed(sandbox: &Sandbox, nodes: Vec<NodeDef>, transforms: &str) -> GraphDef {
    sandbox.write("before.pb", render(&GraphDef::new(nodes), Encoding::Binary).unwrap());
    let words = ["tf", "transform", "--in_graph=before.pb", "--out_graph=after.pb", "--inputs=x", "--outputs=y"];
    let _ = sandbox.quantize_words(&[&words[..], &["--transforms", transforms]].concat()).succeeded();
    open(&sandbox.path("after.pb")).graph().clone()
}

fn output(sandbox: &Sandbox, graph: &str, x: Tensor) -> Vec<f32> {
    let request = Request { inputs: vec!["x".into()], outputs: vec!["y".into()] };
    let files = TensorflowFiles { graph: sandbox.path(graph), checkpoint: None, request };
    let model = Model::open_tensorflow(&files).unwrap_or_else(|error| panic!("{error}"));
    let mut outputs = model.run(&[x]).unwrap_or_else(|error| panic!("{graph}: {error}"));
    outputs.remove(0).into_vec().unwrap()
}

/// The largest difference of the results before and after, for the nodes that stay.
fn difference(nodes: Vec<NodeDef>, channels: usize, transforms: &str, stay: usize) -> f32 {
    let sandbox = Sandbox::new();
    let graph = transformed(&sandbox, nodes, transforms);
    assert_eq!(graph.nodes().len(), stay, "{transforms}");
    let x = || Tensor::new([1, 9, 9, channels], uneven(81 * channels, 0.3)).unwrap();
    let (before, after) = (output(&sandbox, "before.pb", x()), output(&sandbox, "after.pb", x()));
    assert!(before.len() == after.len() && before.iter().any(|value| value.abs() > 0.1));
    before.iter().zip(&after).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn single_steps_of_a_normalization() {
    let positive = uneven(3, 4.0).into_iter().map(|value| value.abs() + 0.5).collect();
    let nodes = vec![
        input(2),
        floats("w", &[3, 3, 2, 3], uneven(54, 1.0)),
        convolution("conv", &["x", "w"], "SAME"),
        floats("mean", &[3], uneven(3, 2.0)),
        node("sub", "Sub", &["conv", "mean"]),
        floats("sd", &[3], positive),
        node("div", "RealDiv", &["sub", "sd"]),
        floats("gamma", &[3], uneven(3, 5.0)),
        node("mul", "Mul", &["div", "gamma"]),
        floats("beta", &[3], uneven(3, 6.0)),
        node("y", "BiasAdd", &["mul", "beta"]),
    ];
    assert!(difference(nodes, 2, "fold_subdivmul_batch_norms", 5) <= TOLERANCE);
}

#[test]
fn a_factor_behind_a_bias() {
    let nodes = |shape: &[usize]| {
        vec![
            input(2),
            floats("w", &[1, 1, 2, 2], uneven(4, 1.0)),
            convolution("conv", &["x", "w"], "SAME"),
            floats("b", &[2], uneven(2, 2.0)),
            node("biased", "BiasAdd", &["conv", "b"]),
            floats("s", shape, uneven(shape.iter().product(), 3.0)),
            node("mul", "Mul", &["biased", "s"]),
            node("y", "AddV2", &["x", "mul"]),
        ]
    };
    assert!(difference(nodes(&[]), 2, "fold_convolutionwithbias_mul", 6) <= TOLERANCE);
    assert!(difference(nodes(&[1]), 2, "fold_convolutionwithbias_mul", 6) <= TOLERANCE);
}

#[test]
fn defaults_duplicates_and_names() {
    let nodes = || {
        vec![
            input(2),
            floats("w", &[3, 3, 2, 2], uneven(36, 1.0)),
            floats("v", &[3, 3, 2, 2], uneven(36, 1.0)),
            convolution("one", &["x", "w"], "SAME"),
            convolution("two", &["x", "v"], "SAME"),
            node("first", "Relu", &["one"]),
            node("second", "Relu", &["two"]),
            node("y", "Mul", &["first", "second"]),
        ]
    };
    assert_eq!(difference(nodes(), 2, "add_default_attributes merge_duplicate_nodes obfuscate_names", 5), 0.0);
    let worst = difference(nodes(), 2, "quantize_weights(minimum_size=36)", 14);
    assert!(worst > 0.0 && worst < 0.2, "{worst}");
    let worst = difference(nodes(), 2, "round_weights", 8);
    assert!(worst > 0.0 && worst < 0.2, "{worst}");
}

/// A dilated convolution by its definition: each tap of the kernel stands `rate` further than the one before.
fn dilated(x: &[f32], kernel: &[f32], rate: usize) -> Vec<f32> {
    let side = 9;
    let mut result = Vec::new();
    for (row, column) in (0..side).flat_map(|row| (0..side).map(move |column| (row, column))) {
        let tap = |at: usize| {
            let (down, right) = (row + rate * (at / 3), column + rate * (at % 3));
            let is_inside = (rate..side + rate).contains(&down) && (rate..side + rate).contains(&right);
            if is_inside { x[(down - rate) * side + right - rate] * kernel[at] } else { 0.0 }
        };
        result.push((0..9).map(tap).sum());
    }
    result
}

#[test]
fn a_dilated_convolution_between_blocks() {
    let kernel = uneven(9, 1.0);
    let nodes = vec![
        input(1),
        integers("rates", &[2], &[2, 2]),
        integers("pads", &[2, 2], &[2, 3, 2, 3]),
        node("split", "SpaceToBatchND", &["x", "rates", "pads"]),
        floats("w", &[3, 3, 1, 1], kernel.clone()),
        convolution("conv", &["split", "w"], "VALID"),
        integers("crops", &[2, 2], &[0, 1, 0, 1]),
        node("y", "BatchToSpaceND", &["conv", "rates", "crops"]),
    ];
    let sandbox = Sandbox::new();
    assert_eq!(transformed(&sandbox, nodes, "flatten_atrous_conv").nodes().len(), 3);
    let x = uneven(81, 0.3);
    let found = output(&sandbox, "after.pb", Tensor::new([1, 9, 9, 1], x.clone()).unwrap());
    for (found, expected) in found.iter().zip(dilated(&x, &kernel, 2)) {
        assert!((found - expected).abs() <= TOLERANCE, "{found} for {expected}");
    }
    assert_eq!(found.len(), 81);
}
