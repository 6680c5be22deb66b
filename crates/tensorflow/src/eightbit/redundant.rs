//! Codes that become reals and at once codes again in the same range: readers of the second codes read the first.

use crate::error::TensorflowError;
use crate::graph::{GraphDef, GraphIndex};
use crate::node::NodeDef;
use crate::transform::rewire::Rewire;

/// The graph in which nobody reads such codes. The nodes that made them stay for others who read them.
pub(super) fn stripped(graph: &GraphDef) -> Result<GraphDef, TensorflowError> {
    let index = graph.index()?;
    let mut rewire = Rewire::default();
    for quantize in graph.nodes().iter().filter(|node| node.op() == "QuantizeV2") {
        let Some(source) = source(&index, quantize)? else { continue };
        for (input, port) in source.inputs().iter().zip(0..3) {
            rewire.tensor(quantize.name(), port, input.clone());
        }
    }
    let mut nodes = graph.nodes().to_vec();
    nodes.iter_mut().for_each(|node| rewire.apply(node));
    Ok(graph.with_nodes(nodes))
}

/// The `Dequantize` whose codes a `QuantizeV2` makes once more, in the range of the very tensor.
fn source<'g>(index: &GraphIndex<'g>, quantize: &NodeDef) -> Result<Option<&'g NodeDef>, TensorflowError> {
    let inputs: Vec<_> = quantize.data_inputs().collect();
    let [data, min, max] = inputs.as_slice() else { return Ok(None) };
    let (Some(data), Some(min), Some(max)) = (index.node(data.node), index.node(min.node), index.node(max.node)) else {
        return Ok(None);
    };
    let of = |node: &NodeDef| node.inputs().first().cloned();
    let is_own_range = min.op() == "Min" && max.op() == "Max" && of(min) == of(max);
    let is_pair = data.op() == "Dequantize" && data.inputs().len() >= 3 && data.dtype("T")? == quantize.dtype("T")?;
    Ok((is_own_range && is_pair).then_some(data))
}
