//! Functions of single elements that follow a convolution or an addition.

/// A function applied to every element of a result while it is in the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Activation {
    /// `x`
    #[default]
    Identity,
    /// `max(lo, min(hi, x))`; NaN stays NaN. An end may be infinite.
    Clamp {
        /// Lower end.
        lo: f32,
        /// Upper end.
        hi: f32,
    },
    /// `x < 0 ? alpha * x : x`
    LeakyRelu {
        /// Slope below zero.
        alpha: f32,
    },
    /// `1 / (1 + exp(-x))`
    Sigmoid,
    /// `x / (1 + exp(-x))`
    Silu,
    /// `clamp(alpha * x + beta, 0, 1)`
    HardSigmoid {
        /// Slope.
        alpha: f32,
        /// Offset.
        beta: f32,
    },
    /// `x * clamp(x / 6 + 1/2, 0, 1)`
    HardSwish,
    /// Hyperbolic tangent.
    Tanh,
}
