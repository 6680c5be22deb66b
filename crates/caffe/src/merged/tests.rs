//! Folding by hand, and what the files are then.

use super::{MergedModel, merged};
use crate::tests::{blob, legacy_blob, parse_with, stored, stored_former};
use crate::{CaffeDocument, CaffeError, ReadOptions, import};
use quantize_document::{Limits, SourceFile, encode};
use quantize_ir::{Graph, NodeId, Operand, Patch, PatchEdit, Tensor};
use std::sync::Arc;

const INPUT: &str = "input: 'data' input_dim: [1, 1, 2, 2]\n";

fn document(layers: &str, weights: &[Vec<u8>]) -> Arc<CaffeDocument> {
    Arc::new(parse_with(&format!("{INPUT}{layers}"), weights.concat(), &ReadOptions::default()).unwrap())
}

/// A convolution with two outputs and a window of one element, without bias.
fn convolution(name: &str, bottom: &str, top: &str) -> String {
    format!(
        "layer {{\n  name: '{name}' type: 'Convolution' bottom: '{bottom}' top: '{top}'\n  \
         convolution_param {{ num_output: 2 kernel_size: 1 bias_term: false }}\n}}\n"
    )
}

fn layer(kind: &str, name: &str, bottom: &str, top: &str) -> String {
    format!("layer {{\n  name: '{name}' type: '{kind}'\n  bottom: '{bottom}' top: '{top}'\n}}\n")
}

fn weight() -> Vec<u8> {
    blob(&[2, 1, 1, 1], &[1.0, 2.0])
}

fn scale(name: &str) -> Vec<u8> {
    stored(name, &[blob(&[2], &[3.0, 5.0])])
}

fn id(graph: &Graph, name: &str) -> NodeId {
    graph.nodes().find(|(_, node)| node.name == name).unwrap().0
}

/// Folds `followers` into the node `name`, which gets these weights.
fn fold(graph: &mut Graph, name: &str, followers: &[&str], weight: [f32; 2], bias: [f32; 2]) {
    let node = id(graph, name);
    let (op, x, shape) = {
        let node = graph.node(node).unwrap();
        let shape = graph.value(node.input(1).unwrap()).constant.as_ref().unwrap().shape().to_vec();
        (node.op.clone(), node.input(0).unwrap(), shape)
    };
    let followers: Vec<NodeId> = followers.iter().map(|name| id(graph, name)).collect();
    let outputs = graph.node(*followers.last().unwrap()).unwrap().outputs.clone();
    let constant = |name: &str, tensor| Operand::Constant { name: name.into(), tensor };
    let weight = constant("w", Tensor::new(shape, weight.to_vec()).unwrap());
    let inputs = vec![Operand::Value(x), weight, constant("b", Tensor::vector(bias.to_vec()))];
    let mut edits: Vec<PatchEdit> = followers.into_iter().map(|node| PatchEdit::Remove { node }).collect();
    edits.push(PatchEdit::Rewire { node, op, inputs, outputs });
    graph.apply(Patch { pass: "test", because: String::new(), edits }).unwrap();
}

/// The graph of a document with `followers` folded into `c`.
fn folded(document: &Arc<CaffeDocument>, followers: &[&str]) -> Graph {
    let (mut graph, _) = import(document).unwrap();
    fold(&mut graph, "c", followers, [3.0, 10.0], [0.5, -0.5]);
    graph
}

/// The text behind the header.
fn text(merged: &MergedModel<'_>) -> String {
    String::from_utf8(merged.prototxt().to_vec()).unwrap().strip_prefix(INPUT).unwrap().to_owned()
}

/// What the two files read as.
fn read_back(merged: &MergedModel<'_>) -> Result<Arc<CaffeDocument>, CaffeError> {
    let file = |name: &str, bytes| SourceFile::from_bytes(name, bytes);
    let prototxt = file("merged.prototxt", merged.prototxt().to_vec());
    let caffemodel = file("merged.caffemodel", merged.caffemodel().to_vec());
    let document = CaffeDocument::parse(prototxt, caffemodel, &Limits::default(), &ReadOptions::default())?;
    let document = Arc::new(document);
    import(&document)?;
    Ok(document)
}

