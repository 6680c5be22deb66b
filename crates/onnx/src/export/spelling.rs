//! Names of values and nodes: unique, not empty, and the graph's own wherever they are that already.

use crate::names::Names;
use quantize_ir::{Graph, ValueId};
use std::collections::{BTreeMap, BTreeSet};

/// Stem of the names of values that have none.
const VALUE: &str = "value";

/// How values and nodes are called in the model.
pub(super) struct Spelling {
    values: Vec<String>,
    /// Names of the outputs. They differ from the value's where that is a constant or an input, or an output twice.
    pub(super) outputs: Vec<String>,
    /// Names of values, those in use and those of the graph, so that new ones differ from all of them.
    pub(super) names: Names,
    nodes: Names,
    used_nodes: BTreeSet<String>,
}

/// Keeps a name where it is the first of its kind.
struct Keeper {
    names: Names,
    used: BTreeSet<String>,
}

impl Keeper {
    fn keep(&mut self, wanted: &str) -> String {
        match wanted {
            "" => self.names.fresh(VALUE),
            _ if self.used.insert(wanted.to_owned()) => wanted.to_owned(),
            _ => self.names.fresh(wanted),
        }
    }
}

impl Spelling {
    /// Names all values of a graph; inputs and outputs choose first.
    pub(super) fn of(graph: &Graph) -> Self {
        let names = Names::taken(graph.values().map(|(_, v)| v.name.clone()));
        let nodes = Names::taken(graph.nodes().map(|(_, n)| n.name.clone()));
        let mut keeper = Keeper { names, used: BTreeSet::new() };
        let mut values: BTreeMap<ValueId, String> = BTreeMap::new();
        for input in graph.inputs() {
            values.entry(*input).or_insert_with(|| keeper.keep(&graph.value(*input).name));
        }
        let mut outputs = Vec::new();
        for output in graph.outputs() {
            let value = graph.value(*output);
            let name = keeper.keep(&value.name);
            if value.constant.is_none() {
                values.entry(*output).or_insert_with(|| name.clone());
            }
            outputs.push(name);
        }
        for (id, value) in graph.values() {
            values.entry(id).or_insert_with(|| keeper.keep(&value.name));
        }
        let values = values.into_values().collect();
        Self { values, outputs, names: keeper.names, nodes, used_nodes: BTreeSet::new() }
    }

    /// The name of a value; empty for none.
    pub(super) fn value(&self, value: Option<ValueId>) -> String {
        value.and_then(|v| self.values.get(v.index())).cloned().unwrap_or_default()
    }

    /// The name of a node that the graph calls `name`, made from `kind` if that is empty.
    pub(super) fn node(&mut self, name: &str, kind: &str) -> String {
        match name {
            "" => self.nodes.fresh(kind),
            _ if self.used_nodes.insert(name.to_owned()) => name.to_owned(),
            _ => self.nodes.fresh(name),
        }
    }

    /// The name of a step that does `part` of what node `name` does.
    pub(super) fn part(&mut self, name: &str, part: &str) -> String {
        if part.is_empty() { name.to_owned() } else { self.nodes.fresh(&format!("{name}_{part}")) }
    }
}
