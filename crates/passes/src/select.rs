//! The choice of what is quantized, by a target's recipe.
//!
//! A value is quantized for all its readers or for none. Nodes with weights (anchors) are quantized for their own
//! sake; others join when an operand comes from a quantized node; bounded activations vanish into the saturation
//! before them. Values that must have the same parameters, such as the two sides of what only moves elements, form a
//! [`Group`].

use crate::PassError;
use crate::products::products_left_real;
use crate::results::result_values;
use quantize_ir::{DType, Decision, Graph, KeepReason, Node, NodeId, Op, OperandRole, Recipe, Support, Ties, ValueId};
use std::collections::{BTreeMap, BTreeSet};

/// What will be quantized, before any data was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// What happens to each node.
    pub decisions: BTreeMap<NodeId, Decision>,
    /// Values that get parameters, each in exactly one group, groups in the order of their first members.
    pub groups: Vec<Group>,
    /// Those of them that are the network's results or only lead to them; none where results stay real.
    pub results: BTreeSet<ValueId>,
}

/// Values that share one set of parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// All of them.
    pub members: BTreeSet<ValueId>,
    /// Those whose data decide the parameters; at least one.
    pub voters: BTreeSet<ValueId>,
    /// Whether they have the target's finer grid ([`Recipe::wide_activation_grid`]).
    pub is_wide: bool,
}

impl Selection {
    /// Gives groups with any of `values` the target's finer grid.
    pub fn widen(&mut self, values: &BTreeSet<ValueId>) {
        for group in &mut self.groups {
            group.is_wide |= !group.members.is_disjoint(values);
        }
    }

    /// Whether `node` will be quantized.
    pub fn quantizes(&self, node: NodeId) -> bool {
        self.decisions.get(&node) == Some(&Decision::Quantize)
    }

    /// Whether constants of `node` become codes.
    pub fn codes_constants(&self, node: NodeId) -> bool {
        self.decisions.get(&node).is_some_and(Decision::codes_constants)
    }

    /// Values that get parameters.
    pub fn activations(&self) -> impl Iterator<Item = ValueId> {
        self.groups.iter().flat_map(|g| &g.members).copied()
    }

    /// Values whose own statistics decide parameters.
    pub fn observed(&self) -> impl Iterator<Item = ValueId> {
        self.groups.iter().flat_map(|g| &g.voters).copied()
    }
}

/// Chooses what is quantized in `graph`; nodes in `skip` stay as they are.
///
/// # Errors
/// If the graph has a cycle.
pub fn select(graph: &Graph, recipe: &dyn Recipe, skip: &BTreeSet<NodeId>) -> Result<Selection, PassError> {
    let order = graph.topological_order()?;
    let mut support = vec![None; order.iter().map(|id| id.index() + 1).max().unwrap_or(0)];
    for id in &order {
        let skipped = Support::Keep(KeepReason::Skipped);
        support[id.index()] = Some(if skip.contains(id) { skipped } else { recipe.support(graph, *id) });
    }
    let supported = |id: NodeId| support.get(id.index())?.as_ref();
    let computes = |id: NodeId| match supported(id) {
        Some(Support::Anchor) => true,
        Some(Support::Joins) => {
            graph.node(id).is_some_and(|n| matches!(n.op, Op::Binary(_) | Op::GlobalPool(_) | Op::AveragePool(_)))
        }
        _ => false,
    };
    let results = result_values(graph, &computes);
    let (mut real, rounded) =
        if recipe.results_stay_real() { (results, BTreeSet::new()) } else { (BTreeSet::new(), results) };
    let products = products_left_real(graph, &order, recipe, &supported);
    real.extend(products.filter(|v| !rounded.contains(v)));
    let mut chooser = Chooser { graph, recipe, support: &supported, real, decisions: BTreeMap::new() };
    for id in &order {
        if let (Some(node), Some(support)) = (graph.node(*id), supported(*id)) {
            chooser.decide(*id, node, support);
        }
    }
    chooser.drop_idle_carriers(&order);
    let groups = chooser.groups(&order);
    let mut selection = Selection { decisions: chooser.decisions, groups, results: BTreeSet::new() };
    selection.results = selection.activations().filter(|v| rounded.contains(v)).collect();
    Ok(selection)
}

