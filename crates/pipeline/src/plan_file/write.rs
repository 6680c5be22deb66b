//! From a plan to its file.

use super::{
    ABSORBED, ActivationEntry, BIAS, BiasEntry, ConstantEntry, FORMAT, KEEP, NodeEntry, PlanFile, QUANTIZE,
    ScaledEntry, VERSION, WEIGHT_ONLY,
};
use crate::error::Error;
use crate::options::RecipeOptions;
use crate::settle::Settled;
use base64::prelude::{BASE64_STANDARD, Engine};
use quantize_ir::{
    ActivationPlan, Decision, Graph, Node, NodeId, OperandRole, QuantParams, QuantPlan, Spread, TensorData, ValueId,
    WeightPlan,
};
use quantize_passes::scaled::Scaled;
use std::path::Path;

/// The content of the plan file that will be written to `path`.
///
/// # Errors
/// If a number cannot be written.
pub(crate) fn bytes(settled: &Settled, model: &Path, recipe: &RecipeOptions, path: &Path) -> Result<Vec<u8>, Error> {
    let (model, range) = (model.display().to_string(), recipe.range.to_string());
    let json = to_json(settled, &model, &range);
    let json = json.map_err(|e| Error::Verification { path: path.to_owned(), cause: e.to_string() })?;
    Ok(json.into_bytes())
}

/// A plan as JSON text, ending in a line break.
///
/// # Errors
/// If a number cannot be written.
pub(super) fn to_json(settled: &Settled, model: &str, range: &str) -> Result<String, serde_json::Error> {
    let Settled { graph, plan, .. } = settled;
    let file = PlanFile {
        format: FORMAT.to_owned(),
        version: VERSION,
        model: model.to_owned(),
        range: range.to_owned(),
        scaled_channels: scaled_channels(settled),
        activations: activations(graph, plan),
        constants: constants(settled),
        biases: biases(settled),
        nodes: nodes(graph, plan),
    };
    let mut text = serde_json::to_string_pretty(&file)?;
    text.push('\n');
    Ok(text)
}

fn scaled_channels(settled: &Settled) -> Vec<ScaledEntry> {
    let label = |id: &NodeId| settled.graph.label(*id);
    let entry = |scaled: &Scaled| ScaledEntry {
        tensor: settled.graph.value(scaled.value).name.clone(),
        readers: scaled.readers.iter().map(label).collect(),
        within: scaled.into.as_ref().map(label),
        factors: scaled.factors.clone(),
    };
    settled.channels.scaled.iter().map(entry).collect()
}

/// JSON has no infinity: an exact tensor has no ratio.
fn finite(db: f64) -> Option<f64> {
    db.is_finite().then(|| (db * 100.0).round() / 100.0)
}

fn only_zero_point(params: &QuantParams) -> Option<i32> {
    match params.zero_point() {
        [one] if *one != 0 && params.spread() == Spread::Tensor => Some(*one),
        _ => None,
    }
}

fn activations(graph: &Graph, plan: &QuantPlan) -> Vec<ActivationEntry> {
    let entry = |(value, a): (&ValueId, &ActivationPlan)| ActivationEntry {
        tensor: graph.value(*value).name.clone(),
        qtype: a.params.qtype().to_string(),
        scale: a.params.scale().first().copied().unwrap_or(1.0),
        zero_point: a.params.zero_point().first().copied().unwrap_or(0),
        range: a.params.range().map(|r| [r.lo(), r.hi()]),
        method: a.method.clone(),
        shares_with: (a.shares != *value).then(|| graph.value(a.shares).name.clone()),
        sqnr_db: a.sqnr_db.and_then(finite),
    };
    plan.activations.iter().map(entry).collect()
}

