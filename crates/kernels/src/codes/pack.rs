//! Weights in the order the tiles read them.
//!
//! For each unit and each one or two blocks of output channels: for each block of input channels, each tap and each
//! four channels that the block really has, one vector for each output block: of each of its channels, four weights.
//! What is missing is 0.

use crate::blocked::{Filter, Units};
use crate::buffer::Buffer;

/// Output blocks of a tile.
const PAIR: usize = 2;

/// Neighbouring input channels whose products are added up in one lane.
pub(super) const QUAD: usize = 4;

/// Packed weights of a filter.
#[derive(Debug)]
pub(super) struct Weights {
    units: Units,
    taps: usize,
    lanes: usize,
    weight: Buffer<i8>,
    /// Sum of the weights of each output channel, for the zero point of the input.
    sums: Buffer<i32>,
}

/// The weights of one or two output blocks of a unit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group<'a> {
    /// Index of its first block in the unit.
    pub(super) first_block: usize,
    /// Blocks, 1 or 2.
    pub(super) blocks: usize,
    pub(super) weight: &'a [i8],
    /// One vector for each block.
    pub(super) sums: &'a [i32],
}

impl Weights {
    /// Packs weights whose length has been checked.
    pub(super) fn new(filter: &Filter, units: &Units, lanes: usize, weight: &[i8]) -> Self {
        let taps = filter.kernel[0] * filter.kernel[1];
        let blocks = units.count * units.out_channels.div_ceil(lanes);
        let block_len = units.in_channels.div_ceil(QUAD) * taps * lanes * QUAD;
        let (weights, sums) = (Buffer::new(blocks * block_len), Buffer::new(blocks * lanes));
        let mut packed = Self { units: *units, taps, lanes, weight: weights, sums };
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
            let at = unit * units.out_channels.div_ceil(lanes) * lanes + output;
            packed.sums[at] = weights.iter().map(|w| i32::from(*w)).sum();
        }
        packed
    }

    /// Elements of one output block.
    fn block_len(&self) -> usize {
        self.units.in_channels.div_ceil(QUAD) * self.taps * self.lanes * QUAD
    }

    fn place(&self, unit: usize, output: usize, input: usize, tap: usize) -> usize {
        let lanes = self.lanes;
        let blocks = self.units.out_channels.div_ceil(lanes);
        let block = output / lanes;
        let first = block / PAIR * PAIR;
        let side_by_side = PAIR.min(blocks - first);
        let (in_block, in_lane) = (input / lanes, input % lanes);
        let quads = lanes.min(self.units.in_channels - in_block * lanes).div_ceil(QUAD);
        let vector = in_block * (lanes / QUAD) * self.taps + tap * quads + in_lane / QUAD;
        let vector = vector * side_by_side + block - first;
        (unit * blocks + first) * self.block_len() + (vector * lanes + output % lanes) * QUAD + in_lane % QUAD
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
                sums: &self.sums[at * self.lanes..][..count * self.lanes],
            }
        })
    }
}
