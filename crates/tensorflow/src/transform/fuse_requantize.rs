//! `fuse_quantized_conv_and_requantize`: convolutions on codes and the narrowing of their results to a fixed range become
//! one operator.

use super::Setting;
use super::fused::{
    REQUANTIZE, coded_bias, has_bias, is_fused_conv, is_read_once, range_position, scalar, scalar_node, top, units,
};
use super::language::{Call, misplaced};
use crate::dtype::DataType;
use crate::error::TensorflowError;
use crate::graph::{GraphDef, GraphIndex};
use crate::node::{Input, NodeDef, Port};
use crate::tensor::TensorProto;
use quantize_document::{Location, Problem};
use quantize_ir::Tensor;
use std::collections::{BTreeMap, BTreeSet};

/// Operators whose results are narrowed.
const CONVOLUTIONS: [&str; 8] = [
    "QuantizedConv2D",
    "QuantizedConv2DPerChannel",
    "QuantizedConv2DAndRelu",
    "QuantizedConv2DWithBias",
    "QuantizedConv2DWithBiasAndRelu",
    "QuantizedConv2DWithBiasSumAndRelu",
    "QuantizedDepthwiseConv2DWithBias",
    "QuantizedDepthwiseConv2DWithBiasAndRelu",
];

/// The fused sum whose summand has a sign. TensorFlow 2 writes no codes above 127 with it.
const SIGNED_SUM: &str = "QuantizedConv2DWithBiasSignedSumAndReluAndRequantize";
/// What its range is widened by, so that codes up to 127 suffice.
const WIDER: f32 = 255.0 / 127.0;

/// Fuses, then fits what reads and feeds the fused operators.
///
/// `rules=sound` writes symmetric ranges for signed codes, keeps biases real and widens the range of sums with signed
/// summands.
pub(super) fn fuse(
    graph: &GraphDef,
    call: &Call,
    setting: &Setting<'_>,
    problems: &mut Vec<Problem>,
) -> Result<GraphDef, TensorflowError> {
    let is_sound = match call.text("rules")? {
        None | Some("original") => false,
        Some("sound") => true,
        Some(other) => {
            let cause = format!("{}: `rules` is original or sound, not {other}", call.name);
            return Err(misplaced(call.position, cause));
        }
    };
    let fused = fuse_all(graph, setting, is_sound, problems)?;
    let fused = with_signed_readers(&fused)?;
    if is_sound { Ok(fused) } else { with_coded_biases(&fused, is_direct) }
}

/// What takes the place of a `Requantize`, and constants of its range that change.
struct Change {
    nodes: Vec<NodeDef>,
    conv: String,
}

fn fuse_all(
    graph: &GraphDef,
    setting: &Setting<'_>,
    is_sound: bool,
    problems: &mut Vec<Problem>,
) -> Result<GraphDef, TensorflowError> {
    let index = graph.index()?;
    let readers = index.consumers()?;
    let mut changes = BTreeMap::new();
    let mut gone = BTreeSet::new();
    // Nodes that quantize summands, once for each.
    let mut quantized = BTreeSet::new();
    for node in graph.nodes().iter().filter(|node| matches!(node.op(), "Requantize" | "RequantizePerChannel")) {
        match fuse_one(&index, &readers, setting, node, is_sound, &mut quantized)? {
            Ok(change) => {
                if change.nodes.iter().any(|node| node.op() == SIGNED_SUM) && !is_sound {
                    let message = "TensorFlow 2 clips it at half of its range, since its summand has a sign; `rules=sound` \
                                   widens the range";
                    problems.push(Problem::of_node(node.name(), message.into()));
                }
                gone.insert(change.conv);
                changes.insert(node.name(), change.nodes);
            }
            Err(reason) => problems.push(Problem::of_node(node.name(), format!("not fused: {reason}"))),
        }
    }
    let mut nodes = Vec::with_capacity(graph.nodes().len());
    for node in graph.nodes().iter().filter(|node| !gone.contains(node.name())) {
        match changes.remove(node.name()) {
            Some(new) => nodes.extend(new),
            None => nodes.push(node.clone()),
        }
    }
    Ok(graph.with_nodes(nodes))
}

/// The end of a range, which is a constant, or the lesser of two.
fn end(index: &GraphIndex<'_>, input: &str) -> Result<Option<f32>, TensorflowError> {
    let node = index.node(Input::parse(input).node);
    let Some(minimum) = node.filter(|node| node.op() == "Minimum") else { return scalar(index, input) };
    let [a, b] = minimum.inputs() else { return Ok(None) };
    Ok(scalar(index, a)?.zip(scalar(index, b)?).map(|(a, b)| a.min(b)))
}

