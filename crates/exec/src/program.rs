//! Compiling a graph: which nodes run, in which order, on which values, and when a value is no longer needed.

use crate::error::ExecError;
use crate::fuse::{Chain, Chains};
use crate::pack::Packer;
use crate::ready::Ready;
use crate::stream::{self, Constants, Deferred, DeferredStep, Store};
use quantize_ir::op::Layout;
use quantize_ir::{Graph, Node, NodeId, Op, QuantPlan, Tensor, ValueId};
use quantize_kernels::blocked::Activation;
use quantize_numerics::AffineParams;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A schedule that computes chosen values of a graph. It owns what it needs and can be shared by any number of
/// threads, each with its own [`Session`](crate::Session).
#[derive(Debug)]
pub struct Program {
    pub(crate) steps: Vec<Step>,
    pub(crate) slots: Vec<Slot>,
    /// Slots of the targets, in the order asked for.
    pub(crate) targets: Vec<usize>,
    by_value: BTreeMap<ValueId, usize>,
    /// What constants are read from while it runs, if they are.
    pub(crate) store: Option<Store>,
}

/// One node to run, with those that follow it in the same step. Operands and results are indices into
/// [`Program::slots`].
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// The node whose operator runs first; of a rounding the first reader of its value.
    pub(crate) node: NodeId,
    pub(crate) label: String,
    pub(crate) op: Op,
    /// What was prepared of the operator and its constants; those that are packed are no operands any more.
    pub(crate) ready: Option<Arc<Ready>>,
    /// What is prepared when the step runs instead.
    pub(crate) deferred: Option<DeferredStep>,
    /// What is added to the first result.
    pub(crate) addend: Option<usize>,
    /// What is applied to the sum.
    pub(crate) activation: Activation,
    pub(crate) inputs: Vec<Option<usize>>,
    /// By result slot; `None` for a result the targets do not depend on.
    pub(crate) outputs: Vec<Option<usize>>,
    /// Values nobody reads after this step.
    pub(crate) release: Vec<usize>,
}

impl Step {
    /// Hands the value in slot `from` on to slot `to`, which rounds it.
    fn rounding(node: NodeId, name: &str, from: usize, to: usize) -> Self {
        Self {
            node,
            label: format!("rounding of `{name}`"),
            op: Op::Identity,
            ready: None,
            deferred: None,
            addend: None,
            activation: Activation::Identity,
            inputs: vec![Some(from)],
            outputs: vec![Some(to)],
            release: Vec::new(),
        }
    }
}

/// A value of the program.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) value: ValueId,
    pub(crate) name: String,
    pub(crate) source: Source,
    /// What rounds it to a grid as soon as it is there.
    pub(crate) quantizer: Option<AffineParams>,
    /// Where its channels stand when it is taken into blocks of codes.
    pub(crate) layout: Layout,
    /// Whether observers see it.
    pub(crate) watched: bool,
}

/// How nodes become steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Several nodes to a step where that is faster, constants packed.
    Fast,
    /// Each on its own, with all its operands.
    NodeByNode,
}

/// Where a value comes from.
#[derive(Debug)]
pub(crate) enum Source {
    Constant(Arc<Tensor>),
    /// A constant that is read when a step needs it.
    Deferred(Deferred),
    Fed,
    Computed,
}

impl Program {
    /// Compiles what is needed for `targets`: the nodes they depend on, in topological order. Constants are read once,
    /// and weights packed; a value with known elements is never computed. An addition or a function of single elements
    /// runs in the step of the convolution or product before it, if nobody asks for the value in between.
    ///
    /// # Errors
    /// [`ExecError::Opaque`] listing every operator without shared semantics the targets depend on;
    /// [`ExecError::Graph`] if the graph has a cycle or a constant cannot be read.
    pub fn compile(graph: &Graph, targets: &[ValueId]) -> Result<Self, ExecError> {
        Self::compile_with(graph, targets, &QuantPlan::default(), Constants::Resident)
    }

