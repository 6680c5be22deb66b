//! What a model is: its header, its operators, the work and the memory of one run, and what a target would compute on
//! integers.
//!
//! Shapes come from a run on made-up inputs; where that stops, from what the file declares. What would be quantized is
//! decided by the code that quantizes, so the two cannot disagree. What lives here: counting and collecting. What does
//! not: how the figures are shown.

mod choice;
mod memory;
mod open;
mod pairs;
mod parameters;
mod sizes;
mod units;

pub use choice::{Fate, Integers};
pub use memory::{Activation, Memory, Peak};
pub use open::InspectOptions;
pub use parameters::ParameterType;

use crate::error::Error;
use crate::settle::constants_folded;
use crate::work::Shapes;
use open::Opened;
use parameters::Parameters;
use quantize_ir::{Dim, Graph, NodeId, ValueId};
use std::collections::BTreeMap;
use units::{Unit, Units};

/// What was found out about a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Inspection {
    /// The file format, with its version.
    pub format: String,
    /// Operator sets with their versions; none for formats that have none.
    pub opsets: Vec<(String, i64)>,
    /// The program that wrote the file; empty if it does not say.
    pub producer: String,
    /// Bytes of its files.
    pub file_bytes: u64,
    /// What it takes, in order.
    pub inputs: Vec<Port>,
    /// What it gives, in order.
    pub outputs: Vec<Port>,
    /// Shape of each input that work and memory are counted for; none if they could not be chosen.
    pub counted_for: Vec<Vec<usize>>,
    /// Operators, those with the most work first.
    pub operators: Vec<Operator>,
    /// Nodes, in the model's order.
    pub nodes: Vec<NodeDetails>,
    /// Parameters by element type.
    pub parameters: Vec<ParameterType>,
    /// What activations need.
    pub memory: Memory,
    /// What computes on integers, or could.
    pub integers: Integers,
    /// What the import noticed, and what could not be counted.
    pub remarks: Vec<String>,
}

/// An input or an output of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// Its element type, if known.
    pub dtype: Option<&'static str>,
    /// Its extents as they are declared: a number, a name, or `?`; `None` if there are none.
    pub shape: Option<Vec<String>>,
}

/// All nodes of one operator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Operator {
    /// Its name.
    pub op: String,
    /// Number of nodes.
    pub nodes: usize,
    /// Their multiply-accumulates, as far as they are known.
    pub macs: u64,
    /// Their parameters.
    pub parameters: u64,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeDetails {
    /// How messages call it.
    pub label: String,
    /// Its operator.
    pub op: String,
    /// Shapes of its operands that change with the input; `None` if not known.
    pub inputs: Vec<Option<Vec<usize>>>,
    /// Shapes of its results; `None` if not known.
    pub outputs: Vec<Option<Vec<usize>>>,
    /// Its multiply-accumulates; `None` if they are not known.
    pub macs: Option<u64>,
    /// Its parameters.
    pub parameters: u64,
    /// What happens to it, or has happened.
    pub fate: Fate,
}

impl Inspection {
    /// Multiply-accumulates of all nodes, as far as they are known.
    pub fn macs(&self) -> u64 {
        total(self.nodes.iter().filter_map(|node| node.macs))
    }

    /// Those of nodes that compute on integers, or would.
    pub fn integer_macs(&self) -> u64 {
        let on_integers = self.nodes.iter().filter(|node| node.fate == Fate::Integers && self.integers.has_kernels);
        total(on_integers.filter_map(|node| node.macs))
    }

    /// Their share, from 0 to 1; `None` if there are no multiply-accumulates or those of a node are not known.
    pub fn integer_share(&self) -> Option<f64> {
        let known = self.nodes.iter().all(|node| node.macs.is_some()) && self.macs() > 0;
        known.then(|| self.integer_macs() as f64 / self.macs() as f64)
    }
}

/// A sum that stays in bounds whatever sizes a file declares.
fn total(numbers: impl Iterator<Item = u64>) -> u64 {
    numbers.fold(0, u64::saturating_add)
}