struct Chooser<'a> {
    graph: &'a Graph,
    recipe: &'a dyn Recipe,
    /// What the target can do with each node.
    support: &'a dyn Fn(NodeId) -> Option<&'a Support>,
    /// Values that stay real although a quantized node computes them: results, and sums that no product reads.
    real: BTreeSet<ValueId>,
    decisions: BTreeMap<NodeId, Decision>,
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
            Support::Accumulates { slot } => self.accumulate(node, *slot),
            Support::WeightOnly => Decision::WeightOnly,
            Support::Keep(reason) => Decision::Keep(reason.clone()),
        };
        self.decisions.insert(id, decision);
    }

    /// Quantizing a node that writes a real value needs a kernel with a real result.
    fn with_result(&self, id: NodeId, node: &Node, decision: Decision) -> Decision {
        let writes_real = node.outputs.iter().flatten().any(|v| self.real.contains(v));
        if writes_real && !self.recipe.allows_real_result(self.graph, id) {
            return Decision::Keep(KeepReason::NetworkResult);
        }
        decision
    }

    fn absorb(&self, node: &Node) -> Decision {
        let kept = Decision::Keep(KeepReason::NotAbsorbed);
        let Some(x) = node.input(0) else { return kept };
        let Some((producer, _)) = self.graph.producer(x) else { return kept };
        let lone = self.graph.sole_consumer(x).is_some() && !self.real.contains(&x);
        let carries = self.recipe.ties(self.graph, producer) == Ties::Carried;
        match self.decisions.get(&producer) {
            Some(Decision::Quantize) if lone && !carries => Decision::Absorbed { into: producer },
            Some(Decision::Absorbed { into }) if lone && self.accumulates(producer) => {
                Decision::Absorbed { into: *into }
            }
            _ => kept,
        }
    }

    /// An addition to the operand in `slot` before it is rounded.
    fn accumulate(&self, node: &Node, slot: usize) -> Decision {
        let kept = Decision::Keep(KeepReason::NotAccumulated);
        let (Some(sum), Some(other), Some(result)) = (node.input(slot), node.input(1 - slot.min(1)), node.output(0))
        else {
            return kept;
        };
        let Some((into, _)) = self.graph.producer(sum).filter(|(producer, _)| self.quantizes(*producer)) else {
            return kept;
        };
        let is_passed_on = |value: ValueId| self.graph.sole_consumer(value).filter(|_| !self.real.contains(&value));
        let saturation = is_passed_on(result).map(|(reader, _)| reader);
        let saturates = saturation.is_some_and(|reader| (self.support)(reader) == Some(&Support::Absorbed));
        if is_passed_on(sum).is_some() && saturates && self.has_codes(other) {
            return Decision::Absorbed { into };
        }
        kept
    }

    fn accumulates(&self, node: NodeId) -> bool {
        matches!((self.support)(node), Some(Support::Accumulates { .. }))
    }

    /// Whether codes of `value` are there: it comes out of integer arithmetic, or a node before reads it for its own.
    fn has_codes(&self, value: ValueId) -> bool {
        let readers = self.graph.value(value).consumers();
        self.is_quantized(value) || readers.iter().any(|(reader, _)| self.quantizes(*reader))
    }

    /// The operand of an absorbed node that the node it vanished into computes.
    fn continued(&self, node: &Node, into: NodeId) -> Option<ValueId> {
        node.inputs.iter().flatten().copied().find(|value| {
            let producer = self.graph.producer(*value).map(|(producer, _)| producer);
            let absorbed = producer.and_then(|producer| self.decisions.get(&producer));
            producer == Some(into) || absorbed == Some(&Decision::Absorbed { into })
        })
    }

    fn reads_quantized(&self, node: &Node) -> bool {
        activation_operands(self.graph, node).any(|v| self.is_quantized(v))
    }

    /// Whether `value` comes out of integer arithmetic.
    fn is_quantized(&self, value: ValueId) -> bool {
        let Some((producer, _)) = self.graph.producer(value) else { return false };
        let integer = matches!(self.decisions.get(&producer), Some(Decision::Quantize | Decision::Absorbed { .. }));
        integer && !self.real.contains(&value)
    }

    /// A carrier none of whose readers computes on integers would only add a rounding step.
    fn drop_idle_carriers(&mut self, order: &[NodeId]) {
        for id in order.iter().rev() {
            let Some(node) = self.graph.node(*id) else { continue };
            let carries = self.recipe.ties(self.graph, *id) == Ties::Carried;
            if !carries || !self.quantizes(*id) {
                continue;
            }
            let mut readers = node.outputs.iter().flatten().flat_map(|v| self.graph.value(*v).consumers());
            if !readers.any(|(n, _)| self.quantizes(*n) || self.adds_codes(*n)) {
                self.decisions.insert(*id, Decision::Keep(KeepReason::RealReaders));
            }
        }
    }

    /// Whether `node` is an addition that vanished, which reads codes.
    fn adds_codes(&self, node: NodeId) -> bool {
        self.accumulates(node) && matches!(self.decisions.get(&node), Some(Decision::Absorbed { .. }))
    }

    /// Values that get parameters.
    fn activations(&self, order: &[NodeId]) -> BTreeSet<ValueId> {
        let mut activations = BTreeSet::new();
        for id in order {
            let Some(node) = self.graph.node(*id) else { continue };
            match self.decisions.get(id) {
                Some(Decision::Quantize) => {
                    activations.extend(activation_operands(self.graph, node));
                    let results = node.outputs.iter().flatten().filter(|v| !self.real.contains(v));
                    activations.extend(results);
                }
                Some(Decision::Absorbed { into }) => {
                    activations.extend(activation_operands(self.graph, node));
                    if let Some(x) = self.continued(node, *into) {
                        activations.remove(&x);
                    }
                    activations.extend(node.output(0));
                }
                _ => {}
            }
        }
        activations
    }

    fn quantizes(&self, node: NodeId) -> bool {
        self.decisions.get(&node) == Some(&Decision::Quantize)
    }

    /// The values that get parameters, by the recipe's ties.
    fn groups(&self, order: &[NodeId]) -> Vec<Group> {
        let activations = self.activations(order);
        let mut union = Union(activations.iter().map(|v| (*v, *v)).collect());
        let mut silent = BTreeSet::new();
        for tie in order.iter().filter_map(|id| self.tie(*id, &activations)) {
            tie.together.iter().skip(1).for_each(|v| union.join(tie.together[0], *v));
            silent.extend(tie.silent);
        }
        union.into_sets().map(|members| Group { voters: voters(&members, &silent), members, is_wide: false }).collect()
    }

    fn tie(&self, id: NodeId, activations: &BTreeSet<ValueId>) -> Option<Tie> {
        let node = self.graph.node(id)?;
        let chosen = |v: &ValueId| activations.contains(v);
        let operands: Vec<ValueId> = activation_operands(self.graph, node).filter(chosen).collect();
        let results: Vec<ValueId> = node.outputs.iter().flatten().copied().filter(chosen).collect();
        match self.recipe.ties(self.graph, id) {
            Ties::Carried => {
                let source = node.input(0).filter(chosen)?;
                Some(Tie { together: [&[source], results.as_slice()].concat(), silent: results })
            }
            Ties::Operands if self.quantizes(id) => Some(Tie { together: operands, silent: Vec::new() }),
            Ties::Joined if self.quantizes(id) => {
                Some(Tie { together: [operands.as_slice(), &results].concat(), silent: operands })
            }
            Ties::Equal if self.quantizes(id) => {
                Some(Tie { together: [operands.as_slice(), &results].concat(), silent: Vec::new() })
            }
            Ties::Free | Ties::Operands | Ties::Joined | Ties::Equal => None,
        }
    }
}

