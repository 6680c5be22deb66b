//! The input of a convolution as its tiles read it: with a border, and in an order in which neighbouring outputs read
//! neighbouring pixels under every tap, whatever the stride, dilation and padding.
//!
//! Layout of a band: `[blocks][rows][pixels][lanes]`, rows and pixels each in the order of [`Lines`]. Only what some tap
//! reads is there, so a band is never larger than the products computed from it.

use super::{Shape, split};
use crate::buffer::{Buffer, Number};
use crate::geometry::Axis;
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

/// Elements of a band at most, and taps: with the windows of networks it is far smaller, and with absurd ones it must not be asked
/// for.
pub(crate) const LARGEST: usize = 1 << 26;

/// Padded positions at the distance of the stride from each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Line {
    /// The first position.
    first: usize,
    /// How many.
    len: usize,
}

/// The padded positions of an axis that some neighbouring outputs read, line by line. Taps whose distance is a multiple
/// of the stride share a line, unless it would hold positions that none of them reads.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Lines {
    lines: Vec<Line>,
    /// Index of the position under each tap of the first output.
    taps: Vec<usize>,
    /// Positions of all lines.
    len: usize,
}

impl Lines {
    /// For the first `outputs` outputs of an axis; `None` if the positions cannot be counted.
    fn new(axis: &Axis, outputs: usize) -> Option<Self> {
        let mut lines: Vec<Line> = Vec::new();
        let mut places = Vec::with_capacity(axis.kernel);
        // The last line of each distance from a multiple of the stride.
        let mut last = BTreeMap::new();
        for at in (0..axis.kernel).map(|tap| tap * axis.dilation) {
            let line = last.entry(at % axis.stride).or_insert(usize::MAX);
            let offset =
                lines.get(*line).map(|l: &Line| (at - l.first) / axis.stride).filter(|o| *o <= lines[*line].len);
            if offset.is_none() {
                *line = lines.len();
                lines.push(Line { first: at, len: 0 });
            }
            let offset = offset.unwrap_or(0);
            lines[*line].len = offset.checked_add(outputs)?;
            places.push((*line, offset));
        }
        let mut starts = Vec::with_capacity(lines.len());
        let mut len = 0usize;
        for line in &lines {
            starts.push(len);
            len = len.checked_add(line.len)?;
        }
        Some(Self { lines, taps: places.iter().map(|(line, offset)| starts[*line] + offset).collect(), len })
    }
}

/// Some rows of outputs, and what they read. All distances are in elements.
#[derive(Clone, Debug)]
pub(crate) struct Band {
    outputs: Range<usize>,
    layout: Rc<Layout>,
}

/// What all bands of a convolution share.
#[derive(Debug)]
struct Layout {
    window: [Axis; 2],
    lanes: usize,
    /// Most rows of outputs of a band.
    height: usize,
    rows: Lines,
    pixels: Lines,
    taps: Vec<usize>,
}

impl Layout {
    fn new(window: &[Axis; 2], lanes: usize, height: usize, pixels: Lines) -> Option<Self> {
        let rows = Lines::new(&window[0], height)?;
        let row_taps = rows.taps.iter().map(|row| row * pixels.len * lanes);
        let taps = row_taps.flat_map(|row| pixels.taps.iter().map(move |pixel| row + pixel * lanes)).collect();
        Some(Self { window: *window, lanes, height, rows, pixels, taps })
    }
}

impl Band {
    /// Bands for all output rows, each with at most `most` elements in `blocks` blocks or for at most two rows; `None` if
    /// the window, or what one row reads, is larger than in any network.
    pub(crate) fn cut(window: &[Axis; 2], lanes: usize, blocks: usize, most: usize) -> Option<Vec<Self>> {
        let [vertical, horizontal] = window;
        vertical.kernel.checked_mul(horizontal.kernel).filter(|taps| *taps <= LARGEST)?;
        let pixels = Lines::new(horizontal, horizontal.output)?;
        let row = pixels.len.checked_mul(lanes)?.checked_mul(blocks)?;
        let elements = |outputs: usize| Lines::new(vertical, outputs)?.len.checked_mul(row);
        let fits = |outputs: usize, most: usize| elements(outputs).is_some_and(|n| n <= most);
        let mut height = vertical.output.max(1);
        while height > 1 && !fits(height, if height > 2 { most } else { LARGEST }) {
            height = height.div_ceil(2);
        }
        elements(height).filter(|n| *n <= LARGEST)?;
        let layout = Rc::new(Layout::new(window, lanes, height, pixels)?);
        let ranges = split(vertical.output, vertical.output.div_ceil(height));
        Some(ranges.map(|outputs| Self { outputs, layout: layout.clone() }).collect())
    }

