//! Which layers xfDNN's hardware runs on integers, and which tensors it needs to have the same threshold.
//!
//! The hardware adds and joins raw codes: operands of an `Eltwise` must share a threshold, and all sides of a `Concat`
//! too. What only moves elements keeps its codes. The sides of a layer without an entry in the file cannot differ.

use crate::document::CaffeDocument;
use crate::error::CaffeError;
use quantize_ir::op::behaviour::{clip_limits, keeps_range};
use quantize_ir::op::{Binary, GlobalPool, Nary, Unary};
use quantize_ir::shape::resolve_axis;
use quantize_ir::{
    Graph, GraphError, Grids, KeepReason, Node, NodeId, Op, OperandRole, Origin, QuantType, Recipe, Support, Ties,
};
use quantize_numerics::xfdnn::BitWidth;
use std::sync::Arc;

/// Kinds of layers that have entries in the file, besides convolutions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryKinds {
    /// `InnerProduct`.
    pub inner_product: bool,
    /// `Eltwise`, sum or maximum.
    pub eltwise: bool,
    /// `Pooling` by averages.
    pub average_pool: bool,
    /// `Scale` that is not folded.
    pub scale: bool,
}

/// The rules of xfDNN's hardware for one network.
#[derive(Clone, Debug)]
pub struct XfdnnRecipe {
    /// The network, which knows what each node was.
    pub document: Arc<CaffeDocument>,
    /// Width of the codes.
    pub bits: BitWidth,
    /// What has entries.
    pub entries: EntryKinds,
    /// Whether a `Scale` folds only together with the `BatchNorm` before it, and has an entry otherwise, as the original
    /// has it.
    pub keeps_lone_scale: bool,
    /// Whether corrected weights and biases reach the runtime: the network is written along, and the file's steps are
    /// those of the plan.
    pub corrections: bool,
    /// Whether local response normalization runs in float on its own ranges rather than passing its input's threshold
    /// on.
    pub float_lrn: bool,
}

impl Recipe for XfdnnRecipe {
    fn support(&self, graph: &Graph, id: NodeId) -> Support {
        let Some(node) = graph.node(id) else { return Support::Keep(KeepReason::Unknown) };
        match &node.op {
            _ if node.outputs.iter().flatten().all(|v| graph.value(*v).constant.is_some()) => {
                Support::Keep(KeepReason::Folded)
            }
            Op::Opaque(_) => Support::Keep(KeepReason::Unknown),
            Op::Conv(_) => planar_product(graph, node),
            Op::Gemm(_) if !self.entries.inner_product => unsupported("inner products have no entry in this file"),
            Op::Gemm(_) => with_weight(graph, node),
            Op::BatchNorm(_) if self.kind(node) == Some("Scale") => {
                if self.entries.scale {
                    Support::Joins
                } else {
                    unsupported("a `Scale` layer has no entry in this file")
                }
            }
            _ if is_eltwise(&node.op) => self.eltwise(graph, node),
            Op::AveragePool(_) | Op::GlobalPool(GlobalPool::Average) | Op::Concat(_) => Support::Joins,
            Op::Lrn(_) if !self.float_lrn => Support::Carries,
            Op::MaxPool(_) if node.output(1).is_some() => unsupported("its second result is used"),
            _ if keeps_range(graph, node) => Support::Carries,
            Op::Unary(Unary::Relu) => Support::Absorbed,
            Op::Clip if clip_limits(graph, node).is_some_and(|(lo, hi)| lo == 0.0 && hi > 0.0) => Support::Absorbed,
            _ => Support::Keep(KeepReason::NoIntegerKernel),
        }
    }

    fn may_fold(&self, graph: &Graph, id: NodeId) -> bool {
        let lone = |node: &Node| self.kind(node) == Some("Scale") && !self.follows_batch_norm(graph, node);
        !self.keeps_lone_scale || !graph.node(id).is_some_and(lone)
    }

    fn results_stay_real(&self) -> bool {
        false
    }

    fn allows_real_result(&self, _: &Graph, _: NodeId) -> bool {
        true
    }

