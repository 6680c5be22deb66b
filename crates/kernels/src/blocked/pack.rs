//! Weights in the order the tiles read them.
//!
//! For each unit and each one or two blocks of output channels: for each block of input channels, each tap and each
//! channel that the block really has, one vector for each output block. What is missing of the last output block is 0.

use super::filter::{Filter, Units};
use crate::buffer::Buffer;

/// Output blocks of a tile.
const PAIR: usize = 2;

/// Packed weights and bias of a filter.
#[derive(Debug)]
pub(super) struct Weights {
    units: Units,
    taps: usize,
    lanes: usize,
    weight: Buffer<f32>,
    /// One vector for each output block of each unit.
    bias: Buffer<f32>,
}

/// The weights of one or two output blocks of a unit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group<'a> {
    /// Index of its first block in the unit.
    pub(super) first_block: usize,
    /// Blocks, 1 or 2.
    pub(super) blocks: usize,
    pub(super) weight: &'a [f32],
    pub(super) bias: &'a [f32],
}

impl Weights {
    /// Packs weights whose lengths have been checked.
    pub(super) fn new(filter: &Filter, units: &Units, lanes: usize, weight: &[f32], bias: Option<&[f32]>) -> Self {
        let taps = filter.taps();
        let blocks = units.out_channels.div_ceil(lanes);
        let vectors = units.count * blocks * units.in_channels * taps;
        let mut packed = Self {
            units: *units,
            taps,
            lanes,
            weight: Buffer::new(vectors * lanes),
            bias: Buffer::new(units.count * blocks * lanes),
        };
        let (group_in, group_out) = (filter.in_channels / filter.group, filter.out_channels / filter.group);
        for (channel, weights) in weight.chunks_exact((group_in * taps).max(1)).enumerate() {
            let (unit, output) = (channel / units.out_channels, channel % units.out_channels);
            // Where the group's input channels start in the unit.
            let first = output / group_out * group_in;
            for (i, weights) in weights.chunks_exact(taps).enumerate() {
                for (tap, value) in weights.iter().enumerate() {
                    let at = packed.place(unit, output, first + i, tap);
                    packed.weight[at] = *value;
                }
            }
        }
        for (channel, value) in bias.unwrap_or_default().iter().enumerate() {
            let (unit, output) = (channel / units.out_channels, channel % units.out_channels);
            packed.bias[unit * blocks * lanes + output] = *value;
        }
        packed
    }

    /// Input channels of a unit.
    pub(super) fn in_channels(&self) -> usize {
        self.units.in_channels
    }

    /// Output channels of a unit.
    pub(super) fn out_channels(&self) -> usize {
        self.units.out_channels
    }

    /// The weight of an output and an input channel under a tap.
    pub(super) fn at(&self, unit: usize, output: usize, input: usize, tap: usize) -> f32 {
        self.weight[self.place(unit, output, input, tap)]
    }

    /// Start values of all sums of a unit.
    pub(super) fn bias(&self, unit: usize) -> &[f32] {
        let len = self.units.out_channels.div_ceil(self.lanes) * self.lanes;
        &self.bias[unit * len..][..len]
    }

    /// Elements of one output block.
    fn block_len(&self) -> usize {
        self.units.in_channels * self.taps * self.lanes
    }

    fn place(&self, unit: usize, output: usize, input: usize, tap: usize) -> usize {
        let lanes = self.lanes;
        let blocks = self.units.out_channels.div_ceil(lanes);
        let block = output / lanes;
        let first = block / PAIR * PAIR;
        let side_by_side = PAIR.min(blocks - first);
        let (in_block, in_lane) = (input / lanes, input % lanes);
        let channels = lanes.min(self.units.in_channels - in_block * lanes);
        let vector = in_block * lanes * self.taps + tap * channels + in_lane;
        (unit * blocks + first) * self.block_len() + (vector * side_by_side + block - first) * lanes + output % lanes
    }

    /// The groups of output blocks of a unit.
    pub(super) fn groups(&self, unit: usize) -> impl Iterator<Item = Group<'_>> {
        let blocks = self.units.out_channels.div_ceil(self.lanes);
        (0..blocks).step_by(PAIR).map(move |first_block| {
            let count = PAIR.min(blocks - first_block);
            let at = unit * blocks + first_block;
            Group {
                first_block,
                blocks: count,
                weight: &self.weight[at * self.block_len()..][..count * self.block_len()],
                bias: &self.bias[at * self.lanes..][..count * self.lanes],
            }
        })
    }
}