    /// Like [`Program::simulate`], with the choice of where constants are while the program runs.
    ///
    /// # Errors
    /// As for [`Program::simulate`].
    pub fn compile_with(
        graph: &Graph,
        targets: &[ValueId],
        plan: &QuantPlan,
        constants: Constants,
    ) -> Result<Self, ExecError> {
        Self::with_plan(graph, None, targets, plan, Form::Fast, constants)
    }

    /// Like [`Program::simulate`], from values in the middle of the graph on: those of `fed` are fed, and what computes
    /// them is left out. A fed value that the plan rounds is rounded, which does nothing to one that is on its grid.
    /// Targets that some readers get as they are before rounding are returned so, ready to be fed to the next segment.
    ///
    /// # Errors
    /// As for [`Program::simulate`].
    pub fn segment(
        graph: &Graph,
        fed: &[ValueId],
        targets: &[ValueId],
        plan: &QuantPlan,
        constants: Constants,
    ) -> Result<Self, ExecError> {
        Self::with_plan(graph, Some(fed), targets, plan, Form::Fast, constants)
    }

    /// Like [`Program::compile`], but each node is a step of its own that reads all its operands.
    ///
    /// # Errors
    /// As for [`Program::compile`].
    pub(crate) fn node_by_node(graph: &Graph, targets: &[ValueId]) -> Result<Self, ExecError> {
        Self::with_plan(graph, None, targets, &QuantPlan::default(), Form::NodeByNode, Constants::Resident)
    }

    /// Like [`Program::compile`], with `plan` carried out in simulation: the planned constants are replaced by
    /// `scale * (code - zero_point)`, and every planned activation is rounded to its grid as soon as it is computed or
    /// fed, to `scale * (clamp(RN(x / scale) + zero_point) - zero_point)` with RN rounding half to even, computed in
    /// f32. Callers see the rounded values, and so do all readers but those of [`QuantPlan::reads_unrounded`].
    ///
    /// # Errors
    /// As for [`Program::compile`], and [`ExecError::Plan`] if an entry of the plan does not fit.
    pub fn simulate(graph: &Graph, targets: &[ValueId], plan: &QuantPlan) -> Result<Self, ExecError> {
        Self::compile_with(graph, targets, plan, Constants::Resident)
    }

    /// Like [`Program::compile`], but the values are only computed for an observer to see: a run returns nothing, and
    /// each value is released after its last reader.
    ///
    /// # Errors
    /// As for [`Program::compile`].
    pub fn observe(graph: &Graph, values: &[ValueId]) -> Result<Self, ExecError> {
        Self::observe_with(graph, values, &QuantPlan::default(), Constants::Resident)
    }

    /// Like [`Program::observe`], with `plan` carried out as in [`Program::simulate`], and with the choice of where
    /// constants are while the program runs.
    ///
    /// # Errors
    /// As for [`Program::simulate`].
    pub fn observe_with(
        graph: &Graph,
        values: &[ValueId],
        plan: &QuantPlan,
        constants: Constants,
    ) -> Result<Self, ExecError> {
        let mut program = Self::compile_with(graph, values, plan, constants)?;
        program.targets.clear();
        program.steps.iter_mut().for_each(|step| step.release.clear());
        release_after_last_use(&mut program.steps, &program.slots, &[]);
        Ok(program)
    }

