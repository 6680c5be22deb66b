//! Small graphs: what is fused, named and kept.

use super::*;
use crate::tensor::TensorProto;
use quantize_ir::Tensor;

fn node(name: &str, op: &str, inputs: &[&str]) -> NodeDef {
    NodeDef::new(name, op).with_inputs(inputs.to_vec()).with_attr("T", DataType::FLOAT)
}

fn floats(name: &str, shape: &[usize], values: Vec<f32>) -> NodeDef {
    NodeDef::constant(name, TensorProto::new(DataType::FLOAT, &Tensor::new(shape, values).unwrap()).unwrap())
}

fn ints(name: &str, shape: &[usize], values: Vec<i32>) -> NodeDef {
    NodeDef::constant(name, TensorProto::new(DataType::INT32, &Tensor::new(shape, values).unwrap()).unwrap())
}

fn conv(name: &str, op: &str, inputs: &[&str]) -> NodeDef {
    let ones = || vec![1, 1, 1, 1];
    node(name, op, inputs).with_attr("strides", ones()).with_attr("padding", "VALID").with_attr("dilations", ones())
}

/// An input that is never negative, weights and bias of two channels, and further nodes.
fn graph(nodes: Vec<NodeDef>) -> GraphDef {
    let shared = vec![
        NodeDef::new("x", "Placeholder").with_attr("dtype", DataType::FLOAT),
        node("r", "Relu", &["x"]),
        floats("w", &[1, 1, 2, 2], vec![1.0, -1.0, 0.5, 0.25]),
        floats("b", &[2], vec![1.0, 2.0]),
    ];
    GraphDef::new([shared, nodes].concat())
}

fn intel(rules: Rules) -> EightbitOptions {
    EightbitOptions { outputs: vec!["out".into()], intel: true, rules, ..EightbitOptions::default() }
}

fn run(nodes: Vec<NodeDef>, options: &EightbitOptions) -> Eightbit {
    eightbit(&graph(nodes), options).unwrap()
}

fn find<'g>(done: &'g Eightbit, name: &str) -> &'g NodeDef {
    let names: Vec<&str> = done.graph.nodes().iter().map(NodeDef::name).collect();
    done.graph.nodes().iter().find(|node| node.name() == name).unwrap_or_else(|| panic!("no {name} in {names:?}"))
}

fn ops(done: &Eightbit) -> Vec<&str> {
    done.graph.nodes().iter().map(NodeDef::op).filter(|op| op.starts_with("Quantized")).collect()
}

/// Why the first node that stayed did.
fn reason(done: &Eightbit) -> &str {
    done.coverage.iter().find_map(|covered| covered.outcome.as_ref().err()).map_or("", String::as_str)
}

#[test]
fn what_follows_a_convolution_goes_into_it() {
    let nodes =
        || vec![conv("c", "Conv2D", &["r", "w"]), node("p", "BiasAdd", &["c", "b"]), node("out", "Relu", &["p"])];
    let done = run(nodes(), &intel(Rules::Original));
    assert_eq!(ops(&done), ["QuantizedConv2DWithBiasAndRelu"]);
    assert_eq!(done.conversions(), (1, 1));
    assert_eq!(find(&done, "out").op(), "Dequantize");
    let inputs = ["c_eightbit_quantize_r", "w_qint8_const", "b", "c_eightbit_quantize_r:1", "c_eightbit_quantize_r:2"];
    assert_eq!(find(&done, "c_eightbit_quantized_conv").inputs()[..5], inputs);
    assert_eq!(find(&done, "c_eightbit_reshape_dims").inputs(), ["^r"]);
    // With a second reader the bias stays outside.
    let mut more = nodes();
    more.extend([node("other", "Tanh", &["p"]), node("end", "Add", &["out", "other"])]);
    let done = run(more, &EightbitOptions { outputs: vec!["end".into()], ..intel(Rules::Original) });
    assert_eq!(ops(&done), ["QuantizedConv2DWithBias"]);
    assert_eq!(find(&done, "out").op(), "Relu");
}

#[test]
fn an_output_is_not_taken_in() {
    let nodes =
        vec![conv("c", "Conv2D", &["r", "w"]), node("out", "BiasAdd", &["c", "b"]), node("end", "Relu", &["out"])];
    let outputs = vec!["out".into(), "end".into()];
    let done = run(nodes, &EightbitOptions { outputs, ..intel(Rules::Original) });
    assert_eq!((ops(&done), find(&done, "end").op()), (vec!["QuantizedConv2DWithBias"], "Relu"));
}

