//! Small networks for tests.

use quantize_ir::{Constant, Graph, Node, NodeId, Op, Origin, Tensor, Value, ValueId};

/// A graph under construction.
#[derive(Default)]
pub(crate) struct Network {
    pub(crate) graph: Graph,
}

impl Network {
    /// A value the caller feeds.
    pub(crate) fn input(&mut self, name: &str) -> ValueId {
        let value = self.graph.add_value(Value::named(name));
        let inputs = self.graph.inputs().iter().copied().chain([value]).collect();
        self.graph.set_inputs(inputs);
        value
    }

    /// A constant.
    pub(crate) fn constant(&mut self, name: &str, tensor: Tensor) -> ValueId {
        let dtype = tensor.dtype();
        self.graph.add_constant(name, Constant::owned(tensor), dtype, origin())
    }

    /// A node with one result, which is named after it.
    pub(crate) fn node(&mut self, name: &str, op: Op, inputs: &[ValueId]) -> ValueId {
        self.node_with_results(name, op, inputs, 1)[0]
    }

    /// A node with several results.
    pub(crate) fn node_with_results(&mut self, name: &str, op: Op, inputs: &[ValueId], results: usize) -> Vec<ValueId> {
        let outputs: Vec<ValueId> = (0..results).map(|_| self.graph.add_value(Value::named(name))).collect();
        let node = Node {
            name: name.into(),
            op,
            inputs: inputs.iter().map(|v| Some(*v)).collect(),
            outputs: outputs.iter().map(|v| Some(*v)).collect(),
            after: vec![],
            origin: origin(),
        };
        self.graph.add_node(node).unwrap();
        outputs
    }

    /// The node that computes `value`.
    pub(crate) fn producer(&self, value: ValueId) -> NodeId {
        self.graph.value(value).producer().unwrap().0
    }
}

fn origin() -> Origin {
    Origin::Synthesized { pass: "test", from: vec![] }
}
