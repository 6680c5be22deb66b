//! `flatten_atrous_conv`: a convolution between `SpaceToBatchND` and `BatchToSpaceND` becomes one with dilations.
//!
//! The block is the dilation. The paddings of the first and the crops of the last are zeros around the image, less what is
//! cut off again; where these are none, or as many as `SAME` takes, the convolution alone computes the same.

use super::Setting;
use super::batch_norm::has_one_reader;
use super::language::Call;
use crate::error::TensorflowError;
use crate::graph::{GraphDef, GraphIndex};
use crate::node::{NodeDef, Port};
use quantize_document::Problem;
use std::collections::{BTreeMap, BTreeSet};

/// What surrounds a convolution, and the convolution.
struct Match<'g> {
    gather: &'g NodeDef,
    conv: &'g NodeDef,
    spread: &'g NodeDef,
}

/// Replaces every such convolution, which gets the name of the `BatchToSpaceND`. Why one stays is said.
pub(super) fn flatten(
    graph: &GraphDef,
    _: &Call,
    setting: &Setting<'_>,
    problems: &mut Vec<Problem>,
) -> Result<GraphDef, TensorflowError> {
    let index = graph.index()?;
    let readers = index.consumers()?;
    let (mut changed, mut gone) = (BTreeMap::new(), BTreeSet::new());
    for gather in graph.nodes().iter().filter(|node| node.op() == "BatchToSpaceND") {
        let Some(found) = find(&index, gather) else { continue };
        let alone = [found.conv, found.spread].into_iter().all(|node| has_one_reader(&index, &readers, setting, node));
        let flat = if alone { dilated(&index, &found)? } else { Err("others read what lies between".to_owned()) };
        match flat {
            Ok(conv) => {
                changed.insert(gather.name(), conv);
                gone.extend([found.conv.name(), found.spread.name()]);
                gone.extend(own_constants(&index, &readers, setting, &found));
            }
            Err(reason) => problems.push(Problem::of_node(gather.name(), format!("not flattened: {reason}"))),
        }
    }
    let stays = graph.nodes().iter().filter(|node| !gone.contains(node.name()));
    Ok(graph.with_nodes(stays.map(|node| changed.remove(node.name()).unwrap_or_else(|| node.clone())).collect()))
}

fn find<'g>(index: &GraphIndex<'g>, gather: &'g NodeDef) -> Option<Match<'g>> {
    let first = |node: &'g NodeDef| {
        let input = node.data_inputs().next().filter(|input| input.port == Port::Data(0))?;
        index.node(input.node)
    };
    let conv = first(gather).filter(|node| matches!(node.op(), "Conv2D" | "DepthwiseConv2dNative"))?;
    let spread = first(conv).filter(|node| node.op() == "SpaceToBatchND")?;
    Some(Match { gather, conv, spread })
}

/// Constants that only the two nodes around the convolution read.
fn own_constants<'g>(
    index: &GraphIndex<'g>,
    readers: &[Vec<(usize, Port)>],
    setting: &Setting<'_>,
    found: &Match<'g>,
) -> Vec<&'g str> {
    let around = [found.gather.name(), found.spread.name()];
    let read_here = |reader: &(usize, Port)| index.at(reader.0).is_some_and(|node| around.contains(&node.name()));
    let inputs = [found.gather, found.spread].into_iter().flat_map(|node| node.data_inputs().skip(1));
    let nodes = inputs.filter_map(|input| Some((index.position(input.node)?, index.node(input.node)?)));
    nodes
        .filter(|(at, node)| {
            let all_here = readers.get(*at).is_some_and(|readers| readers.iter().all(read_here));
            node.op() == "Const" && all_here && !setting.is_end(node.name())
        })
        .map(|(_, node)| node.name())
        .collect()
}

