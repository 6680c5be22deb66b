//! The graph: names, wiring, provenance, shapes, and what is refused.

use super::{blob, no_weights, parse_with, stored};
use crate::{CaffeError, ReadOptions, import};
use quantize_document::{Problem, encode};
use quantize_ir::op::{Binary, Opaque, Unary};
use quantize_ir::{Constant, DType, Dim, DocId, Graph, Node, Op, Origin};
use std::sync::Arc;

const HEADER: &str = "input: 'x' input_dim: [1, 3, 8, 8]\n";

fn try_import(text: &str, weights: Vec<u8>) -> Result<(Graph, Vec<Problem>), CaffeError> {
    parse_with(text, weights, &ReadOptions::default()).and_then(|document| import(&Arc::new(document)))
}

fn graph(text: &str, weights: Vec<u8>) -> Graph {
    let (graph, problems) = try_import(text, weights).unwrap();
    assert!(problems.is_empty(), "{problems:?}");
    graph
}

fn node<'g>(graph: &'g Graph, name: &str) -> &'g Node {
    graph.nodes().find(|(_, node)| node.name == name).unwrap_or_else(|| panic!("no node `{name}`")).1
}

fn names(graph: &Graph, values: &[quantize_ir::ValueId]) -> Vec<String> {
    values.iter().map(|value| graph.value(*value).name.clone()).collect()
}

fn operands(graph: &Graph, name: &str) -> Vec<String> {
    let inputs: Vec<_> = node(graph, name).inputs.iter().flatten().copied().collect();
    names(graph, &inputs)
}

fn results(graph: &Graph, name: &str) -> Vec<String> {
    let outputs: Vec<_> = node(graph, name).outputs.iter().flatten().copied().collect();
    names(graph, &outputs)
}

/// Weights of a convolution `c` of 2 outputs over 3 channels, kernel 1.
fn conv_weights() -> Vec<u8> {
    stored("c", &[blob(&[2, 3, 1, 1], &[1.0; 6]), blob(&[2], &[0.5; 2])])
}

const CONV: &str =
    "layer { name: 'c' type: 'Convolution' bottom: 'x' top: 'c' convolution_param { num_output: 2 kernel_size: 1 } }\n";

#[test]
fn layers_in_place_write_new_values_and_the_last_has_the_name_of_the_blob() {
    let text = format!(
        "{HEADER}{CONV}
         layer {{ name: 'r' type: 'ReLU' bottom: 'c' top: 'c' }}
         layer {{ name: 'side' type: 'Sigmoid' bottom: 'c' top: 'side' }}
         layer {{ name: 'drop' type: 'Dropout' bottom: 'c' top: 'c' }}
         layer {{ name: 't' type: 'TanH' bottom: 'c' top: 'c' }}
         layer {{ name: 'drop2' type: 'Dropout' bottom: 'c' top: 'c' }}"
    );
    let g = graph(&text, conv_weights());
    assert_eq!(results(&g, "c"), ["c@c"]);
    assert_eq!((operands(&g, "r"), results(&g, "r")), (vec!["c@c".into()], vec!["c@r".into()]));
    assert_eq!(operands(&g, "side"), ["c@r"], "a reader sees the write before it");
    assert_eq!((operands(&g, "t"), results(&g, "t")), (vec!["c@r".into()], vec!["c".into()]));
    assert_eq!(names(&g, g.outputs()), ["side", "c"]);
    assert_eq!(g.nodes().count(), 4, "dropout in place is nothing");
    let overwritten = format!("{HEADER}layer {{ name: 'r' type: 'ReLU' bottom: 'x' top: 'x' }}");
    let g = graph(&overwritten, no_weights());
    assert_eq!((names(&g, g.inputs()), names(&g, g.outputs())), (vec!["x@input".into()], vec!["x".into()]));
}

#[test]
fn nodes_know_their_layer_and_helpers_are_named_after_it() {
    let text = format!(
        "{HEADER}{CONV}layer {{ name: 'fc' type: 'InnerProduct' bottom: 'c' top: 'fc' \
         inner_product_param {{ num_output: 2 }} }}"
    );
    let fc = stored("fc", &[blob(&[2, 128], &[0.0; 256]), blob(&[2], &[0.0; 2])]);
    let g = graph(&text, [conv_weights(), fc].concat());
    assert_eq!(node(&g, "fc").origin, Origin::Source(DocId(1)));
    let helper = Origin::Synthesized { pass: "caffe front-end", from: vec![DocId(1)] };
    assert_eq!(node(&g, "fc/flatten").origin, helper);
    assert_eq!(operands(&g, "fc"), ["fc/flatten", "fc/weight", "fc/bias"]);
    let weight = g.value(node(&g, "c").input(1).unwrap());
    assert!(matches!(weight.constant, Some(Constant::Stored { .. })), "weights stay in the file");
    assert_eq!(weight.origin, Some(Origin::Source(DocId(0))));
    let y = g.value(g.outputs()[0]);
    assert_eq!((y.dtype, y.shape.clone()), (Some(DType::F32), Some(vec![Dim::Unknown, Dim::Known(2)])));
}

