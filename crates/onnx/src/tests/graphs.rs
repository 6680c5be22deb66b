//! How nodes become operators and names become wires.

use super::*;
use quantize_ir::op::{Opaque, Softmax, Unary};
use quantize_ir::{Node, Op};
use quantize_proto::onnx::{FunctionProto, SparseTensorProto};

fn read(model: &ModelProto) -> (Graph, Vec<Problem>) {
    read_model(model).unwrap()
}

fn at(graph: &Graph, index: usize) -> &Node {
    graph.nodes().nth(index).unwrap().1
}

fn operands(graph: &Graph, index: usize) -> Vec<&str> {
    at(graph, index).inputs.iter().map(|v| v.map_or("", |v| graph.value(v).name.as_str())).collect()
}

fn opaque(kind: &str) -> Op {
    Op::Opaque(Opaque { domain: String::new(), kind: kind.into() })
}

#[test]
fn graphs_inside_a_node_read_the_values_around_it() {
    let innermost = GraphProto {
        node: vec![node("Add", &["deep", "inner"], &["sum"], vec![])],
        output: vec![info("sum")],
        ..Default::default()
    };
    let then = GraphProto {
        node: vec![
            node("Relu", &["outer"], &["inner"], vec![]),
            node("If", &["c"], &["t"], vec![subgraph("then_branch", innermost)]),
        ],
        output: vec![info("t")],
        ..Default::default()
    };
    let otherwise = GraphProto { output: vec![info("x")], ..Default::default() };
    let body = GraphProto {
        input: vec![info("i"), info("go"), info("state")],
        initializer: vec![initializer("one", &Tensor::scalar(1f32))],
        node: vec![node("Sum", &["state", "one", "deep"], &["next"], vec![])],
        output: vec![info("go"), info("next")],
        ..Default::default()
    };
    let branches = vec![subgraph("then_branch", then), subgraph("else_branch", otherwise)];
    let nodes = vec![
        node("Relu", &["x"], &["outer"], vec![]),
        node("Relu", &["x"], &["deep"], vec![]),
        node("Cast", &["x"], &["c"], vec![int("to", 9)]),
        node("If", &["c"], &["chosen"], branches),
        node("Loop", &["", "c", "chosen"], &["y"], vec![subgraph("body", body)]),
    ];
    let (graph, problems) = read(&model(13, nodes));
    assert_eq!(problems, []);
    assert_eq!(at(&graph, 3).op, opaque("If"));
    assert_eq!(operands(&graph, 3), ["c", "c", "deep", "outer", "x"]);
    assert_eq!(operands(&graph, 4), ["", "c", "chosen", "deep"]);
}

#[test]
fn constant_nodes_are_values() {
    let value = initializer("", &Tensor::vector(vec![1f32, 2.0]));
    let text_list = AttributeProto { strings: vec![b"a".to_vec()], ..text("value_strings", "") };
    let nodes = vec![
        node("Add", &["x", "t"], &["y"], vec![]),
        node("Constant", &[], &["t"], vec![tensor("value", value)]),
        node("Constant", &[], &["f"], vec![float("value_float", 0.5)]),
        node("Constant", &[], &["i"], vec![int("value_int", -3)]),
        node("Constant", &[], &["fs"], vec![floats("value_floats", &[1.0])]),
        node("Constant", &[], &["is"], vec![ints("value_ints", &[4, 5])]),
        node("Constant", &[], &["s"], vec![text_list]),
    ];
    let (graph, problems) = read(&model(13, nodes));
    let constant = |name: &str| {
        let (id, _) = graph.values().find(|(_, v)| v.name == name).unwrap();
        graph.constant(id).unwrap().map(|t| (*t).clone())
    };
    assert_eq!(constant("t"), Some(Tensor::vector(vec![1f32, 2.0])));
    assert_eq!(constant("f"), Some(Tensor::scalar(0.5f32)));
    assert_eq!(constant("i"), Some(Tensor::scalar(-3i64)));
    assert_eq!(constant("fs"), Some(Tensor::vector(vec![1f32])));
    assert_eq!(constant("is"), Some(Tensor::vector(vec![4i64, 5])));
    assert_eq!(constant("s"), None);
    assert_eq!(problems, []);
}

#[test]
fn a_constant_node_that_cannot_be_read_is_a_problem() {
    let text = TensorProto { data_type: Some(8), raw_data: None, ..initializer("", &Tensor::scalar(1f32)) };
    let mut constant = node("Constant", &[], &["t"], vec![tensor("value", text)]);
    constant.name = Some("text".into());
    let (graph, problems) = read(&model(13, vec![constant, node("Add", &["x", "t"], &["y"], vec![])]));
    let messages: Vec<String> = problems.iter().map(Problem::to_string).collect();
    assert_eq!(messages, ["node `text`: its tensor has element type 8, which is not supported"]);
    assert_eq!(read_constants(&graph), Ok(()));
}

#[test]
fn an_input_with_a_default_is_its_default() {
    let (graph, _) = read(&relu(|_, g| {
        g.node = vec![node("Add", &["x", "w"], &["y"], vec![])];
        g.input.push(info("w"));
        g.initializer.push(initializer("w", &Tensor::scalar(2f32)));
    }));
    let inputs: Vec<&str> = graph.inputs().iter().map(|v| graph.value(*v).name.as_str()).collect();
    assert_eq!(inputs, ["x"]);
    let w = at(&graph, 0).input(1).unwrap();
    assert_eq!(*graph.constant(w).unwrap().unwrap(), Tensor::scalar(2f32));
}

