//! Resampling of 8-bit images with the arithmetic of Pillow's `resize`, bit for bit.
//!
//! Two separable passes, one along each axis. Each output value is a weighted sum of 8-bit inputs with fixed-point
//! weights, rounded and clipped to 8 bits after each pass. Which part of an image to compute is decided elsewhere.

use std::f64::consts::PI;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use crate::choice::lookup;
use crate::error::CalibError;

/// Fraction bits of a weight: 32 less 8 for the pixel and 2 for overshoot and sign.
const PRECISION_BITS: u32 = 32 - 8 - 2;

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

    fn filter(self) -> Option<Filter> {
        let (kernel, support): (fn(f64) -> f64, f64) = match self {
            Self::Nearest => return None,
            Self::Box => (box_kernel, 0.5),
            Self::Bilinear => (triangle_kernel, 1.0),
            Self::Hamming => (hamming_kernel, 1.0),
            Self::Bicubic => (cubic_kernel, 2.0),
            Self::Lanczos => (lanczos_kernel, 3.0),
        };
        Some(Filter { kernel, support })
    }
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
    let Some(filter) = interpolation.filter() else {
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

struct Filter {
    kernel: fn(f64) -> f64,
    support: f64,
}

fn box_kernel(x: f64) -> f64 {
    if x > -0.5 && x <= 0.5 { 1.0 } else { 0.0 }
}

fn triangle_kernel(x: f64) -> f64 {
    (1.0 - x.abs()).max(0.0)
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 { 1.0 } else { (x * PI).sin() / (x * PI) }
}

fn hamming_kernel(x: f64) -> f64 {
    // Pillow spells these constants in single precision.
    let (base, swing) = (f64::from(0.54_f32), f64::from(0.46_f32));
    if x.abs() >= 1.0 { 0.0 } else { sinc(x) * (base + swing * (x * PI).cos()) }
}

fn cubic_kernel(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

fn lanczos_kernel(x: f64) -> f64 {
    if (-3.0..3.0).contains(&x) { sinc(x) * sinc(x / 3.0) } else { 0.0 }
}

/// What one pass does along its axis.
enum Axis {
    /// The size does not change: the wanted positions are copied.
    Copy(Range<usize>),
    Filter(Vec<Tap>),
}

/// One output position: the first source position and the weights of it and its successors.
struct Tap {
    start: usize,
    weights: Vec<i32>,
}

impl Axis {
    fn new(filter: &Filter, source: usize, target: usize, wanted: &Range<usize>) -> Self {
        if source == target {
            return Self::Copy(wanted.clone());
        }
        let scale = source as f64 / target as f64;
        Self::Filter(wanted.clone().map(|position| Tap::new(filter, source, scale, position)).collect())
    }

    /// The source positions that are read. Taps move monotonically, so the first and last bound them.
    fn source_span(&self) -> Range<usize> {
        match self {
            Self::Copy(range) => range.clone(),
            Self::Filter(taps) => {
                let start = taps.first().map_or(0, |tap| tap.start);
                start..taps.last().map_or(start, |tap| tap.start + tap.weights.len())
            }
        }
    }

    /// The same axis over a source that lacks its first `start` positions.
    fn shifted(self, start: usize) -> Self {
        match self {
            Self::Copy(range) => Self::Copy(range.start - start..range.end - start),
            Self::Filter(taps) => {
                Self::Filter(taps.into_iter().map(|tap| Tap { start: tap.start - start, ..tap }).collect())
            }
        }
    }
}

impl Tap {
    /// `scale` is source size over target size; when it exceeds 1 the kernel is stretched by it.
    fn new(filter: &Filter, source: usize, scale: f64, position: usize) -> Self {
        let stretch = scale.max(1.0);
        let support = filter.support * stretch;
        let center = (position as f64 + 0.5) * scale;
        let start = (center - support + 0.5).max(0.0) as usize;
        let end = ((center + support + 0.5) as usize).min(source);
        let at = |x: usize| (filter.kernel)((x as f64 - center + 0.5) * (1.0 / stretch));
        let weights: Vec<f64> = (start..end).map(at).collect();
        Self { start, weights: to_fixed_point(&weights) }
    }
}

/// Normalises weights to sum 1 and rounds them, halves away from zero, to `PRECISION_BITS` fraction bits.
fn to_fixed_point(weights: &[f64]) -> Vec<i32> {
    let sum: f64 = weights.iter().sum();
    let normal = if sum == 0.0 { 1.0 } else { sum };
    let one = f64::from(1 << PRECISION_BITS);
    weights.iter().map(|weight| (weight / normal * one + 0.5_f64.copysign(*weight)) as i32).collect()
}

const HALF: i32 = 1 << (PRECISION_BITS - 1);

fn to_pixel(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

/// Filters along the rows and returns those of `rows`.
fn horizontal<const C: usize>(source: Pixels<'_, C>, columns: &Axis, rows: Range<usize>) -> Vec<[u8; C]> {
    let taps = match columns {
        Axis::Copy(kept) => return source.window(kept, rows),
        Axis::Filter(taps) => taps,
    };
    let mut out = Vec::with_capacity(taps.len() * rows.len());
    for row in source.rows(rows) {
        out.extend(taps.iter().map(|tap| weigh(&row[tap.start..], &tap.weights)));
    }
    out
}

fn weigh<const C: usize>(pixels: &[[u8; C]], weights: &[i32]) -> [u8; C] {
    let mut sums = [HALF; C];
    for (pixel, weight) in pixels.iter().zip(weights) {
        for (sum, value) in sums.iter_mut().zip(pixel) {
            *sum += i32::from(*value) * weight;
        }
    }
    sums.map(to_pixel)
}

/// Filters along the columns and returns those of `columns`.
fn vertical<const C: usize>(source: Pixels<'_, C>, rows: &Axis, columns: Range<usize>) -> Vec<[u8; C]> {
    let taps = match rows {
        Axis::Copy(kept) => return source.window(&columns, kept.clone()),
        Axis::Filter(taps) => taps,
    };
    let mut out = Vec::with_capacity(taps.len() * columns.len());
    let mut sums = vec![[HALF; C]; columns.len()];
    for tap in taps {
        sums.fill([HALF; C]);
        let lines = source.rows(tap.start..tap.start + tap.weights.len());
        for (line, weight) in lines.zip(&tap.weights) {
            add_weighted(sums.as_flattened_mut(), line[columns.clone()].as_flattened(), *weight);
        }
        out.extend(sums.iter().map(|sum| sum.map(to_pixel)));
    }
    out
}

fn add_weighted(sums: &mut [i32], line: &[u8], weight: i32) {
    for (sum, value) in sums.iter_mut().zip(line) {
        *sum += i32::from(*value) * weight;
    }
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