#[test]
fn normalizations_are_what_folding_looks_for() {
    let text = format!(
        "{HEADER}{CONV}
         layer {{ name: 'bn' type: 'BatchNorm' bottom: 'c' top: 'c' param {{ }} param {{ }} param {{ }} }}
         layer {{ name: 's' type: 'Scale' bottom: 'c' top: 'c' scale_param {{ bias_term: true }} }}
         layer {{ name: 'fc' type: 'InnerProduct' bottom: 'c' top: 'fc' \
                  inner_product_param {{ num_output: 2 bias_term: false }} }}
         layer {{ name: 'fcs' type: 'Scale' bottom: 'fc' top: 'fc' }}"
    );
    let two = |a, b| blob(&[2], &[a, b]);
    let weights = [
        conv_weights(),
        stored("bn", &[two(2.0, 4.0), two(6.0, 8.0), blob(&[1], &[2.0])]),
        stored("s", &[two(3.0, 4.0), two(5.0, 6.0)]),
        stored("fc", &[blob(&[2, 128], &[0.0; 256])]),
        stored("fcs", &[two(1.0, 2.0)]),
    ];
    let g = graph(&text, weights.concat());
    let parameters = |name: &str| -> Vec<Vec<f32>> {
        let inputs = node(&g, name).inputs.iter().flatten().skip(1);
        inputs.map(|v| g.constant(*v).unwrap().unwrap().as_slice::<f32>().unwrap().to_vec()).collect()
    };
    assert_eq!(parameters("bn"), [[1.0, 1.0], [0.0, 0.0], [1.0, 2.0], [3.0, 4.0]]);
    assert_eq!(parameters("s"), [[3.0, 4.0], [5.0, 6.0], [0.0, 0.0], [1.0, 1.0]]);
    let form = |name: &str| match &node(&g, name).op {
        Op::BatchNorm(bn) => (bn.epsilon, bn.axis),
        other => panic!("{other:?}"),
    };
    assert_eq!((form("bn"), form("s"), form("fcs")), ((1e-5, 1), (0.0, 1), (0.0, -1)));
}

#[test]
fn unknown_layers_are_carried_with_their_wiring() {
    let text = format!(
        "{HEADER}{CONV}
         layer {{ name: 'p' type: 'PriorBox' bottom: 'c' bottom: 'x' top: 'p' prior_box_param {{ min_size: 3 }} }}
         layer {{ name: 'own' type: 'Custom' bottom: 'p' top: 'a' top: 'b' }}
         layer {{ name: 'r' type: 'ReLU' bottom: 'a' top: 'a' }}"
    );
    let weights = [conv_weights(), stored("own", &[blob(&[1, 2], &[1.0, 2.0])])].concat();
    let (g, problems) = try_import(&text, weights).unwrap();
    let opaque = |kind: &str| Op::Opaque(Opaque { domain: "caffe".into(), kind: kind.into() });
    assert_eq!((&node(&g, "p").op, operands(&g, "p")), (&opaque("PriorBox"), vec!["c".into(), "x".into()]));
    assert_eq!((&node(&g, "own").op, operands(&g, "own")), (&opaque("Custom"), vec!["p".into(), "own/blob_0".into()]));
    assert_eq!(results(&g, "own"), ["a@own", "b"]);
    assert_eq!(node(&g, "r").op, Op::Unary(Unary::Relu), "what follows is still understood");
    assert_eq!(names(&g, g.outputs()), ["b", "a"]);
    let notes: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(notes[0], "layer `p`: the type PriorBox is not known; the layer is carried as it is");
    assert_eq!(notes.len(), 2);
}

