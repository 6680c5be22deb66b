//! Transforms on small graphs.

use super::language::parse;
use super::*;
use crate::dtype::DataType;
use crate::node::NodeDef;
use crate::tensor::TensorProto;

/// Multiplies and adds numbers of equal shapes; all that the tests here need.
struct Plain;

impl Evaluator for Plain {
    fn evaluate(&self, op: Op, operands: &[&Tensor]) -> Result<Tensor, String> {
        use quantize_ir::op::Binary;
        let [a, b] = operands else { return Err("two operands".into()) };
        let combine: fn(f32, f32) -> f32 = match op {
            Op::Binary(Binary::Mul) => |a, b| a * b,
            Op::Binary(Binary::Add) => |a, b| a + b,
            other => return Err(format!("{} is not known here", other.name())),
        };
        let (left, right) = (a.as_slice::<f32>().unwrap(), b.as_slice::<f32>().unwrap());
        let result = left.iter().zip(right).map(|(a, b)| combine(*a, *b)).collect();
        Tensor::new(a.shape(), result).map_err(|error| error.to_string())
    }
}

pub(super) fn setting(inputs: &[&str], outputs: &[&str]) -> Setting<'static> {
    let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Setting { inputs: own(inputs), outputs: own(outputs), limits: Limits::default(), evaluator: &Plain }
}

pub(super) fn run(nodes: Vec<NodeDef>, request: &str, setting: &Setting<'_>) -> Result<Transformed, TensorflowError> {
    transform(&GraphDef::new(nodes), &parse(request)?, setting)
}

pub(super) fn node(name: &str, op: &str, inputs: &[&str]) -> NodeDef {
    NodeDef::new(name, op).with_inputs(inputs.to_vec()).with_attr("T", DataType::FLOAT)
}

pub(super) fn floats(name: &str, shape: &[usize], values: &[f32]) -> NodeDef {
    let tensor = Tensor::new(shape, values.to_vec()).unwrap();
    NodeDef::constant(name, TensorProto::new(DataType::FLOAT, &tensor).unwrap())
}

pub(super) fn names(graph: &GraphDef) -> Vec<&str> {
    graph.nodes().iter().map(NodeDef::name).collect()
}

pub(super) fn values(graph: &GraphDef, name: &str) -> Vec<f32> {
    let value = graph.index().unwrap().find(name).unwrap().constant_value().unwrap().unwrap();
    value.into_vec().unwrap()
}

#[test]
fn names_that_do_not_exist_are_answered_with_suggestions() {
    let error = run(vec![], "fold_batch_norm", &setting(&[], &[])).unwrap_err();
    assert_eq!(error.to_string(), "transforms, character 1: Transform 'fold_batch_norm' not recognized.");
    assert!(error.hint().unwrap().starts_with("did you mean `fold_batch_norms`"), "{:?}", error.hint());
    let error = run(vec![], "remove_nodes(op=A, max_input=2)", &setting(&[], &[])).unwrap_err();
    assert_eq!(error.to_string(), "transforms, character 20: remove_nodes has no parameter `max_input`");
    let error = run(vec![], "strip_unused_nodes", &setting(&["x"], &["y"])).unwrap_err();
    assert_eq!(error.to_string(), "there is no node `x` in the graph");
}

#[test]
fn what_is_not_carried_out_says_what_to_do_instead() {
    for (name, instead) in unsupported::UNSUPPORTED {
        assert!(!transform_names().any(|known| known == *name), "{name}");
        let error = run(vec![], name, &setting(&[], &[])).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("transforms, character 1: Transform '{name}' is known, but not carried out here.")
        );
        assert_eq!(error.hint().as_deref(), Some(*instead));
    }
}

#[test]
fn errors_can_be_ignored() {
    let graph = vec![node("a", "Relu", &[])];
    let done = run(graph, "strip_unused_nodes(ignore_errors=true) remove_device", &setting(&[], &["b"])).unwrap();
    assert_eq!(names(&done.graph), ["a"]);
    assert!(done.problems[0].message.contains("there is no node `b`"), "{:?}", done.problems);
}

