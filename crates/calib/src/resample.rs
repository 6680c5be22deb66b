//! Resampling of 8-bit images with the arithmetic of Pillow's `resize`, bit for bit.
//!
//! Two separable passes, one along each axis. Each output value is a weighted sum of 8-bit inputs with fixed-point
//! weights, rounded and clipped to 8 bits after each pass. Which part of an image to compute is decided elsewhere.

mod axis;
mod pass;

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use crate::choice::lookup;
use crate::error::CalibError;
use axis::{Axis, Filter};
use pass::{horizontal, vertical};

/// Width and height in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Number of columns.
    pub width: usize,
    /// Number of rows.
    pub height: usize,
}

impl Size {
    /// Equal width and height.
    #[must_use]
    pub fn square(side: usize) -> Self {
        Self { width: side, height: side }
    }

    /// Width times height, saturating.
    #[must_use]
    pub fn pixels(self) -> u64 {
        (self.width as u64).saturating_mul(self.height as u64)
    }

    /// Whether width or height is zero.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.width == 0 || self.height == 0
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

/// How pixels between pixels are computed. All but `Nearest` widen their support when shrinking (antialiasing).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interpolation {
    /// The pixel whose area holds the sample point.
    Nearest,
    /// Mean of the covered pixels.
    Box,
    /// Triangle of support 1.
    Bilinear,
    /// Hamming-windowed sinc of support 1.
    Hamming,
    /// Keys' cubic convolution with a = -0.5, support 2.
    Bicubic,
    /// Lanczos-windowed sinc of support 3.
    Lanczos,
}

impl Interpolation {
    /// Every choice with its name.
    pub const ALL: [(Self, &str); 6] = [
        (Self::Nearest, "nearest"),
        (Self::Box, "box"),
        (Self::Bilinear, "bilinear"),
        (Self::Hamming, "hamming"),
        (Self::Bicubic, "bicubic"),
        (Self::Lanczos, "lanczos"),
    ];
}

impl FromStr for Interpolation {
    type Err = CalibError;

    fn from_str(name: &str) -> Result<Self, CalibError> {
        lookup("interpolation", &Self::ALL, name)
    }
}

/// Interleaved pixels of `C` channels; `data` holds width · height of them, rows from the top.
#[derive(Clone, Copy)]
pub(crate) struct Pixels<'a, const C: usize> {
    pub(crate) size: Size,
    pub(crate) data: &'a [[u8; C]],
}

impl<'a, const C: usize> Pixels<'a, C> {
    fn rows(self, range: Range<usize>) -> impl Iterator<Item = &'a [[u8; C]]> {
        self.data.chunks_exact(self.size.width).skip(range.start).take(range.len())
    }

    fn window(self, columns: &Range<usize>, rows: Range<usize>) -> Vec<[u8; C]> {
        let mut out = Vec::with_capacity(columns.len() * rows.len());
        self.rows(rows).for_each(|row| out.extend_from_slice(&row[columns.clone()]));
        out
    }
}

/// A window of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Region {
    pub(crate) columns: Range<usize>,
    pub(crate) rows: Range<usize>,
}

/// Resizes `source` to `size` and returns the pixels of `region` of the result; nothing outside is computed.
///
/// `source` and `size` must not be empty and `region` must lie inside `size`.
pub(crate) fn resample<const C: usize>(
    source: Pixels<'_, C>,
    size: Size,
    interpolation: Interpolation,
    region: &Region,
) -> Vec<[u8; C]> {
    let Some(filter) = Filter::of(interpolation) else {
        return nearest(source, size, region);
    };
    let columns = Axis::new(&filter, source.size.width, size.width, &region.columns);
    let rows = Axis::new(&filter, source.size.height, size.height, &region.rows);
    if is_vertical_first(source.size, size) {
        let span = columns.source_span();
        let short = vertical(source, &rows, span.clone());
        let size = Size { width: span.len(), height: region.rows.len() };
        return horizontal(Pixels { size, data: &short }, &columns.shifted(span.start), 0..size.height);
    }
    let span = rows.source_span();
    let narrow = horizontal(source, &columns, span.clone());
    let size = Size { width: region.columns.len(), height: span.len() };
    vertical(Pixels { size, data: &narrow }, &rows.shifted(span.start), 0..size.width)
}

/// Pillow's choice since release 13: an image that loses more than two rows for each column it loses is shortened
/// first, any other narrowed first. The order shows in the last bit, because each pass rounds.
fn is_vertical_first(source: Size, target: Size) -> bool {
    let lost_columns = source.width.saturating_sub(target.width);
    let lost_rows = source.height.saturating_sub(target.height);
    lost_rows > lost_columns.saturating_mul(2)
}

