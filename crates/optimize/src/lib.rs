//! Makes a plan better by running the graph: what rounding did is measured layer by layer and answered in the weights'
//! codes, their scales and the biases.
//!
//! What lives here: the walk through a network's layers with two branches of every sample, one in fp32 and one as the
//! plan computes it ([`walk()`]), and what is chosen on the way: codes of weights that keep a layer's result rather than
//! its weights, gains, and biases. What does not: statistics of activations and the choice of their ranges, file formats,
//! and what a target may do. A caller gets another graph and another plan of the same kind.
#![forbid(unsafe_code)]

mod assembled;
mod columns;
mod correction;
mod error;
mod layer;
mod live;
mod moments;
mod rounding;
mod route;
mod walk;

#[cfg(test)]
mod testing;

pub use assembled::{AssembleError, bias_plan};
pub use error::OptimizeError;
pub use layer::{layer_bias, set_bias};
pub use walk::{LayerChange, LayerInputs, Samples, Steps, WalkOptions, Walked, walk};
