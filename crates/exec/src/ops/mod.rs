//! Evaluation of each operator on tensors, one room for each room of `quantize_ir::op`.
//!
//! Every function takes the operator's attributes, its operands and the buffer pool, and returns its results in slot
//! order. Shapes are computed from the operands at hand; nothing is remembered between calls.

pub(crate) mod alloc;
pub(crate) mod dispatch;
pub(crate) mod elementwise;
pub(crate) mod layout;
pub(crate) mod linear;
pub(crate) mod meta;
pub(crate) mod norm;
pub(crate) mod quantize;
pub(crate) mod ranged;
pub(crate) mod reduce;
pub(crate) mod resize;
pub(crate) mod strided;
mod tables;
pub(crate) mod window;

#[cfg(test)]
mod robustness;
#[cfg(test)]
pub(crate) mod testing;