/// The convolution with dilations, or why there is none.
fn dilated(index: &GraphIndex<'_>, found: &Match<'_>) -> Result<Result<NodeDef, String>, TensorflowError> {
    let Match { gather, conv, spread } = found;
    let ones = |name: &str| -> Result<bool, TensorflowError> {
        Ok(conv.ints(name)?.is_none_or(|steps| steps.iter().all(|step| *step == 1)))
    };
    if !ones("strides")? || !ones("dilations")? {
        return Ok(Err("the convolution has strides or dilations of its own".into()));
    }
    if conv.text("padding")?.as_deref() != Some("VALID") {
        return Ok(Err("the convolution pads blocks of its own".into()));
    }
    if conv.text("data_format")?.is_some_and(|format| format != "NHWC") {
        return Ok(Err("channels are not the last axis".into()));
    }
    let numbers = |node: &NodeDef, slot: usize| -> Result<Option<Vec<i64>>, TensorflowError> {
        let Some(input) = node.data_inputs().nth(slot).filter(|input| input.port == Port::Data(0)) else {
            return Ok(None);
        };
        let Some(constant) = index.node(input.node).filter(|node| node.op() == "Const") else { return Ok(None) };
        Ok(constant.constant_value()?.and_then(|value| value.to_i64_vec().ok()))
    };
    let (block, same_block) = (numbers(spread, 1)?, numbers(gather, 1)?);
    let (Some(block), Some(paddings), Some(crops)) = (block, numbers(spread, 2)?, numbers(gather, 2)?) else {
        return Ok(Err("block, paddings or crops are not constant".into()));
    };
    if Some(&block) != same_block.as_ref() {
        return Ok(Err("the blocks before and behind differ".into()));
    }
    let weight = conv.data_inputs().nth(1).and_then(|input| index.node(input.node));
    let weight = match weight.filter(|node| node.op() == "Const") {
        Some(node) => node.constant_value()?.map(|weight| weight.shape().to_vec()),
        None => None,
    };
    let (Some([height, width, ..]), [down, across]) = (weight.as_deref(), block.as_slice()) else {
        return Ok(Err("the weights are not constant, or blocks do not have two axes".into()));
    };
    let padding = match zeros_around(&paddings, &crops) {
        Some([[0, 0], [0, 0]]) => "VALID",
        Some(zeros) if zeros == [same(*height, *down), same(*width, *across)] => "SAME",
        _ => return Ok(Err("its paddings are neither none nor those of `SAME`".into())),
    };
    let mut flat = (*conv).clone();
    flat.set_name(gather.name());
    let control = [*gather, *spread].into_iter().flat_map(|node| node.inputs().iter().filter(|i| i.starts_with('^')));
    let inputs = spread.inputs().iter().take(1).chain(conv.inputs().iter().skip(1)).chain(control);
    flat.set_inputs(inputs.cloned().collect());
    flat.set_attr("dilations", vec![1, *down, *across, 1]);
    flat.set_attr("padding", padding);
    Ok(Ok(flat))
}

/// Zeros before and behind each of two axes: paddings less crops; `None` if something of the image is cut off.
fn zeros_around(paddings: &[i64], crops: &[i64]) -> Option<[[i64; 2]; 2]> {
    let (&[a, b, c, d], &[e, f, g, h]) = (paddings, crops) else { return None };
    let zeros = [[a.checked_sub(e)?, b.checked_sub(f)?], [c.checked_sub(g)?, d.checked_sub(h)?]];
    zeros.iter().flatten().all(|count| *count >= 0).then_some(zeros)
}