#[test]
fn sums_are_fused_where_the_other_tensor_is_free() {
    let nodes = |add: &str| {
        vec![
            conv("a", "Conv2D", &["r", "w"]),
            node("a/bias", "BiasAdd", &["a", "b"]),
            node("sum", add, &["r", "a/bias"]),
            node("out", "Relu", &["sum"]),
        ]
    };
    for (add, rules) in [("AddN", Rules::Original), ("Add", Rules::Original), ("AddV2", Rules::Sound)] {
        let done = run(nodes(add), &intel(rules));
        assert_eq!(ops(&done), ["QuantizedConv2DWithBiasSumAndRelu"], "{add}");
        assert_eq!(find(&done, "a_eightbit_quantized_conv").inputs().last().unwrap(), "r");
    }
    assert_eq!(ops(&run(nodes("AddV2"), &intel(Rules::Original))), ["QuantizedConv2DWithBias"]);
    // Someone reads the other tensor after the sum may have been written in its place.
    let mut late = nodes("AddN");
    late.extend([node("late", "Tanh", &["r"]), node("end", "Add", &["out", "late"])]);
    let done = run(late, &EightbitOptions { outputs: vec!["end".into()], ..intel(Rules::Original) });
    assert_eq!(ops(&done), ["QuantizedConv2DWithBias"]);
    // The other tensor may be negative.
    let mut signed = nodes("AddN");
    signed[2].set_inputs(vec!["x".into(), "a/bias".into()]);
    assert_eq!(ops(&run(signed, &intel(Rules::Original))), ["QuantizedConv2DWithBias"]);
}

#[test]
fn a_sum_is_no_bias() {
    let nodes = vec![
        conv("c", "Conv2D", &["r", "w"]),
        floats("image", &[1, 1, 1, 2], vec![1.0, 2.0]),
        node("add", "Add", &["c", "image"]),
        node("out", "Relu", &["add"]),
    ];
    assert_eq!(ops(&run(nodes, &intel(Rules::Original))), ["QuantizedConv2D"]);
}

#[test]
fn what_may_be_negative_stays_and_says_why() {
    let nodes = || vec![conv("out", "Conv2D", &["x", "w"])];
    let done = run(nodes(), &intel(Rules::Original));
    assert_eq!(reason(&done), "what it reads, `x` (Placeholder), may be negative");
    let signed = run(nodes(), &EightbitOptions { signed_input_convs: true, ..intel(Rules::Original) });
    let quantized = find(&signed, "out_eightbit_quantized_conv");
    assert_eq!(quantized.dtype("Tinput").unwrap(), Some(DataType::QINT8));
    assert_eq!(find(&signed, "out_eightbit_quantize_x").dtype("T").unwrap(), Some(DataType::QINT8));
    let axis = ints("axis", &[], vec![3]);
    let nodes = vec![axis, node("j", "ConcatV2", &["r", "x", "axis"]), node("out", "MaxPool", &["j"])];
    let done = run(nodes, &intel(Rules::Original));
    assert_eq!((ops(&done).len(), done.coverage.len()), (0, 2));
}

#[test]
fn other_reasons_are_given() {
    let with = |change: &dyn Fn(&mut NodeDef), options: EightbitOptions| {
        let mut only = conv("out", "Conv2D", &["r", "w"]);
        change(&mut only);
        reason(&run(vec![only], &options)).to_owned()
    };
    let plain = || intel(Rules::Original);
    let nothing = |_: &mut NodeDef| {};
    assert_eq!(with(&|node| node.set_attr("data_format", "NCHW"), plain()), "its data format is NCHW");
    assert_eq!(
        with(&nothing, EightbitOptions { excluded_ops: vec!["Conv2D".into()], ..plain() }),
        "Conv2D is excluded"
    );
    let named = EightbitOptions { excluded_nodes: vec!["out".into()], ..plain() };
    assert_eq!(with(&nothing, named), "it is excluded by name");
    assert_eq!(with(&|node| node.set_inputs(vec!["r".into(), "x".into()]), plain()), "its weights are no constant");
    assert!(with(&|node| node.set_attr("padding", "EXPLICIT"), plain()).contains("explicit padding"));
    assert_eq!(with(&nothing, plain()), "");
}

