//! The older graph: one operator on unsigned codes for each node, ranges counted from their least value.

use super::prologue::{Coded, Prologues, Style};
use super::weights::{Counting, quantize_unsigned};
use super::{Covered, Eightbit, EightbitOptions};
use crate::dtype::DataType;
use crate::error::TensorflowError;
use crate::graph::{GraphDef, GraphIndex};
use crate::node::{NodeDef, Port};
use crate::order::execution_order;
use crate::reach::{behind, is_named};
use crate::tensor::TensorProto;
use crate::transform::rewire::Rewire;
use quantize_document::Location;
use quantize_ir::Tensor;

/// How one operator becomes one on codes.
struct Form {
    op: &'static str,
    /// What stands behind `_eightbit_` in its name.
    suffix: &'static str,
    /// Attributes that are copied.
    copied: &'static [&'static str],
    /// Attributes that name the type of its operands' codes.
    operands: &'static [&'static str],
    /// The attribute that names the type of its result, where this has 32 bits.
    wide: Option<&'static str>,
}

/// Operators that have a form on codes.
const FORMS: &[Form] = &[
    Form {
        op: "Conv2D",
        suffix: "quantized_conv",
        copied: &["strides", "padding"],
        operands: &["Tinput", "Tfilter"],
        wide: Some("out_type"),
    },
    Form {
        op: "MatMul",
        suffix: "quantized_mat_mul",
        copied: &["transpose_a", "transpose_b"],
        operands: &["T1", "T2"],
        wide: Some("Toutput"),
    },
    Form { op: "BiasAdd", suffix: "quantized_bias_add", copied: &[], operands: &["T1", "T2"], wide: Some("out_type") },
    Form { op: "MaxPool", suffix: "quantized", copied: &["ksize", "strides", "padding"], operands: &["T"], wide: None },
    Form { op: "AvgPool", suffix: "quantized", copied: &["ksize", "strides", "padding"], operands: &["T"], wide: None },
    Form { op: "Relu", suffix: "quantized", copied: &[], operands: &["Tinput"], wide: None },
    Form { op: "Relu6", suffix: "quantized", copied: &[], operands: &["Tinput"], wide: None },
    Form { op: "Concat", suffix: "quantized_concat", copied: &[], operands: &["T"], wide: None },
    Form { op: "Reshape", suffix: "quantized_reshape", copied: &[], operands: &["T"], wide: None },
    Form {
        op: "BatchNormWithGlobalNormalization",
        suffix: "quantized_batch_norm",
        copied: &["variance_epsilon", "scale_after_normalization"],
        operands: &["Tinput"],
        wide: Some("out_type"),
    },
];

/// Names of the constants that hold a range the user gave.
const FALLBACK: &str = "fallback_quantization";
const INPUT: &str = "quantized_input";

/// Builds the graph; pairs of conversions are still in it, and what the outputs do not need.
pub(super) fn build(graph: &GraphDef, options: &EightbitOptions) -> Result<Eightbit, TensorflowError> {
    let index = graph.index()?;
    let readers = index.consumers()?;
    let needed = behind(&index, &options.outputs, &[])?;
    let order: Vec<usize> =
        execution_order(graph)?.into_iter().filter(|at| needed.get(*at).copied().unwrap_or(false)).collect();
    let mut builder = Builder {
        index: &index,
        options,
        readers,
        out: Vec::new(),
        prologues: Prologues::default(),
        merged: Vec::new(),
    };
    let mut coverage = Vec::new();
    if let Some(range) = options.fallback {
        builder.out.extend(range_constants(FALLBACK, range)?);
    }
    for at in order {
        let Some(node) = index.at(at) else { continue };
        if builder.merged.contains(&at) {
            continue;
        }
        match FORMS.iter().find(|form| form.op == node.op()) {
            None if builder.is_quantized_constant(node, at)? => {
                let value = node.constant_value()?.unwrap_or_else(|| Tensor::vector(Vec::<f32>::new()));
                builder.out.extend(stored_as_codes(node, &value, Storage::counted(Counting::MinFirst))?);
            }
            None => builder.out.push(node.clone()),
            Some(form) => {
                let outcome = match reason_against(options, node)? {
                    None => builder.quantize(form, node, at).map(Ok)?,
                    Some(reason) => {
                        builder.out.push(node.clone());
                        Err(reason)
                    }
                };
                coverage.push(Covered { node: node.name().into(), op: node.op().into(), outcome });
            }
        }
    }
    Ok(Eightbit { graph: graph.with_nodes(builder.out), coverage, problems: Vec::new() })
}

