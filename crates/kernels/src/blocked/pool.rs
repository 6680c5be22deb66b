//! Pooling: maximum and mean over windows and over whole planes. Conventions are those of pooling on planes.

use super::{Blocked, Shape};
use crate::buffer::Buffer;
use crate::error::{KernelError, check_len};
use crate::geometry::Axis;
use crate::pool::window_counts;
use crate::simd::{Isa, Kernel, Simd};

/// Maximum over windows. Padding and NaN never win; a window of nothing else is minus infinity.
///
/// # Errors
/// If the windows do not fit `x`, `x` is not in blocks of a vector's lanes, or `y` has another length.
pub fn max_pool(isa: Isa, x: Blocked<'_, f32>, window: [Axis; 2], y: &mut [f32]) -> Result<(), KernelError> {
    check_windows(isa, &x, &window, y.len())?;
    windows::<true>(isa, x, window, &[], y);
    Ok(())
}

/// Mean over windows: the sum divided by the number of elements in the window, with or without those of the padding.
/// What a last partial window reaches beyond the padding never counts, and a window of nothing is 0.
///
/// # Errors
/// If the windows do not fit `x`, `x` is not in blocks of a vector's lanes, or `y` has another length.
pub fn average_pool(
    isa: Isa,
    x: Blocked<'_, f32>,
    window: [Axis; 2],
    count_include_pad: bool,
    y: &mut [f32],
) -> Result<(), KernelError> {
    check_windows(isa, &x, &window, y.len())?;
    if y.is_empty() {
        return Ok(());
    }
    windows::<false>(isa, x, window, &window_counts(&window, count_include_pad), y);
    Ok(())
}

/// Mean over all pixels of each channel; `y` is `[batch][blocks][lanes]`.
///
/// # Errors
/// If `x` has no pixels or is not in blocks of a vector's lanes, or `y` has another length.
pub fn global_average_pool(isa: Isa, x: Blocked<'_, f32>, y: &mut [f32]) -> Result<(), KernelError> {
    check_pixels(isa, &x, y.len())?;
    isa.run_float(Mean { x, y });
    Ok(())
}

/// Maximum over all pixels of each channel; `y` is `[batch][blocks][lanes]`. NaN never wins.
///
/// # Errors
/// If `x` has no pixels or is not in blocks of a vector's lanes, or `y` has another length.
pub fn global_max_pool(isa: Isa, x: Blocked<'_, f32>, y: &mut [f32]) -> Result<(), KernelError> {
    check_pixels(isa, &x, y.len())?;
    let whole = |input| Axis { input, kernel: input, ..Axis::UNIT };
    windows::<true>(isa, x, [whole(x.shape.height), whole(x.shape.width)], &[], y);
    Ok(())
}

/// Checks that windows fit `x`, and the length of the result.
pub(crate) fn check_windows<T>(isa: Isa, x: &Blocked<'_, T>, window: &[Axis; 2], y: usize) -> Result<(), KernelError> {
    check_len("lanes", isa.lanes(), x.shape.lanes)?;
    check_len("operand", x.shape.len(), x.data.len())?;
    for (axis, input) in window.iter().zip([x.shape.height, x.shape.width]) {
        axis.check()?;
        check_len("input axis", axis.input, input)?;
    }
    let Shape { batch, channels, lanes, .. } = x.shape;
    check_len("result", Shape::new(batch, channels, window[0].output, window[1].output, lanes)?.len(), y)
}

/// Checks that there are pixels, and the length of a result of one for each image.
pub(crate) fn check_pixels<T>(isa: Isa, x: &Blocked<'_, T>, y: usize) -> Result<(), KernelError> {
    check_len("lanes", isa.lanes(), x.shape.lanes)?;
    check_len("operand", x.shape.len(), x.data.len())?;
    if x.shape.positions() == 0 {
        return Err(KernelError::Zero("number of pixels"));
    }
    check_len("result", x.shape.batch * x.shape.blocks() * x.shape.lanes, y)
}

/// Inputs under the taps of a window along an axis: the first one, and how many, a dilation apart.
#[derive(Clone, Copy)]
pub(crate) struct Reach {
    pub(crate) first: usize,
    pub(crate) count: usize,
}

/// What each window along an axis reads of the input.
pub(crate) fn reaches(axis: &Axis) -> Vec<Reach> {
    let reach = |output: usize| {
        let taps = axis.taps_inside(output);
        let first = (output * axis.stride + taps.start * axis.dilation).saturating_sub(axis.pad_begin);
        Reach { first, count: taps.len() }
    };
    (0..axis.output).map(reach).collect()
}

