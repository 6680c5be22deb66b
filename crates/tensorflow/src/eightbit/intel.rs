//! The graph of fused operators on codes for Intel's processors (`--intel_cpu_eightbitize`).

use super::fusion::{Bias, Finder, Group, channels};
use super::prologue::{Coded, Prologues, Style};
use super::sign::joined;
use super::weights::{Granularity, quantize};
use super::{Covered, Eightbit, EightbitOptions, Rules, waits, with_copied};
use crate::dtype::DataType;
use crate::error::TensorflowError;
use crate::graph::GraphDef;
use crate::node::NodeDef;
use crate::order::execution_order;
use crate::reach::behind;
use crate::tensor::TensorProto;
use quantize_document::{Location, Problem};
use quantize_ir::Tensor;
use std::collections::{BTreeMap, HashMap, HashSet};

/// What `clip_value_max` is where nothing is clipped.
const UNCLIPPED: f32 = 1e30;
/// Where `Relu6` clips.
const SIX: f32 = 6.0;

/// Builds the graph; pairs of conversions are still in it, and what the outputs do not need.
pub(super) fn build(graph: &GraphDef, options: &EightbitOptions) -> Result<Eightbit, TensorflowError> {
    let index = graph.index()?;
    let order = execution_order(graph)?;
    let needed = behind(&index, &options.outputs, &[])?;
    let order: Vec<usize> = order.into_iter().filter(|at| needed.get(*at).copied().unwrap_or(false)).collect();
    let mut finder = Finder::new(graph, &index, &order, options)?;
    let mut builder = Builder::new(options);
    let (mut groups, absorbed) = builder.groups(&mut finder, &order)?;
    for at in &order {
        let Some(node) = index.at(*at).filter(|_| !absorbed.contains(at)) else { continue };
        match groups.remove(node.name()) {
            Some(group) => builder.group(&group)?,
            None => builder.node(&finder, node)?,
        }
    }
    let ranks: HashMap<&str, usize> =
        order.iter().enumerate().filter_map(|(rank, at)| Some((index.at(*at)?.name(), rank))).collect();
    builder.coverage.sort_by_key(|covered| ranks.get(covered.node.as_str()).copied());
    Ok(builder.finish(graph))
}

/// Writes nodes in an order of execution.
struct Builder<'o> {
    options: &'o EightbitOptions,
    out: Vec<NodeDef>,
    prologues: Prologues,
    weights: HashSet<String>,
    coverage: Vec<Covered>,
    problems: Vec<Problem>,
}

impl<'o> Builder<'o> {
    fn new(options: &'o EightbitOptions) -> Self {
        Self {
            options,
            out: Vec::new(),
            prologues: Prologues::default(),
            weights: HashSet::new(),
            coverage: Vec::new(),
            problems: Vec::new(),
        }
    }