/// The numbers of a layer's blobs.
fn numbers(document: &CaffeDocument, name: &str) -> Vec<Vec<f32>> {
    let layer = document.layers().iter().find(|layer| layer.name == name).unwrap();
    document.blobs(layer).into_iter().map(|blob| document.weights().read(blob).unwrap()).collect()
}

#[test]
fn a_folded_layer_goes_and_its_convolution_has_a_bias() {
    let layers = [
        convolution("c", "data", "c"),
        "# stays\n".into(),
        layer("Scale", "s", "c", "c"),
        layer("ReLU", "r", "c", "c"),
    ];
    let training = stored("loss", &[blob(&[1], &[7.0])]);
    let document = document(&layers.concat(), &[training.clone(), stored("c", &[weight()]), scale("s")]);
    let graph = folded(&document, &["s"]);
    let merged = merged(&document, &graph).unwrap();
    assert_eq!(merged.vanished(), ["s"]);
    assert!(!merged.is_unchanged());
    let expected = [layers[0].replace(" bias_term: false", ""), layers[1].clone(), layers[3].clone()].concat();
    assert_eq!(text(&merged), expected);
    let convolution = stored("c", &[blob(&[2, 1, 1, 1], &[3.0, 10.0]), blob(&[2], &[0.5, -0.5])]);
    assert!(merged.caffemodel().to_vec() == [training, convolution].concat());
    assert_eq!(numbers(&read_back(&merged).unwrap(), "c"), [[3.0, 10.0], [0.5, -0.5]]);
}

#[test]
fn a_convolution_takes_the_result_of_the_last_layer_in_it() {
    let layers = [
        convolution("c", "data", "c"),
        layer("Dropout", "d", "c", "c"),
        layer("Scale", "s", "c", "s"),
        layer("Scale", "t", "s", "t"),
        layer("Dropout", "e", "t", "t"),
        layer("ReLU", "r", "t", "c_"),
    ];
    let document = document(&layers.concat(), &[stored("c", &[weight()]), scale("s"), scale("t")]);
    let graph = folded(&document, &["s", "t"]);
    let merged = merged(&document, &graph).unwrap();
    assert_eq!(merged.vanished(), ["s", "t"]);
    let expected = [
        convolution("c", "data", "t").replace(" bias_term: false", ""),
        layer("Dropout", "d", "t", "t"),
        layers[4].clone(),
        layers[5].clone(),
    ];
    assert_eq!(text(&merged), expected.concat());
    assert_eq!(read_back(&merged).unwrap().layers().len(), 4);
}

#[test]
fn a_convolution_without_a_name_keeps_the_one_it_is_called_by() {
    let convolution = convolution("c", "data", "c").replace("name: 'c' ", "");
    let document =
        document(&format!("{convolution}{}", layer("Scale", "s", "c", "s")), &[stored("c", &[weight()]), scale("s")]);
    let graph = folded(&document, &["s"]);
    let merged = merged(&document, &graph).unwrap();
    assert!(text(&merged).contains("bottom: 'data' name: 'c' top: 's'"), "{}", text(&merged));
    assert_eq!(numbers(&read_back(&merged).unwrap(), "c"), [[3.0, 10.0], [0.5, -0.5]]);
}

#[test]
fn nothing_folded_leaves_both_files_as_they_are() {
    let layers = [convolution("c", "data", "c"), layer("Scale", "s", "c", "s")].concat();
    let document = document(&layers, &[stored("c", &[weight()]), scale("s")]);
    let (graph, _) = import(&document).unwrap();
    let merged = merged(&document, &graph).unwrap();
    assert!(merged.is_unchanged() && merged.vanished().is_empty());
    assert_eq!(merged.prototxt().to_vec(), document.text().source().bytes());
    assert_eq!(merged.caffemodel().to_vec(), document.weights().source().bytes());
}

