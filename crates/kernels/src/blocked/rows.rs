//! Some rows of outputs, cut into tiles.

use super::pack::Group;
use super::tile::{self, Input, Tile};
use crate::simd::Isa;
use std::ops::Range;

/// Output rows whose tiles read the same input.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rows<'a> {
    pub(super) isa: Isa,
    pub(super) input: Input<'a>,
    pub(super) x: &'a [f32],
    /// Output rows.
    pub(super) rows: usize,
    /// Pixels of an output row.
    pub(super) width: usize,
    /// Channels of an output block.
    pub(super) lanes: usize,
    /// Between the blocks of the result, in elements.
    pub(super) y_block: usize,
    /// Between the rows of the result, in elements.
    pub(super) y_row: usize,
    /// Ends of the interval that results are cut to.
    pub(super) limits: (f32, f32),
}

impl Rows<'_> {
    /// Elements of one block of the result that are written, from its first row on.
    pub(super) fn written(&self) -> usize {
        (self.rows - 1) * self.y_row + self.width * self.lanes
    }

    /// Computes the rows of one group of output blocks; the first pixel is at `start` of the result, and `residual` is
    /// laid out like the result.
    ///
    /// # Panics
    /// If a tile reaches beyond the input or the result.
    pub(super) fn run(&self, group: &Group<'_>, start: usize, residual: Option<&[f32]>, y: &mut [f32]) {
        let most = tile::pixels(self.isa);
        let two_rows = !self.input.narrow && self.rows > 1 && 2 * self.width <= most;
        let parts = self.width.div_ceil(most);
        let mut row = 0;
        while row < self.rows {
            let height = if two_rows && row + 1 < self.rows { 2 } else { 1 };
            for part in split(self.width, parts) {
                let place = Place {
                    x: row * self.input.row_pitch + part.start * self.step(),
                    y: start + row * self.y_row + part.start * self.lanes,
                    rows: height,
                    pixels: part.len(),
                };
                self.tile(group, place, residual, y);
            }
            row += height;
        }
    }

    /// Between the pixels of the input.
    fn step(&self) -> usize {
        if self.input.narrow { tile::NARROW } else { self.lanes }
    }

    #[allow(unsafe_code)]
    fn tile(&self, group: &Group<'_>, place: Place, residual: Option<&[f32]>, y: &mut [f32]) {
        let Place { x, y: at, rows, pixels } = place;
        let read = x + self.input.reach(rows) + pixels * self.step();
        let written = at + (group.blocks - 1) * self.y_block + (rows - 1) * self.y_row + pixels * self.lanes;
        assert!(self.input.blocks == 0 || read <= self.x.len(), "a tile reads {read} of {} elements", self.x.len());
        assert!(written <= y.len() && residual.is_none_or(|r| written <= r.len()), "a tile writes beyond its result");
        let tile = Tile {
            input: &self.input,
            limits: self.limits,
            x: self.x[x.min(self.x.len())..].as_ptr(),
            weight: group.weight.as_ptr(),
            bias: group.bias.as_ptr(),
            y: y[at..].as_mut_ptr(),
            residual: residual.map_or(std::ptr::null(), |r| r[at..].as_ptr()),
            y_block: self.y_block,
            y_row: self.y_row,
            outputs: group.blocks,
            rows,
            pixels,
        };
        // SAFETY: the ends of what is read and written have just been compared with the slices; a group holds the weights
        // and the bias of its blocks.
        unsafe { tile::run(self.isa, &tile) };
    }
}

/// Where a tile is.
struct Place {
    /// Its first pixel in the input.
    x: usize,
    /// Its first pixel in the result.
    y: usize,
    rows: usize,
    pixels: usize,
}

/// Cuts `0..len` into `parts` ranges of nearly the same length.
pub(crate) fn split(len: usize, parts: usize) -> impl Iterator<Item = Range<usize>> {
    let parts = parts.max(1);
    (0..parts).map(move |i| len * i / parts..len * (i + 1) / parts).filter(|range| !range.is_empty())
}
