//! Programs whose constants do not fit into memory together: large ones are read, and packed, each time a step needs
//! them, and dropped behind it.
//!
//! What lives here: which constants are large, and loading them. What they become is the same as in a program that keeps
//! them, so results are too.

use crate::error::ExecError;
use crate::fuse::Chain;
use crate::pack::Packer;
use crate::program::{Source, Step};
use quantize_ir::{Constant, Graph, NodeId, QuantPlan, Tensor, ValueId};
use std::borrow::Cow;
use std::sync::Arc;

/// Where a program has its constants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Constants {
    /// In memory, from when it is compiled.
    #[default]
    Resident,
    /// Where they stand in the graph; those of more than [`Constants::SMALL`] bytes are read each time they are needed.
    Streamed,
}

impl Constants {
    /// Constants that are kept in any case have at most this many bytes.
    pub const SMALL: u64 = 1 << 20;

    /// [`Constants::Resident`] if those that nodes of `graph` read while it runs have at most `bytes` bytes together.
    pub fn within(graph: &Graph, bytes: u64) -> Self {
        let runs = |id: NodeId| {
            let mut results = graph.node(id).into_iter().flat_map(|node| node.outputs.iter().flatten());
            results.any(|value| graph.value(*value).constant.is_none())
        };
        let all = graph.values().filter(|(_, value)| value.consumers().iter().any(|(id, _)| runs(*id)));
        let total = all.filter_map(|(_, value)| value.constant.as_ref()).map(size).fold(0, u64::saturating_add);
        if total <= bytes { Self::Resident } else { Self::Streamed }
    }

    /// Whether a value's constant is not kept.
    pub(crate) fn streams(self, graph: &Graph, value: ValueId) -> bool {
        self == Self::Streamed && graph.value(value).constant.as_ref().is_some_and(|c| size(c) > Self::SMALL)
    }
}

/// Bytes of a constant's elements if they are computed with as `f32`.
fn size(constant: &Constant) -> u64 {
    constant.shape().iter().fold(size_of::<f32>() as u64, |n, d| n.saturating_mul(*d as u64))
}

/// A constant that is read when it is needed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deferred {
    pub(crate) value: ValueId,
    /// The node and slot it is an operand of, if a plan has a say in it.
    pub(crate) operand: Option<(NodeId, usize)>,
}

/// What is packed when a step runs.
#[derive(Clone, Debug)]
pub(crate) struct DeferredStep {
    pub(crate) chain: Chain,
    pub(crate) result: Option<ValueId>,
    /// Bytes of its constants.
    pub(crate) bytes: u64,
}

/// What a program that streams its constants reads them from.
#[derive(Debug)]
pub(crate) struct Store {
    graph: Graph,
    plan: QuantPlan,
}

impl Store {
    /// Copies of a graph and a plan; constants in either are shared, not copied.
    pub(crate) fn new(graph: &Graph, plan: &QuantPlan) -> Self {
        Self { graph: graph.clone(), plan: plan.clone() }
    }

    fn packer(&self) -> Packer<'_> {
        Packer { graph: &self.graph, plan: &self.plan }
    }

    /// The step with its constants packed.
    pub(crate) fn loaded<'s>(&self, step: &'s Step) -> Result<Cow<'s, Step>, ExecError> {
        let (Some(deferred), Some(node)) = (&step.deferred, self.graph.node(step.node)) else {
            return Ok(Cow::Borrowed(step));
        };
        let ready = self.packer().chain(&deferred.chain, node, deferred.result)?;
        Ok(Cow::Owned(Step { ready: ready.map(Arc::new), ..step.clone() }))
    }

    /// The elements of a constant that is read when it is needed.
    pub(crate) fn tensor(&self, source: &Source) -> Result<Option<Tensor>, ExecError> {
        let Source::Deferred(deferred) = source else { return Ok(None) };
        let read = match deferred.operand {
            Some((node, slot)) => self.packer().constant(node, slot, deferred.value),
            None => self.packer().rounded(deferred.value),
        };
        Ok(read?.map(Arc::unwrap_or_clone))
    }
}

