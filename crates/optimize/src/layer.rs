//! The unit of the walk: a linear operator with planned weights, and what may be changed of it.

use crate::error::OptimizeError;
use quantize_ir::op::{FilterLayout, Layout};
use quantize_ir::{DType, Graph, NodeId, Op, Operand, OperandRole, Patch, PatchEdit, QuantPlan, Tensor, ValueId};

/// A linear operator whose weights are codes.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    pub(crate) node: NodeId,
    /// How messages call it.
    pub(crate) label: String,
    pub(crate) op: Op,
    pub(crate) input: ValueId,
    pub(crate) weight: ValueId,
    pub(crate) bias: Bias,
    /// Its result, before whatever follows.
    pub(crate) result: ValueId,
    /// Number of output channels.
    pub(crate) channels: usize,
    pub(crate) channel_axis: ChannelAxis,
    /// Whether a function that bends or cuts off reads the result, alone or with others.
    pub(crate) bent: bool,
}

/// What can be added to each output channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bias {
    /// Nothing: the operator has no such operand.
    None,
    /// Nothing so far.
    Absent,
    /// A constant of one element for each channel.
    Given(ValueId),
}

/// Where the output channels stand in a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChannelAxis {
    Second,
    Last,
}

/// Operand slot of the weights.
pub(crate) const WEIGHT: usize = 1;
/// Operand slot of the bias.
pub(crate) const BIAS: usize = 2;

impl Layer {
    /// The layer that `id` is, if it is one: its weights are planned codes of real constants.
    ///
    /// # Errors
    /// If a constant cannot be read.
    pub(crate) fn of(graph: &Graph, plan: &QuantPlan, id: NodeId) -> Result<Option<Self>, OptimizeError> {
        let Some(node) = graph.node(id) else { return Ok(None) };
        let (Some(input), Some(weight), Some(result)) = (node.input(0), node.input(WEIGHT), node.output(0)) else {
            return Ok(None);
        };
        let coded = plan.nodes.get(&id).is_some_and(|n| n.decision.codes_constants());
        let planned = coded && plan.weights.contains_key(&(id, WEIGHT));
        let is_weight = matches!(node.op.operand_role(WEIGHT), OperandRole::Weight { .. });
        let Some(constant) = graph.value(weight).constant.as_ref().filter(|_| planned && is_weight) else {
            return Ok(None);
        };
        if graph.value(input).constant.is_some() {
            return Ok(None);
        }
        let Some((channels, channel_axis)) = output_channels(&node.op, constant.shape()) else { return Ok(None) };
        let bias = bias_of(graph, id, channels)?;
        let bent = graph.value(result).consumers().iter().any(|(reader, _)| {
            graph.node(*reader).is_some_and(|n| matches!(n.op, Op::Unary(_) | Op::Clip | Op::PRelu))
        });
        let (label, op) = (graph.label(id), node.op.clone());
        Ok(Some(Self { node: id, label, op, input, weight, bias, result, channels, channel_axis, bent }))
    }
}

/// Gives `node`, a layer, a bias of its own: a constant of one element for each output channel.
///
/// # Errors
/// If it takes no bias, or another number of elements.
pub fn set_bias(graph: &mut Graph, id: NodeId, bias: Vec<f32>) -> Result<(), OptimizeError> {
    let label = graph.label(id);
    let node = graph.node(id).cloned().filter(|n| n.op.operand_role(BIAS) == OperandRole::Bias);
    let node = node.ok_or_else(|| OptimizeError::layer(&label, "it takes no bias"))?;
    let weight = node.input(WEIGHT).and_then(|v| graph.value(v).constant.as_ref());
    let channels = weight.and_then(|w| output_channels(&node.op, w.shape())).map(|(channels, _)| channels);
    if channels != Some(bias.len()) {
        let expected = channels.map_or_else(|| "no".to_owned(), |n| n.to_string());
        return Err(OptimizeError::layer(
            &label,
            format!("a bias of {} elements, it has {expected} channels", bias.len()),
        ));
    }
    let name = match node.input(BIAS) {
        Some(value) => graph.value(value).name.clone(),
        None => format!("{label}_bias"),
    };
    let mut inputs: Vec<Operand> = node.inputs.iter().map(|v| v.map_or(Operand::Absent, Operand::Value)).collect();
    inputs.resize(inputs.len().max(BIAS + 1), Operand::Absent);
    inputs[BIAS] = Operand::Constant { name, tensor: Tensor::vector(bias) };
    let edit = PatchEdit::Rewire { node: id, op: node.op, inputs, outputs: node.outputs };
    let because = format!("`{label}` answers what rounding does to its mean");
    graph.apply(Patch { pass: "correct-bias", because, edits: vec![edit] })?;
    Ok(())
}

