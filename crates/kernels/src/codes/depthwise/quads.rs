//! Depthwise convolution by quads: four neighbouring pixels of a row, and in each lane the four of them of a channel, so
//! that one instruction multiplies four taps. Neighbouring outputs read the same quads with shifted weights.

use super::Rows;
use crate::blocked::{Filter, split};
use crate::buffer::Buffer;
use crate::codes::output::{Output, Sink};
use crate::geometry::Axis;
use crate::simd::{Isa, Kernel, Simd};

/// Pixels of a quad.
const QUAD: usize = 4;

/// Vectors of weights of a row of taps: for an output whose taps start at each pixel of a quad, those that meet this quad
/// and those that meet the next one.
const SHIFTS: usize = 2 * QUAD;

/// Most outputs of a tile.
const PIXELS: usize = 8;

/// Quads that a tile reads at most: of eight outputs two apart, with five taps.
const MOST_QUADS: usize = 5;

/// Weights for quads.
#[derive(Debug)]
pub(super) struct Quads {
    filter: Filter,
    /// `[blocks][rows of taps][SHIFTS][lanes][QUAD]`
    weight: Buffer<i8>,
}

impl Quads {
    /// `None` if a row has more than five taps, or they or the outputs are too far apart.
    pub(super) fn new(filter: &Filter, lanes: usize, weight: &[i8]) -> Option<Self> {
        let [height, width] = filter.kernel;
        if width > 5 || filter.dilation[1] != 1 || filter.stride[1] > 2 {
            return None;
        }
        let row_len = SHIFTS * lanes * QUAD;
        let mut packed = Buffer::new(filter.group.div_ceil(lanes) * height * row_len);
        for (i, value) in weight.iter().enumerate() {
            let (channel, row, tap) = (i / (height * width), i / width % height, i % width);
            let to = &mut packed[(channel / lanes * height + row) * row_len..][..row_len];
            for start in 0..QUAD {
                let (quad, byte) = ((start + tap) / QUAD, (start + tap) % QUAD);
                to[((2 * start + quad) * lanes + channel % lanes) * QUAD + byte] = *value;
            }
        }
        Some(Self { filter: *filter, weight: packed })
    }

    /// What a band must hold: pixels in their order, and as many more as a last tile reads in vain.
    pub(super) fn window([vertical, horizontal]: &[Axis; 2]) -> [Axis; 2] {
        let width = (horizontal.output + PIXELS) * horizontal.stride + 2 * QUAD;
        [*vertical, Axis { kernel: 1, stride: 1, output: width, ..*horizontal }]
    }

    pub(super) fn run(&self, isa: Isa, rows: &Rows<'_>, output: &mut Output<'_>) {
        let width = self.filter.kernel[1];
        let furthest_tap = rows.band.taps().iter().max().unwrap_or(&0);
        let end = rows.rows.len() * rows.band.row_pitch() + furthest_tap;
        assert!(end <= rows.x.len() && rows.y(rows.rows.end) <= output.len());
        let sink = output.sink();
        match (self.filter.stride[1], width) {
            (1, ..=3) => isa.run(Tiles::<1, 3> { quads: self, rows, sink }),
            (1, _) => isa.run(Tiles::<1, 5> { quads: self, rows, sink }),
            (_, ..=3) => isa.run(Tiles::<2, 3> { quads: self, rows, sink }),
            _ => isa.run(Tiles::<2, 5> { quads: self, rows, sink }),
        }
    }
}

/// Rows whose outputs are `STRIDE` pixels apart, with at most `TAPS` taps along a row.
struct Tiles<'a, const STRIDE: usize, const TAPS: usize> {
    quads: &'a Quads,
    rows: &'a Rows<'a>,
    sink: Sink<'a>,
}

impl<const STRIDE: usize, const TAPS: usize> Kernel for Tiles<'_, STRIDE, TAPS> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let width = self.rows.shape.width;
        for (i, row) in self.rows.rows.clone().enumerate() {
            let (x, y) = (i * self.rows.band.row_pitch(), self.rows.y(row));
            for part in split(width, width.div_ceil(PIXELS)) {
                let (x, y) = (x + part.start * STRIDE * S::LANES, y + part.start * S::LANES);
                match part.len() {
                    ..=4 => self.tile::<S, 4>(s, x, y, part.len()),
                    5..=7 => self.tile::<S, 7>(s, x, y, part.len()),
                    _ => self.tile::<S, PIXELS>(s, x, y, part.len()),
                }
            }
        }
    }
}

impl<const STRIDE: usize, const TAPS: usize> Tiles<'_, STRIDE, TAPS> {
    /// Computes `P` outputs and writes the first `count` of them.
    #[inline(always)]
    #[allow(unsafe_code)]
    fn tile<S: Simd, const P: usize>(&self, s: S, x: usize, y: usize, count: usize) {
        // SAFETY: the band's rows reach beyond what `P` outputs read, whose taps start in the row's part for outputs, and
        // `run` compared the last row's end with the slice; the result has the row.
        unsafe {
            let sums = self.sums::<S, P>(s, x);
            let channel = self.rows.block() * S::LANES;
            match self.sink.float_codes(s, channel) {
                Some((requantize, None, to)) => {
                    for p in 0..P {
                        if p < count {
                            s.store_low_bytes(to.add(y + p * S::LANES), requantize.codes(s, sums[p]));
                        }
                    }
                }
                _ => {
                    let sink = self.sink.vector(s, channel);
                    for p in 0..P {
                        if p < count {
                            sink.write(s, y + p * S::LANES, sums[p]);
                        }
                    }
                }
            }
        }
    }

    /// Sums of `P` outputs of which the first one's first tap is element `x` of the band.
    ///
    /// # Safety
    /// The band has all pixels of the quads they read.
    #[inline(always)]
    #[allow(unsafe_code)]
    unsafe fn sums<S: Simd, const P: usize>(&self, s: S, x: usize) -> [S::I32; P] {
        let rows = self.rows;
        let (block, height) = (rows.block(), self.quads.filter.kernel[0]);
        // SAFETY: sums of weights fill whole vectors; a block has `SHIFTS` vectors of weights for each row of taps. The
        // rest is the caller's.
        unsafe {
            let weights = s.load_i32(rows.sums.as_ptr().add(block * S::LANES));
            let shift = s.mul_i32(s.splat_i32(rows.zero_point.into()), weights);
            let mut sums = [s.sub_i32(self.sink.bias(s, block * S::LANES), shift); P];
            let mut rest = self.quads.weight.as_ptr().cast::<i32>().add(block * height * SHIFTS * S::LANES);
            for tap_row in rows.band.taps() {
                let x = rows.x.as_ptr().add(x + tap_row);
                let mut quads = [s.splat_i32(0); MOST_QUADS];
                for i in 0..((P - 1) * STRIDE + TAPS).div_ceil(QUAD) {
                    quads[i] = s.load_quads(x.add(i * QUAD * S::LANES));
                }
                for p in 0..P {
                    let (quad, start) = (p * STRIDE / QUAD, p * STRIDE % QUAD);
                    let weight = rest.add(2 * start * S::LANES);
                    sums[p] = s.dot_u8_i8(sums[p], quads[quad], s.load_i32(weight));
                    if start + TAPS > QUAD {
                        sums[p] = s.dot_u8_i8(sums[p], quads[quad + 1], s.load_i32(weight.add(S::LANES)));
                    }
                }
                rest = rest.add(SHIFTS * S::LANES);
            }
            sums
        }
    }
}
