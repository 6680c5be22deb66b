//! Random numbers that are the same for a seed on every machine.

use rand_mt::Mt;

/// A source of numbers.
pub(crate) struct Random(Mt);

impl Random {
    /// The source that a seed stands for.
    pub(crate) fn new(seed: u32) -> Self {
        Self(Mt::new(seed))
    }

    /// A number in [0, 1).
    pub(crate) fn unit(&mut self) -> f32 {
        (self.0.next_u32() >> 8) as f32 / (1u32 << 24) as f32
    }

    /// A number in [low, high).
    pub(crate) fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    /// A number of mean 0 and variance 1 that is nearly normal: a sum of four, since functions such as the logarithm
    /// are not the same on every machine.
    pub(crate) fn normal(&mut self) -> f32 {
        let sum: f32 = (0..4).map(|_| 2.0 * self.unit() - 1.0).sum();
        // Each of the four has variance 1/3.
        sum * 0.75_f32.sqrt()
    }
}

/// Standard deviation `gain * sqrt(2 / fan_in)` of weights: behind a ReLU, activations have `gain` times the size of
/// those before (He et al. 2015, "Delving Deep into Rectifiers", equation 10).
pub(crate) fn he_deviation(fan_in: usize, gain: f32) -> f32 {
    gain * (2.0 / fan_in.max(1) as f32).sqrt()
}
