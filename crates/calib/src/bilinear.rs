//! The resize of Caffe's Python tools: bilinear without antialiasing, over values normalised to 0..1.
//!
//! The rule is that of `caffe.io.resize_image` with scikit-image before release 0.15, in `f64`. Pillow's way of
//! resizing is another one and lives beside this module.

use crate::error::CalibError;
use crate::preprocess::MAX_RESIZED_PIXELS;
use crate::resample::Size;

/// Interleaved finite values that are computed when they are asked for: `value(i)` for every i below
/// width · height · channels, rows from the top.
pub(crate) struct Grid<'a, F> {
    /// What messages call it.
    pub(crate) name: &'a str,
    /// Not empty.
    pub(crate) size: Size,
    pub(crate) channels: usize,
    pub(crate) value: F,
}

impl<F: Fn(usize) -> f32> Grid<'_, F> {
    /// The values of the whole grid stretched to `size`; a grid of this size is copied.
    ///
    /// Values are normalised by the smallest and largest of all channels, u = (x - min) / (max - min). The output pixel
    /// i looks at (i + 0.5) · source / target - 0.5 on each axis; what lies outside the source counts as u = 0. A
    /// constant grid stays constant.
    ///
    /// # Errors
    /// [`CalibError::ResizeTooLarge`].
    pub(crate) fn resized(&self, size: Size) -> Result<Vec<f32>, CalibError> {
        if size.pixels().saturating_mul(self.channels as u64) > MAX_RESIZED_PIXELS {
            let (name, original) = (self.name.to_owned(), self.size);
            return Err(CalibError::ResizeTooLarge { name, original, resized: size, limit: MAX_RESIZED_PIXELS });
        }
        if size == self.size {
            return Ok((0..self.len()).map(&self.value).collect());
        }
        let (low, high) = self.range();
        if low == high {
            return Ok(vec![low; size.width * size.height * self.channels]);
        }
        Ok(self.interpolated(size, f64::from(low), f64::from(high) - f64::from(low)))
    }

    fn len(&self) -> usize {
        self.size.width * self.size.height * self.channels
    }

    fn range(&self) -> (f32, f32) {
        let values = (0..self.len()).map(&self.value);
        values.fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)))
    }

    fn interpolated(&self, size: Size, low: f64, span: f64) -> Vec<f32> {
        let columns = taps(self.size.width, size.width);
        let mut out = Vec::with_capacity(size.width * size.height * self.channels);
        for [above, below] in taps(self.size.height, size.height) {
            for [left, right] in &columns {
                for channel in 0..self.channels {
                    let weighed = |row: &Tap, column: &Tap| {
                        let at = (row.position * self.size.width + column.position) * self.channels + channel;
                        row.weight * column.weight * ((f64::from((self.value)(at)) - low) / span)
                    };
                    let upper = weighed(&above, left) + weighed(&above, right);
                    let lower = weighed(&below, left) + weighed(&below, right);
                    out.push(((upper + lower) * span + low) as f32);
                }
            }
        }
        out
    }
}

/// A source position and its share in an output value.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Tap {
    position: usize,
    weight: f64,
}

/// For each position of an axis of `target` pixels its two neighbours on one of `source` pixels.
fn taps(source: usize, target: usize) -> Vec<[Tap; 2]> {
    let scale = source as f64 / target as f64;
    let point = |position: usize| (position as f64 + 0.5) * scale - 0.5;
    (0..target).map(|position| neighbours(point(position), source)).collect()
}

fn neighbours(point: f64, source: usize) -> [Tap; 2] {
    let first = point.floor();
    let fraction = point - first;
    let tap = |position: f64, weight: f64| {
        let is_inside = position >= 0.0 && position < source as f64;
        if is_inside { Tap { position: position as usize, weight } } else { Tap { position: 0, weight: 0.0 } }
    };
    [tap(first, 1.0 - fraction), tap(first + 1.0, fraction)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn resized(values: &[f32], channels: usize, from: (usize, usize), to: (usize, usize)) -> Vec<f32> {
        let [size, target] = [from, to].map(|(width, height)| Size { width, height });
        let value = |at: usize| values[at];
        Grid { name: "x", size, channels, value }.resized(target).unwrap()
    }

    #[test]
    fn shrinking_looks_at_the_two_nearest_and_no_others() {
        assert_eq!(resized(&[0.0, 8.0, 1.0, 0.0], 1, (4, 1), (2, 1)), [4.0, 0.5]);
        assert_eq!(resized(&[3.0, 0.0, 0.0, 6.0, 9.0, 0.0, 5.0], 1, (7, 1), (1, 1)), [6.0]);
    }

    #[test]
    fn enlarging_darkens_the_borders_towards_the_smallest_value() {
        // The outer points are a quarter pixel beyond the centres of the outer pixels: 2 + 0.75 * (4 - 2).
        assert_eq!(resized(&[4.0, 2.0], 1, (2, 1), (4, 1)), [3.5, 3.5, 2.5, 2.0]);
        let corner = 1.0 + 0.75 * 0.75 * 8.0;
        assert_eq!(resized(&[9.0, 1.0, 1.0, 1.0], 1, (2, 2), (4, 4))[0], corner);
    }

    #[test]
    fn one_pixel_fades_from_its_centre() {
        assert_eq!(resized(&[4.0, 0.0], 2, (1, 1), (2, 1)), [3.0, 0.0, 3.0, 0.0]);
        assert_eq!(resized(&[5.0], 1, (1, 1), (3, 2)), [5.0; 6]);
    }

    #[test]
    fn channels_share_their_smallest_value() {
        // The second channel is constant but not the smallest, so that its borders darken too.
        assert_eq!(resized(&[0.0, 8.0, 4.0, 8.0], 2, (2, 1), (4, 1)), [0.0, 6.0, 1.0, 8.0, 3.0, 8.0, 3.0, 6.0]);
    }

    #[test]
    fn a_huge_target_is_refused_before_it_is_computed() {
        let grid = Grid { name: "x", size: Size::square(1), channels: 3, value: |_| 1.0 };
        for target in [Size::square(1 << 13), Size::square(usize::MAX)] {
            assert!(matches!(grid.resized(target), Err(CalibError::ResizeTooLarge { .. })), "{target}");
        }
    }

    proptest! {
        #[test]
        fn results_stay_between_the_smallest_and_largest_value(
            values in prop::collection::vec(-1e3_f32..1e3, 24), to in (1..9_usize, 1..9_usize),
        ) {
            let (low, high) = values.iter().fold((f32::MAX, f32::MIN), |(l, h), x| (l.min(*x), h.max(*x)));
            for (channels, from) in [(1, (6, 4)), (3, (2, 4)), (2, (12, 1))] {
                let out = resized(&values, channels, from, to);
                prop_assert_eq!(out.len(), channels * to.0 * to.1);
                prop_assert!(out.iter().all(|x| (low - 1e-3..=high + 1e-3).contains(x)), "{:?}", out);
            }
        }

        #[test]
        fn the_same_size_is_a_copy(values in prop::collection::vec(any::<f32>(), 12)) {
            let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&resized(&values, 3, (2, 2), (2, 2))), bits(&values));
        }
    }
}
