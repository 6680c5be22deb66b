//! Random weights that keep the size of activations, the same for a seed on every machine.

use super::net::Blob;
use rand_mt::Mt;

/// A source of weights.
pub(crate) struct Weights(Mt);

impl Weights {
    pub(crate) fn new(seed: u32) -> Self {
        Self(Mt::new(seed))
    }

    /// A number in [0, 1).
    fn unit(&mut self) -> f32 {
        (self.0.next_u32() >> 8) as f32 / (1u32 << 24) as f32
    }

    /// A number of mean 0 and variance 1 that is nearly normal: a sum of four, since functions such as the logarithm
    /// are not the same on every machine.
    fn normal(&mut self) -> f32 {
        let sum: f32 = (0..4).map(|_| 2.0 * self.unit() - 1.0).sum();
        // Each of the four has variance 1/3.
        sum * 0.75_f32.sqrt()
    }

    /// Weights `[output, input, …]` of standard deviation `gain * sqrt(2 / fan_in)`: behind a ReLU, activations have
    /// `gain` times the size of those before (He et al. 2015, "Delving Deep into Rectifiers", equation 10).
    pub(crate) fn he(&mut self, shape: &[usize], gain: f32) -> Blob {
        let fan_in: usize = shape.iter().skip(1).product();
        let deviation = gain * (2.0 / fan_in.max(1) as f32).sqrt();
        let data = (0..shape.iter().product()).map(|_| deviation * self.normal()).collect();
        Blob { shape: shape.to_vec(), data }
    }

    /// Numbers from `low` to `high`.
    pub(crate) fn uniform(&mut self, count: usize, low: f32, high: f32) -> Blob {
        Blob::vector((0..count).map(|_| low + (high - low) * self.unit()).collect())
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
