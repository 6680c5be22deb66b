//! The innermost part of a convolution: a tile of pixels by one or two blocks of output channels, kept in registers
//! over all taps and input channels.
//!
//! What lives here: the loop, and the choice of its unrolled form. What does not: where a tile is and what it reads.

use crate::simd::{Isa, Kernel, Simd};

/// Most pixels of a tile, over all instruction sets.
pub(super) const MOST_PIXELS: usize = 14;

/// Lanes of the widest vector.
const MOST_LANES: usize = 16;

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

/// Equal tiles beside and below each other, each of `rows` by `pixels` outputs of `outputs` blocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tiles<'a> {
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
    /// Channels of a block: a vector's, or twice as many.
    pub(super) lanes: usize,
    /// Blocks of output channels, 1 or 2; 1 if they have twice a vector's channels.
    pub(super) outputs: usize,
    /// Rows of a tile, 1 or 2; 1 unless it [may have two](may_have_two_rows).
    pub(super) rows: usize,
    /// Pixels of a tile's row, so many that the tile has at most [`most_pixels`].
    pub(super) pixels: usize,
    /// Tiles below each other.
    pub(super) down: usize,
    /// Tiles beside each other.
    pub(super) across: usize,
}

/// Most pixels of a tile of some blocks of outputs.
pub(super) fn most_pixels(isa: Isa, outputs: usize) -> usize {
    struct Pixels;
    impl Kernel for Pixels {
        type Output = usize;
        #[inline(always)]
        fn run<S: Simd>(self, _: S) -> usize {
            S::PIXELS
        }
    }
    (2 * isa.run_float(Pixels) / outputs).min(MOST_PIXELS)
}

/// Whether a tile of blocks of `lanes` channels may have two rows.
pub(super) fn may_have_two_rows(isa: Isa, lanes: usize, input: &Input<'_>) -> bool {
    !input.narrow && isa.lanes() == lanes
}

/// Computes tiles.
///
/// # Safety
/// Every input pixel under every tap, the weights, the bias, the result and what is added to it lie in memory that may
/// be read, or for the result written.
#[allow(unsafe_code)]
pub(super) unsafe fn run(isa: Isa, tiles: &Tiles<'_>) {
    match (tiles.input.narrow, isa.lanes() < tiles.lanes, tiles.outputs, tiles.rows) {
        (false, true, ..) => row::<false, true, 1>(isa, tiles),
        (true, true, ..) => row::<true, true, 1>(isa, tiles),
        (false, false, 2, 1) => row::<false, false, 2>(isa, tiles),
        (false, false, _, 1) => row::<false, false, 1>(isa, tiles),
        (true, false, 2, _) => row::<true, false, 2>(isa, tiles),
        (true, false, ..) => row::<true, false, 1>(isa, tiles),
        (false, false, 2, _) => two_rows::<2>(isa, tiles),
        (false, false, ..) => two_rows::<1>(isa, tiles),
    }
}

fn row<const FEW: bool, const HALF: bool, const O: usize>(isa: Isa, tiles: &Tiles<'_>) {
    match tiles.pixels {
        1 => isa.run_float(Unrolled::<FEW, HALF, O, 1, 1>(tiles)),
        2 => isa.run_float(Unrolled::<FEW, HALF, O, 1, 2>(tiles)),
        3 => isa.run_float(Unrolled::<FEW, HALF, O, 1, 3>(tiles)),
        4 => isa.run_float(Unrolled::<FEW, HALF, O, 1, 4>(tiles)),
        5 => isa.run_float(Unrolled::<FEW, HALF, O, 1, 5>(tiles)),
        6 => isa.run_float(Unrolled::<FEW, HALF, O, 1, 6>(tiles)),
        7 => isa.run_float(Unrolled::<FEW, HALF, O, 1, 7>(tiles)),
        8 => isa.run_float(Unrolled::<FEW, HALF, O, 1, 8>(tiles)),
        9 => isa.run_float(Unrolled::<FEW, HALF, O, 1, 9>(tiles)),
        10 => isa.run_float(Unrolled::<FEW, HALF, O, 1, 10>(tiles)),
        11 => isa.run_float(Unrolled::<FEW, HALF, O, 1, 11>(tiles)),
        12 => isa.run_float(Unrolled::<FEW, HALF, O, 1, 12>(tiles)),
        13 => isa.run_float(Unrolled::<FEW, HALF, O, 1, 13>(tiles)),
        _ => isa.run_float(Unrolled::<FEW, HALF, O, 1, MOST_PIXELS>(tiles)),
    }
}

