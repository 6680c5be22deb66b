//! `fold_batch_norms`: a multiplication by constants behind a convolution or matrix product goes into its weights.

use super::Setting;
use super::language::Call;
use crate::error::TensorflowError;
use crate::graph::{GraphDef, GraphIndex};
use crate::node::{NodeDef, Port};
use crate::tensor::TensorProto;
use quantize_document::{Location, Problem};
use quantize_ir::Tensor;
use std::collections::{BTreeMap, BTreeSet};

type Readers = Vec<Vec<(usize, Port)>>;

/// Operators whose weights have the output channels in their last axes.
pub(super) fn has_weights(node: &NodeDef) -> bool {
    matches!(node.op(), "Conv2D" | "DepthwiseConv2dNative" | "MatMul")
}

/// Number of output channels for weights of this shape; `None` if it is not the operator's.
pub(crate) fn channels(op: &str, shape: &[usize]) -> Option<usize> {
    match (op, shape) {
        ("Conv2D", [_, _, _, out]) | ("MatMul", [_, out]) => Some(*out),
        ("DepthwiseConv2dNative", [_, _, input, multiplier]) => input.checked_mul(*multiplier),
        _ => None,
    }
}

/// Single-precision weights with each channel multiplied by a factor. The channels are the last axes of the array.
pub(super) fn scaled(weights: &Tensor, factors: &[f32]) -> Result<TensorProto, String> {
    let elements = weights.as_slice::<f32>().map_err(|error| error.to_string())?;
    let scaled = elements.iter().zip(factors.iter().cycle()).map(|(weight, factor)| weight * factor).collect();
    let scaled = Tensor::new(weights.shape(), scaled).map_err(|error| error.to_string())?;
    TensorProto::new(crate::dtype::DataType::FLOAT, &scaled)
}

/// What is found around a multiplication.
struct Match<'g> {
    product: &'g NodeDef,
    linear: &'g NodeDef,
    weights: &'g NodeDef,
    factors: &'g NodeDef,
}

/// Folds every such multiplication. The product's name goes to the convolution; what reads the convolution, the weights
/// or the factors besides keeps them from being folded.
pub(super) fn fold(
    graph: &GraphDef,
    _: &Call,
    setting: &Setting<'_>,
    problems: &mut Vec<Problem>,
) -> Result<GraphDef, TensorflowError> {
    let index = graph.index()?;
    let readers = index.consumers()?;
    let (mut gone, mut changed) = (BTreeSet::new(), BTreeMap::new());
    for product in graph.nodes().iter().filter(|node| node.op() == "Mul") {
        let Some(found) = find(&index, product) else { continue };
        if let Some(reason) = reason_against(&index, &readers, setting, &found) {
            problems.push(Problem::of_node(product.name(), format!("not folded: {reason}")));
            continue;
        }
        let weights = fold_weights(&found)?;
        changed.insert(found.weights.name(), weights);
        let mut linear = found.linear.clone();
        linear.set_name(product.name());
        changed.insert(product.name(), linear);
        gone.extend([found.linear.name(), found.factors.name()]);
    }
    let stays = graph.nodes().iter().filter(|node| !gone.contains(node.name()));
    Ok(graph.with_nodes(stays.map(|node| changed.remove(node.name()).unwrap_or_else(|| node.clone())).collect()))
}

/// The convolution and the factors of a product, in either order.
fn find<'g>(index: &GraphIndex<'g>, product: &'g NodeDef) -> Option<Match<'g>> {
    let operands: Vec<_> = product.data_inputs().collect();
    let [a, b] = operands.as_slice() else { return None };
    if a.port != Port::Data(0) || b.port != Port::Data(0) {
        return None;
    }
    let (a, b) = (index.node(a.node)?, index.node(b.node)?);
    let (linear, factors) = if has_weights(a) { (a, b) } else { (b, a) };
    if !has_weights(linear) || factors.op() != "Const" {
        return None;
    }
    let weights = index.node(linear.data_inputs().nth(1)?.node)?;
    (weights.op() == "Const").then_some(Match { product, linear, weights, factors })
}

/// Why a product must stay.
fn reason_against(
    index: &GraphIndex<'_>,
    readers: &Readers,
    setting: &Setting<'_>,
    found: &Match<'_>,
) -> Option<String> {
    for node in [found.linear, found.weights, found.factors] {
        let count = index.position(node.name()).and_then(|at| readers.get(at)).map_or(0, Vec::len);
        if count != 1 {
            return Some(format!("`{}` has {count} readers", node.name()));
        }
        if setting.is_end(node.name()) {
            return Some(format!("`{}` is an input or output of the graph", node.name()));
        }
    }
    if found.linear.op() == "MatMul" && found.linear.bool("transpose_b").ok().flatten() == Some(true) {
        return Some(format!("the weights of `{}` are transposed", found.linear.name()));
    }
    let is_nchw = found.linear.text("data_format").ok().flatten().is_some_and(|format| format == "NCHW");
    is_nchw.then(|| "channels are not the last axis".to_owned())
}

/// The weights with the factors in them, under their old name.
fn fold_weights(found: &Match<'_>) -> Result<NodeDef, TensorflowError> {
    let about = |cause: String| TensorflowError::invalid(Location::node(found.product.name()), cause);
    let (Some(weights), Some(factors)) = (found.weights.constant_value()?, found.factors.constant_value()?) else {
        return Err(about("its operands are no constants".into()));
    };
    let bad = || about(format!("Mul constant input to batch norm has bad shape: {:?}", factors.shape()));
    let channels = channels(found.linear.op(), weights.shape()).ok_or_else(bad)?;
    let is_vector = factors.shape().split_last().is_none_or(|(_, outer)| outer.iter().all(|axis| *axis == 1));
    if !is_vector || factors.rank() > 4 || !(factors.len() == channels || factors.len() == 1) {
        return Err(bad());
    }
    let factors = factors.as_slice::<f32>().map_err(|error| about(error.to_string()))?;
    let mut node = found.weights.clone();
    node.set_attr("value", scaled(&weights, factors).map_err(about)?);
    Ok(node)
}

/// Whether nothing but one node reads `node`, and it is no end of the graph.
pub(super) fn has_one_reader(index: &GraphIndex<'_>, readers: &Readers, setting: &Setting<'_>, node: &NodeDef) -> bool {
    let count = index.position(node.name()).and_then(|at| readers.get(at)).map_or(0, Vec::len);
    count == 1 && !setting.is_end(node.name())
}