    /// The rows of outputs it is for.
    pub(crate) fn outputs(&self) -> &Range<usize> {
        &self.outputs
    }

    /// Between neighbouring rows, which vertically neighbouring outputs read.
    pub(crate) fn row_pitch(&self) -> usize {
        self.layout.pixels.len * self.layout.lanes
    }

    /// Between the blocks.
    pub(crate) fn block_pitch(&self) -> usize {
        self.layout.rows.len * self.row_pitch()
    }

    /// Offset of each tap from the pixel of an output, in the order of the weights.
    pub(crate) fn taps(&self) -> &[usize] {
        &self.layout.taps
    }

    /// Copies what is read of `blocks` planes of an image; `border` stands for what lies outside.
    pub(crate) fn fill<T: Number>(&self, shape: &Shape, blocks: usize, planes: &[T], border: T, to: &mut Buffer<T>) {
        let Layout { window: [vertical, _], lanes, height, rows, .. } = &*self.layout;
        to.resize(blocks * self.block_pitch());
        let spare = height - self.outputs.len();
        let mut rest = &mut to[..];
        for block in 0..blocks {
            for line in &rows.lines {
                let to;
                (to, rest) = rest.split_at_mut(line.len * self.row_pitch());
                for (i, to) in to.chunks_exact_mut(self.row_pitch()).take(line.len - spare).enumerate() {
                    let padded = line.first + (self.outputs.start + i) * vertical.stride;
                    match padded.checked_sub(vertical.pad_begin).filter(|row| *row < shape.height) {
                        Some(row) => {
                            let start = block * shape.plane() + row * shape.width * lanes;
                            self.layout.fill_row(&planes[start..][..shape.width * lanes], border, to);
                        }
                        None => to.fill(border),
                    }
                }
            }
        }
    }
}

impl Layout {
    fn fill_row<T: Number>(&self, x: &[T], border: T, mut to: &mut [T]) {
        let (axis, lanes) = (&self.window[1], self.lanes);
        for Line { first, len } in &self.pixels.lines {
            // Pixels before the input, and the first one of the input.
            let skipped = axis.pad_begin.saturating_sub(*first).div_ceil(axis.stride).min(*len);
            let start = first.saturating_add(skipped.saturating_mul(axis.stride)).saturating_sub(axis.pad_begin);
            let held = axis.input.saturating_sub(start).div_ceil(axis.stride).min(len - skipped);
            let (line, rest) = to.split_at_mut(len * lanes);
            let (before, line) = line.split_at_mut(skipped * lanes);
            let (inside, after) = line.split_at_mut(held * lanes);
            before.fill(border);
            after.fill(border);
            let x = &x[start.min(axis.input) * lanes..];
            if axis.stride == 1 {
                inside.copy_from_slice(&x[..held * lanes]);
            } else {
                copy_pixels(x, axis.stride, lanes, inside);
            }
            to = rest;
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
            for (to, from) in to.chunks_exact_mut(lanes).zip(x.chunks(stride.saturating_mul(lanes))) {
                to.copy_from_slice(&from[..lanes]);
            }
        }
    }
}

