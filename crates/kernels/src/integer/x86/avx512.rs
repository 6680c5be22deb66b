//! AVX-512BW: multiplies pairs and adds both products in one instruction, adds that to the sum in another.

use super::{load_512, store_512};
use crate::integer::isa::{LANES, Lanes, ROWS, Tile};
use crate::integer::portable;
use crate::tap_sum::Tap;
use std::arch::x86_64::{_mm512_add_epi32, _mm512_madd_epi16, _mm512_set1_epi32, _mm512_setzero_si512};

#[target_feature(enable = "avx512f,avx512bw")]
pub(in crate::integer) fn product(rows: &[[i32; ROWS]], lanes: &[Lanes], used: usize, tile: &mut Tile) {
    match used {
        0..=1 => some_rows::<1>(rows, lanes, tile),
        2..=4 => some_rows::<4>(rows, lanes, tile),
        _ => some_rows::<ROWS>(rows, lanes, tile),
    }
}

/// The first `R` rows of the tile, all of it in registers.
#[target_feature(enable = "avx512f,avx512bw")]
fn some_rows<const R: usize>(rows: &[[i32; ROWS]], lanes: &[Lanes], tile: &mut Tile) {
    let mut sums = [[_mm512_setzero_si512(); LANES / 16]; R];
    for (row, lanes) in rows.iter().zip(lanes) {
        let lanes = lanes.0.as_chunks().0;
        let lanes = [load_512(&lanes[0]), load_512(&lanes[1])];
        for (sums, pair) in sums.iter_mut().zip(row) {
            let weight = _mm512_set1_epi32(*pair);
            for (sum, lanes) in sums.iter_mut().zip(&lanes) {
                *sum = _mm512_add_epi32(*sum, _mm512_madd_epi16(*lanes, weight));
            }
        }
    }
    for (to, sums) in tile.iter_mut().zip(sums) {
        to.0.as_chunks_mut().0.iter_mut().zip(sums).for_each(|(to, sum)| store_512(to, sum));
    }
}

#[target_feature(enable = "avx512f,avx512bw")]
pub(in crate::integer) fn tap_sum(source: &[i32], taps: &[Tap<i32>], out: &mut [i32]) {
    portable::tap_sum(source, taps, out);
}
