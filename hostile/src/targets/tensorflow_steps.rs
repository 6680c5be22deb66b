//! Steps from graph to graph: every transform, and both ways to compute on codes.

use crate::error::{Error, Result};
use crate::target::Seed;
use quantize_document::{Limits, SourceFile};
use quantize_ir::{Op, Tensor};
use quantize_tensorflow::eightbit::Rules;
use quantize_tensorflow::transform::language::parse;
use quantize_tensorflow::transform::{Evaluator, Setting, transform, transform_names};
use quantize_tensorflow::{
    DataType, EightbitOptions, Encoding, GraphDef, NodeDef, ReadOptions, TensorProto, TensorflowDocument, eightbit,
    render,
};

/// What some transforms cannot do without.
const PARAMETERS: &[(&str, &str)] = &[
    ("remove_attribute", "attribute_name=T"),
    ("remove_nodes", "op=Identity, op=Relu"),
    ("rename_attribute", "old_attribute_name=T, new_attribute_name=U"),
    ("rename_node", "old_node_name=relu, new_node_name=renamed"),
    ("rename_op", "old_op_name=Relu, new_op_name=Relu6"),
    ("set_device", "device=\"/cpu:0\""),
    ("quantize_weights", "minimum_size=1"),
];

/// Nothing is computed: what a constant is worth is the matter of another target.
struct Nothing;

impl Evaluator for Nothing {
    fn evaluate(&self, _: Op, _: &[&Tensor]) -> std::result::Result<Tensor, String> {
        Err("not computed here".into())
    }
}

/// A graph in which every transform finds something, and the same on codes.
pub(super) fn graphs() -> Result<Vec<Seed>> {
    let failed = |cause: String| Error::Seed { name: "a graph of layers".into(), cause };
    let graph = GraphDef::new(nodes().map_err(failed)?);
    let options = EightbitOptions {
        outputs: vec!["out".into()],
        intel: true,
        quantize_matmul: true,
        ..EightbitOptions::default()
    };
    let coded = eightbit(&graph, &options).map_err(|error| failed(error.to_string()))?.graph;
    let mut frozen = coded.clone();
    for node in frozen.nodes_mut().iter_mut().filter(|node| node.op() == "Requantize") {
        let inputs = node.inputs().iter().take(3).cloned().chain(["low".to_owned(), "high".into()]);
        let inputs = inputs.collect();
        node.set_inputs(inputs);
    }
    [("of layers", &graph), ("on codes", &coded), ("of frozen ranges", &frozen)]
        .into_iter()
        .map(|(name, graph)| {
            let bytes = render(graph, Encoding::Text).map_err(|error| failed(error.to_string()))?;
            Ok(Seed::made(format!("a graph {name}"), bytes))
        })
        .collect()
}

