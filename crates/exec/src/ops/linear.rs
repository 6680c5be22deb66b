//! Matrix products.

use super::alloc;
use super::strided::broadcast_strides;
use crate::error::OpError;
use crate::operands::Operands;
use crate::pool::Pool;
use quantize_ir::Tensor;
use quantize_ir::op::Gemm;
use quantize_ir::shape::broadcast;
use quantize_kernels::{Matrix, MatrixMut, gemm as multiply};

/// A stack of matrices in a tensor; a vector is a matrix of one row or column.
struct Stack<'a> {
    data: &'a [f32],
    batch: &'a [usize],
    rows: usize,
    cols: usize,
}

impl<'a> Stack<'a> {
    fn left(x: &'a Tensor) -> Result<Self, OpError> {
        let data = x.as_slice()?;
        match x.shape() {
            [cols] => Ok(Self { data, batch: &[], rows: 1, cols: *cols }),
            shape => Self::of(data, shape),
        }
    }

    fn right(x: &'a Tensor) -> Result<Self, OpError> {
        let data = x.as_slice()?;
        match x.shape() {
            [rows] => Ok(Self { data, batch: &[], rows: *rows, cols: 1 }),
            shape => Self::of(data, shape),
        }
    }

    fn of(data: &'a [f32], shape: &'a [usize]) -> Result<Self, OpError> {
        match shape {
            [batch @ .., rows, cols] => Ok(Self { data, batch, rows: *rows, cols: *cols }),
            _ => Err(OpError::shape("a scalar cannot be multiplied as a matrix")),
        }
    }

    /// The matrix with `index` in the stack.
    fn matrix(&self, index: usize) -> Result<Matrix<'a>, OpError> {
        let len = self.rows * self.cols;
        Ok(Matrix::dense(self.data.get(index * len..).unwrap_or_default(), self.rows, self.cols)?)
    }
}

/// Matrix product; leading axes broadcast, a vector counts as a row on the left and as a column on the right and its
/// axis is dropped from the result.
///
/// # Errors
/// If an operand is missing or not `float32`, or the shapes do not fit each other.
pub(crate) fn matmul(operands: Operands<'_>, pool: &mut Pool) -> Result<Vec<Tensor>, OpError> {
    let (a, b) = (operands.required(0)?, operands.required(1)?);
    let (left, right) = (Stack::left(a)?, Stack::right(b)?);
    if left.cols != right.rows {
        return Err(OpError::shape(format!("cannot multiply {:?} by {:?}", a.shape(), b.shape())));
    }
    let batch = broadcast(left.batch, right.batch)?;
    let mut shape = batch.clone();
    shape.extend((a.rank() > 1).then_some(left.rows));
    shape.extend((b.rank() > 1).then_some(right.cols));
    let mut y = alloc::buffer::<f32>(&shape, pool)?;
    if right.batch.is_empty() {
        // All rows of the stack meet the same matrix: one product.
        let rows = alloc::result_len(&[batch.as_slice(), &[left.rows]].concat())?;
        let left = Stack { batch: &[], rows, ..left };
        product(&left, &right, (0, 0), &mut y)?;
    } else if !y.is_empty() {
        let pairs = pairs(&batch, left.batch, right.batch);
        for (y, pair) in y.chunks_exact_mut(left.rows * right.cols).zip(pairs) {
            product(&left, &right, pair, y)?;
        }
    }
    Ok(vec![Tensor::new(shape, y)?])
}

fn product(left: &Stack<'_>, right: &Stack<'_>, pair: (usize, usize), y: &mut [f32]) -> Result<(), OpError> {
    let (rows, cols) = (left.rows, right.cols);
    let mut y = MatrixMut::new(y, rows, cols, cols)?;
    Ok(multiply(1.0, left.matrix(pair.0)?, right.matrix(pair.1)?, &mut y, false)?)
}

/// For each matrix of the result, which matrices of the stacks are multiplied.
fn pairs(batch: &[usize], left: &[usize], right: &[usize]) -> Vec<(usize, usize)> {
    let strides = [broadcast_strides(left, batch), broadcast_strides(right, batch)];
    let mut pairs = vec![(0, 0)];
    for (i, &extent) in batch.iter().enumerate() {
        let step = |(l, r): (usize, usize), n: usize| {
            (l + n * strides[0][i].unsigned_abs(), r + n * strides[1][i].unsigned_abs())
        };
        pairs = pairs.into_iter().flat_map(|p| (0..extent).map(move |n| step(p, n))).collect();
    }
    pairs
}

/// `alpha * op(a) * op(b) + beta * c`; `c` is not looked at if `beta` is 0.
///
/// # Errors
/// If an operand is missing or not `float32`, or the shapes do not fit each other.
pub(crate) fn gemm(attrs: &Gemm, operands: Operands<'_>, pool: &mut Pool) -> Result<Vec<Tensor>, OpError> {
    let a = oriented(operands.required(0)?, attrs.trans_a)?;
    let b = oriented(operands.required(1)?, attrs.trans_b)?;
    let ((rows, _, a), (_, cols, b)) = (a, b);
    let mut y = alloc::buffer::<f32>(&[rows, cols], pool)?;
    let c = operands.optional(2).filter(|_| attrs.beta != 0.0);
    if let Some(c) = c {
        spread(c, attrs.beta, [rows, cols], &mut y)?;
    }
    multiply(attrs.alpha, a, b, &mut MatrixMut::new(&mut y, rows, cols, cols)?, c.is_some())?;
    Ok(vec![Tensor::new([rows, cols], y)?])
}

