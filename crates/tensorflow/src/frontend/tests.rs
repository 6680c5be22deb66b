//! What graphs become: wiring, operators that are carried, and requests.

use super::*;
use crate::tensor::TensorProto;
use quantize_ir::op::{Conv, FilterLayout, Layout, Padding};

fn constant(name: &str, tensor: Tensor) -> NodeDef {
    NodeDef::constant(name, TensorProto::new(DataType::of_elements(tensor.dtype()), &tensor).unwrap())
}

fn node(name: &str, op: &str, inputs: &[&str]) -> NodeDef {
    NodeDef::new(name, op).with_inputs(inputs.to_vec())
}

fn imported(nodes: Vec<NodeDef>, outputs: &[&str]) -> (Graph, Vec<Problem>) {
    import(&Arc::new(GraphDef::new(nodes)), &wanted(outputs)).unwrap()
}

fn wanted(outputs: &[&str]) -> Request {
    Request { inputs: Vec::new(), outputs: outputs.iter().map(|name| (*name).to_owned()).collect() }
}

fn operators(graph: &Graph) -> Vec<(&str, &str)> {
    graph.nodes().map(|(_, node)| (node.name.as_str(), node.op.name())).collect()
}

#[test]
fn an_unknown_operator_is_carried_with_its_wiring() {
    let nodes = vec![node("x", "Placeholder", &[]), node("odd", "Odd", &["x"]), node("y", "Relu", &["odd:1"])];
    let (graph, problems) = imported(nodes, &[]);
    assert_eq!(operators(&graph), [("odd", "Odd"), ("y", "Relu")]);
    let expected = "node `odd`: the operator Odd is not known; the node is carried as it is";
    assert_eq!(problems.iter().map(ToString::to_string).collect::<Vec<_>>(), [expected]);
    let read = graph.nodes().nth(1).unwrap().1.input(0).unwrap();
    assert_eq!((graph.value(read).name.as_str(), graph.value(read).producer().unwrap().1), ("odd:1", 1));
}

#[test]
fn a_depthwise_weight_stands_where_a_grouped_one_does() {
    let conv = node("y", "DepthwiseConv2dNative", &["x", "w"])
        .with_attr("strides", vec![1i64, 2, 2, 1])
        .with_attr("padding", "SAME");
    let weight = Tensor::new([1, 1, 3, 2], (0..6u8).map(f32::from).collect()).unwrap();
    let (graph, problems) = imported(vec![node("x", "Placeholder", &[]), constant("w", weight), conv], &["y"]);
    assert!(problems.is_empty());
    let (_, found) = graph.nodes().next().unwrap();
    let Op::Conv(Conv { window, group, layout, filter }) = &found.op else { panic!("{:?}", found.op) };
    assert_eq!((window.strides.as_slice(), &window.padding), (&[2, 2][..], &Padding::SameUpper));
    assert_eq!((*group, *layout, *filter), (3, Layout::ChannelsLast, FilterLayout::OutputLast));
    let weight = graph.constant(found.input(1).unwrap()).unwrap().unwrap();
    assert_eq!(weight.shape(), [1, 1, 1, 6]);
    assert_eq!(weight.as_slice::<f32>().unwrap(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
}

#[test]
fn a_branch_that_a_constant_closes_is_left_out() {
    let nodes = vec![
        node("x", "Placeholder", &[]),
        constant("training", Tensor::scalar(false)),
        node("switch", "Switch", &["x", "training"]),
        node("noise", "Odd", &["switch:1"]),
        node("calm", "Relu", &["switch"]),
        node("merge", "Merge", &["noise", "calm"]),
        node("y", "Tanh", &["merge"]),
    ];
    let (graph, problems) = imported(nodes, &["y"]);
    assert_eq!(operators(&graph), [("calm", "Relu"), ("y", "Tanh")]);
    assert!(problems.is_empty());
}

#[test]
fn what_passes_a_tensor_on_is_passed_over_unless_it_is_wanted() {
    let nodes = || {
        let kept = node("kept", "Identity", &["y"]);
        vec![node("x", "Placeholder", &[]), node("seen", "Identity", &["x"]), node("y", "Relu", &["seen"]), kept]
    };
    assert_eq!(operators(&imported(nodes(), &[]).0), [("y", "Relu"), ("kept", "Identity")]);
    assert_eq!(operators(&imported(nodes(), &["y"]).0), [("y", "Relu")]);
}

#[test]
fn only_what_the_request_needs_is_imported() {
    let nodes = vec![
        node("raw", "Placeholder", &[]),
        node("decoded", "DecodeJpeg", &["raw"]),
        node("y", "Relu", &["decoded", "^raw"]),
        node("other", "Tanh", &["decoded"]),
    ];
    let request = Request { inputs: vec!["decoded:0".into()], outputs: vec!["y".into()] };
    let (graph, problems) = import(&Arc::new(GraphDef::new(nodes)), &request).unwrap();
    assert_eq!((operators(&graph), problems.len()), (vec![("y", "Relu")], 0));
    assert_eq!(graph.inputs().iter().map(|v| graph.value(*v).name.as_str()).collect::<Vec<_>>(), ["decoded"]);
}

#[test]
fn a_name_that_does_not_exist_is_close_to_one_that_does() {
    let graph = Arc::new(GraphDef::new(vec![node("input", "Placeholder", &[]), node("predict", "Relu", &["input"])]));
    let error = import(&graph, &wanted(&["predictt"])).unwrap_err();
    assert_eq!(error.to_string(), "there is no node `predictt` in the graph");
    assert_eq!(error.hint().unwrap(), "did you mean `predict`?");
    let alone = Arc::new(GraphDef::new(vec![node("input", "Placeholder", &[])]));
    assert_eq!(import(&alone, &wanted(&[])).unwrap_err().to_string(), "no node of the graph is a likely output");
}

#[test]
fn ranges_with_masks_are_slices() {
    let list = |values: [i32; 3]| Tensor::vector(values.to_vec());
    let slice = node("y", "StridedSlice", &["x", "begin", "end", "strides"])
        .with_attr("begin_mask", 1i64)
        .with_attr("end_mask", 1i64)
        .with_attr("shrink_axis_mask", 4i64);
    let bounds = [("begin", list([5, 1, -1])), ("end", list([0, 3, 0])), ("strides", list([1, 1, 1]))];
    let constants = bounds.into_iter().map(|(name, tensor)| constant(name, tensor));
    let nodes = constants.chain([node("x", "Placeholder", &[]), slice]).collect();
    let (graph, _) = imported(nodes, &["y"]);
    assert_eq!(operators(&graph), [("y/taken", "Slice"), ("y", "Squeeze")]);
    let (_, taken) = graph.nodes().next().unwrap();
    let operand = |slot: usize| graph.constant(taken.input(slot).unwrap()).unwrap().unwrap().to_i64_vec().unwrap();
    assert_eq!([1, 2, 3, 4].map(operand), [vec![0, 1, -1], vec![i64::MAX, 3, i64::MAX], vec![0, 1, 2], vec![1, 1, 1]]);
}
