//! Numbers of dimensions, followed from declared values and constants through the operators.
//!
//! Permuting axes needs them where a front-end declares no shapes. What is not sure stays unknown.

use quantize_ir::{Graph, Node, NodeId, Op, ValueId};

/// The rank of each value of a graph, by position, where it is known.
pub(super) struct Ranks(Vec<Option<usize>>);

impl Ranks {
    /// Follows the nodes of `order`, which is topological.
    pub(super) fn of(graph: &Graph, order: &[NodeId]) -> Self {
        let declared = graph.values().map(|(_, value)| {
            value.constant.as_ref().map(|c| c.shape().len()).or_else(|| value.shape.as_ref().map(Vec::len))
        });
        let mut ranks = Self(declared.collect());
        for node in order.iter().filter_map(|id| graph.node(*id)) {
            let rank = ranks.result(graph, node);
            for value in node.outputs.iter().flatten() {
                if let Some(known) = ranks.0.get_mut(value.index()) {
                    *known = known.or(rank);
                }
            }
        }
        ranks
    }

    /// Number of dimensions of `value`.
    pub(super) fn get(&self, value: ValueId) -> Option<usize> {
        self.0.get(value.index()).copied().flatten()
    }

    fn operand(&self, node: &Node, slot: usize) -> Option<usize> {
        self.get(node.input(slot)?)
    }

    /// The rank of a broadcast of all operands.
    fn broadcast(&self, node: &Node) -> Option<usize> {
        node.inputs.iter().flatten().try_fold(0, |rank, value| Some(rank.max(self.get(*value)?)))
    }

    fn result(&self, graph: &Graph, node: &Node) -> Option<usize> {
        let first = self.operand(node, 0);
        let listed = || list_len(graph, node.input(1)?);
        match &node.op {
            Op::MaxPool(p) => Some(p.kernel.len() + 2),
            Op::AveragePool(p) => Some(p.kernel.len() + 2),
            Op::LpPool(p) => Some(p.kernel.len() + 2),
            Op::Conv(_) | Op::ConvTranspose(_) => first.or_else(|| self.operand(node, 1)),
            Op::Binary(_) | Op::Nary(_) | Op::Where => self.broadcast(node),
            Op::Concat(_) => node.inputs.iter().flatten().find_map(|value| self.get(*value)),
            Op::MatMul => self.broadcast(node).filter(|_| self.both_matrices(node)),
            Op::Gemm(_) | Op::Flatten(_) => Some(2),
            Op::DepthToSpace(_) | Op::SpaceToDepth(_) => Some(4),
            Op::Gather(_) => (first? + self.operand(node, 1)?).checked_sub(1),
            Op::Transpose(t) if !t.perm.is_empty() => Some(t.perm.len()),
            Op::Reshape(_) => listed(),
            Op::Expand => Some(first?.max(listed()?)),
            Op::ConstantOfShape(_) => list_len(graph, node.input(0)?),
            Op::Unsqueeze => first?.checked_add(listed()?),
            Op::Squeeze => first?.checked_sub(listed()?),
            Op::Reduce(r) if !r.keep_dims => first?.checked_sub(listed().filter(|axes| *axes > 0)?),
            Op::ArgMax(m) if !m.keep_dims => first?.checked_sub(1),
            Op::Shape(_) | Op::Range => Some(1),
            Op::Size => Some(0),
            Op::Ranged(_) | Op::Opaque(_) => None,
            _ => first,
        }
    }

    fn both_matrices(&self, node: &Node) -> bool {
        (0..2).all(|slot| self.operand(node, slot).is_some_and(|rank| rank >= 2))
    }
}

/// The length of a vector.
fn list_len(graph: &Graph, value: ValueId) -> Option<usize> {
    let value = graph.value(value);
    match (&value.constant, value.shape.as_deref()) {
        (Some(constant), _) => match constant.shape() {
            [n] => Some(*n),
            _ => None,
        },
        (None, Some([n])) => usize::try_from(n.known()?).ok(),
        _ => None,
    }
}
