//! The passes along either axis, compiled for the vectors that the processor has.

use std::ops::Range;

use pulp::{Arch, NullaryFnOnce};

use super::Pixels;
use super::axis::{Axis, PRECISION_BITS, Taps};

/// Half of a pixel value's last bit.
const HALF: i32 = 1 << (PRECISION_BITS - 1);

/// Filters along the rows and returns those of `rows`.
pub(super) fn horizontal<const C: usize>(source: Pixels<'_, C>, columns: &Axis, rows: Range<usize>) -> Vec<[u8; C]> {
    let taps = match columns {
        Axis::Copy(kept) => return source.window(kept, rows),
        Axis::Filter(taps) => taps,
    };
    let mut out = vec![[0; C]; taps.len() * rows.len()];
    let width = source.size.width;
    let source = &source.data[rows.start * width..rows.end * width];
    Arch::new().dispatch(Narrow { source, width, taps, out: &mut out });
    out
}

/// Bytes of a pixel with room for four channels.
const PIXEL: usize = 4;

/// Rows of `width` pixels to filter along.
struct Narrow<'a, const C: usize> {
    source: &'a [[u8; C]],
    width: usize,
    taps: &'a Taps,
    out: &'a mut [[u8; C]],
}

impl<const C: usize> NullaryFnOnce for Narrow<'_, C> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        // Each pixel is read with what follows it: as many bytes as make a vector of sums.
        let mut wide = vec![0; self.width * C + PIXEL];
        let mut sums = vec![[0; PIXEL]; self.taps.len()];
        let mut pixels = vec![[0; PIXEL]; self.taps.len()];
        let rows = self.source.chunks_exact(self.width);
        for (row, out) in rows.zip(self.out.chunks_exact_mut(self.taps.len().max(1))) {
            let row = row.as_flattened();
            wide[..row.len()].copy_from_slice(row);
            // With the number of weights known, the loop over them is unrolled.
            match self.taps.count {
                2 => weigh_row::<C, 2>(&wide, self.taps, &mut sums),
                3 => weigh_row::<C, 3>(&wide, self.taps, &mut sums),
                4 => weigh_row::<C, 4>(&wide, self.taps, &mut sums),
                5 => weigh_row::<C, 5>(&wide, self.taps, &mut sums),
                6 => weigh_row::<C, 6>(&wide, self.taps, &mut sums),
                _ => {
                    for (sum, (start, weights)) in sums.iter_mut().zip(self.taps.iter()) {
                        *sum = weigh(&wide[start * C..], C, weights);
                    }
                }
            }
            round(sums.as_flattened(), pixels.as_flattened_mut());
            for (out, pixel) in out.iter_mut().zip(&pixels) {
                out.copy_from_slice(&pixel[..C]);
            }
        }
    }
}

#[inline(always)]
fn weigh_row<const C: usize, const COUNT: usize>(row: &[u8], taps: &Taps, sums: &mut [[i32; PIXEL]]) {
    let weights = taps.weights.as_chunks::<COUNT>().0;
    for ((sum, start), weights) in sums.iter_mut().zip(&taps.starts).zip(weights) {
        *sum = weigh(&row[start * C..][..(COUNT - 1) * C + PIXEL], C, weights);
    }
}

/// Filters along the columns and returns those of `columns`.
pub(super) fn vertical<const C: usize>(source: Pixels<'_, C>, rows: &Axis, columns: Range<usize>) -> Vec<[u8; C]> {
    let taps = match rows {
        Axis::Copy(kept) => return source.window(&columns, kept.clone()),
        Axis::Filter(taps) => taps,
    };
    let mut out = vec![[0; C]; taps.len() * columns.len()];
    Arch::new().dispatch(Shorten { source, taps, columns: &columns, out: &mut out });
    out
}

/// Bytes of a row that are filtered side by side.
const BYTES: usize = 32;

struct Shorten<'a, const C: usize> {
    source: Pixels<'a, C>,
    taps: &'a Taps,
    columns: &'a Range<usize>,
    out: &'a mut [[u8; C]],
}

impl<const C: usize> NullaryFnOnce for Shorten<'_, C> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let width = self.source.size.width * C;
        let source = self.source.data.as_flattened();
        let left = self.columns.start * C;
        let mut sums = vec![0; self.columns.len() * C];
        for ((start, weights), out) in self.taps.iter().zip(self.out.chunks_exact_mut(self.columns.len().max(1))) {
            let source = &source[start * width..];
            let (whole, rest) = sums.as_chunks_mut::<BYTES>();
            for (part, sums) in whole.iter_mut().enumerate() {
                *sums = weigh(&source[left + part * BYTES..], width, weights);
            }
            let left = left + whole.len() * BYTES;
            for (i, sum) in rest.iter_mut().enumerate() {
                [*sum] = weigh(&source[left + i..], width, weights);
            }
            round(&sums, out.as_flattened_mut());
        }
    }
}

/// Weighed sums of groups of `N` bytes, each `stride` bytes after the one before.
#[inline(always)]
fn weigh<const N: usize>(source: &[u8], stride: usize, weights: &[i32]) -> [i32; N] {
    let mut sums = [HALF; N];
    for (group, weight) in weights.iter().enumerate() {
        if let Some(bytes) = source[group * stride..].first_chunk::<N>() {
            for i in 0..N {
                sums[i] += i32::from(bytes[i]) * weight;
            }
        }
    }
    sums
}

/// Takes off the fraction bits and clips to 8 bits.
#[inline(always)]
fn round(sums: &[i32], pixels: &mut [u8]) {
    for (pixel, sum) in pixels.iter_mut().zip(sums) {
        *pixel = (sum >> PRECISION_BITS).clamp(0, 255) as u8;
    }
}
