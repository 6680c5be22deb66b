//! What onnxruntime makes of a quantized file: whether it loads, and which operators it runs.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::context::Context;
use crate::error::Result;
use crate::workspace;

/// What `check_model.py` prints.
#[derive(Debug, Deserialize)]
pub(super) struct Structure {
    /// Whether all outputs are finite for random input.
    pub(super) finite: bool,
    /// Number of QuantizeLinear nodes in the file.
    pub(super) quantized: usize,
    /// Operators of the graph onnxruntime runs after its optimisations.
    pub(super) ops: BTreeMap<String, usize>,
    /// Names of the file's convolutions that run in float there.
    pub(super) float_convs: Vec<String>,
    /// Share of the multiply-accumulates that run on integers, 0 to 1.
    pub(super) integer_share: f64,
}

impl Structure {
    /// Checks a model with onnx's full check, loads and runs it; the optimized graph goes next to it.
    ///
    /// # Errors
    ///
    /// If the model is not valid, does not load or does not run.
    pub(super) fn of(context: &Context, model: &Path) -> Result<Self> {
        let mut script = context.script("check_model.py");
        workspace::json(script.arg(model).arg("--optimized").arg(model.with_extension("optimized.onnx")))
    }

    /// How often an operator is in the optimized graph.
    pub(super) fn count(&self, op: &str) -> usize {
        self.ops.get(op).copied().unwrap_or(0)
    }

    /// The operators as `49 QLinearConv, 9 QLinearAdd`, most frequent first.
    pub(super) fn describe(&self) -> String {
        let mut ops: Vec<(&str, usize)> = self.ops.iter().map(|(op, count)| (op.as_str(), *count)).collect();
        ops.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        ops.iter().map(|(op, count)| format!("{count} {op}")).collect::<Vec<_>>().join(", ")
    }
}