/// Fuses one `Requantize` with the convolution before it, or says why not.
fn fuse_one(
    index: &GraphIndex<'_>,
    readers: &[Vec<(usize, Port)>],
    setting: &Setting<'_>,
    node: &NodeDef,
    is_sound: bool,
    quantized: &mut BTreeSet<String>,
) -> Result<Result<Change, String>, TensorflowError> {
    let [codes, _, _, min, max] = node.inputs() else { return Ok(Err("it has not five inputs".into())) };
    let source = Input::parse(codes).node;
    let Some(conv) = index.node(source).filter(|conv| CONVOLUTIONS.contains(&conv.op())) else {
        return Ok(Err(format!("`{source}` is no convolution on codes")));
    };
    let at = index.position(source).and_then(|at| readers.get(at));
    let is_own =
        at.is_some_and(|readers| readers.iter().all(|(at, _)| index.at(*at).is_some_and(|r| r.name() == node.name())));
    if !is_own || setting.is_end(source) {
        return Ok(Err(format!("`{source}` is read elsewhere")));
    }
    let (Some(low), Some(high)) = (end(index, min)?, end(index, max)?) else {
        return Ok(Err("its range is not constant".into()));
    };
    let base = conv.op().trim_end_matches("PerChannel");
    let has_relu = base.contains("Relu");
    let dtype = if has_relu { DataType::QUINT8 } else { DataType::QINT8 };
    let mut new = Vec::new();
    let mut range = [min.clone(), max.clone()];
    let (mut ends, signed) = ([low, high], !has_relu);
    let (data, waits): (Vec<String>, Vec<String>) =
        conv.inputs().iter().cloned().partition(|input| !input.starts_with('^'));
    let position = range_position(base);
    let Some(operands) = data.get(..position) else { return Ok(Err(format!("`{source}` has too few inputs"))) };
    let mut fused = NodeDef::new(node.name(), format!("{base}{REQUANTIZE}"));
    let mut summand = Vec::new();
    if base.contains("Sum") {
        let Some(added) = data.get(position) else { return Ok(Err(format!("`{source}` has no summand"))) };
        let (nodes, inputs, kind) = summed(index, added, quantized)?;
        new.extend(nodes);
        summand.extend(inputs);
        fused.set_attr("Tsummand", kind);
        if kind == DataType::QINT8 {
            fused.set_op(SIGNED_SUM);
            if is_sound {
                ends = [low, high * WIDER];
            }
        }
    }
    if is_sound && signed {
        let top = low.abs().max(high.abs());
        ends = [-top, top];
    }
    if ends != [low, high]
        || [min, max].iter().any(|input| index.node(Input::parse(input).node).is_some_and(|n| n.op() != "Const"))
    {
        for ((value, name), slot) in ends.into_iter().zip(["fused_min", "fused_max"]).zip(&mut range) {
            let name = format!("{}/{name}", node.name());
            new.push(scalar_node(&name, value)?);
            *slot = name;
        }
    }
    let range = range.map(|end| Input::parse(&end).to_string());
    let inputs = operands.iter().cloned().chain(range).chain(summand).chain(waits);
    fused = fused.with_inputs(inputs);
    for name in ["Tinput", "Tfilter", "strides", "padding", "padding_list", "dilations"] {
        if let Some(value) = conv.attr(name) {
            fused.set_attr(name, value.clone());
        }
    }
    fused.set_attr("out_type", dtype);
    if has_bias(base) {
        fused.set_attr("Tbias", DataType::FLOAT);
    }
    new.push(fused);
    Ok(Ok(Change { nodes: new, conv: conv.name().to_owned() }))
}

