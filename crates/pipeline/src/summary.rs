//! What a quantization did, as data: what people read is made of it by the command line.

use crate::accuracy::Accuracy;
use crate::channels::ScalingWorth;
use crate::evidence::Evidence;
use crate::improve::Improvement;
use crate::model::Model;
use crate::options::RecipeOptions;
use crate::search::TargetOutcome;
use crate::settle::Settled;
use quantize_ir::{Decision, Graph, KeepReason, NodeId, NodePlan, OperandRole, QuantPlan};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Bits of a stored scale.
const SCALE_BITS: u32 = 32;

/// Tensors listed as the worst.
const WORST: usize = 5;

/// The outcome of a quantization.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Files written, the model first.
    pub written: Vec<PathBuf>,
    /// Whether the model came from another format.
    pub exported: bool,
    /// Bytes of the fp32 model.
    pub bytes_before: u64,
    /// Bytes of the written model; `None` if what was written is no model.
    pub bytes_after: Option<u64>,
    /// Number of calibration images.
    pub images: usize,
    /// How images were preprocessed, in words; empty without images.
    pub preprocessing: String,
    /// Range method, as the command line spells it.
    pub range: String,
    /// Quantized nodes by operator, in descending number.
    pub quantized: Vec<(String, usize)>,
    /// Nodes that compute in fp32 with weights stored as codes, by operator, in descending number.
    pub weight_only: Vec<(String, usize)>,
    /// How weights in groups are stored, if there are any.
    pub weight_storage: Option<WeightStorage>,
    /// Nodes that vanished into the saturation of another, or were folded into its weights.
    pub folded: usize,
    /// Nodes that stay as they are.
    pub kept: Vec<Kept>,
    /// Tensors that lose most by themselves, worst first.
    pub worst: Vec<WorstTensor>,
    /// What came of a target of accuracy.
    pub target: Option<TargetOutcome>,
    /// What running the network made better.
    pub improvement: Option<Improvement>,
    /// Where reals and codes meet; `None` where that is not the model's to say.
    pub conversions: Option<Conversions>,
    /// What scaling input channels of products is worth; `None` if there was nothing to scale.
    pub smoothing: Option<ScalingWorth>,
    /// What scaling channels between layers is worth; `None` if there was nothing to scale.
    pub equalization: Option<ScalingWorth>,
    /// The simulated int8 model against fp32; `None` if nothing was quantized.
    pub accuracy: Option<Accuracy>,
    /// What would make the model better.
    pub hints: Vec<String>,
    /// What the caller should know.
    pub warnings: Vec<String>,
    /// What passes did, for a verbose log.
    pub log: Vec<String>,
}

/// Weights that became codes in groups.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WeightStorage {
    /// Bits of a code.
    pub bits: u32,
    /// Weights of a group.
    pub group: usize,
    /// Number of weights.
    pub weights: u64,
    /// Bits that a weight takes on average, with its share of scales, zero points and what fills up a short group.
    pub bits_per_weight: f64,
}

/// Operators of a model that turn reals into codes and back, each of which takes time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conversions {
    /// From reals to codes.
    pub to_codes: usize,
    /// From codes to reals.
    pub to_reals: usize,
}

/// Nodes of one operator kept for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The operator.
    pub op: String,
    /// Why.
    pub reason: String,
    /// Labels of the nodes, in graph order.
    pub nodes: Vec<String>,
    /// Whether this is what a reader would want to know: it could have been quantized.
    pub notable: bool,
}

/// A tensor and what quantizing it alone costs.
#[derive(Clone, Debug, PartialEq)]
pub struct WorstTensor {
    /// Its name.
    pub name: String,
    /// What it is: `activation`, `weight` or `constant`.
    pub kind: &'static str,
    /// Node to skip to keep it real.
    pub node: String,
    /// Signal to quantization noise, in dB.
    pub sqnr_db: f64,
}

