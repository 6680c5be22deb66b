//! Unfolding of windows into the columns of a matrix, in blocks of output positions, and the adjoint.

use crate::geometry::{Axis, ConvGeometry, Space};
use crate::strided::copy_strided;
use std::ops::Range;

/// Elements of a block of columns: 1 MiB, which leaves room for the packed operands in a level 2 cache.
const BLOCK_ELEMENTS: usize = 1 << 18;

/// Output positions whose columns of `depth` elements make up a block.
pub(crate) fn block_positions(depth: usize, positions: usize) -> usize {
    // A multiple of 16 keeps the rows of a block aligned to vectors.
    let fit = (BLOCK_ELEMENTS / depth.max(1)).max(1);
    let fit = if fit >= 16 { fit / 16 * 16 } else { fit };
    fit.min(positions)
}

/// Writes `columns[channel * taps + tap][position]` for one group's input planes `x` and a block of output positions;
/// padding is 0.
pub(crate) fn unfold<T: Copy + Default>(geometry: &ConvGeometry, x: &[T], positions: Range<usize>, columns: &mut [T]) {
    let mut tap = vec![0; geometry.space.axes.len()];
    for (row, column) in columns.chunks_exact_mut(positions.len()).enumerate() {
        unfold_row(geometry, x, row, positions.start, column, &mut tap);
    }
}

/// Writes one row of what [`unfold`] writes: `column[position - start]` of the row `channel * taps + tap`. `tap` has an
/// element for each axis; what it held is lost.
pub(crate) fn unfold_row<T: Copy + Default>(
    geometry: &ConvGeometry,
    x: &[T],
    row: usize,
    start: usize,
    column: &mut [T],
    tap: &mut [usize],
) {
    let space = &geometry.space;
    let plane = &x[row / space.taps * space.input..][..space.input];
    space.split_tap(row % space.taps, tap);
    column.fill(T::default());
    let stride = last_stride(space);
    visit_runs(space, tap, start..start + column.len(), |run, first| {
        copy_strided(&plane[first..], stride, &mut column[run]);
    });
}

/// Adds `columns[channel * taps + tap][position]` to the input planes `x` they would be read from: the adjoint of
/// [`unfold`].
pub(crate) fn fold(geometry: &ConvGeometry, columns: &[f32], positions: Range<usize>, x: &mut [f32]) {
    let space = &geometry.space;
    let stride = last_stride(space);
    let mut tap = vec![0; space.axes.len()];
    for (row, column) in columns.chunks_exact(positions.len()).enumerate() {
        let plane = &mut x[row / space.taps * space.input..][..space.input];
        space.split_tap(row % space.taps, &mut tap);
        visit_runs(space, &tap, positions.clone(), |run, first| {
            let targets = plane[first..].iter_mut().step_by(stride);
            targets.zip(&column[run]).for_each(|(to, from)| *to += *from);
        });
    }
}

fn last_stride(space: &Space) -> usize {
    space.axes.last().map_or(1, |a| a.stride)
}

/// Calls `visit` with each run of a block's positions along the last axis that reads input under `tap`, and with the
/// index its first position reads in the input plane.
fn visit_runs(space: &Space, tap: &[usize], positions: Range<usize>, mut visit: impl FnMut(Range<usize>, usize)) {
    let Some((last, outer)) = space.axes.split_last() else { return };
    let (last_tap, width) = (tap[outer.len()], last.output);
    let inside = last.inside(last_tap);
    let mut position = positions.start;
    while position < positions.end {
        let (row, from) = (position / width, position % width);
        let to = width.min(from + (positions.end - position));
        let (start, end) = (inside.start.max(from), inside.end.min(to));
        if start < end
            && let Some(base) = input_row(outer, tap, row)
        {
            let first = start * last.stride + last_tap * last.dilation - last.pad_begin;
            let column = position - positions.start;
            visit(column + start - from..column + end - from, base * last.input + first);
        }
        position += to - from;
    }
}

/// Index of the input row (all axes but the last) that output row `row` reads under `tap`, unless it is padding.
fn input_row(outer: &[Axis], tap: &[usize], mut row: usize) -> Option<usize> {
    let (mut index, mut step) = (0, 1);
    for (axis, tap) in outer.iter().zip(tap).rev() {
        index += axis.input_at(row % axis.output, *tap)? * step;
        step *= axis.input;
        row /= axis.output;
    }
    Some(index)
}
