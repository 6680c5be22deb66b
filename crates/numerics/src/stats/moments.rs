//! Per-channel counts, ranges and moments, with floating-point sums over a fixed tree.

use std::collections::BTreeMap;

use super::{ChannelStats, union};
use crate::finite::flushed;
use crate::{ChannelLayout, Range};

/// Partial sums of a channel: its value number k goes to sum k modulo this, and the sums are added up in order. Hence
/// a sum has the same bits in whatever layout the values are stored.
const PARTS: usize = 8;

/// What one image says about the finite values of a channel, subnormals flushed to zero.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChannelMoments {
    /// Finite values.
    pub count: u64,
    /// Their range; absent without any.
    pub range: Option<Range>,
    /// Their sum: of eight partial sums, over the values whose number modulo 8 is 0, 1, …, added up in that order.
    pub sum: f64,
    /// Sum of their squares, in the same order.
    pub squares: f64,
}

/// Sums of vectors over images, in a tree fixed by the image ids.
///
/// A node (level, start) holds the sum over the images start .. start + 2^level; it exists once all of them are
/// present and is always the sum of its two halves, left plus right. Hence the nodes and their bits depend on the set
/// of images alone, and consecutive images occupy only O(log n) nodes.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct ImageSums {
    /// Keyed by (start, level): iteration is in image order.
    nodes: BTreeMap<(u64, u32), Vec<f64>>,
}

impl ImageSums {
    /// Adds a node none of whose images is present, joining complete pairs upwards.
    pub(super) fn insert(&mut self, mut start: u64, mut level: u32, mut sums: Vec<f64>) {
        while level < 63 {
            let buddy = start ^ (1 << level);
            let Some(other) = self.nodes.remove(&(buddy, level)) else { break };
            sums = if buddy < start { add(other, &sums) } else { add(sums, &other) };
            start = start.min(buddy);
            level += 1;
        }
        self.nodes.insert((start, level), sums);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (&(start, level), sums) in &other.nodes {
            self.insert(start, level, sums.clone());
        }
    }

    /// Sum over all images, nodes folded in image order; zeros of length `len` without any.
    pub(super) fn total(&self, len: usize) -> Vec<f64> {
        self.nodes.values().fold(vec![0.0; len], |total, sums| add(total, sums))
    }

    /// Nodes as (start, level, sums) in image order.
    pub(super) fn nodes(&self) -> impl ExactSizeIterator<Item = (u64, u32, &[f64])> {
        self.nodes.iter().map(|(&(start, level), sums)| (start, level, sums.as_slice()))
    }
}

fn add(left: Vec<f64>, right: &[f64]) -> Vec<f64> {
    left.into_iter().zip(right).map(|(a, b)| a + b).collect()
}

impl ChannelStats {
    /// Adds one image, with as many channels.
    pub(super) fn add(&mut self, image: u64, channels: &[ChannelMoments]) {
        for (channel, moments) in channels.iter().enumerate() {
            self.counts[channel] += moments.count;
            self.ranges[channel] = union(self.ranges[channel], moments.range);
        }
        let sums = channels.iter().map(|moments| moments.sum);
        let squares = channels.iter().map(|moments| moments.squares);
        self.sums.insert(image, 0, sums.chain(squares).collect());
    }
}

/// Moments of every channel; the layout has been checked.
pub(super) fn channel_moments(layout: ChannelLayout, data: &[f32]) -> Vec<ChannelMoments> {
    let mut channels = vec![Partial::default(); layout.channels];
    for (run, (channel, values)) in layout.runs(data).enumerate() {
        let first = run / layout.channels * layout.inner;
        values.iter().enumerate().for_each(|(at, &x)| channels[channel].add(first + at, x));
    }
    channels.iter().map(Partial::moments).collect()
}

#[derive(Debug, Clone, Default)]
struct Partial {
    count: u64,
    range: Option<Range>,
    sums: [f64; PARTS],
    squares: [f64; PARTS],
}

impl Partial {
    /// Adds value number `at`.
    fn add(&mut self, at: usize, x: f32) {
        let (value, is_finite) = flushed(x);
        self.count += u64::from(is_finite);
        self.sums[at % PARTS] += f64::from(value);
        self.squares[at % PARTS] += f64::from(value) * f64::from(value);
        if is_finite {
            self.range = union(self.range, Range::new(value, value).ok());
        }
    }

    fn moments(&self) -> ChannelMoments {
        let total = |parts: &[f64; PARTS]| parts.iter().fold(0.0, |sum, part| sum + part);
        ChannelMoments { count: self.count, range: self.range, sum: total(&self.sums), squares: total(&self.squares) }
    }
}
