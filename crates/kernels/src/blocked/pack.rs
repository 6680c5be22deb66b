//! Weights in the order the tiles read them.
//!
//! For each unit and each one or two blocks of output channels: for each block of input channels, each tap and each
//! channel that the block really has, one vector for each output block. If the last output block has no more channels
//! than half a vector, it has vectors of half the width. What is missing of a vector is 0.

use super::filter::{Filter, Units};
use crate::buffer::Buffer;
use crate::simd::Isa;

/// Output blocks of a tile.
const PAIR: usize = 2;

/// Packed weights and bias of a filter.
#[derive(Debug)]
pub(super) struct Weights {
    isa: Isa,
    /// What computes the last output block, if half a vector holds it.
    half: Option<Isa>,
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
    /// The instruction set whose vectors they are; with fewer lanes than a block they are the first ones of it.
    pub(super) isa: Isa,
    /// Index of its first block in the unit.
    pub(super) first_block: usize,
    /// Blocks, 1 or 2.
    pub(super) blocks: usize,
    pub(super) weight: &'a [f32],
    pub(super) bias: &'a [f32],
}

impl Weights {
    /// Packs weights whose lengths have been checked.
    pub(super) fn new(filter: &Filter, units: &Units, isa: Isa, weight: &[f32], bias: Option<&[f32]>) -> Self {
        let mut packed = Self::empty(filter, units, isa, bias);
        let (group_in, group_out) = (filter.in_channels / filter.group, filter.out_channels / filter.group);
        let taps = filter.taps();
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
        packed
    }

    /// Puts the weights of an input for the outputs from `first` on in their places, for a filter of one tap and one group.
    pub(super) fn put_row(&mut self, units: &Units, input: usize, first: usize, row: &[f32]) {
        for (channel, value) in (first..).zip(row) {
            let at = self.place(channel / units.out_channels, channel % units.out_channels, input, 0);
            self.weight[at] = *value;
        }
    }

    /// Puts the weights of an output for the inputs from `first` on in their places, for a filter of one tap and one group.
    pub(super) fn put_column(&mut self, units: &Units, output: usize, first: usize, column: &[f32]) {
        for (input, value) in (first..).zip(column) {
            let at = self.place(output / units.out_channels, output % units.out_channels, input, 0);
            self.weight[at] = *value;
        }
    }

    /// Zeros, and the start values of sums.
    pub(super) fn empty(filter: &Filter, units: &Units, isa: Isa, bias: Option<&[f32]>) -> Self {
        let (taps, lanes) = (filter.taps(), isa.lanes());
        let blocks = units.out_channels.div_ceil(lanes);
        let left = units.out_channels % lanes;
        let half = isa.half().filter(|half| left > 0 && left <= half.lanes());
        let mut packed = Self {
            isa,
            half,
            units: *units,
            taps,
            lanes,
            weight: Buffer::default(),
            bias: Buffer::new(units.count * blocks * lanes),
        };
        packed.weight = Buffer::new(units.count * packed.columns() * packed.depth());
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

    /// Weights between the same channels under one tap, all 0.
    pub(super) fn single_tap(&self) -> Self {
        let weight = Buffer::new(self.weight.len() / self.taps);
        Self { taps: 1, weight, bias: Buffer::new(self.bias.len()), ..*self }
    }

    /// All weights, in the order of the groups.
    pub(super) fn elements_mut(&mut self) -> &mut [f32] {
        &mut self.weight
    }

    /// Start values of all sums of a unit.
    pub(super) fn bias(&self, unit: usize) -> &[f32] {
        let len = self.units.out_channels.div_ceil(self.lanes) * self.lanes;
        &self.bias[unit * len..][..len]
    }

    /// Products that are added up for an output.
    fn depth(&self) -> usize {
        self.units.in_channels * self.taps
    }

    /// Output channels of a unit, those that fill up the last vector included.
    fn columns(&self) -> usize {
        let missing = self.half.map_or(0, |half| self.lanes - half.lanes());
        self.units.out_channels.next_multiple_of(self.lanes) - missing
    }

    /// Index of the first block and columns of the group with an output block.
    fn group_of(&self, block: usize) -> (usize, usize) {
        let whole = self.columns() / self.lanes;
        if block == whole {
            return (block, self.columns() - whole * self.lanes);
        }
        let first = block / PAIR * PAIR;
        (first, PAIR.min(whole - first) * self.lanes)
    }

    fn place(&self, unit: usize, output: usize, input: usize, tap: usize) -> usize {
        let lanes = self.lanes;
        let (first, columns) = self.group_of(output / lanes);
        let (in_block, in_lane) = (input / lanes, input % lanes);
        let channels = lanes.min(self.units.in_channels - in_block * lanes);
        let row = in_block * lanes * self.taps + tap * channels + in_lane;
        (unit * self.columns() + first * lanes) * self.depth() + row * columns + output - first * lanes
    }

    /// The groups of output blocks of a unit.
    pub(super) fn groups(&self, unit: usize) -> impl Iterator<Item = Group<'_>> {
        let lanes = self.lanes;
        let mut block = 0;
        std::iter::from_fn(move || {
            if block * lanes >= self.units.out_channels {
                return None;
            }
            let (first_block, columns) = self.group_of(block);
            let blocks = columns.div_ceil(lanes);
            block = first_block + blocks;
            let isa = if columns < lanes { self.half.unwrap_or(self.isa) } else { self.isa };
            let at = unit * self.columns() + first_block * lanes;
            Some(Group {
                isa,
                first_block,
                blocks,
                weight: &self.weight[at * self.depth()..][..columns * self.depth()],
                bias: &self.bias(unit)[first_block * lanes..][..blocks * lanes],
            })
        })
    }
}
