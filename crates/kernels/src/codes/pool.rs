//! Pooling of codes: maximum and mean over windows and over whole planes. What counts as a window's element is as for
//! pooling of real numbers.

use super::addition::Grid;
use super::requantize::{CodeRange, FloatVector};
use crate::blocked::{Blocked, Reach, check_pixels, check_windows, reaches};
use crate::buffer::Buffer;
use crate::error::KernelError;
use crate::geometry::Axis;
use crate::pool::window_counts;
use crate::simd::{Isa, Kernel, Simd};

/// Largest code over windows; its grid stays that of `x`. Padding never wins; a window of nothing else is code 0.
///
/// # Errors
/// If the windows do not fit `x`, `x` is not in blocks of a vector's lanes, or `y` has another length.
pub fn max_pool(isa: Isa, x: Blocked<'_, u8>, window: [Axis; 2], y: &mut [u8]) -> Result<(), KernelError> {
    check_windows(isa, &x, &window, y.len())?;
    let mut folded = Buffer::new(window[1].input * x.shape.lanes);
    let (rows, columns) = (reaches(&window[0]), reaches(&window[1]));
    isa.run_float(Maximum { x, window, rows, columns, folded: &mut folded, y });
    Ok(())
}

/// A mean of codes: `y = round(sum of (x - zx) * (sx / (sy * count))) + zy`, half to even, saturated.
///
/// The sum is exact; the rest is in `f32`, in this order, which is that of ONNX Runtime's `QLinearGlobalAveragePool` on
/// x86-64.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mean {
    /// What the codes of `x` stand for.
    pub x: Grid,
    /// Distance of neighbouring codes of `y`.
    pub y_scale: f32,
    /// Codes of `y`.
    pub range: CodeRange,
}

impl Mean {
    /// What the sum of `count` codes is multiplied by.
    fn multiplier(&self, count: f32) -> f32 {
        self.x.scale / (self.y_scale * count)
    }

    /// Checks the ratio of scales, and that the sum of `terms` codes fits 32 bits.
    fn check(&self, terms: Option<usize>) -> Result<(), KernelError> {
        if !(0.0..2f32.powi(31)).contains(&self.multiplier(1.0)) {
            return Err(KernelError::Multiplier { channel: 0 });
        }
        let fits = terms.is_some_and(|n| n <= i32::MAX as usize / 255);
        if fits { Ok(()) } else { Err(KernelError::TooLarge("window")) }
    }
}

/// Mean over windows. Padding is real 0, and counts or not; what a last partial window reaches beyond the padding never
/// counts, and a window of nothing is real 0.
///
/// # Errors
/// If the windows do not fit `x`, `x` is not in blocks of a vector's lanes, `y` has another length, sums may overflow
/// 32 bits, or the ratio of the scales is negative, NaN, or not below 2³¹.
pub fn average_pool(
    isa: Isa,
    x: Blocked<'_, u8>,
    window: [Axis; 2],
    count_include_pad: bool,
    mean: &Mean,
    y: &mut [u8],
) -> Result<(), KernelError> {
    check_windows(isa, &x, &window, y.len())?;
    let [vertical, horizontal] = window.map(|axis| axis.kernel.min(axis.input));
    mean.check(vertical.checked_mul(horizontal))?;
    if y.is_empty() {
        return Ok(());
    }
    let mut multipliers = window_counts(&window, count_include_pad);
    multipliers.iter_mut().for_each(|count| *count = mean.multiplier(count.max(1.0)));
    let mut folded = Buffer::new(window[1].input * x.shape.lanes);
    let (rows, columns) = (reaches(&window[0]), reaches(&window[1]));
    isa.run_float(Means { x, window, rows, columns, mean, multipliers, folded: &mut folded, y });
    Ok(())
}

/// Mean over all pixels of each channel; `y` is `[batch][blocks][lanes]`.
///
/// # Errors
/// As [`average_pool`], or if `x` has no pixels.
pub fn global_average_pool(isa: Isa, x: Blocked<'_, u8>, mean: &Mean, y: &mut [u8]) -> Result<(), KernelError> {
    check_pixels(isa, &x, y.len())?;
    mean.check(Some(x.shape.positions()))?;
    isa.run_float(PlaneMeans { x, mean, y });
    Ok(())
}

/// Largest code over all pixels of each channel; `y` is `[batch][blocks][lanes]`.
///
/// # Errors
/// If `x` has no pixels or is not in blocks of a vector's lanes, or `y` has another length.
pub fn global_max_pool(isa: Isa, x: Blocked<'_, u8>, y: &mut [u8]) -> Result<(), KernelError> {
    check_pixels(isa, &x, y.len())?;
    let whole = |input| Axis { input, kernel: input, ..Axis::UNIT };
    max_pool(isa, x, [whole(x.shape.height), whole(x.shape.width)], y)
}

/// Windows are folded along the vertical axis first.
struct Maximum<'a> {
    x: Blocked<'a, u8>,
    window: [Axis; 2],
    rows: Vec<Reach>,
    columns: Vec<Reach>,
    /// One row of the input, folded over the rows of a window.
    folded: &'a mut [u8],
    y: &'a mut [u8],
}

impl Kernel for Maximum<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { x, window: [v, h], rows, columns, folded, y } = self;
        let row_len = h.output * S::LANES;
        if y.is_empty() {
            return;
        }
        for (plane, y) in y.chunks_exact_mut(rows.len() * row_len).enumerate() {
            let x = &x.data[plane * x.shape.plane()..][..x.shape.plane()];
            for (y, reach) in y.chunks_exact_mut(row_len).zip(&rows) {
                folded.fill(0);
                for i in 0..reach.count {
                    larger(folded, &x[(reach.first + i * v.dilation) * folded.len()..]);
                }
                if h.stride == 1 {
                    larger_neighbours(&h, folded, y);
                } else {
                    larger_pixels(s, &h, &columns, folded, y);
                }
            }
        }
    }
}

