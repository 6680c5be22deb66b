//! Matrix product of strided views.

use crate::error::KernelError;
use std::ops::Range;

/// A read-only matrix in a slice.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a> Matrix<'a> {
    /// A row-major matrix whose rows start `row_stride` elements apart.
    ///
    /// # Errors
    /// If the slice is too short.
    pub fn new(data: &'a [f32], rows: usize, cols: usize, row_stride: usize) -> Result<Self, KernelError> {
        check_extent(data.len(), rows, cols, row_stride)?;
        Ok(Self { data, rows, cols, row_stride, col_stride: 1 })
    }

    /// A row-major matrix without gaps.
    ///
    /// # Errors
    /// If the slice is too short.
    pub fn dense(data: &'a [f32], rows: usize, cols: usize) -> Result<Self, KernelError> {
        Self::new(data, rows, cols, cols)
    }

    /// The same elements with rows and columns exchanged.
    pub fn transposed(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            data: self.data,
        }
    }

    /// A range of the columns; what of it lies outside is left out.
    pub(crate) fn columns(self, range: Range<usize>) -> Self {
        let end = range.end.min(self.cols);
        let start = range.start.min(end);
        Self { data: self.data.get(start * self.col_stride..).unwrap_or_default(), cols: end - start, ..self }
    }
}

/// A row-major matrix to write to, whose rows do not overlap.
#[derive(Debug)]
pub struct MatrixMut<'a> {
    data: &'a mut [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
}

impl<'a> MatrixMut<'a> {
    /// A row-major matrix whose rows start `row_stride` elements apart.
    ///
    /// # Errors
    /// If the slice is too short, or rows would overlap.
    pub fn new(data: &'a mut [f32], rows: usize, cols: usize, row_stride: usize) -> Result<Self, KernelError> {
        check_extent(data.len(), rows, cols, row_stride)?;
        if rows > 1 && row_stride < cols {
            return Err(KernelError::Length { what: "row", expected: cols, found: row_stride });
        }
        Ok(Self { data, rows, cols, row_stride })
    }

    fn fill(&mut self, value: f32) {
        if self.cols == 0 {
            return;
        }
        for row in self.data.chunks_mut(self.row_stride.max(self.cols)).take(self.rows) {
            row[..self.cols].fill(value);
        }
    }
}

fn check_extent(len: usize, rows: usize, cols: usize, row_stride: usize) -> Result<(), KernelError> {
    if rows == 0 || cols == 0 {
        return Ok(());
    }
    let needed = (rows - 1).checked_mul(row_stride).and_then(|n| n.checked_add(cols));
    match needed.ok_or(KernelError::TooLarge("matrix"))? {
        needed if needed <= len => Ok(()),
        expected => Err(KernelError::Length { what: "matrix", expected, found: len }),
    }
}

/// `c = alpha * a * b`, or `c += alpha * a * b` to accumulate. An empty sum is 0.
///
/// # Errors
/// If the sizes do not fit each other.
pub fn gemm(
    alpha: f32,
    a: Matrix<'_>,
    b: Matrix<'_>,
    c: &mut MatrixMut<'_>,
    accumulate: bool,
) -> Result<(), KernelError> {
    if a.rows != c.rows || b.cols != c.cols || a.cols != b.rows {
        return Err(KernelError::Product { a: (a.rows, a.cols), b: (b.rows, b.cols), c: (c.rows, c.cols) });
    }
    if a.cols == 0 {
        if !accumulate {
            c.fill(0.0);
        }
    } else if c.rows > 0 && c.cols > 0 {
        multiply(alpha, a, b, c, accumulate);
    }
    Ok(())
}

