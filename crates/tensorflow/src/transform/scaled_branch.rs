//! `fold_convolutionwithbias_mul`: a factor between a convolution with bias and the sum of two branches goes into its
//! weights and its bias.

use super::Setting;
use super::batch_norm::scaled;
use super::chain::{Readers, numbers, operand, operand_of, shared, weights_of};
use super::language::Call;
use super::rewire::Rewire;
use crate::dtype::DataType;
use crate::error::TensorflowError;
use crate::graph::{GraphDef, GraphIndex};
use crate::node::NodeDef;
use crate::tensor::TensorProto;
use quantize_document::{Location, Problem};
use quantize_ir::Tensor;
use std::collections::{BTreeMap, BTreeSet};

/// Axes of images.
const IMAGE_RANK: usize = 4;

/// `Mul(BiasAdd(Conv2D(x, weights), bias), factor)`, which an addition reads.
struct Match<'g> {
    product: &'g NodeDef,
    factor: &'g NodeDef,
    sum: &'g NodeDef,
    bias: &'g NodeDef,
    conv: &'g NodeDef,
    weights: &'g NodeDef,
}

/// Folds every such factor. The addition reads the `BiasAdd`; all names but those of the product and the factor stay.
pub(super) fn fold(
    graph: &GraphDef,
    _: &Call,
    setting: &Setting<'_>,
    problems: &mut Vec<Problem>,
) -> Result<GraphDef, TensorflowError> {
    let index = graph.index()?;
    let readers = index.consumers()?;
    let (mut changed, mut gone, mut rewire) = (BTreeMap::new(), BTreeSet::new(), Rewire::default());
    let products = graph.nodes().iter().filter(|node| matches!(node.op(), "Add" | "AddV2"));
    for product in products.flat_map(|sum| [operand_of(&index, sum, 0, "Mul"), operand_of(&index, sum, 1, "Mul")]) {
        let Some(found) = product.and_then(|product| find(&index, product)) else { continue };
        if let Some(reason) = reason_against(&index, &readers, setting, &found)? {
            problems.push(Problem::of_node(found.product.name(), format!("not folded: {reason}")));
            continue;
        }
        let [weights, bias] = folded(&found)?;
        changed.insert(found.weights.name(), weights);
        changed.insert(found.bias.name(), bias);
        gone.extend([found.product.name(), found.factor.name()]);
        rewire.node(found.product.name(), found.sum.name().to_owned());
    }
    let stays = graph.nodes().iter().filter(|node| !gone.contains(node.name()));
    let mut nodes: Vec<NodeDef> =
        stays.map(|node| changed.remove(node.name()).unwrap_or_else(|| node.clone())).collect();
    nodes.iter_mut().for_each(|node| rewire.apply(node));
    Ok(graph.with_nodes(nodes))
}

/// What a product multiplies, in either order.
fn find<'g>(index: &GraphIndex<'g>, product: &'g NodeDef) -> Option<Match<'g>> {
    let at = |slot: usize| Some((operand_of(index, product, slot, "BiasAdd")?, operand(index, product, 1 - slot)?));
    let (sum, factor) = at(0).or_else(|| at(1))?;
    let conv = operand_of(index, sum, 0, "Conv2D")?;
    let constant = |node: &NodeDef| operand_of(index, node, 1, "Const");
    let factor = Some(factor).filter(|factor| factor.op() == "Const")?;
    Some(Match { product, factor, sum, bias: constant(sum)?, conv, weights: constant(conv)? })
}

/// Why a factor must stay.
fn reason_against(
    index: &GraphIndex<'_>,
    readers: &Readers,
    setting: &Setting<'_>,
    found: &Match<'_>,
) -> Result<Option<String>, TensorflowError> {
    let Match { product, factor, sum, bias, conv, weights } = *found;
    if let Some(reason) = shared(index, readers, setting, [product, factor, sum, bias, conv, weights]) {
        return Ok(Some(reason));
    }
    // A factor of more axes than an image gives its result more axes.
    let rank = factor.constant_value()?.map_or(0, |value| value.rank());
    let is_single = numbers(factor)?.len() == 1 && rank <= IMAGE_RANK;
    Ok((!is_single).then(|| "its factor is no single number".to_owned()))
}

