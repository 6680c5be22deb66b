//! Search for the range of least loss among those that shrink the full range at either end.

use super::Pinned;
use crate::Range;

/// Largest shrinkage looked at.
const MIN_ALPHA: f64 = 0.2;

/// Grid points and golden-section steps of the common search and of one alternating search.
const COMMON: Effort = Effort { points: 100, steps: 20 };
const SINGLE: Effort = Effort { points: 80, steps: 18 };

const ROUNDS: usize = 3;

#[derive(Clone, Copy)]
struct Effort {
    points: u32,
    steps: u32,
}

/// The best range found and its loss; `full` must contain zero.
///
/// First both ends shrink by one factor; unless the grid is symmetric or the range one-sided, each end is then
/// improved in turn. Pinned ends do not move.
pub(super) fn least_loss(full: Range, symmetric: bool, pinned: Pinned, loss: impl Fn(Range) -> f64) -> (Range, f64) {
    let at = |ends: [f64; 2]| shrunk(full, ends, pinned);
    let (common, mut best) = minimize(COMMON, |alpha| loss(at([alpha, alpha])));
    let mut ends = [common, common];
    let two_sided = full.lo() < 0.0 && full.hi() > 0.0;
    if two_sided && !symmetric {
        for side in [1, 0].into_iter().cycle().take(2 * ROUNDS) {
            let (alpha, found) = minimize(SINGLE, |alpha| loss(at(with(ends, side, alpha))));
            if found < best {
                best = found;
                ends[side] = alpha;
            }
        }
    }
    (at(ends), best)
}

fn with(mut ends: [f64; 2], side: usize, alpha: f64) -> [f64; 2] {
    ends[side] = alpha;
    ends
}

fn shrunk(full: Range, ends: [f64; 2], pinned: Pinned) -> Range {
    let end = |bound: f32, alpha: f64, pinned: bool| if pinned { bound } else { (f64::from(bound) * alpha) as f32 };
    let (lo, hi) = (end(full.lo(), ends[0], pinned.lo), end(full.hi(), ends[1], pinned.hi));
    Range::new(lo, hi).unwrap_or(full)
}

/// Least value of `loss` over [`MIN_ALPHA`, 1]: a grid, then golden-section search between the neighbours of its best
/// point. Of equal losses the larger factor wins, so that nothing is clipped without gain.
fn minimize(effort: Effort, loss: impl Fn(f64) -> f64) -> (f64, f64) {
    let step = (1.0 - MIN_ALPHA) / f64::from(effort.points - 1);
    let mut best = (1.0, loss(1.0));
    for point in 1..effort.points {
        let alpha = 1.0 - f64::from(point) * step;
        best = better(best, (alpha, loss(alpha)));
    }
    let (lo, hi) = ((best.0 - step).max(MIN_ALPHA), (best.0 + step).min(1.0));
    golden_section(lo, hi, effort.steps, best, loss)
}

fn golden_section(mut lo: f64, mut hi: f64, steps: u32, mut best: (f64, f64), loss: impl Fn(f64) -> f64) -> (f64, f64) {
    let ratio = (5f64.sqrt() - 1.0) / 2.0;
    let point = |alpha| (alpha, loss(alpha));
    let (mut left, mut right) = (point(hi - ratio * (hi - lo)), point(lo + ratio * (hi - lo)));
    for _ in 0..steps {
        best = better(better(best, right), left);
        if left.1 < right.1 {
            (hi, right) = (right.0, left);
            left = point(hi - ratio * (hi - lo));
        } else {
            (lo, left) = (left.0, right);
            right = point(lo + ratio * (hi - lo));
        }
    }
    better(better(best, right), left)
}

fn better(best: (f64, f64), candidate: (f64, f64)) -> (f64, f64) {
    if candidate.1 < best.1 { candidate } else { best }
}
