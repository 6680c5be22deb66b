//! Constants that stay in the graph until someone reads them.

use crate::graph::GraphDef;
use quantize_ir::{Constant, ConstantSource, Tensor};
use std::fmt;
use std::sync::Arc;

/// Constants of a graph by the positions of their nodes, in a shape that need not be the node's.
pub(super) struct StoredConstant {
    graph: Arc<GraphDef>,
    shape: Vec<usize>,
}

impl StoredConstant {
    /// The constant of the node `Const` at `position`, its elements in `shape`.
    pub(super) fn of(graph: &Arc<GraphDef>, position: usize, shape: Vec<usize>) -> Constant {
        let key = u32::try_from(position).unwrap_or(u32::MAX);
        let source = Arc::new(Self { graph: Arc::clone(graph), shape: shape.clone() });
        Constant::Stored { source, key, shape }
    }
}

impl fmt::Debug for StoredConstant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "constant of a graph in shape {:?}", self.shape)
    }
}

impl ConstantSource for StoredConstant {
    fn read(&self, key: u32) -> Result<Tensor, String> {
        let node = usize::try_from(key).ok().and_then(|position| self.graph.nodes().get(position));
        let node = node.ok_or_else(|| format!("the graph has no node {key}"))?;
        let tensor = node.constant_value().map_err(|error| error.to_string())?;
        let tensor = tensor.ok_or_else(|| format!("node `{}` is no constant", node.name()))?;
        tensor.reshaped(self.shape.clone()).map_err(|error| format!("node `{}`: {error}", node.name()))
    }
}
