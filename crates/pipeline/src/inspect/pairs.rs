//! Which nodes of a quantized model run on integers: those that onnxruntime merges with the pairs around them.
//!
//! A node has an integer kernel if the target's rules say so, all its real operands come from dequantizations of 8-bit
//! codes, its bias from 32-bit ones, and its result goes to quantizations only, at most through an activation that
//! becomes saturation. Matrix products may leave their result real.

use super::choice::Fate;
use super::open::Rules;
use quantize_ir::op::RangeRule;
use quantize_ir::{DType, Graph, KeepReason, Node, NodeId, OperandRole, Recipe, Support, ValueId};
use quantize_onnx::OnnxRecipe;

/// A graph with its pairs, constants being folded, and the rules for it.
pub(super) struct Pairs<'a> {
    graph: &'a Graph,
    rules: &'a OnnxRecipe,
}

impl<'a> Pairs<'a> {
    /// The pairs of an ONNX model.
    pub(super) fn of(graph: &'a Graph, rules: &'a Rules) -> Option<Self> {
        match rules {
            Rules::Onnx(rules, _) => Some(Self { graph, rules }),
            Rules::Caffe(_) | Rules::Tensorflow(_) => None,
        }
    }

    /// What has happened to a node.
    pub(super) fn fate(&self, id: NodeId, node: &Node) -> Fate {
        if converts(node) {
            return Fate::Converts;
        }
        match self.rules.kernel(self.graph, id) {
            Support::Keep(KeepReason::Folded) => Fate::Constant,
            Support::Keep(KeepReason::NotReal) if node.input(0).is_some_and(|value| self.is_codes(value)) => {
                Fate::Integers
            }
            Support::Keep(KeepReason::NotReal) => Fate::NotReal,
            Support::Keep(reason) => Fate::Real { reason: reason.to_string() },
            Support::Absorbed => self.absorbed(id, node),
            Support::Accumulates { .. } => Fate::Real { reason: KeepReason::NotAccumulated.to_string() },
            Support::WeightOnly => Fate::Real { reason: "its table is not stored as codes".to_owned() },
            Support::Anchor | Support::Joins | Support::Carries => match self.obstacle(id, node) {
                None => Fate::Integers,
                Some(_) if self.stores_weight(node) => Fate::WeightOnly,
                Some(reason) => Fate::Real { reason: reason.to_owned() },
            },
        }
    }

    /// Whether a node reads real activations, and a weight that is stored as codes.
    fn stores_weight(&self, node: &Node) -> bool {
        let constant = |value: ValueId| {
            let producer = self.graph.producer(value).filter(|(_, node)| is_dequantize(node));
            let codes = producer.and_then(|(_, node)| node.input(0));
            codes.is_some_and(|codes| self.graph.value(codes).constant.is_some())
        };
        let operands = || node.inputs.iter().enumerate().filter_map(|(slot, value)| Some((slot, (*value)?)));
        let is_weight = |slot: usize| matches!(node.op.operand_role(slot), OperandRole::Weight { .. });
        let is_activation = |slot: usize| node.op.operand_role(slot) == OperandRole::Activation;
        operands().any(|(slot, value)| is_weight(slot) && constant(value))
            && operands().all(|(slot, value)| !is_activation(slot) || self.codes(value).is_none())
    }

    /// What keeps a node that has an integer kernel from running on it.
    fn obstacle(&self, id: NodeId, node: &Node) -> Option<&'static str> {
        for (slot, value) in node.inputs.iter().enumerate() {
            let Some(value) = *value else { continue };
            let codes = self.codes(value);
            match node.op.operand_role(slot) {
                OperandRole::Config => {}
                OperandRole::Bias if codes == Some(DType::I32) => {}
                OperandRole::Bias => return Some("its bias is not dequantized from 32-bit codes"),
                OperandRole::Activation | OperandRole::Weight { .. } => match codes {
                    Some(DType::U8 | DType::I8) => {}
                    Some(_) => return Some("an operand has codes that the runtime has no integer kernel for"),
                    None => return Some("an operand is not dequantized right before it"),
                },
            }
        }
        let result = node.output(0)?;
        let rounded = self.is_rounded(result) || self.saturated(result).is_some_and(|value| self.is_rounded(value));
        let may_be_real = self.rules.allows_real_result(self.graph, id);
        (!rounded && !may_be_real).then_some("its result is not quantized right behind it")
    }

    /// Type of the codes that `value` is dequantized from, or of their zero point.
    fn codes(&self, value: ValueId) -> Option<DType> {
        let (_, node) = self.graph.producer(value)?;
        let mut typed = [0, 2].into_iter().filter_map(|slot| self.graph.value(node.input(slot)?).dtype);
        typed.next().filter(|_| is_dequantize(node))
    }

    /// Whether `value` holds codes, moved or not since they were made.
    fn is_codes(&self, value: ValueId) -> bool {
        let mut at = self.graph.producer(value);
        while let Some((_, node)) = at.filter(|(_, node)| !is_quantize(node)) {
            let moves = node.op.range_rule() == RangeRule::SameAsInput;
            at = node.input(0).filter(|_| moves).and_then(|value| self.graph.producer(value));
        }
        at.is_some()
    }

    /// Whether everything that reads `value` quantizes it.
    fn is_rounded(&self, value: ValueId) -> bool {
        let readers = self.graph.value(value).consumers();
        let rounds = |id: NodeId| self.graph.node(id).is_some_and(is_quantize);
        !readers.is_empty() && !self.graph.is_output(value) && readers.iter().all(|(id, _)| rounds(*id))
    }

    /// What a bounded activation makes of `value`, if nothing else reads it.
    fn saturated(&self, value: ValueId) -> Option<ValueId> {
        let (id, _) = self.graph.sole_consumer(value)?;
        let becomes_saturation = self.rules.kernel(self.graph, id) == Support::Absorbed;
        self.graph.node(id).filter(|_| becomes_saturation)?.output(0)
    }

    /// A bounded activation vanishes into the node before it, or has pairs of its own.
    fn absorbed(&self, id: NodeId, node: &Node) -> Fate {
        let before = node.input(0).and_then(|value| self.graph.producer(value));
        let rounded = node.output(0).is_some_and(|value| self.is_rounded(value));
        match before.filter(|(id, before)| rounded && self.fate(*id, before) == Fate::Integers) {
            Some((into, _)) => Fate::Absorbed { into: self.graph.label(into) },
            None if self.obstacle(id, node).is_none() => Fate::Integers,
            None => Fate::Real { reason: KeepReason::NotAbsorbed.to_string() },
        }
    }
}

/// Whether a node converts between real numbers and codes.
pub(super) fn converts(node: &Node) -> bool {
    is_quantize(node) || is_dequantize(node)
}

fn is_quantize(node: &Node) -> bool {
    node.op.name() == "QuantizeLinear"
}

fn is_dequantize(node: &Node) -> bool {
    node.op.name() == "DequantizeLinear"
}