/// The product of nonempty matrices whose sizes agree.
#[allow(unsafe_code)]
fn multiply(alpha: f32, a: Matrix<'_>, b: Matrix<'_>, c: &mut MatrixMut<'_>, accumulate: bool) {
    // SAFETY: the constructors checked that every element of a `rows` by `cols` view lies in its slice, and that rows
    // of `c` do not overlap; transposing keeps the set of elements. The caller checked that a is m by k, b is k by n
    // and c is m by n. `c` is borrowed mutably, so it does not alias the operands. Strides of a nonempty view with
    // more than one row lie within a slice, hence fit `isize`; for a single row the stride is never multiplied by
    // anything but zero, so its wrapped value does not matter.
    unsafe {
        gemm::gemm(
            c.rows,
            c.cols,
            a.cols,
            c.data.as_mut_ptr(),
            1,
            c.row_stride as isize,
            accumulate,
            a.data.as_ptr(),
            a.col_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.col_stride as isize,
            b.row_stride as isize,
            1.0,
            alpha,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, noise};
    use proptest::prelude::*;

    #[test]
    fn views_stay_inside_their_slice() {
        let data = [0.0; 7];
        assert!(Matrix::new(&data, 2, 3, 4).is_ok());
        assert!(Matrix::new(&data, 2, 4, 4).is_err());
        assert!(Matrix::new(&data, usize::MAX, 2, 4).is_err());
        let mut data = [0.0; 7];
        assert!(MatrixMut::new(&mut data, 2, 4, 3).is_err());
    }

    #[test]
    fn sizes_must_agree() {
        let data = [0.0; 6];
        let a = Matrix::dense(&data, 2, 3).unwrap();
        let mut out = [0.0; 4];
        let mut c = MatrixMut::new(&mut out, 2, 2, 2).unwrap();
        assert!(gemm(1.0, a, a, &mut c, false).is_err());
        assert!(gemm(1.0, a, a.transposed(), &mut c, false).is_ok());
    }

    #[test]
    fn an_empty_sum_is_zero() {
        let mut out = [7.0; 5];
        let mut c = MatrixMut::new(&mut out, 2, 2, 3).unwrap();
        let (a, b) = (Matrix::dense(&[], 2, 0).unwrap(), Matrix::dense(&[], 0, 2).unwrap());
        gemm(1.0, a, b, &mut c, false).unwrap();
        assert_eq!(out, [0.0, 0.0, 7.0, 0.0, 0.0]);
    }

    proptest! {
        #[test]
        fn products_match_the_definition(
            (m, n, k) in (1usize..20, 1usize..20, 1usize..40), gap in 0usize..3,
            trans_a: bool, trans_b: bool, accumulate: bool, seed: u64,
        ) {
            let (ar, ac) = if trans_a { (k, m) } else { (m, k) };
            let (br, bc) = if trans_b { (n, k) } else { (k, n) };
            let (a, b) = (noise(seed, ar * (ac + gap)), noise(seed + 1, br * (bc + gap)));
            let mut c = noise(seed + 2, m * (n + gap));
            let at = |i: usize, p: usize| if trans_a { a[p * (ac + gap) + i] } else { a[i * (ac + gap) + p] };
            let bt = |p: usize, j: usize| if trans_b { b[j * (bc + gap) + p] } else { b[p * (bc + gap) + j] };
            let mut expected = c.clone();
            for i in 0..m {
                for j in 0..n {
                    let sum: f64 = (0..k).map(|p| f64::from(at(i, p)) * f64::from(bt(p, j))).sum();
                    let start = if accumulate { f64::from(c[i * (n + gap) + j]) } else { 0.0 };
                    expected[i * (n + gap) + j] = (start + 0.5 * sum) as f32;
                }
            }
            let a = Matrix::new(&a, ar, ac, ac + gap).unwrap();
            let b = Matrix::new(&b, br, bc, bc + gap).unwrap();
            let a = if trans_a { a.transposed() } else { a };
            let b = if trans_b { b.transposed() } else { b };
            gemm(0.5, a, b, &mut MatrixMut::new(&mut c, m, n, n + gap).unwrap(), accumulate).unwrap();
            assert_close(&c, &expected, k as f32);
        }
    }
}
