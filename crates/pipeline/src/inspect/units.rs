//! The nodes of a document, some of which are several nodes of the graph: operators on codes are read as what they
//! stand for, a real operator between conversions.

use super::open::Rules;
use quantize_ir::{DocId, Graph, Node, NodeId, ValueId};
use std::collections::BTreeMap;

/// A node of the document.
#[derive(Debug)]
pub(super) struct Unit {
    /// How messages call it.
    pub(super) label: String,
    /// Its operator.
    pub(super) op: String,
    /// Its nodes in the graph, in order; at least one.
    pub(super) nodes: Vec<NodeId>,
}

impl Unit {
    /// Whether its operator computes on codes itself.
    pub(super) fn is_on_codes(&self) -> bool {
        self.nodes.len() > 1
    }
}

/// All nodes of a document, in its order.
#[derive(Debug)]
pub(super) struct Units {
    all: Vec<Unit>,
    of: BTreeMap<NodeId, usize>,
}

impl Units {
    pub(super) fn of(graph: &Graph, rules: &Rules) -> Self {
        Self::by(graph, |node| rules.operator_of_part(node))
    }

    /// Each node of the graph is one of the document.
    #[cfg(test)]
    pub(super) fn whole(graph: &Graph) -> Self {
        Self::by(graph, |_| None)
    }

    /// `operator_of_part` names the operator of the document's node that a node is part of.
    fn by(graph: &Graph, operator_of_part: impl Fn(&Node) -> Option<String>) -> Self {
        let mut units = Self { all: Vec::new(), of: BTreeMap::new() };
        let mut known: BTreeMap<DocId, usize> = BTreeMap::new();
        for (id, node) in graph.nodes() {
            let part = operator_of_part(node);
            let document = node.origin.documents().first().filter(|_| part.is_some());
            let next = units.all.len();
            let at = document.map_or(next, |document| *known.entry(*document).or_insert(next));
            if at == next {
                let op = part.unwrap_or_else(|| node.op.name().to_owned());
                units.all.push(Unit { label: graph.label(id), op, nodes: Vec::new() });
            }
            units.all[at].nodes.push(id);
            units.of.insert(id, at);
        }
        let labels: Vec<String> = units.all.iter().map(|unit| units.label(graph, unit)).collect();
        units.all.iter_mut().zip(labels).for_each(|(unit, label)| unit.label = label);
        units
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Unit> {
        self.all.iter()
    }

    /// How messages call the document's node that `node` is part of.
    pub(super) fn label_of(&self, graph: &Graph, node: NodeId) -> String {
        self.of.get(&node).map_or_else(|| graph.label(node), |at| self.all[*at].label.clone())
    }

    /// The name that its nodes have; or its operator and first result.
    fn label(&self, graph: &Graph, unit: &Unit) -> String {
        let [first, _, ..] = unit.nodes.as_slice() else { return unit.label.clone() };
        let mut names = unit.nodes.iter().filter_map(|id| graph.node(*id)).map(|node| node.name.as_str());
        let named = names.find(|name| !name.is_empty()).map(str::to_owned);
        let result = self.results(graph, unit).next().map(|value| format!("{}->{}", unit.op, graph.value(value).name));
        named.or(result).unwrap_or_else(|| graph.label(*first))
    }

    /// Whether only the document's node that computes `value` knows of it.
    pub(super) fn is_inner(&self, graph: &Graph, value: ValueId) -> bool {
        let Some((producer, _)) = graph.producer(value) else { return false };
        let unit = self.of.get(&producer);
        let mut readers = graph.value(value).consumers().iter();
        let known = !graph.value(value).consumers().is_empty() && !graph.is_output(value);
        known && readers.all(|(reader, _)| self.of.get(reader) == unit)
    }

    fn nodes<'a>(&self, graph: &'a Graph, unit: &'a Unit) -> impl Iterator<Item = &'a Node> {
        unit.nodes.iter().filter_map(|id| graph.node(*id))
    }

    /// What varies with the input among what a document's node reads.
    pub(super) fn operands<'a>(&'a self, graph: &'a Graph, unit: &'a Unit) -> impl Iterator<Item = ValueId> + 'a {
        let read = self.nodes(graph, unit).flat_map(|node| node.inputs.iter().flatten().copied());
        read.filter(|value| graph.value(*value).constant.is_none() && !self.is_inner(graph, *value))
    }

    /// What a document's node computes.
    pub(super) fn results<'a>(&'a self, graph: &'a Graph, unit: &'a Unit) -> impl Iterator<Item = ValueId> + 'a {
        let computed = self.nodes(graph, unit).flat_map(|node| node.outputs.iter().flatten().copied());
        computed.filter(|value| !self.is_inner(graph, *value))
    }
}
