//! Pooling: maximum, mean and p-norm over sliding windows.
//!
//! A fold over a window is a fold along one axis after the other, so a window of k by k costs 2k steps.

use crate::error::{KernelError, check_len};
use crate::geometry::{Axis, PoolGeometry};

/// Planes between two axes may hold this many elements (16 MiB); larger ones, which only absurd padding makes, are
/// refused.
const MAX_INTERMEDIATE: usize = 1 << 22;

/// Maximum over windows. Padding and NaN never win; a window of nothing else is minus infinity.
///
/// # Errors
/// If a slice has another length than `geometry` says, or padding makes an intermediate plane too large.
pub fn max_pool(geometry: &PoolGeometry, x: &[f32], y: &mut [f32], scratch: &mut Vec<f32>) -> Result<(), KernelError> {
    pool(geometry, x, y, scratch, f32::NEG_INFINITY, larger, |x| x)
}

/// Mean over windows: the sum divided by the number of elements in the window, with or without those of the padding.
/// What a last partial window reaches beyond the padding never counts, and a window of nothing is 0.
///
/// # Errors
/// If a slice has another length than `geometry` says, or padding makes an intermediate plane too large.
pub fn average_pool(
    geometry: &PoolGeometry,
    x: &[f32],
    count_include_pad: bool,
    y: &mut [f32],
    scratch: &mut Vec<f32>,
) -> Result<(), KernelError> {
    pool(geometry, x, y, scratch, 0.0, |a, b| a + b, |x| x)?;
    if y.is_empty() {
        return Ok(());
    }
    let counts = window_counts(&geometry.space.axes, count_include_pad);
    for plane in y.chunks_exact_mut(counts.len()) {
        plane.iter_mut().zip(&counts).for_each(|(y, count)| *y /= count.max(1.0));
    }
    Ok(())
}

/// p-norm over windows: `(sum |x|^p)^(1/p)`.
///
/// # Errors
/// If a slice has another length than `geometry` says, `p` is 0, or padding makes an intermediate plane too large.
pub fn lp_pool(
    geometry: &PoolGeometry,
    x: &[f32],
    p: u32,
    y: &mut [f32],
    scratch: &mut Vec<f32>,
) -> Result<(), KernelError> {
    let add = |a: f32, b: f32| a + b;
    match p {
        0 => return Err(KernelError::Zero("exponent of the norm")),
        1 => pool(geometry, x, y, scratch, 0.0, add, f32::abs)?,
        2 => {
            pool(geometry, x, y, scratch, 0.0, add, |x| x * x)?;
            y.iter_mut().for_each(|y| *y = y.sqrt());
        }
        p => {
            let p = p as f32;
            pool(geometry, x, y, scratch, 0.0, add, |x: f32| x.abs().powf(p))?;
            y.iter_mut().for_each(|y| *y = y.powf(p.recip()));
        }
    }
    Ok(())
}

/// Maximum over windows with the place it was found: the index into `x`, in memory order, or with the first spatial
/// axis running fastest inside each plane. Of equal elements the first in window order counts; -1 stands for a window
/// without any element that could win.
///
/// # Errors
/// If a slice has another length than `geometry` says.
pub fn max_pool_with_indices(
    geometry: &PoolGeometry,
    x: &[f32],
    column_major: bool,
    y: &mut [f32],
    indices: &mut [i64],
) -> Result<(), KernelError> {
    geometry.check(x, y)?;
    check_len("indices", y.len(), indices.len())?;
    let mut finder = Finder::new(&geometry.space.axes, column_major);
    for (i, (y, index)) in y.iter_mut().zip(indices).enumerate() {
        let plane = i / geometry.space.output * geometry.space.input;
        let (value, place) = finder.find(&x[plane..][..geometry.space.input], i % geometry.space.output);
        *y = value;
        *index = place.and_then(|p| i64::try_from(plane + p).ok()).unwrap_or(-1);
    }
    Ok(())
}

fn larger(best: f32, x: f32) -> f32 {
    if x > best { x } else { best }
}