#[test]
fn unused_nodes_go_and_inputs_are_placeholders() {
    let graph = || {
        vec![
            node("x", "Const", &[]),
            node("in", "Mul", &["x", "x"]),
            node("out", "Relu", &["in", "^wait"]),
            node("wait", "NoOp", &[]),
            node("other", "Relu", &["out"]),
        ]
    };
    let setting = setting(&["in"], &["out"]);
    let done = run(graph(), "strip_unused_nodes(type=int32, shape=\"1,-1\")", &setting).unwrap();
    assert_eq!(names(&done.graph), ["in", "out", "wait"]);
    let input = &done.graph.nodes()[0];
    assert_eq!((input.op(), input.dtype("dtype").unwrap()), ("Placeholder", Some(DataType::INT32)));
    assert_eq!(input.shape("shape").unwrap().unwrap().to_string(), "[1,?]");
    let request = "strip_unused_nodes(name=in, type_for_name=uint8, shape_for_name=\"3\")";
    let input = &run(graph(), request, &setting).unwrap().graph.nodes()[0].clone();
    assert_eq!(input.dtype("dtype").unwrap(), Some(DataType::UINT8));
}

#[test]
fn nodes_without_effect_go() {
    let graph = vec![
        node("a", "Split", &[]),
        node("i", "Identity", &["a:1"]),
        node("j", "Identity", &["i", "^a"]),
        node("r", "Relu", &["j", "^i"]),
        node("end", "Identity", &["r"]),
    ];
    let done = run(graph, "remove_nodes(op=Identity)", &setting(&[], &["end"])).unwrap();
    assert_eq!(names(&done.graph), ["a", "r", "end"]);
    assert_eq!(done.graph.nodes()[1].inputs(), ["a:1", "^a"]);
}

#[test]
fn constants_are_folded_under_their_names() {
    let graph = vec![
        floats("a", &[2], &[1.0, 2.0]),
        floats("b", &[2], &[3.0, 4.0]),
        node("sum", "AddV2", &["a", "b"]),
        node("fed", "Mul", &["sum", "b"]),
        node("square", "Square", &["sum"]),
        node("out", "Mul", &["fed", "square"]),
    ];
    let done = run(graph, "fold_constants", &setting(&["fed"], &["out"])).unwrap();
    assert_eq!(names(&done.graph), ["b", "sum", "fed", "square", "out"]);
    assert_eq!(values(&done.graph, "square"), [16.0, 36.0]);
}

/// A convolution of one input channel and two output channels with factors behind it.
fn scaled_convolution(factors: NodeDef, order: [&str; 2]) -> Vec<NodeDef> {
    vec![
        node("x", "Placeholder", &[]),
        floats("w", &[1, 1, 1, 2], &[1.0, 2.0]),
        node("conv", "Conv2D", &["x", "w"]),
        factors,
        node("mul", "Mul", &order),
    ]
}

#[test]
fn factors_go_into_weights() {
    for order in [["conv", "s"], ["s", "conv"]] {
        let graph = scaled_convolution(floats("s", &[2], &[10.0, 100.0]), order);
        let done = run(graph, "fold_batch_norms", &setting(&["x"], &["mul"])).unwrap();
        assert_eq!(names(&done.graph), ["x", "w", "mul"]);
        assert_eq!((done.graph.nodes()[2].op(), values(&done.graph, "w")), ("Conv2D", vec![10.0, 200.0]));
    }
    let graph = scaled_convolution(floats("s", &[3], &[1.0; 3]), ["conv", "s"]);
    let error = run(graph, "fold_batch_norms", &setting(&["x"], &["mul"])).unwrap_err();
    assert!(error.to_string().contains("bad shape: [3]"), "{error}");
}

#[test]
fn what_is_read_elsewhere_is_not_folded() {
    let mut graph = scaled_convolution(floats("s", &[2], &[10.0, 100.0]), ["conv", "s"]);
    graph.push(node("other", "Relu", &["conv"]));
    let done = run(graph, "fold_batch_norms", &setting(&["x"], &["mul", "other"])).unwrap();
    assert_eq!(done.graph.nodes().len(), 6);
    assert_eq!(done.problems[0].message, "not folded: `conv` has 2 readers");
}