fn nearest<const C: usize>(source: Pixels<'_, C>, size: Size, region: &Region) -> Vec<[u8; C]> {
    let columns = nearest_positions(source.size.width, size.width, &region.columns);
    let rows = nearest_positions(source.size.height, size.height, &region.rows);
    let mut out = Vec::with_capacity(columns.len() * rows.len());
    for row in rows {
        let row = &source.data[row * source.size.width..][..source.size.width];
        out.extend(columns.iter().map(|&column| row[column]));
    }
    out
}

/// Source index of each output index. The sample point advances by repeated addition, as Pillow's does, because its
/// rounding decides which pixel is nearest.
fn nearest_positions(source: usize, target: usize, wanted: &Range<usize>) -> Vec<usize> {
    let step = source as f64 / target as f64;
    let points = std::iter::successors(Some(step * 0.5), |point| Some(point + step));
    points.skip(wanted.start).take(wanted.len()).map(|point| (point as usize).min(source - 1)).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/resize");

    fn read(file: &str) -> (Size, Vec<u8>) {
        let image = image::open(Path::new(FIXTURES).join(file)).unwrap().into_rgb8();
        (Size { width: image.width() as usize, height: image.height() as usize }, image.into_raw())
    }

    fn whole(size: Size) -> Region {
        Region { columns: 0..size.width, rows: 0..size.height }
    }

    #[test]
    fn equals_pillow_bit_for_bit() {
        let cases = std::fs::read_to_string(Path::new(FIXTURES).join("cases.txt")).unwrap();
        let mut count = 0;
        for case in cases.lines() {
            let [input, filter, width, height, expected] = case.split(' ').collect::<Vec<_>>().try_into().unwrap();
            let (source, rgb) = read(input);
            let size = Size { width: width.parse().unwrap(), height: height.parse().unwrap() };
            let pixels = Pixels { size: source, data: rgb.as_chunks::<3>().0 };
            let ours = resample(pixels, size, filter.parse().unwrap(), &whole(size));
            assert!((size, ours.into_flattened()) == read(expected), "{case}");
            count += 1;
        }
        assert_eq!(count, 6 * 15);
    }

    #[test]
    fn unknown_filter_lists_the_known_ones() {
        let error = "cubic".parse::<Interpolation>().unwrap_err();
        assert_eq!(error.to_string(), "unknown interpolation \"cubic\"");
        assert_eq!(error.hint().unwrap(), "known are nearest, box, bilinear, hamming, bicubic, lanczos");
    }

    fn any_filter() -> impl Strategy<Value = Interpolation> {
        proptest::sample::select(Interpolation::ALL.map(|(filter, _)| filter).to_vec())
    }

    /// A gray image of up to 40x40 pixels.
    fn any_image() -> impl Strategy<Value = (Size, Vec<[u8; 1]>)> {
        (1..40_usize, 1..40_usize).prop_flat_map(|(width, height)| {
            let pixels = prop::collection::vec(any::<u8>().prop_map(|value| [value]), width * height);
            pixels.prop_map(move |pixels| (Size { width, height }, pixels))
        })
    }

    /// A target size of up to 90x90 pixels and a window of it.
    fn any_window() -> impl Strategy<Value = (Size, Region)> {
        let axis = || (0..30_usize, 1..30_usize, 0..30_usize);
        (axis(), axis()).prop_map(|((left, width, right), (top, height, bottom))| {
            let size = Size { width: left + width + right, height: top + height + bottom };
            (size, Region { columns: left..left + width, rows: top..top + height })
        })
    }

    proptest! {
        #[test]
        fn a_window_is_that_window_of_the_whole(
            (source, pixels) in any_image(),
            (size, region) in any_window(),
            filter in any_filter(),
        ) {
            let source = Pixels { size: source, data: &pixels };
            let all = resample(source, size, filter, &whole(size));
            let expected = Pixels { size, data: &all }.window(&region.columns, region.rows.clone());
            prop_assert_eq!(resample(source, size, filter, &region), expected);
        }

        #[test]
        fn a_constant_image_stays_constant(value: u8, (size, region) in any_window(), filter in any_filter()) {
            let source = Pixels { size: Size { width: 13, height: 8 }, data: &[[value]; 13 * 8] };
            let resized = resample(source, size, filter, &region);
            prop_assert!(resized.iter().all(|pixel| *pixel == [value]), "{:?}", resized);
        }

        #[test]
        fn the_same_size_is_a_copy((size, pixels) in any_image(), filter in any_filter()) {
            let source = Pixels { size, data: &pixels };
            prop_assert_eq!(resample(source, size, filter, &whole(size)), pixels);
        }
    }
}