/// Codes of a summand with their range: those that it was made of, or new ones. With nodes that are new, and their type.
fn summed(
    index: &GraphIndex<'_>,
    summand: &str,
    quantized: &mut BTreeSet<String>,
) -> Result<(Vec<NodeDef>, Vec<String>, DataType), TensorflowError> {
    let name = Input::parse(summand).node;
    let node = index.node(name).ok_or_else(|| {
        TensorflowError::invalid(Location::node(name), "a convolution adds it, but there is no such node")
    })?;
    if node.op() == "Dequantize" {
        let source = node.inputs().iter().take(3).cloned().collect();
        let codes = node.data_inputs().next().and_then(|input| index.node(input.node));
        let kind = codes.map(|codes| code_type(index, codes)).transpose()?.unwrap_or(DataType::QUINT8);
        return Ok((Vec::new(), source, kind));
    }
    let kind = if matches!(node.op(), "Relu" | "Relu6") { DataType::QUINT8 } else { DataType::QINT8 };
    let part = |part: &str| format!("{name}/{part}");
    let inputs = ["", ":1", ":2"].map(|port| format!("{}{port}", part("quantize")));
    if !quantized.insert(name.to_owned()) {
        return Ok((Vec::new(), inputs.to_vec(), kind));
    }
    let about = |cause: String| TensorflowError::invalid(Location::node(name), cause);
    let dims = |name: String, value: i32| {
        let value = TensorProto::new(DataType::INT32, &Tensor::vector(vec![value])).map_err(about)?;
        Ok::<_, TensorflowError>(NodeDef::constant(name, value))
    };
    let ends = [("min", "Min"), ("max", "Max")].map(|(name, op)| {
        NodeDef::new(part(name), op)
            .with_inputs([part("reshape"), part("reduction_dims")])
            .with_attr("T", DataType::FLOAT)
            .with_attr("Tidx", DataType::INT32)
            .with_attr("keep_dims", false)
    });
    let [min, max] = ends;
    let nodes = vec![
        dims(part("reshape_dims"), -1)?,
        dims(part("reduction_dims"), 0)?,
        NodeDef::new(part("reshape"), "Reshape")
            .with_inputs([summand.to_owned(), part("reshape_dims")])
            .with_attr("T", DataType::FLOAT),
        min,
        max,
        NodeDef::new(part("quantize"), "QuantizeV2")
            .with_inputs([summand.to_owned(), part("min"), part("max")])
            .with_attr("T", kind)
            .with_attr("mode", "SCALED")
            .with_attr("round_mode", "HALF_TO_EVEN"),
    ];
    Ok((nodes, inputs.to_vec(), kind))
}

/// The type of codes that a node will write when everything is fused.
fn code_type(index: &GraphIndex<'_>, node: &NodeDef) -> Result<DataType, TensorflowError> {
    if let "Requantize" | "RequantizePerChannel" = node.op() {
        let conv = node.data_inputs().next().and_then(|input| index.node(input.node));
        let has_relu = conv.is_none_or(|conv| conv.op().contains("Relu"));
        return Ok(if has_relu { DataType::QUINT8 } else { DataType::QINT8 });
    }
    Ok(node.dtype("out_type")?.or(node.dtype("T")?).unwrap_or(DataType::QUINT8))
}

/// `Dequantize` nodes behind fused convolutions that write signed codes read signed codes.
fn with_signed_readers(graph: &GraphDef) -> Result<GraphDef, TensorflowError> {
    let index = graph.index()?;
    let mut nodes = graph.nodes().to_vec();
    for node in nodes.iter_mut().filter(|node| node.op() == "Dequantize") {
        let source = node.data_inputs().next().and_then(|input| index.node(input.node));
        let Some(source) = source.filter(|source| is_fused_conv(source)) else { continue };
        if source.dtype("out_type")? == Some(DataType::QINT8) {
            node.set_attr("T", DataType::QINT8);
            node.set_attr("mode", "SCALED");
        }
    }
    Ok(graph.with_nodes(nodes))
}

/// The fused convolution that itself feeds another.
fn is_direct<'g>(index: &GraphIndex<'g>, input: Input<'_>) -> Option<&'g NodeDef> {
    index.node(input.node).filter(|node| is_fused_conv(node))
}

/// Biases of fused convolutions as 32-bit codes, where `producer` finds the fused convolution whose codes they read, and
/// its range is constant. A bias that others read stays real.
pub(super) fn with_coded_biases(
    graph: &GraphDef,
    producer: for<'g> fn(&GraphIndex<'g>, Input<'_>) -> Option<&'g NodeDef>,
) -> Result<GraphDef, TensorflowError> {
    let index = graph.index()?;
    let readers = index.consumers()?;
    let mut biases = BTreeMap::new();
    let mut nodes = graph.nodes().to_vec();
    let is_candidate = |node: &NodeDef| is_fused_conv(node) && has_bias(node.op());
    for node in nodes.iter_mut().filter(|node| is_candidate(node)) {
        if node.dtype("Tbias")? != Some(DataType::FLOAT) {
            continue;
        }
        let Some(source) = node.data_inputs().next().and_then(|input| producer(&index, input)) else { continue };
        let at = range_position(source.op());
        let [Some(min), Some(max)] = [at, at + 1].map(|at| source.inputs().get(at)) else { continue };
        let (Some(min), Some(max)) = (scalar(&index, min)?, scalar(&index, max)?) else { continue };
        let top = top(node.dtype("Tinput")?);
        let Some(units) = units(&index, node, min.abs().max(max.abs()), top)? else { continue };
        let Some(bias) = node.data_inputs().nth(2).and_then(|input| index.node(input.node)) else { continue };
        if bias.op() != "Const" || !is_read_once(&index, &readers, bias.name()) {
            continue;
        }
        biases.insert(bias.name(), coded_bias(bias, &units)?);
        node.set_attr("Tbias", DataType::QINT32);
    }
    for node in &mut nodes {
        if let Some(coded) = biases.remove(node.name()) {
            *node = coded;
        }
    }
    Ok(graph.with_nodes(nodes))
}
