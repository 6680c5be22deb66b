//! The choice of what is quantized, by a target's recipe.
//!
//! A value is quantized for all its readers or for none. Nodes with weights (anchors) are quantized for their own
//! sake; others join when an operand comes from a quantized node; bounded activations vanish into the saturation
//! before them; what only moves elements keeps its operand's parameters.

use crate::PassError;
use crate::results::result_values;
use quantize_ir::op::{PadMode, RangeRule};
use quantize_ir::{DType, Decision, Graph, KeepReason, Node, NodeId, Op, OperandRole, Recipe, Support, ValueId};
use std::collections::{BTreeMap, BTreeSet};

/// What will be quantized, before any data was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// What happens to each node.
    pub decisions: BTreeMap<NodeId, Decision>,
    /// Values that get parameters.
    pub activations: BTreeSet<ValueId>,
    /// Values that take the parameters of another one, and which.
    pub shares: BTreeMap<ValueId, ValueId>,
}

impl Selection {
    /// Whether `node` will be quantized.
    pub fn quantizes(&self, node: NodeId) -> bool {
        self.decisions.get(&node) == Some(&Decision::Quantize)
    }

    /// Values whose own statistics decide parameters: those that share with none.
    pub fn observed(&self) -> impl Iterator<Item = ValueId> {
        self.activations.iter().copied().filter(|v| !self.shares.contains_key(v))
    }
}

/// Chooses what is quantized in `graph`; nodes in `skip` stay as they are.
///
/// # Errors
/// If the graph has a cycle.
pub fn select(graph: &Graph, recipe: &dyn Recipe, skip: &BTreeSet<NodeId>) -> Result<Selection, PassError> {
    let order = graph.topological_order()?;
    let support: BTreeMap<NodeId, Support> = order
        .iter()
        .map(|id| {
            let skipped = Support::Keep(KeepReason::Skipped);
            (*id, if skip.contains(id) { skipped } else { recipe.support(graph, *id) })
        })
        .collect();
    let computes = |id: NodeId| match support.get(&id) {
        Some(Support::Anchor) => true,
        Some(Support::Joins) => {
            graph.node(id).is_some_and(|n| matches!(n.op, Op::Binary(_) | Op::GlobalPool(_) | Op::AveragePool(_)))
        }
        _ => false,
    };
    let results = result_values(graph, &computes);
    let mut chooser = Chooser { graph, recipe, results, chosen: Selection::default() };
    for id in &order {
        if let (Some(node), Some(support)) = (graph.node(*id), support.get(id)) {
            chooser.decide(*id, node, support);
        }
    }
    chooser.drop_idle_carriers(&order);
    chooser.collect_activations(&order);
    chooser.share_parameters(&order);
    Ok(chooser.chosen)
}

struct Chooser<'a> {
    graph: &'a Graph,
    recipe: &'a dyn Recipe,
    results: BTreeSet<ValueId>,
    chosen: Selection,
}

