//! Fused operators on integers, with the constants they read.

use super::names::Names;
use super::product;
use super::ranges::{self, Codes};
use super::{Operand, Ported, Revision};
use crate::dtype::DataType;
use crate::error::TensorflowError;
use crate::node::NodeDef;
use crate::recipe::is_depthwise;
use quantize_document::Location;
use quantize_ir::op::{Conv, Padding, Window};
use quantize_ir::{Decision, Node, NodeId, Op, Tensor, WeightPlan};

/// The operator that a quantized node becomes, behind the constants that it reads. Its first three results are codes and
/// the ends of their range.
///
/// # Errors
/// If there is no operator for the node as it is planned.
pub(super) fn fused(
    revision: &Revision<'_>,
    id: NodeId,
    node: &Node,
    (operands, addend): (&[Operand], Option<&Operand>),
    result: &Codes,
    names: &mut Names,
) -> Result<Vec<NodeDef>, TensorflowError> {
    let refused = |cause: String| refusal(revision, id, cause);
    let [(x, codes), ..] = operands else { return Err(refused("it reads nothing".into())) };
    match &node.op {
        Op::Conv(conv) => {
            let part = Convolution { revision, id, node, conv, x, codes, addend, result };
            part.nodes(names).map_err(refused)
        }
        Op::Gemm(gemm) => product::requantized(revision, (id, node), (gemm, x, codes), result, names).map_err(refused),
        Op::MaxPool(pool) => Ok(vec![pooled(node, "QuantizedMaxPool", x, codes, &pool.kernel, &pool.window, names)]),
        Op::AveragePool(pool) => {
            Ok(vec![pooled(node, "QuantizedAvgPool", x, codes, &pool.kernel, &pool.window, names)])
        }
        Op::Concat(concat) => joined(node, concat.axis, operands, names).map_err(refused),
        other => Err(refused(format!("there is no operator on integers for {}", other.name()))),
    }
}

/// The error that a node has no operator as it is planned.
pub(super) fn refusal(revision: &Revision<'_>, id: NodeId, cause: String) -> TensorflowError {
    let label = revision.graph.label(id);
    let hint = format!("keep it in fp32 with `--skip '{label}'`");
    TensorflowError::unsupported(Location::node(&label), cause).with_hint(hint)
}

/// A convolution as it is planned.
struct Convolution<'a> {
    revision: &'a Revision<'a>,
    id: NodeId,
    node: &'a Node,
    conv: &'a Conv,
    x: &'a Ported,
    codes: &'a Codes,
    /// What is added before the result is rounded.
    addend: Option<&'a Operand>,
    result: &'a Codes,
}

