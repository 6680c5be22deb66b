//! Writing: a graph with a plan carried out in fused operators on integers.
//!
//! Every quantized node becomes one operator whose ranges are constants, between them tensors stay codes. What computes
//! on reals stays as it was: it reads the names it read, which now belong to operators that turn codes back; and what
//! codes are read from real tensors goes through `QuantizeV2` with a constant range. Nodes that no output needs any more
//! are left out. `operators` makes the nodes, `ranges` says codes in the format's ranges; this module decides where
//! codes and reals meet, and lays everything over the graph.

mod names;
mod operators;
mod product;
mod ranges;
#[cfg(test)]
mod tests;

use crate::error::TensorflowError;
use crate::graph::GraphDef;
use crate::node::{Input, NodeDef, Port};
use names::Names;
use quantize_document::Location;
use quantize_ir::{Decision, Graph, Node, NodeId, Op, QuantPlan, ValueId};
use ranges::Codes;
use std::collections::{BTreeMap, BTreeSet};

/// A graph, and the plan that is carried out on it.
#[derive(Clone, Copy, Debug)]
pub struct Revision<'a> {
    /// The graph that was imported.
    pub source: &'a GraphDef,
    /// What it became after passes, for which the plan was made.
    pub graph: &'a Graph,
    /// The plan.
    pub plan: &'a QuantPlan,
}

/// A graph on integers.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// The graph.
    pub graph: GraphDef,
    /// Number of places where reals become codes.
    pub quantized: usize,
    /// Number of places where codes become reals.
    pub dequantized: usize,
}

/// Carries out a plan. One that quantizes nothing gives the graph as it is.
///
/// # Errors
/// If a node is quantized that has no operator on integers as it is planned, or a constant cannot be read.
pub fn encode(revision: &Revision<'_>) -> Result<Encoded, TensorflowError> {
    if revision.plan.is_empty() {
        return Ok(Encoded { graph: revision.source.clone(), quantized: 0, dequantized: 0 });
    }
    let mut writer = Writer {
        revision,
        names: Names::taken(revision.source),
        codes: BTreeMap::new(),
        groups: BTreeMap::new(),
        replaced: BTreeSet::new(),
        quantized: 0,
        dequantized: 0,
    };
    let order = revision.graph.topological_order();
    for id in order.map_err(|error| TensorflowError::invalid(Location::default(), error.to_string()))? {
        if let Some((id, node)) = due(revision, id) {
            writer.node(id, node)?;
        }
    }
    writer.vanish();
    Ok(Encoded { graph: writer.laid_over(), quantized: writer.quantized, dequantized: writer.dequantized })
}

/// The quantized node that can be written once `id` is reached: itself, or what an addition vanished into, whose other
/// operand is there by then.
fn due<'g>(revision: &Revision<'g>, id: NodeId) -> Option<(NodeId, &'g Node)> {
    let Revision { graph, plan, .. } = *revision;
    let addition = |node: NodeId| plan.addend(graph, node).map(|(addition, _)| addition);
    let due = match plan.absorbed_into(id) {
        Some(into) if addition(into) == Some(id) => into,
        None if plan.quantizes(id) && addition(id).is_none() => id,
        _ => return None,
    };
    graph.node(due).map(|node| (due, node))
}

/// A tensor of codes with its range: names of the codes and of both ends.
#[derive(Clone, Debug)]
struct Ported {
    codes: String,
    low: String,
    high: String,
}

impl Ported {
    /// The first three results of a node.
    fn of(name: &str) -> Self {
        Self { codes: name.to_owned(), low: format!("{name}:1"), high: format!("{name}:2") }
    }

    /// The codes and the ends of their range.
    fn names(&self) -> [String; 3] {
        [self.codes.clone(), self.low.clone(), self.high.clone()]
    }
}

/// Codes that a node reads, with what they stand for.
type Operand = (Ported, Codes);

struct Writer<'r, 'a> {
    revision: &'r Revision<'a>,
    names: Names,
    /// Values that are there as codes.
    codes: BTreeMap<ValueId, Ported>,
    /// New nodes by the position of the node they stand for.
    groups: BTreeMap<usize, Vec<NodeDef>>,
    /// Names of nodes that go.
    replaced: BTreeSet<String>,
    quantized: usize,
    dequantized: usize,
}

impl Writer<'_, '_> {
    fn node(&mut self, id: NodeId, node: &Node) -> Result<(), TensorflowError> {
        let Revision { graph, plan, .. } = *self.revision;
        let addend = plan.addend(graph, id);
        let position = position(addend.and_then(|(addition, _)| graph.node(addition)).unwrap_or(node));
        let Some(result) = node.output(0).map(|value| plan.materialized(graph, value)) else { return Ok(()) };
        let mut operands = Vec::new();
        for (slot, value) in node.inputs.iter().enumerate() {
            let is_data = slot == 0 || matches!(node.op, Op::Concat(_));
            if let Some(value) = value.filter(|_| is_data) {
                operands.push(self.read(position, &node.name, value)?);
            }
        }
        let addend = addend.map(|(_, value)| self.read(position, &node.name, value)).transpose()?;
        if !plan.activations.contains_key(&result) {
            return self.real_product((id, node), position, operands.first(), result);
        }
        let result_codes = self.planned(result)?;
        let made =
            operators::fused(self.revision, id, node, (&operands, addend.as_ref()), &result_codes, &mut self.names)?;
        let name = made.last().map(|node| node.name().to_owned()).unwrap_or_default();
        self.groups.entry(position).or_default().extend(made);
        let ported = Ported::of(&name);
        if self.is_read_as_real(result) {
            let real = graph.value(result).name.clone();
            self.dequantized += 1;
            self.groups.entry(position).or_default().push(ranges::dequantize(&real, &ported, &result_codes));
            self.replaced.insert(real);
        }
        self.codes.insert(result, ported);
        Ok(())
    }

