//! Normalizations and softmax.

/// `(x - mean) / sqrt(variance + epsilon) * scale + bias` for each channel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchNorm {
    /// Added to the variance.
    pub epsilon: f32,
    /// Channel axis of the activation; 1 where channels come first.
    pub axis: i64,
}

/// What the squares of a local response normalization are summed over. What lies outside the activation is zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LrnRegion {
    /// `size` channels at the same place.
    #[default]
    Across,
    /// A window of `size` along each spatial axis of the same channel.
    Within,
}

/// Local response normalization, channels first: `x / (bias + alpha / n * sum of n squares) ^ beta`, the sum running
/// from `(size - 1) / 2` before an element to `size / 2` after it along each axis of the region, so that `n` is `size`
/// across channels and `size ^ spatial axes` within one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lrn {
    /// Factor of the sum, divided by the number of elements in it.
    pub alpha: f32,
    /// Exponent.
    pub beta: f32,
    /// Addend.
    pub bias: f32,
    /// Elements summed over along an axis, around the element itself.
    pub size: usize,
    /// What is summed over.
    pub region: LrnRegion,
}

/// Normalization of each channel of each sample over its spatial axes; channels first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InstanceNorm {
    /// Added to the variance.
    pub epsilon: f32,
}

/// Normalization over the axes from `axis` on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerNorm {
    /// First axis normalized over; may be negative.
    pub axis: i64,
    /// Added to the variance.
    pub epsilon: f32,
}

/// Softmax, or its logarithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Softmax {
    /// Axis the exponentials sum to one along; may be negative.
    pub axis: i64,
    /// Whether all axes from `axis` on are taken as one.
    pub flatten: bool,
    /// Whether the result is the logarithm.
    pub log: bool,
}

impl Softmax {
    /// The operator's name.
    pub fn name(self) -> &'static str {
        if self.log { "LogSoftmax" } else { "Softmax" }
    }
}