#[test]
fn known_layers_of_other_forms_are_carried() {
    let cases = [
        ("type: 'Pooling' pooling_param { pool: STOCHASTIC kernel_size: 2 }", "it pools stochastically"),
        ("type: 'BatchNorm' batch_norm_param { use_global_stats: false }", "statistics of the batch"),
        ("type: 'InnerProduct' inner_product_param { num_output: 2 axis: 2 }", "does not flatten from axis 1"),
        ("type: 'Convolution' convolution_param { num_output: 2 kernel_size: 1 axis: 2 }", "channel axis is not 1"),
        ("type: 'ArgMax' argmax_param { top_k: 5 }", "several elements"),
        ("type: 'ReLU' bottom: 'x'", "ReLU: it reads 2 blobs"),
        ("type: 'Pooling' top: 'mask' pooling_param { kernel_size: 2 }", "Pooling: it writes 2 blobs"),
    ];
    for (layer, expected) in cases {
        let text = format!("{HEADER}layer {{ name: 'l' bottom: 'x' top: 'y' {layer} }}");
        let (g, problems) = try_import(&text, no_weights()).unwrap_or_else(|error| panic!("{layer}: {error}"));
        assert!(problems[0].to_string().contains(expected), "{layer}: {problems:?}");
        assert!(matches!(node(&g, "l").op, Op::Opaque(_)), "{layer}");
        assert_eq!(g.nodes().count(), 1, "{layer}");
    }
}

#[test]
fn outputs_are_what_nobody_reads() {
    let text = format!(
        "{HEADER}
         layer {{ name: 's' type: 'Slice' bottom: 'x' top: 'a' top: 'b' top: 'c' }}
         layer {{ name: 'quiet' type: 'Silence' bottom: 'b' }}
         layer {{ name: 'split' type: 'Split' bottom: 'c' top: 'c1' top: 'c2' }}
         layer {{ name: 'd' type: 'Dropout' bottom: 'c1' top: 'd' }}"
    );
    let g = graph(&text, no_weights());
    assert_eq!(names(&g, g.outputs()), ["a", "c2", "d"]);
    assert_eq!(node(&g, "split").op, Op::Identity);
    assert_eq!(results(&g, "split/1"), ["c2"]);
    assert_eq!(node(&g, "d").op, Op::Identity, "under another name it is a value of its own");
    let error = try_import(&format!("{HEADER}layer {{ type: 'Silence' bottom: 'x' }}"), no_weights()).unwrap_err();
    assert!(error.to_string().contains("computes nothing"), "{error}");
}

#[test]
fn a_sum_of_two_is_an_addition() {
    let text = format!("{HEADER}layer {{ name: 'e' type: 'Eltwise' bottom: 'x' bottom: 'x' top: 'e' }}");
    assert_eq!(node(&graph(&text, no_weights()), "e").op, Op::Binary(Binary::Add));
}