impl Chooser<'_> {
    fn decide(&mut self, id: NodeId, node: &Node, support: &Support) {
        let decision = match support {
            Support::Anchor => self.with_result(id, node, Decision::Quantize),
            Support::Joins if self.reads_quantized(node) => self.with_result(id, node, Decision::Quantize),
            Support::Carries if node.input(0).is_some_and(|v| self.is_quantized(v)) => {
                self.with_result(id, node, Decision::Quantize)
            }
            Support::Joins | Support::Carries => Decision::Keep(KeepReason::RealOperands),
            Support::Absorbed => self.absorb(node),
            Support::Keep(reason) => Decision::Keep(reason.clone()),
        };
        self.chosen.decisions.insert(id, decision);
    }

    /// Quantizing a node that writes a network result needs a kernel with a real result.
    fn with_result(&self, id: NodeId, node: &Node, decision: Decision) -> Decision {
        let writes_result = node.outputs.iter().flatten().any(|v| self.results.contains(v));
        if writes_result && !self.recipe.allows_real_result(self.graph, id) {
            return Decision::Keep(KeepReason::NetworkResult);
        }
        decision
    }

    fn absorb(&self, node: &Node) -> Decision {
        let kept = Decision::Keep(KeepReason::NotAbsorbed);
        let Some(x) = node.input(0) else { return kept };
        let Some((producer, before)) = self.graph.producer(x) else { return kept };
        let lone = self.graph.sole_consumer(x).is_some() && !self.results.contains(&x);
        let carries = before.op.range_rule() == RangeRule::SameAsInput;
        if lone && !carries && self.chosen.quantizes(producer) {
            return Decision::Absorbed { into: producer };
        }
        kept
    }

    fn reads_quantized(&self, node: &Node) -> bool {
        activation_operands(self.graph, node).any(|v| self.is_quantized(v))
    }

    /// Whether `value` comes out of integer arithmetic.
    fn is_quantized(&self, value: ValueId) -> bool {
        let Some((producer, _)) = self.graph.producer(value) else { return false };
        let integer =
            matches!(self.chosen.decisions.get(&producer), Some(Decision::Quantize | Decision::Absorbed { .. }));
        integer && !self.results.contains(&value)
    }

    /// A carrier none of whose readers computes on integers would only add a rounding step.
    fn drop_idle_carriers(&mut self, order: &[NodeId]) {
        for id in order.iter().rev() {
            let Some(node) = self.graph.node(*id) else { continue };
            let carries = node.op.range_rule() == RangeRule::SameAsInput;
            if !carries || !self.chosen.quantizes(*id) {
                continue;
            }
            let mut readers = node.outputs.iter().flatten().flat_map(|v| self.graph.value(*v).consumers());
            if !readers.any(|(n, _)| self.chosen.quantizes(*n)) {
                self.chosen.decisions.insert(*id, Decision::Keep(KeepReason::RealReaders));
            }
        }
    }

    fn collect_activations(&mut self, order: &[NodeId]) {
        for id in order {
            let Some(node) = self.graph.node(*id) else { continue };
            match self.chosen.decisions.get(id) {
                Some(Decision::Quantize) => {
                    self.chosen.activations.extend(activation_operands(self.graph, node));
                    let results = node.outputs.iter().flatten().filter(|v| !self.results.contains(v));
                    self.chosen.activations.extend(results);
                }
                Some(Decision::Absorbed { .. }) => {
                    if let Some(x) = node.input(0) {
                        self.chosen.activations.remove(&x);
                    }
                    self.chosen.activations.extend(node.output(0));
                }
                _ => {}
            }
        }
    }

    fn share_parameters(&mut self, order: &[NodeId]) {
        for id in order {
            let Some(node) = self.graph.node(*id) else { continue };
            let Some(source) = node.input(0).filter(|v| self.chosen.activations.contains(v)) else { continue };
            if !keeps_range(self.graph, node) {
                continue;
            }
            let root = self.chosen.shares.get(&source).copied().unwrap_or(source);
            for value in node.outputs.iter().flatten() {
                if self.chosen.activations.contains(value) {
                    self.chosen.shares.insert(*value, root);
                }
            }
        }
    }
}

/// Operands of `node` that vary with the data and carry real numbers.
fn activation_operands<'a>(graph: &'a Graph, node: &'a Node) -> impl Iterator<Item = ValueId> + 'a {
    node.inputs.iter().enumerate().filter_map(move |(slot, value)| {
        let value = (*value)?;
        let role = node.op.operand_role(slot);
        let varies = graph.value(value).constant.is_none();
        let real = graph.value(value).dtype.is_none_or(|d| d == DType::F32);
        let data = matches!(role, OperandRole::Activation | OperandRole::Weight { .. });
        (varies && real && data).then_some(value)
    })
}

