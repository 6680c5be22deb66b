//! Writing a graph as an ONNX model of its own, from nothing: the way out for models read from another format.
//!
//! What the back-end does is something else: it edits the document a graph was read from. Here nothing but the graph is
//! known. [`crate::ops::lower`] says operators in ONNX, [`ranks`] and [`signature`] what is known of values, [`spelling`] what they are called;
//! this module chooses what is written, the names, and the opset.

mod ranks;
mod signature;
mod spelling;
#[cfg(test)]
mod tests;

use crate::error::{OnnxError, Refusal};
use crate::ops::{self, Lowered, Operands, Step};
use crate::tensor::encode_tensor;
use crate::types::element_types;
use prost::Message;
use quantize_ir::{Constant, DType, Dim, Graph, GraphError, Node, NodeId, Op, Shape, Tensor, ValueId};
use quantize_proto::onnx::{GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, ValueInfoProto};
use ranks::Ranks;
use spelling::Spelling;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The first opset at which everything is written: the one the back-end needs for a scale for each channel.
const FIRST_OPSET: i64 = crate::opset::TARGET_OPSET;

/// File format versions with the opset each came with.
const IR_VERSIONS: [(i64, i64); 5] = [(13, 7), (15, 8), (19, 9), (21, 10), (23, 11)];

const PRODUCER: &str = "quantize";

/// Name of the first dimension of the only input, if it is not known.
const BATCH: &str = "N";

/// The bytes of an ONNX model that computes what `graph` does, whatever format it was read from. `name` is the name of
/// the written graph, and what messages call it.
///
/// Written are the nodes the outputs depend on, in topological order, and the constants they read; a value with known
/// elements is a constant, and the node behind it is left out. The opset is the lowest from 13 on at which every node
/// can be written. Values and nodes keep their names where those are not empty and not taken; inputs and outputs come
/// first. An input without a type is `float32`; an unknown dimension gets a name, `N` for the first axis of a graph's
/// only input.
///
/// # Errors
/// [`OnnxError::Inexpressible`] with every node that ONNX cannot say and every value that nothing computes, or if there is no output;
/// [`OnnxError::Graph`] if the graph has a cycle or a constant cannot be read.
pub fn export(graph: &Graph, name: &str) -> Result<Vec<u8>, OnnxError> {
    let broken = |source| OnnxError::Graph { file: name.into(), source };
    let order = graph.topological_order().map_err(broken)?;
    let needed = Needed::of(graph, &order);
    let mut exporter = Exporter {
        graph,
        needed: &needed,
        ranks: Ranks::of(graph, &order),
        spelling: Spelling::of(graph),
        refusals: Vec::new(),
    };
    if graph.outputs().is_empty() {
        exporter.refuse("the graph".to_owned(), "it has no outputs");
    }
    let (steps, constants) = exporter.steps();
    if !exporter.refusals.is_empty() {
        return Err(OnnxError::Inexpressible { graph: name.to_owned(), refusals: exporter.refusals });
    }
    let opset = steps.iter().map(|(_, step)| first_opset(step)).fold(FIRST_OPSET, i64::max);
    let node = nodes(&steps, opset)?;
    let read: BTreeSet<&str> = steps.iter().flat_map(|(_, step)| &step.inputs).map(String::as_str).collect();
    let mut initializer = exporter.initializers(&read).map_err(broken)?;
    initializer.extend(constants.iter().map(|(name, tensor)| encode_tensor(name, tensor)));
    let types = element_types(graph, &order);
    let [input, output, value_info] = exporter.signature(&types);
    let body = GraphProto {
        node,
        name: Some(name.to_owned()),
        initializer,
        input,
        output,
        value_info,
        ..GraphProto::default()
    };
    Ok(model(body, opset).encode_to_vec())
}

fn model(graph: GraphProto, opset: i64) -> ModelProto {
    let ir_version = IR_VERSIONS.iter().rev().find(|(since, _)| *since <= opset).map(|(_, version)| *version);
    ModelProto {
        ir_version,
        opset_import: vec![OperatorSetIdProto { domain: Some(String::new()), version: Some(opset) }],
        producer_name: Some(PRODUCER.to_owned()),
        producer_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        graph: Some(graph),
        ..ModelProto::default()
    }
}