/// The parameters of a normalization of two channels.
fn parameters() -> Vec<NodeDef> {
    let vector = |name, values: [f32; 2]| floats(name, &[2], &values);
    vec![vector("gamma", [2.0, 3.0]), vector("beta", [1.0, 1.0]), vector("mean", [1.0, 0.0]), vector("var", [4.0, 9.0])]
}

fn normalization(op: &str, input: &str) -> NodeDef {
    node("bn", op, &[input, "gamma", "beta", "mean", "var"]).with_attr("epsilon", 0f32).with_attr("is_training", false)
}

#[test]
fn normalizations_become_a_bias() {
    for op in ["FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"] {
        let conv = node("conv", "Conv2D", &["x", "w"]).with_attr("data_format", "NHWC");
        let mut graph = vec![node("x", "Placeholder", &[]), floats("w", &[1, 1, 1, 2], &[1.0, 2.0]), conv];
        graph.extend(parameters());
        graph.extend([normalization(op, "conv"), node("relu", "Relu", &["bn"])]);
        let done = run(graph, "fold_old_batch_norms", &setting(&["x"], &["relu"])).unwrap();
        assert_eq!(names(&done.graph), ["x", "w", "conv", "conv_bn_offset", "bn", "relu"]);
        assert_eq!(values(&done.graph, "w"), [1.0, 2.0]);
        assert_eq!(values(&done.graph, "conv_bn_offset"), [0.0, 1.0]);
        let bias = done.graph.nodes()[4].clone();
        assert_eq!((bias.op(), bias.text("data_format").unwrap().as_deref()), ("BiasAdd", Some("NHWC")));
    }
}

#[test]
fn normalizations_behind_blocks_and_joins_are_folded() {
    let mut graph = vec![node("x", "Placeholder", &[]), floats("w", &[1, 1, 1, 2], &[1.0, 2.0])];
    graph.extend(parameters());
    graph.extend([floats("n", &[1], &[1.0]), node("conv", "Conv2D", &["x", "w"])]);
    graph.extend([node("blocks", "BatchToSpaceND", &["conv", "n", "n"]), normalization("FusedBatchNorm", "blocks")]);
    let done = run(graph, "fold_old_batch_norms", &setting(&["x"], &["bn"])).unwrap();
    let index = done.graph.index().unwrap();
    assert_eq!(index.find("bn").unwrap().inputs(), ["conv/biasadd", "n", "n"]);
    assert_eq!(index.find("conv/biasadd").unwrap().inputs(), ["conv", "conv_bn_offset"]);

    let axis = NodeDef::constant("axis", TensorProto::new(DataType::INT32, &Tensor::scalar(3i32)).unwrap());
    let mut graph = vec![node("x", "Placeholder", &[]), floats("w", &[1, 1, 1, 1], &[1.0]), axis];
    graph.extend(parameters());
    graph.extend([
        floats("v", &[1, 1, 1, 1], &[5.0]),
        node("one", "Conv2D", &["x", "w"]),
        node("two", "Conv2D", &["x", "v"]),
    ]);
    graph.extend([node("join", "ConcatV2", &["one", "two", "axis"]), normalization("FusedBatchNorm", "join")]);
    let done = run(graph, "fold_old_batch_norms", &setting(&["x"], &["bn"])).unwrap();
    let index = done.graph.index().unwrap();
    assert_eq!(index.find("bn").unwrap().inputs(), ["join_bn_in0", "join_bn_in1", "axis"]);
    assert_eq!((values(&done.graph, "v"), values(&done.graph, "two_bn_offset")), (vec![5.0], vec![1.0]));
}

#[test]
fn normalizations_in_training_stay() {
    let mut graph = vec![node("x", "Placeholder", &[]), floats("w", &[1, 1, 1, 2], &[1.0, 2.0])];
    graph.push(node("conv", "Conv2D", &["x", "w"]));
    graph.extend(parameters());
    let mut bn = normalization("FusedBatchNorm", "conv");
    bn.remove_attr("is_training");
    graph.push(bn);
    let done = run(graph, "fold_old_batch_norms", &setting(&["x"], &["bn"])).unwrap();
    assert_eq!(done.problems[0].to_string(), "node `bn`: not folded: it is in training");
}