fn two_rows<const O: usize>(isa: Isa, tiles: &Tiles<'_>) {
    match tiles.pixels {
        1 => isa.run_float(Unrolled::<false, false, O, 2, 1>(tiles)),
        2 => isa.run_float(Unrolled::<false, false, O, 2, 2>(tiles)),
        3 => isa.run_float(Unrolled::<false, false, O, 2, 3>(tiles)),
        4 => isa.run_float(Unrolled::<false, false, O, 2, 4>(tiles)),
        5 => isa.run_float(Unrolled::<false, false, O, 2, 5>(tiles)),
        6 => isa.run_float(Unrolled::<false, false, O, 2, 6>(tiles)),
        _ => isa.run_float(Unrolled::<false, false, O, 2, 7>(tiles)),
    }
}

/// Tiles of `O` blocks, `R` rows and `P` pixels, of a narrow input if `FEW`. If `HALF`, a block has twice a vector's
/// channels, of which the second half is not computed but 0.
struct Unrolled<'a, const FEW: bool, const HALF: bool, const O: usize, const R: usize, const P: usize>(&'a Tiles<'a>);

impl<const FEW: bool, const HALF: bool, const O: usize, const R: usize, const P: usize> Kernel
    for Unrolled<'_, FEW, HALF, O, R, P>
{
    type Output = ();

    #[inline(always)]
    #[allow(unsafe_code)]
    fn run<S: Simd>(self, s: S) {
        if O * R * P > 2 * S::PIXELS || (HALF && 2 * S::LANES > MOST_LANES) {
            // Never asked for; leaves this form out of the instruction sets it does not fit.
            return;
        }
        let tiles = self.0;
        let step = if FEW { NARROW } else { S::LANES << HALF as usize };
        for (i, j) in (0..tiles.down).flat_map(|i| (0..tiles.across).map(move |j| (i, j))) {
            // SAFETY: the caller of `run` promises that all of it is there.
            unsafe {
                let x = tiles.x.add(i * R * tiles.input.row_pitch + j * P * step);
                let mut sums = [[[s.splat(0.0); P]; R]; O];
                for (o, sums) in sums.iter_mut().enumerate() {
                    *sums = [[s.load(tiles.bias.add(o * S::LANES)); P]; R];
                }
                accumulate::<S, O, R, P>(s, tiles, x, step, &mut sums);
                let at = i * R * tiles.y_row + j * P * (S::LANES << HALF as usize);
                write::<S, HALF, O, R, P>(s, tiles, at, &sums);
            }
        }
    }
}

/// # Safety
/// As for [`run`].
#[inline(always)]
#[allow(unsafe_code)]
unsafe fn accumulate<S: Simd, const O: usize, const R: usize, const P: usize>(
    s: S,
    tiles: &Tiles<'_>,
    x: *const f32,
    step: usize,
    sums: &mut [[[S::F32; P]; R]; O],
) {
    let input = tiles.input;
    let mut weight = tiles.weight;
    for block in 0..input.blocks {
        let channels = if block + 1 == input.blocks { input.last } else { step };
        for tap in input.taps {
            // SAFETY: the caller promises that pixels under taps and the weights are there.
            unsafe {
                let x = x.add(block * input.block_pitch + tap);
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
unsafe fn write<S: Simd, const HALF: bool, const O: usize, const R: usize, const P: usize>(
    s: S,
    tiles: &Tiles<'_>,
    at: usize,
    sums: &[[[S::F32; P]; R]; O],
) {
    let (lo, hi) = (s.splat(tiles.limits.0), s.splat(tiles.limits.1));
    let added = !tiles.residual.is_null();
    for (o, rows) in sums.iter().enumerate() {
        for (r, row) in rows.iter().enumerate() {
            for (p, sum) in row.iter().enumerate() {
                // SAFETY: the caller promises that the result is there, and what is added to it.
                unsafe {
                    let at = at + o * tiles.y_block + r * tiles.y_row + p * (S::LANES << HALF as usize);
                    let sum = if added { s.add(*sum, s.load(tiles.residual.add(at))) } else { *sum };
                    s.store(tiles.y.add(at), s.min(hi, s.max(lo, sum)));
                    if HALF {
                        s.store(tiles.y.add(at + S::LANES), s.splat(0.0));
                    }
                }
            }
        }
    }
}