/// What one node ties together, and which of it leaves the decision to the rest.
struct Tie {
    together: Vec<ValueId>,
    silent: Vec<ValueId>,
}

fn voters(members: &BTreeSet<ValueId>, silent: &BTreeSet<ValueId>) -> BTreeSet<ValueId> {
    let voters: BTreeSet<ValueId> = members.difference(silent).copied().collect();
    if voters.is_empty() { members.clone() } else { voters }
}

/// Disjoint sets of values: each value and one of a smaller number in its set, or itself.
struct Union(BTreeMap<ValueId, ValueId>);

impl Union {
    fn root(&self, mut value: ValueId) -> ValueId {
        while let Some(parent) = self.0.get(&value).filter(|p| **p != value) {
            value = *parent;
        }
        value
    }

    fn join(&mut self, a: ValueId, b: ValueId) {
        let (a, b) = (self.root(a), self.root(b));
        self.0.insert(a.max(b), a.min(b));
    }

    fn into_sets(self) -> impl Iterator<Item = BTreeSet<ValueId>> {
        let mut sets: BTreeMap<ValueId, BTreeSet<ValueId>> = BTreeMap::new();
        for value in self.0.keys() {
            sets.entry(self.root(*value)).or_default().insert(*value);
        }
        sets.into_values()
    }
}

