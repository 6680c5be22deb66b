//! Transforms of graphs, those of `transform_graph`, and the language that requests them.
//!
//! | module | what lives there |
//! |---|---|
//! | `language` | requests |
//! | `structure` | unused nodes, nodes without effect, the order of nodes |
//! | `fold_constants` | what depends on constants only |
//! | `batch_norm`, `old_batch_norm` | batch normalization into the weights before it |
//! | `subdivmul`, `scaled_branch` | the same, written as arithmetic; factors of branches |
//! | `chain` | what these match |
//! | `stored_weights` | constants in a byte, or of few values |
//! | `logging`, `frozen_ranges` | ranges of running graphs: printing them, and making them constants |
//! | `frozen_extremes` | the same for single extremes |
//! | `fuse_requantize`, `rerange_concat` | operators on codes that write codes of a fixed range |
//! | `fused` | what is known of these operators |
//! | `atrous` | convolutions between `SpaceToBatchND` and `BatchToSpaceND` |
//! | `merge` | nodes that compute the same |
//! | `attributes` | names, attributes, operators and devices |
//! | `defaults` | attributes that nodes leave out |
//! | `unsupported` | what the original has and this has not |
//! | `rewire` | what several of them do to inputs |

mod atrous;
mod attributes;
pub(crate) mod batch_norm;
mod chain;
mod defaults;
mod fold_constants;
mod frozen_extremes;
mod frozen_ranges;
mod fuse_requantize;
mod fused;
pub mod language;
mod logging;
mod merge;
mod old_batch_norm;
mod rerange_concat;
pub(crate) mod rewire;
mod scaled_branch;
mod stored_weights;
mod structure;
mod subdivmul;
mod unsupported;

pub(crate) use frozen_ranges::RANGE;
pub(crate) use logging::PRINT;

use crate::error::TensorflowError;
use crate::graph::GraphDef;
use crate::names::nearest;
use language::{Call, misplaced};
use quantize_document::{Limits, Problem};
use quantize_ir::{Op, Tensor};
use unsupported::UNSUPPORTED;

/// Computes operators on constants.
pub trait Evaluator {
    /// The result of an operator.
    ///
    /// # Errors
    /// If the operands do not fit, or the result is too large.
    fn evaluate(&self, op: Op, operands: &[&Tensor]) -> Result<Tensor, String>;
}

/// What transforms work with.
pub struct Setting<'a> {
    /// Names of the nodes that are fed.
    pub inputs: Vec<String>,
    /// Names of the nodes that are wanted.
    pub outputs: Vec<String>,
    /// Bounds of files that transforms read.
    pub limits: Limits,
    /// Computes constants.
    pub evaluator: &'a dyn Evaluator,
}

impl std::fmt::Debug for Setting<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Setting").field("inputs", &self.inputs).field("outputs", &self.outputs).finish_non_exhaustive()
    }
}

impl Setting<'_> {
    /// Whether a node is fed or wanted, and so must stay.
    fn is_end(&self, name: &str) -> bool {
        self.inputs.iter().chain(&self.outputs).any(|end| end == name)
    }
}

/// A transform: the changed graph, and what deserves attention.
type Apply = fn(&GraphDef, &Call, &Setting<'_>, &mut Vec<Problem>) -> Result<GraphDef, TensorflowError>;

struct Transform {
    name: &'static str,
    parameters: &'static [&'static str],
    apply: Apply,
}

/// The parameter that every transform has.
const IGNORE_ERRORS: &str = "ignore_errors";

