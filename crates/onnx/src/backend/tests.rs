//! Tests of the back-end on models small enough to read.

use super::*;
use crate::frontend::import;
use crate::ops::emit;
use crate::tensor::encode_tensor;
use quantize_document::{Limits, SourceFile};
use quantize_ir::op::{Conv, FilterLayout, Layout, Padding, Rounding, Unary, Window};
use quantize_ir::{
    ActivationPlan, Decision, KeepReason, NodePlan, Operand, Patch, PatchEdit, QuantParams, QuantType, Tensor,
    WeightPlan,
};
use quantize_proto::onnx::{
    GraphProto, ModelProto, TensorProto, TypeProto, ValueInfoProto, tensor_shape_proto, type_proto,
};
use std::sync::Arc;

const RELU: Op = Op::Unary(Unary::Relu);

fn conv_op() -> Op {
    let window = Window { strides: vec![], dilations: vec![], padding: Padding::Valid, rounding: Rounding::Floor };
    Op::Conv(Conv { window, group: 1, layout: Layout::ChannelsFirst, filter: FilterLayout::OutputFirst })
}

fn node(op: &Op, name: &str, inputs: &[&str], output: &str) -> NodeProto {
    let inputs = inputs.iter().map(|s| (*s).to_owned()).collect();
    emit(op, name, inputs, vec![output.to_owned()], 13).unwrap()
}

