//! Loops over groups, blocks and tiles.

use super::accumulator::Accumulator;
use super::packed::{Layout, PackedCodes, pair};
use super::tile::{LANES, Lanes, ROWS, Tile, product};
use super::{Buffers, columns, depthwise};
use crate::geometry::ConvGeometry;
use crate::im2col;
use crate::simd::Isa;
use std::ops::Range;

/// What a 32-bit sum is to an output: one of the terms `sum << shift` that make it up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    /// Whether it is the first of these terms.
    pub(super) first: bool,
    pub(super) shift: u32,
}

/// Hands all terms of every element of `out` to `put`, the first one first. Lengths and bounds have been checked; an
/// empty sum is 0.
pub(super) fn run<O>(
    isa: Isa,
    geometry: &ConvGeometry,
    x: &[i16],
    weight: &PackedCodes,
    out: &mut [O],
    put: impl Fn(&mut O, i32, Step) + Copy,
    buffers: &mut Buffers,
) {
    if out.is_empty() {
        return;
    }
    let accumulator = weight.accumulator();
    let job = Job { isa, geometry, x, pairs: geometry.group_weight().div_ceil(2), accumulator };
    match &weight.layout {
        Layout::Depthwise(plan, weight) => {
            depthwise::run(isa, plan, geometry, x, weight, accumulator, out, put, &mut buffers.plane);
        }
        Layout::Rows(rows) => job.positions_in_lanes(rows, out, put, buffers),
        Layout::Lanes(lanes) => job.channels_in_lanes(lanes, out, put, buffers),
    }
}

struct Job<'a> {
    isa: Isa,
    geometry: &'a ConvGeometry,
    x: &'a [i16],
    /// Pairs of a whole sum.
    pairs: usize,
    accumulator: Accumulator,
}

impl Job<'_> {
    /// Input of a group of an image.
    fn group_input(&self, image_group: usize) -> &[i16] {
        let len = self.geometry.group_in * self.geometry.space.input;
        &self.x[image_group * len..][..len]
    }

    /// Pairs of all digits of the weights of a tile.
    fn tile_pairs(&self) -> usize {
        self.pairs * self.accumulator.digits().len()
    }

    fn positions_in_lanes<O>(
        &self,
        weight: &[[i32; ROWS]],
        out: &mut [O],
        put: impl Fn(&mut O, i32, Step) + Copy,
        buffers: &mut Buffers,
    ) {
        let geometry = self.geometry;
        let positions = geometry.space.output;
        let group_pairs = geometry.group_out.div_ceil(ROWS) * self.tile_pairs();
        let block = columns::block_positions(self.pairs);
        for (image_group, out) in out.chunks_exact_mut(geometry.group_out * positions).enumerate() {
            let x = self.group_input(image_group);
            let weight = &weight[image_group % geometry.group * group_pairs..][..group_pairs];
            for start in (0..positions).step_by(block) {
                let end = positions.min(start + block);
                columns::panels(geometry, x, start..end, &mut buffers.rows, &mut buffers.panels);
                for (r, out) in out.chunks_mut(ROWS * positions).enumerate() {
                    let weight = &weight[r * self.tile_pairs()..][..self.tile_pairs()];
                    self.tiles_of_rows(weight, &buffers.panels, start..end, out, put);
                }
            }
        }
    }

    /// The tiles of at most `ROWS` output planes and a block of positions.
    fn tiles_of_rows<O>(
        &self,
        weight: &[[i32; ROWS]],
        panels: &[Lanes],
        block: Range<usize>,
        out: &mut [O],
        put: impl Fn(&mut O, i32, Step) + Copy,
    ) {
        let positions = self.geometry.space.output;
        let used = out.len() / positions;
        let mut tile = [Lanes::default(); ROWS];
        for (panel, start) in block.clone().step_by(LANES).enumerate() {
            let lanes = &panels[panel * self.pairs..][..self.pairs];
            let columns = start..block.end.min(start + LANES);
            self.each_step(|digit, pairs, step| {
                let rows = &weight[digit * self.pairs..][pairs.clone()];
                product(self.isa, rows, &lanes[pairs], used, &mut tile);
                store(&tile, out, positions, columns.clone(), |to, sum| put(to, sum, step));
            });
        }
    }

    /// For outputs with a single position: images take the place of rows, output channels that of lanes.
    fn channels_in_lanes<O>(
        &self,
        weight: &[Lanes],
        out: &mut [O],
        put: impl Fn(&mut O, i32, Step) + Copy,
        buffers: &mut Buffers,
    ) {
        let (group, group_out) = (self.geometry.group, self.geometry.group_out);
        let channels = group * group_out;
        let group_pairs = group_out.div_ceil(LANES) * self.tile_pairs();
        let mut tile = [Lanes::default(); ROWS];
        for (some, out) in out.chunks_mut(ROWS * channels).enumerate() {
            let used = out.len() / channels;
            for g in 0..group {
                self.pack_images(some * ROWS..some * ROWS + used, g, buffers);
                let weight = &weight[g * group_pairs..][..group_pairs];
                for (panel, start) in (0..group_out).step_by(LANES).enumerate() {
                    let lanes = &weight[panel * self.tile_pairs()..][..self.tile_pairs()];
                    let columns = g * group_out + start..g * group_out + group_out.min(start + LANES);
                    self.each_step(|digit, pairs, step| {
                        let lanes = &lanes[digit * self.pairs..][pairs.clone()];
                        product(self.isa, &buffers.blocks[pairs], lanes, used, &mut tile);
                        store(&tile, out, channels, columns.clone(), |to, sum| put(to, sum, step));
                    });
                }
            }
        }
    }

    /// Calls `visit(digit, pairs, step)` for each digit of the weights and each range of pairs that a 32-bit sum holds.
    fn each_step(&self, mut visit: impl FnMut(usize, Range<usize>, Step)) {
        let part = self.accumulator.terms().div_ceil(2);
        for start in (0..self.pairs.max(1)).step_by(part) {
            let end = self.pairs.min(start.saturating_add(part));
            for (d, digit) in self.accumulator.digits().iter().enumerate() {
                visit(d, start..end, Step { first: start == 0 && d == 0, shift: digit.shift });
            }
        }
    }

    /// The single columns of one group of at most `ROWS` images, in pairs, side by side.
    fn pack_images(&self, images: Range<usize>, group: usize, buffers: &mut Buffers) {
        let Buffers { rows, blocks, .. } = buffers;
        rows.resize(self.geometry.group_weight(), 0);
        blocks.clear();
        blocks.resize(self.pairs, [0; ROWS]);
        for (i, image) in images.enumerate() {
            let x = self.group_input(image * self.geometry.group + group);
            if self.geometry.is_pointwise() {
                rows.copy_from_slice(x);
            } else {
                im2col::unfold(self.geometry, x, 0..1, rows);
            }
            for (block, codes) in blocks.iter_mut().zip(rows.chunks(2)) {
                block[i] = pair(codes[0], codes.get(1).copied().unwrap_or(0));
            }
        }
    }
}

/// Hands the rows of a tile to `columns` of the rows of `out`, which are `pitch` long.
fn store<O>(tile: &Tile, out: &mut [O], pitch: usize, columns: Range<usize>, put: impl Fn(&mut O, i32)) {
    for (row, sums) in out.chunks_exact_mut(pitch).zip(tile) {
        row[columns.clone()].iter_mut().zip(&sums.0).for_each(|(to, sum)| put(to, *sum));
    }
}
