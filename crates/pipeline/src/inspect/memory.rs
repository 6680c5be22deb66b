//! What activations need while a network runs node by node.
//!
//! A tensor is there from the node that computes it to the last one that reads it, the network's results to the end.
//! Every node writes a tensor of its own; constants, working memory of kernels, and what stands for the inside of a node
//! of the document do not count.

use super::units::Units;
use crate::error::Error;
use crate::work::Shapes;
use quantize_ir::{Graph, NodeId, ValueId};
use std::collections::BTreeMap;
use std::path::Path;

/// What activations need.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Every activation, in the order they come into being.
    pub activations: Vec<Activation>,
    /// The node at which most is there; `None` if no size is known.
    pub peak: Option<Peak>,
    /// Number of activations of unknown size, which are in no sum.
    pub unknown: usize,
}

/// One activation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Activation {
    /// Its name.
    pub name: String,
    /// Its element type.
    pub dtype: &'static str,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Bytes it takes.
    pub bytes: u64,
    /// The last node that reads it; `None` if it is there to the end.
    pub until: Option<String>,
}

/// The node at which most memory is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peak {
    /// The node.
    pub node: String,
    /// Bytes of all activations that are there.
    pub bytes: u64,
}

/// An activation with the steps at which it is there, the first and the last one.
struct Life {
    value: ValueId,
    bytes: u64,
    first: usize,
    last: usize,
}

/// What the activations of `graph` need, constants being folded.
///
/// # Errors
/// If the graph has a cycle.
pub(super) fn of(graph: &Graph, shapes: &Shapes, units: &Units, model: &Path) -> Result<Memory, Error> {
    let order = graph.topological_order().map_err(|source| Error::graph(model, source))?;
    let steps: Vec<NodeId> = order.into_iter().filter(|id| computes(graph, *id)).collect();
    let at: BTreeMap<NodeId, usize> = steps.iter().enumerate().map(|(step, id)| (*id, step)).collect();
    let (known, unknown): (Vec<_>, Vec<_>) =
        activations(graph, units, &steps).map(|v| life(graph, shapes, &at, v)).partition(Option::is_some);
    let lives: Vec<Life> = known.into_iter().flatten().collect();
    let entry = |life: &Life| {
        Some(Activation {
            name: graph.value(life.value).name.clone(),
            dtype: graph.value(life.value).dtype?.name(),
            shape: shapes.of(graph, life.value)?.to_vec(),
            bytes: life.bytes,
            until: (life.last < steps.len()).then(|| units.label_of(graph, steps[life.last])),
        })
    };
    Ok(Memory {
        activations: lives.iter().filter_map(entry).collect(),
        peak: peak(&lives, steps.len()).map(|(step, bytes)| Peak { node: units.label_of(graph, steps[step]), bytes }),
        unknown: unknown.len(),
    })
}

/// Whether a node has a result that is not known before the run.
fn computes(graph: &Graph, id: NodeId) -> bool {
    graph.node(id).is_some_and(|node| node.outputs.iter().flatten().any(|v| graph.value(*v).constant.is_none()))
}

/// Inputs, then results in the order of the steps.
fn activations<'a>(graph: &'a Graph, units: &'a Units, steps: &'a [NodeId]) -> impl Iterator<Item = ValueId> + 'a {
    let nodes = steps.iter().filter_map(|id| graph.node(*id));
    let results = nodes.flat_map(|node| node.outputs.iter().flatten().copied());
    let all = graph.inputs().iter().copied().chain(results);
    all.filter(|v| graph.value(*v).constant.is_none() && !units.is_inner(graph, *v))
}

fn life(graph: &Graph, shapes: &Shapes, at: &BTreeMap<NodeId, usize>, value: ValueId) -> Option<Life> {
    let elements = shapes.of(graph, value)?.iter().try_fold(1u64, |n, d| n.checked_mul(*d as u64))?;
    let bytes = elements.checked_mul(graph.value(value).dtype?.size() as u64)?;
    let first = graph.producer(value).and_then(|(id, _)| at.get(&id)).copied().unwrap_or(0);
    let readers = graph.value(value).consumers().iter().filter_map(|(id, _)| at.get(id)).copied();
    let last = if graph.is_output(value) { at.len() } else { readers.max().unwrap_or(first) };
    Some(Life { value, bytes, first, last })
}

/// The step at which most is there, the first of several, and the sum there.
fn peak(lives: &[Life], steps: usize) -> Option<(usize, u64)> {
    let mut change = vec![(0u64, 0u64); steps + 1];
    for life in lives {
        let (come, go) = (life.first.min(steps), life.last.min(steps));
        change[come].0 = change[come].0.saturating_add(life.bytes);
        change[go].1 = change[go].1.saturating_add(life.bytes);
    }
    let mut there = 0u64;
    let mut most: Option<(usize, u64)> = None;
    for (step, (come, go)) in change.iter().take(steps).enumerate() {
        there = there.saturating_add(*come);
        if most.is_none_or(|(_, bytes)| there > bytes) {
            most = Some((step, there));
        }
        there = there.saturating_sub(*go);
    }
    most.filter(|(_, bytes)| *bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use quantize_ir::op::{Binary, Unary};
    use quantize_ir::{DType, Node, Op, Origin, Value};

    /// x (4 floats) → a → b → sum of a and b, which is the output; each of 16 bytes.
    #[test]
    fn a_tensor_is_there_until_its_last_reader() {
        let mut graph = Graph::new();
        let mut shapes = Shapes::default();
        let values = ["x", "a", "b", "y"].map(|name| {
            let mut value = Value::named(name);
            value.dtype = Some(DType::F32);
            let id = graph.add_value(value);
            shapes.assume(id, vec![1, 4]);
            id
        });
        let [x, a, b, y] = values;
        let mut node = |name: &str, op: Op, inputs: &[ValueId], output: ValueId| {
            let (inputs, outputs) = (inputs.iter().copied().map(Some).collect(), vec![Some(output)]);
            let origin = Origin::Synthesized { pass: "test", from: vec![] };
            graph.add_node(Node { name: name.into(), op, inputs, outputs, after: vec![], origin }).unwrap();
        };
        node("first", Op::Unary(Unary::Relu), &[x], a);
        node("second", Op::Unary(Unary::Exp), &[a], b);
        node("last", Op::Binary(Binary::Add), &[a, b], y);
        graph.set_inputs(vec![x]);
        graph.set_outputs(vec![y]);
        let memory = of(&graph, &shapes, &Units::whole(&graph), Path::new("m")).unwrap();
        let until: Vec<Option<&str>> = memory.activations.iter().map(|a| a.until.as_deref()).collect();
        assert_eq!(until, [Some("first"), Some("last"), Some("last"), None]);
        assert_eq!(memory.peak, Some(Peak { node: "last".into(), bytes: 48 }));
        assert_eq!(memory.activations.iter().map(|a| a.bytes).sum::<u64>(), 64);
    }

    #[test]
    fn activations_of_unknown_size_are_counted_apart() {
        let mut graph = Graph::new();
        let x = graph.add_value(Value::named("x"));
        graph.set_inputs(vec![x]);
        let memory = of(&graph, &Shapes::default(), &Units::whole(&graph), Path::new("m")).unwrap();
        assert_eq!((memory.activations.len(), memory.peak, memory.unknown), (0, None, 1));
    }
}
