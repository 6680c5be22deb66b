//! Chosen codes of weights on their way to the runtime.
//!
//! The runtime rounds the network's weights itself, onto the grid of each channel's threshold. So codes reach it as reals
//! that round to them, `code / largest * threshold`, in the weights that are written with the file, with thresholds that
//! are those of the plan's scales. Biases are in the weights' file as they are.

use super::backend::channel_layout;
use super::recipe::XfdnnRecipe;
use crate::error::CaffeError;
use quantize_ir::{
    Graph, Node, NodeId, Op, Operand, Patch, PatchEdit, QuantPlan, Recipe, Tensor, TensorData, WeightPlan,
};
use quantize_numerics::xfdnn::{BitWidth, SymmetricGrid};

/// Operand slot of the weights.
const WEIGHT: usize = 1;

/// `graph` with weights that round to the codes of `plan`, made for it, in every layer that takes corrections.
///
/// # Errors
/// If the plan's entry of a weight does not fit it.
pub fn with_planned_weights(recipe: &XfdnnRecipe, graph: &Graph, plan: &QuantPlan) -> Result<Graph, CaffeError> {
    let mut carried = graph.clone();
    for (id, node) in graph.nodes() {
        let Some((entry, thresholds)) = planned(recipe, graph, plan, id) else { continue };
        let Some(codes) = widened(&entry.codes) else { continue };
        let reals = reals(node, &entry.codes, &codes, &thresholds, recipe.bits);
        let Some(edit) = reals.and_then(|reals| with_weight(graph, id, node, reals)) else { continue };
        let because = format!("`{}` has weights that round to the codes chosen", graph.label(id));
        let patch = Patch { pass: "carry-codes", because, edits: vec![edit] };
        carried.apply(patch).map_err(|source| recipe.broken(source))?;
    }
    Ok(carried)
}

/// The plan's entry of a layer's weights, if it takes corrections, and the threshold of each output channel.
pub(super) fn planned<'p>(
    recipe: &XfdnnRecipe,
    graph: &Graph,
    plan: &'p QuantPlan,
    id: NodeId,
) -> Option<(&'p WeightPlan, Vec<f32>)> {
    let node = graph.node(id).filter(|node| matches!(node.op, Op::Conv(_) | Op::Gemm(_)))?;
    let entry =
        plan.weights.get(&(id, WEIGHT)).filter(|_| plan.quantizes(id) && recipe.takes_corrections(graph, id))?;
    let layout = channel_layout(node, &entry.codes)?;
    let scale = entry.params.scale();
    let largest = f64::from(recipe.bits.largest());
    let threshold =
        |c: usize| scale.get(if scale.len() == 1 { 0 } else { c }).map(|s| (f64::from(*s) * largest) as f32);
    Some((entry, (0..layout.channels).map_while(threshold).collect()))
}

/// The reals of codes.
fn reals(node: &Node, codes: &Tensor, wide: &[i32], thresholds: &[f32], bits: BitWidth) -> Option<Tensor> {
    let layout = channel_layout(node, codes)?;
    let grids = thresholds.iter().map(|th| SymmetricGrid::new(f64::from(*th), bits).ok());
    let grids: Vec<SymmetricGrid> = grids.collect::<Option<_>>()?;
    let mut reals = Vec::with_capacity(wide.len());
    for (channel, run) in layout.runs(wide) {
        let grid = grids.get(channel)?;
        reals.extend(run.iter().map(|code| grid.dequantize(*code)));
    }
    Tensor::new(codes.shape(), reals).ok()
}

fn widened(codes: &Tensor) -> Option<Vec<i32>> {
    match codes.data() {
        TensorData::I8(codes) => Some(codes.iter().map(|q| i32::from(*q)).collect()),
        TensorData::I16(codes) => Some(codes.iter().map(|q| i32::from(*q)).collect()),
        _ => None,
    }
}

