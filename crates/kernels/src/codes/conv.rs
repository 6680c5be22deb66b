//! Dense convolution of codes: weights packed for the tiles, and the loops over bands, blocks and tiles.
//!
//! What lives here: filters whose groups are whole blocks or few enough to share some. What does not: one input channel
//! for each output, the products inside a tile (`tile`), rounding (`requantize`).

use super::output::Output;
use super::pack::{Group, Weights};
use super::tile::{self, Tiles};
use crate::blocked::{Band, Blocked, Filter, Input, NARROW, Shape, Units, split};
use crate::buffer::Buffer;
use crate::error::KernelError;
use crate::geometry::Axis;
use crate::simd::Isa;

/// Input of a band of output rows that stays in the cache while all output channels are computed, in bytes.
const BAND: usize = 384 * 1024;

/// Fewest pixels of a plane that is read in place to be cut off for the sake of the cache.
const FEWEST: usize = 112;

/// A convolution of `u8` codes with its `i8` weights packed, once for any number of threads.
#[derive(Debug)]
pub struct PackedCodesConv {
    isa: Isa,
    filter: Filter,
    units: Units,
    weights: Weights,
}

impl PackedCodesConv {
    /// Packs `weight`, which is `[out_channels, in_channels / group, kernel…]`. `None` for depthwise filters and
    /// those with groups that do not map to blocks, and where sums may overflow 32 bits: the magnitudes of an output
    /// channel's weights add up to more than 2³¹ / 255.
    ///
    /// # Errors
    /// If the length does not fit the filter, or it has a zero where it must not.
    pub fn new(isa: Isa, filter: &Filter, weight: &[i8]) -> Result<Option<Self>, KernelError> {
        filter.check(weight.len(), None)?;
        let lanes = isa.lanes();
        let depth = weight.len() / filter.out_channels.max(1);
        let depthwise = filter.group > 1 && [filter.in_channels, filter.out_channels] == [filter.group; 2];
        let suits = !depthwise && sums_fit(weight, depth);
        let Some(units) = filter.units(lanes).filter(|_| suits) else { return Ok(None) };
        let weights = Weights::new(filter, &units, lanes, weight);
        Ok(Some(Self { isa, filter: *filter, units, weights }))
    }

    /// `output = round or scale (convolution(x - x_zero_point) + bias)`, where the sum with the bias wraps around if it
    /// does not fit 32 bits. Padding is code `x_zero_point`.
    ///
    /// `x` has blocks of a vector's lanes, or of 4 if it has at most 4 channels; the result has blocks of a vector's
    /// lanes. `window` gives the sizes of both axes, vertical first.
    ///
    /// # Errors
    /// If an operand, the window or the output does not belong to the filter.
    pub fn run(
        &self,
        x: Blocked<'_, u8>,
        x_zero_point: u8,
        window: [Axis; 2],
        mut output: Output<'_>,
        scratch: &mut Buffer<u8>,
    ) -> Result<(), KernelError> {
        let lanes = self.isa.lanes();
        if x.shape.lanes != lanes && (x.shape.lanes != NARROW || x.shape.channels > NARROW) {
            return Err(KernelError::Packing);
        }
        output.check(self.filter.out_channels)?;
        let shape = self.filter.result(&x.shape, x.data.len(), &window, lanes, output.len())?;
        if shape.is_empty() {
            return Ok(());
        }
        let in_len = self.units.in_channels.div_ceil(x.shape.lanes) * x.shape.plane();
        let out_len = self.units.out_channels.div_ceil(lanes) * shape.plane();
        for image in 0..shape.batch {
            for unit in 0..self.units.count {
                let start = image * x.shape.image() + unit * in_len;
                let (x, y) =
                    (Blocked { data: &x.data[start..][..in_len], ..x }, image * shape.image() + unit * out_len);
                let mut job = Job { conv: self, unit, x, x_zero_point, shape, y, output: &mut output };
                if self.filter.is_pointwise() && window.iter().all(Axis::is_identity) {
                    job.in_place();
                } else {
                    job.in_bands(&window, scratch)?;
                }
            }
        }
        Ok(())
    }
}

/// Whether every sum of an output channel fits 32 bits, whatever the codes and the zero point.
fn sums_fit(weight: &[i8], depth: usize) -> bool {
    let magnitude = |weights: &[i8]| weights.iter().map(|w| u64::from(w.unsigned_abs())).sum::<u64>();
    weight.chunks_exact(depth.max(1)).all(|channel| magnitude(channel) <= i32::MAX as u64 / 255)
}

/// One unit of one image.
struct Job<'a, 'y> {
    conv: &'a PackedCodesConv,
    unit: usize,
    /// The blocks of the unit; the shape is that of all.
    x: Blocked<'a, u8>,
    x_zero_point: u8,
    /// Shape of the whole result.
    shape: Shape,
    /// Where the unit starts in it.
    y: usize,
    output: &'a mut Output<'y>,
}

/// Output rows whose tiles read the same input.
struct Rows<'a> {
    input: Input<'a>,
    x: &'a [u8],
    /// How many, and pixels of each.
    height: usize,
    width: usize,
    /// Between the rows of the result, in elements.
    y_row: usize,
}