/// Bytes of the operands of a chain that are packed with it.
pub(crate) fn packed_bytes(graph: &Graph, chain: &Chain) -> u64 {
    let nodes = [Some(chain.first), chain.norm].into_iter().flatten().filter_map(|id| graph.node(id));
    let operands = nodes.flat_map(|node| node.inputs.iter().skip(1).flatten());
    operands.filter_map(|v| graph.value(*v).constant.as_ref()).map(size).fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Network;
    use crate::{Program, Session};
    use quantize_ir::op::{Binary, Gemm};
    use quantize_ir::{ActivationPlan, Op, QuantParams, QuantType, WeightPlan};

    const SIDE: usize = 640;

    /// `(x * w) + c`, both constants large, and a plan for it.
    fn network() -> (Graph, [ValueId; 2], QuantPlan) {
        let mut net = Network::default();
        let x = net.input("x");
        let w = (0..SIDE * SIDE).map(|i| (i % 251) as f32 / 251.0 - 0.5).collect();
        let w = net.constant("w", Tensor::new([SIDE, SIDE], w).unwrap());
        let c = (0..SIDE * SIDE).map(|i| (i % 127) as f32 / 127.0).collect();
        let c = net.constant("c", Tensor::new([SIDE, SIDE], c).unwrap());
        let gemm = Op::Gemm(Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: false });
        let product = net.node("product", gemm, &[x, w]);
        let y = net.node("y", Op::Binary(Binary::Add), &[product, c]);
        let entry = |value| {
            let params = QuantParams::per_tensor(QuantType::U8, 0.125, 3).unwrap();
            (value, ActivationPlan { params, shares: value, method: "minmax".into(), sqnr_db: None })
        };
        let codes = (0..SIDE * SIDE).map(|i| (i % 255) as i32 as u8 as i8).map(|c| c.max(-127)).collect();
        let weight = WeightPlan {
            params: QuantParams::per_tensor(QuantType::I8Narrow, 0.25, 0).unwrap(),
            codes: Arc::new(Tensor::new([SIDE, SIDE], codes).unwrap()),
            sqnr_db: 0.0,
        };
        let plan = QuantPlan {
            activations: [entry(x), entry(product), entry(y)].into_iter().collect(),
            weights: [((net.producer(product), 1), weight)].into_iter().collect(),
            ..QuantPlan::default()
        };
        (net.graph, [x, y], plan)
    }

    #[test]
    fn streamed_constants_give_the_results_of_kept_ones() {
        let (graph, [x, y], plan) = network();
        let input = Tensor::new([1, SIDE], (0..SIDE).map(|i| (i % 31) as f32 - 15.0).collect()).unwrap();
        for plan in [QuantPlan::default(), plan] {
            let run = |constants| {
                let program = Program::compile_with(&graph, &[y], &plan, constants).unwrap();
                let fed = [(x, input.clone())];
                let mut session = Session::new(&program);
                let first = session.run(&fed, &mut ()).unwrap();
                assert_eq!(session.run(&fed, &mut ()).unwrap(), first);
                (first, program.streamed_bytes())
            };
            let (kept, none) = run(Constants::Resident);
            let (streamed, some) = run(Constants::Streamed);
            assert_eq!(kept, streamed);
            assert_eq!((none, some), (0, (SIDE * SIDE * 4) as u64));
        }
    }

    #[test]
    fn the_bytes_of_all_constants_decide() {
        let (graph, ..) = network();
        let bytes = 2 * (SIDE * SIDE * 4) as u64;
        assert_eq!(Constants::within(&graph, bytes), Constants::Resident);
        assert_eq!(Constants::within(&graph, bytes - 1), Constants::Streamed);
    }
}