/// Rows, columns and elements of a matrix operand, transposed if asked for.
fn oriented(x: &Tensor, transposed: bool) -> Result<(usize, usize, Matrix<'_>), OpError> {
    let [rows, cols] = *x.shape() else {
        return Err(OpError::shape(format!("an operand of shape {:?} is not a matrix", x.shape())));
    };
    let matrix = Matrix::dense(x.as_slice()?, rows, cols)?;
    Ok(if transposed { (cols, rows, matrix.transposed()) } else { (rows, cols, matrix) })
}

/// Fills `y` with `beta * c`, stretched to `[rows, cols]`.
fn spread(c: &Tensor, beta: f32, size: [usize; 2], y: &mut [f32]) -> Result<(), OpError> {
    if broadcast(c.shape(), &size)? != size {
        return Err(OpError::shape(format!("an addend of shape {:?} does not stretch to {size:?}", c.shape())));
    }
    let steps: Vec<usize> = broadcast_strides(c.shape(), &size).into_iter().map(isize::unsigned_abs).collect();
    let c = c.as_slice::<f32>()?;
    for (i, row) in y.chunks_exact_mut(size[1].max(1)).enumerate() {
        row.iter_mut().enumerate().for_each(|(j, y)| *y = beta * c[i * steps[0] + j * steps[1]]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{counting, run};
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn tensor(shape: &[usize], data: &[f32]) -> Tensor {
        Tensor::new(shape, data.to_vec()).unwrap()
    }

    #[test]
    fn matrix_products_by_hand() {
        let m = counting(&[2, 2]);
        let v = counting(&[2]);
        let cases = [
            ("matrices", &m, &m, tensor(&[2, 2], &[7.0, 10.0, 15.0, 22.0])),
            ("row by matrix", &v, &m, tensor(&[2], &[7.0, 10.0])),
            ("matrix by column", &m, &v, tensor(&[2], &[5.0, 11.0])),
            ("vectors", &v, &v, tensor(&[], &[5.0])),
            ("stack by matrix", &counting(&[2, 1, 2]), &m, tensor(&[2, 1, 2], &[7.0, 10.0, 15.0, 22.0])),
            ("matrix by stack", &m, &counting(&[2, 2, 1]), tensor(&[2, 2, 1], &[5.0, 11.0, 11.0, 25.0])),
            (
                "stacks that stretch",
                &counting(&[2, 1, 1, 1]),
                &counting(&[3, 1, 1]),
                tensor(&[2, 3, 1, 1], &[1.0, 2.0, 3.0, 2.0, 4.0, 6.0]),
            ),
            ("empty sums", &counting(&[2, 0]), &counting(&[0, 1]), tensor(&[2, 1], &[0.0, 0.0])),
        ];
        for (name, a, b, expected) in cases {
            assert_eq!(run(&[a, b], matmul), Ok(expected), "{name}");
        }
        assert!(run(&[&m, &counting(&[3, 2])], matmul).is_err());
        assert!(run(&[&m, &Tensor::scalar(1f32)], matmul).is_err());
        assert!(run(&[&m, &Tensor::vector(vec![1i64, 2])], matmul).is_err());
    }

    #[test]
    fn gemm_by_hand() {
        let attrs = Gemm { alpha: 2.0, beta: 0.5, trans_a: false, trans_b: true };
        let (a, b) = (counting(&[1, 2]), counting(&[3, 2]));
        let cases = [
            ("row", tensor(&[3], &[2.0, 4.0, 6.0]), [11.0, 24.0, 37.0]),
            ("column", tensor(&[1, 1], &[2.0]), [11.0, 23.0, 35.0]),
            ("scalar", Tensor::scalar(4f32), [12.0, 24.0, 36.0]),
        ];
        for (name, c, expected) in cases {
            assert_eq!(run(&[&a, &b, &c], |o, p| gemm(&attrs, o, p)), Ok(tensor(&[1, 3], &expected)), "{name}");
        }
        let plain = Gemm { alpha: 1.0, beta: 0.0, trans_a: true, trans_b: true };
        let c = tensor(&[1], &[f32::NAN]);
        let found = run(&[&counting(&[2, 1]), &b, &c], |o, p| gemm(&plain, o, p));
        assert_eq!(found, Ok(tensor(&[1, 3], &[5.0, 11.0, 17.0])));
        assert!(run(&[&a, &b, &counting(&[2, 3])], |o, p| gemm(&attrs, o, p)).is_err());
        assert!(run(&[&a, &counting(&[2])], |o, p| gemm(&attrs, o, p)).is_err());
    }

    proptest! {
        #[test]
        fn nothing_panics(
            a in vec(0usize..4, 0..5), b in vec(0usize..4, 0..5), c in vec(0usize..4, 0..4), trans_a: bool, trans_b: bool,
        ) {
            let (a, b, c) = (counting(&a), counting(&b), counting(&c));
            let _ = run(&[&a, &b], matmul);
            let attrs = Gemm { alpha: 1.0, beta: 1.0, trans_a, trans_b };
            let _ = run(&[&a, &b, &c], |o, p| gemm(&attrs, o, p));
        }
    }
}