fn info(name: &str) -> ValueInfoProto {
    let dim = |n: i64| tensor_shape_proto::Dimension {
        value: Some(tensor_shape_proto::dimension::Value::DimValue(n)),
        ..Default::default()
    };
    let shape = quantize_proto::onnx::TensorShapeProto { dim: [1, 1, 4, 4].map(dim).to_vec() };
    let tensor = type_proto::Tensor { elem_type: Some(1), shape: Some(shape) };
    let r#type = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() };
    ValueInfoProto { name: Some(name.into()), r#type: Some(r#type), ..Default::default() }
}

fn weight(name: &str) -> TensorProto {
    encode_tensor(name, &Tensor::new(vec![1, 1, 1, 1], vec![0.5f32]).unwrap())
}

/// A model from input `x` to the given outputs; every initializer is a 1x1 weight.
fn model(nodes: Vec<NodeProto>, weights: &[&str], outputs: &[&str], opset: i64) -> ModelProto {
    let graph = GraphProto {
        node: nodes,
        initializer: weights.iter().map(|w| weight(w)).collect(),
        input: vec![info("x")],
        output: outputs.iter().map(|o| info(o)).collect(),
        ..Default::default()
    };
    let opset_import = vec![OperatorSetIdProto { domain: None, version: Some(opset) }];
    ModelProto { ir_version: Some(8), graph: Some(graph), opset_import, ..Default::default() }
}

/// A model read in, with a plan under construction.
struct Case {
    document: Arc<OnnxDocument>,
    graph: Graph,
    plan: QuantPlan,
}

impl Case {
    fn new(model: &ModelProto) -> Self {
        let source = SourceFile::from_bytes("test.onnx", model.encode_to_vec());
        let document = Arc::new(OnnxDocument::parse(source, &Limits::default()).unwrap());
        let (graph, problems) = import(&document).unwrap();
        assert_eq!(problems, []);
        let kept = NodePlan { decision: Decision::Keep(KeepReason::Skipped) };
        let nodes = graph.nodes().map(|(id, _)| (id, kept.clone())).collect();
        Self { document, graph, plan: QuantPlan { nodes, ..QuantPlan::default() } }
    }

    fn value(&self, name: &str) -> ValueId {
        self.graph.values().find(|(_, v)| v.name == name).map(|(id, _)| id).unwrap()
    }

    fn node(&self, name: &str) -> NodeId {
        self.graph.nodes().find(|(_, n)| n.name == name).map(|(id, _)| id).unwrap()
    }

    fn pair(mut self, name: &str, shares: &str) -> Self {
        let params = QuantParams::per_tensor(QuantType::U8, 0.5, 3).unwrap();
        let (value, shares) = (self.value(name), self.value(shares));
        let entry = ActivationPlan { params, shares, method: "minmax".into(), sqnr_db: None };
        self.plan.activations.insert(value, entry);
        self
    }

    fn quantize(mut self, name: &str) -> Self {
        let id = self.node(name);
        self.plan.nodes.insert(id, NodePlan { decision: Decision::Quantize });
        if self.graph.node(id).unwrap().input(1).is_some() {
            let params = QuantParams::per_channel(QuantType::I8Narrow, 0, vec![0.25]).unwrap();
            let codes = Arc::new(Tensor::new(vec![1, 1, 1, 1], vec![2i8]).unwrap());
            self.plan.weights.insert((id, 1), WeightPlan { params, codes, sqnr_db: 40.0 });
        }
        self
    }

    fn absorb(mut self, name: &str, into: &str) -> Self {
        let decision = Decision::Absorbed { into: self.node(into) };
        self.plan.nodes.insert(self.node(name), NodePlan { decision });
        self
    }

    fn revision(&self) -> Revision<'_, '_> {
        let (document, graph, plan) = (&*self.document, &self.graph, &self.plan);
        Revision { document, original: graph, graph, plan, form: Form::Qdq }
    }

    fn write(&self) -> ModelProto {
        self.write_over(&self.graph)
    }

    fn write_over(&self, original: &Graph) -> ModelProto {
        let revision = Revision { original, ..self.revision() };
        let encoded = encode(&revision, &Placement::default()).unwrap();
        ModelProto::decode(encoded.to_vec().as_slice()).unwrap()
    }
}

/// `op(inputs)->outputs` for each node.
fn listing(model: &ModelProto) -> Vec<String> {
    let nodes = &model.graph.as_ref().unwrap().node;
    nodes.iter().map(|n| format!("{}({})->{}", n.op_type(), n.input.join(","), n.output.join(","))).collect()
}

fn initializers(model: &ModelProto) -> Vec<&str> {
    model.graph.as_ref().unwrap().initializer.iter().map(TensorProto::name).collect()
}

fn two_convs() -> ModelProto {
    let nodes = vec![
        node(&conv_op(), "conv1", &["x", "w1"], "a"),
        node(&RELU, "relu", &["a"], "r"),
        node(&conv_op(), "conv2", &["r", "w2"], "y"),
    ];
    model(nodes, &["w1", "w2"], &["y"], 13)
}

#[test]
fn a_plan_that_quantizes_nothing_changes_nothing() {
    let case = Case::new(&two_convs());
    let encoded = encode(&case.revision(), &Placement::default()).unwrap();
    assert!(encoded.is_unchanged());
    assert_eq!(encoded.to_vec(), case.document.source().bytes());
}

#[test]
fn a_bounded_activation_vanishes_and_weights_are_replaced() {
    let case = Case::new(&two_convs()).pair("x", "x").pair("r", "r").quantize("conv1").absorb("relu", "conv1");
    let written = case.write();
    assert_eq!(
        listing(&written),
        [
            "QuantizeLinear(x,x_scale,x_zero_point)->x_QuantizeLinear_Output",
            "DequantizeLinear(x_QuantizeLinear_Output,x_scale,x_zero_point)->x_DequantizeLinear_Output",
            "DequantizeLinear(w1_quantized,w1_scale,w1_zero_point)->w1_DequantizeLinear_Output",
            "Conv(x_DequantizeLinear_Output,w1_DequantizeLinear_Output)->r",
            "QuantizeLinear(r,r_scale,r_zero_point)->r_QuantizeLinear_Output",
            "DequantizeLinear(r_QuantizeLinear_Output,r_scale,r_zero_point)->r_DequantizeLinear_Output",
            "Conv(r_DequantizeLinear_Output,w2)->y",
        ]
    );
    assert_eq!(
        initializers(&written),
        ["w2", "x_scale", "x_zero_point", "r_scale", "r_zero_point", "w1_quantized", "w1_scale", "w1_zero_point"]
    );
}

#[test]
fn a_quantized_result_keeps_its_name() {
    let nodes = vec![node(&conv_op(), "conv1", &["x", "w1"], "y"), node(&RELU, "relu", &["y"], "z")];
    let case = Case::new(&model(nodes, &["w1"], &["y", "z"], 13)).pair("x", "x").pair("y", "y").quantize("conv1");
    let written = listing(&case.write());
    assert!(
        written.contains(&"Conv(x_DequantizeLinear_Output,w1_DequantizeLinear_Output)->y_QuantizeLinear_Input".into())
    );
    assert!(written.contains(&"DequantizeLinear(y_QuantizeLinear_Output,y_scale,y_zero_point)->y".into()));
    assert!(written.contains(&"Relu(y)->z".into()));
}

#[test]
fn values_that_share_parameters_share_initializers() {
    let nodes = vec![node(&RELU, "one", &["x"], "a"), node(&RELU, "two", &["a"], "y")];
    let written = Case::new(&model(nodes, &[], &["y"], 13)).pair("x", "x").pair("a", "x").write();
    assert_eq!(initializers(&written), ["x_scale", "x_zero_point"]);
    assert!(listing(&written).contains(&"QuantizeLinear(a,x_scale,x_zero_point)->a_QuantizeLinear_Output".into()));
}

#[test]
fn a_float_node_between_integers_is_guarded() {
    let convs = [("conv1", ["x", "w1"], "a"), ("conv2", ["a", "w2"], "b"), ("conv3", ["b", "w3"], "y")];
    let convs = convs.map(|(name, inputs, output)| node(&conv_op(), name, &inputs, output));
    let convs = model(convs.to_vec(), &["w1", "w2", "w3"], &["y"], 13);
    let case = || Case::new(&convs).pair("x", "x").pair("a", "a").quantize("conv1");
    let written = listing(&case().pair("b", "b").quantize("conv3").write());
    assert!(written.contains(&"Conv(a_DequantizeLinear_Output,w2)->b_real".into()), "{written:?}");
    assert!(written.contains(&"LeakyRelu(b_real)->b".into()), "{written:?}");
    let real_operand = Case::new(&convs).pair("a", "a").quantize("conv2");
    for unguarded in [case(), real_operand] {
        let written = listing(&unguarded.write());
        assert!(!written.iter().any(|n| n.starts_with("LeakyRelu")), "{written:?}");
    }
}

#[test]
fn real_nodes_read_what_a_real_node_computes_before_it_is_rounded() {
    let nodes = vec![
        node(&RELU, "relu", &["x"], "a"),
        node(&conv_op(), "conv1", &["a", "w1"], "b"),
        node(&Op::Unary(Unary::Exp), "exp", &["a"], "z"),
        node(&RELU, "after", &["b"], "y"),
    ];
    let case = Case::new(&model(nodes, &["w1"], &["y", "z"], 13)).pair("a", "a").pair("b", "b").quantize("conv1");
    let written = listing(&case.write());
    assert!(written.contains(&"Exp(a)->z".into()), "{written:?}");
    assert!(written.contains(&"Conv(a_DequantizeLinear_Output,w1_DequantizeLinear_Output)->b".into()), "{written:?}");
    assert!(written.contains(&"Relu(b_DequantizeLinear_Output)->y".into()), "codes have no other: {written:?}");
}

#[test]
fn only_looked_up_entries_are_dequantized() {
    let gather = Op::Gather(quantize_ir::op::Gather { axis: 0 });
    let nodes = vec![node(&gather, "words", &["w1", "ids"], "a"), node(&RELU, "relu", &["a"], "y")];
    let mut original = model(nodes, &["w1"], &["y"], 13);
    original.graph.as_mut().unwrap().input = vec![info("ids")];
    let listed = |params: QuantParams| {
        let mut case = Case::new(&original);
        let id = case.node("words");
        case.plan.nodes.insert(id, NodePlan { decision: Decision::WeightOnly });
        let codes = Arc::new(Tensor::new(vec![1, 1, 1, 1], vec![2i8]).unwrap());
        case.plan.weights.insert((id, 0), WeightPlan { params, codes, sqnr_db: 40.0 });
        let written = case.write();
        let names: Vec<String> = initializers(&written).into_iter().map(str::to_owned).collect();
        (listing(&written), names)
    };
    let (nodes, names) = listed(QuantParams::per_channel(QuantType::I8Narrow, 0, vec![0.25]).unwrap());
    assert_eq!(
        nodes,
        [
            "Gather(w1_quantized,ids)->a_codes",
            "Cast(a_codes)->a_unscaled",
            "Gather(w1_scale,ids)->a_scales",
            "Mul(a_unscaled,a_scales)->a",
            "Relu(a)->y",
        ]
    );
    assert_eq!(names, ["w1_quantized", "w1_scale"]);
    let (nodes, _) = listed(QuantParams::per_tensor(QuantType::I8Narrow, 0.25, 0).unwrap());
    assert_eq!(nodes[2], "Mul(a_unscaled,w1_scale)->a");
}

#[test]
fn a_float_node_with_an_activation_between_integers_is_guarded_behind_it() {
    let nodes = vec![
        node(&conv_op(), "first", &["x", "w1"], "q"),
        node(&conv_op(), "conv", &["q", "w1"], "c"),
        node(&RELU, "relu", &["c"], "a"),
        node(&conv_op(), "next", &["a", "w1"], "y"),
    ];
    let case = Case::new(&model(nodes, &["w1"], &["y"], 13)).quantize("first");
    let written = listing(&case.pair("x", "x").pair("q", "q").pair("a", "a").write());
    assert!(written.contains(&"Relu(c)->a_real".into()), "{written:?}");
    assert!(written.contains(&"LeakyRelu(a_real)->a".into()), "{written:?}");
}

#[test]
fn an_inserted_node_stands_behind_what_it_reads_under_names_of_its_own() {
    let nodes = vec![
        node(&RELU, "relu", &["x"], "a"),
        node(&RELU, "taken", &["a"], "a_scaled"),
        node(&conv_op(), "next", &["a", "w1"], "y"),
    ];
    let mut case = Case::new(&model(nodes, &["w1"], &["y", "a_scaled"], 13)).quantize("next");
    let original = case.graph.clone();
    let half = Operand::Constant { name: "half".into(), tensor: Tensor::vector(vec![0.5f32]) };
    let insert = PatchEdit::Insert {
        name: "taken".into(),
        op: Op::Binary(quantize_ir::op::Binary::Mul),
        from: case.value("a"),
        others: vec![half],
        output: "a_scaled".into(),
        readers: vec![(case.node("next"), 0)],
    };
    case.graph.apply(Patch { pass: "test", because: String::new(), edits: vec![insert] }).unwrap();
    let (id, _) = case.graph.nodes().last().unwrap();
    case.plan.nodes.insert(id, NodePlan { decision: Decision::Keep(KeepReason::RealOperands) });
    let between = case.graph.node(id).unwrap().output(0).unwrap();
    let params = QuantParams::per_tensor(QuantType::U8, 0.5, 3).unwrap();
    let entry = ActivationPlan { params, shares: between, method: "minmax".into(), sqnr_db: None };
    case.plan.activations.insert(between, entry);
    let written = case.write_over(&original);
    assert_eq!(
        listing(&written)[..4],
        [
            "Relu(x)->a",
            "Mul(a,half)->a_scaled_1",
            "QuantizeLinear(a_scaled_1,a_scaled_1_scale,a_scaled_1_zero_point)->a_scaled_1_QuantizeLinear_Output",
            "DequantizeLinear(a_scaled_1_QuantizeLinear_Output,a_scaled_1_scale,a_scaled_1_zero_point)->a_scaled_1_DequantizeLinear_Output",
        ]
    );
    assert!(initializers(&written).contains(&"half"));
}

#[test]
fn what_fed_only_vanished_nodes_is_left_out() {
    let nodes = vec![
        node(&RELU, "weight_maker", &["w0"], "w1"),
        node(&RELU, "bystander", &["w0"], "unread"),
        node(&conv_op(), "conv1", &["x", "w1"], "y"),
    ];
    let case = Case::new(&model(nodes, &["w0"], &["y"], 13)).pair("x", "x").quantize("conv1");
    let written = listing(&case.write());
    assert!(!written.iter().any(|n| n.ends_with("->w1")), "{written:?}");
    assert!(written.contains(&"Relu(w0)->unread".into()), "a node nobody read before stays: {written:?}");
}

#[test]
fn names_in_use_are_avoided() {
    let nodes = vec![node(&RELU, "x_scale", &["x"], "x_zero_point"), node(&RELU, "two", &["x_zero_point"], "y")];
    let written = Case::new(&model(nodes, &[], &["y"], 13)).pair("x", "x").write();
    assert_eq!(initializers(&written), ["x_scale_1", "x_zero_point_1"]);
}

#[test]
fn an_old_model_is_raised_where_operators_changed() {
    let mut softmax = node(&RELU, "softmax", &["a"], "y");
    softmax.op_type = Some("Softmax".into());
    let mut old = model(vec![node(&RELU, "relu", &["x"], "a"), softmax], &[], &["y"], 9);
    old.ir_version = Some(3);
    let written = Case::new(&old).pair("x", "x").write();
    assert_eq!((written.ir_version(), written.opset_import[0].version()), (7, 13));
    assert_eq!(
        listing(&written)[1..],
        [
            "Relu(x)->a",
            "Shape(a)->y_shape",
            "Flatten(a)->y_flat",
            "Softmax(y_flat)->y_flat_result",
            "Reshape(y_flat_result,y_shape)->y",
        ]
    );
}

#[test]
fn untouched_messages_keep_their_bytes() {
    let mut original = two_convs();
    let graph = original.graph.as_mut().unwrap();
    graph.node[2].doc_string = Some("kept".into());
    graph.value_info = vec![info("a"), info("r")];
    original.producer_name = Some("someone".into());
    let case = Case::new(&original).pair("x", "x").pair("r", "r").quantize("conv1").absorb("relu", "conv1");
    let written = case.write();
    let graph = written.graph.as_ref().unwrap();
    let conv2 = graph.node.iter().find(|n| n.name() == "conv2").unwrap();
    assert_eq!((conv2.doc_string(), written.producer_name()), ("kept", "someone"));
    let described: Vec<&str> = graph.value_info.iter().map(ValueInfoProto::name).collect();
    assert_eq!(described, ["r"], "descriptions of values that are gone go too");
    assert_eq!(written.metadata_props[0].key(), "onnx.infer");
}

#[test]
fn a_chain_of_doublings_behind_a_float_node_takes_no_longer_than_its_length() {
    let mut nodes = vec![node(&conv_op(), "conv1", &["x", "w1"], "a0")];
    for i in 0..100 {
        let (from, to) = (format!("a{i}"), format!("a{}", i + 1));
        nodes.push(node(&Op::Binary(quantize_ir::op::Binary::Add), &to, &[&from, &from], &to));
    }
    nodes.push(node(&RELU, "relu", &["a100"], "y"));
    let written = Case::new(&model(nodes, &["w1"], &["y"], 13)).pair("x", "x").pair("a100", "a100").write();
    assert!(!listing(&written).iter().any(|n| n.starts_with("LeakyRelu")), "nothing merges into the convolution");
}
