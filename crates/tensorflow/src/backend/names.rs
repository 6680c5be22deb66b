//! Names of new nodes: those of the original tools, unless they are taken.

use crate::graph::GraphDef;
use std::collections::BTreeSet;

/// The names in use.
pub(super) struct Names(BTreeSet<String>);

impl Names {
    /// Those of a graph.
    pub(super) fn taken(graph: &GraphDef) -> Self {
        Self(graph.nodes().iter().map(|node| node.name().to_owned()).collect())
    }

    /// A name like `wanted`, with a number behind it if that is taken.
    pub(super) fn fresh(&mut self, wanted: &str) -> String {
        let mut name = wanted.to_owned();
        let mut number = 1;
        while !self.0.insert(name.clone()) {
            name = format!("{wanted}_{number}");
            number += 1;
        }
        name
    }
}

/// A tensor's name as part of another name.
pub(super) fn as_part(tensor: &str) -> String {
    tensor.replace(':', "__port__").replace('^', "__hat__")
}