/// Folds every window of the mapped input.
fn pool(
    geometry: &PoolGeometry,
    x: &[f32],
    y: &mut [f32],
    scratch: &mut Vec<f32>,
    start: f32,
    fold: impl Fn(f32, f32) -> f32 + Copy,
    map: impl Fn(f32) -> f32 + Copy,
) -> Result<(), KernelError> {
    geometry.check(x, y)?;
    if y.is_empty() {
        return Ok(());
    }
    let axes = &geometry.space.axes;
    let largest = largest_plane(axes)?;
    scratch.resize(scratch.len().max(2 * largest), 0.0);
    let (mut from, mut to) = scratch.split_at_mut(largest);
    for (plane, y) in y.chunks_exact_mut(geometry.space.output).enumerate() {
        let x = &x[plane * geometry.space.input..][..geometry.space.input];
        from.iter_mut().zip(x).for_each(|(to, x)| *to = map(*x));
        let (mut outer, mut inner) = (1, geometry.space.input.max(1));
        for axis in axes {
            inner /= axis.input.max(1);
            fold_axis(axis, inner, &from[..outer * axis.input * inner], start, fold, to);
            outer *= axis.output;
            std::mem::swap(&mut from, &mut to);
        }
        y.copy_from_slice(&from[..y.len()]);
    }
    Ok(())
}

/// Elements of the largest plane on the way from input to output, axis by axis.
fn largest_plane(axes: &[Axis]) -> Result<usize, KernelError> {
    let mut largest = 0;
    for done in 0..=axes.len() {
        let sizes = axes.iter().enumerate().map(|(i, a)| if i < done { a.output } else { a.input.max(1) });
        let plane = sizes.fold(1usize, usize::saturating_mul);
        largest = largest.max(plane);
    }
    let bound: usize = axes.iter().map(|a| a.input.max(a.output).max(1)).fold(1, usize::saturating_mul);
    let needed = axes.iter().map(|a| a.input.max(1)).fold(1, usize::saturating_mul);
    let produced = axes.iter().map(|a| a.output).fold(1, usize::saturating_mul);
    if largest > MAX_INTERMEDIATE.max(needed).max(produced) || bound == usize::MAX {
        return Err(KernelError::TooLarge("padding"));
    }
    Ok(largest)
}

/// Folds the windows along one axis of `[outer, input, inner]` into `[outer, output, inner]`.
fn fold_axis(
    axis: &Axis,
    inner: usize,
    from: &[f32],
    start: f32,
    fold: impl Fn(f32, f32) -> f32 + Copy,
    to: &mut [f32],
) {
    let (from_len, to_len) = (axis.input * inner, axis.output * inner);
    if from_len == 0 || to_len == 0 {
        to.fill(start);
        return;
    }
    for (from, to) in from.chunks_exact(from_len).zip(to.chunks_exact_mut(to_len)) {
        to.fill(start);
        for tap in 0..axis.kernel {
            let (inside, first) = (axis.inside(tap), axis.first_inside(tap));
            if inside.is_empty() {
                continue;
            }
            let to = &mut to[inside.start * inner..inside.end * inner];
            let from = &from[first * inner..];
            match (inner, axis.stride) {
                (_, 1) => fold_run(to, from, fold),
                (1, stride) => to.iter_mut().zip(from.iter().step_by(stride)).for_each(|(a, b)| *a = fold(*a, *b)),
                (_, stride) => {
                    let rows = from.chunks(inner).step_by(stride);
                    to.chunks_exact_mut(inner).zip(rows).for_each(|(to, from)| fold_run(to, from, fold));
                }
            }
        }
    }
}

fn fold_run(to: &mut [f32], from: &[f32], fold: impl Fn(f32, f32) -> f32) {
    to.iter_mut().zip(from).for_each(|(a, b)| *a = fold(*a, *b));
}

/// Number of elements that count in each window of a plane.
pub(crate) fn window_counts(axes: &[Axis], count_include_pad: bool) -> Vec<f32> {
    let mut counts = vec![1.0];
    for axis in axes {
        let along = axis_counts(axis, count_include_pad);
        counts = counts.iter().flat_map(|c| along.iter().map(move |a| c * a)).collect();
    }
    counts
}

fn axis_counts(axis: &Axis, count_include_pad: bool) -> Vec<f32> {
    let padded = axis.input + axis.pad_begin + axis.pad_end;
    let up_to = |limit: usize, start: usize| limit.saturating_sub(start).div_ceil(axis.dilation).min(axis.kernel);
    (0..axis.output)
        .map(|o| {
            let start = o * axis.stride;
            let counted = if count_include_pad {
                up_to(padded, start)
            } else {
                up_to(axis.pad_begin + axis.input, start) - up_to(axis.pad_begin, start)
            };
            counted as f32
        })
        .collect()
}