#[test]
fn operators_without_shared_semantics_are_opaque() {
    let mut custom = node("Relu", &["x"], &["b"], vec![]);
    custom.domain = Some("custom".into());
    let nodes = vec![
        node("Relu", &["x"], &["a"], vec![]),
        custom,
        node("NonZero", &["a"], &["c"], vec![]),
        node("Tanh", &["b"], &["y"], vec![]),
    ];
    let function = FunctionProto { name: Some("Tanh".into()), domain: Some("ai.onnx".into()), ..Default::default() };
    let (graph, problems) = read(&ModelProto { functions: vec![function], ..model(13, nodes) });
    assert_eq!(at(&graph, 0).op, Op::Unary(Unary::Relu));
    assert_eq!(at(&graph, 1).op, Op::Opaque(Opaque { domain: "custom".into(), kind: "Relu".into() }));
    assert_eq!(at(&graph, 2).op, opaque("NonZero"));
    assert_eq!(at(&graph, 3).op, opaque("Tanh"));
    assert_eq!(problems, []);
}

#[test]
fn a_model_of_its_own_operators_needs_no_standard_ones() {
    let function = FunctionProto { name: Some("Relu".into()), ..Default::default() };
    let (graph, _) = read(&relu(|m, _| {
        m.opset_import = vec![opset("custom", 1)];
        m.functions = vec![function];
    }));
    assert_eq!(at(&graph, 0).op, opaque("Relu"));
}

#[test]
fn opsets_outside_the_known_ones_are_problems() {
    let relu = || vec![node("Relu", &["x"], &["y"], vec![])];
    let (graph, problems) = read(&model(5, relu()));
    assert_eq!(problems[0].message, "opset 5 is older than 6; its operators are not known");
    assert_eq!(at(&graph, 0).op, opaque("Relu"));
    let (graph, problems) = read(&model(99, relu()));
    assert_eq!(problems[0].message, "opset 99 is newer than 28; operators are read as of 28");
    assert_eq!(at(&graph, 0).op, Op::Unary(Unary::Relu));
}

#[test]
fn a_node_in_a_form_that_is_not_known_is_carried_with_a_problem() {
    let mut conv = node("Conv", &["x"], &["y"], vec![]);
    conv.name = Some("conv1".into());
    let (graph, problems) = read(&model(13, vec![conv]));
    assert_eq!(at(&graph, 0).op, opaque("Conv"));
    assert_eq!(problems[0].to_string(), "node `conv1`: Conv: operand 1 is missing; the node is carried as it is");
}

#[test]
fn dropout_is_identity_when_told_not_to_train() {
    let dropout = |flag: &str| model(13, vec![node("Dropout", &["x", "", flag], &["y"], vec![])]);
    let with = |mut model: ModelProto, flag: bool| {
        model.graph.as_mut().unwrap().initializer.push(initializer("flag", &Tensor::scalar(flag)));
        model
    };
    let (graph, problems) = read(&with(dropout("flag"), false));
    assert_eq!((&at(&graph, 0).op, operands(&graph, 0)), (&Op::Identity, vec!["x"]));
    assert_eq!(problems, []);
    assert_eq!(at(&read(&with(dropout("flag"), true)).0, 0).op, opaque("Dropout"));
    assert_eq!(at(&read(&dropout("x")).0, 0).op, opaque("Dropout"));
    let node_flag = tensor("value", initializer("", &Tensor::scalar(false)));
    let mut late = dropout("flag");
    late.graph.as_mut().unwrap().node.push(node("Constant", &[], &["flag"], vec![node_flag]));
    assert_eq!(at(&read(&late).0, 0).op, Op::Identity);
}

#[test]
fn old_softmax_over_the_last_axis_needs_no_flattening() {
    let softmax = |axis, flatten| Op::Softmax(Softmax { axis, flatten, log: false });
    let soft = |x: &str, axis| node("Softmax", &[x], &["y"], vec![int("axis", axis)]);
    let declared = |rank, axis| {
        let mut model = model(11, vec![soft("x", axis)]);
        model.graph.as_mut().unwrap().input = vec![ranked("x", rank)];
        model
    };
    let behind = |op: &str| model(11, vec![node(op, &["x", "x"], &["m"], vec![]), soft("m", 1)]);
    let flattened = model(11, vec![node("Flatten", &["x"], &["m"], vec![]), soft("m", 1)]);
    let cases = [
        ("rank unknown", model(11, vec![soft("x", 1)]), softmax(1, true)),
        ("last of two", declared(2, 1), softmax(1, false)),
        ("second of four", declared(4, 1), softmax(1, true)),
        ("last of four", declared(4, 3), softmax(3, false)),
        ("counted from the end", model(11, vec![soft("x", -1)]), softmax(-1, false)),
        ("behind Gemm", behind("Gemm"), softmax(1, false)),
        ("behind Flatten", flattened, softmax(1, false)),
        ("behind MatMul", behind("MatMul"), softmax(1, true)),
    ];
    for (name, model, expected) in cases {
        let (graph, _) = read(&model);
        assert_eq!(graph.nodes().last().unwrap().1.op, expected, "{name}");
    }
}

#[test]
fn sparse_initializers_are_values_without_data() {
    let sparse = SparseTensorProto { values: Some(initializer("s", &Tensor::scalar(1f32))), ..Default::default() };
    let (graph, _) = read(&relu(|_, g| {
        g.node = vec![node("Add", &["x", "s"], &["y"], vec![])];
        g.sparse_initializer.push(sparse);
    }));
    let s = at(&graph, 0).input(1).unwrap();
    assert!(graph.constant(s).unwrap().is_none());
}