#[test]
fn depthwise_convolutions_have_ranges_for_channels() {
    let nodes = || {
        vec![
            conv("c", "DepthwiseConv2dNative", &["r", "w"]),
            floats("four", &[4], vec![0.0; 4]),
            node("p", "BiasAdd", &["c", "four"]),
            node("out", "Relu6", &["p"]),
        ]
    };
    let done = run(nodes(), &intel(Rules::Original));
    assert_eq!(ops(&done), ["QuantizedDepthwiseConv2DWithBiasAndRelu"]);
    let range = find(&done, "c_eightbit_requant_range");
    assert_eq!((range.op(), range.float("clip_value_max").unwrap()), ("RequantizationRangePerChannel", Some(6.0)));
    assert_eq!(find(&done, "w_max").constant_value().unwrap().unwrap().shape(), [4]);
    assert!(done.problems[0].message.contains("2.14"), "{:?}", done.problems);
    let mut bare = nodes();
    bare.truncate(1);
    bare[0].set_name("out");
    assert!(reason(&run(bare, &intel(Rules::Sound))).contains("without Relu"));
}

#[test]
fn sound_rules_take_in_more() {
    let amounts = ints("amounts", &[4, 2], vec![0, 0, 1, 2, 3, 4, 0, 0]);
    let nodes = || {
        vec![
            amounts.clone(),
            node("pad", "Pad", &["r", "amounts"]),
            conv("c", "Conv2D", &["pad", "w"]),
            node("p", "AddV2", &["b", "c"]),
            node("out", "Relu6", &["p"]),
        ]
    };
    let done = run(nodes(), &intel(Rules::Sound));
    let quantized = find(&done, "c_eightbit_quantized_conv");
    assert_eq!(quantized.op(), "QuantizedConv2DWithBiasAndRelu");
    assert_eq!(quantized.ints("padding_list").unwrap(), Some(vec![0, 0, 1, 2, 3, 4, 0, 0]));
    assert_eq!(find(&done, "c_eightbit_requantize").inputs()[4], "c_eightbit_clip");
    assert!(reason(&run(nodes(), &intel(Rules::Original))).contains("Pad"));
    // A bias of zeros where there is none.
    let bare = vec![conv("c", "Conv2D", &["r", "w"]), node("out", "Relu", &["c"])];
    let done = run(bare, &intel(Rules::Sound));
    assert_eq!(ops(&done), ["QuantizedConv2DWithBiasAndRelu"]);
    assert_eq!(find(&done, "c_eightbit_bias").constant_value().unwrap().unwrap(), Tensor::vector(vec![0f32; 2]));
}

#[test]
fn codes_go_on_as_codes_unless_asked() {
    let nodes = || {
        let pool = |name: &str, input: &str| conv(name, "MaxPool", &[input]).with_attr("ksize", vec![1, 2, 2, 1]);
        vec![pool("one", "r"), node("i", "Identity", &["one"]), pool("out", "i")]
    };
    let done = run(nodes(), &intel(Rules::Original));
    assert_eq!(done.conversions(), (1, 1));
    assert_eq!(find(&done, "out_eightbit_quantized").inputs()[1], "one_eightbit_quantized:1");
    let kept = run(nodes(), &EightbitOptions { strip_redundant: false, ..intel(Rules::Original) });
    assert_eq!(kept.conversions(), (2, 2));
}

#[test]
fn products_with_a_bias_are_quantized_on_request() {
    let nodes = || {
        vec![
            floats("m", &[2, 2], vec![1.0, 2.0, 3.0, 4.0]),
            node("mm", "MatMul", &["r", "m"]),
            node("p", "BiasAdd", &["mm", "b"]),
            node("out", "Relu", &["p"]),
        ]
    };
    let mut options = intel(Rules::Original);
    assert!(ops(&run(nodes(), &options)).is_empty());
    assert!(options.set_model_name("wide_deep_large_ds") && !options.clone().set_model_name("other"));
    let done = run(nodes(), &options);
    assert_eq!(ops(&done), ["QuantizedMatMulWithBiasAndRelu"]);
    assert_eq!(find(&done, "mm_eightbit_quantized_mat_mul").dtype("T2").unwrap(), Some(DataType::QINT8));
}

