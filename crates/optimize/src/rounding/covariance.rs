//! The covariance of a layer's columns.

use super::Sample;
use crate::columns::Gatherer;
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

/// The covariance of the sampled columns of `channels`, counted from input channel `first`; `length` elements each.
/// Sums that are not `exact` are taken by one thread, so that their order is always the same.
pub(super) fn covariance(
    sample: &Sample<'_>,
    first: usize,
    channels: Range<usize>,
    length: usize,
    exact: bool,
    threads: usize,
) -> Mat<f64> {
    let channels = first + channels.start..first + channels.end;
    let init = || Sums {
        products: Mat::zeros(length, length),
        elements: vec![0.0; length],
        columns: vec![0.0; length * BLOCK],
        block: if length > SHORT { Mat::zeros(length, length) } else { Mat::new() },
    };
    let work = |sums: &mut Sums, index: usize| {
        let rows = index * BLOCK..((index + 1) * BLOCK).min(sample.count);
        let count = rows.len();
        sample.gather(rows, channels.clone(), length, &mut sums.columns);
        sums.add(length, count);
        Ok::<(), Infallible>(())
    };
    let Ok(all) = for_each(sample.count.div_ceil(BLOCK), if exact { threads } else { 1 }, &Silent, init, work);
    finished(all, length, sample.count as f64)
}

impl Sums {
    fn add(&mut self, length: usize, count: usize) {
        let columns = &self.columns[..length * count];
        for column in columns.chunks_exact(length) {
            self.elements.iter_mut().zip(column).for_each(|(sum, x)| *sum += f64::from(*x));
        }
        if length <= SHORT {
            for column in columns.chunks_exact(length) {
                for (j, y) in column.iter().enumerate() {
                    let sums = &mut self.products.col_as_slice_mut(j)[j..];
                    sums.iter_mut().zip(&column[j..]).for_each(|(sum, x)| *sum += f64::from(*x) * f64::from(*y));
                }
            }
            return;
        }
        let matrix = MatRef::from_column_major_slice(columns, length, count);
        let lower = BlockStructure::TriangularLower;
        let full = BlockStructure::Rectangular;
        let block: MatMut<'_, f32> = self.block.as_mut();
        matmul(block, lower, Accum::Replace, matrix, full, matrix.transpose(), full, 1.0, Par::Seq);
        for j in 0..length {
            let sums = &mut self.products.col_as_slice_mut(j)[j..];
            sums.iter_mut().zip(&self.block.col_as_slice(j)[j..]).for_each(|(sum, x)| *sum += f64::from(*x));
        }
    }
}

fn finished(all: Vec<Sums>, length: usize, count: f64) -> Mat<f64> {
    let (mut products, mut elements) = (Mat::<f64>::zeros(length, length), vec![0.0; length]);
    for sums in all {
        products += sums.products;
        elements.iter_mut().zip(sums.elements).for_each(|(sum, x)| *sum += x);
    }
    let count = count.max(1.0);
    Mat::from_fn(length, length, |i, j| {
        let (low, high) = (i.max(j), i.min(j));
        products[(low, high)] / count - (elements[i] / count) * (elements[j] / count)
    })
}

impl Sample<'_> {
    /// Writes the sampled columns of these numbers, one after the other.
    fn gather(&self, rows: Range<usize>, channels: Range<usize>, length: usize, columns: &mut [f32]) {
        let mut gatherer: Option<(usize, Gatherer<'_>)> = None;
        for (index, column) in rows.zip(columns.chunks_exact_mut(length)) {
            let row = self.first + index * self.step;
            let source = self.sources.partition_point(|(_, _, before)| *before <= row).saturating_sub(1);
            let (reader, held, before) = &self.sources[source];
            let (_, gatherer) = match &mut gatherer {
                Some(current) if current.0 == source => current,
                other => other.insert((source, Gatherer::new(reader, held))),
            };
            gatherer.gather(row - before, channels.clone(), column);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::columns::Geometry;
    use crate::live::Held;
    use quantize_ir::{Op, Tensor};

    fn sums_of(inputs: usize, rows: usize, threads: usize) -> (Mat<f64>, Vec<Vec<f64>>) {
        let values: Vec<f32> = (0..rows * inputs).map(|i| (i * 7919 % 251) as f32 - 100.0).collect();
        let geometry = Geometry::of(&Op::MatMul, &[inputs, 1]).unwrap();
        let held = Held::Reals(Tensor::new([rows, inputs], values.clone()).unwrap());
        let reader = geometry.reader(&[rows, inputs]).unwrap();
        let sample = Sample { sources: vec![(reader, &held, 0)], first: 0, step: 1, count: rows };
        let columns = values.chunks(inputs).map(|row| row.iter().map(|x| f64::from(*x)).collect()).collect();
        (covariance(&sample, 0, 0..inputs, inputs, true, threads), columns)
    }

    #[test]
    fn it_is_that_of_the_definition_for_any_length_and_number_of_threads() {
        for inputs in [1, 5, 60] {
            let (found, columns) = sums_of(inputs, 700, 1);
            assert_eq!(sums_of(inputs, 700, 3).0, found);
            let n = columns.len() as f64;
            let mean = |i: usize| columns.iter().map(|c| c[i]).sum::<f64>() / n;
            for (i, j) in [(0, 0), (inputs - 1, 0), (0, inputs - 1), (inputs / 2, inputs / 3)] {
                let expected = columns.iter().map(|c| (c[i] - mean(i)) * (c[j] - mean(j))).sum::<f64>() / n;
                assert!((found[(i, j)] - expected).abs() < 1e-6 * (1.0 + expected.abs()), "{inputs}: {i} {j}");
            }
        }
    }
}
