//! The order of the walk: where each layer stands, and which values are alive between two layers.

use crate::error::OptimizeError;
use crate::layer::Layer;
use quantize_ir::{Graph, NodeId, QuantPlan, ValueId};
use std::collections::{BTreeMap, BTreeSet};

/// A layer with the nodes up to the next one.
#[derive(Clone, Debug)]
pub(crate) struct Stage {
    /// The layer it begins with; `None` for what stands before the first.
    pub(crate) layer: Option<Layer>,
    /// Values that are there when it begins and that it, or a later one, reads.
    pub(crate) before: Vec<ValueId>,
    /// Values that are there when it ends and that a later one reads.
    pub(crate) after: Vec<ValueId>,
}

/// The stages of a graph, in the order in which they are walked; none if it has no layer besides those `fixed`. What
/// follows the last layer is left out, as is what `targets` do not depend on.
///
/// # Errors
/// If the graph has a cycle, or a constant cannot be read.
pub(crate) fn stages(
    graph: &Graph,
    plan: &QuantPlan,
    targets: &[ValueId],
    fixed: &BTreeSet<NodeId>,
) -> Result<Vec<Stage>, OptimizeError> {
    let needed = needed(graph, targets);
    let order: Vec<NodeId> = graph.topological_order()?.into_iter().filter(|id| needed.contains(id)).collect();
    let mut layers = Vec::new();
    for (position, id) in order.iter().enumerate().filter(|(_, id)| !fixed.contains(id)) {
        layers.extend(Layer::of(graph, plan, *id)?.map(|layer| (position, layer)));
    }
    let Some(last) = layers.last().map(|(position, _)| *position) else { return Ok(Vec::new()) };
    let lives = Lives::of(graph, &order[..=last]);
    let starts: Vec<usize> = layers.iter().map(|(position, _)| *position).collect();
    let mut stages = vec![Stage { layer: None, before: lives.across(0), after: lives.across(starts[0]) }];
    for (i, (position, layer)) in layers.into_iter().enumerate() {
        let end = starts.get(i + 1).copied().unwrap_or(last + 1);
        stages.push(Stage { layer: Some(layer), before: lives.across(position), after: lives.across(end) });
    }
    Ok(stages)
}

/// Nodes that `targets` depend on.
fn needed(graph: &Graph, targets: &[ValueId]) -> BTreeSet<NodeId> {
    let mut needed = BTreeSet::new();
    let mut waiting = targets.to_vec();
    while let Some(value) = waiting.pop() {
        if graph.value(value).constant.is_some() {
            continue;
        }
        let Some((id, node)) = graph.producer(value) else { continue };
        if needed.insert(id) {
            waiting.extend(node.inputs.iter().flatten());
        }
    }
    needed
}

/// From where to where each value is alive, as positions in the order of nodes.
struct Lives(BTreeMap<ValueId, (usize, usize)>);

impl Lives {
    fn of(graph: &Graph, order: &[NodeId]) -> Self {
        let mut lives: BTreeMap<ValueId, (usize, usize)> = BTreeMap::new();
        let mut born: BTreeMap<ValueId, usize> = BTreeMap::new();
        for (position, id) in order.iter().enumerate() {
            let Some(node) = graph.node(*id) else { continue };
            for value in node.inputs.iter().flatten().filter(|v| graph.value(**v).constant.is_none()) {
                let birth = born.get(value).copied().unwrap_or(0);
                lives.insert(*value, (birth, position));
            }
            born.extend(node.outputs.iter().flatten().map(|v| (*v, position + 1)));
        }
        Self(lives)
    }

    /// Values that exist before the node at `position` and are read by it or a later one.
    fn across(&self, position: usize) -> Vec<ValueId> {
        let alive = |(_, (birth, last)): &(&ValueId, &(usize, usize))| *birth <= position && *last >= position;
        self.0.iter().filter(alive).map(|(value, _)| *value).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Net;

    #[test]
    fn stages_know_what_is_alive_between_them() {
        let mut net = Net::new();
        let x = net.input("x");
        let r = net.relu("before", x);
        let a = net.conv("a", r, &[1, 1, 1, 1], &[1.0], None);
        let b = net.conv("b", a, &[1, 1, 1, 1], &[1.0], None);
        let s = net.add("sum", b, r);
        let c = net.conv("c", s, &[1, 1, 1, 1], &[1.0], None);
        let y = net.relu("after", c);
        let unread = net.conv("unread", x, &[1, 1, 1, 1], &[1.0], None);
        net.outputs(&[y, unread]);
        let found = stages(&net.graph, &net.plan(1.0), &[y], &BTreeSet::new()).unwrap();
        let found: Vec<_> = found.into_iter().map(|s| (s.layer.map(|l| l.label), s.before, s.after)).collect();
        let name = |label: &str| Some(label.to_owned());
        assert_eq!(
            found,
            [
                (None, vec![x], vec![r]),
                (name("a"), vec![r], vec![r, a]),
                (name("b"), vec![r, a], vec![s]),
                (name("c"), vec![s], vec![]),
            ]
        );
    }

    #[test]
    fn a_graph_without_layers_has_no_stages() {
        let mut net = Net::new();
        let x = net.input("x");
        let y = net.relu("relu", x);
        net.outputs(&[y]);
        assert!(stages(&net.graph, &net.plan(1.0), &[y], &BTreeSet::new()).unwrap().is_empty());
    }
}
