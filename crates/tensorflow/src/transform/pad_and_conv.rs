//! `mkl_fuse_pad_and_conv`: zeros around an image go into the convolution on codes behind them.
//!
//! Two forms are taken: a convolution that still computes on reals between a `Dequantize` and a `QuantizeV2`, which becomes
//! one on codes, as the original transform does; and, besides, a `Pad` between a convolution on codes and the `QuantizeV2`
//! that it reads.

use super::Setting;
use super::chain::{Readers, numbers, operand, operand_of, shared};
use super::language::Call;
use super::rewire::Rewire;
use crate::dtype::DataType;
use crate::eightbit::Rules;
use crate::eightbit::weights::{Granularity, quantize};
use crate::error::TensorflowError;
use crate::graph::{GraphDef, GraphIndex};
use crate::node::NodeDef;
use quantize_document::{Location, Problem};
use std::collections::{BTreeMap, BTreeSet};

/// What the names of new nodes end in, behind that of the convolution.
const CODES: &str = "_eightbit_quantized_conv";
const RANGE: &str = "_eightbit_requant_range";

/// Convolutions on codes that take zeros around the image (`padding_list`).
fn takes_zeros(node: &NodeDef) -> bool {
    node.op().starts_with("QuantizedConv2DWithBias") || node.op().starts_with("QuantizedDepthwiseConv2DWithBias")
}

/// Fuses every such `Pad`; why one stays is said.
pub(super) fn fuse(
    graph: &GraphDef,
    _: &Call,
    setting: &Setting<'_>,
    problems: &mut Vec<Problem>,
) -> Result<GraphDef, TensorflowError> {
    let index = graph.index()?;
    let readers = index.consumers()?;
    let mut edits = Edits::default();
    for node in graph.nodes() {
        let found = match node.op() {
            "QuantizeV2" => on_reals(&index, node),
            _ if takes_zeros(node) => on_codes(&index, node),
            _ => None,
        };
        let Some(found) = found else { continue };
        if let Err(reason) = fuse_one(&index, &readers, setting, node, &found, &mut edits)? {
            problems.push(Problem::of_node(found.pad().name(), format!("not fused: {reason}")));
        }
    }
    Ok(edits.apply(graph))
}

/// What is found around a `Pad`.
enum Match<'g> {
    /// `QuantizeV2(Relu(BiasAdd(Conv2D(Pad(Dequantize, pads), weights), bias)), min, max)`
    Reals {
        relu: &'g NodeDef,
        sum: &'g NodeDef,
        bias: &'g NodeDef,
        conv: &'g NodeDef,
        weights: &'g NodeDef,
        pad: &'g NodeDef,
        codes: &'g NodeDef,
    },
    /// A convolution on codes that reads `QuantizeV2(Pad(x, pads), min, max)`.
    Codes { quantize: &'g NodeDef, pad: &'g NodeDef },
}

impl<'g> Match<'g> {
    fn pad(&self) -> &'g NodeDef {
        match self {
            Self::Reals { pad, .. } | Self::Codes { pad, .. } => pad,
        }
    }
}

fn on_reals<'g>(index: &GraphIndex<'g>, quantized: &NodeDef) -> Option<Match<'g>> {
    let constant = |node: &NodeDef| operand_of(index, node, 1, "Const");
    let relu = operand_of(index, quantized, 0, "Relu")?;
    let sum = operand_of(index, relu, 0, "BiasAdd")?;
    let conv = operand_of(index, sum, 0, "Conv2D")?;
    let pad = operand_of(index, conv, 0, "Pad")?;
    let codes = operand_of(index, pad, 0, "Dequantize")?;
    Some(Match::Reals { relu, sum, bias: constant(sum)?, conv, weights: constant(conv)?, pad, codes })
}

fn on_codes<'g>(index: &GraphIndex<'g>, conv: &NodeDef) -> Option<Match<'g>> {
    let quantize = operand_of(index, conv, 0, "QuantizeV2")?;
    Some(Match::Codes { quantize, pad: operand_of(index, quantize, 0, "Pad")? })
}

