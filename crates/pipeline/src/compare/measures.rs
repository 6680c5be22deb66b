//! What is measured of two tensors, and its summary over images.

use crate::accuracy::{EXACT_DB, Votes};
use quantize_ir::Tensor;
use quantize_numerics::measure::{cosine, max_abs_error, sqnr_db};
use std::collections::BTreeMap;

/// How far a tensor is from its reference, over all images.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    /// Mean over the images of 10·log10(signal / noise), in dB, where no difference at all counts 150.
    pub sqnr_db: f64,
    /// Mean over the images of the cosine of the angle between the two.
    pub cosine: f64,
    /// Largest difference of two elements in any image.
    pub max_abs: f64,
}

impl Difference {
    /// Whether no element differs.
    pub fn is_exact(&self) -> bool {
        self.max_abs == 0.0
    }
}

/// Measures of one pair in one run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Measured {
    sqnr_db: f64,
    cosine: f64,
    max_abs: f64,
    /// Samples whose largest score is the same; `None` if the tensors are no vectors of scores.
    agreeing: Option<usize>,
}

impl Measured {
    /// `None` if the tensors are not real or their shapes differ.
    pub(super) fn of(expected: &Tensor, found: &Tensor, votes: Votes) -> Option<Self> {
        let (e, f) = (expected.as_slice::<f32>().ok()?, found.as_slice::<f32>().ok()?);
        if expected.shape() != found.shape() {
            return None;
        }
        Some(Self {
            sqnr_db: sqnr_db(e, f).ok()?.clamp(-EXACT_DB, EXACT_DB),
            cosine: cosine(e, f).ok()?,
            max_abs: max_abs_error(e, f).ok()?,
            agreeing: votes.agreeing(expected, found),
        })
    }
}

/// Sums over images, which are added in their order whatever order they come in.
#[derive(Debug)]
pub(super) struct Totals {
    sums: Vec<Sum>,
    /// Images that wait for an earlier one.
    waiting: BTreeMap<usize, Vec<Option<Measured>>>,
    next: usize,
}

/// The sums of one pair.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    images: usize,
    sqnr_db: f64,
    cosine: f64,
    max_abs: f64,
    votes: usize,
    agreeing: usize,
}

impl Totals {
    /// No images of `pairs` pairs.
    pub(super) fn of(pairs: usize) -> Self {
        Self { sums: vec![Sum::default(); pairs], waiting: BTreeMap::new(), next: 0 }
    }

    /// Adds the image number `index`, counted from 0, each exactly once.
    pub(super) fn add(&mut self, index: usize, measured: Vec<Option<Measured>>) {
        self.waiting.insert(index, measured);
        while let Some(measured) = self.waiting.remove(&self.next) {
            for (sum, measured) in self.sums.iter_mut().zip(measured) {
                measured.into_iter().for_each(|measured| sum.add(&measured));
            }
            self.next += 1;
        }
    }

    /// The measures of a pair; `None` if it could not be compared on every image.
    pub(super) fn difference(&self, pair: usize) -> Option<Difference> {
        let sum = self.sums.get(pair).filter(|sum| sum.images == self.next && sum.images > 0)?;
        let n = sum.images as f64;
        Some(Difference { sqnr_db: sum.sqnr_db / n, cosine: sum.cosine / n, max_abs: sum.max_abs })
    }

    /// Images on which the largest score of a pair is the same, if it is one of scores on every image.
    pub(super) fn agreeing(&self, pair: usize) -> Option<usize> {
        self.sums.get(pair).filter(|sum| sum.votes == self.next).map(|sum| sum.agreeing)
    }
}

impl Sum {
    fn add(&mut self, measured: &Measured) {
        self.images += 1;
        self.sqnr_db += measured.sqnr_db;
        self.cosine += measured.cosine;
        if measured.max_abs > self.max_abs || measured.max_abs.is_nan() {
            self.max_abs = measured.max_abs;
        }
        self.votes += usize::from(measured.agreeing.is_some());
        self.agreeing += measured.agreeing.unwrap_or(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Measures of two vectors of scores of one sample.
    fn measured(expected: &[f32], found: &[f32]) -> Option<Measured> {
        let scores = |values: &[f32]| Tensor::new([1, values.len()], values.to_vec()).unwrap();
        Measured::of(&scores(expected), &scores(found), Votes { samples: 1, batch: 1 })
    }

    #[test]
    fn images_are_added_in_their_order() {
        let measured: Vec<Measured> =
            (0..50).map(|i| measured(&[1.0, 0.3], &[1.0 + 0.1 * (i as f32).sin(), 0.3]).unwrap()).collect();
        let total = |order: &mut dyn Iterator<Item = usize>| {
            let mut totals = Totals::of(1);
            order.for_each(|index| totals.add(index, vec![Some(measured[index])]));
            (totals.difference(0).unwrap(), totals.agreeing(0))
        };
        let ascending = total(&mut (0..50));
        assert_eq!(total(&mut (0..50).rev()), ascending);
        assert_eq!(total(&mut (0..50).map(|i| i * 7 % 50)), ascending);
        assert_eq!(ascending.1, Some(50));
    }

    #[test]
    fn equal_tensors_are_exact_and_other_shapes_are_not_measured() {
        let equal = measured(&[3.0, 4.0], &[3.0, 4.0]).unwrap();
        assert_eq!((equal.sqnr_db, equal.cosine, equal.max_abs, equal.agreeing), (EXACT_DB, 1.0, 0.0, Some(1)));
        assert_eq!(measured(&[1.0, 2.0], &[1.0, 2.0, 3.0]), None);
        let mut totals = Totals::of(1);
        totals.add(0, vec![Some(equal)]);
        assert!(totals.difference(0).unwrap().is_exact());
        totals.add(1, vec![None]);
        assert_eq!(totals.difference(0), None, "it was not measured on every image");
    }

    #[test]
    fn not_a_number_is_passed_on() {
        let mut totals = Totals::of(1);
        for (index, value) in [f32::NAN, 1.0].into_iter().enumerate() {
            totals.add(index, vec![measured(&[1.0, 2.0], &[value, 2.0])]);
        }
        let difference = totals.difference(0).unwrap();
        assert!(difference.max_abs.is_nan() && difference.sqnr_db.is_nan() && difference.cosine.is_nan());
    }
}
