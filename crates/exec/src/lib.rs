//! Runs the framework-neutral graph: fp32 execution with observation hooks, and the simulation of a quantization plan.
//!
//! What lives here: compiling a graph into a schedule with buffer lifetimes, evaluating operators (through
//! `quantize-kernels` where speed matters), showing every computed value to an observer, and running a plan's integer
//! arithmetic in simulation. What does not: file formats, data sets, statistics, choosing quantization parameters.
#![forbid(unsafe_code)]

mod error;
mod operands;
mod ops;
mod pool;

pub use error::{ExecError, OpError};