/// Maxima, or sums divided by the counts of each window of a plane.
fn windows<const MAXIMUM: bool>(isa: Isa, x: Blocked<'_, f32>, window: [Axis; 2], counts: &[f32], y: &mut [f32]) {
    let mut folded = Buffer::new(window[1].input * x.shape.lanes);
    let (rows, columns) = (reaches(&window[0]), reaches(&window[1]));
    isa.run_float(Windows::<MAXIMUM> { x, window, rows, columns, counts, folded: &mut folded, y });
}

/// Windows are folded along the vertical axis first, so that a window of k by k costs 2k steps.
struct Windows<'a, const MAXIMUM: bool> {
    x: Blocked<'a, f32>,
    window: [Axis; 2],
    rows: Vec<Reach>,
    columns: Vec<Reach>,
    /// Of each window of a plane; empty for maxima.
    counts: &'a [f32],
    /// One row of the input, folded over the rows of a window.
    folded: &'a mut [f32],
    y: &'a mut [f32],
}

impl<const MAXIMUM: bool> Kernel for Windows<'_, MAXIMUM> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let row_len = self.window[1].output * S::LANES;
        if self.y.is_empty() {
            return;
        }
        let y = std::mem::take(&mut self.y);
        for (plane, y) in y.chunks_exact_mut(self.rows.len() * row_len).enumerate() {
            let x = &self.x.data[plane * self.x.shape.plane()..][..self.x.shape.plane()];
            for (row, y) in y.chunks_exact_mut(row_len).enumerate() {
                self.fold_rows(s, x, self.rows[row]);
                self.fold_columns(s, row, y);
            }
        }
    }
}

impl<const MAXIMUM: bool> Windows<'_, MAXIMUM> {
    #[inline(always)]
    fn fold<S: Simd>(s: S, best: S::F32, x: S::F32) -> S::F32 {
        if MAXIMUM { s.max(x, best) } else { s.add(best, x) }
    }

    /// What a fold starts with.
    #[inline(always)]
    fn start<S: Simd>(s: S) -> S::F32 {
        s.splat(if MAXIMUM { f32::NEG_INFINITY } else { 0.0 })
    }

    #[inline(always)]
    #[allow(unsafe_code)]
    fn fold_rows<S: Simd>(&mut self, s: S, x: &[f32], rows: Reach) {
        let row_len = self.folded.len();
        let step = self.window[0].dilation * row_len;
        for (column, to) in self.folded.chunks_exact_mut(S::LANES).enumerate() {
            let mut result = Self::start(s);
            let mut at = rows.first * row_len + column * S::LANES;
            for _ in 0..rows.count {
                // SAFETY: the row is one of the plane's, whose length was checked.
                result = Self::fold(s, result, unsafe { s.load(x.as_ptr().add(at)) });
                at += step;
            }
            // SAFETY: the chunk has `LANES` elements.
            unsafe { s.store(to.as_mut_ptr(), result) };
        }
    }

    #[inline(always)]
    #[allow(unsafe_code)]
    fn fold_columns<S: Simd>(&self, s: S, row: usize, y: &mut [f32]) {
        let step = self.window[1].dilation * S::LANES;
        for (column, y) in y.chunks_exact_mut(S::LANES).enumerate() {
            let columns = self.columns[column];
            let mut result = Self::start(s);
            let mut at = columns.first * S::LANES;
            for _ in 0..columns.count {
                // SAFETY: the column is one of the input's, of which `folded` is a row.
                result = Self::fold(s, result, unsafe { s.load(self.folded.as_ptr().add(at)) });
                at += step;
            }
            if !MAXIMUM {
                let count = self.counts[row * self.columns.len() + column];
                result = s.div(result, s.splat(count.max(1.0)));
            }
            // SAFETY: the chunk has `LANES` elements.
            unsafe { s.store(y.as_mut_ptr(), result) };
        }
    }
}

struct Mean<'a> {
    x: Blocked<'a, f32>,
    y: &'a mut [f32],
}

/// Pixels summed up before the sum joins the others: short sums lose less.
const RUN: usize = 32;

