//! Depthwise convolution of codes by quads: four neighbouring pixels of a row, and in each lane the four of them of a
//! channel, so that one instruction multiplies four taps. Neighbouring outputs read the same quads with shifted weights.

use super::{Job, Rows};
use crate::blocked::{Filter, LARGEST, Shape, split};
use crate::buffer::Buffer;
use crate::codes::output::{Output, Sink, SinkVector};
use crate::codes::requantize::{FloatVector, load_i32};
use crate::error::KernelError;
use crate::geometry::Axis;
use crate::simd::{Kernel, Simd};

/// Bordered rows that stay in the cache while they are read, in bytes.
const BAND: usize = 40 * 1024;

/// Pixels of a quad.
const QUAD: usize = 4;

/// Vectors of weights of a row of taps: for an output whose taps start at each pixel of a quad, those that meet this
/// quad and those that meet the next one.
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

    pub(super) fn run(
        &self,
        job: &Job<'_>,
        output: &mut Output<'_>,
        scratch: &mut Buffer<u8>,
    ) -> Result<(), KernelError> {
        let mut band = BorderedRows::new(job, scratch).ok_or(KernelError::TooLarge("bordered input"))?;
        let Shape { lanes, width, .. } = job.shape;
        let parts = job.shape.height.div_ceil(band.outputs);
        for plane in 0..job.planes() {
            for part in split(job.shape.height, parts) {
                band.fill(job.x(plane), part.start);
                let (x_row, y, height) = (job.window[0].stride * band.pitch, job.y(plane, part.start), part.len());
                assert!(height <= band.outputs && y + height * width * lanes <= output.len());
                let rows = Rows { x: band.rows, x_row, block: job.block(plane), y, height, width };
                let tap_row = self.filter.dilation[0] * band.pitch;
                self.run_rows(job, Tiles { job, quads: self, rows, tap_row, sink: output.sink() });
            }
        }
        Ok(())
    }

    fn run_rows(&self, job: &Job<'_>, tiles: Tiles<'_>) {
        match (self.filter.stride[1], self.filter.kernel[1]) {
            (1, ..=3) => job.isa.run(Strided::<1, 3>(tiles)),
            (1, _) => job.isa.run(Strided::<1, 5>(tiles)),
            (_, ..=3) => job.isa.run(Strided::<2, 3>(tiles)),
            _ => job.isa.run(Strided::<2, 5>(tiles)),
        }
    }
}

/// Rows of the input with their pixels in their order, and behind them as many as the last tile reads in vain. What is
/// not input is the zero point; beside it, that is written only once.
struct BorderedRows<'a> {
    vertical: Axis,
    /// Where the input starts in a row, and what of a row of it is read.
    start: usize,
    inside: usize,
    /// Elements of a row of the input.
    x_row: usize,
    zero_point: u8,
    /// Most rows of outputs whose input they hold.
    outputs: usize,
    /// Between rows.
    pitch: usize,
    rows: &'a mut [u8],
}

impl<'a> BorderedRows<'a> {
    /// `None` if the input of one row of outputs is larger than any network's.
    fn new(job: &Job<'_>, scratch: &'a mut Buffer<u8>) -> Option<Self> {
        let [v, h] = job.window;
        let lanes = job.shape.lanes;
        let pixels = (h.output + PIXELS) * h.stride + 2 * QUAD;
        let start = h.pad_begin.min(pixels);
        let pitch = pixels.checked_mul(lanes)?;
        let reach = (v.kernel - 1) * v.dilation + 1;
        let fits = (BAND / pitch).saturating_sub(reach) / v.stride + 1;
        let outputs = fits.min(v.output);
        let rows = (outputs - 1) * v.stride + reach;
        scratch.resize(rows.checked_mul(pitch).filter(|n| *n <= LARGEST)?);
        scratch.fill(job.x_zero_point);
        Some(Self {
            vertical: v,
            start: start * lanes,
            inside: h.input.min(pixels - start) * lanes,
            x_row: h.input * lanes,
            zero_point: job.x_zero_point,
            outputs,
            pitch,
            rows: scratch,
        })
    }

    /// Copies what the outputs from row `first` on read of a plane.
    fn fill(&mut self, x: &[u8], first: usize) {
        let v = self.vertical;
        for (i, to) in self.rows.chunks_exact_mut(self.pitch).enumerate() {
            let row = (first * v.stride + i).checked_sub(v.pad_begin).filter(|row| *row < v.input);
            let to = &mut to[self.start..][..self.inside];
            match row {
                Some(row) => to.copy_from_slice(&x[row * self.x_row..][..self.inside]),
                None => to.fill(self.zero_point),
            }
        }
    }
}

/// Rows of outputs.
struct Tiles<'a> {
    job: &'a Job<'a>,
    quads: &'a Quads,
    rows: Rows<'a>,
    /// Between the bordered rows under neighbouring rows of taps.
    tap_row: usize,
    sink: Sink<'a>,
}

/// Rows whose outputs are `STRIDE` pixels apart, with at most `TAPS` taps along a row.
struct Strided<'a, const STRIDE: usize, const TAPS: usize>(Tiles<'a>);