/// Nodes that change, by their names, and those that go.
#[derive(Default)]
struct Edits {
    new: BTreeMap<String, Vec<NodeDef>>,
    gone: BTreeSet<String>,
    rewire: Rewire,
}

impl Edits {
    fn apply(mut self, graph: &GraphDef) -> GraphDef {
        let mut nodes = Vec::with_capacity(graph.nodes().len());
        for node in graph.nodes().iter().filter(|node| !self.gone.contains(node.name())) {
            match self.new.remove(node.name()) {
                Some(new) => nodes.extend(new),
                None => nodes.push(node.clone()),
            }
        }
        nodes.iter_mut().for_each(|node| self.rewire.apply(node));
        graph.with_nodes(nodes)
    }
}

/// Zeros around height and width, as the eight numbers of `padding_list`; why there are none.
fn zeros(index: &GraphIndex<'_>, pad: &NodeDef) -> Result<Result<Vec<i64>, String>, TensorflowError> {
    let Some(constant) = operand_of(index, pad, 1, "Const") else {
        return Ok(Err("its paddings are not constant".into()));
    };
    let value = constant.constant_value()?.and_then(|value| value.to_i64_vec().ok());
    Ok(match value.as_deref() {
        Some(&[0, 0, top, bottom, left, right, 0, 0]) if [top, bottom, left, right].iter().all(|n| *n >= 0) => {
            Ok(vec![0, 0, top, bottom, left, right, 0, 0])
        }
        _ => Err("it pads other axes than height and width, or channels are not the last axis".into()),
    })
}

/// Whether the code 0 stands for zero, which is what convolutions on codes put around an image.
fn has_code_of_zero(node: &NodeDef) -> Result<bool, TensorflowError> {
    Ok(node.text("mode")?.as_deref() == Some("SCALED"))
}

/// Whether a convolution leaves its image as it is.
fn is_valid(conv: &NodeDef) -> Result<bool, TensorflowError> {
    let padded = conv.ints("padding_list")?.is_some_and(|list| list.iter().any(|count| *count != 0));
    let last = conv.text("data_format")?.is_none_or(|format| format == "NHWC");
    Ok(conv.text("padding")?.as_deref() == Some("VALID") && !padded && last)
}

fn fuse_one(
    index: &GraphIndex<'_>,
    readers: &Readers,
    setting: &Setting<'_>,
    node: &NodeDef,
    found: &Match<'_>,
    edits: &mut Edits,
) -> Result<Result<(), String>, TensorflowError> {
    let zeros = match zeros(index, found.pad())? {
        Ok(zeros) => zeros,
        Err(reason) => return Ok(Err(reason)),
    };
    let conv = if let Match::Reals { conv, .. } = found { conv } else { node };
    if !is_valid(conv)? {
        return Ok(Err(format!("`{}` pads the image itself", conv.name())));
    }
    match found {
        Match::Reals { .. } => from_reals(index, readers, setting, node, found, zeros, edits),
        Match::Codes { quantize, pad } => {
            if !has_code_of_zero(quantize)? {
                return Ok(Err(format!("the codes of `{}` do not count from zero", quantize.name())));
            }
            if let Some(reason) = read_besides(index, readers, setting, quantize, node) {
                return Ok(Err(reason));
            }
            for measured in range_nodes(index, quantize).into_iter().chain([*pad]) {
                if let Some(reason) = read_besides(index, readers, setting, measured, quantize) {
                    return Ok(Err(reason));
                }
            }
            edits.new.insert(node.name().to_owned(), vec![node.clone().with_attr("padding_list", zeros)]);
            edits.gone.insert(pad.name().to_owned());
            if let Some(source) = pad.inputs().first() {
                edits.rewire.node(pad.name(), source.clone());
            }
            Ok(Ok(()))
        }
    }
}

