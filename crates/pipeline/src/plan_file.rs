//! The plan as a JSON document that people read.
//!
//! The structs here are the file format; everything else uses [`QuantPlan`]. Integer codes are not part of the file:
//! they follow from the parameters and the model.

use crate::error::Error;
use crate::options::RecipeOptions;
use crate::settle::Settled;
use quantize_ir::{Decision, Graph, QuantParams, QuantPlan};
use serde::Serialize;
use std::path::Path;

/// Version of the file format.
const VERSION: u32 = 1;

#[derive(Serialize)]
struct PlanFile<'a> {
    format: &'static str,
    version: u32,
    model: &'a str,
    range: &'a str,
    activations: Vec<ActivationEntry<'a>>,
    constants: Vec<ConstantEntry<'a>>,
    nodes: Vec<NodeEntry<'a>>,
}

#[derive(Serialize)]
struct ActivationEntry<'a> {
    tensor: &'a str,
    #[serde(rename = "type")]
    qtype: String,
    scale: f32,
    zero_point: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    range: Option<[f32; 2]>,
    method: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    shares_with: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sqnr_db: Option<f64>,
}

#[derive(Serialize)]
struct ConstantEntry<'a> {
    node: String,
    operand: usize,
    tensor: &'a str,
    #[serde(rename = "type")]
    qtype: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    axis: Option<usize>,
    scale: &'a [f32],
    #[serde(skip_serializing_if = "Option::is_none")]
    zero_point: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sqnr_db: Option<f64>,
}

#[derive(Serialize)]
struct NodeEntry<'a> {
    node: String,
    op: &'a str,
    decision: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

/// The content of the plan file that will be written to `path`.
///
/// # Errors
/// If a number cannot be written.
pub(crate) fn bytes(settled: &Settled, model: &Path, recipe: &RecipeOptions, path: &Path) -> Result<Vec<u8>, Error> {
    let (model, range) = (model.display().to_string(), recipe.range.to_string());
    let json = to_json(&settled.graph, &settled.plan, &model, &range);
    let json = json.map_err(|e| Error::Verification { path: path.to_owned(), cause: e.to_string() })?;
    Ok(json.into_bytes())
}

/// The plan of `graph` as JSON text, ending in a line break.
///
/// # Errors
/// If a number cannot be written.
fn to_json(graph: &Graph, plan: &QuantPlan, model: &str, range: &str) -> Result<String, serde_json::Error> {
    let file = PlanFile {
        format: "quantize-plan",
        version: VERSION,
        model,
        range,
        activations: activations(graph, plan),
        constants: constants(graph, plan),
        nodes: nodes(graph, plan),
    };
    let mut text = serde_json::to_string_pretty(&file)?;
    text.push('\n');
    Ok(text)
}

/// JSON has no infinity: an exact tensor has no ratio.
fn finite(db: f64) -> Option<f64> {
    db.is_finite().then(|| (db * 100.0).round() / 100.0)
}

fn only_zero_point(params: &QuantParams) -> Option<i32> {
    match params.zero_point() {
        [one] if *one != 0 => Some(*one),
        _ => None,
    }
}

fn activations<'a>(graph: &'a Graph, plan: &'a QuantPlan) -> Vec<ActivationEntry<'a>> {
    let entry = |(value, a): (&quantize_ir::ValueId, &'a quantize_ir::ActivationPlan)| ActivationEntry {
        tensor: &graph.value(*value).name,
        qtype: a.params.qtype().to_string(),
        scale: a.params.scale().first().copied().unwrap_or(1.0),
        zero_point: a.params.zero_point().first().copied().unwrap_or(0),
        range: a.params.range().map(|r| [r.lo(), r.hi()]),
        method: &a.method,
        shares_with: (a.shares != *value).then(|| graph.value(a.shares).name.as_str()),
        sqnr_db: a.sqnr_db.and_then(finite),
    };
    plan.activations.iter().map(entry).collect()
}

fn constants<'a>(graph: &'a Graph, plan: &'a QuantPlan) -> Vec<ConstantEntry<'a>> {
    let entry = |(&(node, slot), w): (&(quantize_ir::NodeId, usize), &'a quantize_ir::WeightPlan)| {
        let value = graph.node(node).and_then(|n| n.input(slot));
        ConstantEntry {
            node: graph.label(node),
            operand: slot,
            tensor: value.map_or("", |v| &graph.value(v).name),
            qtype: w.params.qtype().to_string(),
            axis: w.params.axis(),
            scale: w.params.scale(),
            zero_point: only_zero_point(&w.params),
            sqnr_db: finite(w.sqnr_db),
        }
    };
    plan.weights.iter().map(entry).collect()
}

fn nodes<'a>(graph: &'a Graph, plan: &QuantPlan) -> Vec<NodeEntry<'a>> {
    let entry = |(id, node): (quantize_ir::NodeId, &'a quantize_ir::Node)| {
        let (decision, why) = match plan.nodes.get(&id).map(|n| &n.decision) {
            Some(Decision::Quantize) => ("quantize", None),
            Some(Decision::Absorbed { into }) => ("absorbed", Some(format!("into `{}`", graph.label(*into)))),
            Some(Decision::Keep(reason)) => ("keep", Some(reason.to_string())),
            None => ("keep", None),
        };
        NodeEntry { node: graph.label(id), op: node.op.name(), decision, why }
    };
    graph.nodes().map(entry).collect()
}
