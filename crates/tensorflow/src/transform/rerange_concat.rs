//! `rerange_quantized_concat`: codes that are put together get one range, so that they are only copied.

use super::Setting;
use super::fuse_requantize::with_coded_biases;
use super::fused::{is_fused_conv, range_position, scalar, scalar_node};
use super::language::Call;
use crate::error::TensorflowError;
use crate::graph::{GraphDef, GraphIndex};
use crate::node::{Input, NodeDef, Port};
use quantize_document::Problem;
use std::collections::{BTreeMap, BTreeSet};

/// Gives the convolutions behind each concatenation, and behind concatenations that share some of them, their joint
/// range; then makes biases behind them 32-bit codes.
pub(super) fn rerange(
    graph: &GraphDef,
    _: &Call,
    _: &Setting<'_>,
    problems: &mut Vec<Problem>,
) -> Result<GraphDef, TensorflowError> {
    let index = graph.index()?;
    let mut groups: Vec<BTreeSet<&str>> = Vec::new();
    for node in graph.nodes().iter().filter(|node| node.op() == "QuantizedConcatV2") {
        match ranges(&index, node)? {
            Some(constants) => join(&mut groups, constants),
            None => {
                let message = "not all of its codes come from fused convolutions with constant ranges";
                problems.push(Problem::of_node(node.name(), message.into()));
            }
        }
    }
    let mut changed = BTreeMap::new();
    for constants in groups {
        let values = constants.iter().map(|name| Ok(scalar(&index, name)?.unwrap_or(0.0)));
        let values = values.collect::<Result<Vec<f32>, TensorflowError>>()?;
        let low = values.iter().copied().fold(f32::INFINITY, f32::min);
        let high = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        for (name, value) in constants.into_iter().zip(values) {
            changed.insert(name, (value, low, high));
        }
    }
    let ends = ends(graph);
    let nodes = graph.nodes().iter().map(|node| match changed.get(node.name()) {
        Some((_, low, high)) => {
            let end = if ends.maxima.contains(node.name()) { *high } else { *low };
            scalar_node(node.name(), end)
        }
        None => Ok(node.clone()),
    });
    let graph = graph.with_nodes(nodes.collect::<Result<_, _>>()?);
    with_coded_biases(&graph, joint_producer)
}

/// Constants that are ends of ranges.
struct Ends<'g> {
    maxima: BTreeSet<&'g str>,
}

fn ends(graph: &GraphDef) -> Ends<'_> {
    let convs = graph.nodes().iter().filter(|node| is_fused_conv(node));
    let maximum = |node| range_inputs(node).map(|[_, max]| Input::parse(max).node);
    Ends { maxima: convs.filter_map(maximum).collect() }
}

/// The ends of the range of a fused convolution.
fn range_inputs(conv: &NodeDef) -> Option<[&str; 2]> {
    let at = range_position(conv.op());
    Some([conv.inputs().get(at)?, conv.inputs().get(at + 1)?])
}

/// Adds a set to those it shares nothing with; those it shares something with become one with it.
fn join<'g>(groups: &mut Vec<BTreeSet<&'g str>>, mut set: BTreeSet<&'g str>) {
    groups.retain(|group| {
        let is_apart = group.is_disjoint(&set);
        if !is_apart {
            set.extend(group.iter().copied());
        }
        is_apart
    });
    groups.push(set);
}

/// The constants of the ranges of all convolutions whose codes a concatenation puts together, if they all are such.
fn ranges<'g>(index: &GraphIndex<'g>, concat: &'g NodeDef) -> Result<Option<BTreeSet<&'g str>>, TensorflowError> {
    let Some(convs) = sources(index, concat) else { return Ok(None) };
    let mut constants = BTreeSet::new();
    for conv in convs {
        let Some(ends) = range_inputs(conv) else { return Ok(None) };
        for end in ends {
            if scalar(index, end)?.is_none() {
                return Ok(None);
            }
            constants.insert(Input::parse(end).node);
        }
    }
    Ok(Some(constants))
}

/// The fused convolutions whose codes a node hands on, through pools and concatenations; none if there are others.
fn sources<'g>(index: &GraphIndex<'g>, node: &'g NodeDef) -> Option<Vec<&'g NodeDef>> {
    let (mut found, mut open, mut met) = (Vec::new(), vec![node], BTreeSet::new());
    while let Some(node) = open.pop() {
        if !met.insert(node.name()) {
            continue;
        }
        let parts = match node.op() {
            "QuantizedMaxPool" | "QuantizedAvgPool" => 1,
            "QuantizedConcatV2" => node.data_inputs().count().checked_sub(1)? / 3,
            _ if is_fused_conv(node) => {
                found.push(node);
                continue;
            }
            _ => return None,
        };
        for input in node.data_inputs().take(parts) {
            open.push(index.node(input.node).filter(|_| input.port == Port::Data(0))?);
        }
    }
    Some(found)
}

/// A fused convolution whose codes arrive at an input, if all that do have its range.
fn joint_producer<'g>(index: &GraphIndex<'g>, input: Input<'_>) -> Option<&'g NodeDef> {
    let convs = sources(index, index.node(input.node)?)?;
    let range = |conv: &NodeDef| {
        let [min, max] = range_inputs(conv)?;
        scalar(index, min).ok().flatten().zip(scalar(index, max).ok().flatten())
    };
    let first = convs.first()?;
    let own = range(first)?;
    convs.iter().all(|conv| range(conv) == Some(own)).then_some(*first)
}
