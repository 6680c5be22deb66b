//! What the program says of the convolutions: each computes on codes, or there is a reason why it does not.

use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::conformance::report::Verdict;
use crate::error::{Error, Result, at};

/// Convolutions of ResNet-50.
const CONVOLUTIONS: usize = 53;

/// Whose table is read.
#[derive(Clone, Copy)]
pub(super) enum Table {
    /// That of `eightbit`.
    Eightbit,
    /// That of `run`.
    Run,
}

/// The convolutions of a table.
#[derive(Default)]
struct Convolutions {
    /// Number of those that compute on codes.
    on_codes: usize,
    /// Name and reason of the others.
    kept: Vec<(String, String)>,
}

/// The part of the report of `quantize tf eightbit` that is read here.
#[derive(Deserialize)]
struct Eightbit {
    nodes: Vec<Node>,
}

/// An operator that has a form on codes.
#[derive(Deserialize)]
struct Node {
    name: String,
    op: String,
    becomes: Option<String>,
    reason: Option<String>,
}

/// The part of the report of `quantize tf run` that is read here.
#[derive(Deserialize)]
struct Run {
    quantized: Vec<Count>,
    kept: Vec<Kept>,
}

/// Number of nodes that compute on codes.
#[derive(Deserialize)]
struct Count {
    op: String,
    nodes: usize,
}

/// Names of nodes that stay, and why.
#[derive(Deserialize)]
struct Kept {
    op: String,
    nodes: Vec<String>,
    reason: String,
}

/// Whether a table, as JSON in a file, speaks of all convolutions.
///
/// # Errors
///
/// If the file cannot be read or is another.
pub(super) fn judge(file: &Path, table: Table) -> Result<Verdict> {
    let convolutions = match table {
        Table::Eightbit => of_eightbit(read(file)?),
        Table::Run => of_run(read(file)?),
    };
    let Convolutions { on_codes, kept } = &convolutions;
    let named: Vec<String> = kept.iter().map(|(name, reason)| format!("`{name}`: {reason}")).collect();
    let figures = [vec![format!("{on_codes} of {CONVOLUTIONS} convolutions on codes")], named].concat().join("; ");
    Ok(Verdict::of(figures, &convolutions.unmet()))
}

impl Convolutions {
    fn unmet(&self) -> Vec<String> {
        let unexplained = self.kept.iter().filter(|(_, reason)| reason.is_empty());
        let mut unmet: Vec<String> = unexplained.map(|(name, _)| format!("no reason for `{name}`")).collect();
        let count = self.on_codes + self.kept.len();
        unmet.extend((count != CONVOLUTIONS).then(|| format!("the table has {count} convolutions")));
        unmet
    }
}

fn of_eightbit(table: Eightbit) -> Convolutions {
    let mut found = Convolutions::default();
    for node in table.nodes.into_iter().filter(|node| node.op == "Conv2D") {
        match node.becomes {
            Some(_) => found.on_codes += 1,
            None => found.kept.push((node.name, node.reason.unwrap_or_default())),
        }
    }
    found
}

fn of_run(table: Run) -> Convolutions {
    let quantized = table.quantized.iter().filter(|count| count.op == "Conv");
    let mut found = Convolutions { on_codes: quantized.map(|count| count.nodes).sum(), kept: Vec::new() };
    for Kept { nodes, reason, .. } in table.kept.into_iter().filter(|kept| kept.op == "Conv") {
        found.kept.extend(nodes.into_iter().map(|name| (name, reason.clone())));
    }
    found
}

fn read<T: DeserializeOwned>(file: &Path) -> Result<T> {
    let text = fs::read(file).map_err(at(file))?;
    serde_json::from_slice(&text).map_err(|source| Error::Json { command: file.display().to_string(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_convolution_is_accounted_for() {
        let kept = |reason: &str| vec![("a".to_owned(), reason.to_owned())];
        assert!(Convolutions { on_codes: 52, kept: kept("may be negative") }.unmet().is_empty());
        assert_eq!(Convolutions { on_codes: 52, kept: kept("") }.unmet(), ["no reason for `a`"]);
        assert_eq!(Convolutions { on_codes: 52, kept: Vec::new() }.unmet(), ["the table has 52 convolutions"]);
    }

    #[test]
    fn both_tables_are_read() {
        let eightbit = r#"{"nodes": [
            {"name": "a", "op": "Conv2D", "becomes": "QuantizedConv2D", "reason": null},
            {"name": "b", "op": "Conv2D", "becomes": null, "reason": "why"},
            {"name": "c", "op": "MaxPool", "becomes": null, "reason": "why"}]}"#;
        let run = r#"{"quantized": [{"op": "Conv", "nodes": 1}, {"op": "MaxPool", "nodes": 2}],
            "kept": [{"op": "Conv", "nodes": ["b"], "reason": "why"}, {"op": "Add", "nodes": ["d"], "reason": "why"}]}"#;
        let tables = [
            of_eightbit(serde_json::from_str(eightbit).expect("a table")),
            of_run(serde_json::from_str(run).expect("a table")),
        ];
        for found in tables {
            assert_eq!((found.on_codes, found.kept), (1, vec![("b".to_owned(), "why".to_owned())]));
        }
    }
}
