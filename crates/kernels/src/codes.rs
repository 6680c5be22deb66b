//! Kernels on codes of 8 bits in blocks of channels, with exact 32-bit sums, and the way from sums to codes.
//!
//! Codes are `u8`: signed ones are stored with the top bit flipped, their zero points likewise. Weights are `i8`. What
//! lives here: loops over codes, requantization. What does not: the choice of parameters, operators, threads.

mod conv;
mod fixed_point;
mod output;
mod pack;
mod requantize;
mod tile;

pub use conv::PackedCodesConv;
pub use output::{Output, Residual};
pub use requantize::{Addition, CodeRange, Dequantize, Grid, Requantize, Rounding, Sign};