/// The edit that gives a node another weight.
fn with_weight(graph: &Graph, id: NodeId, node: &Node, weight: Tensor) -> Option<PatchEdit> {
    let name = graph.value(node.input(WEIGHT)?).name.clone();
    let mut inputs: Vec<Operand> = node.inputs.iter().map(|v| v.map_or(Operand::Absent, Operand::Value)).collect();
    *inputs.get_mut(WEIGHT)? = Operand::Constant { name, tensor: weight };
    Some(PatchEdit::Rewire { node: id, op: node.op.clone(), inputs, outputs: node.outputs.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import;
    use crate::tests::{blob, parse_with, stored};
    use crate::xfdnn::{EntryKinds, FileFormat, WeightThresholds, integer_plan, quantization_file};
    use crate::{CaffeDocument, ReadOptions};
    use proptest::prelude::*;
    use quantize_ir::{ActivationPlan, Decision, IntegerWork, NodePlan, QuantParams, QuantType, ValueId};
    use quantize_numerics::xfdnn::Flavor;
    use quantize_numerics::{AffineParams, Range};
    use std::sync::Arc;

    /// Two convolutions in a row, which share their weights under a name if `shared`.
    fn network(shared: bool) -> Arc<CaffeDocument> {
        let conv = |name: &str, bottom: &str| {
            let param = if shared { "param { name: 'w' }" } else { "" };
            format!(
                "layer {{ name: '{name}' type: 'Convolution' bottom: '{bottom}' top: '{name}' {param} \
                 convolution_param {{ num_output: 2 kernel_size: 1 bias_term: false }} }}\n"
            )
        };
        let (first, second) = (conv("a", "data"), conv("b", "a"));
        let weights = |seed: f32| blob(&[2, 2, 1, 1], &[0.5, -0.25 * seed, 0.125, 1.0]);
        let text = format!("input: 'data' input_dim: [1, 2, 4, 4]\n{first}{second}");
        let weights = [stored("a", &[weights(1.0)]), stored("b", &[weights(2.0)])].concat();
        Arc::new(parse_with(&text, weights, &ReadOptions::default()).unwrap())
    }

    fn recipe(document: &Arc<CaffeDocument>, bits: BitWidth) -> XfdnnRecipe {
        let entries = EntryKinds { inner_product: true, eltwise: true, average_pool: true, scale: true };
        let document = Arc::clone(document);
        XfdnnRecipe { document, bits, entries, keeps_lone_scale: false, corrections: true, float_lrn: false }
    }

    /// A plan with these codes and scales for the weights of both layers.
    fn plan(graph: &Graph, qtype: QuantType, codes: &[i32], scales: [f32; 2]) -> QuantPlan {
        let activation = |shares: ValueId| {
            let range = Range::new(-1.0, 1.0).unwrap();
            let params = AffineParams::new(1.0 / qtype.qmax() as f32, 0, qtype).unwrap();
            let params = QuantParams::from(params).with_range(range);
            ActivationPlan { params, shares, method: "test".into(), sqnr_db: None }
        };
        let stored = |codes: &[i32]| match qtype {
            QuantType::I16Narrow => {
                Tensor::new([2, 2, 1, 1], codes.iter().map(|q| *q as i16).collect::<Vec<_>>()).unwrap()
            }
            _ => Tensor::new([2, 2, 1, 1], codes.iter().map(|q| *q as i8).collect::<Vec<_>>()).unwrap(),
        };
        let weight = || WeightPlan {
            params: QuantParams::per_channel(qtype, 0, scales.to_vec()).unwrap(),
            codes: Arc::new(stored(codes)),
            sqnr_db: 0.0,
        };
        let values = graph.values().filter(|(_, value)| value.constant.is_none());
        QuantPlan {
            activations: values.map(|(id, _)| (id, activation(id))).collect(),
            weights: graph.nodes().map(|(id, _)| ((id, WEIGHT), weight())).collect(),
            nodes: graph.nodes().map(|(id, _)| (id, NodePlan { decision: Decision::Quantize })).collect(),
        }
    }

    proptest! {
        #[test]
        fn the_runtime_rounds_to_the_codes_chosen(
            wide in any::<bool>(),
            shares in prop::collection::vec(-1.0f64..=1.0, 4),
            scales in [1e-6f32..10.0, 1e-6f32..10.0],
            v2 in any::<bool>(),
        ) {
            let (bits, qtype) = match wide {
                true => (BitWidth::Sixteen, QuantType::I16Narrow),
                false => (BitWidth::Eight, QuantType::I8Narrow),
            };
            let codes: Vec<i32> = shares.iter().map(|s| (s * f64::from(qtype.qmax())).round() as i32).collect();
            let document = network(false);
            let (graph, _) = import(&document).unwrap();
            let (recipe, plan) = (recipe(&document, bits), plan(&graph, qtype, &codes, scales));
            let flavor = if v2 { Flavor::V2 } else { Flavor::V3 };
            let planned = WeightThresholds::Planned;
            let file = quantization_file(&recipe, &graph, &plan, planned, FileFormat { flavor, bits }, false).unwrap();
            let carried = with_planned_weights(&recipe, &graph, &plan).unwrap();
            let integers = integer_plan(&document, &carried, &file, flavor, "out.json".into()).unwrap();
            prop_assert_eq!(integers.nodes.len(), 2);
            for node in integers.nodes.values() {
                let IntegerWork::Product { weight, .. } = &node.work else { panic!("{node:?}") };
                let found: Vec<i32> = weight.iter().map(|q| i32::from(*q)).collect();
                prop_assert_eq!(&found, &codes);
            }
        }
    }

    #[test]
    fn layers_that_share_weights_keep_them() {
        let document = network(true);
        let (graph, _) = import(&document).unwrap();
        let recipe = recipe(&document, BitWidth::Eight);
        assert!(graph.nodes().all(|(id, _)| !recipe.takes_corrections(&graph, id)));
        let plan = plan(&graph, QuantType::I8Narrow, &[1, 2, 3, 4], [0.1, 0.1]);
        let carried = with_planned_weights(&recipe, &graph, &plan).unwrap();
        let merged = crate::merged(&document, &carried).unwrap();
        assert!(merged.is_unchanged());
    }

    #[test]
    fn a_network_that_is_not_written_takes_no_corrections() {
        let document = network(false);
        let (graph, _) = import(&document).unwrap();
        let with = recipe(&document, BitWidth::Eight);
        let without = XfdnnRecipe { corrections: false, ..with.clone() };
        assert!(graph.nodes().all(|(id, _)| with.takes_corrections(&graph, id)));
        assert!(graph.nodes().all(|(id, _)| !without.takes_corrections(&graph, id)));
    }
}
