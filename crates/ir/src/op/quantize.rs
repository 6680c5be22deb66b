//! Quantization operators that a model contains already.

use crate::dtype::DType;

/// Attributes of linear quantization and dequantization.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinearQuantization {
    /// Channel axis when the scale is a vector; may be negative.
    pub axis: i64,
    /// Elements along `axis` that share a scale; 0 for no blocks.
    pub block_size: usize,
    /// Result type of a quantization without zero point; `None` for `uint8`.
    pub output: Option<DType>,
}