#[test]
fn the_former_format_stays_the_former_format() {
    let layers = "layers { name: 'c' type: CONVOLUTION bottom: 'data' top: 'c'\r\n  \
                  convolution_param {\r\n    num_output: 2\r\n    bias_term: false\r\n    kernel_size: 1\r\n  }\r\n}\r\n\
                  layers { name: 's' type: 'Scale' bottom: 'c' top: 'c' }\r\n";
    let stored_scale = stored_former("s", &[blob(&[2], &[3.0, 5.0])]);
    let weight = legacy_blob([2, 1, 1, 1], &[1.0, 2.0]);
    let document = document(layers, &[stored_former("c", &[weight]), stored_scale]);
    let graph = folded(&document, &["s"]);
    let merged = merged(&document, &graph).unwrap();
    let expected = "layers { name: 'c' type: CONVOLUTION bottom: 'data' top: 'c'\r\n  \
                    convolution_param {\r\n    num_output: 2\r\n    kernel_size: 1\r\n  }\r\n}\r\n";
    assert_eq!(text(&merged), expected);
    let blobs = [legacy_blob([2, 1, 1, 1], &[3.0, 10.0]), legacy_blob([1, 1, 1, 2], &[0.5, -0.5])];
    assert!(merged.caffemodel().to_vec() == stored_former("c", &blobs));
    assert!(read_back(&merged).is_ok());
}

#[test]
fn numbers_in_other_encodings_become_packed_singles() {
    let doubles: Vec<u8> = [1.0f64, 2.0].iter().flat_map(|number| number.to_le_bytes()).collect();
    let shape = blob(&[2, 1, 1, 1], &[])[..8].to_vec();
    let single = |number: f32| [&[5 << 3 | 5], &number.to_le_bytes()[..]].concat();
    let unknown = encode::varint_field(77, 3);
    let cases = [
        [shape.clone(), encode::bytes_field(8, &doubles), unknown.clone()].concat(),
        [shape.clone(), single(1.0), single(2.0), unknown.clone()].concat(),
        [shape, single(9.0), encode::bytes_field(8, &doubles), unknown.clone()].concat(),
    ];
    let layers = [convolution("c", "data", "c"), layer("Scale", "s", "c", "c")].concat();
    for case in cases {
        let document = document(&layers, &[stored("c", &[case]), scale("s")]);
        let graph = folded(&document, &["s"]);
        let changed = [blob(&[2, 1, 1, 1], &[3.0, 10.0]), unknown.clone()].concat();
        let expected = stored("c", &[changed, blob(&[2], &[0.5, -0.5])]);
        assert!(merged(&document, &graph).unwrap().caffemodel().to_vec() == expected);
    }
}

#[test]
fn a_bias_term_goes_with_its_line_or_its_blank() {
    let cases = [
        ("num_output: 2 kernel_size: 1 bias_term: false", "num_output: 2 kernel_size: 1"),
        ("num_output: 2, bias_term: false, kernel_size: 1", "num_output: 2, kernel_size: 1"),
        ("bias_term: false num_output: 2 kernel_size: 1", " num_output: 2 kernel_size: 1"),
        ("num_output: 2 bias_term: 0 ; kernel_size: 1", "num_output: 2 kernel_size: 1"),
        ("num_output: 2\n  bias_term: false # none\n  kernel_size: 1", "num_output: 2\n   # none\n  kernel_size: 1"),
        ("num_output: 2\n\tbias_term: false;\n  kernel_size: 1", "num_output: 2\n  kernel_size: 1"),
        ("num_output: 2 kernel_size: 1 bias_term: true bias_term: false", "num_output: 2 kernel_size: 1"),
    ];
    for (before, after) in cases {
        let net = |fields: &str| {
            format!(
                "layer {{ name: 'c' type: 'Convolution' bottom: 'data' top: 'c'\nconvolution_param {{\n{fields} }} }}\n"
            )
        };
        let layers = net(before) + &layer("Scale", "s", "c", "c");
        let document = document(&layers, &[stored("c", &[weight()]), scale("s")]);
        let graph = folded(&document, &["s"]);
        let merged = merged(&document, &graph).unwrap();
        assert_eq!(text(&merged).trim(), net(after).trim(), "{before}");
        assert!(read_back(&merged).is_ok(), "{before}");
    }
}

/// Two convolutions that share their weight, each with a scale behind it.
fn twins() -> String {
    let shared = |name: &str| {
        convolution(name, "data", name).replace("convolution_param", "param { name: 'w' } convolution_param")
    };
    let scales = [layer("Scale", "s", "c", "c"), layer("Scale", "t", "d", "d")].concat();
    format!("{}{}{scales}", shared("c"), shared("d"))
}

