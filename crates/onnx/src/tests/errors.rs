//! Models that contradict themselves: each is refused in words that name the place.

use super::*;
use quantize_document::encode::{bytes_field, varint_field};
use quantize_proto::onnx::tensor_proto::DataLocation;

fn message(model: &ModelProto) -> String {
    read_model(model).map(|_| ()).unwrap_err().to_string()
}

#[test]
fn models_that_contradict_themselves_are_refused() {
    let scalar = || Tensor::scalar(1f32);
    let dims = |dims: &[i64]| TensorProto { dims: dims.to_vec(), ..initializer("w", &scalar()) };
    let cases: Vec<(&str, ModelProto, &str)> = vec![
        ("no opset", relu(|m, _| m.opset_import.clear()), "m.onnx: it imports no operator set"),
        (
            "two opsets",
            relu(|m, _| m.opset_import.push(opset("ai.onnx", 12))),
            "m.onnx: it imports two versions of the operator set `ai.onnx`: 13 and 12",
        ),
        (
            "custom domains only",
            relu(|m, _| m.opset_import = vec![opset("custom", 1)]),
            "m.onnx: node 0 (Relu): is of the standard operator set, of which the model imports no version",
        ),
        (
            "two initializers",
            relu(|_, g| g.initializer = vec![initializer("w", &scalar()), initializer("w", &scalar())]),
            "m.onnx: initializer `w`: there are two of this name",
        ),
        (
            "dimensions overflow",
            relu(|_, g| g.initializer.push(dims(&[1 << 62, 1 << 62]))),
            "m.onnx: initializer `w`: has too many elements: [4611686018427387904, 4611686018427387904]",
        ),
        (
            "negative dimension",
            relu(|_, g| g.initializer.push(dims(&[2, -1]))),
            "m.onnx: initializer `w`: has a negative dimension: [2, -1]",
        ),
        ("two inputs", relu(|_, g| g.input.push(info("x"))), "m.onnx: input `x`: defines `x`, which is defined before"),
        (
            "undefined operand",
            relu(|_, g| g.node[0].input = names(&["z"])),
            "m.onnx: node 0 (Relu): reads `z`, which nothing defines",
        ),
        (
            "undefined operand of a named node",
            relu(|_, g| {
                g.node[0].input = names(&["z"]);
                g.node[0].name = Some("act".into());
            }),
            "m.onnx: node `act`: reads `z`, which nothing defines",
        ),
        (
            "two nodes of one result",
            relu(|_, g| g.node.push(node("Relu", &["x"], &["y"], vec![]))),
            "m.onnx: node 1 (Relu): defines `y`, which is defined before",
        ),
        (
            "a node writes an input",
            relu(|_, g| g.node[0].output = names(&["x"])),
            "m.onnx: node 0 (Relu): defines `x`, which is defined before",
        ),
        (
            "cycle",
            relu(|_, g| {
                g.node = vec![node("Add", &["x", "b"], &["y"], vec![]), node("Relu", &["y"], &["b"], vec![])];
                g.node[0].name = Some("head".into());
                g.node[1].name = Some("tail".into());
            }),
            "m.onnx: nodes `head`, `tail` form a cycle",
        ),
        ("output nobody computes", relu(|_, g| g.output.push(info("z"))), "m.onnx: output `z`: nothing computes it"),
        ("no outputs", relu(|_, g| g.output.clear()), "m.onnx: the graph has no outputs"),
    ];
    for (name, model, expected) in cases {
        assert_eq!(message(&model), expected, "{name}");
    }
}

#[test]
fn a_kernel_shape_unlike_the_weight_is_refused() {
    let weight = Tensor::new([16, 3, 9, 1], vec![0f32; 16 * 27]).unwrap();
    for (op_type, kernel, fits) in [
        ("Conv", [9, 1], true),
        ("Conv", [3, 3], false),
        ("ConvTranspose", [1, 9], false),
        ("ConvTranspose", [9, 1], true),
    ] {
        let model = relu(|_, g| {
            g.initializer.push(initializer("w", &weight));
            g.node = vec![node(op_type, &["x", "w"], &["y"], vec![ints("kernel_shape", &kernel)])];
            g.node[0].name = Some("conv1".into());
        });
        let cause = format!("kernel_shape {kernel:?} does not match weight `w` of shape [16, 3, 9, 1]");
        let expected = if fits { Ok(()) } else { Err(format!("m.onnx: node `conv1`: {cause}")) };
        assert_eq!(read_model(&model).map(|_| ()).map_err(|e| e.to_string()), expected, "{op_type} {kernel:?}");
    }
}