#[test]
fn ranges_are_logged_and_frozen() {
    let range = NodeDef::new("q/range", "RequantizationRange")
        .with_inputs(["q", "q:1", "q:2"])
        .with_attr("Tinput", DataType::QINT32);
    let graph = vec![node("q", "QuantizedConv2D", &[]), range, node("r", "Requantize", &["q", "q/range", "q/range:1"])];
    let request = "insert_logging(op=RequantizationRange, show_name=true, message=\"__requant_min_max:\")";
    let logged = run(graph.clone(), request, &setting(&[], &[])).unwrap().graph;
    let print = &logged.nodes()[2];
    assert_eq!((print.name(), print.op()), ("q/range__print__", "Print"));
    assert_eq!(print.inputs(), ["q/range:0", "q/range:0", "q/range:1"]);
    assert_eq!(print.text("message").unwrap().as_deref(), Some(";q/range__print__;__requant_min_max:"));
    assert_eq!(print.dtypes("U").unwrap(), Some(vec![DataType::FLOAT, DataType::FLOAT]));
    assert_eq!(logged.nodes()[3].inputs(), ["q", "q/range__print__", "q/range:1"]);

    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log.txt");
    std::fs::write(&log, ";q/range__print__;__requant_min_max:[0][2]\n;q/range__print__;__requant_min_max:[0][1]\n")
        .unwrap();
    let request = format!("freeze_requantization_ranges(min_max_log_file=\"{}\")", log.display());
    let frozen = run(graph.clone(), &request, &setting(&[], &[])).unwrap().graph;
    assert_eq!(names(&frozen), ["q", "q/range/frozen_min", "q/range/frozen_max", "r"]);
    assert_eq!(frozen.nodes()[3].inputs(), ["q", "q/range/frozen_min", "q/range/frozen_max"]);
    assert_eq!(values(&frozen, "q/range/frozen_max"), [2.0]);

    std::fs::write(&log, ";q/rang__print__;__requant_min_max:[0][2]").unwrap();
    let error = run(graph.clone(), &request, &setting(&[], &[])).unwrap_err();
    assert!(error.to_string().contains("aren't present in the graph: `q/rang`"), "{error}");
    assert_eq!(error.hint().as_deref(), Some("did you mean `q/range` or `q`?"));
    std::fs::write(&log, "nothing").unwrap();
    assert!(run(graph, &request, &setting(&[], &[])).unwrap_err().to_string().contains("No min/max range logs"));
}

#[test]
fn single_nodes_are_changed() {
    let graph = || {
        let mut relu = node("r", "Relu", &["x", "^x"]).with_attr("a", 1i64);
        relu.set_device("/gpu:0");
        vec![node("x", "Placeholder", &[]), relu]
    };
    let done = |request: &str| run(graph(), request, &setting(&[], &[])).unwrap().graph.nodes().to_vec();
    assert!(done("remove_attribute(attribute_name=a)")[1].attr("a").is_none());
    assert!(done("remove_attribute(attribute_name=a, op_name=Add)")[1].attr("a").is_some());
    assert_eq!(done("rename_attribute(old_attribute_name=a, new_attribute_name=b)")[1].int("b").unwrap(), Some(1));
    assert_eq!(done("rename_op(old_op_name=Relu, new_op_name=Elu)")[1].op(), "Elu");
    let renamed = done("rename_node(old_node_name=x, new_node_name=y)");
    assert_eq!((renamed[0].name(), renamed[1].inputs()), ("y", &["y".to_owned(), "^y".to_owned()][..]));
    assert_eq!(done("remove_device")[1].device(), "");
    let devices = done("set_device(device=\"/cpu:0\", if_default=true)");
    assert_eq!((devices[0].device(), devices[1].device()), ("/cpu:0", "/gpu:0"));
    assert_eq!(done("remove_control_dependencies")[1].inputs(), ["x"]);
}

