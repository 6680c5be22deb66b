//! The innermost loop: pairs of codes of some rows times those of some columns, summed up in registers.

use crate::simd::{Isa, Kernel, Simd};

/// Rows of a tile: values that are multiplied by all lanes.
pub(crate) const ROWS: usize = 8;
/// Columns of a tile: values side by side in vector registers.
pub(crate) const LANES: usize = 32;

/// Values side by side, from the start of a cache line.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(64))]
pub(crate) struct Lanes(pub(crate) [i32; LANES]);

/// Sums of products of all rows with all lanes.
pub(super) type Tile = [Lanes; ROWS];

/// `tile[r][l] = Σ rows[k][r] · lanes[k][l]` over pairs of codes, for the first `used` rows at least. Of slices of
/// different lengths the common part counts.
pub(super) fn product(isa: Isa, rows: &[[i32; ROWS]], lanes: &[Lanes], used: usize, tile: &mut Tile) {
    isa.run(Product { rows, lanes, used, tile });
}

struct Product<'a> {
    rows: &'a [[i32; ROWS]],
    lanes: &'a [Lanes],
    used: usize,
    tile: &'a mut Tile,
}

impl Kernel for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        for first_lane in (0..LANES).step_by(2 * S::LANES) {
            if self.used <= 1 {
                self.some_rows::<S, 1>(s, 0, first_lane);
            } else if self.used > 4 && S::LANES == 16 {
                // Vectors this wide come with registers for all rows.
                self.some_rows::<S, ROWS>(s, 0, first_lane);
            } else {
                for first_row in (0..self.used).step_by(4) {
                    self.some_rows::<S, 4>(s, first_row, first_lane);
                }
            }
        }
    }
}

impl Product<'_> {
    /// `R` rows and two vectors of the tile, all of them in registers.
    #[inline(always)]
    #[allow(unsafe_code)]
    fn some_rows<S: Simd, const R: usize>(&mut self, s: S, first_row: usize, first_lane: usize) {
        let mut sums = [[s.splat_i32(0); 2]; R];
        for (row, lanes) in self.rows.iter().zip(self.lanes) {
            let lanes = &lanes.0[first_lane..][..2 * S::LANES];
            // SAFETY: that many elements are two vectors.
            let lanes = unsafe { [s.load_i32(lanes.as_ptr()), s.load_i32(lanes[S::LANES..].as_ptr())] };
            for (sums, pair) in sums.iter_mut().zip(&row[first_row..][..R]) {
                let pair = s.splat_i32(*pair);
                for (sum, lanes) in sums.iter_mut().zip(lanes) {
                    *sum = s.dot_i16(*sum, lanes, pair);
                }
            }
        }
        for (to, sums) in self.tile[first_row..][..R].iter_mut().zip(sums) {
            for (to, sum) in to.0[first_lane..].chunks_exact_mut(S::LANES).zip(sums) {
                // SAFETY: the chunk has that many elements.
                unsafe { s.store_i32(to.as_mut_ptr(), sum) };
            }
        }
    }
}
