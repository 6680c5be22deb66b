//! Runs the framework-neutral graph: fp32 execution with observation hooks, and the simulation of a quantization plan.
//!
//! What lives here: compiling a graph into a schedule with buffer lifetimes ([`Program`]), running it ([`Session`]),
//! showing every computed value to an [`Observer`], evaluating operators (through `quantize-kernels` where speed
//! matters), and running a plan's integer arithmetic in simulation. What does not: file formats, data sets,
//! statistics, choosing quantization parameters, threads. One program serves any number of threads, each with a
//! session of its own.
#![forbid(unsafe_code)]

mod blocked;
mod codes;
mod emulate;
mod error;
mod eval;
mod fold;
mod fuse;
mod grid;
mod observe;
mod operands;
mod ops;
mod pack;
mod pool;
mod program;
mod ready;
mod session;
mod simulate;
mod stream;
mod value;

#[cfg(test)]
mod testing;

pub use emulate::{Emulation, Emulator};
pub use error::{ExecError, OpError};
pub use fold::{FoldBudget, evaluate_constant, evaluate_node};
pub use observe::{Elements, Finished, Observer, View};
pub use program::Program;
pub use session::Session;
pub use stream::Constants;
