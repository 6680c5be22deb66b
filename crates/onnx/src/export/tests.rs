//! Tests of what is written: every operator, names, constants, signatures, refusals. What lowered operators compute is
//! tested across crates.

use super::*;
use crate::ops::tests::{Form, forms};
use crate::{OnnxDocument, import};
use quantize_document::{Limits, SourceFile};
use quantize_ir::op::{
    BatchNorm, Binary, Conv, FilterLayout, Layout, Lrn, LrnRegion, MaxPool, Opaque, Padding, Rounding, Split, Unary,
    Window,
};
use quantize_ir::{Origin, Value};
use quantize_proto::onnx::tensor_shape_proto::dimension;
use quantize_proto::onnx::type_proto;

const RELU: Op = Op::Unary(Unary::Relu);

/// A graph under construction.
#[derive(Default)]
struct Sketch(Graph);

impl Sketch {
    fn value(&mut self, name: &str) -> ValueId {
        self.0.add_value(Value::named(name))
    }

    fn shaped(&mut self, name: &str, shape: Shape) -> ValueId {
        let mut value = Value::named(name);
        (value.shape, value.dtype) = (Some(shape), Some(DType::F32));
        self.0.add_value(value)
    }

    fn constant(&mut self, name: &str, tensor: Tensor) -> ValueId {
        let origin = Origin::Synthesized { pass: "test", from: vec![] };
        self.0.add_constant(name, Constant::owned(tensor), DType::F32, origin)
    }

    fn node(&mut self, name: &str, op: Op, inputs: &[ValueId], outputs: &[ValueId]) {
        let some = |values: &[ValueId]| values.iter().map(|v| Some(*v)).collect();
        let origin = Origin::Synthesized { pass: "test", from: vec![] };
        let node = Node { name: name.into(), op, inputs: some(inputs), outputs: some(outputs), after: vec![], origin };
        self.0.add_node(node).unwrap();
    }

    fn between(mut self, inputs: &[ValueId], outputs: &[ValueId]) -> Graph {
        self.0.set_inputs(inputs.to_vec());
        self.0.set_outputs(outputs.to_vec());
        self.0
    }
}

fn known(dims: &[u64]) -> Shape {
    dims.iter().map(|n| Dim::Known(*n)).collect()
}

fn written(graph: &Graph) -> (ModelProto, GraphProto) {
    let bytes = export(graph, "g").unwrap_or_else(|error| panic!("{error}"));
    let mut model = ModelProto::decode(bytes.as_slice()).unwrap();
    let body = model.graph.take().unwrap();
    (model, body)
}

fn read(bytes: Vec<u8>) -> Graph {
    let document = OnnxDocument::parse(SourceFile::from_bytes("m.onnx", bytes), &Limits::default()).unwrap();
    import(&Arc::new(document)).unwrap().0
}

/// Nodes as `name:Type(operands)->results`.
fn lines(graph: &GraphProto) -> Vec<String> {
    let line = |n: &NodeProto| format!("{}:{}({})->{}", n.name(), n.op_type(), n.input.join(","), n.output.join(","));
    graph.node.iter().map(line).collect()
}

fn initializers(graph: &GraphProto) -> Vec<&str> {
    graph.initializer.iter().map(|t| t.name()).collect()
}