/// A reader of `node` besides its quantization and what finds the range of that, in words.
fn read_besides(
    index: &GraphIndex<'_>,
    readers: &Readers,
    setting: &Setting<'_>,
    node: &NodeDef,
    quantized: &NodeDef,
) -> Option<String> {
    let measured = range_nodes(index, quantized);
    let is_own =
        |reader: &NodeDef| reader.name() == quantized.name() || measured.iter().any(|own| own.name() == reader.name());
    let own = index.position(node.name()).and_then(|at| readers.get(at)).into_iter().flatten();
    let mut others = own.filter_map(|(at, _)| index.at(*at)).filter(|reader| !is_own(reader));
    let other = others.next().map(|reader| format!("`{}` reads `{}` too", reader.name(), node.name()));
    other.or_else(|| setting.is_end(node.name()).then(|| format!("`{}` is an output of the graph", node.name())))
}

/// The nodes that find the range of what is quantized: `Min` and `Max`, and the `Reshape` that they read.
fn range_nodes<'g>(index: &GraphIndex<'g>, quantized: &NodeDef) -> Vec<&'g NodeDef> {
    let ends = [(1, "Min"), (2, "Max")].map(|(slot, op)| operand_of(index, quantized, slot, op));
    let flat = ends.iter().flatten().filter_map(|end| operand_of(index, end, 0, "Reshape"));
    let flat: Vec<&NodeDef> = flat.collect();
    ends.into_iter().flatten().chain(flat).collect()
}

