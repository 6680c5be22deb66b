//! The kernels in plain Rust: the reference of all others, and what runs where there is no vector instruction set.

use super::isa::{Lanes, ROWS, Tile};
use super::packed::unpair;
use crate::tap_sum::{BLOCK, Tap};

pub(super) fn product(rows: &[[i32; ROWS]], lanes: &[Lanes], used: usize, tile: &mut Tile) {
    for (r, sums) in tile.iter_mut().enumerate().take(used) {
        *sums = Lanes::default();
        for (row, lanes) in rows.iter().zip(lanes) {
            let (low, high) = unpair(row[r]);
            for (sum, lane) in sums.0.iter_mut().zip(&lanes.0) {
                let (x, y) = unpair(*lane);
                *sum += low * x + high * y;
            }
        }
    }
}

/// Inlined into functions of other instruction sets, for which the compiler then vectorizes it.
#[inline(always)]
pub(super) fn tap_sum(source: &[i32], taps: &[Tap<i32>], out: &mut [i32]) {
    for (i, block) in out.as_chunks_mut::<BLOCK>().0.iter_mut().enumerate() {
        let mut sums = [0; BLOCK];
        for tap in taps {
            let from = &source[i * BLOCK + tap.offset..][..BLOCK];
            for (sum, x) in sums.iter_mut().zip(from) {
                *sum += tap.weight * x;
            }
        }
        *block = sums;
    }
}
