//! Values of a graph by name, while it is imported. Names stand in the graph alone: the table takes a few bytes for each.

use hashbrown::HashTable;
use quantize_ir::{Graph, ValueId};
use std::hash::{BuildHasher, RandomState};

/// Finds values by name.
#[derive(Default)]
pub(crate) struct ValuesByName {
    table: HashTable<ValueId>,
    hasher: RandomState,
}

impl ValuesByName {
    /// The value of `graph` with this name, if it was added.
    pub(crate) fn find(&self, graph: &Graph, name: &str) -> Option<ValueId> {
        self.table.find(self.hasher.hash_one(name), |id| graph.value(*id).name == name).copied()
    }

    /// Adds a value of `graph`, of whose name there must be none yet.
    pub(crate) fn add(&mut self, graph: &Graph, id: ValueId) {
        let hash = |id: &ValueId| self.hasher.hash_one(graph.value(*id).name.as_str());
        self.table.insert_unique(hash(&id), id, hash);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quantize_ir::Value;

    #[test]
    fn what_was_added_is_found() {
        let mut graph = Graph::new();
        let ids: Vec<ValueId> = (0..1000).map(|at| graph.add_value(Value::named(format!("v{at}")))).collect();
        let mut values = ValuesByName::default();
        ids.iter().step_by(2).for_each(|id| values.add(&graph, *id));
        for (at, id) in ids.iter().enumerate() {
            assert_eq!(values.find(&graph, &format!("v{at}")), (at % 2 == 0).then_some(*id));
        }
    }
}