/// Replaces codes that are smaller than others.
#[inline(always)]
fn larger(codes: &mut [u8], others: &[u8]) {
    for (code, other) in codes.iter_mut().zip(others) {
        *code = (*code).max(*other);
    }
}

/// Maxima of a folded row where windows are neighbours: each tap meets a run of them at once.
#[inline(always)]
fn larger_neighbours(h: &Axis, folded: &[u8], y: &mut [u8]) {
    let lanes = y.len() / h.output;
    y.fill(0);
    for tap in 0..h.kernel {
        let inside = h.inside(tap);
        if !inside.is_empty() {
            larger(&mut y[inside.start * lanes..inside.end * lanes], &folded[h.first_inside(tap) * lanes..]);
        }
    }
}

/// Maxima of a folded row, one window after the other.
#[inline(always)]
#[allow(unsafe_code)]
fn larger_pixels<S: Simd>(s: S, h: &Axis, columns: &[Reach], folded: &[u8], y: &mut [u8]) {
    for (y, columns) in y.chunks_exact_mut(S::LANES).zip(columns) {
        let mut result = s.splat_i32(0);
        let mut at = columns.first * S::LANES;
        for _ in 0..columns.count {
            // SAFETY: the column is one of the input's, of which `folded` is a row.
            result = s.max_i32(result, unsafe { s.load_u8(folded.as_ptr().add(at)) });
            at += h.dilation * S::LANES;
        }
        // SAFETY: the chunk has `LANES` elements.
        unsafe { s.store_low_bytes(y.as_mut_ptr(), result) };
    }
}

/// Windows are folded along the vertical axis first.
struct Means<'a> {
    x: Blocked<'a, u8>,
    window: [Axis; 2],
    rows: Vec<Reach>,
    columns: Vec<Reach>,
    mean: &'a Mean,
    /// Of each window of a plane.
    multipliers: Vec<f32>,
    /// One row of the input, summed up over the rows of a window.
    folded: &'a mut [i32],
    y: &'a mut [u8],
}

impl Kernel for Means<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let row_len = self.columns.len() * S::LANES;
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

impl Means<'_> {
    #[inline(always)]
    #[allow(unsafe_code)]
    fn fold_rows<S: Simd>(&mut self, s: S, x: &[u8], rows: Reach) {
        let row_len = self.folded.len();
        for (column, to) in self.folded.chunks_exact_mut(S::LANES).enumerate() {
            let mut sum = s.splat_i32(0);
            let mut at = rows.first * row_len + column * S::LANES;
            for _ in 0..rows.count {
                // SAFETY: the row is one of the plane's, whose length was checked.
                sum = s.add_i32(sum, unsafe { s.load_u8(x.as_ptr().add(at)) });
                at += self.window[0].dilation * row_len;
            }
            // SAFETY: the chunk has `LANES` elements.
            unsafe { s.store_i32(to.as_mut_ptr(), sum) };
        }
    }

    #[inline(always)]
    #[allow(unsafe_code)]
    fn fold_columns<S: Simd>(&self, s: S, row: usize, y: &mut [u8]) {
        let range = self.mean.range.vector(s);
        for (column, y) in y.chunks_exact_mut(S::LANES).enumerate() {
            let columns = self.columns[column];
            let read = self.rows[row].count * columns.count;
            let mut sum = s.splat_i32(-(i32::from(self.mean.x.zero_point) * read as i32));
            let mut at = columns.first * S::LANES;
            for _ in 0..columns.count {
                // SAFETY: the column is one of the input's, of which `folded` is a row.
                sum = s.add_i32(sum, unsafe { s.load_i32(self.folded.as_ptr().add(at)) });
                at += self.window[1].dilation * S::LANES;
            }
            let multiplier = s.splat(self.multipliers[row * self.columns.len() + column]);
            // SAFETY: the chunk has `LANES` elements.
            unsafe { s.store_low_bytes(y.as_mut_ptr(), FloatVector { multiplier, range }.codes(s, sum)) };
        }
    }
}

struct PlaneMeans<'a> {
    x: Blocked<'a, u8>,
    mean: &'a Mean,
    y: &'a mut [u8],
}

impl Kernel for PlaneMeans<'_> {
    type Output = ();

    #[inline(always)]
    #[allow(unsafe_code)]
    fn run<S: Simd>(self, s: S) {
        let positions = self.x.shape.positions();
        let start = s.splat_i32(-(i32::from(self.mean.x.zero_point) * positions as i32));
        let multiplier = s.splat(self.mean.multiplier(positions as f32));
        let requantize = FloatVector { multiplier, range: self.mean.range.vector(s) };
        let planes = self.x.data.chunks_exact(self.x.shape.plane());
        for (y, x) in self.y.chunks_exact_mut(S::LANES).zip(planes) {
            let mut sum = start;
            for pixel in x.chunks_exact(S::LANES) {
                // SAFETY: the chunk has `LANES` elements.
                sum = s.add_i32(sum, unsafe { s.load_u8(pixel.as_ptr()) });
            }
            // SAFETY: the chunk has `LANES` elements.
            unsafe { s.store_low_bytes(y.as_mut_ptr(), requantize.codes(s, sum)) };
        }
    }
}

#[cfg(test)]
mod tests;
