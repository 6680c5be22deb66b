//! Nodes that find the range of a tensor and quantize it, one set for each tensor.

use crate::dtype::DataType;
use crate::node::{Input, NodeDef};
use crate::tensor::TensorProto;
use quantize_ir::Tensor;
use std::collections::{HashMap, HashSet};

/// Codes and the ends of their range, as inputs.
#[derive(Clone, Debug)]
pub(super) struct Coded {
    pub(super) codes: String,
    pub(super) min: String,
    pub(super) max: String,
}

impl Coded {
    /// The first three outputs of a node.
    pub(super) fn of(node: &str) -> Self {
        Self { codes: node.to_owned(), min: format!("{node}:1"), max: format!("{node}:2") }
    }
}

/// Tensors that are quantized already, by the way they are written as inputs, and the nodes that do it.
#[derive(Default)]
pub(super) struct Prologues {
    done: HashMap<String, Coded>,
    /// Beginnings of names whose dimensions are there.
    dims: HashSet<String>,
}

/// Attributes of the nodes that quantize.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// Scaled, halves to even; `Min` and `Max` wait for the tensor.
    Scaled(DataType),
    /// From the least value on.
    MinFirst,
}

impl Prologues {
    /// The codes of `input`, quantized by nodes whose names begin with `prefix` unless it is quantized already. New
    /// nodes go to `out`.
    pub(super) fn codes(
        &mut self,
        prefix: &str,
        input: &str,
        style: Style,
        out: &mut Vec<NodeDef>,
    ) -> Result<Coded, String> {
        let unique = unique_name(input);
        if let Some(known) = self.done.get(&unique) {
            return Ok(known.clone());
        }
        let name = |part: &str| format!("{prefix}_{part}");
        let dims = [name("reshape_dims"), name("reduction_dims")];
        if self.dims.insert(prefix.to_owned()) {
            let waits = match style {
                Style::Scaled(_) => vec![format!("^{}", Input::parse(input).node)],
                Style::MinFirst => Vec::new(),
            };
            for (name, value) in dims.iter().zip([-1i32, 0]) {
                let value = TensorProto::new(DataType::INT32, &Tensor::vector(vec![value]))?;
                out.push(NodeDef::constant(name, value).with_inputs(waits.clone()));
            }
        }
        let [reshape_dims, reduction_dims] = &dims;
        let [reshape, min, max, quantize] =
            ["reshape", "min", "max", "quantize"].map(|part| name(&format!("{part}_{unique}")));
        out.push(NodeDef::new(&reshape, "Reshape").with_inputs([input, reshape_dims]).with_attr("T", DataType::FLOAT));
        for (name, op) in [(&min, "Min"), (&max, "Max")] {
            out.push(
                NodeDef::new(name, op)
                    .with_inputs([&reshape, reduction_dims])
                    .with_attr("T", DataType::FLOAT)
                    .with_attr("Tidx", DataType::INT32)
                    .with_attr("keep_dims", false),
            );
        }
        let node = NodeDef::new(&quantize, "QuantizeV2").with_inputs([input, &min, &max]);
        out.push(match style {
            Style::Scaled(dtype) => {
                node.with_attr("T", dtype).with_attr("mode", "SCALED").with_attr("round_mode", "HALF_TO_EVEN")
            }
            Style::MinFirst => node.with_attr("T", DataType::QUINT8).with_attr("mode", "MIN_FIRST"),
        });
        let coded = Coded::of(&quantize);
        self.done.insert(unique, coded.clone());
        Ok(coded)
    }
}

/// An input as a part of names.
fn unique_name(input: &str) -> String {
    input.replace(':', "__port__").replace('^', "__hat__")
}