    fn with_plan(
        graph: &Graph,
        fed: Option<&[ValueId]>,
        targets: &[ValueId],
        plan: &QuantPlan,
        form: Form,
        constants: Constants,
    ) -> Result<Self, ExecError> {
        let needed = Needed::of(graph, fed.unwrap_or_default(), targets, plan);
        needed.refuse_opaque(graph)?;
        let order: Vec<NodeId> =
            graph.topological_order()?.into_iter().filter(|id| needed.nodes.contains(id)).collect();
        let chains = match form {
            Form::Fast => Chains::find(graph, &order, &needed, targets, plan),
            Form::NodeByNode => Chains::default(),
        };
        let packer = Packer { graph, plan };
        let mut builder = Builder {
            packer,
            needed: &needed,
            fed: fed.unwrap_or_default(),
            targets,
            form,
            constants,
            slots: Vec::new(),
            by_value: BTreeMap::new(),
            rounded: BTreeMap::new(),
            roundings: Vec::new(),
        };
        let mut steps = Vec::new();
        for id in order.into_iter().filter(|id| !chains.is_inner(*id)) {
            let step = match chains.ending(id) {
                Some(chain) => builder.chain(chain)?,
                None => builder.node(id)?,
            };
            steps.append(&mut builder.roundings);
            steps.extend(step);
        }
        let ending = |value: &ValueId| match fed {
            Some(_) => builder.slot(*value),
            None => builder.rounded(*value),
        };
        let targets = targets.iter().map(ending).collect::<Result<Vec<usize>, _>>()?;
        steps.append(&mut builder.roundings);
        targets.iter().for_each(|target| builder.slots[*target].watched = true);
        let Builder { slots, by_value, .. } = builder;
        release_after_last_use(&mut steps, &slots, &targets);
        let store = (constants == Constants::Streamed).then(|| Store::new(graph, plan));
        Ok(Self { steps, slots, targets, by_value, store })
    }

    /// Bytes of the constants that the largest step reads while the program runs; 0 if none does.
    pub fn streamed_bytes(&self) -> u64 {
        self.steps.iter().filter_map(|step| Some(step.deferred.as_ref()?.bytes)).max().unwrap_or(0)
    }

    /// Values the caller has to feed, in the order they were added to the graph.
    pub fn inputs(&self) -> Vec<ValueId> {
        let fed = self.by_value.iter().filter(|(_, slot)| matches!(self.slots[**slot].source, Source::Fed));
        fed.map(|(value, _)| *value).collect()
    }

    /// The slot of `value`, if the targets depend on it.
    pub(crate) fn slot_of(&self, value: ValueId) -> Option<usize> {
        self.by_value.get(&value).copied()
    }
}

/// What the targets depend on.
pub(crate) struct Needed {
    pub(crate) nodes: BTreeSet<NodeId>,
    values: BTreeSet<ValueId>,
}

impl Needed {
    /// What `targets` depend on, of what lies behind the values of `fed`.
    pub(crate) fn of(graph: &Graph, fed: &[ValueId], targets: &[ValueId], plan: &QuantPlan) -> Self {
        let mut needed = Self { nodes: BTreeSet::new(), values: BTreeSet::new() };
        let mut waiting = targets.to_vec();
        while let Some(value) = waiting.pop() {
            if !needed.values.insert(value) || graph.value(value).constant.is_some() || fed.contains(&value) {
                continue;
            }
            let Some((id, node)) = graph.producer(value) else { continue };
            if needed.nodes.insert(id) {
                let operands =
                    node.inputs.iter().enumerate().filter(|(slot, _)| !plan.weights.contains_key(&(id, *slot)));
                waiting.extend(operands.filter_map(|(_, value)| *value));
            }
        }
        needed
    }

    fn refuse_opaque(&self, graph: &Graph) -> Result<(), ExecError> {
        let opaque = self.nodes.iter().filter_map(|id| match &graph.node(*id)?.op {
            Op::Opaque(o) => Some((graph.label(*id), o.kind.clone())),
            _ => None,
        });
        let nodes: Vec<(String, String)> = opaque.collect();
        if nodes.is_empty() { Ok(()) } else { Err(ExecError::Opaque { nodes }) }
    }
}

/// Translates values to slots while the steps are made.
struct Builder<'a> {
    packer: Packer<'a>,
    needed: &'a Needed,
    /// Values that are fed although something computes them.
    fed: &'a [ValueId],
    targets: &'a [ValueId],
    form: Form,
    constants: Constants,
    slots: Vec<Slot>,
    by_value: BTreeMap<ValueId, usize>,
    /// Slots of the rounded values, where `by_value` has them as they are before.
    rounded: BTreeMap<ValueId, usize>,
    /// Steps that fill them, to run before the step that is being made.
    roundings: Vec<Step>,
}