fn nodes(steps: &[Named], opset: i64) -> Result<Vec<NodeProto>, OnnxError> {
    let node = |(name, step): &Named| ops::emit(&step.op, name, step.inputs.clone(), step.outputs.clone(), opset);
    steps.iter().map(node).collect()
}

fn first_opset(step: &Step) -> i64 {
    ops::first_opset(&step.op, |slot| step.inputs.get(slot).is_some_and(|name| !name.is_empty()))
}

/// Operands that mean something to the operator.
fn operands(node: &Node) -> &[Option<ValueId>] {
    let kept = if matches!(node.op, Op::Identity) { 1 } else { node.inputs.len() };
    node.inputs.get(..kept).unwrap_or(&node.inputs)
}

/// What the outputs depend on.
struct Needed {
    /// Nodes to be written, in topological order.
    nodes: Vec<NodeId>,
    /// Values someone reads.
    values: BTreeSet<ValueId>,
}

impl Needed {
    fn of(graph: &Graph, order: &[NodeId]) -> Self {
        let mut values: BTreeSet<ValueId> = graph.outputs().iter().copied().collect();
        let mut nodes = Vec::new();
        for id in order.iter().rev() {
            let Some(node) = graph.node(*id) else { continue };
            let computed = |v: &ValueId| values.contains(v) && graph.value(*v).constant.is_none();
            if node.outputs.iter().flatten().any(computed) {
                values.extend(operands(node).iter().flatten());
                nodes.push(*id);
            }
        }
        nodes.reverse();
        Self { nodes, values }
    }
}

struct Exporter<'g> {
    graph: &'g Graph,
    needed: &'g Needed,
    ranks: Ranks,
    spelling: Spelling,
    refusals: Vec<Refusal>,
}

/// A step with the name of its node.
type Named = (String, Step);