impl<const STRIDE: usize, const TAPS: usize> Kernel for Strided<'_, STRIDE, TAPS> {
    type Output = ();

    #[inline(always)]
    #[allow(unsafe_code)]
    fn run<S: Simd>(self, s: S) {
        let Tiles { job, quads, rows, tap_row, sink } = self.0;
        let (channel, height) = (rows.block * S::LANES, quads.filter.kernel[0]);
        let weight = &quads.weight[rows.block * height * SHIFTS * S::LANES * QUAD..];
        let shift = s.mul_i32(s.splat_i32(job.x_zero_point.into()), load_i32(s, job.sums, channel));
        let start = s.sub_i32(sink.bias(s, channel), shift);
        let weight = weight.as_ptr().cast();
        let block = Block::<S, STRIDE, TAPS> { s, order: s.quad_order(), start, weight, height, tap_row };
        // SAFETY: bordered rows hold what the outputs of `rows` read, and more behind the last pixel than tiles read in
        // vain; `Quads::run` compared the end of the result; the weights of the block are there.
        unsafe {
            match sink.float_codes(s, channel) {
                Some((requantize, None, to)) => block.run(&rows, &Plain { requantize, to }),
                _ => block.run(&rows, &sink.vector(s, channel)),
            }
        }
    }
}

/// Where sums go.
trait Write<S: Simd> {
    /// Writes what becomes of sums to the result, from its element `at` on; to be marked `#[inline(always)]`.
    ///
    /// # Safety
    /// The result, and what is added to it, have `LANES` elements from there on.
    #[allow(unsafe_code)]
    unsafe fn write(&self, s: S, at: usize, sums: S::I32);
}

/// Codes rounded as floats, with nothing added to them: what nearly all are, and short enough for the inner loop.
struct Plain<S: Simd> {
    requantize: FloatVector<S>,
    to: *mut u8,
}

#[allow(unsafe_code)]
impl<S: Simd> Write<S> for Plain<S> {
    #[inline(always)]
    unsafe fn write(&self, s: S, at: usize, sums: S::I32) {
        // SAFETY: the caller's.
        unsafe { s.store_low_bytes(self.to.add(at), self.requantize.codes(s, sums)) };
    }
}

#[allow(unsafe_code)]
impl<S: Simd> Write<S> for SinkVector<S> {
    #[inline(always)]
    unsafe fn write(&self, s: S, at: usize, sums: S::I32) {
        // SAFETY: the caller's.
        unsafe { SinkVector::write(self, s, at, sums) };
    }
}

/// What all tiles of a block of channels share.
struct Block<S: Simd, const STRIDE: usize, const TAPS: usize> {
    s: S,
    order: S::I32,
    /// What sums start with.
    start: S::I32,
    weight: *const i32,
    /// Rows of taps.
    height: usize,
    /// Between the bordered rows under neighbouring rows of taps.
    tap_row: usize,
}

#[allow(unsafe_code)]
impl<S: Simd, const STRIDE: usize, const TAPS: usize> Block<S, STRIDE, TAPS> {
    /// # Safety
    /// The rows, the weights and the result have all that is read and written.
    #[inline(always)]
    unsafe fn run(&self, rows: &Rows<'_>, to: &impl Write<S>) {
        for row in 0..rows.height {
            let (x, y) = (row * rows.x_row, rows.y + row * rows.width * S::LANES);
            for part in split(rows.width, rows.width.div_ceil(PIXELS)) {
                // SAFETY: the caller's.
                unsafe {
                    let x = rows.x.as_ptr().add(x + part.start * STRIDE * S::LANES);
                    let y = y + part.start * S::LANES;
                    match part.len() {
                        ..=4 => self.tile::<4>(x, y, part.len(), to),
                        5..=7 => self.tile::<7>(x, y, part.len(), to),
                        _ => self.tile::<PIXELS>(x, y, part.len(), to),
                    }
                }
            }
        }
    }

    /// Computes `P` outputs, of which the first one's taps start at pixel `x`, and writes the first `count` of them.
    ///
    /// # Safety
    /// As for [`Block::run`].
    #[inline(always)]
    unsafe fn tile<const P: usize>(&self, x: *const u8, y: usize, count: usize, to: &impl Write<S>) {
        let s = self.s;
        let mut sums = [self.start; P];
        for row in 0..self.height {
            // SAFETY: the caller's.
            unsafe {
                let x = x.add(row * self.tap_row);
                let weight = self.weight.add(row * SHIFTS * S::LANES);
                let mut quads = [self.start; MOST_QUADS];
                for i in 0..((P - 1) * STRIDE + TAPS).div_ceil(QUAD) {
                    quads[i] = s.load_quads(x.add(i * QUAD * S::LANES), self.order);
                }
                for p in 0..P {
                    let (quad, start) = (p * STRIDE / QUAD, p * STRIDE % QUAD);
                    let weight = weight.add(2 * start * S::LANES);
                    sums[p] = s.dot_u8_i8(sums[p], quads[quad], s.load_i32(weight));
                    if start + TAPS > QUAD {
                        sums[p] = s.dot_u8_i8(sums[p], quads[quad + 1], s.load_i32(weight.add(S::LANES)));
                    }
                }
            }
        }
        for p in 0..P {
            if p < count {
                // SAFETY: the caller's.
                unsafe { to.write(s, y + p * S::LANES, sums[p]) };
            }
        }
    }
}
