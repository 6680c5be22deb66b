//! `fold_old_batch_norms`: batch normalization that is one operator goes into the weights before it and a `BiasAdd`.
//!
//! Folded are `BatchNormWithGlobalNormalization` and `FusedBatchNorm` of all versions behind a convolution, a
//! convolution and `BatchToSpaceND`, or a concatenation of two convolutions along the channels.

use super::Setting;
use super::batch_norm::{channels, has_one_reader, scaled};
use super::language::Call;
use crate::dtype::DataType;
use crate::error::TensorflowError;
use crate::graph::{GraphDef, GraphIndex};
use crate::node::{NodeDef, Port};
use crate::tensor::TensorProto;
use quantize_document::{Location, Problem};
use quantize_ir::Tensor;
use std::collections::{BTreeMap, BTreeSet};

/// `epsilon` of `FusedBatchNorm` where the node does not say.
const EPSILON: f32 = 1e-4;

/// What a normalization does to each channel: `x * scale + offset`.
struct Affine {
    scale: Vec<f32>,
    offset: Vec<f32>,
}

/// What a normalization stands behind.
enum Before<'g> {
    Convolution(&'g NodeDef),
    /// A convolution and the operator that puts its blocks together.
    Blocks(&'g NodeDef, &'g NodeDef),
    /// Two convolutions and their concatenation.
    Joined([&'g NodeDef; 2], &'g NodeDef),
}

type Readers = Vec<Vec<(usize, Port)>>;

/// Folds every such normalization, one after the other, so that chains are folded too.
pub(super) fn fold(
    graph: &GraphDef,
    _: &Call,
    setting: &Setting<'_>,
    problems: &mut Vec<Problem>,
) -> Result<GraphDef, TensorflowError> {
    let mut graph = graph.clone();
    loop {
        let index = graph.index()?;
        let readers = index.consumers()?;
        let mut edits = Edits::default();
        let mut unfolded = Vec::new();
        for node in graph.nodes().iter().filter(|node| is_normalization(node)) {
            match fold_one(&index, &readers, setting, node, &mut edits)? {
                Ok(()) => {}
                Err(reason) => {
                    let message = format!("not folded: {reason}");
                    unfolded.push(Problem::of_node(node.name(), message));
                }
            }
        }
        if edits.new.is_empty() {
            problems.extend(unfolded);
            return Ok(graph);
        }
        graph = edits.apply(&graph);
    }
}

/// Nodes that change, by their old names; each may change once in a round.
#[derive(Default)]
struct Edits {
    new: BTreeMap<String, Vec<NodeDef>>,
    gone: BTreeSet<String>,
}

impl Edits {
    fn apply(mut self, graph: &GraphDef) -> GraphDef {
        let mut nodes = Vec::with_capacity(graph.nodes().len());
        for node in graph.nodes() {
            match self.new.remove(node.name()) {
                Some(new) => nodes.extend(new),
                None if self.gone.contains(node.name()) => {}
                None => nodes.push(node.clone()),
            }
        }
        graph.with_nodes(nodes)
    }
}

fn is_normalization(node: &NodeDef) -> bool {
    matches!(node.op(), "BatchNormWithGlobalNormalization" | "FusedBatchNorm" | "FusedBatchNormV2" | "FusedBatchNormV3")
}

/// Folds a normalization, or says why not.
fn fold_one(
    index: &GraphIndex<'_>,
    readers: &Readers,
    setting: &Setting<'_>,
    node: &NodeDef,
    edits: &mut Edits,
) -> Result<Result<(), String>, TensorflowError> {
    let reads_statistics = |(_, port): &(usize, Port)| matches!(port, Port::Data(1..));
    let own = index.position(node.name()).and_then(|at| readers.get(at));
    if own.is_some_and(|own| own.iter().any(reads_statistics)) {
        return Ok(Err("its statistics are read".into()));
    }
    if node.op() != "BatchNormWithGlobalNormalization" && node.bool("is_training")?.unwrap_or(true) {
        return Ok(Err("it is in training".into()));
    }
    let Some(affine) = affine(index, node)? else { return Ok(Err("its parameters are no constants".into())) };
    let before = match before(index, readers, setting, node) {
        Ok(before) => before,
        Err(reason) => return Ok(Err(reason)),
    };
    let about = |cause: String| TensorflowError::invalid(Location::node(node.name()), cause);
    let parts: Vec<(&NodeDef, Affine, String)> = match &before {
        Before::Convolution(conv) => vec![(*conv, affine, node.name().to_owned())],
        Before::Blocks(conv, _) => vec![(*conv, affine, format!("{}/biasadd", conv.name()))],
        Before::Joined([first, second], join) => {
            let at = weights(index, first)?.and_then(|(_, w)| channels(first.op(), w.shape())).unwrap_or(0);
            if at > affine.scale.len() {
                return Ok(Err("its parameters do not fit the channels".into()));
            }
            let (mut head, mut tail) = (affine, Affine { scale: Vec::new(), offset: Vec::new() });
            (tail.scale, tail.offset) = (head.scale.split_off(at), head.offset.split_off(at));
            let name = |part: u32| format!("{}_bn_in{part}", join.name());
            vec![(*first, head, name(0)), (*second, tail, name(1))]
        }
    };
    let mut made = Vec::new();
    for (conv, affine, name) in parts {
        let Some((weights, values)) = weights(index, conv)? else {
            return Ok(Err(format!("the weights of `{}` are no constants", conv.name())));
        };
        if edits.new.contains_key(weights.name()) || !has_one_reader(index, readers, setting, weights) {
            return Ok(Err(format!("`{}` has other readers", weights.name())));
        }
        if channels(conv.op(), values.shape()) != Some(affine.scale.len()) {
            return Ok(Err("its parameters do not fit the channels".into()));
        }
        let mut folded = weights.clone();
        folded.set_attr("value", scaled(&values, &affine.scale).map_err(about)?);
        made.push((conv, folded, offset(conv, &affine.offset).map_err(about)?, bias_add(conv, name)?));
    }
    write(edits, node, &before, made);
    let parameters = node.data_inputs().skip(1).filter_map(|input| index.node(input.node));
    let unread = parameters.filter(|parameter| has_one_reader(index, readers, setting, parameter));
    edits.gone.extend(unread.map(|parameter| parameter.name().to_owned()));
    Ok(Ok(()))
}

/// Puts what was made in the places of what it was made from.
fn write(edits: &mut Edits, node: &NodeDef, before: &Before<'_>, made: Vec<(&NodeDef, NodeDef, NodeDef, NodeDef)>) {
    let mut sums = Vec::new();
    for (conv, weights, offset, sum) in made {
        edits.new.insert(weights.name().to_owned(), vec![weights]);
        sums.push(sum.name().to_owned());
        match before {
            Before::Convolution(_) => {
                edits.new.insert(node.name().to_owned(), vec![offset, sum]);
            }
            Before::Blocks(..) | Before::Joined(..) => {
                edits.new.insert(conv.name().to_owned(), vec![conv.clone(), offset, sum]);
            }
        }
    }
    let joint = match before {
        Before::Convolution(_) => return,
        Before::Blocks(_, joint) | Before::Joined(_, joint) => joint,
    };
    let convolutions: Vec<&str> = match before {
        Before::Convolution(_) => Vec::new(),
        Before::Blocks(conv, _) => vec![conv.name()],
        Before::Joined(convs, _) => convs.iter().map(|conv| conv.name()).collect(),
    };
    let mut renamed = (*joint).clone();
    let rewired = joint.refs().map(|input| match convolutions.iter().position(|name| *name == input.node) {
        Some(at) if input.is_data() => sums.get(at).cloned().unwrap_or_default(),
        _ => input.to_string(),
    });
    renamed.set_inputs(rewired.collect());
    renamed.set_name(node.name());
    edits.gone.insert(joint.name().to_owned());
    edits.new.insert(node.name().to_owned(), vec![renamed]);
}

/// Scale and offset of a normalization; `None` if a parameter is no constant vector of single precision.
fn affine(index: &GraphIndex<'_>, node: &NodeDef) -> Result<Option<Affine>, TensorflowError> {
    let mut parameters = Vec::new();
    for input in node.data_inputs().skip(1) {
        let Some(constant) = index.node(input.node) else { return Ok(None) };
        let Some(value) = constant.constant_value()? else { return Ok(None) };
        match value.into_vec::<f32>() {
            Ok(values) => parameters.push(values),
            Err(_) => return Ok(None),
        }
    }
    let [a, b, c, d] = parameters.as_slice() else { return Ok(None) };
    let global = node.op() == "BatchNormWithGlobalNormalization";
    let (mean, variance, beta, gamma) = if global { (a, b, c, d) } else { (c, d, b, a) };
    if [variance, beta, gamma].iter().any(|other| other.len() != mean.len()) {
        let cause = "its parameters have different lengths";
        return Err(TensorflowError::invalid(Location::node(node.name()), cause));
    }
    let (epsilon, scales) = if global {
        (node.float("variance_epsilon")?.unwrap_or(0.0), node.bool("scale_after_normalization")?.unwrap_or(true))
    } else {
        (node.float("epsilon")?.unwrap_or(EPSILON), true)
    };
    let factor = |(variance, gamma): (&f32, &f32)| {
        let deviation = (variance + epsilon).sqrt();
        if scales { gamma / deviation } else { 1.0 / deviation }
    };
    let scale: Vec<f32> = variance.iter().zip(gamma).map(factor).collect();
    let offset = beta.iter().zip(mean).zip(&scale).map(|((beta, mean), scale)| beta - mean * scale).collect();
    Ok(Some(Affine { scale, offset }))
}

/// What a normalization stands behind, all of which only it reads.
fn before<'g>(
    index: &GraphIndex<'g>,
    readers: &Readers,
    setting: &Setting<'_>,
    node: &NodeDef,
) -> Result<Before<'g>, String> {
    let source = node.data_inputs().next().and_then(|input| index.node(input.node)).ok_or("it has no input")?;
    let only = |node: &'g NodeDef| match has_one_reader(index, readers, setting, node) {
        true => Ok(node),
        false => Err(format!("`{}` has other readers", node.name())),
    };
    let operand = |node: &'g NodeDef, at: usize| node.data_inputs().nth(at).and_then(|input| index.node(input.node));
    let other = || format!("it is behind `{}` ({}), not a convolution", source.name(), source.op());
    match source.op() {
        "Conv2D" | "DepthwiseConv2dNative" => only(source).map(Before::Convolution),
        "BatchToSpaceND" => {
            let conv = operand(source, 0).filter(|conv| conv.op() == "Conv2D").ok_or_else(other)?;
            Ok(Before::Blocks(only(conv)?, only(source)?))
        }
        "ConcatV2" | "Concat" => {
            let first = usize::from(source.op() == "Concat");
            let axis = operand(source, if first == 1 { 0 } else { 2 }).and_then(|axis| axis.constant_value().ok()?);
            let axis = axis.and_then(|axis| axis.to_i64_vec().ok()).filter(|axis| matches!(axis[..], [3 | -1]));
            let convs = [operand(source, first), operand(source, first + 1)].map(|c| c.filter(|c| c.op() == "Conv2D"));
            match (convs, axis, source.data_inputs().count()) {
                ([Some(one), Some(two)], Some(_), 3) => Ok(Before::Joined([only(one)?, only(two)?], only(source)?)),
                _ => Err(other()),
            }
        }
        _ => Err(other()),
    }
}

/// The constant weights of a convolution.
fn weights<'g>(index: &GraphIndex<'g>, conv: &NodeDef) -> Result<Option<(&'g NodeDef, Tensor)>, TensorflowError> {
    let Some(node) = conv.data_inputs().nth(1).and_then(|input| index.node(input.node)) else { return Ok(None) };
    Ok(node.constant_value()?.map(|value| (node, value)))
}

fn offset(conv: &NodeDef, values: &[f32]) -> Result<NodeDef, String> {
    let value = TensorProto::new(DataType::FLOAT, &Tensor::vector(values.to_vec()))?;
    Ok(NodeDef::constant(format!("{}_bn_offset", conv.name()), value))
}

fn bias_add(conv: &NodeDef, name: String) -> Result<NodeDef, TensorflowError> {
    let mut sum = NodeDef::new(name, "BiasAdd")
        .with_inputs([conv.name().to_owned(), format!("{}_bn_offset", conv.name())])
        .with_attr("T", conv.dtype("T")?.unwrap_or(DataType::FLOAT));
    if let Some(format) = conv.attr("data_format") {
        sum.set_attr("data_format", format.clone());
    }
    Ok(sum)
}