#[test]
fn a_model_has_one_graph() {
    let whole = relu(|_, _| {});
    let none = ModelProto { graph: None, ..whole.clone() }.encode_to_vec();
    let twice = [whole.encode_to_vec(), bytes_field(7, b"")].concat();
    let cases =
        [(none, "it has no graph"), (twice, "it has 2 graphs, but a model has one"), (Vec::new(), "the file is empty")];
    for (bytes, cause) in cases {
        let error = read_bytes(bytes).unwrap_err();
        assert_eq!(error.to_string(), format!("m.onnx: {cause}"));
        assert_eq!(error.hint().as_deref(), Some("is this an ONNX model?"));
    }
}

#[test]
fn fields_that_hold_no_message_are_refused() {
    let bytes = relu(|_, _| {}).encode_to_vec();
    let at = bytes.len();
    let opset = read_bytes([bytes.clone(), varint_field(8, 13)].concat()).unwrap_err();
    let cause = "is not length-delimited, so it holds no message";
    assert_eq!(opset.to_string(), format!("m.onnx: field 8 at byte {at} {cause}"));
    let graph = read_bytes(varint_field(7, 1)).unwrap_err().to_string();
    assert!(graph.ends_with("the field is not length-delimited, so it holds no message"), "{graph}");
    for (number, item) in [(1, "node 0"), (11, "value description"), (15, "sparse initializer")] {
        let graph = bytes_field(7, &bytes_field(number, &varint_field(1, 1)));
        let import = bytes_field(8, &super::opset("", 13).encode_to_vec());
        let error = read_bytes([graph, import].concat()).unwrap_err().to_string();
        assert!(error.starts_with(&format!("m.onnx: {item}: failed to decode Protobuf message")), "{error}");
    }
}

#[test]
fn tensors_that_cannot_be_read_are_named_when_they_are_read() {
    let base = || initializer("w", &Tensor::vector(vec![1f32, 2.0]));
    let cases: Vec<(&str, TensorProto, &str)> = vec![
        ("size", TensorProto { dims: vec![3], ..base() }, "declares dimensions [3], 3 elements, but holds 2"),
        (
            "half an element",
            TensorProto { raw_data: Some(vec![0; 7]), ..base() },
            "holds 7 bytes, which is no whole number of float32 elements",
        ),
        (
            "external data",
            TensorProto { data_location: Some(DataLocation::External.into()), ..base() },
            "has unusable external data: its location is empty; a model may only refer to regular files in its own folder \
             or below; do not use models of unknown origin",
        ),
        (
            "half a float16",
            TensorProto { data_type: Some(10), raw_data: Some(vec![0; 3]), ..base() },
            "holds 3 bytes, which is no whole number of float16 elements",
        ),
        (
            "wide float16",
            TensorProto { data_type: Some(10), raw_data: None, int32_data: vec![1, 1 << 16], ..base() },
            "holds 65536, which float16 elements cannot be",
        ),
        ("text", TensorProto { data_type: Some(8), ..base() }, "has element type 8, which is not supported"),
        (
            "wide int8",
            TensorProto { data_type: Some(3), raw_data: None, int32_data: vec![1, 200], ..base() },
            "holds 200, which int8 elements cannot be",
        ),
        (
            "wide uint32",
            TensorProto { data_type: Some(12), raw_data: None, uint64_data: vec![1, 1 << 32], ..base() },
            "holds 4294967296, which uint32 elements cannot be",
        ),
        (
            "segments",
            TensorProto { segment: Some(Default::default()), ..base() },
            "is stored in segments, which is not supported",
        ),
    ];
    for (name, tensor, expected) in cases {
        let (graph, problems) = read_model(&relu(|_, g| g.initializer.push(tensor))).unwrap();
        assert_eq!(read_constants(&graph), Err(format!("initializer `w` {expected}")), "{name}");
        assert_eq!(problems, [], "{name}");
    }
}

#[test]
fn more_nodes_or_parts_than_any_model_has_are_refused() {
    let bytes = relu(|_, _| {}).encode_to_vec();
    let graph = |fields: Vec<u8>| {
        let import = bytes_field(8, &super::opset("", 13).encode_to_vec());
        read_bytes([import, bytes_field(7, &fields)].concat()).unwrap_err().to_string()
    };
    let limit = "m.onnx: there are more than 131072 nodes, initializers, inputs and outputs";
    for number in [1, 5, 11, 12, 15] {
        assert_eq!(graph(bytes_field(number, b"").repeat(131_073)), limit);
    }
    let attributes = bytes_field(1, &bytes_field(5, b"").repeat(40_000));
    let error = graph(attributes);
    assert!(
        error.starts_with("m.onnx: node 0: is made of so many small parts that reading its 80000 bytes"),
        "{error}"
    );
    let functions = bytes_field(25, &bytes_field(4, b"").repeat(2_000_000));
    let error = read_bytes([bytes, functions].concat()).unwrap_err().to_string();
    assert!(error.starts_with("m.onnx: function: is made of so many small parts"), "{error}");
}
