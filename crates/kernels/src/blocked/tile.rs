//! The innermost part of a convolution: a tile of pixels by one or two blocks of output channels, kept in registers
//! over all taps and input channels.
//!
//! What lives here: the loop, and the choice of its unrolled form. What does not: where a tile is and what it reads.

use crate::simd::{Isa, Kernel, Simd};

/// Most pixels of a tile, over all instruction sets.
pub(super) const MOST_PIXELS: usize = 14;

/// Channels of a pixel in a narrow input.
pub(crate) const NARROW: usize = 4;

/// The part of an input that all tiles of a band share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Input<'a> {
    /// Between the blocks of input channels, in elements.
    pub(crate) block_pitch: usize,
    /// Between the pixels of vertically neighbouring outputs, in elements.
    pub(crate) row_pitch: usize,
    /// Blocks of input channels.
    pub(crate) blocks: usize,
    /// Channels of the last block.
    pub(crate) last: usize,
    /// Whether a pixel has four channels instead of a vector's.
    pub(crate) narrow: bool,
    /// Offset of each tap.
    pub(crate) taps: &'a [usize],
}

impl Input<'_> {
    /// From the first pixel of a tile of `rows` rows to the furthest pixel that the first one of a row reads.
    pub(crate) fn reach(&self, rows: usize) -> usize {
        let furthest_tap = self.taps.iter().max().unwrap_or(&0);
        self.blocks.saturating_sub(1) * self.block_pitch + (rows - 1) * self.row_pitch + furthest_tap
    }
}

/// One tile: `rows` by `pixels` outputs of `outputs` blocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tile<'a> {
    pub(super) input: &'a Input<'a>,
    /// Ends of the interval that results are cut to; infinite where there are none.
    pub(super) limits: (f32, f32),
    /// The first pixel's first channel in the input.
    pub(super) x: *const f32,
    /// The weights of the blocks: for each input block, tap and channel, one vector for each output block.
    pub(super) weight: *const f32,
    /// Start values of the sums, one vector for each output block.
    pub(super) bias: *const f32,
    /// The first pixel in the result's first block.
    pub(super) y: *mut f32,
    /// What is added to that pixel, laid out like the result; null for nothing.
    pub(super) residual: *const f32,
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
}

/// Most pixels of a tile of one row.
pub(super) fn pixels(isa: Isa) -> usize {
    struct Pixels;
    impl Kernel for Pixels {
        type Output = usize;
        #[inline(always)]
        fn run<S: Simd>(self, _: S) -> usize {
            S::PIXELS
        }
    }
    isa.run_float(Pixels)
}

/// Computes a tile.
///
/// # Safety
/// Every input pixel under every tap, the weights, the bias, the result and what is added to it lie in memory that may
/// be read, or for the result written.
#[allow(unsafe_code)]
pub(super) unsafe fn run(isa: Isa, tile: &Tile<'_>) {
    match (tile.input.narrow, tile.outputs, tile.rows) {
        (false, 2, 1) => row::<false, 2>(isa, tile),
        (false, _, 1) => row::<false, 1>(isa, tile),
        (true, 2, 1) => row::<true, 2>(isa, tile),
        (true, _, 1) => row::<true, 1>(isa, tile),
        (false, 2, _) => two_rows::<2>(isa, tile),
        _ => two_rows::<1>(isa, tile),
    }
}

fn row<const FEW: bool, const O: usize>(isa: Isa, tile: &Tile<'_>) {
    match tile.pixels {
        1 => isa.run_float(Unrolled::<FEW, O, 1, 1>(tile)),
        2 => isa.run_float(Unrolled::<FEW, O, 1, 2>(tile)),
        3 => isa.run_float(Unrolled::<FEW, O, 1, 3>(tile)),
        4 => isa.run_float(Unrolled::<FEW, O, 1, 4>(tile)),
        5 => isa.run_float(Unrolled::<FEW, O, 1, 5>(tile)),
        6 => isa.run_float(Unrolled::<FEW, O, 1, 6>(tile)),
        7 => isa.run_float(Unrolled::<FEW, O, 1, 7>(tile)),
        8 => isa.run_float(Unrolled::<FEW, O, 1, 8>(tile)),
        9 => isa.run_float(Unrolled::<FEW, O, 1, 9>(tile)),
        10 => isa.run_float(Unrolled::<FEW, O, 1, 10>(tile)),
        11 => isa.run_float(Unrolled::<FEW, O, 1, 11>(tile)),
        12 => isa.run_float(Unrolled::<FEW, O, 1, 12>(tile)),
        13 => isa.run_float(Unrolled::<FEW, O, 1, 13>(tile)),
        _ => isa.run_float(Unrolled::<FEW, O, 1, MOST_PIXELS>(tile)),
    }
}

