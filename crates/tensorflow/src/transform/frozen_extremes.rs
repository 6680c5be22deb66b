//! `freeze_min` and `freeze_max`: extremes that a running graph finds become the constants that a log of runs gives.

use super::Setting;
use super::fused::scalar_node;
use super::language::Call;
use super::logging::PRINT;
use super::rewire::Rewire;
use crate::error::TensorflowError;
use crate::graph::GraphDef;
use crate::names::nearest;
use crate::node::NodeDef;
use quantize_document::{Location, Problem, SourceFile};
use std::collections::BTreeMap;
use std::path::Path;

/// Which value of a log in ascending order is taken for a maximum: at 95 % of its length. For a minimum it is the one as
/// far from the other end.
const PART: f64 = 0.95;

/// What an extreme is called.
struct Kind {
    op: &'static str,
    mark: &'static str,
    constant: &'static str,
    part: f64,
}

const MIN: Kind = Kind { op: "Min", mark: "__min:", constant: "frozen_min_only", part: 1.0 - PART };
const MAX: Kind = Kind { op: "Max", mark: "__max:", constant: "frozen_max_only", part: PART };

/// `freeze_min`
pub(super) fn freeze_min(
    graph: &GraphDef,
    call: &Call,
    setting: &Setting<'_>,
    problems: &mut Vec<Problem>,
) -> Result<GraphDef, TensorflowError> {
    freeze(graph, call, setting, problems, &MIN)
}

/// `freeze_max`
pub(super) fn freeze_max(
    graph: &GraphDef,
    call: &Call,
    setting: &Setting<'_>,
    problems: &mut Vec<Problem>,
) -> Result<GraphDef, TensorflowError> {
    freeze(graph, call, setting, problems, &MAX)
}

fn freeze(
    graph: &GraphDef,
    call: &Call,
    setting: &Setting<'_>,
    problems: &mut Vec<Problem>,
    kind: &Kind,
) -> Result<GraphDef, TensorflowError> {
    let path = Path::new(call.needed("min_max_log_file")?);
    let source = SourceFile::read(path, &setting.limits)?;
    let log = parse(&String::from_utf8_lossy(source.bytes()), kind, problems);
    if log.is_empty() {
        let cause = format!("No {} logs were found in the log file", kind.op.to_lowercase());
        let hint = format!("its lines should be like `;NODE__print__;{}[1.5]`", kind.mark);
        return Err(TensorflowError::invalid(Location::file(path), cause).with_hint(hint));
    }
    let index = graph.index()?;
    if let Some(name) = log.keys().find(|name| index.node(name).is_none()) {
        let cause = format!("Nodes were found in the log file that aren't present in the graph: `{name}`");
        let error = TensorflowError::invalid(Location::file(path), cause);
        let hint = nearest(name, graph.nodes().iter().map(NodeDef::name));
        return Err(error.with_hint(hint.unwrap_or("use the log of the graph in which logging was inserted".into())));
    }
    let mut rewire = Rewire::default();
    let mut nodes = Vec::with_capacity(graph.nodes().len());
    for node in graph.nodes() {
        let Some(values) = log.get(node.name()) else {
            nodes.push(node.clone());
            continue;
        };
        if node.op() != kind.op {
            let cause = format!("Node is expected to be a {} op: {}, but is: {}", kind.op, node.name(), node.op());
            return Err(TensorflowError::invalid(Location::node(node.name()), cause));
        }
        let name = format!("{}/{}", node.name(), kind.constant);
        nodes.push(scalar_node(&name, super::frozen_ranges::at(values, kind.part))?);
        rewire.node(node.name(), name);
    }
    nodes.iter_mut().for_each(|node| rewire.apply(node));
    Ok(graph.with_nodes(nodes))
}

/// The finite values of each node in a log.
fn parse(text: &str, kind: &Kind, problems: &mut Vec<Problem>) -> BTreeMap<String, Vec<f32>> {
    let mut log: BTreeMap<String, Vec<f32>> = BTreeMap::new();
    let mut unusable = 0;
    for line in text.lines() {
        let parts: Vec<&str> = line.split(';').collect();
        for pair in parts.windows(2) {
            let [name, value] = pair else { continue };
            let (Some(name), Some(value)) = (name.strip_suffix(PRINT), value.strip_prefix(kind.mark)) else { continue };
            let number = value.strip_prefix('[').and_then(|rest| rest.split_once(']'));
            match number.and_then(|(number, _)| number.trim().parse().ok()).filter(|number: &f32| number.is_finite()) {
                Some(number) => log.entry(name.to_owned()).or_default().push(number),
                None => unusable += 1,
            }
        }
    }
    if unusable > 0 {
        let message = format!("{unusable} values of the log are cut off or not finite, and were left out");
        problems.push(Problem::general(message));
    }
    log
}
