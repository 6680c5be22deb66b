//! What plans become, as node lists.

use super::*;
use crate::dtype::DataType;
use crate::frontend::{Request, import};
use crate::tensor::TensorProto;
use quantize_ir::{ActivationPlan, NodePlan, QuantParams, QuantType, Tensor, WeightPlan};
use std::sync::Arc;

fn constant(name: &str, tensor: Tensor) -> NodeDef {
    NodeDef::constant(name, TensorProto::new(DataType::of_elements(tensor.dtype()), &tensor).unwrap())
}

fn conv(name: &str, x: &str) -> NodeDef {
    NodeDef::new(name, "Conv2D")
        .with_inputs([x, "w"])
        .with_attr("strides", vec![1i64, 2, 2, 1])
        .with_attr("padding", "SAME")
}

/// input → first → relu → second → output, with an `Odd` node that reads the ReLU, too.
fn source() -> GraphDef {
    let reads = |name: &str, op: &str, x: &str| NodeDef::new(name, op).with_inputs([x]);
    GraphDef::new(vec![
        NodeDef::new("input", "Placeholder").with_attr("dtype", DataType::FLOAT),
        constant("w", Tensor::new([1, 1, 1, 1], vec![0.5f32]).unwrap()),
        conv("first", "input"),
        reads("relu", "Relu", "first"),
        reads("odd", "Odd", "relu"),
        conv("second", "relu"),
        reads("output", "Tanh", "second"),
        reads("unused", "Odd", "input"),
    ])
}

fn activation(value: ValueId, qtype: QuantType) -> (ValueId, ActivationPlan) {
    let params = QuantParams::per_tensor(qtype, 0.5, 0).unwrap();
    (value, ActivationPlan { params, shares: value, method: "minmax".into(), sqnr_db: None })
}

/// The source with the first convolution and its ReLU on integers.
fn encoded() -> GraphDef {
    let source = Arc::new(source());
    let request = Request { inputs: Vec::new(), outputs: vec!["output".into(), "odd".into()] };
    let (graph, _) = import(&source, &request).unwrap();
    let id = |name: &str| graph.nodes().find(|(_, node)| node.name == name).unwrap().0;
    let result = |name: &str| graph.node(id(name)).unwrap().output(0).unwrap();
    let input = graph.inputs()[0];
    let weight = WeightPlan {
        params: QuantParams::per_tensor(QuantType::I8Narrow, 0.25, 0).unwrap(),
        codes: Arc::new(Tensor::new([1, 1, 1, 1], vec![2i8]).unwrap()),
        sqnr_db: 0.0,
    };
    let first = id("first");
    let decisions = [(first, Decision::Quantize), (id("relu"), Decision::Absorbed { into: first })];
    let plan = QuantPlan {
        nodes: decisions.into_iter().map(|(id, decision)| (id, NodePlan { decision })).collect(),
        activations: [activation(input, QuantType::I8), activation(result("relu"), QuantType::U8)].into(),
        weights: [((first, 1), weight)].into(),
    };
    let encoded = encode(&Revision { source: &source, graph: &graph, plan: &plan }).unwrap();
    assert_eq!((encoded.quantized, encoded.dequantized), (1, 1));
    encoded.graph
}

#[test]
fn a_convolution_becomes_one_operator_between_conversions() {
    let graph = encoded();
    let described: Vec<(&str, &str)> = graph.nodes().iter().map(|node| (node.name(), node.op())).collect();
    let expected = [
        ("input", "Placeholder"),
        ("w", "Const"),
        ("first_eightbit_min_input", "Const"),
        ("first_eightbit_max_input", "Const"),
        ("first_eightbit_quantize_min_input", "Const"),
        ("first_eightbit_quantize_max_input", "Const"),
        ("first_eightbit_quantize_input", "QuantizeV2"),
        ("w_qint8_const", "Const"),
        ("first_eightbit_bias", "Const"),
        ("w_min", "Const"),
        ("w_max", "Const"),
        ("first_eightbit_requant_range/frozen_min", "Const"),
        ("first_eightbit_requant_range/frozen_max", "Const"),
        ("first_eightbit_requantize", "QuantizedConv2DWithBiasAndReluAndRequantize"),
        ("relu", "Dequantize"),
        ("odd", "Odd"),
        ("second", "Conv2D"),
        ("output", "Tanh"),
    ];
    assert_eq!(described, expected);
}

#[test]
fn ranges_say_what_codes_stand_for() {
    let graph = encoded();
    let index = graph.index().unwrap();
    let number = |name: &str| {
        let tensor = index.find(name).unwrap().constant_value().unwrap().unwrap();
        tensor.as_slice::<f32>().unwrap()[0]
    };
    let ends = ["first_eightbit_min_input", "first_eightbit_max_input", "w_min", "w_max"].map(number);
    assert_eq!(ends, [-63.5, 63.5, -31.75, 31.75]);
    let wider = ["min", "max"].map(|end| number(&format!("first_eightbit_quantize_{end}_input")));
    assert_eq!(wider, [-63.75, 63.75], "half a step more on either side");
    let range = ["min", "max"].map(|end| number(&format!("first_eightbit_requant_range/frozen_{end}")));
    assert_eq!(range, [0.0, 127.5]);
    let fused = index.find("first_eightbit_requantize").unwrap();
    let inputs = [
        "first_eightbit_quantize_input",
        "w_qint8_const",
        "first_eightbit_bias",
        "first_eightbit_min_input",
        "first_eightbit_max_input",
        "w_min",
        "w_max",
        "first_eightbit_requant_range/frozen_min",
        "first_eightbit_requant_range/frozen_max",
    ];
    assert_eq!(fused.inputs(), inputs);
    assert_eq!(fused.dtype("Tinput").unwrap(), Some(DataType::QINT8));
    assert_eq!(fused.dtype("out_type").unwrap(), Some(DataType::QUINT8));
    assert_eq!(fused.ints("strides").unwrap(), Some(vec![1, 2, 2, 1]));
}

#[test]
fn a_plan_that_quantizes_nothing_changes_nothing() {
    let source = Arc::new(source());
    let (graph, _) = import(&source, &Request::default()).unwrap();
    let encoded = encode(&Revision { source: &source, graph: &graph, plan: &QuantPlan::default() }).unwrap();
    assert_eq!(encoded.graph.to_vec(), source.to_vec());
}
