//! The quantization plan: what is quantized, with which parameters, and why the rest is not.
//!
//! Everything upstream of the plan decides; back-ends, the simulator and reports only carry it out.

use crate::graph::{Graph, NodeId, ValueId};
use crate::op::{Binary, Op};
use crate::quant::QuantParams;
use crate::tensor::Tensor;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Why a node stays as it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeepReason {
    /// The caller asked for it.
    Skipped,
    /// The model misses its target of accuracy with it.
    Sensitive,
    /// The operator has no shared semantics.
    Unknown,
    /// The target's runtime has no integer kernel for it.
    NoIntegerKernel,
    /// None of its operands comes from a quantized node.
    RealOperands,
    /// A bounded activation that no quantized node stands right before.
    NotAbsorbed,
    /// An addition whose other operand is not there as codes, or that no quantized node and saturation stand around.
    NotAccumulated,
    /// It moves elements, and none of its readers is quantized.
    RealReaders,
    /// Its weight is computed while running.
    ComputedWeight,
    /// Its results are known before execution.
    Folded,
    /// It belongs to a part of the model that is quantized.
    QuantizedAlready,
    /// It works on something else than real numbers.
    NotReal,
    /// Only weights become codes, and it has none that can.
    NoWeightCodes,
    /// A result of the network stays real, and the node has no integer kernel with a real result.
    NetworkResult,
    /// It is not the model's: it scales what products read.
    Scaling,
    /// It has a shape or an attribute the target's integer kernel does not accept; says which.
    Unsupported(String),
}

impl fmt::Display for KeepReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Skipped => f.write_str("skipped on request"),
            Self::Sensitive => f.write_str("costs more accuracy than the target allows"),
            Self::Unknown => f.write_str("unknown operator, carried as it is"),
            Self::NoIntegerKernel => f.write_str("the runtime has no integer kernel for it"),
            Self::RealOperands => f.write_str("no operand comes from a quantized node"),
            Self::NotAbsorbed => f.write_str("could only vanish into a quantized node right before it"),
            Self::NotAccumulated => f.write_str(
                "could only join the sums of a quantized node with a saturation behind it, and codes that are there",
            ),
            Self::RealReaders => f.write_str("only moves elements, for readers that stay real"),
            Self::ComputedWeight => f.write_str("its weight is not a constant"),
            Self::Folded => f.write_str("its results are constants"),
            Self::QuantizedAlready => f.write_str("is quantized already"),
            Self::NotReal => f.write_str("does not compute on float32"),
            Self::NoWeightCodes => f.write_str("has no weight to store as codes"),
            Self::NetworkResult => f.write_str("produces a network result, which stays real"),
            Self::Scaling => f.write_str("scales the input channels of products"),
            Self::Unsupported(what) => f.write_str(what),
        }
    }
}

/// What happens to a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It reads and computes integer codes.
    Quantize,
    /// It vanishes into the saturation of a quantized node, or, an addition, into its sums: then it reads codes of the
    /// operand that this node does not compute.
    Absorbed {
        /// That node.
        into: NodeId,
    },
    /// It computes on reals, of which its weight is stored as codes.
    WeightOnly,
    /// It stays as it is.
    Keep(KeepReason),
}

impl Decision {
    /// Whether constants of the node become codes.
    pub fn codes_constants(&self) -> bool {
        matches!(self, Self::Quantize | Self::WeightOnly)
    }
}

/// A node's entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodePlan {
    /// What happens to it.
    pub decision: Decision,
}

/// An activation's entry: every reader gets the quantized value, but for those of [`QuantPlan::reads_unrounded`].
#[derive(Clone, Debug, PartialEq)]
pub struct ActivationPlan {
    /// Per-tensor parameters.
    pub params: QuantParams,
    /// The value that stands for all that share these parameters: itself if none do.
    pub shares: ValueId,
    /// Range method that chose them, as the command line spells it.
    pub method: String,
    /// Signal to quantization noise of this tensor alone, in dB, as the statistics predict it.
    pub sqnr_db: Option<f64>,
}