impl<'a> Builder<'a> {
    fn graph(&self) -> &'a Graph {
        self.packer.graph
    }

    fn node(&mut self, id: NodeId) -> Result<Option<Step>, ExecError> {
        let Some(node) = self.graph().node(id) else { return Ok(None) };
        let alone = Chain { first: id, last: id, norm: None, addend: None, activation: Activation::Identity };
        let step = self.step(&alone, node, node.output(0))?;
        let outputs = node.outputs.iter().map(|value| self.result(*value)).collect::<Result<_, _>>()?;
        Ok(Some(Step { outputs, ..step }))
    }

    fn chain(&mut self, chain: &Chain) -> Result<Option<Step>, ExecError> {
        let (Some(first), Some(last)) = (self.graph().node(chain.first), self.graph().node(chain.last)) else {
            return Ok(None);
        };
        let step = self.step(chain, first, last.output(0))?;
        let addend = chain.addend.map(|value| self.slot(value)).transpose()?;
        let outputs = last.outputs.iter().map(|value| self.result(*value)).collect::<Result<_, _>>()?;
        Ok(Some(Step { addend, activation: chain.activation, outputs, ..step }))
    }

    /// The first node of a chain as a step without results; `result` is the chain's.
    fn step(&mut self, chain: &Chain, node: &Node, result: Option<ValueId>) -> Result<Step, ExecError> {
        let id = chain.first;
        let ready = match self.form {
            Form::NodeByNode => None,
            Form::Fast => self.packer.chain(chain, node, result)?,
        };
        // Weights that are read when a step runs are not kept in another form either.
        let ready = ready.filter(|ready| self.constants == Constants::Resident || !matches!(ready, Ready::Ranged(_)));
        // What is packed is no operand any more.
        let packed = ready.as_ref().is_some_and(Ready::replaces_operands);
        let read = if packed { 1 } else { node.inputs.len() };
        let inputs = node.inputs[..read.min(node.inputs.len())].iter().enumerate();
        let inputs = inputs.map(|(slot, value)| self.operand(id, slot, *value)).collect::<Result<_, _>>()?;
        let bytes = stream::packed_bytes(self.graph(), chain);
        let defers = packed && self.constants == Constants::Streamed && bytes > Constants::SMALL;
        Ok(Step {
            node: id,
            label: self.graph().label(id),
            op: node.op.clone(),
            ready: ready.filter(|_| !defers).map(Arc::new),
            deferred: defers.then(|| DeferredStep { chain: chain.clone(), result, bytes }),
            addend: None,
            activation: Activation::Identity,
            inputs,
            outputs: Vec::new(),
            release: Vec::new(),
        })
    }

    fn operand(&mut self, node: NodeId, slot: usize, value: Option<ValueId>) -> Result<Option<usize>, ExecError> {
        let Some(value) = value else { return Ok(None) };
        if !self.packer.plan.weights.contains_key(&(node, slot)) {
            let unrounded = self.packer.plan.reads_unrounded(self.graph(), node, value);
            return if unrounded { self.slot(value) } else { self.rounded(value) }.map(Some);
        }
        // A slot of its own: other readers of the constant may have other parameters, or none.
        if self.constants.streams(self.graph(), value) {
            let deferred = Deferred { value, operand: Some((node, slot)) };
            return Ok(Some(self.push(value, Source::Deferred(deferred), None)));
        }
        let constant = self.packer.constant(node, slot, value)?;
        Ok(constant.map(|constant| self.push(value, Source::Constant(constant), None)))
    }

    fn result(&mut self, value: Option<ValueId>) -> Result<Option<usize>, ExecError> {
        let computed = |v: &ValueId| {
            self.needed.values.contains(v) && self.graph().value(*v).constant.is_none() && !self.fed.contains(v)
        };
        value.filter(computed).map(|v| self.slot(v)).transpose()
    }

    fn slot(&mut self, value: ValueId) -> Result<usize, ExecError> {
        if let Some(slot) = self.by_value.get(&value) {
            return Ok(*slot);
        }
        let quantizer = self.packer.quantizer(value)?.filter(|_| self.unrounded_reader(value).is_none());
        let slot = if self.constants.streams(self.graph(), value) && !self.targets.contains(&value) {
            self.push(value, Source::Deferred(Deferred { value, operand: None }), None)
        } else {
            match self.packer.rounded(value)? {
                Some(constant) => self.push(value, Source::Constant(constant), None),
                None if self.graph().producer(value).is_some() && !self.fed.contains(&value) => {
                    self.push(value, Source::Computed, quantizer)
                }
                None => self.push(value, Source::Fed, quantizer),
            }
        };
        self.by_value.insert(value, slot);
        Ok(slot)
    }

    /// The first reader of `value` as it is before rounding, if it is rounded and there is one.
    fn unrounded_reader(&self, value: ValueId) -> Option<NodeId> {
        self.packer.plan.unrounded_readers(self.graph(), value).next()
    }

    /// The slot of `value` after rounding, if it is rounded.
    fn rounded(&mut self, value: ValueId) -> Result<usize, ExecError> {
        let from = self.slot(value)?;
        let Some(reader) = self.unrounded_reader(value) else { return Ok(from) };
        if let Some(slot) = self.rounded.get(&value) {
            return Ok(*slot);
        }
        let quantizer = self.packer.quantizer(value)?;
        let slot = self.push(value, Source::Computed, quantizer);
        self.rounded.insert(value, slot);
        self.roundings.push(Step::rounding(reader, &self.slots[slot].name, from, slot));
        Ok(slot)
    }

    fn push(&mut self, value: ValueId, source: Source, quantizer: Option<AffineParams>) -> usize {
        let name = self.graph().value(value).name.clone();
        let layout = layout_of(self.graph(), value);
        self.slots.push(Slot { value, name, source, quantizer, layout, watched: false });
        self.slots.len() - 1
    }
}

