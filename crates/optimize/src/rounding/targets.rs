//! What codes are chosen for: each weight in steps of its own scale, one channel to a column. Codes are counted from the
//! one that stands for zero; here they are called levels.

use super::Task;
use faer::Mat;

/// A weight for which a level is chosen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    /// The weight in steps.
    pub(super) value: f64,
    /// The step in units of the channel's first one.
    pub(super) step: f64,
    lowest: f64,
    highest: f64,
}

impl Target {
    /// The level nearest to `wanted`.
    pub(super) fn near(&self, wanted: f64) -> f64 {
        wanted.round_ties_even().clamp(self.lowest, self.highest)
    }

    /// What `level` misses the weight by.
    pub(super) fn error(&self, level: f64) -> f64 {
        self.step * (level - self.value)
    }
}

/// The weights of several output channels that the same columns are multiplied by.
#[derive(Clone, Debug)]
pub(super) struct Targets {
    /// Channel by channel.
    all: Vec<Target>,
    length: usize,
}

impl Targets {
    /// The weights at these places, a list for each channel.
    pub(super) fn of(places: &[Vec<usize>], task: &Task<'_>) -> Self {
        let channel = |places: &Vec<usize>| {
            let first = places.first().map_or(1.0, |at| f64::from(task.quantizers.of(*at).scale()));
            let target = |at: &usize| {
                let grid = task.quantizers.of(*at);
                let level = |code: i32| f64::from(code) - f64::from(grid.zero_point());
                Target {
                    value: f64::from(task.weights[*at]) / f64::from(grid.scale()),
                    step: f64::from(grid.scale()) / first,
                    lowest: level(grid.qtype().qmin()),
                    highest: level(grid.qtype().qmax()),
                }
            };
            places.iter().map(target).collect::<Vec<_>>()
        };
        Self { all: places.iter().flat_map(channel).collect(), length: places.first().map_or(0, Vec::len) }
    }

    /// Columns of weights in equal steps.
    #[cfg(test)]
    pub(super) fn alike(columns: &[&[f64]], (lowest, highest): (f64, f64)) -> Self {
        let target = |value: &f64| Target { value: *value, step: 1.0, lowest, highest };
        Self { all: columns.iter().copied().flatten().map(target).collect(), length: columns[0].len() }
    }

    /// Weights of a channel.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    pub(super) fn channels(&self) -> usize {
        self.all.len() / self.length.max(1)
    }

    pub(super) fn at(&self, k: usize, channel: usize) -> Target {
        self.all[channel * self.length + k]
    }

    pub(super) fn channel(&self, channel: usize) -> &[Target] {
        &self.all[channel * self.length..][..self.length]
    }

    /// The levels nearest to the weights.
    pub(super) fn nearest(&self) -> Mat<f64> {
        Mat::from_fn(self.length, self.channels(), |k, c| self.at(k, c).near(self.at(k, c).value))
    }

    /// What `levels` miss the weights by.
    pub(super) fn errors(&self, levels: &Mat<f64>) -> Mat<f64> {
        Mat::from_fn(self.length, self.channels(), |k, c| self.at(k, c).error(levels[(k, c)]))
    }
}