fn constants(settled: &Settled) -> Vec<ConstantEntry> {
    let Settled { graph, plan, .. } = settled;
    let entry = |(&(node, slot), w): (&(NodeId, usize), &WeightPlan)| {
        let value = graph.node(node).and_then(|n| n.input(slot));
        ConstantEntry {
            node: graph.label(node),
            operand: slot,
            tensor: value.map_or_else(String::new, |v| graph.value(v).name.clone()),
            qtype: w.params.qtype().to_string(),
            axis: w.params.axis().or(w.params.blocks().map(|blocks| blocks.axis)),
            group: w.params.blocks().map(|blocks| blocks.size),
            scale: w.params.scale().to_vec(),
            zero_point: only_zero_point(&w.params),
            zero_points: w.params.blocks().map(|_| w.params.zero_point().to_vec()),
            sqnr_db: finite(w.sqnr_db),
            values: changed_values(settled, node, slot),
            codes: chosen_codes(graph, node, slot, w),
        }
    };
    plan.weights.iter().map(entry).collect()
}

/// Biases without codes that are not the model's.
fn biases(settled: &Settled) -> Vec<BiasEntry> {
    let Settled { graph, plan, .. } = settled;
    let real = graph.nodes().map(|(id, _)| id).filter(|id| !plan.weights.contains_key(&(*id, BIAS)));
    let entry = |id| Some(BiasEntry { node: graph.label(id), values: changed_values(settled, id, BIAS)? });
    real.filter(|id| plan.is_weight_only(*id)).filter_map(entry).collect()
}

/// The elements of a bias that is not the model's.
fn changed_values(settled: &Settled, node: NodeId, slot: usize) -> Option<Vec<f32>> {
    let operand = |graph: &Graph| graph.node(node)?.input(slot);
    let (before, now) = (operand(settled.reference.as_ref()?), operand(&settled.graph)?);
    let changed = before != Some(now);
    let tensor = settled.graph.constant(now).ok().flatten().filter(|_| changed)?;
    tensor.as_slice::<f32>().ok().map(<[f32]>::to_vec)
}

/// The codes of a weight, where they are not those nearest to it.
fn chosen_codes(graph: &Graph, node: NodeId, slot: usize, entry: &WeightPlan) -> Option<String> {
    let found = graph.node(node)?;
    matches!(found.op.operand_role(slot), OperandRole::Weight { .. }).then_some(())?;
    let weight = graph.constant(found.input(slot)?).ok()??;
    let nearest = entry.params.quantizers(weight.shape())?.quantize(weight.as_slice().ok()?);
    let (same, bytes): (bool, Vec<u8>) = match entry.codes.data() {
        TensorData::I8(codes) => {
            let same = codes.iter().map(|q| i32::from(*q)).eq(nearest);
            (same, codes.iter().map(|q| *q as u8).collect())
        }
        TensorData::U8(codes) => {
            let same = codes.iter().map(|q| i32::from(*q)).eq(nearest);
            (same, codes.chunks(2).map(|pair| pair.iter().rev().fold(0, |byte, code| byte << 4 | code)).collect())
        }
        TensorData::I16(codes) => {
            let same = codes.iter().map(|q| i32::from(*q)).eq(nearest);
            (same, codes.iter().flat_map(|q| q.to_le_bytes()).collect())
        }
        _ => return None,
    };
    (!same).then(|| BASE64_STANDARD.encode(bytes))
}

fn nodes(graph: &Graph, plan: &QuantPlan) -> Vec<NodeEntry> {
    let entry = |(id, node): (NodeId, &Node)| {
        let (decision, why) = match plan.nodes.get(&id).map(|n| &n.decision) {
            Some(Decision::Quantize) => (QUANTIZE, None),
            Some(Decision::Absorbed { into }) => (ABSORBED, Some(format!("into `{}`", graph.label(*into)))),
            Some(Decision::WeightOnly) => (WEIGHT_ONLY, None),
            Some(Decision::Keep(reason)) => (KEEP, Some(reason.to_string())),
            None => (KEEP, None),
        };
        NodeEntry { node: graph.label(id), op: node.op.name().to_owned(), decision: decision.to_owned(), why }
    };
    graph.nodes().map(entry).collect()
}