#[test]
fn the_plain_graph_has_an_operator_for_each_node() {
    let nodes = || {
        vec![
            conv("c", "Conv2D", &["x", "w"]),
            node("p", "BiasAdd", &["c", "b"]),
            floats("low", &[], vec![0.0]),
            floats("high", &[], vec![6.0]),
            NodeDef::new("fake", "FakeQuantWithMinMaxVars").with_inputs(["p", "low", "high"]),
            node("out", "Relu", &["fake"]),
        ]
    };
    let plain = EightbitOptions { outputs: vec!["out".into()], ..EightbitOptions::default() };
    let done = run(nodes(), &plain);
    assert_eq!(ops(&done), ["QuantizedConv2D", "QuantizedBiasAdd", "QuantizedRelu"]);
    let inputs = [
        "c_eightbit_quantize_x",
        "w_quint8_const",
        "c_eightbit_quantize_x:1",
        "c_eightbit_quantize_x:2",
        "w_min",
        "w_max",
    ];
    assert_eq!(find(&done, "c_eightbit_quantized_conv").inputs(), inputs);
    assert_eq!(find(&done, "p_eightbit_requantize").inputs()[3..], ["low", "high"]);
    assert_eq!(find(&done, "out_eightbit_quantized").inputs()[0], "p_eightbit_requantize");
    let fallback = run(nodes(), &EightbitOptions { fallback: Some([-1.0, 1.0]), ..plain.clone() });
    assert_eq!(find(&fallback, "c_eightbit_requantize").inputs()[3], "fallback_quantization_min_value:0");
    let fed = run(nodes(), &EightbitOptions { quantized_input: Some([0.0, 1.0]), ..plain });
    assert_eq!(find(&fed, "x").dtype("dtype").unwrap(), Some(DataType::QUINT8));
    assert_eq!(
        find(&fed, "c_eightbit_quantized_conv").inputs()[..3],
        ["x", "w_quint8_const", "quantized_input_min_value"]
    );
}

#[test]
fn constants_alone_can_change() {
    let nodes = || vec![conv("out", "Conv2D", &["x", "w"])];
    let stored = run(nodes(), &EightbitOptions { mode: Mode::Weights, ..EightbitOptions::default() });
    assert_eq!(
        (find(&stored, "w").op(), find(&stored, "w").text("mode").unwrap().unwrap().as_str()),
        ("Dequantize", "MIN_COMBINED")
    );
    let rounded = EightbitOptions { mode: Mode::WeightsRounded, bitdepth: 1, ..EightbitOptions::default() };
    let value = find(&run(nodes(), &rounded), "w").constant_value().unwrap().unwrap();
    assert_eq!(value.into_vec::<f32>().unwrap(), [0.5, -0.5, 0.5, 0.5]);
    let error = eightbit(&graph(nodes()), &EightbitOptions { bitdepth: 0, ..rounded }).unwrap_err();
    assert!(error.to_string().contains("bit depth"), "{error}");
}

#[test]
fn graphs_that_contradict_themselves_are_refused() {
    let about = |nodes: Vec<NodeDef>, outputs: &[&str]| {
        let outputs = outputs.iter().map(|name| (*name).to_owned()).collect();
        eightbit(&graph(nodes), &EightbitOptions { outputs, ..intel(Rules::Original) }).unwrap_err()
    };
    let missing = about(vec![], &["w0"]);
    assert_eq!(missing.to_string(), "there is no node `w0` in the graph");
    assert_eq!(missing.hint().as_deref(), Some("did you mean `w`?"));
    assert_eq!(about(vec![], &[]).to_string(), "no output is named");
    let circle = vec![node("out", "Relu", &["back"]), node("back", "Relu", &["out"])];
    assert!(about(circle, &["out"]).to_string().contains("cycle"));
    let circle = vec![node("out", "Identity", &["back"]), node("back", "Identity", &["out"])];
    assert!(about(circle, &["out"]).to_string().contains("cycle"));
    let dangling = vec![node("out", "Relu", &["nothing"])];
    assert!(about(dangling, &["out"]).to_string().contains("does not exist"));
    let taken =
        vec![floats("w_min", &[], vec![0.0]), conv("c", "Conv2D", &["r", "w"]), node("out", "Add", &["c", "w_min"])];
    assert_eq!(about(taken, &["out"]).to_string(), "node `w_min`: there are two of this name");
}