fn two_rows<const O: usize>(isa: Isa, tile: &Tile<'_>) {
    match tile.pixels {
        1 => isa.run_float(Unrolled::<false, O, 2, 1>(tile)),
        2 => isa.run_float(Unrolled::<false, O, 2, 2>(tile)),
        3 => isa.run_float(Unrolled::<false, O, 2, 3>(tile)),
        4 => isa.run_float(Unrolled::<false, O, 2, 4>(tile)),
        5 => isa.run_float(Unrolled::<false, O, 2, 5>(tile)),
        6 => isa.run_float(Unrolled::<false, O, 2, 6>(tile)),
        _ => isa.run_float(Unrolled::<false, O, 2, 7>(tile)),
    }
}

/// A tile of `O` blocks, `R` rows and `P` pixels.
struct Unrolled<'a, const FEW: bool, const O: usize, const R: usize, const P: usize>(&'a Tile<'a>);

impl<const FEW: bool, const O: usize, const R: usize, const P: usize> Kernel for Unrolled<'_, FEW, O, R, P> {
    type Output = ();

    #[inline(always)]
    #[allow(unsafe_code)]
    fn run<S: Simd>(self, s: S) {
        if R * P > S::PIXELS {
            // Never asked for; leaves this form out of the instruction sets it does not fit.
            return;
        }
        let tile = self.0;
        // SAFETY: the caller of `run` promises that all of it is there.
        unsafe {
            let mut sums = [[[s.splat(0.0); P]; R]; O];
            for (o, sums) in sums.iter_mut().enumerate() {
                *sums = [[s.load(tile.bias.add(o * S::LANES)); P]; R];
            }
            accumulate::<S, FEW, O, R, P>(s, tile, &mut sums);
            write::<S, O, R, P>(s, tile, &sums);
        }
    }
}

/// # Safety
/// As for [`run`].
#[inline(always)]
#[allow(unsafe_code)]
unsafe fn accumulate<S: Simd, const FEW: bool, const O: usize, const R: usize, const P: usize>(
    s: S,
    tile: &Tile<'_>,
    sums: &mut [[[S::F32; P]; R]; O],
) {
    let step = if FEW { self::NARROW } else { S::LANES };
    let input = tile.input;
    let mut weight = tile.weight;
    for block in 0..input.blocks {
        let channels = if block + 1 == input.blocks { input.last } else { step };
        for tap in input.taps {
            // SAFETY: the caller promises that pixels under taps and the weights are there.
            unsafe {
                let x = tile.x.add(block * input.block_pitch + tap);
                for channel in 0..channels {
                    let mut weights = [s.splat(0.0); O];
                    for (o, w) in weights.iter_mut().enumerate() {
                        *w = s.load(weight.add(o * S::LANES));
                    }
                    weight = weight.add(O * S::LANES);
                    for r in 0..R {
                        let row = x.add(r * input.row_pitch + channel);
                        for p in 0..P {
                            let x = s.splat(*row.add(p * step));
                            for o in 0..O {
                                sums[o][r][p] = s.mul_add(x, weights[o], sums[o][r][p]);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// # Safety
/// As for [`run`].
#[inline(always)]
#[allow(unsafe_code)]
unsafe fn write<S: Simd, const O: usize, const R: usize, const P: usize>(
    s: S,
    tile: &Tile<'_>,
    sums: &[[[S::F32; P]; R]; O],
) {
    let (lo, hi) = (s.splat(tile.limits.0), s.splat(tile.limits.1));
    for (o, rows) in sums.iter().enumerate() {
        for (r, row) in rows.iter().enumerate() {
            for (p, sum) in row.iter().enumerate() {
                // SAFETY: the caller promises that the result is there, and what is added to it.
                unsafe {
                    let at = o * tile.y_block + r * tile.y_row + p * S::LANES;
                    let added = !tile.residual.is_null();
                    let sum = if added { s.add(*sum, s.load(tile.residual.add(at))) } else { *sum };
                    s.store(tile.y.add(at), s.min(hi, s.max(lo, sum)));
                }
            }
        }
    }
}