/// The summary of a model that was written.
pub(crate) fn of(
    model: &Model,
    settled: &Settled,
    recipe: &RecipeOptions,
    accuracy: Option<Accuracy>,
    written: Vec<PathBuf>,
    bytes_after: Option<u64>,
) -> Summary {
    let Settled { graph, plan, evidence, .. } = settled;
    let absorbed = |n: &NodePlan| matches!(n.decision, Decision::Absorbed { .. });
    let gone = |id: NodeId| plan.nodes.get(&id).is_none_or(absorbed);
    Summary {
        written,
        exported: false,
        bytes_before: model.file_bytes(),
        bytes_after,
        images: evidence.as_ref().map_or(0, Evidence::len),
        preprocessing: evidence.as_ref().map_or_else(String::new, |e| e.preparation.clone()),
        range: recipe.range.to_string(),
        quantized: counted(graph, plan, &Decision::Quantize),
        weight_only: counted(graph, plan, &Decision::WeightOnly),
        weight_storage: weight_storage(plan),
        folded: model.graph().nodes().filter(|(id, _)| gone(*id)).count(),
        kept: kept(graph, plan),
        worst: worst(graph, plan),
        target: settled.outcome.clone(),
        improvement: settled.improvement.clone(),
        conversions: None,
        smoothing: settled.channels.smoothing.clone(),
        equalization: settled.channels.equalization.clone(),
        accuracy,
        hints: Vec::new(),
        warnings: model.problems().iter().chain(&settled.warnings).cloned().collect(),
        log: settled.log.clone(),
    }
}

/// How weights in groups are stored.
fn weight_storage(plan: &QuantPlan) -> Option<WeightStorage> {
    let grouped = plan.weights.values().filter_map(|entry| Some((entry, entry.params.blocks()?)));
    let (mut weights, mut stored, mut found) = (0u64, 0u64, None);
    for (entry, blocks) in grouped {
        let bits = entry.params.qtype().bits();
        let groups = entry.params.scale().len() as u64;
        weights += entry.codes.len() as u64;
        stored += groups * (blocks.size as u64 * u64::from(bits) + u64::from(SCALE_BITS + bits));
        found = Some((bits, blocks.size));
    }
    let bits_per_weight = stored as f64 / weights.max(1) as f64;
    found.map(|(bits, group)| WeightStorage { bits, group, weights, bits_per_weight })
}

/// Nodes of one fate by operator, most frequent first.
fn counted(graph: &Graph, plan: &QuantPlan, decision: &Decision) -> Vec<(String, usize)> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for (_, node) in graph.nodes().filter(|(id, _)| plan.nodes.get(id).is_some_and(|n| n.decision == *decision)) {
        *counts.entry(node.op.name().to_owned()).or_default() += 1;
    }
    let mut counts: Vec<(String, usize)> = counts.into_iter().collect();
    counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    counts
}

/// Kept nodes, grouped by operator and reason.
pub(crate) fn kept(graph: &Graph, plan: &QuantPlan) -> Vec<Kept> {
    let mut groups: BTreeMap<(String, KeepReason), Vec<String>> = BTreeMap::new();
    for (id, node) in graph.nodes() {
        if let Some(Decision::Keep(reason)) = plan.nodes.get(&id).map(|n| &n.decision) {
            groups.entry((node.op.name().to_owned(), reason.clone())).or_default().push(graph.label(id));
        }
    }
    let kept = groups.into_iter().map(|((op, reason), nodes)| {
        let dull = matches!(
            reason,
            KeepReason::Folded | KeepReason::NotReal | KeepReason::Scaling | KeepReason::NoWeightCodes
        );
        let notable = !dull;
        Kept { op, reason: reason.to_string(), nodes, notable }
    });
    kept.collect()
}

/// The tensors with the lowest signal-to-noise ratio of their own.
fn worst(graph: &Graph, plan: &QuantPlan) -> Vec<WorstTensor> {
    let activations = plan.activations.iter().filter(|(v, a)| a.shares == **v).filter_map(|(value, a)| {
        let reader = graph.value(*value).consumers().first().map(|(n, _)| *n);
        let node = graph.producer(*value).map(|(id, _)| id).or(reader);
        let name = graph.value(*value).name.clone();
        Some(WorstTensor { name, kind: "activation", node: graph.label(node?), sqnr_db: a.sqnr_db? })
    });
    let constants = plan.weights.iter().filter_map(|(&(id, slot), w)| {
        let node = graph.node(id)?;
        let is_weight = matches!(node.op.operand_role(slot), OperandRole::Weight { .. });
        let kind = if is_weight { "weight" } else { "constant" };
        let name = graph.value(node.input(slot)?).name.clone();
        Some(WorstTensor { name, kind, node: graph.label(id), sqnr_db: w.sqnr_db })
    });
    let mut all: Vec<WorstTensor> = activations.chain(constants).filter(|t| t.sqnr_db.is_finite()).collect();
    all.sort_by(|a, b| a.sqnr_db.total_cmp(&b.sqnr_db).then_with(|| a.name.cmp(&b.name)));
    all.truncate(WORST);
    all
}