#[test]
fn layers_that_share_weights_and_fold_the_same_way_share_them_still() {
    let copies = [stored("c", &[weight()]), stored("d", &[weight()]), scale("s"), scale("t")];
    let document = document(&twins(), &copies);
    let mut graph = folded(&document, &["s"]);
    fold(&mut graph, "d", &["t"], [3.0, 10.0], [1.5, -1.5]);
    let merged = merged(&document, &graph).unwrap();
    let weight = blob(&[2, 1, 1, 1], &[3.0, 10.0]);
    let expected =
        [stored("c", &[weight.clone(), blob(&[2], &[0.5, -0.5])]), stored("d", &[weight, blob(&[2], &[1.5, -1.5])])];
    assert!(merged.caffemodel().to_vec() == expected.concat());
    let document = read_back(&merged).unwrap();
    assert_eq!(numbers(&document, "d"), [[3.0, 10.0], [1.5, -1.5]]);
}

#[test]
fn layers_that_share_weights_and_fold_differently_are_refused_by_name() {
    let copies = [stored("c", &[weight()]), stored("d", &[weight()]), scale("s"), scale("t")];
    let document = document(&twins(), &copies);
    let one = folded(&document, &["s"]);
    let mut differently = one.clone();
    fold(&mut differently, "d", &["t"], [3.0, 11.0], [0.5, -0.5]);
    for graph in [one, differently] {
        let error = merged(&document, &graph).unwrap_err();
        let expected = "layer `d`: the merged network cannot be written: \
                        it shares weights with `c`, which is not folded the same way";
        assert!(error.to_string().contains(expected), "{error}");
        assert!(error.hint().is_some());
    }
}

#[test]
fn a_layer_without_weights_of_its_own_in_the_file_cannot_get_a_bias() {
    let document = document(&twins(), &[stored("c", &[weight()]), scale("s"), scale("t")]);
    let mut graph = folded(&document, &["s"]);
    fold(&mut graph, "d", &["t"], [3.0, 10.0], [1.5, -1.5]);
    let error = merged(&document, &graph).unwrap_err().to_string();
    assert!(error.contains("layer `d`") && error.contains("stored with another layer only"), "{error}");
}

#[test]
fn weights_of_a_folded_layer_that_another_layer_reads_are_refused() {
    let shared =
        |name: &str, blob: &str| layer("Scale", name, blob, blob).replace("  bottom", "  param { name: 'g' } bottom");
    let layers = [convolution("c", "data", "c"), shared("s", "c"), layer("ReLU", "r", "c", "r"), shared("t", "r")];
    let document = document(&layers.concat(), &[stored("c", &[weight()]), scale("s"), scale("t")]);
    let graph = folded(&document, &["s"]);
    let error = merged(&document, &graph).unwrap_err().to_string();
    assert!(error.contains("layer `t`") && error.contains("with `s`, which is folded"), "{error}");
}

#[test]
fn a_layer_folded_in_part_and_one_that_only_went_are_refused() {
    let power = layer("Power", "p", "c", "c").replace("}\n", "power_param { scale: 2 shift: 1 }\n}\n");
    let layers = [convolution("c", "data", "c"), power].concat();
    let document = document(&layers, &[stored("c", &[weight()])]);
    let (mut graph, _) = import(&document).unwrap();
    let shift = id(&graph, "p");
    fold(&mut graph, "c", &["p/scale"], [2.0, 4.0], [0.0, 0.0]);
    let error = merged(&document, &graph).unwrap_err().to_string();
    assert!(error.contains("layer `p`") && error.contains("only a part of it was folded"), "{error}");

    let (mut graph, _) = import(&document).unwrap();
    graph.remove_node(id(&graph, "p/scale"));
    graph.remove_node(shift);
    let error = merged(&document, &graph).unwrap_err().to_string();
    assert!(error.contains("layer `p`") && error.contains("no layer has become more"), "{error}");
}

#[test]
fn a_layer_in_a_list_cannot_be_taken_out() {
    let inner = |layer: String| layer.trim_start_matches("layer ").trim().to_owned();
    let list = format!("layer: [{}, {}]\n", inner(convolution("c", "data", "c")), inner(layer("Scale", "s", "c", "c")));
    let document = document(&list, &[stored("c", &[weight()]), scale("s")]);
    let graph = folded(&document, &["s"]);
    let error = merged(&document, &graph).unwrap_err().to_string();
    assert!(error.contains("layer `s`") && error.contains("`layer: [...]`"), "{error}");
}
