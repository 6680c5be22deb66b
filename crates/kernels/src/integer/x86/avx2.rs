//! AVX2: multiplies pairs and adds both products in one instruction, adds that to the sum in another. A quarter of the
//! tile fills the registers.

use super::{load_256, store_256};
use crate::integer::isa::{LANES, Lanes, ROWS, Tile};
use crate::integer::portable;
use crate::tap_sum::Tap;
use std::arch::x86_64::{_mm256_add_epi32, _mm256_madd_epi16, _mm256_set1_epi32, _mm256_setzero_si256};

#[target_feature(enable = "avx2")]
pub(in crate::integer) fn product(rows: &[[i32; ROWS]], lanes: &[Lanes], used: usize, tile: &mut Tile) {
    for first_lane in (0..LANES).step_by(16) {
        if used == 1 {
            some_rows::<1>(rows, lanes, 0, first_lane, tile);
        } else {
            for first_row in (0..used).step_by(4) {
                some_rows::<4>(rows, lanes, first_row, first_lane, tile);
            }
        }
    }
}

/// `R` rows and 16 lanes of the tile, all of them in registers.
#[target_feature(enable = "avx2")]
fn some_rows<const R: usize>(
    rows: &[[i32; ROWS]],
    lanes: &[Lanes],
    first_row: usize,
    first_lane: usize,
    tile: &mut Tile,
) {
    let mut sums = [[_mm256_setzero_si256(); 2]; R];
    for (row, lanes) in rows.iter().zip(lanes) {
        let lanes = lanes.0[first_lane..][..16].as_chunks().0;
        let lanes = [load_256(&lanes[0]), load_256(&lanes[1])];
        for (sums, pair) in sums.iter_mut().zip(&row[first_row..][..R]) {
            let weight = _mm256_set1_epi32(*pair);
            for (sum, lanes) in sums.iter_mut().zip(&lanes) {
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(*lanes, weight));
            }
        }
    }
    for (to, sums) in tile[first_row..][..R].iter_mut().zip(sums) {
        let to = to.0[first_lane..][..16].as_chunks_mut().0;
        to.iter_mut().zip(sums).for_each(|(to, sum)| store_256(to, sum));
    }
}

#[target_feature(enable = "avx2")]
pub(in crate::integer) fn tap_sum(source: &[i32], taps: &[Tap<i32>], out: &mut [i32]) {
    portable::tap_sum(source, taps, out);
}
