//! Per-channel counts, ranges and moments, with floating-point sums over a fixed tree.

use std::collections::BTreeMap;

use super::{ChannelStats, summary::range_of, union};
use crate::finite::{CHUNK, clean, flushed};
use crate::{ChannelLayout, Range};

/// Independent partial sums per channel run.
const LANES: usize = 8;

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

/// Adds one image to the statistics of its channels; the layout has been checked.
pub(super) fn observe_channels(stats: &mut ChannelStats, image: u64, layout: ChannelLayout, data: &[f32]) {
    let mut sums = vec![0.0; 2 * layout.channels];
    if layout.inner == 1 {
        observe_rows(stats, &mut sums, data);
    } else {
        observe_runs(stats, &mut sums, layout, data);
    }
    stats.sums.insert(image, 0, sums);
}

fn observe_runs(stats: &mut ChannelStats, sums: &mut [f64], layout: ChannelLayout, data: &[f32]) {
    let mut buffer = [0.0; CHUNK];
    for (channel, run) in layout.runs(data) {
        for chunk in run.chunks(CHUNK) {
            let values = clean(chunk, &mut buffer).values;
            let (sum, squares) = moments(values);
            sums[channel] += sum;
            sums[layout.channels + channel] += squares;
            stats.counts[channel] += values.len() as u64;
            stats.ranges[channel] = union(stats.ranges[channel], range_of(values));
        }
    }
}

/// Sum and sum of squares, in an order fixed by the length.
fn moments(values: &[f32]) -> (f64, f64) {
    let (mut sums, mut squares) = ([0.0; LANES], [0.0; LANES]);
    let groups = values.chunks_exact(LANES);
    for (lane, &x) in groups.remainder().iter().enumerate() {
        sums[lane] += f64::from(x);
        squares[lane] += f64::from(x) * f64::from(x);
    }
    for group in groups {
        for lane in 0..LANES {
            let x = f64::from(group[lane]);
            sums[lane] += x;
            squares[lane] += x * x;
        }
    }
    (sums.iter().sum(), squares.iter().sum())
}

/// Channel-last data: every row holds one value per channel, so the channels are the vector lanes.
fn observe_rows(stats: &mut ChannelStats, sums: &mut [f64], data: &[f32]) {
    let channels = stats.counts.len();
    let (sums, squares) = sums.split_at_mut(channels);
    // Infinities reversed: the range of no value.
    let mut lo = vec![f32::INFINITY; channels];
    let mut hi = vec![f32::NEG_INFINITY; channels];
    let counts = &mut stats.counts[..channels];
    for row in data.chunks_exact(channels) {
        for channel in 0..channels {
            let x = row[channel];
            let (value, is_finite) = flushed(x);
            sums[channel] += f64::from(value);
            squares[channel] += f64::from(value) * f64::from(value);
            let (low, high) = if is_finite { (value, value) } else { (f32::INFINITY, f32::NEG_INFINITY) };
            lo[channel] = if low < lo[channel] { low } else { lo[channel] };
            hi[channel] = if high > hi[channel] { high } else { hi[channel] };
            counts[channel] += u64::from(is_finite);
        }
    }
    for channel in 0..channels {
        let range = Range::new(lo[channel], hi[channel]).ok();
        stats.ranges[channel] = union(stats.ranges[channel], range);
    }
}