/// Whether every element of the first result is an element of the first operand, or zero.
fn keeps_range(graph: &Graph, node: &Node) -> bool {
    if let Op::Pad(pad) = &node.op {
        let zero = |v: ValueId| {
            graph
                .constant(v)
                .ok()
                .flatten()
                .is_some_and(|t| t.as_slice::<f32>().is_ok_and(|s| s.iter().all(|x| *x == 0.0)))
        };
        return pad.mode != PadMode::Constant || node.input(2).is_none_or(zero);
    }
    node.op.range_rule() == RangeRule::SameAsInput
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Builder, Target};
    use quantize_ir::op::{Concat, Flatten, Layout, MaxPool, Padding, Rounding, Softmax, Unary, Window};

    const RELU: Op = Op::Unary(Unary::Relu);
    const ADD: Op = Op::Binary(quantize_ir::op::Binary::Add);

    fn max_pool() -> Op {
        let window = Window { strides: vec![], dilations: vec![], padding: Padding::none(), rounding: Rounding::Floor };
        Op::MaxPool(MaxPool { kernel: vec![2, 2], window, column_major: false, layout: Layout::ChannelsFirst })
    }

    fn chosen(b: &Builder, skip: &[&str]) -> Selection {
        select(&b.graph, &Target, &skip.iter().map(|n| b.id(n)).collect()).unwrap()
    }

    fn decision<'s>(b: &Builder, s: &'s Selection, name: &str) -> &'s Decision {
        &s.decisions[&b.id(name)]
    }

    /// conv1 → relu → conv2 → pool → conv3 → matmul → softmax
    fn chain() -> (Builder, [ValueId; 7]) {
        let mut b = Builder::default();
        let x = b.input("x");
        let a = b.conv("conv1", x);
        let r = b.node("relu", RELU, &[a]);
        let c = b.conv("conv2", r);
        let p = b.node("pool", max_pool(), &[c]);
        let d = b.conv("conv3", p);
        let w = b.constant("w", &[2, 2], &[0.0; 4]);
        let logits = b.node("fc", Op::MatMul, &[d, w]);
        let y = b.node("softmax", Op::Softmax(Softmax { axis: -1, flatten: false, log: false }), &[logits]);
        b.outputs(&[y]);
        (b, [x, a, r, c, p, d, logits])
    }

    #[test]
    fn a_chain_is_quantized_up_to_the_logits() {
        let (b, [x, a, r, c, p, d, logits]) = chain();
        let s = chosen(&b, &[]);
        assert_eq!(s.activations, BTreeSet::from([x, r, c, p, d]));
        assert!(!s.activations.contains(&a), "the value before an absorbed relu is never materialized");
        assert!(!s.activations.contains(&logits));
        assert_eq!(*decision(&b, &s, "relu"), Decision::Absorbed { into: b.id("conv1") });
        assert_eq!(*decision(&b, &s, "fc"), Decision::Quantize);
        assert_eq!(s.shares, BTreeMap::from([(p, c)]));
    }

    #[test]
    fn a_skipped_node_reads_and_writes_what_its_neighbours_need() {
        let (b, [x, _, r, c, p, d, _]) = chain();
        let s = chosen(&b, &["conv2"]);
        assert_eq!(*decision(&b, &s, "conv2"), Decision::Keep(KeepReason::Skipped));
        assert_eq!(*decision(&b, &s, "pool"), Decision::Keep(KeepReason::RealOperands));
        assert_eq!(s.activations, BTreeSet::from([x, r, p, d]));
        assert!(!s.activations.contains(&c));
    }

    #[test]
    fn an_activation_after_a_skipped_node_is_not_absorbed() {
        let (b, _) = chain();
        let s = chosen(&b, &["conv1"]);
        assert_eq!(*decision(&b, &s, "relu"), Decision::Keep(KeepReason::NotAbsorbed));
    }

    #[test]
    fn a_convolution_that_writes_a_result_stays() {
        let mut b = Builder::default();
        let x = b.input("x");
        let a = b.conv("conv1", x);
        let y = b.conv("conv2", a);
        let y = b.node("relu", RELU, &[y]);
        b.outputs(&[y]);
        let s = chosen(&b, &[]);
        assert_eq!(*decision(&b, &s, "conv2"), Decision::Keep(KeepReason::NetworkResult));
        assert_eq!(s.activations, BTreeSet::from([x, a]));
    }

    #[test]
    fn joins_need_an_integer_operand_and_idle_carriers_stay() {
        let mut b = Builder::default();
        let (x, z) = (b.input("x"), b.input("z"));
        let real = b.node("real_add", ADD, &[x, z]);
        let a = b.conv("conv", x);
        let sum = b.node("add", ADD, &[a, real]);
        let both = b.node("concat", Op::Concat(Concat { axis: 1 }), &[sum, a]);
        let pooled = b.node("idle_pool", max_pool(), &[both]);
        let y = b.node("tanh", Op::Unary(Unary::Tanh), &[pooled]);
        let flat = b.node("flatten", Op::Flatten(Flatten { axis: 1 }), &[y]);
        let z = b.node("exp", Op::Unary(Unary::Exp), &[flat]);
        b.outputs(&[z]);
        let s = chosen(&b, &[]);
        assert_eq!(*decision(&b, &s, "real_add"), Decision::Keep(KeepReason::RealOperands));
        assert_eq!(*decision(&b, &s, "add"), Decision::Quantize);
        assert_eq!(*decision(&b, &s, "concat"), Decision::Quantize);
        assert_eq!(*decision(&b, &s, "idle_pool"), Decision::Keep(KeepReason::RealReaders));
        assert_eq!(*decision(&b, &s, "flatten"), Decision::Keep(KeepReason::RealOperands));
        assert_eq!(s.activations, BTreeSet::from([x, a, real, sum, both]));
    }

    #[test]
    fn an_output_that_is_computed_with_is_quantized() {
        let mut b = Builder::default();
        let x = b.input("x");
        let a = b.conv("conv1", x);
        let c = b.conv("conv2", a);
        let y = b.node("tanh", Op::Unary(Unary::Exp), &[c]);
        b.outputs(&[a, y]);
        assert!(chosen(&b, &[]).activations.contains(&a));
    }
}
