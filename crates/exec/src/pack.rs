//! Getting constants of a graph ready for a step: reading them, rounding or replacing them as a plan says, packing them.
//!
//! What lives here: whatever needs the graph and the plan. A program that keeps its constants needs it once, when it is
//! compiled; one that streams them, each time a step runs.

use crate::error::{ExecError, OpError};
use crate::fuse::{self, Chain};
use crate::grid::CodeGrid;
use crate::ops::ranged::RangedPacking;
use crate::program::layout_of;
use crate::ready::{ChannelAffine, CodesReady, Planned, Ready};
use crate::simulate;
use quantize_ir::op::RangedWork;
use quantize_ir::{Constant, DType, Graph, GraphError, Node, NodeId, Op, QuantPlan, Tensor, ValueId};
use quantize_kernels::Isa;
use quantize_numerics::AffineParams;
use std::sync::Arc;

/// Reads and packs constants.
#[derive(Clone, Copy)]
pub(crate) struct Packer<'a> {
    pub(crate) graph: &'a Graph,
    pub(crate) plan: &'a QuantPlan,
}

impl Packer<'_> {
    /// What is prepared of the first node of a chain, and of the normalization behind it, if anything is; `result` is
    /// the chain's.
    pub(crate) fn chain(
        &self,
        chain: &Chain,
        node: &Node,
        result: Option<ValueId>,
    ) -> Result<Option<Ready>, ExecError> {
        let norm = chain.norm.map(|norm| self.norm(norm)).transpose()?;
        match self.codes(chain, node, result)? {
            Some(codes) => Ok(Some(Ready::Codes(Box::new(codes)))),
            None => self.ready(chain.first, node, norm.as_ref()),
        }
    }

    fn ready(&self, id: NodeId, node: &Node, norm: Option<&ChannelAffine>) -> Result<Option<Ready>, ExecError> {
        if let Some(activation) = fuse::activation(self.graph, node) {
            return Ok(Some(Ready::Activation(activation)));
        }
        if let (Op::Ranged(RangedWork::Convolution(_) | RangedWork::Product(_)), Some(weights)) =
            (&node.op, node.input(1))
        {
            return Ok(self.is_constant(id, 1, weights).then(|| Ready::Ranged(RangedPacking::default())));
        }
        let constant = |slot: usize, value: ValueId| self.is_constant(id, slot, value);
        let mut others = node.inputs.iter().enumerate().skip(1).filter_map(|(slot, value)| Some((slot, (*value)?)));
        if !Ready::packs(&node.op) || !others.all(|(slot, value)| constant(slot, value)) {
            return Ok(None);
        }
        if let Some(matrix) = self.stored_matrix(id, node)? {
            let bias = node.input(2).map(|value| self.constant(id, 2, value)).transpose()?.flatten();
            let bias = bias.as_deref().filter(|bias| bias.dtype() == DType::F32);
            if bias.is_some() == node.input(2).is_some() {
                let ready = Ready::of_stored(&node.op, matrix, bias, Isa::active());
                if let Some(ready) = ready.map_err(|cause| self.failed(id, node, cause))? {
                    return Ok(Some(ready));
                }
            }
        }
        let constants = self.constants(id, node)?;
        let operands: Vec<Option<&Tensor>> = constants.iter().map(Option::as_deref).collect();
        Ready::of(&node.op, &operands, norm, Isa::active()).map_err(|cause| self.failed(id, node, cause))
    }

    /// The second operand of a product, if it is to be used as it stands in its document.
    fn stored_matrix(&self, id: NodeId, node: &Node) -> Result<Option<&Constant>, ExecError> {
        let (Op::MatMul | Op::Gemm(_), Some(value)) = (&node.op, node.input(1)) else { return Ok(None) };
        let is_planned = self.plan.weights.contains_key(&(id, 1)) || self.quantizer(value)?.is_some();
        let known = self.graph.value(value);
        let stored = known.constant.as_ref().filter(|constant| matches!(constant, Constant::Stored { .. }));
        Ok(stored.filter(|_| !is_planned && known.dtype == Some(DType::F32)))
    }

    /// The integer arithmetic of a chain whose operand and weights are planned.
    fn codes(&self, chain: &Chain, node: &Node, result: Option<ValueId>) -> Result<Option<CodesReady>, ExecError> {
        let id = chain.first;
        let (Some(x), Some(weight)) = (node.input(0), self.plan.weights.get(&(id, 1))) else { return Ok(None) };
        if matches!(&node.op, Op::Conv(conv) if conv.layout != layout_of(self.graph, x)) {
            return Ok(None);
        }
        let bias = self.plan.weights.get(&(id, 2));
        let Some(x) = self.quantizer(x)?.and_then(CodeGrid::of) else { return Ok(None) };
        if chain.norm.is_some() || (node.input(2).is_some() && bias.is_none()) {
            return Ok(None);
        }
        // What is added is added to reals, and the sum is rounded once.
        let result = result.filter(|_| chain.addend.is_none()).map(|value| self.quantizer(value));
        let result = result.transpose()?.flatten().and_then(CodeGrid::of);
        let planned = Planned { x, weight, bias, result, activation: chain.activation };
        CodesReady::of(&node.op, &planned, Isa::active()).map_err(|cause| self.failed(id, node, cause))
    }

    /// What a normalization by constants comes to.
    fn norm(&self, id: NodeId) -> Result<ChannelAffine, ExecError> {
        let Some((node, Op::BatchNorm(norm))) = self.graph.node(id).map(|node| (node, &node.op)) else {
            return Err(GraphError::Stale { pass: "compilation" }.into());
        };
        let constants = self.constants(id, node)?;
        let operands: Vec<Option<&Tensor>> = constants.iter().map(Option::as_deref).collect();
        let affine = ChannelAffine::of(norm, &operands).map_err(|cause| self.failed(id, node, cause))?;
        let lengths = || OpError::shape("its parameters differ in length");
        affine.ok_or_else(|| self.failed(id, node, lengths()))
    }

    /// The constant operands of a node by slot, the first one left out.
    fn constants(&self, id: NodeId, node: &Node) -> Result<Vec<Option<Arc<Tensor>>>, ExecError> {
        let constant = |(slot, value): (usize, &Option<ValueId>)| match value {
            Some(value) if slot > 0 => self.constant(id, slot, *value),
            _ => Ok(None),
        };
        node.inputs.iter().enumerate().map(constant).collect()
    }

    fn failed(&self, id: NodeId, node: &Node, cause: OpError) -> ExecError {
        let cause = cause.naming(|slot| Some(self.graph.value(node.input(slot)?).name.clone()));
        ExecError::Node { node: self.graph.label(id), op: node.op.name().to_owned(), cause }
    }

    fn is_constant(&self, id: NodeId, slot: usize, value: ValueId) -> bool {
        self.graph.value(value).constant.is_some() || self.plan.weights.contains_key(&(id, slot))
    }

    /// The constant operand in `slot`, with what the plan makes of it.
    pub(crate) fn constant(&self, node: NodeId, slot: usize, value: ValueId) -> Result<Option<Arc<Tensor>>, ExecError> {
        if let Some(weight) = self.plan.weights.get(&(node, slot)) {
            let tensor = simulate::dequantized(weight).map_err(|reason| self.plan_error(value, reason))?;
            return Ok(Some(Arc::new(tensor)));
        }
        self.rounded(value)
    }

    /// The elements of a constant, rounded if the plan says so.
    pub(crate) fn rounded(&self, value: ValueId) -> Result<Option<Arc<Tensor>>, ExecError> {
        let Some(constant) = self.graph.constant(value)? else { return Ok(None) };
        let Some(quantizer) = self.quantizer(value)? else { return Ok(Some(constant)) };
        let rounded = simulate::fake_quantized(&constant, quantizer);
        rounded.map(|tensor| Some(Arc::new(tensor))).map_err(|reason| self.plan_error(value, reason))
    }

    /// What rounds a value, if the plan rounds it.
    pub(crate) fn quantizer(&self, value: ValueId) -> Result<Option<AffineParams>, ExecError> {
        let Some(planned) = self.plan.activations.get(&value) else { return Ok(None) };
        simulate::activation_quantizer(&planned.params).map(Some).map_err(|reason| self.plan_error(value, reason))
    }

    fn plan_error(&self, value: ValueId, reason: String) -> ExecError {
        ExecError::Plan { value: self.graph.value(value).name.clone(), reason }
    }
}