/// Operands of `node` that vary with the data and carry real numbers.
pub(crate) fn activation_operands<'a>(graph: &'a Graph, node: &'a Node) -> impl Iterator<Item = ValueId> + 'a {
    node.inputs.iter().enumerate().filter_map(move |(slot, value)| {
        let value = (*value)?;
        let role = node.op.operand_role(slot);
        let varies = graph.value(value).constant.is_none();
        let real = graph.value(value).dtype.is_none_or(|d| d == DType::F32);
        let data = matches!(role, OperandRole::Activation | OperandRole::Weight { .. });
        (varies && real && data).then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Builder, Target};
    use quantize_ir::op::{
        Concat, Flatten, Gather, Layout, MaxPool, Padding, Reshape, Rounding, Softmax, Unary, Window,
    };

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

    fn activations(s: &Selection) -> BTreeSet<ValueId> {
        s.activations().collect()
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
        assert_eq!(activations(&s), BTreeSet::from([x, r, c, p, d]));
        assert!(!activations(&s).contains(&a), "the value before an absorbed relu is never materialized");
        assert!(!activations(&s).contains(&logits));
        assert_eq!(*decision(&b, &s, "relu"), Decision::Absorbed { into: b.id("conv1") });
        assert_eq!(*decision(&b, &s, "fc"), Decision::Quantize);
        let shared: Vec<&Group> = s.groups.iter().filter(|g| g.members.len() > 1).collect();
        assert_eq!(shared, [&Group { members: BTreeSet::from([c, p]), voters: BTreeSet::from([c]), is_wide: false }]);
    }

    #[test]
    fn a_skipped_node_reads_and_writes_what_its_neighbours_need() {
        let (b, [x, _, r, c, p, d, _]) = chain();
        let s = chosen(&b, &["conv2"]);
        assert_eq!(*decision(&b, &s, "conv2"), Decision::Keep(KeepReason::Skipped));
        assert_eq!(*decision(&b, &s, "pool"), Decision::Keep(KeepReason::RealOperands));
        assert_eq!(activations(&s), BTreeSet::from([x, r, p, d]));
        assert!(!activations(&s).contains(&c));
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
        assert_eq!(activations(&s), BTreeSet::from([x, a]));
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
        assert_eq!(activations(&s), BTreeSet::from([x, a, real, sum, both]));
    }

    #[test]
    fn sums_stay_real_unless_a_product_reads_their_codes() {
        let mut b = Builder::default();
        let (x, shape) = (b.input("x"), b.input("shape"));
        let w = b.constant("w", &[2, 2], &[0.0; 4]);
        let query = b.node("query", Op::MatMul, &[x, w]);
        let biased = b.node("bias", ADD, &[query, w]);
        let key = b.node("key", Op::MatMul, &[x, w]);
        let heads = b.node("heads", Op::Reshape(Reshape { allow_zero: false }), &[key, shape]);
        let scores = b.node("scores", Op::MatMul, &[biased, heads]);
        let weights = b.node("softmax", Op::Softmax(Softmax { axis: -1, flatten: false, log: false }), &[scores]);
        let context = b.node("context", Op::MatMul, &[weights, x]);
        let sum = b.node("residual", ADD, &[context, x]);
        let y = b.node("tanh", Op::Unary(Unary::Tanh), &[sum]);
        b.outputs(&[y]);
        let s = chosen(&b, &[]);
        for product in ["query", "key", "scores", "context"] {
            assert_eq!(*decision(&b, &s, product), Decision::Quantize, "{product}");
        }
        for real in ["bias", "residual"] {
            assert_eq!(*decision(&b, &s, real), Decision::Keep(KeepReason::RealOperands), "{real}");
        }
        assert_eq!(*decision(&b, &s, "heads"), Decision::Quantize, "it moves codes");
        assert_eq!(activations(&s), BTreeSet::from([x, biased, key, heads, weights]));
    }

    #[test]
    fn a_table_is_stored_as_codes_and_read_as_reals() {
        let mut b = Builder::default();
        let ids = b.input("ids");
        let table = b.constant("table", &[3, 2], &[0.0; 6]);
        let words = b.node("words", Op::Gather(Gather { axis: 0 }), &[table, ids]);
        let y = b.node("add", ADD, &[words, words]);
        b.outputs(&[y]);
        let s = chosen(&b, &[]);
        assert_eq!(*decision(&b, &s, "words"), Decision::WeightOnly);
        assert_eq!(*decision(&b, &s, "add"), Decision::Keep(KeepReason::RealOperands));
        assert!(activations(&s).is_empty() && s.codes_constants(b.id("words")));
    }

    /// A target that adds to sums, in the first operand's node.
    struct Adding;

    impl Recipe for Adding {
        fn support(&self, graph: &Graph, node: NodeId) -> Support {
            match graph.node(node).map(|n| &n.op) {
                Some(Op::Binary(_)) => Support::Accumulates { slot: 0 },
                _ => Target.support(graph, node),
            }
        }

        fn allows_real_result(&self, _: &Graph, _: NodeId) -> bool {
            false
        }

        fn channel_axis(&self, graph: &Graph, node: NodeId, slot: usize) -> Option<usize> {
            Target.channel_axis(graph, node, slot)
        }

        fn grids(&self) -> quantize_ir::Grids {
            Target.grids()
        }
    }

    /// conv → relu → inner, whose result and a pool of the ReLU's are added, → saturation → last
    fn residual() -> (Builder, [ValueId; 7]) {
        let mut b = Builder::default();
        let x = b.input("x");
        let a = b.conv("conv", x);
        let r = b.node("relu", RELU, &[a]);
        let c = b.conv("inner", r);
        let p = b.node("pool", max_pool(), &[r]);
        let s = b.node("sum", ADD, &[c, p]);
        let t = b.node("saturation", RELU, &[s]);
        let d = b.conv("last", t);
        let y = b.node("exp", Op::Unary(Unary::Exp), &[d]);
        b.outputs(&[y]);
        (b, [x, r, c, p, s, t, d])
    }

    #[test]
    fn an_addition_joins_the_sums_of_a_convolution() {
        let (b, [x, r, _, p, _, t, d]) = residual();
        let s = select(&b.graph, &Adding, &BTreeSet::new()).unwrap();
        let into = Decision::Absorbed { into: b.id("inner") };
        assert_eq!((decision(&b, &s, "sum"), decision(&b, &s, "saturation")), (&into, &into));
        assert_eq!(*decision(&b, &s, "pool"), Decision::Quantize, "only the addition reads its codes");
        assert_eq!(activations(&s), BTreeSet::from([x, r, p, t, d]));
    }

    #[test]
    fn an_addition_stays_without_codes_or_a_saturation() {
        for skipped in ["conv", "inner", "saturation"] {
            let (b, _) = residual();
            let s = select(&b.graph, &Adding, &[b.id(skipped)].into()).unwrap();
            assert_eq!(*decision(&b, &s, "sum"), Decision::Keep(KeepReason::NotAccumulated), "{skipped}");
        }
    }

    #[test]
    fn an_output_that_is_computed_with_is_quantized() {
        let mut b = Builder::default();
        let x = b.input("x");
        let a = b.conv("conv1", x);
        let c = b.conv("conv2", a);
        let y = b.node("tanh", Op::Unary(Unary::Exp), &[c]);
        b.outputs(&[a, y]);
        assert!(activations(&chosen(&b, &[])).contains(&a));
    }
}