/// The bias of `node`, a layer: zeros where it has none so far; `None` if it takes none of one element for each channel.
pub fn layer_bias(graph: &Graph, id: NodeId) -> Option<Vec<f32>> {
    let node = graph.node(id)?;
    let weight = graph.value(node.input(WEIGHT)?).constant.as_ref()?;
    let (channels, _) = output_channels(&node.op, weight.shape())?;
    match bias_of(graph, id, channels).ok()? {
        Bias::None => None,
        Bias::Absent => Some(vec![0.0; channels]),
        Bias::Given(value) => Some(graph.constant(value).ok()??.as_slice().ok()?.to_vec()),
    }
}

/// Number of output channels of an operator with weights of `shape`, and where they stand in its result.
fn output_channels(op: &Op, shape: &[usize]) -> Option<(usize, ChannelAxis)> {
    let axis_of = |layout| match layout {
        Layout::ChannelsFirst => ChannelAxis::Second,
        Layout::ChannelsLast => ChannelAxis::Last,
    };
    let last = shape.len().checked_sub(1)?;
    match op {
        Op::Conv(c) if c.filter == FilterLayout::OutputFirst => Some((*shape.first()?, axis_of(c.layout))),
        Op::Conv(c) => Some((shape[last], axis_of(c.layout))),
        Op::ConvTranspose(c) => {
            let axis = if c.filter == FilterLayout::OutputFirst { 1 } else { last.checked_sub(1)? };
            Some((shape.get(axis)?.checked_mul(c.group)?, axis_of(c.layout)))
        }
        Op::Gemm(g) if shape.len() == 2 && !g.trans_a && g.alpha == 1.0 && g.beta == 1.0 => {
            Some((shape[usize::from(!g.trans_b)], ChannelAxis::Last))
        }
        Op::MatMul if shape.len() == 2 => Some((shape[last], ChannelAxis::Last)),
        _ => None,
    }
}

fn bias_of(graph: &Graph, id: NodeId, channels: usize) -> Result<Bias, OptimizeError> {
    let Some(node) = graph.node(id).filter(|n| n.op.operand_role(BIAS) == OperandRole::Bias) else {
        return Ok(Bias::None);
    };
    let Some(value) = node.input(BIAS) else { return Ok(Bias::Absent) };
    let constant = graph.constant(value)?;
    let fits = constant.is_some_and(|t| t.dtype() == DType::F32 && t.len() == channels && t.rank() == 1);
    Ok(if fits { Bias::Given(value) } else { Bias::None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Net;

    #[test]
    fn a_layer_knows_its_bias_and_what_follows() {
        let mut net = Net::new();
        let x = net.input("x");
        let plain = net.conv("plain", x, &[2, 1, 1, 1], &[1.0, 2.0], None);
        let biased = net.conv("biased", plain, &[1, 2, 1, 1], &[1.0, 2.0], Some(&[0.5]));
        let y = net.relu("relu", biased);
        net.outputs(&[y]);
        let plan = net.plan(1.0);
        let layer = |name| Layer::of(&net.graph, &plan, net.id(name)).unwrap();
        let (plain, biased) = (layer("plain").unwrap(), layer("biased").unwrap());
        assert_eq!((plain.channels, plain.bias, plain.bent), (2, Bias::Absent, false));
        assert_eq!((biased.channels, biased.bent), (1, true));
        assert!(matches!(biased.bias, Bias::Given(_)));
        assert!(layer("relu").is_none());
    }

    #[test]
    fn output_channels_follow_the_order_of_axes() {
        use quantize_ir::op::Gemm;
        let gemm = |trans_b| Op::Gemm(Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b });
        assert_eq!(output_channels(&gemm(true), &[3, 5]), Some((3, ChannelAxis::Last)));
        assert_eq!(output_channels(&gemm(false), &[3, 5]), Some((5, ChannelAxis::Last)));
        assert_eq!(output_channels(&Op::MatMul, &[3, 5]), Some((5, ChannelAxis::Last)));
        assert_eq!(output_channels(&Op::MatMul, &[2, 3, 5]), None);
    }
}