/// Finds out what a model is. Nothing is written, and no data is needed.
///
/// # Errors
/// If the model cannot be read, a `skip` pattern matches nothing, or a shape is given that does not fit an input.
pub fn inspect(options: &InspectOptions) -> Result<Inspection, Error> {
    let opened = Opened::open(options)?;
    let graph = constants_folded(&opened.model)?;
    let (shapes, mut remarks) = sizes::shapes(&graph, opened.model.path(), &options.shapes)?;
    let parameters = Parameters::of(opened.model.graph());
    let units = Units::of(&graph, &opened.rules);
    let (fates, integers) = choice::fates(&opened, &graph, &options.skip)?;
    let memory = memory::of(&graph, &shapes.seen, &units, opened.model.path())?;
    let details = Details { graph: &graph, units: &units, shapes: &shapes.seen, parameters: &parameters };
    let nodes: Vec<NodeDetails> = units.iter().map(|unit| details.of(unit, &fates)).collect();
    remarks.splice(0..0, opened.model.problems().iter().cloned());
    remarks.extend(uncounted(&nodes, &memory));
    Ok(Inspection {
        format: opened.format,
        opsets: opened.opsets,
        producer: opened.producer,
        file_bytes: opened.model.file_bytes(),
        inputs: ports(&graph, graph.inputs()),
        outputs: ports(&graph, graph.outputs()),
        counted_for: shapes.fed,
        operators: operators(&nodes),
        parameters: parameters.by_type(),
        nodes,
        memory,
        integers,
        remarks,
    })
}

/// What entries of nodes are made from.
struct Details<'a> {
    graph: &'a Graph,
    units: &'a Units,
    shapes: &'a Shapes,
    parameters: &'a Parameters,
}

impl Details<'_> {
    fn of(&self, unit: &Unit, fates: &BTreeMap<NodeId, Fate>) -> NodeDetails {
        let shape = |value: ValueId| self.shapes.of(self.graph, value).map(<[usize]>::to_vec);
        let nodes = || unit.nodes.iter().filter_map(|id| self.graph.node(*id));
        let macs: Option<Vec<u64>> = nodes().map(|node| self.shapes.multiply_accumulates(self.graph, node)).collect();
        let stores = unit.nodes.iter().any(|id| fates.get(id) == Some(&Fate::WeightOnly));
        let alone = unit.nodes.first().and_then(|id| fates.get(id)).filter(|_| !unit.is_on_codes());
        let fate = alone.cloned().or_else(|| stores.then_some(Fate::WeightOnly));
        NodeDetails {
            label: unit.label.clone(),
            op: unit.op.clone(),
            inputs: self.units.operands(self.graph, unit).map(shape).collect(),
            outputs: self.units.results(self.graph, unit).map(shape).collect(),
            macs: macs.map(|macs| total(macs.into_iter())),
            parameters: total(nodes().map(|node| self.parameters.of_node(node))),
            fate: fate.unwrap_or(Fate::Integers),
        }
    }
}

fn ports(graph: &Graph, values: &[ValueId]) -> Vec<Port> {
    let extent = |dim: &Dim| match dim {
        Dim::Known(n) => n.to_string(),
        Dim::Symbol(name) => name.clone(),
        Dim::Unknown => "?".to_owned(),
    };
    let port = |value: &ValueId| {
        let value = graph.value(*value);
        Port {
            name: value.name.clone(),
            dtype: value.dtype.map(|dtype| dtype.name()),
            shape: value.shape.as_ref().map(|shape| shape.iter().map(extent).collect()),
        }
    };
    values.iter().map(port).collect()
}

/// Nodes by operator: most work first, then most nodes, then by name.
fn operators(nodes: &[NodeDetails]) -> Vec<Operator> {
    let mut operators: BTreeMap<&str, Operator> = BTreeMap::new();
    for node in nodes {
        let entry = operators.entry(&node.op).or_default();
        entry.op.clone_from(&node.op);
        entry.nodes += 1;
        entry.macs = entry.macs.saturating_add(node.macs.unwrap_or(0));
        entry.parameters = entry.parameters.saturating_add(node.parameters);
    }
    let mut operators: Vec<Operator> = operators.into_values().collect();
    operators.sort_by(|a, b| b.macs.cmp(&a.macs).then(b.nodes.cmp(&a.nodes)).then_with(|| a.op.cmp(&b.op)));
    operators
}

/// What is missing in the sums.
fn uncounted(nodes: &[NodeDetails], memory: &Memory) -> Vec<String> {
    let nodes = nodes.iter().filter(|node| node.macs.is_none()).count();
    let what = [("multiply-accumulates of nodes", nodes), ("sizes of activations", memory.unknown)];
    let missing = what.into_iter().filter(|(_, number)| *number > 0);
    missing.map(|(what, number)| format!("{what} that are not known and not counted: {number}")).collect()
}
