//! Which nodes run as one step: an operator, its normalization, an addition, a function of single elements, without a
//! value in memory in between that nobody asks for.
//!
//! What lives here: the search. What does not: how such a step is evaluated.

use crate::program::Needed;
use quantize_ir::op::behaviour::clip_limits;
use quantize_ir::op::{Binary, Unary};
use quantize_ir::{DType, Graph, Node, NodeId, Op, QuantPlan, ValueId};
use quantize_kernels::blocked::Activation;
use std::collections::{BTreeMap, BTreeSet};

/// Nodes that run together.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Chain {
    /// The node whose operator runs first.
    pub(crate) first: NodeId,
    /// The node whose result is the step's.
    pub(crate) last: NodeId,
    /// A batch normalization that scales the channels of the operator's result by constants.
    pub(crate) norm: Option<NodeId>,
    /// What is added to the operator's result.
    pub(crate) addend: Option<ValueId>,
    /// What is applied to the sum.
    pub(crate) activation: Activation,
}

/// Chains by their last node, and the nodes that run in the step of another.
#[derive(Debug, Default)]
pub(crate) struct Chains {
    by_last: BTreeMap<NodeId, Chain>,
    inner: BTreeSet<NodeId>,
}

impl Chains {
    /// The chains of the needed nodes, given in topological order.
    ///
    /// A value is passed over only if exactly one node reads it, nobody asks for it, and no plan rounds it.
    pub(crate) fn find(
        graph: &Graph,
        order: &[NodeId],
        needed: &Needed,
        targets: &[ValueId],
        plan: &QuantPlan,
    ) -> Self {
        let mut search = Search { graph, needed, targets, plan, open: BTreeMap::new(), chains: Self::default() };
        for (place, id) in order.iter().enumerate() {
            if let Some(node) = graph.node(*id) {
                search.visit(place, *id, node);
            }
        }
        search.chains
    }

    /// The chain that ends with `node`.
    pub(crate) fn ending(&self, node: NodeId) -> Option<&Chain> {
        self.by_last.get(&node)
    }

    /// Whether `node` runs in the step of another.
    pub(crate) fn is_inner(&self, node: NodeId) -> bool {
        self.inner.contains(&node)
    }
}

struct Search<'a> {
    graph: &'a Graph,
    needed: &'a Needed,
    targets: &'a [ValueId],
    plan: &'a QuantPlan,
    /// Chains that may still grow, by the value they compute, with the place of their first node.
    open: BTreeMap<ValueId, (usize, Chain)>,
    chains: Chains,
}

