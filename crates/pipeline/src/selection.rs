//! Which nodes a caller's `--skip` patterns mean.

use crate::error::Error;
use globset::Glob;
use quantize_ir::{Graph, NodeId};
use std::collections::BTreeSet;

/// Candidates named in the message when a pattern matches nothing.
const CANDIDATES: usize = 8;

/// Nodes that match one of `patterns`: by exact name, else by glob, in which `*` crosses every separator.
///
/// # Errors
/// If a pattern is malformed, or matches no node and is not `*`.
pub(crate) fn matching(graph: &Graph, patterns: &[String]) -> Result<BTreeSet<NodeId>, Error> {
    let labels: Vec<(NodeId, String)> = graph.nodes().map(|(id, _)| (id, graph.label(id))).collect();
    let mut all = BTreeSet::new();
    for pattern in patterns {
        let matched = match_one(&labels, pattern)?;
        if matched.is_empty() && pattern != "*" {
            return Err(Error::SkipMatchesNothing {
                pattern: pattern.clone(),
                candidates: candidates(&labels, pattern),
            });
        }
        all.extend(matched);
    }
    Ok(all)
}

fn match_one(labels: &[(NodeId, String)], pattern: &str) -> Result<Vec<NodeId>, Error> {
    let exact: Vec<NodeId> = labels.iter().filter(|(_, l)| l == pattern).map(|(id, _)| *id).collect();
    if !exact.is_empty() {
        return Ok(exact);
    }
    let malformed = |e: globset::Error| Error::SkipPattern { pattern: pattern.to_owned(), cause: e.kind().to_string() };
    let glob = Glob::new(pattern).map_err(malformed)?.compile_matcher();
    Ok(labels.iter().filter(|(_, l)| glob.is_match(l)).map(|(id, _)| *id).collect())
}

/// Names that share the longest piece with the pattern's letters, else the first ones.
fn candidates(labels: &[(NodeId, String)], pattern: &str) -> Vec<String> {
    let core =
        pattern.split(['*', '?', '[', ']', '{', '}']).max_by_key(|piece| piece.len()).unwrap_or("").to_lowercase();
    let stem: String = core.chars().take(core.chars().count().div_ceil(2).max(1)).collect();
    let close = labels.iter().filter(|(_, l)| !stem.is_empty() && l.to_lowercase().contains(&stem));
    let mut named: Vec<String> = close.map(|(_, l)| format!("`{l}`")).take(CANDIDATES).collect();
    if named.is_empty() {
        named = labels.iter().map(|(_, l)| format!("`{l}`")).take(CANDIDATES).collect();
    }
    if labels.len() > named.len() {
        named.push("…".into());
    }
    named
}

#[cfg(test)]
mod tests {
    use super::*;
    use quantize_ir::op::Unary;
    use quantize_ir::{Node, Op, Origin, Value};

    fn graph(names: &[&str]) -> Graph {
        let mut graph = Graph::new();
        for name in names {
            let output = graph.add_value(Value::named(format!("{name}_out")));
            let origin = Origin::Synthesized { pass: "test", from: vec![] };
            let (op, outputs) = (Op::Unary(Unary::Relu), vec![Some(output)]);
            graph.add_node(Node { name: (*name).into(), op, inputs: vec![], outputs, after: vec![], origin }).unwrap();
        }
        graph
    }

    fn count(names: &[&str], pattern: &str) -> Result<usize, Error> {
        matching(&graph(names), &[pattern.to_owned()]).map(|m| m.len())
    }

    #[test]
    fn names_and_globs() {
        let names = ["conv1", "conv2", "block/conv", "odd[0]", ""];
        assert_eq!(count(&names, "conv1").unwrap(), 1);
        assert_eq!(count(&names, "conv*").unwrap(), 2);
        assert_eq!(count(&names, "*").unwrap(), 5);
        assert_eq!(count(&names, "*conv").unwrap(), 1);
        assert_eq!(count(&names, "odd[0]").unwrap(), 1, "an exact name wins over its reading as a pattern");
        assert_eq!(count(&names, "Relu->_out").unwrap(), 1, "nameless nodes go by their label");
        assert_eq!(count(&[], "*").unwrap(), 0, "`*` may match nothing");
    }

    #[test]
    fn a_pattern_without_match_names_close_nodes() {
        let error = count(&["stem_conv", "fc"], "stem_cnov").unwrap_err();
        assert_eq!(error.to_string(), "`--skip stem_cnov` matches no node of the model");
        assert_eq!(error.hint().unwrap(), "nodes of this model: `stem_conv`, …");
        assert!(matches!(count(&["a"], "[").unwrap_err(), Error::SkipPattern { .. }));
    }
}
