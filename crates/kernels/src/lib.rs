//! Kernels on plain slices, for any number of spatial axes, channels first: matrix product, convolution, transposed
//! convolution and pooling in float32, and the exact convolution of integer codes ([`integer`]).
//!
//! What lives here: loops over elements, and the choice of instruction set at run time. What does not: tensors,
//! operators, shape rules, threads. Every function checks the lengths of the slices it is given, runs on the calling
//! thread, and returns the same bytes for the same operands on the same machine.
//!
//! The only crate of the workspace with `unsafe` code: one call of the matrix product, calls of functions compiled for
//! an instruction set, and loads and stores of vector registers.

pub mod blocked;
mod buffer;
pub mod codes;
mod conv;
mod conv_transpose;
mod depthwise;
mod error;
mod geometry;
mod im2col;
pub mod integer;
mod matrix;
mod peak;
mod pool;
mod simd;
pub mod stats;
mod strided;
mod tap_sum;

#[cfg(test)]
mod testing;

pub use buffer::{Buffer, Number};
pub use conv::conv;
pub use conv_transpose::conv_transpose;
pub use error::KernelError;
pub use geometry::{Axis, ConvGeometry, PoolGeometry};
pub use matrix::{Matrix, MatrixMut, gemm};
pub use peak::{Peak, peak};
pub use pool::{average_pool, lp_pool, max_pool, max_pool_with_indices};
pub use simd::Isa;
