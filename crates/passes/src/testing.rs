//! A small graph builder for the tests of this crate.

use quantize_ir::op::{Conv, Layout, Padding, Rounding, Window};
use quantize_ir::{
    Constant, DType, Graph, Grids, KeepReason, Node, NodeId, Op, Origin, QuantType, Recipe, Support, Tensor, Value,
    ValueId,
};

/// A graph under construction; values are `float32`.
#[derive(Default)]
pub(crate) struct Builder {
    pub(crate) graph: Graph,
}

fn origin() -> Origin {
    Origin::Synthesized { pass: "test", from: vec![] }
}

impl Builder {
    pub(crate) fn input(&mut self, name: &str) -> ValueId {
        let mut value = Value::named(name);
        value.dtype = Some(DType::F32);
        let id = self.graph.add_value(value);
        self.graph.set_inputs([self.graph.inputs(), &[id]].concat());
        id
    }

    pub(crate) fn constant(&mut self, name: &str, shape: &[usize], data: &[f32]) -> ValueId {
        let tensor = Tensor::new(shape, data.to_vec()).unwrap();
        self.graph.add_constant(name, Constant::owned(tensor), DType::F32, origin())
    }

    /// Adds a node with one result, named after the node.
    pub(crate) fn node(&mut self, name: &str, op: Op, inputs: &[ValueId]) -> ValueId {
        let mut value = Value::named(format!("{name}:0"));
        value.dtype = Some(DType::F32);
        let output = self.graph.add_value(value);
        let inputs = inputs.iter().copied().map(Some).collect();
        let node = Node { name: name.into(), op, inputs, outputs: vec![Some(output)], after: vec![], origin: origin() };
        self.graph.add_node(node).unwrap();
        output
    }

    pub(crate) fn integers(&mut self, name: &str, values: &[i64]) -> ValueId {
        let tensor = Tensor::vector(values.to_vec());
        self.graph.add_constant(name, Constant::owned(tensor), DType::I64, origin())
    }

    /// A 1x1 convolution with two output channels.
    pub(crate) fn conv(&mut self, name: &str, x: ValueId) -> ValueId {
        let weight = self.constant(&format!("{name}_w"), &[2, 2, 1, 1], &[1.0, 2.0, 3.0, 4.0]);
        self.node(name, conv_op(), &[x, weight])
    }

    pub(crate) fn outputs(&mut self, values: &[ValueId]) {
        self.graph.set_outputs(values.to_vec());
    }

    pub(crate) fn id(&self, name: &str) -> NodeId {
        self.graph.nodes().find(|(_, n)| n.name == name).map(|(id, _)| id).unwrap()
    }
}

pub(crate) fn conv_op() -> Op {
    let window = Window { strides: vec![], dilations: vec![], padding: Padding::none(), rounding: Rounding::Floor };
    Op::Conv(Conv { window, group: 1, layout: Layout::ChannelsFirst, filter: Default::default() })
}

/// A target with integer kernels for a handful of operators.
pub(crate) struct Target;

impl Recipe for Target {
    fn support(&self, graph: &Graph, node: NodeId) -> Support {
        match graph.node(node).map(|n| &n.op) {
            Some(Op::Conv(_) | Op::MatMul) => Support::Anchor,
            Some(Op::Gather(_)) => Support::WeightOnly,
            Some(Op::Binary(_) | Op::Concat(_)) => Support::Joins,
            Some(Op::MaxPool(_) | Op::Reshape(_) | Op::Flatten(_)) => Support::Carries,
            Some(Op::Clip | Op::Unary(quantize_ir::op::Unary::Relu)) => Support::Absorbed,
            _ => Support::Keep(KeepReason::NoIntegerKernel),
        }
    }

    fn allows_real_result(&self, graph: &Graph, node: NodeId) -> bool {
        matches!(graph.node(node).map(|n| &n.op), Some(Op::MatMul))
    }

    fn prefers_real_result(&self, graph: &Graph, node: NodeId) -> bool {
        self.allows_real_result(graph, node)
    }

    fn channel_axis(&self, _: &Graph, _: NodeId, _: usize) -> Option<usize> {
        Some(0)
    }

    fn grids(&self) -> Grids {
        Grids { activation: QuantType::U8, symmetric: false, weight: QuantType::I8Narrow, coded_bias: true }
    }
}