impl Convolution<'_> {
    fn nodes(&self, names: &mut Names) -> Result<Vec<NodeDef>, String> {
        let op = self.operator()?;
        if self.is_rectified() == self.result.is_signed() {
            return Err("the plan gives its result codes of the wrong sign".into());
        }
        let name = &self.node.name;
        let weight = weight(self.revision, self.id)?;
        let [low, high] = ranges::weight_ends(&self.weight_scales(weight));
        let stem = stem(self.revision, self.node);
        let bias = bias(self.revision, (self.id, self.node), self.outputs(weight))?;
        let mut made = vec![
            ranges::constant(
                names.fresh(&format!("{stem}_qint8_const")),
                DataType::QINT8,
                &self.weight_codes(weight)?,
            )?,
            ranges::constant(names.fresh(&format!("{name}_eightbit_bias")), DataType::QINT32, &bias)?,
            ranges::constant(names.fresh(&format!("{stem}_min")), DataType::FLOAT, &ends(low))?,
            ranges::constant(names.fresh(&format!("{stem}_max")), DataType::FLOAT, &ends(high))?,
            ranges::scalar(names.fresh(&format!("{name}_eightbit_requant_range/frozen_min")), self.result.low),
            ranges::scalar(names.fresh(&format!("{name}_eightbit_requant_range/frozen_max")), self.result.high),
        ];
        let constant = |at: usize| made.get(at).map(NodeDef::name).unwrap_or_default().to_owned();
        let mut inputs = vec![
            self.x.codes.clone(),
            constant(0),
            constant(1),
            self.x.low.clone(),
            self.x.high.clone(),
            constant(2),
            constant(3),
            constant(4),
            constant(5),
        ];
        inputs.extend(self.addend.into_iter().flat_map(|(ported, _)| ported.names()));
        let mut fused = NodeDef::new(names.fresh(&format!("{name}_eightbit_requantize")), op)
            .with_inputs(inputs)
            .with_attr("Tinput", self.codes.dtype)
            .with_attr("Tfilter", DataType::QINT8)
            .with_attr("Tbias", DataType::QINT32)
            .with_attr("out_type", self.result.dtype);
        if let Some((_, codes)) = self.addend {
            fused.set_attr("Tsummand", codes.dtype);
        }
        made.push(windowed(fused, &self.conv.window));
        Ok(made)
    }

    fn operator(&self) -> Result<&'static str, String> {
        let addend = self.addend.map(|(_, codes)| codes.is_signed());
        Ok(match (is_depthwise(self.conv), self.is_rectified(), addend) {
            (false, true, None) => "QuantizedConv2DWithBiasAndReluAndRequantize",
            (false, false, None) => "QuantizedConv2DWithBiasAndRequantize",
            (false, true, Some(false)) => "QuantizedConv2DWithBiasSumAndReluAndRequantize",
            (false, true, Some(true)) => "QuantizedConv2DWithBiasSignedSumAndReluAndRequantize",
            (true, true, None) => "QuantizedDepthwiseConv2DWithBiasAndReluAndRequantize",
            (_, false, _) => return Err("there is no such operator without a ReLU behind it".into()),
            (true, true, Some(_)) => return Err("there is no such operator that adds codes".into()),
        })
    }

    /// Whether a saturation from zero on became part of it.
    fn is_rectified(&self) -> bool {
        let Revision { graph, plan, .. } = *self.revision;
        let follower = self.node.output(0).and_then(|y| graph.sole_consumer(y));
        follower.is_some_and(|(id, _)| {
            plan.nodes.get(&id).is_some_and(|node| node.decision == Decision::Absorbed { into: self.id })
        })
    }

    /// Codes in the shape of the format: a depthwise weight has an axis for its channels.
    fn weight_codes(&self, weight: &WeightPlan) -> Result<Tensor, String> {
        let codes = weight.codes.as_ref().clone();
        let shape = match *codes.shape() {
            [rows, columns, 1, outputs] if is_depthwise(self.conv) => {
                vec![rows, columns, self.conv.group, outputs / self.conv.group.max(1)]
            }
            ref shape => shape.to_vec(),
        };
        codes.reshaped(shape).map_err(|error| error.to_string())
    }

    /// One scale, or one for each channel; a depthwise convolution always has the latter.
    fn weight_scales(&self, weight: &WeightPlan) -> Vec<f32> {
        match *weight.params.scale() {
            [scale] => vec![scale; if is_depthwise(self.conv) { self.outputs(weight) } else { 1 }],
            ref scales => scales.to_vec(),
        }
    }

    fn outputs(&self, weight: &WeightPlan) -> usize {
        weight.codes.shape().last().copied().unwrap_or(1)
    }
}

/// The codes of a node's weight.
pub(super) fn weight<'a>(revision: &Revision<'a>, id: NodeId) -> Result<&'a WeightPlan, String> {
    revision.plan.weights.get(&(id, 1)).ok_or_else(|| "the plan has no codes for its weight".into())
}

