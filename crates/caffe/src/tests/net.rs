//! The description: headers, formats, phases, labels and dims.

use super::{no_weights, parse, parse_with};
use crate::{CaffeDocument, ReadOptions};

const RELU: &str = "layer { name: 'r' type: 'ReLU' bottom: 'data' top: 'r' }";

/// Blob, shape and layer of an input.
type Input<'a> = (&'a str, &'a [usize], Option<usize>);

fn inputs(document: &CaffeDocument) -> Vec<Input<'_>> {
    document.inputs().iter().map(|i| (i.blob.as_str(), i.shape.as_slice(), i.layer)).collect()
}

fn kinds(document: &CaffeDocument) -> Vec<(&str, &str)> {
    document.layers().iter().map(|l| (l.name.as_str(), l.kind.as_str())).collect()
}

fn refusal(text: &str) -> String {
    parse(text).expect_err(text).to_string()
}

#[test]
fn every_style_of_header_states_the_input() {
    let cases: [(&str, Vec<Input<'_>>); 7] = [
        ("input: 'data' input_dim: 2 input_dim: 3 input_dim: 5 input_dim: 7", vec![("data", &[2, 3, 5, 7], None)]),
        ("input: 'data' input_shape { dim: [2, 3, 5, 7] }", vec![("data", &[2, 3, 5, 7], None)]),
        (
            "input: 'data' input: 'im_info' input_shape { dim: 1 dim: 3 dim: 5 dim: 7 } input_shape { dim: 1 dim: 3 }",
            vec![("data", &[1, 3, 5, 7], None), ("im_info", &[1, 3], None)],
        ),
        (
            "layer { name: 'd' type: 'Input' top: 'data' input_param: { shape: { dim: 8 dim: 3 dim: 5 dim: 7 } } }",
            vec![("data", &[8, 3, 5, 7], Some(0))],
        ),
        (
            "layer { name: 'd' type: 'Input' top: 'data' top: 'b' input_param { shape { dim: [1, 2] } } }",
            vec![("data", &[1, 2], Some(0)), ("b", &[1, 2], Some(0))],
        ),
        (
            "layer { name: 'd' type: 'Input' top: 'data' top: 'b' \
             input_param { shape { dim: [1, 2] } shape { dim: 3 } } }",
            vec![("data", &[1, 2], Some(0)), ("b", &[3], Some(0))],
        ),
        (
            "layer { name: 'd' type: 'Data' top: 'data' top: 'label' transform_param { crop_size: 5 } }",
            vec![("data", &[1, 3, 5, 5], Some(0))],
        ),
    ];
    for (header, expected) in cases {
        let document = parse(&format!("{header} {RELU}")).unwrap();
        assert_eq!(inputs(&document), expected, "{header}");
    }
}

#[test]
fn data_layers_state_the_size_of_images_in_many_places() {
    let cases: [(&str, &[usize]); 8] = [
        ("type: 'Data' data_param { crop_size: 9 }", &[1, 3, 9, 9]),
        ("type: 'Data' transform_param { crop_size: 9 force_gray: true }", &[1, 1, 9, 9]),
        ("type: 'ImageData' image_data_param { new_height: 4 new_width: 6 }", &[1, 3, 4, 6]),
        (
            "type: 'ImageData' transform_param { crop_size: 3 } image_data_param { new_height: 4 new_width: 6 }",
            &[1, 3, 3, 3],
        ),
        ("type: 'AnnotatedData' transform_param { resize_param { height: 300 width: 200 } }", &[1, 3, 300, 200]),
        ("type: 'MemoryData' memory_data_param { batch_size: 2 channels: 3 height: 4 width: 5 }", &[2, 3, 4, 5]),
        ("type: 'DummyData' dummy_data_param { num: 2 channels: 3 height: 4 width: 5 }", &[2, 3, 4, 5]),
        ("type: 'DummyData' dummy_data_param { shape { dim: [2, 3, 4, 5] } }", &[2, 3, 4, 5]),
    ];
    for (fields, expected) in cases {
        let document = parse(&format!("layer {{ name: 'd' {fields} top: 'data' }} {RELU}")).unwrap();
        assert_eq!(inputs(&document), [("data", expected, Some(0))], "{fields}");
    }
}

#[test]
fn what_needs_a_label_is_left_out() {
    let text = "
        layer { name: 'data' type: 'Data' top: 'data' top: 'label' include { phase: TRAIN } }
        layer { name: 'data' type: 'Data' top: 'data' top: 'label' include { phase: TEST }
                transform_param { crop_size: 4 } }
        layer { name: 'copy' type: 'Split' bottom: 'label' top: 'label1' top: 'label2' }
        layer { name: 'fc' type: 'InnerProduct' bottom: 'data' top: 'fc' }
        layer { name: 'acc' type: 'Accuracy' bottom: 'fc' bottom: 'label1' top: 'acc' }
        layer { name: 'loss' type: 'SoftmaxWithLoss' bottom: 'fc' bottom: 'label2' top: 'loss' }
        layer { name: 'prob' type: 'Softmax' bottom: 'fc' top: 'prob' }";
    let document = parse(text).unwrap();
    assert_eq!(kinds(&document), [("data", "Data"), ("fc", "InnerProduct"), ("prob", "Softmax")]);
    assert_eq!(document.layers()[0].tops, ["data"]);
    let left_out: Vec<_> = document.problems().iter().map(ToString::to_string).collect();
    assert_eq!(left_out[0], "layer `copy`: left out, because it needs the label `label`");
    assert_eq!(left_out.len(), 3);
}

#[test]
fn layers_of_the_former_format_are_upgraded() {
    let text = "input: 'data' input_dim: [1, 3, 5, 7]
        layers { name: 'c' type: CONVOLUTION bottom: 'data' top: 'c' }
        layers: { name: 's' type: 21 bottom: 'c' top: 's' }
        layers < name: 't' type: 'TANH' bottom: 's' top: 't' >
        layers { name: 'x' type: CUSTOM bottom: 't' top: 'x' }";
    let document = parse(text).unwrap();
    let expected = [("c", "Convolution"), ("s", "SoftmaxWithLoss"), ("t", "TanH"), ("x", "CUSTOM")];
    assert_eq!(kinds(&document), expected);
}

#[test]
fn a_layer_knows_its_block_and_unknown_fields_are_no_matter() {
    let text = format!(
        "input: 'data' input_dim: [1, 3, 5, 7]\n{RELU}\nlayer {{ type: 'ReLU' bottom: 'r' top: 'q' \
                        quantization_param {{ bw_layer_in: 8 new_field: [1, 2] }} 'not' }}"
    );
    assert!(parse(&text).is_err(), "a string is no field");
    let text = text.replace("'not'", "future: <>");
    let document = parse(&text).unwrap();
    assert_eq!(&text[document.layers()[0].span.clone()], RELU);
    assert_eq!(document.layers()[1].name, "q", "without a name it is called after its result");
    assert!(document.layers()[1].params.merged("quantization_param").is_some());
}

#[test]
fn errors_name_line_layer_and_field() {
    let header = "input: 'data' input_dim: [1, 3, 5, 7]\n";
    let cases = [
        (
            format!("{header}layers {{ layer {{ name: 'c' type: 'conv' }} bottom: 'data' }}"),
            "line 2: the layer is in the oldest format (V0)",
        ),
        (format!("{header}{RELU}\nlayers {{ type: RELU }}"), "line 3: the file has both `layer` and `layers`"),
        (format!("{header}layer {{ name: 'r' }}"), "line 2: layer `r`: it has no type"),
        (format!("{header}layer: 3"), "line 2: `layer` is no message in brackets"),
        (
            format!("{header}layer {{ name: 'r' type: 'ReLU' include {{ phase: 7 }} }}"),
            "layer `r`, phase: `7` is not one of",
        ),
        (format!("{header}layer {{ name: 'r' type: 'ReLU' top {{ }} }}"), "layer `r`, top: it is not a name"),
        (header.into(), "net.prototxt: the file has no layers"),
        (RELU.into(), "net.prototxt: the network has no input"),
        (format!("input: 'data' {RELU}"), "input `data`: nothing states the shape of `data`"),
        (format!("input: 'data' input_dim: 3 {RELU}"), "the header, input_dim: 1 of them for 1 inputs of 4 axes"),
        (format!("input: 'data' input_dim: [1, 3, 0, 7] {RELU}"), "has an empty axis"),
        (format!("input: 'data' input_dim: [1, 3, -5, 7] {RELU}"), "input_dim: `-5` is not a size"),
        (format!("layer {{ name: 'd' type: 'HDF5Data' top: 'data' }} {RELU}"), "layer `d`: nothing states the shape"),
    ];
    for (text, expected) in cases {
        let message = refusal(&text);
        assert!(message.contains(expected), "{text}: {message}");
    }
    assert!(parse(RELU).unwrap_err().hint().is_some());
}

#[test]
fn dims_must_be_those_of_the_network_unless_they_override() {
    let net = |header: &str| format!("{header} {RELU}");
    let header = "input: 'data' input_dim: [4, 3, 5, 7]";
    let with = |header: &str, dims, override_dims| {
        parse_with(&net(header), no_weights(), &ReadOptions { dims: Some(dims), override_dims })
    };
    assert_eq!(with(header, [3, 5, 7], false).unwrap().inputs()[0].shape, [4, 3, 5, 7]);
    let error = with(header, [3, 9, 9], false).unwrap_err();
    assert_eq!(error.to_string(), "net.prototxt: input `data`: the network's input `data` is 3x5x7, not 3x9x9");
    assert!(error.hint().unwrap().contains("override"));
    assert_eq!(with(header, [3, 9, 9], true).unwrap().inputs()[0].shape, [4, 3, 9, 9]);
    let error = with(header, [1, 9, 9], true).unwrap_err();
    assert!(error.to_string().contains("3x5x7, not 1x9x9"), "channels cannot be overridden: {error}");
    assert_eq!(with("input: 'data'", [3, 9, 9], false).unwrap().inputs()[0].shape, [1, 3, 9, 9]);
    assert!(with("input: 'data'", [3, 0, 9], false).is_err());
    let matrix = "layer { name: 'i' type: 'Input' top: 'data' input_param { shape { dim: [1, 8] } } }";
    assert!(with(matrix, [3, 9, 9], true).unwrap_err().to_string().contains("is 8, not 3x9x9"));
}
