//! Element types followed through the operators.

use quantize_ir::{DType, Graph, NodeId};

/// Element types by position of the value: declared, or what the operators make of them, the nodes of `order` being in
/// topological order.
pub(crate) fn element_types(graph: &Graph, order: &[NodeId]) -> Vec<Option<DType>> {
    let mut types: Vec<Option<DType>> = graph.values().map(|(_, value)| value.dtype).collect();
    let get = |types: &[Option<DType>], at: usize| types.get(at).copied().flatten();
    for node in order.iter().filter_map(|id| graph.node(*id)) {
        let operands: Vec<Option<DType>> = node.inputs.iter().map(|v| get(&types, (*v)?.index())).collect();
        for (slot, value) in node.outputs.iter().enumerate() {
            let inferred = node.op.output_dtype(slot, &operands);
            if let Some(known) = value.and_then(|v| types.get_mut(v.index())) {
                *known = known.or(inferred);
            }
        }
    }
    types
}
