//! Vectorizable passes over the raw values of one tensor.

use crate::Range;
use crate::histogram::{CHUNK, clean};

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
    let count = |equal: fn(f32, f32) -> bool| -> u64 {
        data.chunks(CHUNK).map(|chunk| u64::from(chunk.iter().map(|&x| u32::from(equal(x, value))).sum::<u32>())).sum()
    };
    if value == 0.0 { count(|x, _| x.abs() < f32::MIN_POSITIVE) } else { count(|x, value| x == value) }
}
