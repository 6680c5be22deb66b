//! What statistics ask of the raw values of one tensor, and the answers for a plain slice.

use crate::finite::{CHUNK, clean};
use crate::histogram::BINS;
use crate::{DyadicHistogram, Range};

const LANES: usize = 16;

/// Counts and range of the values of a tensor.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Summary {
    /// NaN values.
    pub n_nan: u64,
    /// Infinite values of either sign.
    pub n_inf: u64,
    /// Zeros, −0.0 and subnormals.
    pub n_zero: u64,
    /// Range of the finite values, subnormals flushed to zero; absent without any.
    pub range: Option<Range>,
}

/// The values of one tensor for one image, however they are stored: what statistics ask of them.
///
/// Implementations differ in speed alone: every answer is exact.
pub trait Values {
    /// Number of values, NaN and infinities included.
    fn len(&self) -> u64;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Counts and range.
    fn summary(&self) -> Summary;

    /// Counts and range, and every normal value added to `histogram`: two passes over memory where an implementation
    /// has no better way. One pass can do both, binning at [`DyadicHistogram::exponent`] and wider from where a larger
    /// magnitude turns up; [`DyadicHistogram::counts_at`] takes the result.
    fn survey(&self, histogram: &mut DyadicHistogram) -> Summary {
        let summary = self.summary();
        let largest = summary.range.map_or(0.0, Range::abs_max);
        histogram.add_counted(largest, |exponent, counts| self.count_bins(exponent, counts));
        summary
    }

    /// Number of values equal to `value`; subnormals equal zero.
    fn count_equal(&self, value: f32) -> u64;

    /// Adds every normal value x to `counts[floor(x / 2^exponent) + 4096]`, of 8192 counts; all their magnitudes lie
    /// below 4096·2^exponent. Nothing else counts.
    fn count_bins(&self, exponent: i16, counts: &mut [u64; BINS]);
}

impl Values for [f32] {
    fn len(&self) -> u64 {
        self.len() as u64
    }

    fn summary(&self) -> Summary {
        summarize(self)
    }

    fn count_equal(&self, value: f32) -> u64 {
        count_equal(self, value)
    }

    fn count_bins(&self, exponent: i16, counts: &mut [u64; BINS]) {
        crate::histogram::count_bins(self, exponent, counts);
    }
}

/// Counts and range of `data` after flushing subnormals to zero.
fn summarize(data: &[f32]) -> Summary {
    let mut summary = Summary::default();
    let mut buffer = [0.0; CHUNK];
    for chunk in data.chunks(CHUNK) {
        let cleaned = clean(chunk, &mut buffer);
        summary.n_nan += cleaned.n_nan;
        summary.n_inf += cleaned.n_inf;
        summary.n_zero += cleaned.n_zero;
        summary.range = super::union(summary.range, range_of(cleaned.values));
    }
    summary
}

/// Range of finite values; `None` for an empty slice.
pub(super) fn range_of(values: &[f32]) -> Option<Range> {
    let (&first, _) = values.split_first()?;
    let (mut lo, mut hi) = ([first; LANES], [first; LANES]);
    let groups = values.chunks_exact(LANES);
    for (lane, &x) in groups.remainder().iter().enumerate() {
        widen(&mut lo[lane], &mut hi[lane], x);
    }
    for group in groups {
        for lane in 0..LANES {
            widen(&mut lo[lane], &mut hi[lane], group[lane]);
        }
    }
    let lo = lo.into_iter().fold(first, f32::min);
    let hi = hi.into_iter().fold(first, f32::max);
    Range::new(lo, hi).ok()
}

/// Plain comparisons: unlike `f32::min` they need no NaN handling and compile to one instruction.
fn widen(lo: &mut f32, hi: &mut f32, x: f32) {
    *lo = if x < *lo { x } else { *lo };
    *hi = if x > *hi { x } else { *hi };
}

/// Number of values equal to `value` after flushing subnormals to zero.
fn count_equal(data: &[f32], value: f32) -> u64 {
    if value == 0.0 { count(data, |x| x.abs() < f32::MIN_POSITIVE) } else { count(data, |x| x == value) }
}

fn count(data: &[f32], matches: impl Fn(f32) -> bool) -> u64 {
    let in_chunk = |chunk: &[f32]| chunk.iter().map(|&x| u32::from(matches(x))).sum::<u32>();
    data.chunks(CHUNK).map(|chunk| u64::from(in_chunk(chunk))).sum()
}