/// A convolution on codes without its last inputs, narrowed to a constant range.
fn narrowed(op: &str, summand: Option<&str>) -> Vec<NodeDef> {
    let has_bias = op.contains("WithBias");
    let operands = if has_bias { vec!["q", "w", "b"] } else { vec!["q", "w"] };
    let inputs = [operands, vec!["q:1", "q:2", "low", "high"], summand.into_iter().collect(), vec!["^q"]].concat();
    let conv = NodeDef::new("conv", op).with_inputs(inputs).with_attr("Tinput", DataType::QUINT8);
    let conv = conv.with_attr("padding", "SAME").with_attr("out_type", DataType::QINT32);
    vec![
        node("x", "Relu", &[]),
        NodeDef::new("q", "QuantizeV2").with_inputs(["x", "zero", "high"]).with_attr("T", DataType::QUINT8),
        node("w", "Const", &[]),
        floats("zero", &[], &[0.0]),
        floats("low", &[], &[-2.0]),
        floats("high", &[], &[1.0]),
        floats("b", &[2], &[1.0, -0.3]),
        conv,
        NodeDef::new("r", "Requantize").with_inputs(["conv", "conv:1", "conv:2", "low:0", "high:0"]),
        NodeDef::new("end", "Dequantize").with_inputs(["r", "r:1", "r:2"]).with_attr("T", DataType::QUINT8),
    ]
}

fn fused(nodes: Vec<NodeDef>, rules: &str) -> Transformed {
    run(nodes, &format!("fuse_quantized_conv_and_requantize({rules})"), &setting(&[], &["end"])).unwrap()
}

#[test]
fn narrowing_goes_into_convolutions() {
    let done = fused(narrowed("QuantizedConv2D", None), "");
    let index = done.graph.index().unwrap();
    let conv = index.find("r").unwrap();
    assert_eq!(conv.op(), "QuantizedConv2DAndRequantize");
    assert_eq!(conv.inputs(), ["q", "w", "q:1", "q:2", "low", "high", "low", "high", "^q"]);
    assert_eq!((conv.dtype("out_type").unwrap(), conv.attr("Tbias")), (Some(DataType::QINT8), None));
    let end = index.find("end").unwrap();
    assert_eq!(
        (end.dtype("T").unwrap(), end.text("mode").unwrap().unwrap().as_str()),
        (Some(DataType::QINT8), "SCALED")
    );
    assert!(index.node("conv").is_none());
    // The range of signed codes made symmetric.
    let done = fused(narrowed("QuantizedConv2D", None), "rules=sound");
    assert_eq!((values(&done.graph, "r/fused_min"), values(&done.graph, "r/fused_max")), (vec![-2.0], vec![2.0]));
    assert!(run(vec![], "fuse_quantized_conv_and_requantize(rules=other)", &setting(&[], &[])).is_err());
}

#[test]
fn what_cannot_be_fused_says_why() {
    let mut read = narrowed("QuantizedConv2D", None);
    read.push(node("other", "Foo", &["conv"]));
    assert_eq!(fused(read, "").problems[0].to_string(), "node `r`: not fused: `conv` is read elsewhere");
    let mut open = narrowed("QuantizedConv2D", None);
    open[5] = node("high", "Max", &["x"]);
    assert!(fused(open, "").problems[0].to_string().ends_with("its range is not constant"));
}

#[test]
fn summands_are_added_as_codes() {
    let done = fused(narrowed("QuantizedConv2DWithBiasSumAndRelu", Some("x")), "");
    let index = done.graph.index().unwrap();
    let conv = index.find("r").unwrap();
    assert_eq!(conv.op(), "QuantizedConv2DWithBiasSumAndReluAndRequantize");
    assert_eq!(conv.inputs()[7..], ["low", "high", "x/quantize", "x/quantize:1", "x/quantize:2", "^q"]);
    assert_eq!(conv.dtype("Tsummand").unwrap(), Some(DataType::QUINT8));
    assert_eq!(index.find("x/max").unwrap().inputs(), ["x/reshape", "x/reduction_dims"]);
    // A summand with a sign: the operator for it, and a wider range where TensorFlow needs it.
    let mut signed = narrowed("QuantizedConv2DWithBiasSumAndRelu", Some("x"));
    signed[0] = node("x", "Tanh", &[]);
    let done = fused(signed.clone(), "");
    assert!(done.problems[0].message.contains("half of its range"), "{:?}", done.problems);
    let done = fused(signed, "rules=sound");
    assert_eq!(values(&done.graph, "r/fused_max"), [255.0 / 127.0]);
}

