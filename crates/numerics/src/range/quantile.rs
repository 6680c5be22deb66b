//! Quantiles of a histogram, with linear interpolation inside a bin.

use super::Pinned;
use crate::{Range, TensorStats};

/// Equal mass spread over an interval; the zeros are one of no width.
struct Segment {
    lo: f64,
    hi: f64,
    count: f64,
}

/// The range left when `tail` values are cut: half at either end of signed tensors, all at the outer end of
/// one-sided ones, none at a pinned end.
pub(super) fn central(stats: &TensorStats, observed: Range, tail: f64, pinned: Pinned) -> Range {
    let (cut_lo, cut_hi) = match (observed.lo() < 0.0, observed.hi() > 0.0) {
        (true, true) => (0.5 * tail, 0.5 * tail),
        (true, false) => (tail, 0.0),
        _ => (0.0, tail),
    };
    let segments = segments(stats);
    let lo = if pinned.lo || cut_lo == 0.0 { observed.lo() } else { from_below(&segments, cut_lo) as f32 };
    let hi = if pinned.hi || cut_hi == 0.0 { observed.hi() } else { from_above(&segments, cut_hi) as f32 };
    let lo = lo.clamp(observed.lo(), observed.hi());
    Range::new(lo, hi.clamp(lo, observed.hi())).unwrap_or(observed)
}

fn segments(stats: &TensorStats) -> Vec<Segment> {
    let width = stats.histogram().width();
    let bin = |(bin, count): (i32, u64)| {
        let lo = f64::from(bin) * width;
        Segment { lo, hi: lo + width, count: count as f64 }
    };
    let mut segments: Vec<Segment> = stats.histogram().occupied().map(bin).collect();
    let zeros = Segment { lo: 0.0, hi: 0.0, count: stats.n_zero() as f64 };
    let position = segments.partition_point(|segment| segment.lo < 0.0);
    segments.insert(position, zeros);
    segments
}

/// Value below which `mass` values lie.
fn from_below(segments: &[Segment], mass: f64) -> f64 {
    let mut left = mass;
    for segment in segments {
        if left <= segment.count {
            return segment.lo + (segment.hi - segment.lo) * (left / segment.count);
        }
        left -= segment.count;
    }
    f64::INFINITY
}

/// Value above which `mass` values lie.
fn from_above(segments: &[Segment], mass: f64) -> f64 {
    let mut left = mass;
    for segment in segments.iter().rev() {
        if left <= segment.count {
            return segment.hi - (segment.hi - segment.lo) * (left / segment.count);
        }
        left -= segment.count;
    }
    f64::NEG_INFINITY
}
