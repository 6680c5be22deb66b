//! Time of each step of a run.
//!
//! A step ends when its result is there, so the time between two results is that of the second's step.

use super::clock::Clock;
use quantize_exec::Observer;
use quantize_ir::{Graph, NodeId, Tensor, ValueId};
use std::collections::BTreeMap;

/// A step of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerTime {
    /// The node, as messages call it.
    pub label: String,
    /// Its operator.
    pub op: String,
    /// Operations for one run: each multiplication and each addition of convolutions and matrix products.
    pub operations: u64,
    /// Processor time of its shortest run, in seconds.
    pub seconds: f64,
}

/// A step as it is known when it ends.
pub(crate) struct Step<'a> {
    label: &'a str,
    op: &'a str,
    operations: u64,
}

/// Is told of every step as soon as it is done.
pub(crate) trait StepListener {
    fn finished(&mut self, step: &Step<'_>);
}

/// Tells a listener of a step when its first result shows.
pub(crate) struct ByResult<'a, L> {
    graph: &'a Graph,
    multiply_accumulates: &'a BTreeMap<NodeId, u64>,
    listener: &'a mut L,
    last: Option<NodeId>,
}

impl<'a, L> ByResult<'a, L> {
    pub(crate) fn new(graph: &'a Graph, multiply_accumulates: &'a BTreeMap<NodeId, u64>, listener: &'a mut L) -> Self {
        Self { graph, multiply_accumulates, listener, last: None }
    }
}

impl<L: StepListener> Observer for ByResult<'_, L> {
    fn observe(&mut self, value: ValueId, _: &Tensor) {
        let Some((id, node)) = self.graph.producer(value) else { return };
        if self.last.replace(id) == Some(id) {
            return;
        }
        let operations = 2 * self.multiply_accumulates.get(&id).copied().unwrap_or(0);
        self.listener.finished(&Step { label: &self.graph.label(id), op: node.op.name(), operations });
    }
}

/// The shortest time of each step over several runs, in which the same steps come in the same order.
#[derive(Debug)]
pub(crate) struct LayerTimes {
    layers: Vec<LayerTime>,
    next: usize,
    clock: Clock,
}

impl LayerTimes {
    pub(crate) fn new() -> Self {
        Self { layers: Vec::new(), next: 0, clock: Clock::start() }
    }

    /// A run begins.
    pub(crate) fn begin(&mut self) {
        self.next = 0;
        self.clock = Clock::start();
    }

    pub(crate) fn into_layers(self) -> Vec<LayerTime> {
        self.layers
    }
}

impl StepListener for LayerTimes {
    fn finished(&mut self, step: &Step<'_>) {
        let seconds = self.clock.lap().cpu;
        match self.layers.get_mut(self.next) {
            Some(layer) => layer.seconds = layer.seconds.min(seconds),
            None => self.layers.push(LayerTime {
                label: step.label.to_owned(),
                op: step.op.to_owned(),
                operations: step.operations,
                seconds,
            }),
        }
        self.next += 1;
        self.clock = Clock::start();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_keep_their_place_over_runs() {
        let mut times = LayerTimes::new();
        for _ in 0..3 {
            times.begin();
            for (label, operations) in [("a", 10), ("a", 20), ("b", 0)] {
                times.finished(&Step { label, op: "Conv", operations });
            }
        }
        let layers = times.into_layers();
        let known: Vec<(&str, u64)> = layers.iter().map(|layer| (layer.label.as_str(), layer.operations)).collect();
        assert_eq!(known, [("a", 10), ("a", 20), ("b", 0)]);
        assert!(layers.iter().all(|layer| layer.seconds >= 0.0 && layer.seconds.is_finite()));
    }
}