/// The convolution on codes, its range, and the codes of that range under the name of the `QuantizeV2`.
fn from_reals(
    index: &GraphIndex<'_>,
    readers: &Readers,
    setting: &Setting<'_>,
    node: &NodeDef,
    found: &Match<'_>,
    zeros: Vec<i64>,
    edits: &mut Edits,
) -> Result<Result<(), String>, TensorflowError> {
    let Match::Reals { relu, sum, bias, conv, weights, pad, codes } = found else { return Ok(Ok(())) };
    if !has_code_of_zero(codes)? || !has_code_of_zero(node)? {
        return Ok(Err(format!("the codes of `{}` or `{}` do not count from zero", codes.name(), node.name())));
    }
    if node.dtype("T")?.is_some_and(|kind| kind != DataType::QUINT8) {
        return Ok(Err(format!("`{}` makes signed codes of what is not negative", node.name())));
    }
    if let Some(reason) = shared(index, readers, setting, [*sum, *conv, *weights, *bias, *pad]) {
        return Ok(Err(reason));
    }
    if let Some(reason) = read_besides(index, readers, setting, relu, node) {
        return Ok(Err(reason));
    }
    for own in range_nodes(index, node) {
        if let Some(reason) = read_besides(index, readers, setting, own, node) {
            return Ok(Err(reason));
        }
    }
    let ends = [1, 2].map(|slot| operand(index, node, slot));
    let is_constant = |end: &Option<&NodeDef>| end.is_some_and(|end| end.op() == "Const");
    let [Some(q), Some(min), Some(max)] = [0, 1, 2].map(|slot| codes.inputs().get(slot).cloned()) else {
        return Ok(Err(format!("`{}` has not three inputs", codes.name())));
    };
    let tinput = codes.dtype("T")?.unwrap_or(DataType::QUINT8);
    let about = |cause: String| TensorflowError::invalid(Location::node(weights.name()), cause);
    let value = weights.constant_value()?.ok_or_else(|| about("it is no constant".into()))?;
    let coded = quantize(&value, Granularity::Tensor, Rules::Sound).map_err(about)?;
    numbers(bias)?;
    let (name, range) = (format!("{}{CODES}", conv.name()), format!("{}{RANGE}", conv.name()));
    let [weight, low, high] = ["qint8_const", "min", "max"].map(|part| format!("{}_{part}", weights.name()));
    let waits = conv.inputs().iter().chain(relu.inputs()).chain(node.inputs()).filter(|input| input.starts_with('^'));
    let inputs = [q, weight, bias.name().to_owned(), min, max, low, high].into_iter().chain(waits.cloned());
    let mut product = NodeDef::new(&name, "QuantizedConv2DWithBiasAndRelu").with_inputs(inputs);
    for attribute in ["strides", "padding", "dilations"] {
        if let Some(value) = conv.attr(attribute) {
            product.set_attr(attribute, value.clone());
        }
    }
    let product = product
        .with_attr("Tinput", tinput)
        .with_attr("Tfilter", DataType::QINT8)
        .with_attr("out_type", DataType::QINT32)
        .with_attr("padding_list", zeros);
    let sums = ["", ":1", ":2"].map(|port| format!("{name}{port}"));
    let mut new = coded.nodes(weights.name()).map_err(about)?.to_vec();
    new.push(product);
    let written = if ends.iter().all(is_constant) {
        ends.map(|end| end.map_or_else(String::new, |end| end.name().to_owned()))
    } else {
        let found = NodeDef::new(&range, "RequantizationRange").with_inputs(sums.clone());
        new.push(found.with_attr("Tinput", DataType::QINT32));
        edits.gone.extend(range_nodes(index, node).into_iter().map(|node| node.name().to_owned()));
        [range.clone(), format!("{range}:1")]
    };
    new.push(
        NodeDef::new(node.name(), "Requantize")
            .with_inputs(sums.into_iter().chain(written))
            .with_attr("Tinput", DataType::QINT32)
            .with_attr("out_type", DataType::QUINT8),
    );
    edits.new.insert(node.name().to_owned(), new);
    edits.gone.extend([relu, sum, conv, weights, pad].map(|node| node.name().to_owned()));
    Ok(Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::TensorProto;
    use crate::transform::Transformed;
    use crate::transform::tests::{floats, names, node, run, setting};
    use quantize_ir::Tensor;

    fn pads(numbers: [i32; 8]) -> NodeDef {
        let tensor = Tensor::new([4, 2], numbers.to_vec()).unwrap();
        NodeDef::constant("pads", TensorProto::new(DataType::INT32, &tensor).unwrap())
    }

    const AROUND: [i32; 8] = [0, 0, 1, 2, 3, 4, 0, 0];

    fn coded(what: &str) -> NodeDef {
        node("q", "QuantizeV2", &[what, "min", "max"]).with_attr("T", DataType::QUINT8).with_attr("mode", "SCALED")
    }

    fn between_codes() -> Vec<NodeDef> {
        let conv = node("conv", "Conv2D", &["pad", "w"]).with_attr("padding", "VALID");
        vec![
            node("x", "Placeholder", &[]),
            node("real", "Dequantize", &["x", "x:1", "x:2"])
                .with_attr("T", DataType::QUINT8)
                .with_attr("mode", "SCALED"),
            pads(AROUND),
            node("pad", "Pad", &["real", "pads"]),
            floats("w", &[1, 1, 1, 2], &[1.0, -2.0]),
            conv.with_attr("strides", vec![1i64, 2, 2, 1]),
            floats("b", &[2], &[0.5, 1.0]),
            node("sum", "BiasAdd", &["conv", "b"]),
            node("relu", "Relu", &["sum"]),
            node("flat", "Reshape", &["relu", "x"]),
            node("min", "Min", &["flat", "x"]),
            node("max", "Max", &["flat", "x"]),
            coded("relu"),
            node("y", "Dequantize", &["q", "q:1", "q:2"]),
        ]
    }

    fn before_codes() -> Vec<NodeDef> {
        let conv = node("conv", "QuantizedConv2DWithBiasAndRelu", &["q", "w", "b", "q:1", "q:2", "w", "w"]);
        vec![
            node("x", "Placeholder", &[]),
            pads(AROUND),
            node("pad", "Pad", &["x", "pads"]),
            floats("w", &[1, 1, 1, 2], &[1.0, -2.0]),
            floats("b", &[2], &[0.5, 1.0]),
            node("flat", "Reshape", &["pad", "x"]),
            node("min", "Min", &["flat", "x"]),
            node("max", "Max", &["flat", "x"]),
            coded("pad"),
            conv.with_attr("padding", "VALID"),
            node("y", "Requantize", &["conv"]),
        ]
    }

    fn fused(nodes: Vec<NodeDef>, outputs: &[&str]) -> Transformed {
        run(nodes, "mkl_fuse_pad_and_conv", &setting(&["x"], outputs)).unwrap()
    }

    #[test]
    fn a_convolution_between_codes_computes_on_codes() {
        let done = fused(between_codes(), &["y"]);
        let new =
            ["w_qint8_const", "w_min", "w_max", "conv_eightbit_quantized_conv", "conv_eightbit_requant_range", "q"];
        let kept = ["x", "real", "pads", "b"];
        assert_eq!(names(&done.graph), [&kept[..], &new, &["y"]].concat(), "{:?}", done.problems);
        let index = done.graph.index().unwrap();
        let conv = index.node("conv_eightbit_quantized_conv").unwrap();
        assert_eq!(conv.inputs(), ["x", "w_qint8_const", "b", "x:1", "x:2", "w_min", "w_max"]);
        assert_eq!(conv.ints("padding_list").unwrap(), Some(vec![0, 0, 1, 2, 3, 4, 0, 0]));
        assert_eq!(conv.ints("strides").unwrap(), Some(vec![1, 2, 2, 1]));
        let codes: Vec<i8> =
            index.node("w_qint8_const").unwrap().constant_value().unwrap().unwrap().into_vec().unwrap();
        assert_eq!(codes, [64, -127]);
        assert_eq!(index.node("q").unwrap().op(), "Requantize");
    }

    #[test]
    fn a_pad_before_codes_goes_into_the_convolution() {
        let done = fused(before_codes(), &["y"]);
        let index = done.graph.index().unwrap();
        assert!(index.node("pad").is_none(), "{:?}", done.problems);
        assert_eq!(index.node("conv").unwrap().ints("padding_list").unwrap(), Some(vec![0, 0, 1, 2, 3, 4, 0, 0]));
        assert_eq!(index.node("q").unwrap().inputs(), ["x", "min", "max"]);
        assert_eq!(index.node("flat").unwrap().inputs(), ["x", "x"]);
    }

    #[test]
    fn what_cannot_be_fused_says_why() {
        type Change<'c> = &'c dyn Fn(&mut NodeDef);
        let changed = |mut nodes: Vec<NodeDef>, name: &str, change: Change<'_>| {
            change(nodes.iter_mut().find(|node| node.name() == name).unwrap());
            nodes
        };
        let channels: Change<'_> = &|node| *node = pads([0, 0, 0, 0, 1, 1, 1, 1]);
        let negative: Change<'_> = &|node| *node = pads([0, 0, -1, 0, 0, 0, 0, 0]);
        let same: Change<'_> = &|node| node.set_attr("padding", "SAME");
        for (nodes, outputs, why) in [
            (changed(between_codes(), "pads", channels), &["y"][..], "other axes"),
            (changed(before_codes(), "pads", negative), &["y"], "other axes"),
            (changed(before_codes(), "pads", &|node| node.set_op("Identity")), &["y"], "not constant"),
            (changed(between_codes(), "conv", same), &["y"], "pads the image itself"),
            (changed(before_codes(), "conv", same), &["y"], "pads the image itself"),
            (between_codes(), &["y", "sum"], "`sum` has other readers"),
            (between_codes(), &["y", "relu"], "`relu` is an output"),
            (between_codes(), &["y", "min"], "`min` is an output"),
            (before_codes(), &["y", "pad"], "`pad` is an output"),
            (before_codes(), &["y", "q"], "`q` is an output"),
            (before_codes(), &["y", "max"], "`max` is an output"),
            (changed(before_codes(), "y", &|node| node.set_inputs(vec!["q".into()])), &["y"], "`y` reads `q` too"),
            (
                changed(before_codes(), "q", &|node| node.set_attr("mode", "MIN_FIRST")),
                &["y"],
                "do not count from zero",
            ),
            (changed(between_codes(), "real", &|node| node.set_attr("mode", "MIN_FIRST")), &["y"], "count from zero"),
            (changed(between_codes(), "q", &|node| node.set_attr("T", DataType::QINT8)), &["y"], "signed codes"),
            (changed(before_codes(), "y", &|node| node.set_inputs(vec!["pad".into()])), &["y"], "`y` reads `pad` too"),
        ] {
            let count = nodes.len();
            let done = fused(nodes, outputs);
            assert_eq!(done.graph.nodes().len(), count, "{why}");
            assert!(done.problems.iter().any(|problem| problem.message.contains(why)), "{why}: {:?}", done.problems);
        }
    }
}
