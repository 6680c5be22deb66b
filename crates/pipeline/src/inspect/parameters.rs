//! Which constants of a model are its parameters, and how many there are.
//!
//! Parameters are what training made: weights, biases, statistics, or their codes. Shapes, axes, limits, scales and
//! zero points are not.

use quantize_ir::{Constant, DType, Graph, Node, Op, OperandRole, Origin, ValueId};
use std::collections::BTreeMap;

/// Parameters of one element type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterType {
    /// The type.
    pub dtype: &'static str,
    /// Number of elements.
    pub elements: u64,
    /// Bytes they take.
    pub bytes: u64,
}

/// The parameters of a graph: type and number of elements of each constant that holds some.
#[derive(Debug)]
pub(super) struct Parameters(BTreeMap<ValueId, (DType, u64)>);

impl Parameters {
    /// Those of a graph as it was imported.
    pub(super) fn of(graph: &Graph) -> Self {
        let found = graph.values().filter_map(|(id, value)| {
            let constant = value.constant.as_ref().filter(|_| stands_alone(graph, id))?;
            let dtype = value.dtype.filter(|dtype| holds_parameters(graph, id, *dtype))?;
            let elements = constant.shape().iter().fold(1, |n: u64, d| n.saturating_mul(*d as u64));
            Some((id, (dtype, elements)))
        });
        Self(found.collect())
    }

    /// Parameters that a node reads.
    pub(super) fn of_node(&self, node: &Node) -> u64 {
        node.inputs.iter().flatten().filter_map(|value| self.0.get(value)).map(|(_, n)| *n).fold(0, u64::saturating_add)
    }

    /// All of them by type, each counted once however many nodes read it.
    pub(super) fn by_type(&self) -> Vec<ParameterType> {
        let mut types: BTreeMap<DType, u64> = BTreeMap::new();
        for (dtype, elements) in self.0.values() {
            let sum = types.entry(*dtype).or_default();
            *sum = sum.saturating_add(*elements);
        }
        let entry = |(dtype, elements): (DType, u64)| {
            let bytes = elements.saturating_mul(dtype.size() as u64);
            ParameterType { dtype: dtype.name(), elements, bytes }
        };
        types.into_iter().map(entry).collect()
    }
}

/// Whether a constant stands in the document, packed or not, rather than being computed or made by a front-end.
fn stands_alone(graph: &Graph, value: ValueId) -> bool {
    let made = matches!(graph.value(value).origin, Some(Origin::Synthesized { .. }));
    let stored = matches!(graph.value(value).constant, Some(Constant::Stored { .. }));
    (!made || stored) && graph.producer(value).is_none_or(|(_, node)| node.inputs.is_empty())
}

fn holds_parameters(graph: &Graph, value: ValueId, dtype: DType) -> bool {
    let small = matches!(dtype, DType::I8 | DType::U8 | DType::I16 | DType::U16);
    let real = dtype.is_half() || matches!(dtype, DType::F32 | DType::F64);
    let readers = || graph.value(value).consumers().iter().filter_map(|(id, slot)| Some((graph.node(*id)?, *slot)));
    let converts = |node: &Node| matches!(node.op, Op::Quantize(_) | Op::Dequantize(_));
    if readers().any(|(node, slot)| converts(node) && slot > 0) {
        return false;
    }
    readers().any(|(node, slot)| match node.op {
        Op::Quantize(_) | Op::Dequantize(_) => true,
        Op::BatchNorm(_) | Op::InstanceNorm(_) | Op::LayerNorm(_) => real,
        Op::Opaque(_) => real || small,
        _ => real && node.op.operand_role(slot) != OperandRole::Config,
    })
}