/// Zeros that `SAME` takes before and behind an axis without strides.
fn same(extent: usize, dilation: i64) -> [i64; 2] {
    let all = i64::try_from(extent).unwrap_or(i64::MAX).saturating_sub(1).max(0).saturating_mul(dilation.max(1));
    [all / 2, all - all / 2]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::DataType;
    use crate::tensor::TensorProto;
    use crate::transform::Transformed;
    use crate::transform::tests::{floats, names, node, run, setting};
    use quantize_ir::Tensor;

    fn ints(name: &str, shape: &[usize], values: &[i32]) -> NodeDef {
        let tensor = Tensor::new(shape, values.to_vec()).unwrap();
        NodeDef::constant(name, TensorProto::new(DataType::INT32, &tensor).unwrap())
    }

    fn between(paddings: [i32; 4], crops: [i32; 4]) -> Vec<NodeDef> {
        vec![
            node("x", "Placeholder", &[]),
            floats("w", &[3, 2, 1, 1], &[1.0; 6]),
            ints("block", &[2], &[2, 3]),
            ints("paddings", &[2, 2], &paddings),
            ints("crops", &[2, 2], &crops),
            node("spread", "SpaceToBatchND", &["x", "block", "paddings", "^x"]),
            node("conv", "Conv2D", &["spread", "w"]).with_attr("padding", "VALID").with_attr("strides", vec![1i64; 4]),
            node("y", "BatchToSpaceND", &["conv", "block", "crops"]),
            node("out", "Relu", &["y"]),
        ]
    }

    fn flattened(nodes: Vec<NodeDef>) -> Transformed {
        run(nodes, "flatten_atrous_conv", &setting(&["x"], &["out"])).unwrap()
    }

    #[test]
    fn a_convolution_between_blocks_gets_dilations() {
        // Kernels of 3 by 2 with dilations 2 and 3: `SAME` takes 2 and 2, 1 and 2; the rest fills up blocks.
        for (paddings, crops, padding) in [
            ([0, 0, 0, 0], [0, 0, 0, 0], "VALID"),
            ([0, 1, 0, 2], [0, 1, 0, 2], "VALID"),
            ([2, 2, 1, 2], [0, 0, 0, 0], "SAME"),
            ([2, 3, 1, 4], [0, 1, 0, 2], "SAME"),
        ] {
            let done = flattened(between(paddings, crops));
            assert_eq!(names(&done.graph), ["x", "w", "y", "out"], "{:?}", done.problems);
            let index = done.graph.index().unwrap();
            let conv = index.node("y").unwrap();
            assert_eq!((conv.op(), conv.inputs()), ("Conv2D", &["x".to_owned(), "w".into(), "^x".into()][..]));
            assert_eq!(conv.ints("dilations").unwrap(), Some(vec![1, 2, 3, 1]));
            assert_eq!(conv.text("padding").unwrap().as_deref(), Some(padding));
        }
    }

    #[test]
    fn what_a_dilated_convolution_does_not_compute_stays() {
        let stays = |nodes: Vec<NodeDef>, why: &str| {
            let done = flattened(nodes.clone());
            assert_eq!(done.graph.nodes().len(), nodes.len(), "{why}");
            assert!(done.problems.iter().any(|p| p.message.contains(why)), "{why}: {:?}", done.problems);
        };
        let changed = |name: &str, change: &dyn Fn(&mut NodeDef)| {
            let mut nodes = between([0; 4], [0; 4]);
            change(nodes.iter_mut().find(|node| node.name() == name).unwrap());
            nodes
        };
        stays(between([1, 1, 0, 0], [0; 4]), "neither none nor those of `SAME`");
        stays(between([0; 4], [1, 0, 0, 0]), "neither none nor those of `SAME`");
        stays(changed("conv", &|node| node.set_attr("strides", vec![1i64, 2, 2, 1])), "strides or dilations");
        stays(changed("conv", &|node| node.set_attr("padding", "SAME")), "pads blocks of its own");
        stays(changed("conv", &|node| node.set_attr("data_format", "NCHW")), "channels are not the last axis");
        stays(changed("paddings", &|node| node.set_op("Placeholder")), "not constant");
        stays(changed("paddings", &|node| *node = ints("paddings", &[0], &[])), "neither none");
        stays(changed("block", &|node| *node = ints("block", &[1], &[2])), "do not have two axes");
        stays(changed("out", &|node| node.set_inputs(vec!["y".into(), "conv".into()])), "others read");
    }
}