/// A weight's or bias's entry.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightPlan {
    /// Parameters; for a bias the scales are `s_x * s_w`.
    pub params: QuantParams,
    /// Integer codes, shaped like the constant.
    pub codes: Arc<Tensor>,
    /// Signal to quantization noise of this tensor alone, in dB.
    pub sqnr_db: f64,
}

/// A quantization plan for one graph.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QuantPlan {
    /// An entry for each node.
    pub nodes: BTreeMap<NodeId, NodePlan>,
    /// Quantized activations.
    pub activations: BTreeMap<ValueId, ActivationPlan>,
    /// Quantized constants by node and operand slot.
    pub weights: BTreeMap<(NodeId, usize), WeightPlan>,
}

impl QuantPlan {
    /// The value `value` becomes at run time: itself, or what an addition and a bounded activation that vanished into its
    /// producer make of it.
    pub fn materialized(&self, graph: &Graph, value: ValueId) -> ValueId {
        let mut last = value;
        while let Some(result) = self.vanished_reader(graph, last).and_then(|id| graph.node(id)?.output(0)) {
            last = result;
        }
        last
    }

    /// The node behind `value` that vanished into what computes it.
    fn vanished_reader(&self, graph: &Graph, value: ValueId) -> Option<NodeId> {
        let (producer, _) = graph.producer(value)?;
        let computes = self.absorbed_into(producer).unwrap_or(producer);
        let (reader, _) = graph.sole_consumer(value)?;
        (self.absorbed_into(reader) == Some(computes)).then_some(reader)
    }

    /// The quantized node that `node` vanished into.
    pub fn absorbed_into(&self, node: NodeId) -> Option<NodeId> {
        match self.nodes.get(&node)?.decision {
            Decision::Absorbed { into } => Some(into),
            _ => None,
        }
    }

    /// The addition that vanished into the sums of `node`, and what it adds to them.
    pub fn addend(&self, graph: &Graph, node: NodeId) -> Option<(NodeId, ValueId)> {
        let sum = graph.node(node)?.output(0)?;
        let reader = self.vanished_reader(graph, sum)?;
        let addition = graph.node(reader).filter(|reader| matches!(reader.op, Op::Binary(Binary::Add)))?;
        let other = addition.inputs.iter().flatten().copied().find(|operand| *operand != sum)?;
        Some((reader, other))
    }

    /// Whether `node` reads `value` as it was before it was rounded: the node computes on reals, and so does what
    /// computes the value. Only what computes on codes needs the rounding; the rest would lose accuracy by it.
    pub fn reads_unrounded(&self, graph: &Graph, node: NodeId, value: ValueId) -> bool {
        let is_real = |id: NodeId| {
            let decision = self.nodes.get(&id).map(|n| &n.decision);
            matches!(decision, Some(Decision::WeightOnly | Decision::Keep(_)))
        };
        is_real(node) && graph.producer(value).is_none_or(|(id, _)| is_real(id))
    }

    /// Whether the plan quantizes `node`.
    pub fn quantizes(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_some_and(|n| n.decision == Decision::Quantize)
    }

    /// The readers of `value` that get it as it was before it was rounded; none if it is not rounded.
    pub fn unrounded_readers<'a>(&'a self, graph: &'a Graph, value: ValueId) -> impl Iterator<Item = NodeId> + 'a {
        let known = graph.value(value);
        let rounded = self.activations.contains_key(&value) && known.constant.is_none();
        let readers = known.consumers().iter().map(|(id, _)| *id).filter(move |_| rounded);
        readers.filter(move |id| self.reads_unrounded(graph, *id, value))
    }

    /// Whether only the weight of `node` is stored as codes.
    pub fn is_weight_only(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_some_and(|n| n.decision == Decision::WeightOnly)
    }

    /// Whether nothing is quantized.
    pub fn is_empty(&self) -> bool {
        self.activations.is_empty() && self.weights.is_empty()
    }
}