impl Kernel for Mean<'_> {
    type Output = ();

    #[inline(always)]
    #[allow(unsafe_code)]
    fn run<S: Simd>(self, s: S) {
        let count = s.splat(self.x.shape.positions() as f32);
        let planes = self.x.data.chunks_exact(self.x.shape.plane());
        for (y, x) in self.y.chunks_exact_mut(S::LANES).zip(planes) {
            let mut total = s.splat(0.0);
            for run in x.chunks(RUN * S::LANES) {
                let mut sum = s.splat(0.0);
                for pixel in run.chunks_exact(S::LANES) {
                    // SAFETY: the chunk has `LANES` elements.
                    sum = s.add(sum, unsafe { s.load(pixel.as_ptr()) });
                }
                total = s.add(total, sum);
            }
            // SAFETY: the chunk has `LANES` elements.
            unsafe { s.store(y.as_mut_ptr(), s.div(total, count)) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocked::{to_blocked, to_planes};
    use crate::geometry::PoolGeometry;
    use crate::pool;
    use crate::testing::{any_axis, assert_close, noise};
    use proptest::prelude::*;

    fn planes_of(isa: Isa, shape: Shape, blocks: &[f32]) -> Vec<f32> {
        let mut planes = vec![0.0; shape.batch * shape.channels * shape.positions()];
        to_planes(isa, Blocked { shape, data: blocks }, &mut planes).unwrap();
        planes
    }

    proptest! {
        #[test]
        fn pooling_agrees_with_pooling_on_planes(
            channels in 1usize..40, window in [any_axis(), any_axis()], include: bool, nan: bool, seed: u64,
        ) {
            for isa in Isa::all() {
                let shape = Shape::new(2, channels, window[0].input, window[1].input, isa.lanes()).unwrap();
                let result = Shape::new(2, channels, window[0].output, window[1].output, isa.lanes()).unwrap();
                let mut x = noise(seed, 2 * channels * shape.positions());
                let geometry = PoolGeometry::new(2 * channels, &window).unwrap();
                let (mut blocks, mut y) = (vec![0.0; shape.len()], vec![f32::NAN; result.len()]);
                let mut expected = vec![0.0; 2 * channels * result.positions()];
                to_blocked(isa, shape, &x, &mut blocks).unwrap();
                average_pool(isa, Blocked { shape, data: &blocks }, window, include, &mut y).unwrap();
                pool::average_pool(&geometry, &x, include, &mut expected, &mut Vec::new()).unwrap();
                assert_close(&planes_of(isa, result, &y), &expected, 9.0);
                if nan {
                    x[0] = f32::NAN;
                }
                to_blocked(isa, shape, &x, &mut blocks).unwrap();
                max_pool(isa, Blocked { shape, data: &blocks }, window, &mut y).unwrap();
                pool::max_pool(&geometry, &x, &mut expected, &mut Vec::new()).unwrap();
                prop_assert_eq!(planes_of(isa, result, &y), expected);
            }
        }
    }

    #[test]
    fn whole_planes() {
        for isa in Isa::all() {
            let shape = Shape::new(2, 19, 9, 13, isa.lanes()).unwrap();
            let x = noise(3, 2 * 19 * 9 * 13);
            let mut blocks = vec![0.0; shape.len()];
            to_blocked(isa, shape, &x, &mut blocks).unwrap();
            let one = Shape { height: 1, width: 1, ..shape };
            let mut y = vec![0.0; one.len()];
            global_average_pool(isa, Blocked { shape, data: &blocks }, &mut y).unwrap();
            let mean = |p: &[f32]| (p.iter().map(|x| f64::from(*x)).sum::<f64>() / p.len() as f64) as f32;
            assert_close(&planes_of(isa, one, &y), &x.chunks(117).map(mean).collect::<Vec<_>>(), 1.0);
            global_max_pool(isa, Blocked { shape, data: &blocks }, &mut y).unwrap();
            let largest = |p: &[f32]| p.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert_eq!(planes_of(isa, one, &y), x.chunks(117).map(largest).collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let isa = Isa::active();
        let shape = Shape::new(1, 3, 4, 4, isa.lanes()).unwrap();
        let x = vec![0.0; shape.len()];
        let view = Blocked { shape, data: &x };
        let axis = Axis { input: 4, kernel: 2, stride: 2, output: 2, ..Axis::UNIT };
        let mut y = vec![0.0; 4 * isa.lanes()];
        assert!(max_pool(isa, view, [axis; 2], &mut y).is_ok());
        assert!(max_pool(isa, view, [Axis { input: 5, ..axis }; 2], &mut y).is_err());
        assert!(average_pool(isa, view, [axis; 2], true, &mut y[1..]).is_err());
        assert!(global_average_pool(isa, view, &mut y).is_err());
        let empty = Blocked { shape: Shape { width: 0, ..shape }, data: &[][..] };
        assert!(global_average_pool(isa, empty, &mut y[..isa.lanes()]).is_err());
    }
}
