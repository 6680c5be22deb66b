//! What depends on operators that cannot be executed, found by one walk over the graph.

use crate::error::Error;
use quantize_ir::{Graph, GraphError, Node, NodeId, Op, ValueId};
use std::collections::BTreeSet;
use std::path::Path;

/// Values that cannot be computed because an operator without shared semantics stands before them.
pub(crate) struct Unknown(BTreeSet<ValueId>);

impl Unknown {
    /// Follows every such operator of `graph` to whatever depends on it.
    ///
    /// # Errors
    /// If the graph has a cycle.
    pub(crate) fn of(graph: &Graph) -> Result<Self, GraphError> {
        let mut unknown = Self(BTreeSet::new());
        for id in graph.topological_order()? {
            let Some(node) = graph.node(id) else { continue };
            if is_unknown(node) || unknown.feeds(node) {
                let results = node.outputs.iter().flatten().filter(|v| graph.value(**v).constant.is_none());
                unknown.0.extend(results);
            }
        }
        Ok(unknown)
    }

    fn feeds(&self, node: &Node) -> bool {
        node.inputs.iter().flatten().any(|v| self.0.contains(v))
    }

    /// Whether `value` can be computed.
    pub(crate) fn computes(&self, value: ValueId) -> bool {
        !self.0.contains(&value)
    }

    /// Outputs of `graph` that can be computed.
    pub(crate) fn computable_outputs(&self, graph: &Graph) -> Vec<ValueId> {
        graph.outputs().iter().copied().filter(|v| !self.0.contains(v)).collect()
    }

    /// Values that show what the network computes: its outputs that can be computed; if there are none, what the first
    /// operators that cannot be executed read.
    pub(crate) fn targets(&self, graph: &Graph) -> Vec<ValueId> {
        let outputs = self.computable_outputs(graph);
        if !outputs.is_empty() {
            return outputs;
        }
        let computed = |v: &ValueId| !self.0.contains(v) && graph.value(*v).producer().is_some();
        let read = graph.nodes().filter(|(_, n)| is_unknown(n)).flat_map(|(_, n)| n.inputs.iter().flatten().copied());
        let distinct: BTreeSet<ValueId> = read.filter(|v| computed(v) && graph.value(*v).constant.is_none()).collect();
        distinct.into_iter().collect()
    }

    /// Refuses a graph in which a node of `wanted` depends on an unknown operator.
    ///
    /// # Errors
    /// [`Error::UnknownOperators`] naming the operators and the nodes behind them.
    pub(crate) fn refuse(&self, graph: &Graph, model: &Path, wanted: &dyn Fn(NodeId) -> bool) -> Result<(), Error> {
        let behind: Vec<NodeId> =
            graph.nodes().filter(|(id, node)| wanted(*id) && self.feeds(node)).map(|(id, _)| id).collect();
        if behind.is_empty() {
            return Ok(());
        }
        let blocking = self.before(graph, &behind);
        let name = |id: &NodeId| graph.node(*id).map(|n| format!("node `{}` ({})", graph.label(*id), n.op.name()));
        Err(Error::UnknownOperators {
            model: model.to_owned(),
            unknown: blocking.iter().filter_map(name).collect(),
            behind: behind.into_iter().map(|id| graph.label(id)).collect(),
        })
    }

    /// The unknown operators `nodes` depend on.
    fn before(&self, graph: &Graph, nodes: &[NodeId]) -> BTreeSet<NodeId> {
        let mut found = BTreeSet::new();
        let mut seen = BTreeSet::new();
        let mut open = nodes.to_vec();
        while let Some(node) = open.pop().and_then(|id| graph.node(id)) {
            for value in node.inputs.iter().flatten().filter(|v| self.0.contains(v)) {
                let Some((id, producer)) = graph.producer(*value) else { continue };
                if is_unknown(producer) {
                    found.insert(id);
                } else if seen.insert(id) {
                    open.push(id);
                }
            }
        }
        found
    }
}

/// The values that show what quantization costs: logits rather than the probabilities a softmax makes of them.
pub(crate) fn before_softmax(graph: &Graph, outputs: &[ValueId]) -> Vec<ValueId> {
    let logits = |value: &ValueId| match graph.producer(*value) {
        Some((_, node)) if matches!(node.op, Op::Softmax(_)) => node.input(0).unwrap_or(*value),
        _ => *value,
    };
    outputs.iter().map(logits).collect()
}

/// Whether adding the same to all scores of a sample changes nothing: nobody reads `value` but softmaxes.
pub(crate) fn only_differences_count(graph: &Graph, value: ValueId) -> bool {
    let is_softmax = |id: NodeId| graph.node(id).is_some_and(|node| matches!(node.op, Op::Softmax(_)));
    let readers = graph.value(value).consumers();
    !graph.is_output(value) && !readers.is_empty() && readers.iter().all(|(id, _)| is_softmax(*id))
}

fn is_unknown(node: &Node) -> bool {
    matches!(node.op, Op::Opaque(_))
}

#[cfg(test)]
mod tests {
    use super::*;
    use quantize_ir::op::{Opaque, Unary};
    use quantize_ir::{Origin, Value};

    fn node(graph: &mut Graph, name: &str, op: Op, input: ValueId) -> ValueId {
        let output = graph.add_value(Value::named(name));
        let origin = Origin::Synthesized { pass: "test", from: vec![] };
        let (inputs, outputs) = (vec![Some(input)], vec![Some(output)]);
        graph.add_node(Node { name: name.into(), op, inputs, outputs, after: vec![], origin }).unwrap();
        output
    }

    #[test]
    fn scores_that_only_a_softmax_reads_count_by_their_differences() {
        let mut graph = Graph::new();
        let x = graph.add_value(Value::named("x"));
        let scores = node(&mut graph, "scores", Op::Unary(Unary::Relu), x);
        let softmax = || Op::Softmax(quantize_ir::op::Softmax { axis: 1, flatten: false, log: false });
        let probabilities = node(&mut graph, "probabilities", softmax(), scores);
        graph.set_outputs(vec![probabilities]);
        assert!(only_differences_count(&graph, scores));
        assert!(!only_differences_count(&graph, x) && !only_differences_count(&graph, probabilities));
        graph.set_outputs(vec![probabilities, scores]);
        assert!(!only_differences_count(&graph, scores));
    }

    #[test]
    fn what_follows_an_unknown_operator_is_named() {
        let mut graph = Graph::new();
        let x = graph.add_value(Value::named("x"));
        let relu = || Op::Unary(Unary::Relu);
        let known = node(&mut graph, "known", relu(), x);
        let opaque = Op::Opaque(Opaque { domain: "d".into(), kind: "Mystery".into() });
        let strange = node(&mut graph, "strange", opaque, known);
        let after = node(&mut graph, "after", relu(), strange);
        let last = node(&mut graph, "last", relu(), after);
        graph.set_outputs(vec![known, last]);
        let unknown = Unknown::of(&graph).unwrap();
        assert_eq!(unknown.computable_outputs(&graph), [known]);
        let wants = |name: &'static str| {
            let id = graph.nodes().find(|(_, n)| n.name == name).map(|(id, _)| id);
            unknown.refuse(&graph, Path::new("m.onnx"), &|n| Some(n) == id)
        };
        assert!(wants("known").is_ok());
        let error = wants("last").unwrap_err();
        let said = "m.onnx: cannot execute node `strange` (Mystery), before nodes that would be quantized";
        assert_eq!(error.to_string(), said);
        assert_eq!(error.hint().unwrap(), "keep what follows in fp32: --skip 'last'");
    }
}
