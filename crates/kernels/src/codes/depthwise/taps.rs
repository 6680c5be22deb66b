//! Depthwise convolution of codes tap by tap, for any window: neighbouring outputs read neighbouring pixels of a band
//! under every tap.

use super::{Job, Rows};
use crate::blocked::{Band, Filter, Shape};
use crate::buffer::Buffer;
use crate::codes::output::{Output, Sink};
use crate::error::KernelError;
use crate::simd::{Kernel, Simd};

/// Bordered rows that stay in the cache while they are read, in bytes.
const BAND: usize = 40 * 1024;

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

    pub(super) fn run(
        &self,
        job: &Job<'_>,
        output: &mut Output<'_>,
        scratch: &mut Buffer<u8>,
    ) -> Result<(), KernelError> {
        let Shape { lanes, width, .. } = job.shape;
        let bands = Band::cut(&job.window, lanes, 1, BAND).ok_or(KernelError::TooLarge("bordered input"))?;
        for plane in 0..job.planes() {
            let block = job.block(plane);
            for band in &bands {
                band.fill(&job.x.shape, 1, job.x(plane), job.x_zero_point, scratch);
                let (offsets, rows) = (band.taps(), band.outputs());
                let (x_row, y, height) = (band.row_pitch(), job.y(plane, rows.start), rows.len());
                let read = (height - 1) * x_row + width * lanes + offsets.iter().max().copied().unwrap_or(0);
                assert!(read <= scratch.len() && y + height * width * lanes <= output.len());
                let rows = Rows { x: scratch, x_row, block, y, height, width };
                let weight = &self.weight[block * self.taps * lanes..][..self.taps * lanes];
                job.isa.run(Tiles { job, offsets, weight, rows, sink: output.sink() });
            }
        }
        Ok(())
    }
}

struct Tiles<'a> {
    job: &'a Job<'a>,
    /// Of each tap from the pixel of an output.
    offsets: &'a [usize],
    /// Weights of the block.
    weight: &'a [i8],
    rows: Rows<'a>,
    sink: Sink<'a>,
}

impl Kernel for Tiles<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let width = self.rows.width;
        let tiled = width / PIXELS * PIXELS;
        for row in 0..self.rows.height {
            let (x, y) = (row * self.rows.x_row, self.rows.y + row * width * S::LANES);
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
        let channel = self.rows.block * S::LANES;
        // SAFETY: `run` compared the ends of what the last tile reads and writes with the slices; weights have a vector
        // for each tap, and sums of weights fill whole vectors.
        unsafe {
            let weights = s.load_i32(self.job.sums.as_ptr().add(channel));
            let shift = s.mul_i32(s.splat_i32(self.job.x_zero_point.into()), weights);
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
