//! Format-neutral passes over the graph: what runs before calibration.
//!
//! What lives here: constant folding, folding of batch normalization and other per-channel affine operators into the
//! weights before them, folding of `Gemm` factors, additions written as sums, zeros around images, scaling of channels by
//! factors that are given, and [`select`](select::select), which decides by a target's [`Recipe`](quantize_ir::Recipe)
//! which nodes are quantized, which vanish into a saturation or an accumulator and which values share parameters. What does not: statistics, ranges, scales (they need data), and anything about files.
//!
//! Passes read the graph and return patches; [`Preparation`] applies them.
#![forbid(unsafe_code)]

pub mod affine;
pub mod constant;
pub mod equalize;
pub mod gemm;
pub mod padding;
pub mod prepare;
mod products;
pub mod results;
pub mod scaled;
pub mod select;
pub mod smooth;
pub mod sum;

#[cfg(test)]
mod testing;

pub use constant::Evaluator;
pub use prepare::{Preparation, prepare};
pub use select::{Selection, select};

use quantize_ir::GraphError;

/// Why a pass failed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PassError {
    /// The graph is broken or a constant cannot be read.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// What a value is to be scaled by does not fit what computes or reads it.
    #[error("factors of `{value}` do not fit what computes or reads it")]
    Unfit {
        /// The value.
        value: String,
    },
    /// A batch normalization cannot be folded because its statistics make no sense.
    #[error("node `{node}`: variance {variance} + epsilon {epsilon} of channel {channel} is not positive")]
    Variance {
        /// Label of the batch normalization.
        node: String,
        /// Channel.
        channel: usize,
        /// Stored variance.
        variance: f32,
        /// Epsilon of the node.
        epsilon: f32,
    },
}