/// Where the channels of a value stand, as far as a reader that slides a window over it tells; first if none does.
pub(crate) fn layout_of(graph: &Graph, value: ValueId) -> Layout {
    let readers = graph.value(value).consumers().iter().filter(|(_, slot)| *slot == 0);
    let mut layouts = readers.filter_map(|(id, _)| match &graph.node(*id)?.op {
        Op::Conv(conv) => Some(conv.layout),
        Op::MaxPool(pool) => Some(pool.layout),
        Op::AveragePool(pool) => Some(pool.layout),
        _ => None,
    });
    layouts.next().unwrap_or_default()
}

fn release_after_last_use(steps: &mut [Step], slots: &[Slot], targets: &[usize]) {
    let mut last_use = vec![None; slots.len()];
    for (i, step) in steps.iter().enumerate() {
        for slot in step.outputs.iter().chain(&step.inputs).chain([&step.addend]).flatten() {
            last_use[*slot] = Some(i);
        }
    }
    for (slot, last) in last_use.into_iter().enumerate() {
        let kept = matches!(slots[slot].source, Source::Constant(_) | Source::Deferred(_)) || targets.contains(&slot);
        if let Some(step) = last.filter(|_| !kept) {
            steps[step].release.push(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Network;
    use quantize_ir::op::{Binary, Opaque, Unary};
    use quantize_ir::{ActivationPlan, Constant, Decision, KeepReason, NodePlan, QuantParams, QuantType};

    const RELU: Op = Op::Unary(Unary::Relu);
    const ADD: Op = Op::Binary(Binary::Add);

    fn opaque(kind: &str) -> Op {
        Op::Opaque(Opaque { domain: "custom".into(), kind: kind.into() })
    }

    fn labels(program: &Program) -> Vec<&str> {
        program.steps.iter().map(|s| s.label.as_str()).collect()
    }

    #[test]
    fn only_what_the_targets_need_is_run() {
        let mut net = Network::default();
        let x = net.input("x");
        let a = net.node("a", RELU, &[x]);
        let b = net.node("b", RELU, &[a]);
        net.node("unused", RELU, &[a]);
        let program = Program::compile(&net.graph, &[b]).unwrap();
        assert_eq!((labels(&program), program.inputs()), (vec!["a", "b"], vec![x]));
    }

    #[test]
    fn known_elements_cut_off_their_producers() {
        let mut net = Network::default();
        let x = net.input("x");
        let a = net.node("a", opaque("Fused"), &[x]);
        let b = net.node("b", RELU, &[a]);
        net.graph.value_mut(a).constant = Some(Constant::owned(Tensor::scalar(1f32)));
        let program = Program::compile(&net.graph, &[b]).unwrap();
        assert_eq!((labels(&program), program.inputs()), (vec!["b"], vec![]));
    }

    #[test]
    fn a_segment_begins_at_what_is_fed() {
        let mut net = Network::default();
        let x = net.input("x");
        let a = net.node("a", opaque("Elsewhere"), &[x]);
        let b = net.node("b", RELU, &[a]);
        let c = net.node("c", ADD, &[b, x]);
        let program = Program::segment(&net.graph, &[a, x], &[c], &QuantPlan::default(), Constants::Resident).unwrap();
        assert_eq!((labels(&program), program.inputs()), (vec!["b", "c"], vec![x, a]));
        let fed = [(a, Tensor::vector(vec![-1f32, 2.0])), (x, Tensor::vector(vec![1f32, 1.0]))];
        let found = crate::Session::new(&program).run(&fed, &mut ()).unwrap();
        assert_eq!(found, [Tensor::vector(vec![1f32, 3.0])]);
    }

    #[test]
    fn all_opaque_ancestors_are_named() {
        let mut net = Network::default();
        let x = net.input("x");
        let a = net.node("a", opaque("First"), &[x]);
        let b = net.node("b", opaque("Second"), &[a]);
        net.node("c", opaque("Elsewhere"), &[b]);
        let error = Program::compile(&net.graph, &[b]).unwrap_err();
        assert_eq!(error.to_string(), "cannot execute node `a` (First), node `b` (Second)");
        assert!(Program::compile(&net.graph, &[x]).is_ok());
    }

    #[test]
    fn values_are_released_after_their_last_reader() {
        let mut net = Network::default();
        let x = net.input("x");
        let a = net.node("a", RELU, &[x]);
        let b = net.node("b", ADD, &[a, x]);
        let c = net.node("c", ADD, &[b, b]);
        let program = Program::compile(&net.graph, &[c]).unwrap();
        let released: Vec<Vec<&str>> =
            program.steps.iter().map(|s| s.release.iter().map(|i| program.slots[*i].name.as_str()).collect()).collect();
        assert_eq!(released, [vec![], vec!["x", "a"], vec!["b"]]);
    }

    #[test]
    fn nodes_on_reals_read_values_before_they_are_rounded() {
        let mut net = Network::default();
        let x = net.input("x");
        let (coded, real) = (net.node("coded", ADD, &[x, x]), net.node("real", ADD, &[x, x]));
        let behind = net.node("behind", ADD, &[coded, coded]);
        let params = QuantParams::per_tensor(QuantType::U8, 1.0, 0).unwrap();
        let entry = |v| (v, ActivationPlan { params: params.clone(), shares: v, method: String::new(), sqnr_db: None });
        let mut plan = QuantPlan { activations: [entry(x), entry(coded)].into_iter().collect(), ..Default::default() };
        for (value, decision) in [
            (coded, Decision::Quantize),
            (real, Decision::Keep(KeepReason::Skipped)),
            (behind, Decision::Keep(KeepReason::Skipped)),
        ] {
            plan.nodes.insert(net.producer(value), NodePlan { decision });
        }
        let fed = [(x, Tensor::vector(vec![1.25f32]))];
        for order in [[coded, real, behind, x], [x, behind, real, coded]] {
            let program = Program::simulate(&net.graph, &order, &plan).unwrap();
            let results = crate::Session::new(&program).run(&fed, &mut ()).unwrap();
            let found: BTreeMap<ValueId, f32> =
                order.into_iter().zip(results.iter().map(|t| t.as_slice::<f32>().unwrap()[0])).collect();
            assert_eq!(found, [(coded, 2.0), (real, 2.5), (behind, 4.0), (x, 1.0)].into_iter().collect());
        }
    }

    #[test]
    fn programs_are_shared_between_threads() {
        fn shared<T: Send + Sync>() {}
        shared::<Program>();
    }
}
