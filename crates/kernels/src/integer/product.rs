//! Loops over groups, blocks and tiles.

use super::Buffers;
use super::columns;
use super::depthwise;
use super::isa::{Isa, LANES, Lanes, ROWS, Tile};
use super::packed::{Layout, PackedCodes, pair};
use crate::geometry::ConvGeometry;
use crate::im2col;

/// Hands the sums of every element of `out` to `put`: one sum for each part of `terms` terms (an even number, or all).
/// Lengths and bounds have been checked; an empty sum is 0.
pub(super) fn run<O>(
    isa: Isa,
    geometry: &ConvGeometry,
    x: &[i16],
    weight: &PackedCodes,
    terms: usize,
    out: &mut [O],
    put: impl Fn(&mut O, i32) + Copy,
    buffers: &mut Buffers,
) {
    if out.is_empty() {
        return;
    }
    let job = Job { isa, geometry, x, pairs: geometry.group_weight().div_ceil(2), part: terms.div_ceil(2).max(1) };
    match &weight.layout {
        Layout::Depthwise(plan, weight) => depthwise::run(isa, plan, geometry, x, weight, out, put, &mut buffers.plane),
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
    /// Pairs of a part of a sum.
    part: usize,
}

impl Job<'_> {
    /// Input of a group of an image.
    fn group_input(&self, image_group: usize) -> &[i16] {
        let len = self.geometry.group_in * self.geometry.space.input;
        &self.x[image_group * len..][..len]
    }

    fn positions_in_lanes<O>(
        &self,
        weight: &[[i32; ROWS]],
        out: &mut [O],
        put: impl Fn(&mut O, i32) + Copy,
        buffers: &mut Buffers,
    ) {
        let geometry = self.geometry;
        let positions = geometry.space.output;
        let group_blocks = geometry.group_out.div_ceil(ROWS) * self.pairs;
        let block = columns::block_positions(self.pairs);
        for (image_group, out) in out.chunks_exact_mut(geometry.group_out * positions).enumerate() {
            let x = self.group_input(image_group);
            let weight = &weight[image_group % geometry.group * group_blocks..][..group_blocks];
            for start in (0..positions).step_by(block) {
                let end = positions.min(start + block);
                columns::panels(geometry, x, start..end, &mut buffers.rows, &mut buffers.panels);
                for (r, out) in out.chunks_mut(ROWS * positions).enumerate() {
                    let weight = &weight[r * self.pairs..][..self.pairs];
                    self.tiles_of_rows(weight, &buffers.panels, start..end, out, put);
                }
            }
        }
    }

    /// The tiles of at most `ROWS` output planes and a block of positions.
    fn tiles_of_rows<O>(
        &self,
        rows: &[[i32; ROWS]],
        panels: &[Lanes],
        block: std::ops::Range<usize>,
        out: &mut [O],
        put: impl Fn(&mut O, i32) + Copy,
    ) {
        let positions = self.geometry.space.output;
        for (panel, start) in block.clone().step_by(LANES).enumerate() {
            let lanes = &panels[panel * self.pairs..][..self.pairs];
            let end = block.end.min(start + LANES);
            self.each_part(rows, lanes, out.len() / positions, |tile| {
                for (plane, sums) in out.chunks_exact_mut(positions).zip(tile) {
                    plane[start..end].iter_mut().zip(&sums.0).for_each(|(to, sum)| put(to, *sum));
                }
            });
        }
    }

    /// Computes a tile for each part of the summed axis.
    fn each_part(&self, rows: &[[i32; ROWS]], lanes: &[Lanes], used: usize, mut store: impl FnMut(&Tile)) {
        let mut tile = [Lanes::default(); ROWS];
        for start in (0..self.pairs.max(1)).step_by(self.part) {
            let end = self.pairs.min(start + self.part);
            self.isa.product(&rows[start..end], &lanes[start..end], used, &mut tile);
            store(&tile);
        }
    }

    /// For outputs with a single position: images take the place of rows, output channels that of lanes.
    fn channels_in_lanes<O>(
        &self,
        weight: &[Lanes],
        out: &mut [O],
        put: impl Fn(&mut O, i32) + Copy,
        buffers: &mut Buffers,
    ) {
        let (group, group_out) = (self.geometry.group, self.geometry.group_out);
        let group_panels = group_out.div_ceil(LANES) * self.pairs;
        for (some, out) in out.chunks_mut(ROWS * group * group_out).enumerate() {
            let images = out.len() / (group * group_out);
            for g in 0..group {
                self.pack_images(some * ROWS..some * ROWS + images, g, buffers);
                let weight = &weight[g * group_panels..][..group_panels];
                for (panel, start) in (0..group_out).step_by(LANES).enumerate() {
                    let lanes = &weight[panel * self.pairs..][..self.pairs];
                    let channels = g * group_out + start..g * group_out + group_out.min(start + LANES);
                    self.each_part(&buffers.blocks, lanes, images, |tile| {
                        for (image, sums) in out.chunks_exact_mut(group * group_out).zip(tile) {
                            image[channels.clone()].iter_mut().zip(&sums.0).for_each(|(to, sum)| put(to, *sum));
                        }
                    });
                }
            }
        }
    }

    /// The single columns of one group of at most `ROWS` images, in pairs, side by side.
    fn pack_images(&self, images: std::ops::Range<usize>, group: usize, buffers: &mut Buffers) {
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