/// Searches one window after another for its largest element.
struct Finder<'a> {
    axes: &'a [Axis],
    /// Distance in a plane between neighbours along each axis, as indices count them.
    steps: Vec<usize>,
    column_major: bool,
    tap: Vec<usize>,
}

impl<'a> Finder<'a> {
    fn new(axes: &'a [Axis], column_major: bool) -> Self {
        Self { axes, steps: row_steps(axes), column_major, tap: vec![0; axes.len()] }
    }

    /// Largest element of window `output` and its index.
    fn find(&mut self, plane: &[f32], output: usize) -> (f32, Option<usize>) {
        let mut best = (f32::NEG_INFINITY, None);
        self.tap.fill(0);
        loop {
            if let Some(at) = self.input_at(output)
                && (plane[at] > best.0 || (best.1.is_none() && plane[at] == best.0))
            {
                best = (plane[at], Some(at));
            }
            if !self.advance() {
                break;
            }
        }
        (best.0, best.1.map(|at| if self.column_major { self.column_major_index(at) } else { at }))
    }

    fn input_at(&self, mut output: usize) -> Option<usize> {
        let mut index = 0;
        for ((axis, tap), step) in self.axes.iter().zip(&self.tap).zip(&self.steps).rev() {
            index += axis.input_at(output % axis.output, *tap)? * step;
            output /= axis.output;
        }
        Some(index)
    }

    /// Moves to the next tap; false after the last.
    fn advance(&mut self) -> bool {
        for (tap, axis) in self.tap.iter_mut().zip(self.axes).rev() {
            *tap += 1;
            if *tap < axis.kernel {
                return true;
            }
            *tap = 0;
        }
        false
    }

    fn column_major_index(&self, at: usize) -> usize {
        let (mut index, mut step) = (0, 1);
        for (axis, row_step) in self.axes.iter().zip(&self.steps) {
            index += at / row_step % axis.input * step;
            step *= axis.input;
        }
        index
    }
}

