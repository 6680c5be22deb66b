//! Time of each step of a run.
//!
//! Steps follow each other without a gap, so the time between the ends of two is that of the second.

use super::clock::Clock;
use quantize_exec::{Finished, Observer, View};
use quantize_ir::ValueId;
use std::collections::BTreeMap;

/// A step of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerTime {
    /// The node whose operator ran first in it, as messages call it.
    pub label: String,
    /// Its operator.
    pub op: String,
    /// How it was computed.
    pub kernel: &'static str,
    /// Operations for one run: each multiplication and each addition of convolutions and matrix products.
    pub operations: u64,
    /// Processor time of its shortest run, in seconds.
    pub seconds: f64,
}

/// The shortest time of each step over several runs, in which the same steps come in the same order.
#[derive(Debug)]
pub(crate) struct LayerTimes {
    operations: BTreeMap<String, u64>,
    layers: Vec<LayerTime>,
    next: usize,
    clock: Clock,
}

impl LayerTimes {
    /// No run yet of a network whose nodes have these operations, by label.
    pub(crate) fn new(operations: BTreeMap<String, u64>) -> Self {
        Self { operations, layers: Vec::new(), next: 0, clock: Clock::start() }
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

impl Observer for LayerTimes {
    fn observe(&mut self, _: ValueId, _: &View<'_>) {}

    fn wants(&self, _: ValueId) -> bool {
        false
    }

    fn finished(&mut self, step: &Finished<'_>) {
        let seconds = self.clock.lap().cpu;
        match self.layers.get_mut(self.next) {
            Some(layer) => layer.seconds = layer.seconds.min(seconds),
            None => self.layers.push(LayerTime {
                label: step.node.to_owned(),
                op: step.op.to_owned(),
                kernel: step.kernel,
                operations: self.operations.get(step.node).copied().unwrap_or(0),
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
        let mut times = LayerTimes::new(BTreeMap::from([("a".to_owned(), 10)]));
        for _ in 0..3 {
            times.begin();
            for node in ["a", "b", "c"] {
                times.finished(&Finished { node, op: "Conv", kernel: "planes", multiply_adds: 5 });
            }
        }
        let layers = times.into_layers();
        let known: Vec<(&str, u64)> = layers.iter().map(|layer| (layer.label.as_str(), layer.operations)).collect();
        assert_eq!(known, [("a", 10), ("b", 0), ("c", 0)]);
        assert!(layers.iter().all(|layer| layer.seconds >= 0.0 && layer.seconds.is_finite()));
    }
}