/// Codes of the bias of so many outputs, whose scale is that of the products; zeros if there is none.
pub(super) fn bias(revision: &Revision<'_>, (id, node): (NodeId, &Node), outputs: usize) -> Result<Tensor, String> {
    match (node.input(2), revision.plan.weights.get(&(id, 2))) {
        (_, Some(bias)) => Ok(bias.codes.as_ref().clone()),
        (None, None) => Ok(Tensor::vector(vec![0i32; outputs])),
        (Some(_), None) => Err("the plan has no codes for its bias".into()),
    }
}

/// How the constants around a node's weight are called: after the weight if it has a name.
pub(super) fn stem<'a>(revision: &Revision<'a>, node: &'a Node) -> &'a str {
    let value = node.input(1).map(|value| revision.graph.value(value).name.as_str());
    value.filter(|stem| !stem.is_empty()).unwrap_or(&node.name)
}

/// Ends of ranges: a number if there is one only.
fn ends(values: Vec<f32>) -> Tensor {
    match values[..] {
        [value] => Tensor::scalar(value),
        _ => Tensor::vector(values),
    }
}

fn pooled(
    node: &Node,
    op: &str,
    x: &Ported,
    codes: &Codes,
    kernel: &[usize],
    window: &Window,
    names: &mut Names,
) -> NodeDef {
    let fused = NodeDef::new(names.fresh(&format!("{}_eightbit_quantized", node.name)), op)
        .with_inputs([&x.codes, &x.low, &x.high].map(String::as_str))
        .with_attr("T", codes.dtype)
        .with_attr("ksize", image(kernel));
    fused.with_attr("strides", image(&window.strides)).with_attr("padding", padding(&window.padding))
}

fn joined(node: &Node, axis: i64, operands: &[Operand], names: &mut Names) -> Result<Vec<NodeDef>, String> {
    let (Some((_, codes)), Ok(count)) = (operands.first(), i64::try_from(operands.len())) else {
        return Err("it joins nothing".into());
    };
    let axis = i32::try_from(axis).map_err(|_| "its axis is too large".to_owned())?;
    let axis_name = names.fresh(&format!("{}_eightbit_axis", node.name));
    let axis = ranges::constant(axis_name.clone(), DataType::INT32, &Tensor::scalar(axis))?;
    let part = |part: fn(&Ported) -> &String| operands.iter().map(move |(ported, _)| part(ported).clone());
    let inputs = part(|p| &p.codes).chain([axis_name]).chain(part(|p| &p.low)).chain(part(|p| &p.high));
    let fused = NodeDef::new(names.fresh(&format!("{}_eightbit_quantized_concatv2", node.name)), "QuantizedConcatV2")
        .with_inputs(inputs)
        .with_attr("N", count)
        .with_attr("T", codes.dtype);
    Ok(vec![axis, fused])
}

/// With the attributes of a window. A border of given size is one without padding and a list of it.
fn windowed(node: NodeDef, window: &Window) -> NodeDef {
    let node = node
        .with_attr("strides", image(&window.strides))
        .with_attr("dilations", image(&window.dilations))
        .with_attr("padding", padding(&window.padding));
    match &window.padding {
        Padding::Explicit { begin, end } if !(begin.is_empty() && end.is_empty()) => {
            let at = |list: &[usize], axis: usize| list.get(axis).map_or(0, |n| i64::try_from(*n).unwrap_or(i64::MAX));
            let list = vec![0, 0, at(begin, 0), at(end, 0), at(begin, 1), at(end, 1), 0, 0];
            node.with_attr("padding_list", list)
        }
        _ => node,
    }
}

/// The name of a border.
fn padding(padding: &Padding) -> &'static str {
    if matches!(padding, Padding::SameUpper) { "SAME" } else { "VALID" }
}

/// Numbers for each axis of an image from those for rows and columns; ones if there are none.
fn image(space: &[usize]) -> Vec<i64> {
    let at = |axis: usize| space.get(axis).map_or(1, |n| i64::try_from(*n).unwrap_or(i64::MAX));
    vec![1, at(0), at(1), 1]
}
