//! The innermost part of a convolution of codes: tiles of pixels by one or two blocks of output channels, kept in
//! registers over all taps and input channels.
//!
//! What lives here: the loops over equal tiles and inside one, and the choice of the unrolled form. What does not:
//! where tiles are and what they read.

use super::output::Sink;
use super::pack::QUAD;
use super::requantize::MOST_LANES;
use crate::blocked::{Input, NARROW};
use crate::simd::{Isa, Kernel, Simd};

/// Tiles of the same size: `down` rows of `across` tiles, each of `rows` by `pixels` outputs of `outputs` blocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tiles<'a> {
    pub(super) isa: Isa,
    pub(super) input: &'a Input<'a>,
    /// The first pixel's first channel in the input.
    pub(super) x: *const u8,
    /// Zero point of the input.
    pub(super) zero_point: u8,
    /// The weights of the blocks, as `pack` lays them out.
    pub(super) weight: *const i8,
    /// Sums of the weights, one vector for each output block.
    pub(super) weight_sums: *const i32,
    pub(super) sink: Sink<'a>,
    /// First output channel.
    pub(super) channel: usize,
    /// The first pixel in the result's first block.
    pub(super) y: usize,
    /// Between the result's blocks, in elements.
    pub(super) y_block: usize,
    /// Between the result's rows, in elements.
    pub(super) y_row: usize,
    /// Blocks of output channels, 1 or 2.
    pub(super) outputs: usize,
    /// Rows, 1 or 2.
    pub(super) rows: usize,
    /// Pixels of a row, at most [`pixels`], or half of it for two rows.
    pub(super) pixels: usize,
    pub(super) down: usize,
    pub(super) across: usize,
}

/// Most pixels of a tile of one row.
pub(super) fn pixels(isa: Isa) -> usize {
    struct Pixels;
    impl Kernel for Pixels {
        type Output = usize;
        #[inline(always)]
        fn run<S: Simd>(self, _: S) -> usize {
            S::CODE_PIXELS
        }
    }
    isa.run(Pixels)
}

/// Computes tiles.
///
/// # Safety
/// Every input pixel under every tap, the weights, their sums, the result and what is added to it lie in memory that
/// may be read, or for the result written.
#[allow(unsafe_code)]
pub(super) unsafe fn run(tiles: &Tiles<'_>) {
    let isa = tiles.isa;
    match (tiles.input.narrow, tiles.outputs, tiles.rows) {
        (false, 2, 1) => row::<false, 2>(isa, tiles),
        (false, _, 1) => row::<false, 1>(isa, tiles),
        (true, 2, 1) => row::<true, 2>(isa, tiles),
        (true, _, 1) => row::<true, 1>(isa, tiles),
        (false, 2, _) => two_rows::<2>(isa, tiles),
        _ => two_rows::<1>(isa, tiles),
    }
}

fn row<const FEW: bool, const O: usize>(isa: Isa, tiles: &Tiles<'_>) {
    match tiles.pixels {
        1 => isa.run(Unrolled::<FEW, O, 1, 1>(tiles)),
        2 => isa.run(Unrolled::<FEW, O, 1, 2>(tiles)),
        3 => isa.run(Unrolled::<FEW, O, 1, 3>(tiles)),
        4 => isa.run(Unrolled::<FEW, O, 1, 4>(tiles)),
        5 => isa.run(Unrolled::<FEW, O, 1, 5>(tiles)),
        6 => isa.run(Unrolled::<FEW, O, 1, 6>(tiles)),
        7 => isa.run(Unrolled::<FEW, O, 1, 7>(tiles)),
        8 => isa.run(Unrolled::<FEW, O, 1, 8>(tiles)),
        9 => isa.run(Unrolled::<FEW, O, 1, 9>(tiles)),
        10 => isa.run(Unrolled::<FEW, O, 1, 10>(tiles)),
        11 => isa.run(Unrolled::<FEW, O, 1, 11>(tiles)),
        12 => isa.run(Unrolled::<FEW, O, 1, 12>(tiles)),
        13 => isa.run(Unrolled::<FEW, O, 1, 13>(tiles)),
        _ => isa.run(Unrolled::<FEW, O, 1, 14>(tiles)),
    }
}

fn two_rows<const O: usize>(isa: Isa, tiles: &Tiles<'_>) {
    match tiles.pixels {
        1 => isa.run(Unrolled::<false, O, 2, 1>(tiles)),
        2 => isa.run(Unrolled::<false, O, 2, 2>(tiles)),
        3 => isa.run(Unrolled::<false, O, 2, 3>(tiles)),
        4 => isa.run(Unrolled::<false, O, 2, 4>(tiles)),
        5 => isa.run(Unrolled::<false, O, 2, 5>(tiles)),
        6 => isa.run(Unrolled::<false, O, 2, 6>(tiles)),
        _ => isa.run(Unrolled::<false, O, 2, 7>(tiles)),
    }
}

/// Tiles of `O` blocks, `R` rows and `P` pixels.
struct Unrolled<'a, const FEW: bool, const O: usize, const R: usize, const P: usize>(&'a Tiles<'a>);