fn row_steps(axes: &[Axis]) -> Vec<usize> {
    let mut steps = vec![1; axes.len()];
    for i in (1..axes.len()).rev() {
        steps[i - 1] = steps[i] * axes[i].input;
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{any_axes, assert_close, noise};
    use proptest::prelude::*;

    /// Elements under each window of each plane, padding left out, with their index.
    fn windows(g: &PoolGeometry, x: &[f32]) -> Vec<Vec<(usize, f32)>> {
        let space = &g.space;
        let mut tap = vec![0; space.axes.len()];
        let mut all = Vec::new();
        for i in 0..g.planes * space.output {
            let mut window = Vec::new();
            for t in 0..space.taps {
                space.split_tap(t, &mut tap);
                let (mut at, mut step, mut rest) = (Some(0), 1, i % space.output);
                for (axis, tap) in space.axes.iter().zip(&tap).rev() {
                    at = at.zip(axis.input_at(rest % axis.output, *tap)).map(|(at, i)| at + i * step);
                    step *= axis.input;
                    rest /= axis.output;
                }
                window.extend(at.map(|at| at + i / space.output * space.input).map(|at| (at, x[at])));
            }
            all.push(window);
        }
        all
    }

    fn axis(input: usize, kernel: usize, stride: usize, pads: (usize, usize), output: usize) -> Axis {
        Axis { input, kernel, stride, dilation: 1, pad_begin: pads.0, pad_end: pads.1, output }
    }

    #[test]
    fn the_divisor_of_a_mean() {
        // Sums of ones count the elements of the window; the quotient shows what else was counted.
        let cases = [
            ("without padding", axis(4, 2, 2, (0, 0), 2), false, [1.0, 1.0]),
            ("padding left out", axis(2, 2, 2, (1, 1), 2), false, [1.0, 1.0]),
            ("padding counted", axis(2, 2, 2, (1, 1), 2), true, [0.5, 0.5]),
            ("beyond the input", axis(3, 2, 2, (0, 0), 2), false, [1.0, 1.0]),
            ("beyond the padding", axis(3, 2, 2, (0, 0), 2), true, [1.0, 1.0]),
            ("partly beyond the padding", axis(4, 4, 3, (0, 1), 2), true, [1.0, 0.5]),
            ("nothing but padding", axis(1, 1, 1, (1, 0), 2), false, [0.0, 1.0]),
        ];
        for (name, axis, include, expected) in cases {
            let g = PoolGeometry::new(1, &[axis]).unwrap();
            let mut y = [f32::NAN; 2];
            average_pool(&g, &vec![1.0; axis.input], include, &mut y, &mut Vec::new()).unwrap();
            assert_eq!(y, expected, "{name}");
        }
    }

    #[test]
    fn nan_and_padding_never_win() {
        let g = PoolGeometry::new(1, &[axis(3, 1, 1, (1, 0), 4)]).unwrap();
        let x = [f32::NAN, -3.0, f32::NEG_INFINITY];
        let (mut y, mut indices) = ([0.0; 4], [0; 4]);
        max_pool(&g, &x, &mut y, &mut Vec::new()).unwrap();
        let low = f32::NEG_INFINITY;
        assert_eq!(y, [low, low, -3.0, low]);
        max_pool_with_indices(&g, &x, false, &mut y, &mut indices).unwrap();
        assert_eq!((y, indices), ([low, low, -3.0, low], [-1, -1, 1, 2]));
    }

    #[test]
    fn column_major_indices_count_rows_first() {
        let g = PoolGeometry::new(2, &[axis(2, 1, 1, (0, 0), 2), axis(3, 1, 1, (0, 0), 3)]).unwrap();
        let (mut y, mut indices) = ([0.0; 12], [0; 12]);
        max_pool_with_indices(&g, &noise(1, 12), true, &mut y, &mut indices).unwrap();
        assert_eq!(indices, [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11]);
    }

    #[test]
    fn empty_inputs_and_outputs() {
        let mut y = [0.0; 2];
        let g = PoolGeometry::new(1, &[axis(0, 1, 1, (2, 0), 2)]).unwrap();
        max_pool(&g, &[], &mut y, &mut Vec::new()).unwrap();
        assert_eq!(y, [f32::NEG_INFINITY; 2]);
        let g = PoolGeometry::new(3, &[axis(0, 1, 1, (0, 0), 0)]).unwrap();
        average_pool(&g, &[], true, &mut [], &mut Vec::new()).unwrap();
    }

    #[test]
    fn absurd_padding_is_refused() {
        let g = PoolGeometry::new(1, &[axis(1, 1, 1, (0, 1 << 30), 1 << 20), axis(1 << 20, 1, 1 << 20, (0, 0), 1)]);
        let result = max_pool(&g.unwrap(), &vec![0.0; 1 << 20], &mut vec![0.0; 1 << 20], &mut Vec::new());
        assert_eq!(result, Err(KernelError::TooLarge("padding")));
    }

    proptest! {
        #[test]
        fn pools_match_the_definition(planes in 1usize..4, axes in any_axes(), p in 1u32..4, seed: u64) {
            let g = PoolGeometry::new(planes, &axes).unwrap();
            let x = noise(seed, planes * g.space.input);
            let windows = windows(&g, &x);
            let values = |f: fn(&[(usize, f32)], f32) -> f32| windows.iter().map(|w| f(w, p as f32)).collect::<Vec<_>>();
            let (mut y, mut scratch) = (vec![f32::NAN; windows.len()], vec![5.0; 3]);

            let largest = values(|w, _| w.iter().fold(f32::NEG_INFINITY, |m, x| m.max(x.1)));
            max_pool(&g, &x, &mut y, &mut scratch).unwrap();
            prop_assert_eq!(&y, &largest);
            let mut indices = vec![0; y.len()];
            max_pool_with_indices(&g, &x, false, &mut y, &mut indices).unwrap();
            prop_assert_eq!(&y, &largest);
            for (index, y) in indices.iter().zip(&y).filter(|(_, y)| y.is_finite()) {
                prop_assert_eq!(x[usize::try_from(*index).unwrap()], *y);
            }

            average_pool(&g, &x, false, &mut y, &mut scratch).unwrap();
            let mean = values(|w, _| w.iter().map(|x| x.1).sum::<f32>() / w.len().max(1) as f32);
            assert_close(&y, &mean, g.space.taps as f32);

            lp_pool(&g, &x, p, &mut y, &mut scratch).unwrap();
            let norm = values(|w, p| w.iter().map(|x| x.1.abs().powf(p)).sum::<f32>().powf(p.recip()));
            for (y, n) in y.iter().zip(&norm) {
                prop_assert!((y - n).abs() < 1e-4 * (1.0 + n), "{} {}", y, n);
            }
        }
    }
}
