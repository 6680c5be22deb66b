//! The second moments of a layer's columns, about their mean or about zero.

use super::Sample;
use faer::linalg::matmul::triangular::{BlockStructure, matmul};
use faer::{Accum, Mat, MatMut, MatRef, Par};
use quantize_parallel::{Silent, for_each};
use std::convert::Infallible;
use std::ops::Range;

/// Columns whose products are summed in single precision: so few that sums of products of 8-bit codes are exact.
const BLOCK: usize = 256;

/// Shorter columns are not worth a matrix product.
const SHORT: usize = 48;

/// Sums of one thread.
struct Sums {
    /// Lower triangle of the sums of products.
    products: Mat<f64>,
    elements: Vec<f64>,
    columns: Vec<f32>,
    block: Mat<f32>,
}

/// The second moments of the sampled columns of `channels`, counted from input channel `first`, `length` elements each:
/// about their mean (the covariance) if `centred`. Sums that are not exact are taken by one thread, so that their order
/// is always the same.
pub(super) fn moments(
    sample: &Sample<'_>,
    first: usize,
    channels: Range<usize>,
    length: usize,
    centred: bool,
    threads: usize,
) -> Mat<f64> {
    let channels = first + channels.start..first + channels.end;
    let init = || Sums {
        products: Mat::zeros(length, length),
        elements: vec![0.0; length],
        columns: vec![0.0; length * BLOCK],
        block: Mat::zeros(length, length),
    };
    let work = |sums: &mut Sums, index: usize| {
        let rows = index * BLOCK..((index + 1) * BLOCK).min(sample.places.len());
        let count = rows.len();
        sample.gather(rows, channels.clone(), length, &mut sums.columns);
        sums.add(length, count);
        Ok::<(), Infallible>(())
    };
    let threads = if sample.is_exact() { threads } else { 1 };
    let Ok(all) = for_each(sample.places.len().div_ceil(BLOCK), threads, &Silent, init, work);
    finished(all, length, sample.places.len() as f64, centred)
}

impl Sums {
    fn add(&mut self, length: usize, count: usize) {
        let columns = &self.columns[..length * count];
        for column in columns.chunks_exact(length) {
            self.elements.iter_mut().zip(column).for_each(|(sum, x)| *sum += f64::from(*x));
        }
        if length <= SHORT {
            self.block.fill(0.0);
            for column in columns.chunks_exact(length) {
                for (j, y) in column.iter().enumerate() {
                    let sums = &mut self.block.col_as_slice_mut(j)[j..];
                    sums.iter_mut().zip(&column[j..]).for_each(|(sum, x)| *sum += x * y);
                }
            }
            return self.take_block(length);
        }
        let matrix = MatRef::from_column_major_slice(columns, length, count);
        let lower = BlockStructure::TriangularLower;
        let full = BlockStructure::Rectangular;
        let block: MatMut<'_, f32> = self.block.as_mut();
        matmul(block, lower, Accum::Replace, matrix, full, matrix.transpose(), full, 1.0, Par::Seq);
        self.take_block(length);
    }

    /// Adds the sums of a block to those of all.
    fn take_block(&mut self, length: usize) {
        for j in 0..length {
            let sums = &mut self.products.col_as_slice_mut(j)[j..];
            sums.iter_mut().zip(&self.block.col_as_slice(j)[j..]).for_each(|(sum, x)| *sum += f64::from(*x));
        }
    }
}

fn finished(all: Vec<Sums>, length: usize, count: f64, centred: bool) -> Mat<f64> {
    let (mut products, mut elements) = (Mat::<f64>::zeros(length, length), vec![0.0; length]);
    for sums in all {
        products += sums.products;
        elements.iter_mut().zip(sums.elements).for_each(|(sum, x)| *sum += x);
    }
    let count = count.max(1.0);
    if !centred {
        elements.fill(0.0);
    }
    Mat::from_fn(length, length, |i, j| {
        let (low, high) = (i.max(j), i.min(j));
        products[(low, high)] / count - (elements[i] / count) * (elements[j] / count)
    })
}

impl Sample<'_> {
    /// Writes the columns of these numbers, one after the other.
    fn gather(&self, rows: Range<usize>, channels: Range<usize>, length: usize, columns: &mut [f32]) {
        for (index, column) in rows.zip(columns.chunks_exact_mut(length)) {
            self.places.gather(&self.inputs, index, channels.clone(), column);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::columns::{Geometry, Places};
    use crate::live::Held;
    use quantize_ir::{Op, Tensor};

    fn sums_of(inputs: usize, rows: usize, centred: bool) -> (Mat<f64>, Vec<Vec<f64>>) {
        let values: Vec<f32> = (0..rows * inputs).map(|i| (i * 7919 % 251) as f32 - 100.0).collect();
        let geometry = Geometry::of(&Op::MatMul, &[inputs, 1]).unwrap();
        let held = Held::Reals(Tensor::new([rows, inputs], values.clone()).unwrap());
        let reader = geometry.reader(&[rows, inputs]).unwrap();
        let mut places = Places::default();
        (0..rows).for_each(|row| places.add(0, &reader, row));
        let sample = Sample { inputs: vec![(&held, reader.channel)], places };
        let columns = values.chunks(inputs).map(|row| row.iter().map(|x| f64::from(*x)).collect()).collect();
        (moments(&sample, 0, 0..inputs, inputs, centred, 2), columns)
    }

    #[test]
    fn they_are_those_of_the_definition_for_any_length() {
        for (inputs, centred) in [(1, true), (5, true), (60, true), (1, false), (5, false), (60, false)] {
            let (found, columns) = sums_of(inputs, 700, centred);
            let n = columns.len() as f64;
            let mean = |i: usize| if centred { columns.iter().map(|c| c[i]).sum::<f64>() / n } else { 0.0 };
            for (i, j) in [(0, 0), (inputs - 1, 0), (0, inputs - 1), (inputs / 2, inputs / 3)] {
                let expected = columns.iter().map(|c| (c[i] - mean(i)) * (c[j] - mean(j))).sum::<f64>() / n;
                assert!((found[(i, j)] - expected).abs() < 1e-6 * (1.0 + expected.abs()), "{inputs}: {i} {j}");
            }
        }
    }
}