    /// The groups by the name of their last node, and the positions of nodes that go with them.
    fn groups<'g>(
        &mut self,
        finder: &mut Finder<'g, '_>,
        order: &[usize],
    ) -> Result<(BTreeMap<String, Group<'g>>, HashSet<usize>), TensorflowError> {
        let (mut groups, mut absorbed) = (BTreeMap::new(), HashSet::new());
        for at in order {
            let Some(node) = finder.index.at(*at) else { continue };
            let is_linear = matches!(node.op(), "Conv2D" | "DepthwiseConv2dNative")
                || (node.op() == "MatMul" && self.options.quantize_matmul);
            if !is_linear {
                continue;
            }
            match finder.group(node)? {
                Ok(group) => {
                    absorbed.extend(group.absorbed.iter().copied());
                    self.cover(node, Ok(fused_op(&group, self.is_per_channel(&group))));
                    groups.insert(group.last.name().to_owned(), group);
                }
                Err(reason) => self.cover(node, Err(reason)),
            }
        }
        Ok((groups, absorbed))
    }

    fn finish(mut self, graph: &GraphDef) -> Eightbit {
        let is_vector = |node: &NodeDef| node.op() == "RequantizationRangePerChannel";
        if self.out.iter().any(is_vector) {
            let message = "convolutions with a range for each channel of their weights compute wrong values in \
                           TensorFlow 2.14 and later until `fuse_quantized_conv_and_requantize` has fused them; \
                           `quantize tf calibrate` computes them rightly";
            self.problems.push(Problem::general(message.into()));
        }
        Eightbit { graph: graph.with_nodes(self.out), coverage: self.coverage, problems: self.problems }
    }

    fn cover(&mut self, node: &NodeDef, outcome: Result<String, String>) {
        self.coverage.push(Covered { node: node.name().into(), op: node.op().into(), outcome });
    }

    fn is_per_channel(&self, group: &Group<'_>) -> bool {
        group.linear.op() == "DepthwiseConv2dNative" || (self.options.per_channel && group.linear.op() == "Conv2D")
    }

    /// Writes a node that is in no group.
    fn node(&mut self, finder: &Finder<'_, '_>, node: &NodeDef) -> Result<(), TensorflowError> {
        let is_float = |node: &NodeDef| Ok::<_, TensorflowError>(node.dtype("T")?.is_none_or(|t| t == DataType::FLOAT));
        match node.op() {
            "MaxPool" | "AvgPool" if is_float(node)? => match self.against_pool(finder, node)? {
                None => self.pool(node)?,
                Some(reason) => self.keep(node, reason),
            },
            "ConcatV2" if is_float(node)? => match self.against_concat(finder, node) {
                None => self.concat(node)?,
                Some(reason) => self.keep(node, reason),
            },
            _ => self.out.push(node.clone()),
        }
        Ok(())
    }

    fn keep(&mut self, node: &NodeDef, reason: String) {
        self.cover(node, Err(reason));
        self.out.push(node.clone());
    }

    fn against_pool(&self, finder: &Finder<'_, '_>, node: &NodeDef) -> Result<Option<String>, TensorflowError> {
        let format = node.text("data_format")?.filter(|format| format != "NHWC");
        let explicit = node.text("padding")?.filter(|padding| padding == "EXPLICIT");
        let input = node.data_inputs().next().filter(|input| !finder.is_non_negative(*input));
        Ok(self
            .options
            .exclusion(node)
            .or_else(|| format.map(|format| format!("its data format is {format}")))
            .or_else(|| explicit.map(|_| "its padding is explicit".to_owned()))
            .or_else(|| input.map(|input| finder.doubt(input))))
    }

    fn against_concat(&self, finder: &Finder<'_, '_>, node: &NodeDef) -> Option<String> {
        if self.options.exclude_concat {
            return Some("concatenations are excluded".into());
        }
        if node.name().contains("map/while") {
            return Some("it is in a loop".into());
        }
        let Some(mut parts) = joined(node) else { return Some("it joins nothing".into()) };
        let signed = parts.find(|part| !finder.is_non_negative(*part));
        self.options.exclusion(node).or_else(|| signed.map(|part| finder.doubt(part)))
    }

    /// The codes of a tensor.
    fn codes(&mut self, prefix: &str, input: &str, is_signed: bool) -> Result<Coded, TensorflowError> {
        let dtype = if is_signed { DataType::QINT8 } else { DataType::QUINT8 };
        let codes = self.prologues.codes(prefix, input, Style::Scaled(dtype), &mut self.out);
        codes.map_err(|cause| TensorflowError::invalid(Location::node(prefix), cause))
    }

    /// Reals under the name of what was quantized.
    fn dequantize(&mut self, name: &str, codes: &str, dtype: DataType, mode: &str) {
        let coded = Coded::of(codes);
        let node = NodeDef::new(name, "Dequantize").with_inputs([coded.codes, coded.min, coded.max]);
        self.out.push(node.with_attr("T", dtype).with_attr("mode", mode));
    }

    fn pool(&mut self, node: &NodeDef) -> Result<(), TensorflowError> {
        let Some(input) = node.inputs().first().cloned() else {
            self.keep(node, "it reads nothing".into());
            return Ok(());
        };
        let coded = self.codes(&format!("{}_eightbit", node.name()), &input, false)?;
        let name = format!("{}_eightbit_quantized", node.name());
        let op = format!("Quantized{}", node.op());
        let pool = NodeDef::new(&name, &op)
            .with_inputs([coded.codes, coded.min, coded.max].into_iter().chain(waits(node)))
            .with_attr("T", DataType::QUINT8);
        self.out.push(with_copied(pool, node, &["ksize", "strides", "padding"]));
        self.dequantize(node.name(), &name, DataType::QUINT8, "SCALED");
        self.cover(node, Ok(op));
        Ok(())
    }

    fn concat(&mut self, node: &NodeDef) -> Result<(), TensorflowError> {
        let prefix = format!("{}_eightbit", node.name());
        let inputs: Vec<String> = node.data_inputs().map(|input| input.to_string()).collect();
        let Some((axis, parts)) = inputs.split_last() else { return Ok(()) };
        let coded =
            parts.iter().map(|part| self.codes(&prefix, part, false)).collect::<Result<Vec<_>, TensorflowError>>()?;
        let name = format!("{prefix}_quantized_concatv2");
        let each = |take: fn(&Coded) -> &String| coded.iter().map(take).cloned().collect::<Vec<_>>();
        let inputs =
            [each(|c| &c.codes), vec![axis.clone()], each(|c| &c.min), each(|c| &c.max), waits(node).collect()];
        let op = "QuantizedConcatV2";
        self.out.push(
            NodeDef::new(&name, op)
                .with_inputs(inputs.concat())
                .with_attr("N", parts.len() as i64)
                .with_attr("T", DataType::QUINT8),
        );
        self.dequantize(node.name(), &name, DataType::QUINT8, "SCALED");
        self.cover(node, Ok(op.to_owned()));
        Ok(())
    }

    /// Writes a convolution or matrix product on codes, what finds the range of its result, and the result.
    fn group(&mut self, group: &Group<'_>) -> Result<(), TensorflowError> {
        let about = |cause: String| TensorflowError::invalid(Location::node(group.linear.name()), cause);
        let prefix = format!("{}_eightbit", group.linear.name());
        let is_per_channel = self.is_per_channel(group);
        let input = self.codes(&prefix, &group.input, group.is_signed)?;
        self.weights(group, is_per_channel)?;
        let bias = match &group.bias {
            Some(Bias::Of(bias)) => Some(bias.clone()),
            Some(Bias::Zero) => Some(self.zero_bias(group, &prefix).map_err(about)?),
            None => None,
        };
        let conv = self.linear(group, &prefix, input, bias, is_per_channel)?;
        let requantize = self.requantize(group, &prefix, &conv, is_per_channel).map_err(about)?;
        let dtype = result_type(group, is_per_channel);
        let mode = if is_per_channel { "SCALED" } else { "MIN_FIRST" };
        self.dequantize(group.last.name(), &requantize, dtype, mode);
        Ok(())
    }

    fn weights(&mut self, group: &Group<'_>, is_per_channel: bool) -> Result<(), TensorflowError> {
        let name = group.weights.name();
        if !self.weights.insert(name.to_owned()) {
            return Ok(());
        }
        let granularity = match channels(group) {
            Some(channels) if is_per_channel => Granularity::Channel(channels),
            _ => Granularity::Tensor,
        };
        let codes = quantize(&group.values, granularity, self.options.rules);
        let nodes = codes.and_then(|codes| codes.nodes(name));
        self.out.extend(nodes.map_err(|cause| TensorflowError::invalid(Location::node(name), cause))?);
        Ok(())
    }

    fn zero_bias(&mut self, group: &Group<'_>, prefix: &str) -> Result<String, String> {
        let zeros = Tensor::vector(vec![0f32; channels(group).unwrap_or(0)]);
        let name = format!("{prefix}_bias");
        self.out.push(NodeDef::constant(&name, TensorProto::new(DataType::FLOAT, &zeros)?));
        Ok(name)
    }

    /// The operator itself; its name.
    fn linear(
        &mut self,
        group: &Group<'_>,
        prefix: &str,
        input: Coded,
        bias: Option<String>,
        is_per_channel: bool,
    ) -> Result<String, TensorflowError> {
        let weights = group.weights.name();
        let kind = match group.linear.op() {
            "DepthwiseConv2dNative" => "depthwise_conv",
            "MatMul" => "mat_mul",
            _ => "conv",
        };
        let name = format!("{prefix}_quantized_{kind}");
        let inputs = [input.codes, format!("{weights}_qint8_const")]
            .into_iter()
            .chain(bias)
            .chain([input.min, input.max, format!("{weights}_min"), format!("{weights}_max")])
            .chain(group.summand.clone())
            .chain(waits(group.linear))
            .chain(if group.last.name() == group.linear.name() { Vec::new() } else { waits(group.last).collect() });
        let node = NodeDef::new(&name, fused_op(group, is_per_channel)).with_inputs(inputs);
        let tinput = if group.is_signed { DataType::QINT8 } else { DataType::QUINT8 };
        let node = match group.linear.op() {
            "MatMul" => with_copied(node, group.linear, &["transpose_a", "transpose_b"])
                .with_attr("T1", tinput)
                .with_attr("T2", DataType::QINT8)
                .with_attr("Toutput", DataType::QINT32)
                .with_attr("Tbias", DataType::FLOAT)
                .with_attr("input_quant_mode", "SCALED"),
            _ => with_copied(node, group.linear, &["strides", "padding", "dilations"])
                .with_attr("Tinput", tinput)
                .with_attr("Tfilter", DataType::QINT8)
                .with_attr("out_type", DataType::QINT32),
        };
        self.out.push(match group.pads {
            Some([top, bottom, left, right]) => {
                node.with_attr("padding", "VALID").with_attr("padding_list", vec![0, 0, top, bottom, left, right, 0, 0])
            }
            None => node,
        });
        Ok(name)
    }

    /// What finds the range of 32-bit codes, and 8-bit codes of that range; the name of the latter.
    fn requantize(
        &mut self,
        group: &Group<'_>,
        prefix: &str,
        conv: &str,
        is_per_channel: bool,
    ) -> Result<String, String> {
        let (suffix, dtype) = if is_per_channel { ("PerChannel", "T") } else { ("", "Tinput") };
        let coded = Coded::of(conv);
        let coded = [coded.codes, coded.min, coded.max];
        let is_clipped = group.relu == Some("Relu6");
        let range = format!("{prefix}_requant_range");
        let node = NodeDef::new(&range, format!("RequantizationRange{suffix}"))
            .with_inputs(coded.clone())
            .with_attr(dtype, DataType::QINT32);
        self.out.push(match is_per_channel {
            true => node.with_attr("clip_value_max", if is_clipped { SIX } else { UNCLIPPED }),
            false => node,
        });
        let mut max = format!("{range}:1");
        if is_clipped && !is_per_channel && self.options.rules == Rules::Sound {
            max = self.clipped(prefix, max)?;
        }
        let name = format!("{prefix}_requantize");
        self.out.push(
            NodeDef::new(&name, format!("Requantize{suffix}"))
                .with_inputs(coded.into_iter().chain([format!("{range}:0"), max]))
                .with_attr(dtype, DataType::QINT32)
                .with_attr("out_type", result_type(group, is_per_channel)),
        );
        Ok(name)
    }

    /// The lesser of the end of a range and six: codes saturate there, as `Relu6` does.
    fn clipped(&mut self, prefix: &str, max: String) -> Result<String, String> {
        let (six, name) = (format!("{prefix}_six"), format!("{prefix}_clip"));
        self.out.push(NodeDef::constant(&six, TensorProto::new(DataType::FLOAT, &Tensor::scalar(SIX))?));
        self.out.push(NodeDef::new(&name, "Minimum").with_inputs([max, six]).with_attr("T", DataType::FLOAT));
        Ok(name)
    }
}

/// The operator on codes that a group becomes.
fn fused_op(group: &Group<'_>, is_per_channel: bool) -> String {
    let linear = match group.linear.op() {
        "DepthwiseConv2dNative" => "DepthwiseConv2D",
        "MatMul" => "MatMul",
        _ => "Conv2D",
    };
    let with_bias = if group.bias.is_some() { "WithBias" } else { "" };
    let sum = if group.summand.is_some() { "Sum" } else { "" };
    let relu = if group.relu.is_some() { "AndRelu" } else { "" };
    let channels = if is_per_channel && group.bias.is_none() && linear == "Conv2D" { "PerChannel" } else { "" };
    format!("Quantized{linear}{with_bias}{sum}{relu}{channels}")
}

/// The type of codes that a group writes. Codes of one range are counted from its least value, and need no sign.
fn result_type(group: &Group<'_>, is_per_channel: bool) -> DataType {
    if is_per_channel && group.relu.is_none() { DataType::QINT8 } else { DataType::QUINT8 }
}
