//! Evaluation of each operator on tensors, one room for each room of `quantize_ir::op`.
//!
//! Every function takes the operator's attributes, its operands and the buffer pool, and returns its results in slot
//! order. Shapes are computed from the operands at hand; nothing is remembered between calls.