impl Search<'_> {
    fn visit(&mut self, place: usize, id: NodeId, node: &Node) {
        let [Some(result)] = node.outputs[..] else { return };
        if let Some(grown) = self.grown(id, node) {
            self.chains.by_last.remove(&grown.1.last);
            self.close(result, id, grown);
        } else if starts(self.graph, node, result) {
            let chain = Chain { first: id, last: id, norm: None, addend: None, activation: Activation::Identity };
            self.open.insert(result, (place, chain));
        }
    }

    fn close(&mut self, result: ValueId, last: NodeId, (place, chain): (usize, Chain)) {
        self.chains.inner.insert(chain.first);
        self.chains.inner.insert(chain.last);
        let chain = Chain { last, ..chain };
        self.chains.by_last.insert(last, chain.clone());
        self.open.insert(result, (place, chain));
    }

    /// The chain before `node`, with what `node` does to it.
    fn grown(&mut self, id: NodeId, node: &Node) -> Option<(usize, Chain)> {
        match &node.op {
            Op::Binary(Binary::Add) => self.with_addend(node),
            Op::Binary(Binary::Mul) => self.with_own_sigmoid(id, node),
            Op::BatchNorm(_) => self.normalized(id, node),
            _ => {
                let activation = activation(self.graph, node)?;
                let (place, chain) = self.linear(node.input(0)?, 1)?;
                Some((place, Chain { activation, ..chain }))
            }
        }
    }

    /// A normalization of a convolution that nothing else has happened to yet, by constants.
    fn normalized(&self, id: NodeId, node: &Node) -> Option<(usize, Chain)> {
        let (place, chain) = self.linear(node.input(0)?, 1)?;
        let is_constant = |value: &Option<ValueId>| value.is_none_or(|v| self.graph.value(v).constant.is_some());
        let first = self.graph.node(chain.first)?;
        let by_constants = node.inputs.len() == 5 && node.inputs[1..].iter().all(is_constant);
        let weights = matches!(first.op, Op::Conv(_)) && first.inputs[1..].iter().all(is_constant);
        let untouched = chain.norm.is_none() && chain.addend.is_none();
        (weights && by_constants && untouched && self.plan.is_empty())
            .then_some((place, Chain { norm: Some(id), ..chain }))
    }

    /// Of the operands of an addition the one computed last grows, so that the other is there.
    fn with_addend(&self, node: &Node) -> Option<(usize, Chain)> {
        let (a, b) = (node.input(0)?, node.input(1)?);
        let addable = |grows: ValueId, other: ValueId| {
            let (place, chain) = self.linear(grows, 1)?;
            let first = self.graph.node(chain.first)?;
            let fits = matches!(first.op, Op::Conv(_)) && chain.addend.is_none();
            let known = self.graph.value(other).constant.is_some();
            (fits && !known).then_some((place, Chain { addend: Some(other), ..chain }))
        };
        let found = [addable(a, b), addable(b, a)].into_iter().flatten();
        found.max_by_key(|(place, _)| *place)
    }

    /// `x * sigmoid(x)`.
    fn with_own_sigmoid(&mut self, id: NodeId, node: &Node) -> Option<(usize, Chain)> {
        let (a, b) = (node.input(0)?, node.input(1)?);
        let sigmoid_of = |value: ValueId, of: ValueId| {
            let (producer, found) = self.graph.producer(value)?;
            let fits = matches!(found.op, Op::Unary(Unary::Sigmoid)) && found.input(0) == Some(of);
            (fits && self.is_passed_over(value, 1)).then_some(producer)
        };
        let (x, sigmoid) = sigmoid_of(b, a).map(|s| (a, s)).or_else(|| sigmoid_of(a, b).map(|s| (b, s)))?;
        let (place, chain) = self.linear(x, 2)?;
        debug_assert!(sigmoid != id);
        self.chains.inner.insert(sigmoid);
        Some((place, Chain { activation: Activation::Silu, ..chain }))
    }

    /// The open chain that computes `value` for `readers` slots and applies nothing yet.
    fn linear(&self, value: ValueId, readers: usize) -> Option<(usize, Chain)> {
        let (place, chain) = self.open.get(&value)?;
        let fits = chain.activation == Activation::Identity && self.is_passed_over(value, readers);
        fits.then(|| (*place, chain.clone()))
    }

    fn is_passed_over(&self, value: ValueId, readers: usize) -> bool {
        let found = self.graph.value(value).consumers().iter().filter(|(id, _)| self.needed.nodes.contains(id)).count();
        found == readers && !self.targets.contains(&value) && !self.plan.activations.contains_key(&value)
    }
}

/// Whether something can follow `node` in the same step: its result is real whatever its operands are.
fn starts(graph: &Graph, node: &Node, result: ValueId) -> bool {
    match node.op {
        Op::Conv(_) | Op::Gemm(_) | Op::MatMul | Op::BatchNorm(_) => true,
        Op::Binary(Binary::Add | Binary::Sub | Binary::Mul | Binary::Div) => {
            graph.value(result).dtype == Some(DType::F32)
        }
        _ => false,
    }
}

