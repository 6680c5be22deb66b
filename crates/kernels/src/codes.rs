//! Kernels on codes of 8 bits in blocks of channels, with exact 32-bit sums, and the way from sums to codes.
//!
//! Codes are `u8`: signed ones are stored with the top bit flipped, their zero points likewise. Weights are `i8`. What
//! lives here: loops over codes, requantization. What does not: the choice of parameters, operators, threads.

mod addition;
mod conv;
mod depthwise;
mod elementwise;
mod fixed_point;
mod output;
mod pack;
mod pool;
mod requantize;
mod tile;

pub use addition::{Addition, Grid, Sign};
pub use conv::PackedCodesConv;
pub use depthwise::PackedCodesDepthwise;
pub use elementwise::{add, dequantize, quantize};
pub use output::{Output, Residual};
pub use pool::{Mean, average_pool, global_average_pool, global_max_pool, max_pool};
pub use requantize::{CodeRange, Dequantize, Requantize, Rounding};