fn nodes() -> std::result::Result<Vec<NodeDef>, String> {
    let reals = |name: &str, shape: &[usize]| {
        let count: usize = shape.iter().product();
        let values = (0..count).map(|i| (i as f32 * 0.37).sin() + 1.5).collect::<Vec<f32>>();
        let tensor = Tensor::new(shape, values).map_err(|error| error.to_string())?;
        Ok::<_, String>(NodeDef::constant(name, TensorProto::new(DataType::FLOAT, &tensor)?))
    };
    let ints = |name: &str, shape: &[usize], values: &[i32]| {
        let tensor = Tensor::new(shape, values.to_vec()).map_err(|error| error.to_string())?;
        Ok::<_, String>(NodeDef::constant(name, TensorProto::new(DataType::INT32, &tensor)?))
    };
    let node = |name: &str, op: &str, inputs: &[&str]| {
        NodeDef::new(name, op).with_inputs(inputs.to_vec()).with_attr("T", DataType::FLOAT)
    };
    let conv = |name: &str, inputs: &[&str], padding: &str| {
        node(name, "Conv2D", inputs).with_attr("strides", vec![1, 1, 1, 1]).with_attr("padding", padding)
    };
    Ok(vec![
        NodeDef::new("in", "Placeholder").with_attr("dtype", DataType::FLOAT),
        reals("low", &[])?,
        reals("high", &[])?,
        reals("w1", &[1, 1, 2, 2])?,
        reals("factors", &[2])?,
        reals("beta", &[2])?,
        conv("conv", &["in", "w1"], "SAME"),
        node("mul", "Mul", &["conv", "factors"]),
        node("bias", "BiasAdd", &["mul", "beta"]),
        node("relu", "Relu", &["bias"]),
        ints("pads", &[4, 2], &[0, 0, 1, 1, 1, 1, 0, 0])?,
        node("pad", "Pad", &["relu", "pads"]),
        reals("w2", &[3, 3, 2, 2])?,
        conv("conv2", &["pad", "w2"], "VALID"),
        reals("mean", &[2])?,
        node("sub", "Sub", &["conv2", "mean"]),
        reals("sd", &[2])?,
        node("div", "RealDiv", &["sub", "sd"]),
        reals("gamma", &[2])?,
        node("scaled", "Mul", &["div", "gamma"]),
        reals("beta2", &[2])?,
        node("bias2", "BiasAdd", &["scaled", "beta2"]),
        node("relu2", "Relu", &["bias2"]),
        ints("block", &[2], &[2, 2])?,
        ints("around", &[2, 2], &[2, 2, 2, 2])?,
        ints("crops", &[2, 2], &[0, 0, 0, 0])?,
        node("spread", "SpaceToBatchND", &["relu2", "block", "around"]),
        reals("w3", &[3, 3, 2, 2])?,
        conv("conv3", &["spread", "w3"], "VALID"),
        node("gather", "BatchToSpaceND", &["conv3", "block", "crops"]),
        reals("variance", &[2])?,
        node("norm", "FusedBatchNormV3", &["gather", "gamma", "beta", "mean", "variance"])
            .with_attr("is_training", false),
        node("relu3", "Relu", &["norm"]),
        ints("axis", &[], &[3])?,
        node("join", "ConcatV2", &["relu3", "relu2", "axis"]).with_attr("N", 2),
        node("same", "Identity", &["join"]),
        reals("w4", &[4, 3])?,
        node("product", "MatMul", &["same", "w4"]),
        reals("beta4", &[3])?,
        node("bias4", "BiasAdd", &["product", "beta4"]),
        node("out", "Relu", &["bias4"]),
    ])
}

/// Takes every step with a damaged graph. It is refused if no step can be taken.
pub(super) fn take(_: &Seed, bytes: Vec<u8>) -> std::result::Result<(), String> {
    let source = SourceFile::from_bytes("damaged.pbtxt", bytes);
    let document = TensorflowDocument::parse(source, &Limits::default(), &ReadOptions::default());
    let document = document.map_err(|error| error.to_string())?;
    let graph = document.graph();
    let ends = |wanted: &str| match graph.nodes().iter().any(|node| node.name() == wanted) {
        true => vec![wanted.to_owned()],
        false => Vec::new(),
    };
    let (inputs, outputs) = (ends("in"), ends("out"));
    let setting = Setting { inputs, outputs: outputs.clone(), limits: Limits::default(), evaluator: &Nothing };
    let parameters = |name: &str| PARAMETERS.iter().find(|(known, _)| *known == name).map_or("", |(_, given)| given);
    let mut taken = Err("no step can be taken".to_owned());
    let together: Vec<String> = transform_names().map(|name| format!("{name}({})", parameters(name))).collect();
    let ignoring = |request: &String| request.replacen(')', " ignore_errors=true)", 1);
    let chain = together.iter().map(ignoring).collect::<Vec<String>>().join(" ");
    for request in together.iter().chain([&chain]) {
        let calls = parse(request).map_err(|error| error.to_string())?;
        if transform(graph, &calls, &setting).is_ok() {
            taken = Ok(());
        }
    }
    for (intel, per_channel, rules) in
        [(true, false, Rules::Original), (true, true, Rules::Sound), (false, false, Rules::Original)]
    {
        let options = EightbitOptions {
            outputs: outputs.clone(),
            intel,
            per_channel,
            quantize_matmul: true,
            rules,
            ..EightbitOptions::default()
        };
        if eightbit(graph, &options).is_ok() {
            taken = Ok(());
        }
    }
    taken
}

/// Whether a text cut after `length` bytes ends within brackets; those in strings are none. The nodes before a cut between
/// two of them are a graph of their own.
pub(super) fn is_inside_a_block(text: &[u8], length: usize) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0i64, false, false);
    for byte in &text[..length] {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' if !in_string => depth += 1,
            b'}' if !in_string => depth -= 1,
            _ => {}
        }
    }
    depth > 0
}