    fn ties(&self, graph: &Graph, id: NodeId) -> Ties {
        let Some(node) = graph.node(id) else { return Ties::Free };
        match &node.op {
            Op::Concat(_) => Ties::Joined,
            op if is_eltwise(op) => {
                if self.entries.eltwise {
                    Ties::Operands
                } else {
                    Ties::Equal
                }
            }
            Op::AveragePool(_) | Op::GlobalPool(GlobalPool::Average) if !self.entries.average_pool => Ties::Carried,
            Op::Lrn(_) if !self.float_lrn => Ties::Carried,
            _ if keeps_range(graph, node) => Ties::Carried,
            _ => Ties::Free,
        }
    }

    fn channel_axis(&self, graph: &Graph, id: NodeId, slot: usize) -> Option<usize> {
        let node = graph.node(id)?;
        let OperandRole::Weight { channel_axis: Some(axis) } = node.op.operand_role(slot) else { return None };
        let rank = graph.value(node.input(slot)?).constant.as_ref()?.shape().len();
        resolve_axis(axis, rank).ok()
    }

    fn grids(&self) -> Grids {
        let qtype = match self.bits {
            BitWidth::Eight => QuantType::I8Narrow,
            BitWidth::Sixteen => QuantType::I16Narrow,
        };
        Grids { activation: qtype, symmetric: true, weight: qtype, coded_bias: false }
    }

    fn takes_corrections(&self, graph: &Graph, id: NodeId) -> bool {
        let layer = graph.node(id).and_then(|node| self.document.layer(node.origin.source()?));
        self.corrections && layer.is_some_and(|layer| !self.document.shares_blobs(layer))
    }
}

impl XfdnnRecipe {
    /// The error of a graph that cannot be read.
    pub(super) fn broken(&self, source: GraphError) -> CaffeError {
        CaffeError::Graph { file: self.document.text().source().path().to_owned(), source }
    }

    /// The type of the layer whose main operator `node` is.
    pub(super) fn kind(&self, node: &Node) -> Option<&str> {
        self.document.layer(node.origin.source()?).map(|layer| layer.kind.as_str())
    }

    fn follows_batch_norm(&self, graph: &Graph, node: &Node) -> bool {
        let before = node.input(0).and_then(|x| graph.producer(x));
        before.is_some_and(|(_, before)| self.kind(before) == Some("BatchNorm"))
    }

    fn eltwise(&self, graph: &Graph, node: &Node) -> Support {
        if self.kind(node) != Some("Eltwise") {
            return Support::Keep(KeepReason::NoIntegerKernel);
        }
        let own = node.origin.documents();
        let is_helper = |n: &Node| matches!(&n.origin, Origin::Synthesized { from, .. } if from == own);
        let weighted = node.inputs.iter().flatten().any(|v| graph.producer(*v).is_some_and(|(_, n)| is_helper(n)));
        if weighted { unsupported("the hardware adds without coefficients") } else { Support::Joins }
    }
}

/// Sums and maxima, which the hardware computes on raw codes.
pub(crate) fn is_eltwise(op: &Op) -> bool {
    matches!(op, Op::Binary(Binary::Add) | Op::Nary(Nary::Sum | Nary::Max))
}

fn unsupported(why: &str) -> Support {
    Support::Keep(KeepReason::Unsupported(why.to_owned()))
}

fn planar_product(graph: &Graph, node: &Node) -> Support {
    match node.input(1).and_then(|v| graph.value(v).constant.as_ref()) {
        Some(weight) if weight.shape().len() != 4 => unsupported("the hardware convolves over two axes"),
        _ => with_weight(graph, node),
    }
}

/// An anchor, if the weight is a constant with elements.
fn with_weight(graph: &Graph, node: &Node) -> Support {
    match node.input(1).and_then(|v| graph.value(v).constant.as_ref()) {
        None => Support::Keep(KeepReason::ComputedWeight),
        Some(weight) if weight.shape().contains(&0) => unsupported("its weight has no output channels"),
        Some(_) => Support::Anchor,
    }
}
