//! Depthwise convolution tap by tap, for any window: neighbouring outputs read neighbouring pixels of a band under every
//! tap.

use super::Rows;
use crate::blocked::Filter;
use crate::buffer::Buffer;
use crate::codes::output::{Output, Sink};
use crate::simd::{Isa, Kernel, Simd};

/// Outputs of a tile.
const PIXELS: usize = 4;

/// Weights for single taps.
#[derive(Debug)]
pub(super) struct Taps {
    taps: usize,
    /// `[blocks][taps][lanes]`
    weight: Buffer<i8>,
}

impl Taps {
    pub(super) fn new(filter: &Filter, lanes: usize, weight: &[i8]) -> Self {
        let taps = filter.taps();
        let mut packed = Buffer::new(filter.group.div_ceil(lanes) * taps * lanes);
        for (i, value) in weight.iter().enumerate() {
            let (channel, tap) = (i / taps, i % taps);
            packed[(channel / lanes * taps + tap) * lanes + channel % lanes] = *value;
        }
        Self { taps, weight: packed }
    }

    pub(super) fn run(&self, isa: Isa, rows: &Rows<'_>, output: &mut Output<'_>) {
        let offsets = rows.band.taps();
        let lanes = rows.shape.lanes;
        let last = (rows.rows.len() - 1) * rows.band.row_pitch() + rows.shape.width * lanes;
        let reach = last + offsets.iter().max().copied().unwrap_or(0);
        assert!(reach <= rows.x.len() && rows.y(rows.rows.end) <= output.len());
        let weight = &self.weight[rows.block() * self.taps * lanes..][..self.taps * lanes];
        isa.run(Tiles { offsets, weight, rows, sink: output.sink() });
    }
}

struct Tiles<'a> {
    /// Of each tap from the pixel of an output.
    offsets: &'a [usize],
    /// Weights of the block.
    weight: &'a [i8],
    rows: &'a Rows<'a>,
    sink: Sink<'a>,
}

impl Kernel for Tiles<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let width = self.rows.shape.width;
        let tiled = width / PIXELS * PIXELS;
        for (i, row) in self.rows.rows.clone().enumerate() {
            let (x, y) = (i * self.rows.band.row_pitch(), self.rows.y(row));
            for column in (0..tiled).step_by(PIXELS) {
                self.tile::<S, PIXELS>(s, x + column * S::LANES, y + column * S::LANES);
            }
            for column in tiled..width {
                self.tile::<S, 1>(s, x + column * S::LANES, y + column * S::LANES);
            }
        }
    }
}

impl Tiles<'_> {
    /// `P` outputs, of which the first one is pixel `x` of the band and element `y` of the result.
    #[inline(always)]
    #[allow(unsafe_code)]
    fn tile<S: Simd, const P: usize>(&self, s: S, x: usize, y: usize) {
        let channel = self.rows.block() * S::LANES;
        // SAFETY: `run` compared the ends of what the last tile reads and writes with the slices; weights have a vector for
        // each tap, and sums of weights fill whole vectors.
        unsafe {
            let weights = s.load_i32(self.rows.sums.as_ptr().add(channel));
            let shift = s.mul_i32(s.splat_i32(self.rows.zero_point.into()), weights);
            let mut sums = [s.sub_i32(self.sink.bias(s, channel), shift); P];
            let x = self.rows.x.as_ptr().add(x);
            for (tap, offset) in self.offsets.iter().enumerate() {
                let weight = s.load_i8(self.weight.as_ptr().add(tap * S::LANES));
                for p in 0..P {
                    let x = s.load_u8(x.add(offset + p * S::LANES));
                    sums[p] = s.add_i32(sums[p], s.mul_i32(x, weight));
                }
            }
            let sink = self.sink.vector(s, channel);
            for p in 0..P {
                sink.write(s, y + p * S::LANES, sums[p]);
            }
        }
    }
}
