//! Some rows of outputs, cut into tiles.

use super::pack::Group;
use super::tile::{self, Input, Tiles};
use std::ops::Range;

/// Output rows whose tiles read the same input.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rows<'a> {
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
        let most = tile::most_pixels(group.isa, group.blocks);
        let grid = Grid { row: 0, pixel: 0, rows: 1, pixels: self.width, down: self.rows, across: 1 };
        if tile::may_have_two_rows(group.isa, self.lanes, &self.input) && 2 * self.width <= most {
            let pairs = Grid { rows: 2, down: self.rows / 2, ..grid };
            let left = Grid { row: 2 * pairs.down, down: self.rows % 2, ..grid };
            self.tiles(group, pairs, start, residual, y);
            self.tiles(group, left, start, residual, y);
            return;
        }
        let parts = self.width.div_ceil(most).max(1);
        let (pixels, wider) = (self.width / parts, self.width % parts);
        let wide = Grid { pixels: pixels + 1, across: wider, ..grid };
        let others = Grid { pixel: wider * wide.pixels, pixels, across: parts - wider, ..grid };
        self.tiles(group, wide, start, residual, y);
        self.tiles(group, others, start, residual, y);
    }

    /// Equal tiles, all checked at once.
    #[allow(unsafe_code)]
    fn tiles(&self, group: &Group<'_>, grid: Grid, start: usize, residual: Option<&[f32]>, y: &mut [f32]) {
        if grid.down == 0 || grid.across == 0 || grid.pixels == 0 {
            return;
        }
        let step = if self.input.narrow { tile::NARROW } else { self.lanes };
        let x = grid.row * self.input.row_pitch + grid.pixel * step;
        let at = start + grid.row * self.y_row + grid.pixel * self.lanes;
        let (height, width) = (grid.down * grid.rows, grid.across * grid.pixels);
        let read = x + self.input.reach(height) + width * step;
        let written = at + (group.blocks - 1) * self.y_block + (height - 1) * self.y_row + width * self.lanes;
        assert!(self.input.blocks == 0 || read <= self.x.len(), "tiles read {read} of {} elements", self.x.len());
        assert!(written <= y.len() && residual.is_none_or(|r| written <= r.len()), "tiles write beyond their result");
        let tiles = Tiles {
            input: &self.input,
            limits: self.limits,
            x: self.x[x.min(self.x.len())..].as_ptr(),
            weight: group.weight.as_ptr(),
            bias: group.bias.as_ptr(),
            y: y[at..].as_mut_ptr(),
            residual: residual.map_or(std::ptr::null(), |r| r[at..].as_ptr()),
            y_block: self.y_block,
            y_row: self.y_row,
            lanes: self.lanes,
            outputs: group.blocks,
            rows: grid.rows,
            pixels: grid.pixels,
            down: grid.down,
            across: grid.across,
        };
        // SAFETY: the ends of what is read and written have just been compared with the slices; a group holds the weights
        // and the bias of its blocks.
        unsafe { tile::run(group.isa, &tiles) };
    }
}

/// Equal tiles beside and below each other.
#[derive(Clone, Copy)]
struct Grid {
    /// Where the first one starts.
    row: usize,
    pixel: usize,
    /// Rows of a tile.
    rows: usize,
    /// Pixels of a tile's row.
    pixels: usize,
    down: usize,
    across: usize,
}

/// Cuts `0..len` into `parts` ranges of nearly the same length.
pub(crate) fn split(len: usize, parts: usize) -> impl Iterator<Item = Range<usize>> {
    let parts = parts.max(1);
    (0..parts).map(move |i| len * i / parts..len * (i + 1) / parts).filter(|range| !range.is_empty())
}