impl Job<'_, '_> {
    /// A pointwise convolution: the plane is one long row, read where it is.
    fn in_place(&mut self) {
        let Shape { lanes, .. } = self.x.shape;
        let positions = self.shape.positions();
        let most = (BAND / self.conv.units.in_channels.max(1)).max(FEWEST).min(positions);
        for part in split(positions, positions.div_ceil(most)) {
            let input = self.input(self.x.shape.plane(), 0, &[0]);
            let x = &self.x.data[(part.start * lanes).min(self.x.data.len())..];
            let rows = Rows { input, x, height: 1, width: part.len(), y_row: 0 };
            self.all_outputs(&rows, part.start * self.shape.lanes);
        }
    }

    /// Any window, by bordered bands of the input.
    fn in_bands(&mut self, window: &[Axis; 2], scratch: &mut Buffer<u8>) -> Result<(), KernelError> {
        let lanes = self.x.shape.lanes;
        let blocks = self.conv.units.in_channels.div_ceil(lanes);
        let y_row = self.shape.width * self.shape.lanes;
        for band in Band::cut(window, lanes, blocks, BAND).ok_or(KernelError::TooLarge("bordered input"))? {
            band.fill(&self.x.shape, blocks, self.x.data, self.x_zero_point, scratch);
            let input = self.input(band.block_pitch(), band.row_pitch(), band.taps());
            let rows = Rows { input, x: scratch, height: band.outputs().len(), width: self.shape.width, y_row };
            self.all_outputs(&rows, band.outputs().start * y_row);
        }
        Ok(())
    }

    fn input<'t>(&self, block_pitch: usize, row_pitch: usize, taps: &'t [usize]) -> Input<'t> {
        let (channels, lanes) = (self.conv.units.in_channels, self.x.shape.lanes);
        let blocks = channels.div_ceil(lanes);
        let last = channels - (blocks.max(1) - 1) * lanes;
        Input { block_pitch, row_pitch, blocks, last, narrow: lanes != self.shape.lanes, taps }
    }

    /// All output channels of some rows; the first pixel is at `start` of the unit's first block of the result.
    fn all_outputs(&mut self, rows: &Rows<'_>, start: usize) {
        let conv = self.conv;
        for group in conv.weights.groups(self.unit) {
            self.group(&group, rows, self.y + group.first_block * self.shape.plane() + start);
        }
    }

    /// One or two blocks of output channels of some rows, cut into tiles of nearly the same size.
    fn group(&mut self, group: &Group<'_>, rows: &Rows<'_>, y: usize) {
        let most = tile::pixels(self.conv.isa);
        if !rows.input.narrow && rows.height > 1 && 2 * rows.width <= most {
            let pairs = Grid { rows: 2, pixels: rows.width, down: rows.height / 2, across: 1 };
            self.tiles(group, rows, (0, 0), pairs, y);
            let left = Grid { rows: 1, down: rows.height % 2, ..pairs };
            self.tiles(group, rows, (rows.height - left.down, 0), left, y);
            return;
        }
        let parts = rows.width.div_ceil(most);
        let (pixels, wider) = (rows.width / parts, rows.width % parts);
        let wide = Grid { rows: 1, pixels: pixels + 1, down: rows.height, across: wider };
        self.tiles(group, rows, (0, 0), wide, y);
        let narrow = Grid { pixels, across: parts - wider, ..wide };
        self.tiles(group, rows, (0, wider * wide.pixels), narrow, y);
    }

    /// Equal tiles, of which the first one starts at a row and a pixel.
    #[allow(unsafe_code)]
    fn tiles(&mut self, group: &Group<'_>, rows: &Rows<'_>, first: (usize, usize), grid: Grid, y: usize) {
        if grid.down == 0 || grid.across == 0 {
            return;
        }
        let (input, lanes) = (&rows.input, self.shape.lanes);
        let step = self.x.shape.lanes;
        let x = first.0 * input.row_pitch + first.1 * step;
        let y = y + first.0 * rows.y_row + first.1 * lanes;
        let (height, width) = (grid.down * grid.rows, grid.across * grid.pixels);
        let read = x + input.reach(height) + width * step;
        let written = y + (group.blocks - 1) * self.shape.plane() + (height - 1) * rows.y_row + width * lanes;
        assert!(input.blocks == 0 || read <= rows.x.len(), "tiles read {read} of {} elements", rows.x.len());
        assert!(written <= self.output.len(), "tiles write {written} of {} elements", self.output.len());
        let tiles = Tiles {
            isa: self.conv.isa,
            input,
            x: rows.x[x.min(rows.x.len())..].as_ptr(),
            zero_point: self.x_zero_point,
            weight: group.weight.as_ptr(),
            weight_sums: group.sums.as_ptr(),
            sink: self.output.sink(),
            channel: self.unit * self.conv.units.out_channels + group.first_block * lanes,
            y,
            y_block: self.shape.plane(),
            y_row: rows.y_row,
            outputs: group.blocks,
            rows: grid.rows,
            pixels: grid.pixels,
            down: grid.down,
            across: grid.across,
        };
        // SAFETY: the ends of what is read and written have just been compared with the slices; what is added is as
        // long as the result; a group holds the weights of its blocks and their sums.
        unsafe { tile::run(&tiles) };
    }
}

/// Equal tiles beside and below each other.
#[derive(Clone, Copy)]
struct Grid {
    /// Of a tile.
    rows: usize,
    /// Of a tile's row.
    pixels: usize,
    down: usize,
    across: usize,
}

#[cfg(test)]
mod tests;
