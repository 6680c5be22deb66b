//! `fold_subdivmul_batch_norms`: batch normalization written as subtraction, division, multiplication and addition goes
//! into the weights of the convolution before it and a `BiasAdd`.

use super::Setting;
use super::batch_norm::scaled;
use super::chain::{Readers, has_channels_last, numbers, operand_of, shared, weights_of};
use super::language::Call;
use crate::dtype::DataType;
use crate::error::TensorflowError;
use crate::graph::{GraphDef, GraphIndex};
use crate::node::NodeDef;
use crate::tensor::TensorProto;
use quantize_document::{Location, Problem};
use quantize_ir::Tensor;
use std::collections::{BTreeMap, BTreeSet};

/// `BiasAdd(Mul(RealDiv(Sub(Conv2D(x, weights), mean), deviation), gamma), beta)`.
struct Match<'g> {
    sum: &'g NodeDef,
    product: &'g NodeDef,
    quotient: &'g NodeDef,
    difference: &'g NodeDef,
    conv: &'g NodeDef,
    weights: &'g NodeDef,
    mean: &'g NodeDef,
    deviation: &'g NodeDef,
    gamma: &'g NodeDef,
    beta: &'g NodeDef,
}

/// Folds every such chain. Weights and beta keep their names, and so do the convolution and the `BiasAdd`.
pub(super) fn fold(
    graph: &GraphDef,
    _: &Call,
    setting: &Setting<'_>,
    problems: &mut Vec<Problem>,
) -> Result<GraphDef, TensorflowError> {
    let index = graph.index()?;
    let readers = index.consumers()?;
    let (mut changed, mut gone) = (BTreeMap::new(), BTreeSet::new());
    for sum in graph.nodes().iter().filter(|node| node.op() == "BiasAdd") {
        let Some(found) = find(&index, sum) else { continue };
        if let Some(reason) = reason_against(&index, &readers, setting, &found)? {
            problems.push(Problem::of_node(sum.name(), format!("not folded: {reason}")));
            continue;
        }
        let [weights, beta] = folded(&found)?;
        changed.insert(found.weights.name(), weights);
        changed.insert(found.beta.name(), beta);
        changed.insert(sum.name(), biased(&found));
        let inner = [found.product, found.quotient, found.difference, found.mean, found.deviation, found.gamma];
        gone.extend(inner.map(NodeDef::name));
    }
    let stays = graph.nodes().iter().filter(|node| !gone.contains(node.name()));
    Ok(graph.with_nodes(stays.map(|node| changed.remove(node.name()).unwrap_or_else(|| node.clone())).collect()))
}

fn find<'g>(index: &GraphIndex<'g>, sum: &'g NodeDef) -> Option<Match<'g>> {
    let constant = |node: &NodeDef| operand_of(index, node, 1, "Const");
    let product = operand_of(index, sum, 0, "Mul")?;
    let quotient = operand_of(index, product, 0, "RealDiv")?;
    let difference = operand_of(index, quotient, 0, "Sub")?;
    let conv = operand_of(index, difference, 0, "Conv2D")?;
    Some(Match {
        sum,
        product,
        quotient,
        difference,
        conv,
        weights: constant(conv)?,
        mean: constant(difference)?,
        deviation: constant(quotient)?,
        gamma: constant(product)?,
        beta: constant(sum)?,
    })
}

/// Why a chain must stay.
fn reason_against(
    index: &GraphIndex<'_>,
    readers: &Readers,
    setting: &Setting<'_>,
    found: &Match<'_>,
) -> Result<Option<String>, TensorflowError> {
    let Match { product, quotient, difference, conv, weights, mean, deviation, gamma, beta, sum } = *found;
    let inner = [product, quotient, difference, conv, weights, mean, deviation, gamma, beta];
    if let Some(reason) = shared(index, readers, setting, inner) {
        return Ok(Some(reason));
    }
    let last = has_channels_last(conv)? && has_channels_last(sum)?;
    Ok((!last).then(|| "channels are not the last axis".to_owned()))
}