/// Weights and bias times the factor.
fn folded(found: &Match<'_>) -> Result<[NodeDef; 2], TensorflowError> {
    let about = |cause: String| TensorflowError::invalid(Location::node(found.product.name()), cause);
    let factor = numbers(found.factor)?;
    if !factor.iter().all(|factor| factor.is_finite()) {
        return Err(about(format!("its factor `{}` is not finite", found.factor.name())));
    }
    let (weights, channels) = weights_of(found.conv, found.weights)?;
    let bias = numbers(found.bias)?;
    if bias.len() != channels {
        let cause = format!("`{}` has {} elements for {channels} channels", found.bias.name(), bias.len());
        return Err(about(cause));
    }
    let mut nodes = [found.weights.clone(), found.bias.clone()];
    nodes[0].set_attr("value", scaled(&weights, &factor).map_err(about)?);
    let bias: Vec<f32> = bias.iter().zip(factor.iter().cycle()).map(|(bias, factor)| bias * factor).collect();
    nodes[1].set_attr("value", TensorProto::new(DataType::FLOAT, &Tensor::vector(bias)).map_err(about)?);
    Ok(nodes)
}

#[cfg(test)]
mod tests {
    use crate::node::NodeDef;
    use crate::transform::tests::{floats, names, node, run, setting, values};

    const REQUEST: &str = "fold_convolutionwithbias_mul";

    fn branch(factor: &[f32], order: [&str; 2]) -> Vec<NodeDef> {
        vec![
            node("x", "Placeholder", &[]),
            floats("w", &[1, 1, 1, 2], &[1.0, 2.0]),
            node("conv", "Conv2D", &["x", "w"]),
            floats("b", &[2], &[3.0, -4.0]),
            node("biased", "BiasAdd", &["conv", "b"]),
            floats("s", &[factor.len()], factor),
            node("mul", "Mul", &order),
            node("y", "AddV2", &["x", "mul"]),
        ]
    }

    #[test]
    fn the_factor_goes_into_weights_and_bias() {
        for order in [["biased", "s"], ["s", "biased"]] {
            let done = run(branch(&[0.5], order), REQUEST, &setting(&["x"], &["y"])).unwrap().graph;
            assert_eq!(names(&done), ["x", "w", "conv", "b", "biased", "y"]);
            assert_eq!((values(&done, "w"), values(&done, "b")), (vec![0.5, 1.0], vec![1.5, -2.0]));
            assert_eq!(done.nodes()[5].inputs(), ["x", "biased"]);
        }
    }

    #[test]
    fn what_is_no_single_factor_or_is_read_elsewhere_stays() {
        let stays = |nodes, outputs: &[&str], why: &str| {
            let done = run(nodes, REQUEST, &setting(&["x"], outputs)).unwrap();
            assert_eq!(done.graph.nodes().len(), 8);
            assert!(done.problems.iter().any(|problem| problem.message.contains(why)), "{:?}", done.problems);
        };
        stays(branch(&[1.0, 2.0], ["biased", "s"]), &["y"], "no single number");
        stays(branch(&[], ["biased", "s"]), &["y"], "no single number");
        let mut deep = branch(&[0.5], ["biased", "s"]);
        deep[5] = floats("s", &[1; 5], &[0.5]);
        stays(deep, &["y"], "no single number");
        stays(branch(&[1.0], ["biased", "s"]), &["y", "biased"], "`biased` has other readers");
        let twice = branch(&[1.0], ["biased", "biased"]);
        assert_eq!(run(twice, REQUEST, &setting(&["x"], &["y"])).unwrap().graph.nodes().len(), 8);
        let error = run(branch(&[f32::NAN], ["biased", "s"]), REQUEST, &setting(&["x"], &["y"])).unwrap_err();
        assert!(error.to_string().contains("`s` is not finite"), "{error}");
    }
}
