//! The unfolded input in pairs: codes of neighbouring rows of its columns share an `i32`.

use super::packed::pair;
use super::tile::{LANES, Lanes};
use crate::geometry::ConvGeometry;
use crate::im2col;
use std::ops::Range;

/// Bytes of a block of panels: with the weights of one tile it fits a level 2 cache.
const BLOCK_BYTES: usize = 1 << 18;

/// Output positions of a block of panels with `pairs` pairs for each: whole panels.
pub(super) fn block_positions(pairs: usize) -> usize {
    (BLOCK_BYTES / size_of::<i32>() / pairs.max(1) / LANES).max(1) * LANES
}

/// Writes `panels[panel * pairs + k][lane]`: of output position `panel * LANES + lane` of the block, the codes `2k` and
/// `2k + 1` of its column of one group's input `x`. What is missing is 0.
pub(super) fn panels(
    geometry: &ConvGeometry,
    x: &[i16],
    positions: Range<usize>,
    rows: &mut Vec<i16>,
    panels: &mut Vec<Lanes>,
) {
    let (depth, count) = (geometry.group_weight(), positions.len());
    let pairs = depth.div_ceil(2);
    rows.clear();
    rows.resize(2 * count, 0);
    panels.resize(count.div_ceil(LANES) * pairs, Lanes::default());
    let mut tap = vec![0; geometry.space.axes.len()];
    for k in 0..pairs {
        let (first, second) = rows.split_at_mut(count);
        let low = row(geometry, x, 2 * k, &positions, first, &mut tap);
        let high = if 2 * k + 1 < depth {
            row(geometry, x, 2 * k + 1, &positions, second, &mut tap)
        } else {
            second.fill(0);
            second
        };
        let pairs_of_panels = panels.iter_mut().skip(k).step_by(pairs);
        for ((to, low), high) in pairs_of_panels.zip(low.chunks(LANES)).zip(high.chunks(LANES)) {
            interleave(low, high, &mut to.0);
        }
    }
}

/// Row `row` of the columns: where it stands in `x` if nothing moves, else unfolded into `space`.
fn row<'a>(
    geometry: &ConvGeometry,
    x: &'a [i16],
    row: usize,
    positions: &Range<usize>,
    space: &'a mut [i16],
    tap: &mut [usize],
) -> &'a [i16] {
    if geometry.is_pointwise() {
        return &x[row * geometry.space.input..][positions.clone()];
    }
    im2col::unfold_row(geometry, x, row, positions.start, space, tap);
    space
}

fn interleave(low: &[i16], high: &[i16], to: &mut [i32; LANES]) {
    if let (Some(low), Some(high)) = (low.first_chunk::<LANES>(), high.first_chunk::<LANES>()) {
        for lane in 0..LANES {
            to[lane] = pair(low[lane], high[lane]);
        }
    } else {
        to.fill(0);
        to.iter_mut().zip(low).zip(high).for_each(|((to, low), high)| *to = pair(*low, *high));
    }
}