/// The function of single elements that `node` is, if kernels have it.
pub(crate) fn activation(graph: &Graph, node: &Node) -> Option<Activation> {
    Some(match node.op {
        Op::Unary(Unary::Relu) => Activation::Clamp { lo: 0.0, hi: f32::INFINITY },
        Op::Unary(Unary::LeakyRelu { alpha }) => Activation::LeakyRelu { alpha },
        Op::Unary(Unary::Sigmoid) => Activation::Sigmoid,
        Op::Unary(Unary::HardSigmoid { alpha, beta }) => Activation::HardSigmoid { alpha, beta },
        Op::Unary(Unary::HardSwish) => Activation::HardSwish,
        Op::Unary(Unary::Tanh) => Activation::Tanh,
        Op::Clip => clip_limits(graph, node).map(|(lo, hi)| Activation::Clamp { lo, hi })?,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Network;
    use quantize_ir::op::{Conv, Padding, Window};
    use quantize_ir::{ActivationPlan, QuantParams, QuantType, Tensor};

    const ADD: Op = Op::Binary(Binary::Add);
    const RELU: Op = Op::Unary(Unary::Relu);

    fn conv(net: &mut Network, name: &str, x: ValueId) -> ValueId {
        let window =
            Window { strides: vec![], dilations: vec![], padding: Padding::Valid, rounding: Default::default() };
        let weight = net.constant("w", Tensor::new([1, 1, 1, 1], vec![1f32]).unwrap());
        let conv = Conv { window, group: 1, layout: Default::default(), filter: Default::default() };
        net.node(name, Op::Conv(conv), &[x, weight])
    }

    fn found(net: &Network, targets: &[ValueId], plan: &QuantPlan) -> Vec<(String, Vec<String>)> {
        let needed = Needed::of(&net.graph, &[], targets, plan);
        let mut order = net.graph.topological_order().unwrap();
        order.retain(|id| needed.nodes.contains(id));
        let chains = Chains::find(&net.graph, &order, &needed, targets, plan);
        let name = |id: NodeId| net.graph.node(id).unwrap().name.clone();
        let steps = order.iter().filter(|id| !chains.is_inner(**id));
        steps
            .map(|id| {
                let chain = chains.ending(*id);
                let addend = chain.and_then(|c| c.addend).map(|v| net.graph.value(v).name.clone());
                (name(*id), chain.map(|c| name(c.first)).into_iter().chain(addend).collect())
            })
            .collect()
    }

    fn step(last: &str, rest: &[&str]) -> (String, Vec<String>) {
        (last.to_owned(), rest.iter().map(|s| (*s).to_owned()).collect())
    }

    #[test]
    fn a_residual_block_is_two_steps() {
        let mut net = Network::default();
        let x = net.input("x");
        let (left, right) = (conv(&mut net, "left", x), conv(&mut net, "right", x));
        let sum = net.node("sum", ADD, &[left, right]);
        let y = net.node("relu", RELU, &[sum]);
        assert_eq!(found(&net, &[y], &QuantPlan::default()), [step("left", &[]), step("relu", &["right", "left"])]);
    }

    #[test]
    fn a_normalization_scales_the_convolution_before_it() {
        let mut net = Network::default();
        let x = net.input("x");
        let a = conv(&mut net, "a", x);
        let c = net.constant("c", Tensor::vector(vec![1f32]));
        let norm = |net: &mut Network, name, x| {
            net.node(name, Op::BatchNorm(quantize_ir::op::BatchNorm { epsilon: 0.5, axis: 1 }), &[x, c, c, c, c])
        };
        let b = norm(&mut net, "b", a);
        let y = net.node("y", RELU, &[b]);
        assert_eq!(found(&net, &[y], &QuantPlan::default()), [step("y", &["a"])]);
        let twice = norm(&mut net, "twice", b);
        let steps = found(&net, &[twice], &QuantPlan::default());
        assert_eq!(steps, [step("b", &["a"]), step("twice", &[])], "only the first one");
    }

    #[test]
    fn what_someone_looks_at_is_computed_on_its_own() {
        let mut net = Network::default();
        let x = net.input("x");
        let a = conv(&mut net, "a", x);
        let b = net.node("b", RELU, &[a]);
        assert_eq!(found(&net, &[b], &QuantPlan::default()), [step("b", &["a"])]);
        assert_eq!(found(&net, &[a, b], &QuantPlan::default()), [step("a", &[]), step("b", &[])]);
        let params = QuantParams::per_tensor(QuantType::U8, 1.0, 0).unwrap();
        let rounded = ActivationPlan { params, shares: a, method: String::new(), sqnr_db: None };
        let plan = QuantPlan { activations: [(a, rounded)].into_iter().collect(), ..Default::default() };
        assert_eq!(found(&net, &[b], &plan), [step("a", &[]), step("b", &[])]);
        net.node("c", RELU, &[a]);
        assert_eq!(found(&net, &[b], &QuantPlan::default()), [step("b", &["a"])], "an unneeded reader does not count");
    }

    #[test]
    fn a_product_with_the_own_sigmoid_is_one_function() {
        let mut net = Network::default();
        let x = net.input("x");
        let a = conv(&mut net, "a", x);
        let s = net.node("s", Op::Unary(Unary::Sigmoid), &[a]);
        let y = net.node("y", Op::Binary(Binary::Mul), &[a, s]);
        assert_eq!(found(&net, &[y], &QuantPlan::default()), [step("y", &["a"])]);
        assert_eq!(found(&net, &[y, s], &QuantPlan::default()), [step("a", &[]), step("s", &[]), step("y", &[])]);
    }

    #[test]
    fn nothing_follows_an_activation_and_additions_of_itself_stay() {
        let mut net = Network::default();
        let x = net.input("x");
        let a = conv(&mut net, "a", x);
        let b = net.node("b", RELU, &[a]);
        let c = net.node("c", Op::Unary(Unary::Tanh), &[b]);
        assert_eq!(found(&net, &[c], &QuantPlan::default()), [step("b", &["a"]), step("c", &[])]);
        let d = conv(&mut net, "d", c);
        let e = net.node("e", ADD, &[d, d]);
        let steps = found(&net, &[e], &QuantPlan::default());
        assert_eq!(steps[2..], [step("d", &[]), step("e", &[])]);
    }
}