/// Weights times gamma over the deviation, and beta less the mean times the same.
fn folded(found: &Match<'_>) -> Result<[NodeDef; 2], TensorflowError> {
    let about = |cause: String| TensorflowError::invalid(Location::node(found.sum.name()), cause);
    let (weights, channels) = weights_of(found.conv, found.weights)?;
    let parameter = |node: &NodeDef| -> Result<Vec<f32>, TensorflowError> {
        let values = numbers(node)?;
        if values.len() != channels {
            let cause = format!("`{}` has {} elements for {channels} channels", node.name(), values.len());
            return Err(about(cause));
        }
        Ok(values)
    };
    let [mean, deviation] = [parameter(found.mean)?, parameter(found.deviation)?];
    let [gamma, beta] = [parameter(found.gamma)?, parameter(found.beta)?];
    let factors: Vec<f32> = gamma.iter().zip(&deviation).map(|(gamma, deviation)| gamma / deviation).collect();
    if let Some(channel) = factors.iter().position(|factor| !factor.is_finite()) {
        return Err(about(format!("gamma over the deviation of channel {channel} is not finite")));
    }
    let moved = beta.iter().zip(mean.iter().zip(&factors)).map(|(beta, (mean, factor))| beta - mean * factor);
    let mut node = [found.weights.clone(), found.beta.clone()];
    node[0].set_attr("value", scaled(&weights, &factors).map_err(about)?);
    let moved = TensorProto::new(DataType::FLOAT, &Tensor::vector(moved.collect::<Vec<f32>>()));
    node[1].set_attr("value", moved.map_err(about)?);
    Ok(node)
}

/// The `BiasAdd` behind the convolution.
fn biased(found: &Match<'_>) -> NodeDef {
    let mut sum = found.sum.clone();
    let control = sum.inputs().iter().filter(|input| input.starts_with('^')).cloned();
    let data = [found.conv.name().to_owned(), found.beta.name().to_owned()];
    sum.set_inputs(data.into_iter().chain(control.collect::<Vec<String>>()).collect());
    sum
}

#[cfg(test)]
mod tests {
    use crate::node::NodeDef;
    use crate::transform::tests::{floats, names, node, run, setting, values};

    const REQUEST: &str = "fold_subdivmul_batch_norms";

    fn normalized() -> Vec<NodeDef> {
        vec![
            node("x", "Placeholder", &[]),
            floats("w", &[1, 1, 1, 2], &[1.0, 2.0]),
            node("conv", "Conv2D", &["x", "w"]),
            floats("mean", &[2], &[0.5, -1.0]),
            node("sub", "Sub", &["conv", "mean"]),
            floats("sd", &[2], &[2.0, 4.0]),
            node("div", "RealDiv", &["sub", "sd"]),
            floats("gamma", &[2], &[8.0, 2.0]),
            node("mul", "Mul", &["div", "gamma"]),
            floats("beta", &[2], &[1.0, 1.0]),
            node("y", "BiasAdd", &["mul", "beta"]),
        ]
    }

    fn with(name: &str, new: NodeDef) -> Vec<NodeDef> {
        let replaced = |node: NodeDef| if node.name() == name { new.clone() } else { node };
        normalized().into_iter().map(replaced).collect()
    }

    #[test]
    fn the_chain_goes_into_weights_and_bias() {
        let done = run(normalized(), REQUEST, &setting(&["x"], &["y"])).unwrap().graph;
        assert_eq!(names(&done), ["x", "w", "conv", "beta", "y"]);
        // 1 * 8 / 2 and 2 * 2 / 4; 1 - 0.5 * 4 and 1 + 1 * 0.5
        assert_eq!((values(&done, "w"), values(&done, "beta")), (vec![4.0, 1.0], vec![-1.0, 1.5]));
        assert_eq!(done.nodes()[4].inputs(), ["conv", "beta"]);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let error = |nodes| run(nodes, REQUEST, &setting(&["x"], &["y"])).unwrap_err().to_string();
        let short = error(with("gamma", floats("gamma", &[1], &[1.0])));
        assert!(short.contains("`y`") && short.contains("`gamma` has 1 elements for 2 channels"), "{short}");
        let zero = error(with("sd", floats("sd", &[2], &[1.0, 0.0])));
        assert!(zero.contains("channel 1 is not finite"), "{zero}");
        let flat = error(with("w", floats("w", &[2], &[1.0, 2.0])));
        assert!(flat.contains("`w`") && flat.contains("not one of weights"), "{flat}");
    }

    #[test]
    fn what_is_read_elsewhere_or_is_another_chain_stays() {
        for (outputs, nodes) in [
            (&["y", "div"][..], normalized()),
            (&["y"], with("y", node("y", "BiasAdd", &["mul", "beta"]).with_attr("data_format", "NCHW"))),
        ] {
            let done = run(nodes, REQUEST, &setting(&["x"], outputs)).unwrap();
            assert_eq!((done.graph.nodes().len(), done.problems.len()), (11, 1), "{:?}", done.problems);
        }
        for nodes in
            [with("sub", node("sub", "Sub", &["mean", "conv"])), with("mul", node("mul", "Mul", &["div", "x"]))]
        {
            let done = run(nodes, REQUEST, &setting(&["x"], &["y"])).unwrap();
            assert_eq!((done.graph.nodes().len(), done.problems.len()), (11, 0), "{:?}", done.problems);
        }
    }
}
