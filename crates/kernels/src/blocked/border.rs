//! The input of a convolution as its tiles read it: rows with a border, split by stride, so that neighbouring outputs
//! read neighbouring pixels under every tap, whatever the stride, dilation and padding.
//!
//! Layout of a band: `[blocks][rows][stride][pixels][lanes]`: a padded column j is pixel j / stride of phase j % stride.

use super::{Shape, split};
use crate::buffer::{Buffer, Number};
use crate::geometry::Axis;
use std::ops::Range;

/// Where things are in a band of bordered rows. All distances are in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Band {
    vertical: Axis,
    horizontal: Axis,
    lanes: usize,
    /// Between the phases of a row.
    phase_pitch: usize,
    /// Between neighbouring rows.
    pub(crate) row_pitch: usize,
}

impl Band {
    /// `None` if a padded row is so long that its size overflows.
    pub(crate) fn new(window: &[Axis; 2], lanes: usize) -> Option<Self> {
        let [vertical, horizontal] = *window;
        let phase_pitch = horizontal.span().div_ceil(horizontal.stride).checked_mul(lanes)?;
        let row_pitch = phase_pitch.checked_mul(horizontal.stride)?;
        Some(Self { vertical, horizontal, lanes, phase_pitch, row_pitch })
    }

    /// Padded rows that some output rows read.
    fn rows(&self, outputs: &Range<usize>) -> usize {
        outputs.len().saturating_sub(1) * self.vertical.stride + (self.vertical.kernel - 1) * self.vertical.dilation + 1
    }

    /// Between the blocks of the band for some output rows.
    pub(crate) fn block_pitch(&self, outputs: &Range<usize>) -> Option<usize> {
        self.rows(outputs).checked_mul(self.row_pitch)
    }

    /// Offset of each tap from the pixel of an output, in the order of the weights.
    pub(crate) fn taps(&self) -> Vec<usize> {
        let (v, h) = (&self.vertical, &self.horizontal);
        let column = |j: usize| j % h.stride * self.phase_pitch + j / h.stride * self.lanes;
        let rows = (0..v.kernel).map(|i| i * v.dilation * self.row_pitch);
        rows.flat_map(|row| (0..h.kernel).map(move |j| row + column(j * h.dilation))).collect()
    }

    /// Between the pixels of vertically neighbouring outputs.
    pub(crate) fn output_row(&self) -> usize {
        self.vertical.stride * self.row_pitch
    }

    /// All output rows in ranges of at most two rows, or of more whose input has at most `most` elements in `blocks`
    /// blocks; `None` if not even the input of one row can be addressed.
    pub(crate) fn cut(&self, blocks: usize, most: usize) -> Option<Vec<Range<usize>>> {
        let height = self.vertical.output;
        let elements = |rows: usize| self.block_pitch(&(0..rows))?.checked_mul(blocks);
        elements(1)?.checked_mul(size_of::<f32>()).filter(|n| *n <= isize::MAX as usize)?;
        let mut rows = height;
        while rows > 2 && elements(rows).is_none_or(|n| n > most) {
            rows = rows.div_ceil(2);
        }
        Some(split(height, height.div_ceil(rows)).collect())
    }

    /// Copies what `outputs` rows read of `blocks` planes of an image; `border` stands for what lies outside.
    pub(crate) fn fill<T: Number>(
        &self,
        shape: &Shape,
        blocks: usize,
        planes: &[T],
        outputs: &Range<usize>,
        border: T,
        band: &mut Buffer<T>,
    ) {
        let rows = self.rows(outputs);
        band.resize(blocks * rows * self.row_pitch);
        let first = outputs.start * self.vertical.stride;
        for (block, to) in band.chunks_exact_mut(rows * self.row_pitch).enumerate() {
            for (i, to) in to.chunks_exact_mut(self.row_pitch).enumerate() {
                let inside = (first + i).checked_sub(self.vertical.pad_begin).filter(|row| *row < shape.height);
                match inside.filter(|_| self.is_read(i)) {
                    Some(row) => {
                        let start = block * shape.plane() + row * shape.width * self.lanes;
                        self.fill_row(&planes[start..][..shape.width * self.lanes], border, to);
                    }
                    None => to.fill(border),
                }
            }
        }
    }

    /// Whether some tap reads the band's row `i`.
    fn is_read(&self, i: usize) -> bool {
        let v = &self.vertical;
        (0..v.kernel).any(|tap| i.checked_sub(tap * v.dilation).is_some_and(|at| at % v.stride == 0))
    }

    /// Whether some tap reads a phase of the rows.
    fn is_phase_read(&self, phase: usize) -> bool {
        let h = &self.horizontal;
        (0..h.kernel).any(|tap| tap * h.dilation % h.stride == phase)
    }

    fn fill_row<T: Number>(&self, x: &[T], border: T, to: &mut [T]) {
        let (h, lanes) = (&self.horizontal, self.lanes);
        for (phase, to) in to.chunks_exact_mut(self.phase_pitch).enumerate() {
            if !self.is_phase_read(phase) {
                continue;
            }
            // Pixels of the phase before the input, and the first one of the input it holds.
            let skipped = h.pad_begin.saturating_sub(phase).div_ceil(h.stride).min(to.len() / lanes);
            let (before, to) = to.split_at_mut(skipped * lanes);
            before.fill(border);
            let first = (skipped * h.stride + phase).saturating_sub(h.pad_begin);
            let held = h.input.saturating_sub(first).div_ceil(h.stride).min(to.len() / lanes);
            let (inside, after) = to.split_at_mut(held * lanes);
            after.fill(border);
            let x = &x[(first * lanes).min(x.len())..];
            if h.stride == 1 {
                inside.copy_from_slice(&x[..held * lanes]);
            } else {
                copy_pixels(x, h.stride, lanes, inside);
            }
        }
    }
}

/// Copies every `stride`-th pixel.
fn copy_pixels<T: Number>(x: &[T], stride: usize, lanes: usize, to: &mut [T]) {
    // Sizes known to the compiler, so that a pixel is one move and not a call.
    match lanes {
        4 => copy_arrays::<T, 4>(x, stride, to),
        8 => copy_arrays::<T, 8>(x, stride, to),
        16 => copy_arrays::<T, 16>(x, stride, to),
        _ => {
            for (to, from) in to.chunks_exact_mut(lanes).zip(x.chunks(stride * lanes)) {
                to.copy_from_slice(&from[..lanes]);
            }
        }
    }
}

fn copy_arrays<T: Number, const LANES: usize>(x: &[T], stride: usize, to: &mut [T]) {
    let (to, from) = (to.as_chunks_mut::<LANES>().0, x.as_chunks::<LANES>().0);
    to.iter_mut().zip(from.iter().step_by(stride)).for_each(|(to, from)| *to = *from);
}
