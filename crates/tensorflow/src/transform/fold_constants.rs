//! `fold_constants`: what depends on constants only becomes a constant, and what nobody needs afterwards goes.
//!
//! A folded node keeps its name, so that what refers to it stays as it is.

mod lower;

use super::Setting;
use super::language::Call;
use crate::error::TensorflowError;
use crate::graph::GraphDef;
use crate::node::{NodeDef, Port};
use crate::order::execution_order;
use crate::outputs::output_dtype;
use crate::reach::behind;
use crate::tensor::TensorProto;
use quantize_document::{Location, Problem};
use quantize_ir::Tensor;
use std::collections::HashMap;

/// Larger results stay what they are computed from: 10 MiB of single precision.
const MAX_ELEMENTS: usize = 10 << 18;

/// Folds constants, then leaves out what the outputs do not need, if there are outputs.
pub(super) fn fold(
    graph: &GraphDef,
    call: &Call,
    setting: &Setting<'_>,
    problems: &mut Vec<Problem>,
) -> Result<GraphDef, TensorflowError> {
    let mut graph = graph.clone();
    if call.flag("clear_output_shapes", true)? {
        for node in graph.nodes_mut() {
            node.remove_attr("_output_shapes");
        }
    }
    let folded = folded(&graph, setting, problems)?;
    for (at, constant) in folded {
        if let Some(node) = graph.nodes_mut().get_mut(at) {
            *node = constant;
        }
    }
    if setting.outputs.is_empty() {
        return Ok(graph);
    }
    let index = graph.index()?;
    // What inputs read stays with them: they are fed, but not yet placeholders.
    let needed = behind(&index, &[&setting.outputs[..], &setting.inputs].concat(), &[])?;
    let kept = graph.nodes().iter().zip(needed).filter(|(_, needed)| *needed);
    Ok(graph.with_nodes(kept.map(|(node, _)| node.clone()).collect()))
}

/// The constants that nodes become, by position.
fn folded(
    graph: &GraphDef,
    setting: &Setting<'_>,
    problems: &mut Vec<Problem>,
) -> Result<Vec<(usize, NodeDef)>, TensorflowError> {
    // Values of constants, and of what is computed from them. What is read once more is kept, not computed again.
    let mut values: HashMap<&str, Tensor> = HashMap::new();
    let mut folded = Vec::new();
    for at in execution_order(graph)? {
        let Some(node) = graph.nodes().get(at) else { continue };
        if setting.inputs.iter().any(|input| input == node.name()) {
            continue;
        }
        if node.op() == "Const" {
            // Strings and the like are no numbers: what reads them stays.
            if let Ok(Some(value)) = node.constant_value() {
                values.insert(node.name(), value);
            }
            continue;
        }
        let inputs: Option<Vec<&Tensor>> = node
            .refs()
            .map(|input| match input.port {
                Port::Data(0) => values.get(input.node),
                _ => None,
            })
            .collect();
        let Some(inputs) = inputs.filter(|inputs| !inputs.is_empty()) else { continue };
        match lower::evaluate(node, &inputs, setting.evaluator) {
            Ok(Some(value)) if value.len() <= MAX_ELEMENTS => {
                folded.push((at, constant(node, &value)?));
                values.insert(node.name(), value);
            }
            Ok(_) => {}
            Err(cause) => {
                problems.push(Problem::of_node(node.name(), format!("not folded: {cause}")));
            }
        }
    }
    Ok(folded)
}

fn constant(node: &NodeDef, value: &Tensor) -> Result<NodeDef, TensorflowError> {
    let about = |cause| TensorflowError::invalid(Location::node(node.name()), cause);
    let dtype = output_dtype(node, 0)?;
    let mut constant = NodeDef::constant(node.name(), TensorProto::new(dtype, value).map_err(about)?);
    constant.set_device(node.device());
    Ok(constant)
}
