//! `freeze_requantization_ranges`: ranges that a running graph computes become the constants that a log of runs gives.

use super::Setting;
use super::language::{Call, misplaced};
use super::logging::PRINT;
use super::rewire::Rewire;
use crate::dtype::DataType;
use crate::error::TensorflowError;
use crate::graph::GraphDef;
use crate::names::nearest;
use crate::node::NodeDef;
use crate::tensor::TensorProto;
use quantize_document::{Location, Problem, SourceFile};
use quantize_ir::Tensor;
use std::collections::BTreeMap;
use std::path::Path;

/// What stands before a range in a log.
pub(crate) const RANGE: &str = "__requant_min_max:";

/// Minima and maxima of each node, in the order of the log.
type Log = BTreeMap<String, (Vec<f32>, Vec<f32>)>;

/// Freezes the ranges that a log has.
pub(super) fn freeze(
    graph: &GraphDef,
    call: &Call,
    setting: &Setting<'_>,
    problems: &mut Vec<Problem>,
) -> Result<GraphDef, TensorflowError> {
    let path = Path::new(call.needed("min_max_log_file")?);
    let source = SourceFile::read(path, &setting.limits)?;
    let percent = |name| {
        let percent: f64 = call.number(name, 5.0)?;
        let is_percent = (0.0..=100.0).contains(&percent);
        is_percent.then_some(percent).ok_or_else(|| misplaced(call.position, format!("`{name}` is from 0 to 100")))
    };
    let (low, high) = (percent("min_percentile")?, percent("max_percentile")?);
    let log = parse(&String::from_utf8_lossy(source.bytes()), problems);
    if log.is_empty() {
        let cause = "No min/max range logs were found in the log file";
        return Err(TensorflowError::invalid(Location::file(path), cause)
            .with_hint("its lines should be like `;NODE__print__;__requant_min_max:[0][1.5]`"));
    }
    check_names(graph, &log, path)?;
    let mut rewire = Rewire::default();
    let mut nodes = Vec::with_capacity(graph.nodes().len());
    for node in graph.nodes() {
        let Some((minima, maxima)) = log.get(node.name()) else {
            nodes.push(node.clone());
            continue;
        };
        if !matches!(node.op(), "RequantizationRange" | "RequantizationRangePerChannel") {
            let cause =
                format!("Node is expected to be a RequantizationRange op: {}, but is: {}", node.name(), node.op());
            return Err(TensorflowError::invalid(Location::node(node.name()), cause));
        }
        let range = [at(minima, low / 100.0), at(maxima, 1.0 - high / 100.0)];
        for ((value, name), port) in range.into_iter().zip(["frozen_min", "frozen_max"]).zip(0..) {
            let name = format!("{}/{name}", node.name());
            let value = TensorProto::new(DataType::FLOAT, &Tensor::scalar(value));
            let value = value.map_err(|cause| TensorflowError::invalid(Location::node(&name), cause))?;
            rewire.tensor(node.name(), port, name.clone());
            nodes.push(NodeDef::constant(name, value));
        }
    }
    nodes.iter_mut().for_each(|node| rewire.apply(node));
    Ok(graph.with_nodes(nodes))
}

/// Every node of the log must be in the graph.
fn check_names(graph: &GraphDef, log: &Log, path: &Path) -> Result<(), TensorflowError> {
    let index = graph.index()?;
    let missing: Vec<&str> = log.keys().map(String::as_str).filter(|name| index.node(name).is_none()).collect();
    let Some(first) = missing.first() else { return Ok(()) };
    let listed = missing.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let cause = format!("Nodes were found in the log file that aren't present in the graph: {listed}");
    let error = TensorflowError::invalid(Location::file(path), cause);
    Err(match nearest(first, graph.nodes().iter().map(NodeDef::name)) {
        Some(suggestion) => error.with_hint(suggestion),
        None => error.with_hint("use the log of the graph in which logging was inserted"),
    })
}

/// The value at a part of a list in ascending order, rounded half away from zero.
pub(super) fn at(values: &[f32], part: f64) -> f32 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f32::total_cmp);
    let position = (sorted.len() as f64 * part).round().max(0.0) as usize;
    sorted.get(position.min(sorted.len().saturating_sub(1))).copied().unwrap_or(0.0)
}

/// The ranges in a log. Lines may hold several, and anything else around them.
fn parse(text: &str, problems: &mut Vec<Problem>) -> Log {
    let mut log = Log::new();
    let mut unusable = 0;
    for line in text.lines() {
        let parts: Vec<&str> = line.split(';').collect();
        for (name, range) in parts.iter().zip(parts.iter().skip(1)) {
            let Some(name) = name.strip_suffix(PRINT).filter(|_| range.starts_with(RANGE)) else { continue };
            match numbers(range) {
                Some([min, max]) => {
                    let (minima, maxima) = log.entry(name.to_owned()).or_default();
                    minima.push(min);
                    maxima.push(max);
                }
                None => unusable += 1,
            }
        }
    }
    if unusable > 0 {
        let message = format!("{unusable} ranges of the log are cut off or not finite, and were left out");
        problems.push(Problem::general(message));
    }
    log
}

/// The two finite numbers behind the mark, each in brackets of its own.
fn numbers(range: &str) -> Option<[f32; 2]> {
    let mut pieces = range.strip_prefix(RANGE)?.split('[');
    let ("", Some(min), Some(max), None) = (pieces.next()?, pieces.next(), pieces.next(), pieces.next()) else {
        return None;
    };
    let number = |piece: &str| {
        let (number, rest) = piece.split_once(']')?;
        let number: f32 = number.trim().parse().ok()?;
        (!rest.contains(']') && number.is_finite()).then_some(number)
    };
    Some([number(min)?, number(max)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_found_between_anything_else() {
        let text = "noise\r\n2026-01-01 I x.cc] ;a/b__print__;__requant_min_max:[-1][2.5]\r\n\
                    ;c__print__;__requant_min_max:[0][1];a/b__print__;__requant_min_max:[-2][1e1]\n\
                    ;c__print__;__requant_min_max:[0][nan]\n;c__print__;__requant_min_max:[0]\n;c__print__;other:[0][1]";
        let mut problems = Vec::new();
        let log = parse(text, &mut problems);
        assert_eq!(log["a/b"], (vec![-1.0, -2.0], vec![2.5, 10.0]));
        assert_eq!(log["c"], (vec![0.0], vec![1.0]));
        assert_eq!(log.len(), 2);
        assert!(problems[0].message.starts_with("2 ranges"), "{problems:?}");
    }

    #[test]
    fn percentiles_are_positions() {
        let ten: Vec<f32> = (0..10u8).rev().map(f32::from).collect();
        assert_eq!((at(&ten, 0.05), at(&ten, 0.95)), (1.0, 9.0));
        assert_eq!((at(&ten, 0.0), at(&ten, 1.0)), (0.0, 9.0));
        assert_eq!((at(&[3.0], 0.05), at(&[3.0], 0.95)), (3.0, 3.0));
    }
}
