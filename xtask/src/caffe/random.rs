//! Random weights that keep the size of activations, the same for a seed on every machine.

use super::net::Blob;
use crate::random::{Random, he_deviation};

/// A source of weights.
pub(crate) struct Weights(Random);

impl Weights {
    pub(crate) fn new(seed: u32) -> Self {
        Self(Random::new(seed))
    }

    /// Weights `[output, input, …]` with the deviation of [`he_deviation`].
    pub(crate) fn he(&mut self, shape: &[usize], gain: f32) -> Blob {
        let deviation = he_deviation(shape.iter().skip(1).product(), gain);
        let data = (0..shape.iter().product()).map(|_| deviation * self.0.normal()).collect();
        Blob { shape: shape.to_vec(), data }
    }

    /// Numbers from `low` to `high`.
    pub(crate) fn uniform(&mut self, count: usize, low: f32, high: f32) -> Blob {
        Blob::vector((0..count).map(|_| self.0.between(low, high)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_have_the_spread_of_their_fan_in() {
        let blob = Weights::new(7).he(&[64, 32, 3, 3], 0.5);
        let squares: f64 = blob.data.iter().map(|w| f64::from(*w).powi(2)).sum();
        let expected = 0.25 * 2.0 / (32.0 * 9.0);
        let found = squares / blob.data.len() as f64;
        assert!((found / expected - 1.0).abs() < 0.05, "{found}, not {expected}");
        let mean = blob.data.iter().sum::<f32>() / blob.data.len() as f32;
        assert!(mean.abs() < 1e-3, "{mean}");
    }

    #[test]
    fn the_numbers_of_a_seed_are_known() {
        let mut weights = Weights::new(1);
        assert_eq!(weights.uniform(2, 0.0, 1.0).data, [0.417022, 0.99718475]);
        assert_eq!(weights.he(&[1, 2], 1.0).data, [-0.37911034, -0.54695076]);
    }

    #[test]
    fn a_seed_decides_every_number() {
        let draw = |seed| Weights::new(seed).uniform(50, -2.0, 3.0).data;
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        assert!(draw(1).iter().all(|number| (-2.0..3.0).contains(number)));
    }
}