impl<const FEW: bool, const O: usize, const R: usize, const P: usize> Kernel for Unrolled<'_, FEW, O, R, P> {
    type Output = ();

    #[inline(always)]
    #[allow(unsafe_code)]
    fn run<S: Simd>(self, s: S) {
        if R * P > S::CODE_PIXELS {
            // Never asked for; leaves this form out of the instruction sets it does not fit.
            return;
        }
        let tiles = self.0;
        let step = if FEW { NARROW } else { S::LANES };
        for down in 0..tiles.down {
            for across in 0..tiles.across {
                // SAFETY: the caller of `run` promises that all of it is there.
                unsafe {
                    let x = tiles.x.add(down * R * tiles.input.row_pitch + across * P * step);
                    let sums = accumulate::<S, FEW, O, R, P>(s, tiles, x);
                    write::<S, O, R, P>(s, tiles, tiles.y + down * R * tiles.y_row + across * P * S::LANES, &sums);
                }
            }
        }
    }
}

/// Sums of the tile whose first pixel is at `x`.
///
/// # Safety
/// As for [`run`].
#[inline(always)]
#[allow(unsafe_code)]
unsafe fn accumulate<S: Simd, const FEW: bool, const O: usize, const R: usize, const P: usize>(
    s: S,
    tiles: &Tiles<'_>,
    x: *const u8,
) -> [[[S::I32; P]; R]; O] {
    let step = if FEW { NARROW } else { S::LANES };
    let input = tiles.input;
    let mut sums = [[[s.splat_i32(0); P]; R]; O];
    for (o, sums) in sums.iter_mut().enumerate() {
        // SAFETY: the caller promises that the sums are there.
        let weights = unsafe { s.load_i32(tiles.weight_sums.add(o * S::LANES)) };
        let shift = s.mul_i32(s.splat_i32(tiles.zero_point.into()), weights);
        let start = s.sub_i32(tiles.sink.bias(s, tiles.channel + o * S::LANES), shift);
        *sums = [[start; P]; R];
    }
    let mut weight = tiles.weight.cast::<i32>();
    for block in 0..input.blocks {
        let channels = if block + 1 == input.blocks { input.last } else { step };
        for tap in input.taps {
            // SAFETY: the caller promises that pixels under taps and the weights are there.
            unsafe {
                let x = x.add(block * input.block_pitch + tap);
                for quad in 0..channels.div_ceil(QUAD) {
                    let mut weights = [s.splat_i32(0); O];
                    for (o, w) in weights.iter_mut().enumerate() {
                        *w = s.load_i32(weight.add(o * S::LANES));
                    }
                    weight = weight.add(O * S::LANES);
                    for r in 0..R {
                        let row = x.add(r * input.row_pitch + quad * QUAD);
                        for p in 0..P {
                            let x = s.splat_i32(row.add(p * step).cast::<i32>().read_unaligned());
                            for o in 0..O {
                                sums[o][r][p] = s.dot_u8_i8(sums[o][r][p], x, weights[o]);
                            }
                        }
                    }
                }
            }
        }
    }
    sums
}

/// Writes the tile whose first pixel is element `at` of the result.
///
/// # Safety
/// As for [`run`].
#[inline(always)]
#[allow(unsafe_code)]
unsafe fn write<S: Simd, const O: usize, const R: usize, const P: usize>(
    s: S,
    tiles: &Tiles<'_>,
    at: usize,
    sums: &[[[S::I32; P]; R]; O],
) {
    for (o, rows) in sums.iter().enumerate() {
        let channel = tiles.channel + o * S::LANES;
        let place = |r: usize, p: usize| at + o * tiles.y_block + r * tiles.y_row + p * S::LANES;
        // SAFETY: the caller promises that the result is there, and what is added to it.
        unsafe {
            match tiles.sink.float_codes(s, channel) {
                Some((requantize, None, y)) => {
                    for (r, row) in rows.iter().enumerate() {
                        for (p, sum) in row.iter().enumerate() {
                            s.store_low_bytes(y.add(place(r, p)), requantize.codes(s, *sum));
                        }
                    }
                }
                Some((requantize, Some((addition, added)), y)) => {
                    for (r, row) in rows.iter().enumerate() {
                        for (p, sum) in row.iter().enumerate() {
                            let added = s.load_u8(added.add(place(r, p)));
                            s.store_low_bytes(y.add(place(r, p)), addition.codes(s, requantize.codes(s, *sum), added));
                        }
                    }
                }
                None => {
                    let mut spilled = [[[0; MOST_LANES]; P]; R];
                    for (r, row) in rows.iter().enumerate() {
                        for (p, sum) in row.iter().enumerate() {
                            s.store_i32(spilled[r][p].as_mut_ptr(), *sum);
                        }
                    }
                    let (y_row, sums) = (tiles.y_row, spilled.as_flattened());
                    tiles.isa.run(Spilled { sink: tiles.sink, channel, at: place(0, 0), y_row, pixels: P, sums });
                }
            }
        }
    }
}

/// Sums of a tile's output block in memory: what becomes of them is code that all forms of tiles share.
struct Spilled<'a> {
    sink: Sink<'a>,
    channel: usize,
    /// Where the first pixel is in the result.
    at: usize,
    y_row: usize,
    /// Pixels of a row.
    pixels: usize,
    sums: &'a [[i32; MOST_LANES]],
}

impl Kernel for Spilled<'_> {
    type Output = ();

    #[inline(always)]
    #[allow(unsafe_code)]
    fn run<S: Simd>(self, s: S) {
        let sink = self.sink.vector(s, self.channel);
        for (i, sums) in self.sums.iter().enumerate() {
            let at = self.at + i / self.pixels * self.y_row + i % self.pixels * S::LANES;
            // SAFETY: no vector has more lanes; the caller of `run` promises the result and what is added to it.
            unsafe { sink.write(s, at, s.load_i32(sums.as_ptr())) };
        }
    }
}