fn copy_arrays<T: Number, const LANES: usize>(x: &[T], stride: usize, to: &mut [T]) {
    let (to, from) = (to.as_chunks_mut::<LANES>().0, x.as_chunks::<LANES>().0);
    to.iter_mut().zip(from.iter().step_by(stride)).for_each(|(to, from)| *to = *from);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{any_axis, noise, tap_input};
    use proptest::prelude::*;

    #[test]
    fn only_what_taps_read_is_kept() {
        let axis = |kernel, stride, dilation| Axis { kernel, stride, dilation, ..Axis::UNIT };
        for (axis, outputs, len) in [
            (axis(3, 1, 1), 5, 7),
            (axis(3, 2, 1), 5, 6 + 5),
            (axis(1, 2, 1), 5, 5),
            (axis(2, 7, 1), 5, 5 + 5),
            (axis(2, 1, 5), 5, 10),
            (axis(2, 1, 6), 5, 5 + 5),
            (axis(3, 1, 1 << 60), 2, 2 + 2 + 2),
            (axis(2, usize::MAX, 1), 1, 1 + 1),
            (axis(2, 1, 1), 0, 0),
        ] {
            assert_eq!(Lines::new(&axis, outputs).map(|l| l.len), Some(len), "{axis:?} {outputs}");
        }
    }

    #[test]
    fn bands_that_no_network_needs_are_refused() {
        let axis = |kernel, output| Axis { kernel, output, ..Axis::UNIT };
        let heights = |window, blocks, most| {
            let bands = Band::cut(&window, 1, blocks, most)?;
            Some(bands.iter().map(|band| band.outputs().len()).collect::<Vec<_>>())
        };
        assert_eq!(heights([axis(1, 5), axis(1, 8)], 1, 24), Some(vec![2, 3]));
        assert_eq!(heights([axis(1, 3), axis(1, 8)], 1, 0), Some(vec![1, 2]));
        assert_eq!(heights([axis(1, 2), axis(1, LARGEST)], 1, 0), Some(vec![1, 1]));
        assert_eq!(heights([axis(1, 2), axis(1, LARGEST + 1)], 1, usize::MAX), None);
        assert_eq!(heights([axis(3, 1), axis(1, LARGEST / 2)], 1, usize::MAX), None);
        assert_eq!(heights([axis(1, 1), axis(1, LARGEST / 2)], 3, usize::MAX), None);
        assert_eq!(heights([axis(1 << 20, 1), axis(1 << 20, 1)], 0, usize::MAX), None);
    }

    proptest! {
        #[test]
        fn every_tap_of_every_band_finds_its_input(
            window in [any_axis(), any_axis()], lanes in 1usize..3, blocks in 1usize..3, most in 0usize..400, seed: u64,
        ) {
            let [vertical, horizontal] = window;
            let shape = Shape::new(1, blocks * lanes, vertical.input, horizontal.input, lanes).unwrap();
            let (planes, mut band_data) = (noise(seed, shape.len()), Buffer::default());
            for band in Band::cut(&window, lanes, blocks, most).unwrap() {
                band.fill(&shape, blocks, &planes, 9.0, &mut band_data);
                for block in 0..blocks {
                    for (row, column) in band.outputs().clone().flat_map(|r| (0..horizontal.output).map(move |c| (r, c))) {
                        let pixel = (row - band.outputs().start) * band.row_pitch() + column * lanes;
                        for (tap, offset) in band.taps().iter().enumerate() {
                            let found = &band_data[block * band.block_pitch() + pixel + offset..][..lanes];
                            match tap_input(&window, row * horizontal.output + column, tap) {
                                Some(at) => prop_assert_eq!(found, &planes[block * shape.plane() + at * lanes..][..lanes]),
                                None => prop_assert!(found.iter().all(|x| *x == 9.0)),
                            }
                        }
                    }
                }
            }
        }

        #[test]
        fn neighbouring_outputs_read_neighbouring_positions(axis in any_axis()) {
            let lines = Lines::new(&axis, axis.output).unwrap();
            let positions: Vec<usize> =
                lines.lines.iter().flat_map(|l| (0..l.len).map(|i| l.first + i * axis.stride)).collect();
            prop_assert_eq!(positions.len(), lines.len);
            for (tap, start) in lines.taps.iter().enumerate() {
                for output in 0..axis.output {
                    prop_assert_eq!(positions[start + output], output * axis.stride + tap * axis.dilation);
                }
            }
        }
    }
}