fn refusals(graph: &Graph) -> Vec<String> {
    match export(graph, "g") {
        Err(OnnxError::Inexpressible { refusals, .. }) => refusals.iter().map(Refusal::to_string).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_operator_is_written_at_its_first_opset_and_reads_back_the_same() {
    for Form(op, inputs, outputs, since) in forms() {
        let mut sketch = Sketch::default();
        let operands: Vec<ValueId> = (0..inputs).map(|i| sketch.value(&format!("i{i}"))).collect();
        let results: Vec<ValueId> = (0..outputs).map(|i| sketch.value(&format!("o{i}"))).collect();
        sketch.node("n", op.clone(), &operands, &results);
        let graph = sketch.between(&operands, &results);
        let (model, _) = written(&graph);
        assert_eq!(model.opset_import[0].version(), since, "{op:?}");
        let back = read(export(&graph, "g").unwrap());
        let nodes: Vec<&Node> = back.nodes().map(|(_, node)| node).collect();
        assert_eq!(nodes.len(), 1, "{op:?}");
        assert_eq!((&nodes[0].op, nodes[0].name.as_str()), (&op, "n"));
        assert_eq!((back.inputs().len(), back.outputs().len()), (inputs, outputs), "{op:?}");
    }
}

#[test]
fn a_model_says_what_it_is() {
    let mut sketch = Sketch::default();
    let (x, y) = (sketch.value("x"), sketch.value("y"));
    sketch.node("n", Op::Unary(Unary::Mish), &[x], &[y]);
    let (model, graph) = written(&sketch.between(&[x], &[y]));
    assert_eq!((model.ir_version(), model.producer_name(), graph.name()), (8, "quantize", "g"));
    assert_eq!(model.opset_import, [OperatorSetIdProto { domain: Some(String::new()), version: Some(18) }]);
}

#[test]
fn names_are_kept_where_they_are_unique_and_made_where_they_are_not() {
    let mut sketch = Sketch::default();
    let names = ["a", "x", "", "a", "", "a_1", "y"];
    let v: Vec<ValueId> = names.iter().map(|name| sketch.value(name)).collect();
    // Added first, but the input of the same name chooses before it.
    sketch.node("a", RELU, &[v[3]], &[v[0]]);
    sketch.node("", RELU, &[v[0]], &[v[2]]);
    sketch.node("a", RELU, &[v[2]], &[v[4]]);
    sketch.node("Relu", RELU, &[v[4]], &[v[5]]);
    sketch.node("", RELU, &[v[5]], &[v[6]]);
    let (_, graph) = written(&sketch.between(&[v[3]], &[v[6]]));
    assert_eq!(
        lines(&graph),
        [
            "a:Relu(a)->a_2",
            "Relu_1:Relu(a_2)->value",
            "a_1:Relu(value)->value_1",
            "Relu:Relu(value_1)->a_1",
            "Relu_2:Relu(a_1)->y"
        ]
    );
}

#[test]
fn only_what_the_outputs_depend_on_is_written() {
    let mut sketch = Sketch::default();
    let [x, sum, y, dead, alien] = ["x", "sum", "y", "dead", "alien"].map(|name| sketch.value(name));
    let [one, two, unread] = ["one", "two", "unread"].map(|name| sketch.constant(name, Tensor::scalar(1f32)));
    sketch.0.value_mut(sum).constant = Some(Constant::owned(Tensor::scalar(2f32)));
    sketch.node("folded", Op::Binary(Binary::Add), &[one, two], &[sum]);
    sketch.node("add", Op::Binary(Binary::Add), &[x, sum], &[y]);
    sketch.node("dead", Op::Binary(Binary::Mul), &[y, unread], &[dead]);
    sketch.node("alien", Op::Opaque(Opaque { domain: String::new(), kind: "Odd".into() }), &[y], &[alien]);
    let (_, graph) = written(&sketch.between(&[x], &[y]));
    assert_eq!(lines(&graph), ["add:Add(x,sum)->y"]);
    assert_eq!(initializers(&graph), ["sum"]);
}

#[test]
fn results_nobody_reads_are_left_out_where_the_operator_allows_it() {
    let mut sketch = Sketch::default();
    let [x, pooled, indices, left, right] = ["x", "pooled", "indices", "left", "right"].map(|name| sketch.value(name));
    let window = Window { strides: vec![], dilations: vec![], padding: Padding::Valid, rounding: Rounding::Floor };
    let pool = MaxPool { kernel: vec![2], window, column_major: false, layout: Layout::ChannelsFirst };
    sketch.node("pool", Op::MaxPool(pool), &[x], &[pooled, indices]);
    sketch.node("split", Op::Split(Split { axis: 0 }), &[pooled], &[left, right]);
    let (_, graph) = written(&sketch.between(&[x], &[right]));
    assert_eq!(lines(&graph), ["pool:MaxPool(x)->pooled", "split:Split(pooled)->unread,right"]);
}

#[test]
fn outputs_that_are_inputs_or_constants_or_come_twice_are_passed_on() {
    let mut sketch = Sketch::default();
    let (x, y) = (sketch.value("x"), sketch.value("y"));
    let k = sketch.constant("k", Tensor::scalar(1f32));
    sketch.node("relu", RELU, &[x], &[y]);
    let (_, graph) = written(&sketch.between(&[x], &[y, x, k, y]));
    let outputs: Vec<&str> = graph.output.iter().map(|o| o.name()).collect();
    assert_eq!(outputs, ["y", "x_1", "k", "y_1"]);
    assert_eq!(
        lines(&graph),
        ["relu:Relu(x)->y", "x_1_output:Identity(x)->x_1", "k_output:Identity(k_1)->k", "y_1_output:Identity(y)->y_1"]
    );
    assert_eq!(initializers(&graph), ["k_1"]);
}

#[test]
fn signatures_declare_types_and_name_unknown_dimensions() {
    let dims = |info: &ValueInfoProto| -> String {
        let Some(type_proto::Value::TensorType(tensor)) = info.r#type.clone().unwrap().value else {
            panic!("{info:?}")
        };
        let dim = |d: &quantize_proto::onnx::tensor_shape_proto::Dimension| match &d.value {
            Some(dimension::Value::DimValue(n)) => n.to_string(),
            Some(dimension::Value::DimParam(name)) => name.clone(),
            None => "?".into(),
        };
        let shape = tensor.shape.as_ref().map(|s| s.dim.iter().map(dim).collect::<Vec<_>>().join(","));
        format!("{} {} [{}]", info.name(), tensor.elem_type(), shape.unwrap_or("none".into()))
    };
    let sketch = |inputs: usize| {
        let mut sketch = Sketch::default();
        let x = sketch.shaped("x", vec![Dim::Unknown, Dim::Known(3), Dim::Symbol("H".into()), Dim::Unknown]);
        let other = sketch.value("other");
        let mid = sketch.shaped("mid", vec![Dim::Unknown, Dim::Known(3)]);
        let (y, count) = (sketch.shaped("y", vec![Dim::Unknown]), sketch.value("count"));
        sketch.node("a", RELU, &[x], &[mid]);
        sketch.node("b", RELU, &[mid], &[y]);
        sketch.node("c", Op::Size, &[mid], &[count]);
        written(&sketch.between(&[x, other][..inputs], &[y, count])).1
    };
    let all = |infos: &[ValueInfoProto]| infos.iter().map(dims).collect::<Vec<_>>();
    assert_eq!(all(&sketch(1).input), ["x 1 [N,3,H,x_3]"]);
    assert_eq!(all(&sketch(2).input), ["x 1 [x_0,3,H,x_3]", "other 1 [none]"]);
    assert_eq!(all(&sketch(1).output), ["y 1 [y_0]", "count 7 []"]);
    assert_eq!(all(&sketch(1).value_info), ["mid 1 [?,3]"]);
}

fn conv(layout: Layout, filter: FilterLayout, rounding: Rounding) -> Op {
    let window = Window { strides: vec![2, 2], dilations: vec![], padding: Padding::none(), rounding };
    Op::Conv(Conv { window, group: 1, layout, filter })
}

#[test]
fn channels_last_is_written_by_transposing_and_constant_weights_are_turned_around() {
    let mut sketch = Sketch::default();
    let (x, y) = (sketch.value("x"), sketch.value("y"));
    let weight = Tensor::new([1, 2, 3, 1], vec![1f32, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
    let w = sketch.constant("w", weight);
    sketch.node("conv", conv(Layout::ChannelsLast, FilterLayout::OutputLast, Rounding::Floor), &[x, w], &[y]);
    let (_, graph) = written(&sketch.between(&[x], &[y]));
    assert_eq!(
        lines(&graph),
        [
            "conv_channels_first:Transpose(x)->y_channels_first",
            "conv:Conv(y_channels_first,y_output_first)->y_channels_first_result",
            "conv_channels_last:Transpose(y_channels_first_result)->y",
        ]
    );
    let perms: Vec<&[i64]> =
        graph.node.iter().flat_map(|n| &n.attribute).filter(|a| a.name() == "perm").map(|a| &*a.ints).collect();
    assert_eq!(perms, [[0, 3, 1, 2], [0, 2, 3, 1]]);
    assert_eq!(initializers(&graph), ["y_output_first"]);
    let turned = crate::tensor::decode_tensor(&graph.initializer[0]).unwrap();
    assert_eq!(turned, Tensor::new([1, 3, 1, 2], vec![1f32, 4.0, 2.0, 5.0, 3.0, 6.0]).unwrap());
}

#[test]
fn everything_that_cannot_be_written_is_named_with_its_reason() {
    let mut sketch = Sketch::default();
    let names = ["x", "missing", "a", "b", "c", "d", "e", "f", "g"];
    let [x, missing, a, b, c, d, e, f, g] = names.map(|name| sketch.value(name));
    let w = sketch.constant("w", Tensor::new([1, 1, 2, 2], vec![1f32; 4]).unwrap());
    let odd = || Op::Opaque(Opaque { domain: "d".into(), kind: "Odd".into() });
    let lrn = Lrn { alpha: 1.0, beta: 1.0, bias: 1.0, size: 3, region: LrnRegion::Within };
    let window = Window { strides: vec![], dilations: vec![], padding: Padding::Valid, rounding: Rounding::Floor };
    let pool = MaxPool { kernel: vec![2], window, column_major: false, layout: Layout::ChannelsLast };
    sketch.node("odd", odd(), &[x], &[a]);
    sketch.node("", odd(), &[x], &[b]);
    sketch.node("sum", Op::Binary(Binary::Add), &[x, missing], &[c]);
    sketch.node("norm", Op::Lrn(lrn), &[x], &[d]);
    sketch.node("batch", Op::BatchNorm(BatchNorm { epsilon: 0.1, axis: -1 }), &[x, w, w, w, w], &[e]);
    sketch.node("conv", conv(Layout::ChannelsFirst, FilterLayout::OutputFirst, Rounding::Ceil), &[x, w], &[f]);
    let indices = sketch.value("indices");
    sketch.node("pool", Op::MaxPool(pool), &[x], &[g, indices]);
    let mut found = refusals(&sketch.between(&[x], &[a, b, c, d, e, f, g, indices, missing]));
    found.sort();
    assert_eq!(
        found,
        [
            "node `Odd->b` (Odd): it is not an operator known here",
            "node `batch` (BatchNormalization): the number of dimensions of its operand is not known",
            "node `conv` (Conv): it keeps a last partial window, and the sizes of its operand are not known",
            "node `norm` (LRN): the number of dimensions of its operand is not known",
            "node `odd` (Odd): it is not an operator known here",
            "node `pool` (MaxPool): it gives indices with channels last, which ONNX cannot",
            "node `sum` (Add): it reads `missing`, which nothing computes",
            "output `missing`: nothing computes it",
        ]
    );
}

#[test]
fn a_graph_without_outputs_or_with_a_cycle_is_refused() {
    assert_eq!(refusals(&Graph::new()), ["the graph: it has no outputs"]);
    let mut sketch = Sketch::default();
    let (a, b) = (sketch.value("a"), sketch.value("b"));
    sketch.node("one", RELU, &[a], &[b]);
    sketch.node("two", RELU, &[b], &[a]);
    let error = export(&sketch.between(&[], &[a]), "net").unwrap_err();
    assert_eq!(error.to_string(), "net: nodes `one`, `two` form a cycle");
}

#[test]
fn ranks_are_followed_where_no_shape_is_declared() {
    let mut sketch = Sketch::default();
    let x = sketch.shaped("x", known(&[1, 2, 6, 6]));
    let [relu, pooled, sum, y] = ["relu", "pooled", "sum", "y"].map(|name| sketch.value(name));
    let window = Window { strides: vec![], dilations: vec![], padding: Padding::Valid, rounding: Rounding::Floor };
    let pool = MaxPool { kernel: vec![2, 2], window, column_major: false, layout: Layout::ChannelsFirst };
    sketch.node("relu", RELU, &[x], &[relu]);
    sketch.node("pool", Op::MaxPool(pool), &[relu], &[pooled]);
    sketch.node("sum", Op::Binary(Binary::Add), &[pooled, pooled], &[sum]);
    let lrn = Lrn { alpha: 1.0, beta: 1.0, bias: 1.0, size: 3, region: LrnRegion::Within };
    sketch.node("norm", Op::Lrn(lrn), &[sum], &[y]);
    let (_, graph) = written(&sketch.between(&[x], &[y]));
    assert_eq!(
        lines(&graph)[3..],
        [
            "norm_square:Mul(sum,sum)->y_square",
            "norm_mean:AveragePool(y_square)->y_mean",
            "norm_scaled:Mul(y_mean,y_alpha)->y_scaled",
            "norm_base:Add(y_scaled,y_bias)->y_base",
            "norm_divisor:Pow(y_base,y_beta)->y_divisor",
            "norm:Div(sum,y_divisor)->y",
        ]
    );
}