/// Every transform, with its parameters.
const TRANSFORMS: &[Transform] = &[
    Transform { name: "add_default_attributes", parameters: &[], apply: defaults::add },
    Transform { name: "flatten_atrous_conv", parameters: &[], apply: atrous::flatten },
    Transform { name: "fold_batch_norms", parameters: &[], apply: batch_norm::fold },
    Transform { name: "fold_constants", parameters: &["clear_output_shapes"], apply: fold_constants::fold },
    Transform { name: "fold_convolutionwithbias_mul", parameters: &[], apply: scaled_branch::fold },
    Transform { name: "fold_old_batch_norms", parameters: &[], apply: old_batch_norm::fold },
    Transform { name: "fold_subdivmul_batch_norms", parameters: &[], apply: subdivmul::fold },
    Transform { name: "freeze_max", parameters: &["min_max_log_file"], apply: frozen_extremes::freeze_max },
    Transform { name: "freeze_min", parameters: &["min_max_log_file"], apply: frozen_extremes::freeze_min },
    Transform {
        name: "freeze_requantization_ranges",
        parameters: &["min_max_log_file", "min_percentile", "max_percentile"],
        apply: frozen_ranges::freeze,
    },
    Transform { name: "fuse_quantized_conv_and_requantize", parameters: &["rules"], apply: fuse_requantize::fuse },
    Transform {
        name: "insert_logging",
        parameters: &["op", "prefix", "message", "show_name", "show_op", "first_n", "summarize"],
        apply: logging::insert,
    },
    Transform { name: "merge_duplicate_nodes", parameters: &[], apply: merge::merge },
    Transform { name: "obfuscate_names", parameters: &[], apply: attributes::obfuscate },
    Transform { name: "quantize_weights", parameters: &["minimum_size"], apply: stored_weights::quantize },
    Transform { name: "remove_attribute", parameters: &["attribute_name", "op_name"], apply: attributes::remove },
    Transform { name: "remove_control_dependencies", parameters: &[], apply: attributes::remove_control },
    Transform { name: "remove_device", parameters: &[], apply: attributes::remove_device },
    Transform { name: "remove_nodes", parameters: &["op", "max_inputs"], apply: structure::remove_nodes },
    Transform {
        name: "rename_attribute",
        parameters: &["old_attribute_name", "new_attribute_name", "op_name"],
        apply: attributes::rename,
    },
    Transform { name: "rename_node", parameters: &["old_node_name", "new_node_name"], apply: attributes::rename_node },
    Transform { name: "rename_op", parameters: &["old_op_name", "new_op_name"], apply: attributes::rename_op },
    Transform { name: "rerange_quantized_concat", parameters: &[], apply: rerange_concat::rerange },
    Transform { name: "round_weights", parameters: &["num_steps"], apply: stored_weights::round },
    Transform { name: "set_device", parameters: &["device", "if_default"], apply: attributes::set_device },
    Transform { name: "sort_by_execution_order", parameters: &[], apply: structure::sort },
    Transform {
        name: "strip_unused_nodes",
        parameters: &["type", "shape", "name", "type_for_name", "shape_for_name"],
        apply: structure::strip_unused,
    },
];

/// Names of all transforms, in alphabetical order.
pub fn transform_names() -> impl Iterator<Item = &'static str> {
    TRANSFORMS.iter().map(|transform| transform.name)
}

/// A changed graph and what deserves attention, in the order of the transforms.
#[derive(Clone, Debug)]
pub struct Transformed {
    /// The graph.
    pub graph: GraphDef,
    /// Remarks.
    pub problems: Vec<Problem>,
}

/// Carries out transforms one after the other. Each leaves a graph whose inputs all name nodes.
///
/// # Errors
/// If a transform or a parameter does not exist, or one fails and does not have `ignore_errors=true`.
pub fn transform(graph: &GraphDef, calls: &[Call], setting: &Setting<'_>) -> Result<Transformed, TensorflowError> {
    let known = calls.iter().map(|call| Ok((call, find(call)?))).collect::<Result<Vec<_>, TensorflowError>>()?;
    let mut done = Transformed { graph: graph.clone(), problems: Vec::new() };
    for (call, transform) in known {
        let ignore = call.flag(IGNORE_ERRORS, false)?;
        match run(&done.graph, call, transform, setting) {
            Ok((graph, problems)) => {
                done.graph = graph;
                done.problems.extend(problems);
            }
            Err(error) if ignore => {
                let message = format!("{} failed and was left out: {error}", call.name);
                done.problems.push(Problem::general(message));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

fn run(
    graph: &GraphDef,
    call: &Call,
    transform: &Transform,
    setting: &Setting<'_>,
) -> Result<(GraphDef, Vec<Problem>), TensorflowError> {
    let mut problems = Vec::new();
    let changed = (transform.apply)(graph, call, setting, &mut problems)?;
    changed.index()?.check_inputs()?;
    Ok((changed, problems))
}

/// The transform of a request.
fn find(call: &Call) -> Result<&'static Transform, TensorflowError> {
    let Some(transform) = TRANSFORMS.iter().find(|transform| transform.name == call.name) else {
        if let Some((name, instead)) = UNSUPPORTED.iter().find(|(name, _)| *name == call.name) {
            let error = misplaced(call.position, format!("Transform '{name}' is known, but not carried out here."));
            return Err(error.with_hint(*instead));
        }
        let error = misplaced(call.position, format!("Transform '{}' not recognized.", call.name));
        return Err(match nearest(&call.name, transform_names()) {
            Some(suggestion) => error.with_hint(suggestion),
            None => error.with_hint(format!("there are {}", transform_names().collect::<Vec<_>>().join(", "))),
        });
    };
    let allowed = || transform.parameters.iter().copied().chain([IGNORE_ERRORS]);
    match call.parameters.iter().find(|parameter| !allowed().any(|name| name == parameter.name)) {
        None => Ok(transform),
        Some(parameter) => {
            let cause = format!("{} has no parameter `{}`", call.name, parameter.name);
            let error = misplaced(parameter.position, cause);
            let all = || format!("it has {}", allowed().collect::<Vec<_>>().join(", "));
            Err(error.with_hint(nearest(&parameter.name, allowed()).unwrap_or_else(all)))
        }
    }
}

#[cfg(test)]
mod tests;
