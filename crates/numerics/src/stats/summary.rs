//! Vectorizable passes over the raw values of one tensor.

use crate::Range;
use crate::finite::{CHUNK, clean};

const LANES: usize = 16;

/// Counts and range of a slice.
#[derive(Debug, Default)]
pub(super) struct Summary {
    pub(super) n_nan: u64,
    pub(super) n_inf: u64,
    pub(super) n_zero: u64,
    pub(super) range: Option<Range>,
}

/// Counts and range of `data` after flushing subnormals to zero.
pub(super) fn summarize(data: &[f32]) -> Summary {
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
pub(super) fn count_equal(data: &[f32], value: f32) -> u64 {
    if value == 0.0 { count(data, |x| x.abs() < f32::MIN_POSITIVE) } else { count(data, |x| x == value) }
}

fn count(data: &[f32], matches: impl Fn(f32) -> bool) -> u64 {
    let in_chunk = |chunk: &[f32]| chunk.iter().map(|&x| u32::from(matches(x))).sum::<u32>();
    data.chunks(CHUNK).map(|chunk| u64::from(in_chunk(chunk))).sum()
}