#[test]
fn biases_behind_fused_convolutions_are_codes() {
    let mut nodes = narrowed("QuantizedConv2DWithBiasAndRelu", None);
    let second = NodeDef::new("conv2", "QuantizedConv2DWithBiasAndRelu")
        .with_inputs(["r", "w", "b2", "r:1", "r:2", "low", "high"])
        .with_attr("Tinput", DataType::QUINT8);
    let narrow = NodeDef::new("r2", "Requantize").with_inputs(["conv2", "conv2:1", "conv2:2", "zero", "high"]);
    nodes.extend([floats("b2", &[1], &[0.01]), second, narrow]);
    let done = fused(nodes, "");
    let index = done.graph.index().unwrap();
    let types = ["r", "r2"].map(|name| index.find(name).unwrap().dtype("Tbias").unwrap().unwrap());
    assert_eq!(types, [DataType::FLOAT, DataType::QINT32]);
    let bias = index.find("b2").unwrap().constant_value().unwrap().unwrap();
    assert_eq!(bias, Tensor::vector(vec![(0.01f32 * (255.0 * 127.0 / 4.0)) as i32]));
}

#[test]
fn codes_that_are_put_together_get_one_range() {
    let conv = |name: &str, max: &str| {
        NodeDef::new(name, "QuantizedConv2DAndRequantize")
            .with_inputs(["q", "w", "q:1", "q:2", "lo", "hi", "zero", max])
    };
    let join = |name: &str, a: &str, b: &str| {
        let inputs = [
            a.to_owned(),
            b.to_owned(),
            "axis".into(),
            format!("{a}:1"),
            format!("{b}:1"),
            format!("{a}:2"),
            format!("{b}:2"),
        ];
        NodeDef::new(name, "QuantizedConcatV2").with_inputs(inputs)
    };
    let mut nodes: Vec<NodeDef> = ["q", "w", "lo", "hi", "axis"].map(|name| node(name, "Foo", &[])).to_vec();
    nodes.push(floats("zero", &[], &[0.0]));
    for (name, high) in [("a", 1.0), ("b", 3.0), ("c", 2.0)] {
        nodes.extend([floats(&format!("{name}/max"), &[], &[high]), conv(name, &format!("{name}/max"))]);
    }
    let pool = NodeDef::new("p", "QuantizedMaxPool").with_inputs(["b", "b:1", "b:2"]);
    nodes.extend([pool, join("one", "a", "p"), join("two", "b", "c"), join("none", "a", "q")]);
    let done = run(nodes, "rerange_quantized_concat", &setting(&[], &[])).unwrap();
    for name in ["a/max", "b/max", "c/max"] {
        assert_eq!(values(&done.graph, name), [3.0], "{name}");
    }
    assert_eq!(values(&done.graph, "zero"), [0.0]);
    assert_eq!(done.problems.len(), 1);
}

#[test]
fn extremes_are_frozen() {
    let nodes = || {
        vec![
            node("m", "Max", &["x", "dims"]),
            node("x", "Foo", &[]),
            node("dims", "Foo", &[]),
            node("q", "Foo", &["m"]),
        ]
    };
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log.txt");
    std::fs::write(&log, ";m__print__;__max:[2]\nm__print__;__max:[1];m__print__;__max:[nan]\n").unwrap();
    let freeze = |op: &str| run(nodes(), &format!("{op}(min_max_log_file=\"{}\")", log.display()), &setting(&[], &[]));
    let done = freeze("freeze_max").unwrap();
    assert_eq!(names(&done.graph), ["m/frozen_max_only", "x", "dims", "q"]);
    assert_eq!(done.graph.nodes()[3].inputs(), ["m/frozen_max_only"]);
    assert_eq!(done.problems.len(), 1);
    assert!(freeze("freeze_min").unwrap_err().to_string().contains("No min logs"));
}