impl Exporter<'_> {
    fn refuse(&mut self, item: String, cause: impl Into<String>) {
        self.refusals.push(Refusal { item, cause: cause.into() });
    }

    /// All steps in order, and the constants that lowering added.
    fn steps(&mut self) -> (Vec<Named>, Vec<(String, Tensor)>) {
        let (mut steps, mut constants) = (Vec::new(), Vec::new());
        for id in &self.needed.nodes {
            let Some(node) = self.graph.node(*id) else { continue };
            match self.lower(node) {
                Ok(lowered) => {
                    let name = self.spelling.node(&node.name, node.op.name());
                    steps.extend(lowered.steps.into_iter().map(|step| (self.spelling.part(&name, step.part), step)));
                    constants.extend(lowered.constants);
                }
                Err(cause) => self.refuse(label(self.graph, *id), cause),
            }
        }
        steps.extend(self.passed_on());
        (steps, constants)
    }

    fn lower(&mut self, node: &Node) -> Result<Lowered, String> {
        if let Some(missing) = operands(node).iter().flatten().find(|v| !self.is_there(**v)) {
            return Err(format!("it reads `{}`, which nothing computes", self.graph.value(*missing).name));
        }
        let inputs = trimmed(operands(node).iter().map(|v| self.spelling.value(*v)).collect());
        let outputs = self.results(node);
        let known = Known { graph: self.graph, ranks: &self.ranks, node };
        let lowered = ops::lower(&node.op, inputs, outputs, &known, &mut self.spelling.names)?;
        lowered.steps.iter().try_for_each(|step| ops::check(&step.op))?;
        Ok(lowered)
    }

    /// Whether `value` is fed, known or computed.
    fn is_there(&self, value: ValueId) -> bool {
        let described = self.graph.value(value);
        described.constant.is_some() || described.producer().is_some() || self.graph.inputs().contains(&value)
    }

    /// Names of a node's results: those nobody reads are left out where the operator allows it.
    fn results(&mut self, node: &Node) -> Vec<String> {
        let required = |slot: usize| slot == 0 || matches!(node.op, Op::Split(_));
        let mut names = Vec::new();
        for (slot, value) in node.outputs.iter().enumerate() {
            let is_read = |v: &ValueId| self.needed.values.contains(v) && self.graph.value(*v).constant.is_none();
            names.push(match value.filter(is_read) {
                Some(value) => self.spelling.value(Some(value)),
                None if required(slot) => self.spelling.names.fresh("unread"),
                None => String::new(),
            });
        }
        trimmed(names)
    }

    /// Outputs that have a name of their own.
    fn passed_on(&mut self) -> Vec<Named> {
        let mut steps = Vec::new();
        for (value, output) in self.graph.outputs().iter().zip(self.spelling.outputs.clone()) {
            let source = self.spelling.value(Some(*value));
            if !self.is_there(*value) {
                self.refuse(format!("output `{output}`"), "nothing computes it");
            } else if source != output {
                let step = Step { op: Op::Identity, part: "", inputs: vec![source], outputs: vec![output.clone()] };
                steps.push((self.spelling.part(&output, "output"), step));
            }
        }
        steps
    }

    /// The graph's constants among the values that are `read`.
    fn initializers(&self, read: &BTreeSet<&str>) -> Result<Vec<TensorProto>, GraphError> {
        let mut initializers = Vec::new();
        for value in &self.needed.values {
            let name = self.spelling.value(Some(*value));
            if let Some(constant) = &self.graph.value(*value).constant
                && read.contains(name.as_str())
            {
                initializers.push(encode_tensor(&name, &*constant.tensor()?));
            }
        }
        Ok(initializers)
    }

    /// Descriptions of the inputs, the outputs and what is known of the values between.
    fn signature(&self, types: &[Option<DType>]) -> [Vec<ValueInfoProto>; 3] {
        let dtype = |value: ValueId| types.get(value.index()).copied().flatten();
        let interface = |value: ValueId, name: &str, unknown: &dyn Fn(usize) -> String| {
            let shape = self.shape(value).map(|shape| signature::shape(&shape, |axis| Some(unknown(axis))));
            signature::declare(name, dtype(value), shape)
        };
        let sole = self.graph.inputs().len() == 1;
        let inputs = self.graph.inputs().iter().map(|value| {
            let name = self.spelling.value(Some(*value));
            let batch = |axis| if sole && axis == 0 { BATCH.to_owned() } else { format!("{name}_{axis}") };
            interface(*value, &name, &batch)
        });
        let outputs = self.graph.outputs().iter().zip(&self.spelling.outputs);
        let outputs = outputs.map(|(value, name)| interface(*value, name, &|axis| format!("{name}_{axis}")));
        let between = self.needed.values.iter().filter(|v| self.is_between(**v)).filter_map(|value| {
            let shape = signature::shape(self.graph.value(*value).shape.as_ref()?, |_| None);
            Some(signature::declare(&self.spelling.value(Some(*value)), Some(dtype(*value)?), Some(shape)))
        });
        [inputs.collect(), outputs.collect(), between.collect()]
    }

    /// The declared shape of a value, or one of its rank; a constant's own.
    fn shape(&self, value: ValueId) -> Option<Shape> {
        known_shape(self.graph, value).or_else(|| Some(vec![Dim::Unknown; self.ranks.get(value)?]))
    }

    /// Whether a node writes `value` and it is no output.
    fn is_between(&self, value: ValueId) -> bool {
        let described = self.graph.value(value);
        described.constant.is_none() && described.producer().is_some() && !self.graph.is_output(value)
    }
}

/// The shape of a constant, or the one declared.
fn known_shape(graph: &Graph, value: ValueId) -> Option<Shape> {
    let value = graph.value(value);
    let known = |c: &Constant| c.shape().iter().map(|n| Dim::Known(*n as u64)).collect();
    value.constant.as_ref().map(known).or_else(|| value.shape.clone())
}

/// How messages call a node.
fn label(graph: &Graph, id: NodeId) -> String {
    let kind = graph.node(id).map_or("", |node| node.op.name());
    format!("node `{}` ({kind})", graph.label(id))
}

/// Names without the empty ones at the end.
fn trimmed(mut names: Vec<String>) -> Vec<String> {
    while names.last().is_some_and(String::is_empty) {
        names.pop();
    }
    names
}

/// A node's operands as the graph knows them.
struct Known<'e> {
    graph: &'e Graph,
    ranks: &'e Ranks,
    node: &'e Node,
}

impl Operands for Known<'_> {
    fn rank(&self, slot: usize) -> Option<usize> {
        self.ranks.get(self.node.input(slot)?)
    }

    fn shape(&self, slot: usize) -> Option<Shape> {
        known_shape(self.graph, self.node.input(slot)?)
    }

    fn constant(&self, slot: usize) -> Option<Arc<Tensor>> {
        self.graph.constant(self.node.input(slot)?).ok().flatten()
    }
}
