//! Inputs that are made to refer to other nodes.

use crate::node::{Input, NodeDef, Port};
use std::collections::BTreeMap;

/// What the readers of a tensor, or of a node, read instead.
#[derive(Debug, Default)]
pub(crate) struct Rewire {
    /// By node: the output and whether only that one.
    nodes: BTreeMap<String, String>,
    tensors: BTreeMap<(String, u32), String>,
}

impl Rewire {
    /// Readers of any output of `node`, and those that wait for it, read the tensor `new` instead or wait for its node.
    pub(crate) fn node(&mut self, node: &str, new: String) {
        self.nodes.insert(node.to_owned(), new);
    }

    /// Readers of one output read the tensor `new` instead.
    pub(crate) fn tensor(&mut self, node: &str, port: u32, new: String) {
        self.tensors.insert((node.to_owned(), port), new);
    }

    /// Whether there is nothing to do.
    pub(crate) fn is_empty(&self) -> bool {
        self.nodes.is_empty() && self.tensors.is_empty()
    }

    /// The input that stands in place of `input`, followed to the end.
    fn resolved(&self, input: &str) -> Option<String> {
        let mut current = input.to_owned();
        let mut changed = false;
        // A chain is no longer than there are entries; a circle is followed once around.
        for _ in 0..=self.nodes.len() + self.tensors.len() {
            let parsed = Input::parse(&current);
            let next = match parsed.port {
                Port::Control => self.nodes.get(parsed.node).map(|new| format!("^{}", Input::parse(new).node)),
                Port::Data(port) => {
                    let tensor = self.tensors.get(&(parsed.node.to_owned(), port));
                    tensor.or_else(|| self.nodes.get(parsed.node)).cloned()
                }
            };
            let Some(next) = next else { break };
            (current, changed) = (next, true);
        }
        changed.then_some(current)
    }

    /// Changes the inputs of a node; a node waits for another only once.
    pub(crate) fn apply(&self, node: &mut NodeDef) {
        let mut inputs: Vec<String> = Vec::with_capacity(node.inputs().len());
        for input in node.inputs() {
            let input = self.resolved(input).unwrap_or_else(|| input.clone());
            if !(input.starts_with('^') && inputs.contains(&input)) {
                inputs.push(input);
            }
        }
        node.set_inputs(inputs);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_are_followed_and_waiting_stays_waiting() {
        let mut rewire = Rewire::default();
        rewire.node("b", "a:1".into());
        rewire.node("c", "b".into());
        rewire.tensor("d", 1, "e".into());
        let mut node = NodeDef::new("n", "N").with_inputs(["c", "d", "d:1", "^c", "^b"]);
        rewire.apply(&mut node);
        assert_eq!(node.inputs(), ["a:1", "d", "e", "^a"]);
    }
}