/// Why a node with a form on codes stays as it is.
fn reason_against(options: &EightbitOptions, node: &NodeDef) -> Result<Option<String>, TensorflowError> {
    if let Some(reason) = options.exclusion(node) {
        return Ok(Some(reason));
    }
    if node.dtype("T")?.is_some_and(|dtype| dtype != DataType::FLOAT) {
        return Ok(Some("it does not compute in single precision".into()));
    }
    if let Some(format) = node.text("data_format")?.filter(|format| format != "NHWC") {
        return Ok(Some(format!("its data format is {format}")));
    }
    if node.text("padding")?.is_some_and(|padding| padding == "EXPLICIT") {
        return Ok(Some("its padding is explicit".into()));
    }
    let is_dilated = node.ints("dilations")?.is_some_and(|dilations| dilations.iter().any(|step| *step != 1));
    Ok(is_dilated.then(|| "it is dilated".to_owned()))
}

struct Builder<'g, 'o> {
    index: &'o GraphIndex<'g>,
    options: &'o EightbitOptions,
    readers: Vec<Vec<(usize, Port)>>,
    out: Vec<NodeDef>,
    prologues: Prologues,
    /// Nodes that went into those before them.
    merged: Vec<usize>,
}

impl Builder<'_, '_> {
    /// Whether a node is a constant that only operators on codes read.
    fn is_quantized_constant(&self, node: &NodeDef, at: usize) -> Result<bool, TensorflowError> {
        if node.op() != "Const" || node.dtype("dtype")? != Some(DataType::FLOAT) {
            return Ok(false);
        }
        if is_named(&self.options.outputs, node) {
            return Ok(false);
        }
        for (reader, port) in self.readers.get(at).into_iter().flatten() {
            let Some(reader) = self.index.at(*reader) else { return Ok(false) };
            let has_form = FORMS.iter().any(|form| form.op == reader.op());
            if *port != Port::Data(0) || !has_form || reason_against(self.options, reader)?.is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Writes a node as one on codes; its operator.
    fn quantize(&mut self, form: &Form, node: &NodeDef, at: usize) -> Result<String, TensorflowError> {
        let about = |cause: String| TensorflowError::invalid(Location::node(node.name()), cause);
        let prefix = format!("{}_eightbit", node.name());
        let written: Vec<String> = node.data_inputs().map(|input| input.to_string()).collect();
        // Inputs that are no operands: the axis of a concatenation comes first, the shape second.
        let (before, operands, behind) = match (form.op, written.as_slice()) {
            ("Concat", [axis, parts @ ..]) => (Some(axis), parts, None),
            ("Reshape", [data, shape]) => (None, std::slice::from_ref(data), Some(shape)),
            (_, all) => (None, all, None),
        };
        let mut coded = Vec::with_capacity(operands.len());
        for operand in operands {
            coded.push(self.prologues.codes(&prefix, operand, Style::MinFirst, &mut self.out).map_err(about)?);
        }
        let name = format!("{prefix}_{}", form.suffix);
        let op = format!("Quantized{}", form.op);
        let inputs = before.cloned().into_iter().chain(arranged(form.op, &coded, behind));
        let mut quantized = NodeDef::new(&name, &op).with_inputs(inputs.chain(super::waits(node)));
        if form.op == "Concat" {
            quantized.set_attr("N", operands.len() as i64);
        }
        form.operands.iter().for_each(|attribute| quantized.set_attr(attribute, DataType::QUINT8));
        if form.op == "Reshape" {
            quantized = super::with_copied(quantized, node, &["Tshape"]);
        }
        let mut quantized = super::with_copied(quantized, node, form.copied);
        if let Some(attribute) = form.wide {
            quantized.set_attr(attribute, DataType::QINT32);
        }
        self.out.push(quantized);
        match form.wide {
            None => self.dequantize(node.name(), &name),
            Some(_) => self.narrow(node, at, &name),
        }
        Ok(op)
    }

    fn dequantize(&mut self, name: &str, codes: &str) {
        let coded = Coded::of(codes);
        self.out.push(dequantize(name, [&coded.codes, &coded.min, &coded.max], Counting::MinFirst));
    }

    /// 8-bit codes of 32-bit ones, in a range that is found, given by the user, or that of a node that imitates
    /// quantization, which goes.
    fn narrow(&mut self, node: &NodeDef, at: usize, wide: &str) {
        let coded = Coded::of(wide);
        let coded = [coded.codes, coded.min, coded.max];
        let imitation = self.imitation(node, at);
        let (name, range) = match (imitation, self.options.fallback) {
            (Some((at, name, range)), _) => {
                self.merged.push(at);
                (name, range)
            }
            (None, Some(_)) => (node.name().to_owned(), ["min", "max"].map(|end| format!("{FALLBACK}_{end}_value:0"))),
            (None, None) => {
                let range = format!("{}_eightbit_requant_range", node.name());
                self.out.push(
                    NodeDef::new(&range, "RequantizationRange")
                        .with_inputs(coded.clone())
                        .with_attr("Tinput", DataType::QINT32),
                );
                (node.name().to_owned(), [0, 1].map(|port| format!("{range}:{port}")))
            }
        };
        let requantize = format!("{}_eightbit_requantize", node.name());
        self.out.push(
            NodeDef::new(&requantize, "Requantize")
                .with_inputs(coded.into_iter().chain(range))
                .with_attr("Tinput", DataType::QINT32)
                .with_attr("out_type", DataType::QUINT8),
        );
        self.dequantize(&name, &requantize);
    }

    /// The `FakeQuantWithMinMaxVars` that alone reads a node: its position, its name and its range, if that is constant.
    fn imitation(&self, node: &NodeDef, at: usize) -> Option<(usize, String, [String; 2])> {
        let [(reader, Port::Data(0))] = self.readers.get(at)?.as_slice() else { return None };
        let fake = self.index.at(*reader).filter(|fake| fake.op() == "FakeQuantWithMinMaxVars")?;
        let inputs: Vec<_> = fake.data_inputs().collect();
        let [data, min, max] = inputs.as_slice() else { return None };
        let is_constant = |name: &str| self.index.node(name).is_some_and(|node| node.op() == "Const");
        let is_ready = data.node == node.name() && is_constant(min.node) && is_constant(max.node);
        let is_wanted = is_named(&self.options.outputs, node);
        (is_ready && !is_wanted).then(|| (*reader, fake.name().to_owned(), [min.to_string(), max.to_string()]))
    }
}

/// The inputs of an operator on codes: in most all codes come first, then the ends of their ranges in turn.
fn arranged(op: &str, coded: &[Coded], behind: Option<&String>) -> Vec<String> {
    let codes = coded.iter().map(|c| c.codes.clone());
    match op {
        "Concat" => {
            let (min, max) = (coded.iter().map(|c| c.min.clone()), coded.iter().map(|c| c.max.clone()));
            codes.chain(min).chain(max).collect()
        }
        "BatchNormWithGlobalNormalization" => {
            coded.iter().flat_map(|c| [c.codes.clone(), c.min.clone(), c.max.clone()]).collect()
        }
        _ => {
            let ranges = coded.iter().flat_map(|c| [c.min.clone(), c.max.clone()]);
            codes.chain(behind.cloned()).chain(ranges).collect()
        }
    }
}

fn dequantize(name: &str, inputs: [&str; 3], counting: Counting) -> NodeDef {
    NodeDef::new(name, "Dequantize")
        .with_inputs(inputs)
        .with_attr("T", DataType::QUINT8)
        .with_attr("mode", counting.name())
}

fn scalar(name: String, value: f32) -> Result<NodeDef, TensorflowError> {
    let tensor = TensorProto::new(DataType::FLOAT, &Tensor::scalar(value));
    let tensor = tensor.map_err(|cause| TensorflowError::invalid(Location::node(&name), cause))?;
    Ok(NodeDef::constant(name, tensor))
}

/// `<prefix>_min_value` and `<prefix>_max_value`.
fn range_constants(prefix: &str, range: [f32; 2]) -> Result<[NodeDef; 2], TensorflowError> {
    let [min, max] = range;
    Ok([scalar(format!("{prefix}_min_value"), min)?, scalar(format!("{prefix}_max_value"), max)?])
}

/// How a constant is stored as unsigned codes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Storage {
    pub(crate) counting: Counting,
    /// What the names of codes, and of the ends of their range, end in.
    pub(crate) parts: [&'static str; 3],
    /// Whether the range of values that are all negative ends at zero.
    pub(crate) reaches_zero: bool,
}

impl Storage {
    /// As the original script stores them.
    pub(super) const fn counted(counting: Counting) -> Self {
        Self { counting, parts: ["quint8_const", "min", "max"], reaches_zero: false }
    }
}

/// A constant as unsigned codes, their range, and a `Dequantize` of its name.
pub(crate) fn stored_as_codes(
    node: &NodeDef,
    value: &Tensor,
    storage: Storage,
) -> Result<[NodeDef; 4], TensorflowError> {
    let name = node.name();
    let about = |cause: String| TensorflowError::invalid(Location::node(name), cause);
    let coded = quantize_unsigned(value, storage.counting, storage.reaches_zero).map_err(about)?;
    let codes = TensorProto::new(DataType::QUINT8, &coded.codes).map_err(about)?;
    let names = storage.parts.map(|part| format!("{name}_{part}"));
    let reals = dequantize(name, [&names[0], &names[1], &names[2]], storage.counting);
    let [codes_name, min, max] = names;
    Ok([NodeDef::constant(codes_name, codes), scalar(min, coded.min)?, scalar(max, coded.max)?, reals])
}

/// The graph whose inputs of single precision are fed unsigned codes of a range; `<input>_dequantize` makes them reals.
pub(super) fn fed_with_codes(graph: &GraphDef, range: [f32; 2]) -> Result<GraphDef, TensorflowError> {
    let mut rewire = Rewire::default();
    let mut reals = Vec::new();
    let mut nodes = graph.nodes().to_vec();
    for node in nodes.iter_mut().filter(|node| matches!(node.op(), "Placeholder" | "PlaceholderV2")) {
        if node.dtype("dtype")? != Some(DataType::FLOAT) {
            continue;
        }
        node.set_attr("dtype", DataType::QUINT8);
        let name = format!("{}_dequantize", node.name());
        rewire.tensor(node.name(), 0, name.clone());
        let ends = ["min", "max"].map(|end| format!("{INPUT}_{end}_value"));
        reals.push(dequantize(&name, [node.name(), &ends[0], &ends[1]], Counting::MinFirst));
    }
    nodes.iter_mut().for_each(|node| rewire.apply(node));
    nodes.extend(range_constants(INPUT, range)?);
    nodes.extend(reals);
    Ok(graph.with_nodes(nodes))
}
