//! Normalizations and softmax.

/// `(x - mean) / sqrt(variance + epsilon) * scale + bias` for each channel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchNorm {
    /// Added to the variance.
    pub epsilon: f32,
    /// Channel axis of the activation; 1 where channels come first.
    pub axis: i64,
}

/// `x / (bias + alpha / size * sum of squares over size channels) ^ beta`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lrn {
    /// Factor of the sum, divided by `size`.
    pub alpha: f32,
    /// Exponent.
    pub beta: f32,
    /// Addend.
    pub bias: f32,
    /// Channels summed over, around the channel itself.
    pub size: usize,
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