    /// A matrix product whose result is real: one operator with the name that readers know.
    fn real_product(
        &mut self,
        (id, node): (NodeId, &Node),
        position: usize,
        operand: Option<&Operand>,
        result: ValueId,
    ) -> Result<(), TensorflowError> {
        let real = self.revision.graph.value(result).name.clone();
        let made = product::dequantized(self.revision, (id, node), operand, &real, &mut self.names)?;
        self.groups.entry(position).or_default().extend(made);
        self.replaced.insert(real);
        self.dequantized += 1;
        Ok(())
    }

    /// Codes of a value that a quantized node reads: those that are there, or new ones of the real tensor.
    fn read(&mut self, position: usize, reader: &str, value: ValueId) -> Result<Operand, TensorflowError> {
        let codes = self.planned(value)?;
        if let Some(known) = self.codes.get(&value) {
            return Ok((known.clone(), codes));
        }
        let real = &self.revision.graph.value(value).name;
        let (made, ported) = ranges::quantize(reader, real, &codes, &mut self.names);
        self.quantized += 1;
        self.groups.entry(position).or_default().extend(made);
        self.codes.insert(value, ported.clone());
        Ok((ported, codes))
    }

    fn planned(&self, value: ValueId) -> Result<Codes, TensorflowError> {
        let entry = self.revision.plan.activations.get(&value);
        let name = &self.revision.graph.value(value).name;
        let missing = || TensorflowError::invalid(Location::node(name), "the plan has no range for its result");
        Codes::of(&entry.ok_or_else(missing)?.params)
            .map_err(|cause| TensorflowError::unsupported(Location::node(name), cause))
    }

    /// Whether something reads a value that is computed as codes as a real tensor: a node that is not quantized, or the
    /// caller.
    fn is_read_as_real(&self, value: ValueId) -> bool {
        let Revision { graph, plan, .. } = *self.revision;
        let on_codes = |id: &NodeId| plan.quantizes(*id) || plan.absorbed_into(*id).is_some();
        graph.is_output(value) || graph.value(value).consumers().iter().any(|(id, _)| !on_codes(id))
    }

    /// Nodes that became part of others go, with those that were folded into them.
    fn vanish(&mut self) {
        let Revision { graph, plan, .. } = *self.revision;
        let gone = |id: &NodeId| {
            matches!(plan.nodes.get(id).map(|n| &n.decision), Some(Decision::Quantize | Decision::Absorbed { .. }))
        };
        for (_, node) in graph.nodes().filter(|(id, _)| gone(id)) {
            self.replaced.insert(node.name.clone());
            self.replaced.extend(node.outputs.iter().flatten().map(|value| graph.value(*value).name.clone()));
        }
    }

    /// The source with what is new in the place of what goes, and nothing that no output needs.
    fn laid_over(&mut self) -> GraphDef {
        let Revision { source, graph, .. } = *self.revision;
        let mut nodes = Vec::with_capacity(source.nodes().len());
        let mut groups = std::mem::take(&mut self.groups);
        for (position, node) in source.nodes().iter().enumerate() {
            nodes.extend(groups.remove(&position).unwrap_or_default());
            if !self.replaced.contains(node.name()) {
                nodes.push(node.clone());
            }
        }
        nodes.extend(groups.into_values().flatten());
        let there: BTreeSet<String> = nodes.iter().map(|node| node.name().to_owned()).collect();
        for node in &mut nodes {
            let waits = |input: &&String| {
                let input = Input::parse(input);
                input.port != Port::Control || there.contains(input.node)
            };
            let inputs = node.inputs().iter().filter(waits).cloned().collect();
            node.set_inputs(inputs);
        }
        let roots = graph.outputs().iter().chain(graph.inputs()).map(|value| graph.value(*value).name.as_str());
        let needed = needed(&nodes, roots);
        let kept = nodes.into_iter().zip(needed).filter(|(_, needed)| *needed).map(|(node, _)| node);
        source.with_nodes(kept.collect())
    }
}

/// Position in the source of the node that a node stands for.
fn position(node: &Node) -> usize {
    node.origin.documents().first().map_or(usize::MAX, |id| id.0 as usize)
}

/// Which nodes the roots depend on, control inputs included.
fn needed<'n>(nodes: &[NodeDef], roots: impl Iterator<Item = &'n str>) -> Vec<bool> {
    let by_name: BTreeMap<&str, usize> = nodes.iter().enumerate().map(|(at, node)| (node.name(), at)).collect();
    let mut needed = vec![false; nodes.len()];
    let mut open: Vec<usize> = roots.filter_map(|name| by_name.get(Input::parse(name).node).copied()).collect();
    while let Some(at) = open.pop() {
        let (Some(flag), Some(node)) = (needed.get_mut(at), nodes.get(at)) else { continue };
        if !std::mem::replace(flag, true) {
            open.extend(node.refs().filter_map(|input| by_name.get(input.node).copied()));
        }
    }
    needed
}
