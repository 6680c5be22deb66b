//! Small graphs for tests, and plans that round them.

use quantize_exec::evaluate_node;
use quantize_ir::op::{Binary, Conv, Padding, Unary, Window};
use quantize_ir::{
    ActivationPlan, Constant, DType, Decision, Graph, Node, NodeId, NodePlan, Op, Origin, QuantParams, QuantPlan,
    QuantType, Tensor, Value, ValueId, WeightPlan,
};
use std::sync::Arc;

pub(crate) struct Net {
    pub(crate) graph: Graph,
}

fn origin() -> Origin {
    Origin::Synthesized { pass: "test", from: vec![] }
}

impl Net {
    pub(crate) fn new() -> Self {
        Self { graph: Graph::new() }
    }

    pub(crate) fn input(&mut self, name: &str) -> ValueId {
        let value = self.graph.add_value(Value::named(name));
        let inputs = self.graph.inputs().iter().copied().chain([value]).collect();
        self.graph.set_inputs(inputs);
        value
    }

    pub(crate) fn outputs(&mut self, values: &[ValueId]) {
        self.graph.set_outputs(values.to_vec());
    }

    pub(crate) fn constant(&mut self, name: &str, tensor: Tensor) -> ValueId {
        self.graph.add_constant(name, Constant::owned(tensor), DType::F32, origin())
    }

    pub(crate) fn node(&mut self, name: &str, op: Op, inputs: &[ValueId]) -> ValueId {
        let mut output = Value::named(name);
        output.dtype = Some(DType::F32);
        let output = self.graph.add_value(output);
        let inputs = inputs.iter().copied().map(Some).collect();
        let node = Node { name: name.into(), op, inputs, outputs: vec![Some(output)], after: vec![], origin: origin() };
        self.graph.add_node(node).unwrap();
        output
    }

    pub(crate) fn relu(&mut self, name: &str, x: ValueId) -> ValueId {
        self.node(name, Op::Unary(Unary::Relu), &[x])
    }

    pub(crate) fn add(&mut self, name: &str, a: ValueId, b: ValueId) -> ValueId {
        self.node(name, Op::Binary(Binary::Add), &[a, b])
    }

    pub(crate) fn conv(
        &mut self,
        name: &str,
        x: ValueId,
        shape: &[usize],
        weight: &[f32],
        bias: Option<&[f32]>,
    ) -> ValueId {
        let padding = Padding::none();
        let window = Window { strides: vec![], dilations: vec![], padding, rounding: Default::default() };
        let conv = Conv { window, group: 1, layout: Default::default(), filter: Default::default() };
        let weight = self.constant(&format!("{name}_w"), Tensor::new(shape, weight.to_vec()).unwrap());
        let mut inputs = vec![x, weight];
        if let Some(bias) = bias {
            inputs.push(self.constant(&format!("{name}_b"), Tensor::vector(bias.to_vec())));
        }
        self.node(name, Op::Conv(conv), &inputs)
    }

    pub(crate) fn id(&self, name: &str) -> NodeId {
        self.graph.nodes().find(|(_, n)| n.name == name).unwrap().0
    }

    /// Every convolution with 8-bit weights whose scale is `factor` times what the largest needs, and every activation
    /// that is read or written by one on a grid from -`reach` to `reach`.
    pub(crate) fn plan(&self, factor: f32) -> QuantPlan {
        self.plan_within(factor, 8.0)
    }

    pub(crate) fn plan_within(&self, factor: f32, reach: f32) -> QuantPlan {
        let mut plan = QuantPlan::default();
        for (id, node) in self.graph.nodes().filter(|(_, n)| matches!(n.op, Op::Conv(_))) {
            plan.nodes.insert(id, NodePlan { decision: Decision::Quantize });
            let weight = self.graph.constant(node.input(1).unwrap()).unwrap().unwrap();
            let values = weight.as_slice::<f32>().unwrap();
            let inner = values.len() / weight.shape()[0];
            let scales: Vec<f32> = values
                .chunks(inner)
                .map(|run| (factor * run.iter().fold(0f32, |m, w| m.max(w.abs())) / 127.0).max(1e-6))
                .collect();
            let codes: Vec<i8> = values
                .iter()
                .enumerate()
                .map(|(i, w)| (w / scales[i / inner]).round_ties_even().clamp(-127.0, 127.0) as i8)
                .collect();
            let codes = Arc::new(Tensor::new(weight.shape(), codes).unwrap());
            let params = QuantParams::per_channel(QuantType::I8Narrow, 0, scales).unwrap();
            let entry = WeightPlan { params, codes, sqnr_db: 0.0 };
            let x = node.input(0).unwrap();
            if let Some(bias) = node.input(2) {
                let bias = self.graph.constant(bias).unwrap().unwrap();
                let bias = crate::bias_plan(&bias, reach / 127.0, &entry.params).unwrap();
                plan.weights.insert((id, 2), bias);
            }
            plan.weights.insert((id, 1), entry);
            let result = node.output(0).unwrap();
            for value in [x, result] {
                let bent = value == result
                    && self
                        .graph
                        .sole_consumer(value)
                        .is_some_and(|(n, _)| self.graph.node(n).is_some_and(|n| matches!(n.op, Op::Unary(_))));
                if !bent && !self.graph.is_output(value) {
                    let params = QuantParams::per_tensor(QuantType::U8, reach / 127.0, 128).unwrap();
                    let entry = ActivationPlan { params, shares: value, method: String::new(), sqnr_db: None };
                    plan.activations.insert(value, entry);
                }
            }
        }
        plan
    }
}

/// What the executor makes of one operator.
pub(crate) fn evaluated(op: &Op, operands: &[&Tensor]) -> Vec<Tensor> {
    let mut net = Net::new();
    let inputs: Vec<ValueId> = (0..operands.len()).map(|i| net.input(&format!("x{i}"))).collect();
    net.node("node", op.clone(), &inputs);
    let operands: Vec<Option<&Tensor>> = operands.iter().copied().map(Some).collect();
    evaluate_node(&net.graph, net.id("node"), &operands).unwrap()
}
