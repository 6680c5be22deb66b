//! From a plan to the quantization file: which layers have an entry, and the thresholds of each.

use super::carried::planned;
use super::file::{Entry, FileFormat, LayerKind, LayerThresholds, QuantizationFile};
use super::recipe::{XfdnnRecipe, is_eltwise};
use crate::error::CaffeError;
use quantize_ir::op::GlobalPool;
use quantize_ir::shape::resolve_axis;
use quantize_ir::{Graph, GraphError, Node, NodeId, Op, OperandRole, QuantPlan, Tensor, ValueId};
use quantize_numerics::ChannelLayout;

/// Where the thresholds of weights come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightThresholds {
    /// The largest magnitude of each channel: the hardware's compiler rounds the weights itself and clips none.
    Largest,
    /// The plan's scales, in layers that take corrections: the network that is written along has the plan's codes.
    Planned,
}

/// The file that carries out `plan`, made for `graph`.
///
/// # Errors
/// If a weight cannot be read.
pub fn quantization_file(
    recipe: &XfdnnRecipe,
    graph: &Graph,
    plan: &QuantPlan,
    weights: WeightThresholds,
    format: FileFormat,
    power_of_two: bool,
) -> Result<QuantizationFile, CaffeError> {
    let mut network = Vec::new();
    for (id, node) in in_layer_order(graph).filter(|(id, _)| plan.quantizes(*id)) {
        let Some(mut kind) = layer_kind(recipe, graph, id, true)? else { continue };
        if let (LayerKind::Product { weights }, WeightThresholds::Planned) = (&mut kind, weights)
            && let Some((_, thresholds)) = planned(recipe, graph, plan, id)
        {
            *weights = thresholds;
        }
        let (Some(x), Some(y)) = (node.input(0), node.output(0)) else { continue };
        let thresholds = (threshold(plan, x), threshold(plan, plan.materialized(graph, y)));
        let (Some(input), Some(output)) = thresholds else { continue };
        let layer = LayerThresholds { name: node.name.clone(), input, output, kind };
        let layer = if power_of_two { layer.with_power_of_two_steps(format.bits) } else { layer };
        network.push(Entry::new(&layer, format));
    }
    Ok(QuantizationFile { network })
}

/// Nodes in the order of their layers in the file.
pub fn in_layer_order(graph: &Graph) -> impl Iterator<Item = (NodeId, &Node)> {
    let mut nodes: Vec<(NodeId, &Node)> = graph.nodes().collect();
    nodes.sort_by_key(|(id, node)| (node.origin.documents().first().map(|d| d.0), *id));
    nodes.into_iter()
}

/// Largest magnitude that the codes of `value` stand for.
fn threshold(plan: &QuantPlan, value: ValueId) -> Option<f64> {
    plan.activations.get(&value)?.params.range().map(|range| f64::from(range.abs_max()))
}

/// What the entry of a node says besides its thresholds; `None` if a layer of its kind has no entry.
///
/// # Errors
/// If a weight cannot be read.
pub fn layer_kind(
    recipe: &XfdnnRecipe,
    graph: &Graph,
    id: NodeId,
    includes_factor: bool,
) -> Result<Option<LayerKind>, CaffeError> {
    let Some(node) = graph.node(id) else { return Ok(None) };
    let entries = recipe.entries;
    let kind = match &node.op {
        Op::Conv(_) => product(recipe, graph, node)?,
        Op::Gemm(_) if entries.inner_product => product(recipe, graph, node)?,
        Op::BatchNorm(_) if entries.scale && recipe.kind(node) == Some("Scale") => {
            let parameters = batch_norm_parameters(graph, node).map_err(|e| recipe.broken(e))?;
            parameters.map(|(factors, _)| {
                let thresholds = factors.iter().map(|factor| factor.abs()).collect();
                LayerKind::ChannelScale { factors, thresholds, includes_factor }
            })
        }
        op if entries.eltwise && is_eltwise(op) && recipe.kind(node) == Some("Eltwise") => Some(LayerKind::Eltwise),
        Op::AveragePool(_) | Op::GlobalPool(GlobalPool::Average) if entries.average_pool => average(graph, node),
        _ => None,
    };
    Ok(kind)
}

fn product(recipe: &XfdnnRecipe, graph: &Graph, node: &Node) -> Result<Option<LayerKind>, CaffeError> {
    let weight = node.input(1).map(|v| graph.constant(v)).transpose().map_err(|e| recipe.broken(e))?.flatten();
    let Some(weight) = weight else { return Ok(None) };
    let (Ok(values), Some(layout)) = (weight.as_slice::<f32>(), channel_layout(node, &weight)) else {
        return Ok(None);
    };
    Ok(Some(LayerKind::Product { weights: largest_magnitudes(values, layout) }))
}

/// Where the output channels of a node's weight are.
pub(super) fn channel_layout(node: &Node, weight: &Tensor) -> Option<ChannelLayout> {
    let OperandRole::Weight { channel_axis: Some(axis) } = node.op.operand_role(1) else { return None };
    ChannelLayout::of_shape(weight.shape(), resolve_axis(axis, weight.rank()).ok()?)
}

/// Factors and offsets of a channel-wise scale.
type FactorsAndOffsets = (Vec<f32>, Vec<f32>);

/// Factors and offsets of a batch normalization with mean 0 and variance 1, which a channel-wise scale is.
pub(super) fn batch_norm_parameters(graph: &Graph, node: &Node) -> Result<Option<FactorsAndOffsets>, GraphError> {
    let read = |slot: usize| -> Result<Option<Vec<f32>>, GraphError> {
        let constant = node.input(slot).map(|v| graph.constant(v)).transpose()?.flatten();
        Ok(constant.as_ref().and_then(|t| t.as_slice::<f32>().ok()).map(<[f32]>::to_vec))
    };
    Ok(read(1)?.zip(read(2)?))
}

fn largest_magnitudes(values: &[f32], layout: ChannelLayout) -> Vec<f32> {
    let mut largest = vec![0f32; layout.channels];
    for (channel, run) in layout.runs(values) {
        if let Some(largest) = largest.get_mut(channel) {
            *largest = run.iter().fold(*largest, |m, w| m.max(w.abs()));
        }
    }
    largest
}

/// Channels and window of an average pooling, from the shape of its operand.
fn average(graph: &Graph, node: &Node) -> Option<LayerKind> {
    let shape = graph.value(node.input(0)?).shape.as_deref()?;
    let known = |d: &quantize_ir::Dim| d.known().and_then(|d| usize::try_from(d).ok());
    let (channels, space) = shape.get(1..)?.split_first()?;
    let window = match &node.op {
        Op::AveragePool(pool) => pool.kernel.iter().product(),
        _ => space.iter().map(known).product::<Option<usize>>()?,
    };
    Some(LayerKind::AveragePool { channels: known(channels)?, window })
}