#[test]
fn contradictions_name_line_layer_and_shapes() {
    let conv = |params: &str| {
        format!("layer {{ name: 'c' type: 'Convolution' bottom: 'x' top: 'c' convolution_param {{ {params} }} }}")
    };
    let layer = |fields: &str| format!("layer {{ name: 'l' bottom: 'x' top: 'y' {fields} }}");
    let cases = [
        (layer("type: 'ReLU' bottom: 'nowhere'"), "line 2: layer `l`: it reads the blob `nowhere`"),
        (
            format!("{}layer {{ name: 'm' type: 'ReLU' bottom: 'x' top: 'y' }}", layer("type: 'ReLU'")),
            "layer `m`: it writes the blob `y`",
        ),
        (layer("type: 'Slice' top: 'y'"), "it writes the blob `y`"),
        (conv("kernel_size: 1"), "layer `c`, convolution_param.num_output: it is missing"),
        (conv("num_output: 0 kernel_size: 1"), "convolution_param.num_output: it is 0"),
        (conv("num_output: 2"), "convolution_param.kernel_size: it is missing"),
        (conv("num_output: 2 kernel_size: [1, 1, 1]"), "3 values for 2 spatial axes"),
        (conv("num_output: 2 kernel_size: MAX"), "convolution_param.kernel_size: `MAX` is not a size"),
        (conv("num_output: 2 kernel_size: 1 stride: 0"), "convolution_param.stride: it is 0"),
        (
            conv("num_output: 2 kernel_size: 1 group: 2"),
            "2 groups do not divide 2 outputs and `x` of shape [?, 3, 8, 8]",
        ),
        (conv("num_output: 2 kernel_size: 9"), "a kernel of [9, 9] does not fit `x` of shape [?, 3, 8, 8]"),
        (conv("num_output: 2 kernel_size: 3"), "blob 0 has shape [2, 3, 1, 1], [2, 3, 3, 3] is needed for `x`"),
        (conv("num_output: 2 kernel_size: 1 bias_term: false"), "1 blobs of weights are needed, net.caffemodel has 2"),
        (layer("type: 'PReLU'"), "layer `l`: its weights are missing in net.caffemodel"),
        (layer("type: 'Pooling' pooling_param { kernel_size: 2 pad: 2 }"), "pooling_param.pad: a pad of 2"),
        (layer("type: 'Pooling' pooling_param { kernel_size: 1 stride: 9 pad: 0 }"), "entirely behind"),
        (layer("type: 'Pooling' pooling_param { kernel_size: 2 pool: MEDIAN }"), "pooling_param.pool: `MEDIAN`"),
        (layer("type: 'Slice' top: 'z'"), "`x` of shape [?, 3, 8, 8] cannot be cut into 2 equal pieces"),
        (layer("type: 'Slice' top: 'z' slice_param { slice_point: 3 }"), "slice_param.slice_point: [3] do not cut"),
        (layer("type: 'Reshape' reshape_param { shape { dim: [0, 5, -1] } }"), "reshape of [?, 3, 8, 8] to [0, 5, -1]"),
        (layer("type: 'Softmax' softmax_param { axis: 4 }"), "axis 4 is outside of the shape [?, 3, 8, 8]"),
        (layer("type: 'Permute' permute_param { order: 1 order: 1 }"), "permute_param.order"),
        (layer("type: 'Permute' permute_param { order: [0, 1, 2, 3, 0] }"), "permute_param.order"),
        (layer(&format!("type: 'Reshape' reshape_param {{ shape {{ dim: {:?} }} }}", [1; 33])), "reshape to 33 axes"),
        (layer("type: 'LRN' lrn_param { local_size: 4 }"), "lrn_param.local_size: 4 is not odd"),
        (layer("type: 'Eltwise' bottom: 'x' eltwise_param { coeff: 1 }"), "eltwise_param.coeff: 1 coefficients"),
        (layer("type: 'Exp' exp_param { base: 0 }"), "exp_param.base: 0 is not positive"),
        (layer("type: 'Clip' clip_param { min: 0 }"), "clip_param.max: it is missing"),
        (layer("type: 'ReLU' relu_param: 3"), "relu_param: it is no message"),
    ];
    for (layer, expected) in cases {
        let text = format!("{HEADER}{layer}");
        let error = try_import(&text, conv_weights()).expect_err(&layer);
        assert!(error.to_string().contains(expected), "{layer}: {error}");
    }
    let error = try_import(&format!("{HEADER}{}", layer("type: 'PReLU'")), no_weights()).unwrap_err();
    assert!(error.hint().unwrap().contains("found by layer name"));
}

#[test]
fn weights_in_half_precision_are_explained() {
    let raw = [blob(&[2, 3, 1, 1], &[]), encode::varint_field(10, 2), encode::bytes_field(12, &[0; 12])].concat();
    let error = try_import(&format!("{HEADER}{CONV}"), stored("c", &[raw, blob(&[2], &[0.0; 2])])).unwrap_err();
    assert!(error.to_string().contains("layer `c`: blob 0: its numbers are in NVCaffe's half precision"), "{error}");
    assert!(error.hint().unwrap().contains("single precision"));
}

#[test]
fn line_ends_of_windows_and_a_byte_order_mark_change_nothing() {
    let text = format!("{HEADER}{CONV}");
    let windows = format!("\u{feff}{}", text.replace('\n', "\r\n"));
    let (plain, other) = (graph(&text, conv_weights()), graph(&windows, conv_weights()));
    assert_eq!(format!("{:?}", node(&plain, "c")), format!("{:?}", node(&other, "c")));
}

#[test]
fn blobs_that_do_not_fit_together_are_both_named() {
    let pool = "layer { name: 'p' type: 'Pooling' bottom: 'x' top: 'p' pooling_param { kernel_size: 3 stride: 2 } }\n";
    for kind in ["Eltwise", "Concat", "Scale"] {
        let text = format!("{HEADER}{pool}layer {{ name: 'l' type: '{kind}' bottom: 'x' bottom: 'p' top: 'y' }}");
        let error = try_import(&text, no_weights()).unwrap_err().to_string();
        let first = "line 3: layer `l`: `x` of shape [?, 3, 8, 8] and `p` of shape [?, 3, 4, 4] do not fit together";
        assert!(error.contains(first), "{kind}: {error}");
    }
}
