//! Access to the operands of the node being evaluated.

use crate::error::OpError;
use quantize_ir::Tensor;

/// Operands of one node, by slot.
#[derive(Clone, Copy)]
pub(crate) struct Operands<'a>(pub(crate) &'a [Option<&'a Tensor>]);

impl<'a> Operands<'a> {
    /// The operand in `slot`, or an error naming the slot.
    pub(crate) fn required(self, slot: usize) -> Result<&'a Tensor, OpError> {
        self.optional(slot).ok_or(OpError::Missing { slot })
    }

    /// The operand in `slot`, if it is given.
    pub(crate) fn optional(self, slot: usize) -> Option<&'a Tensor> {
        self.0.get(slot).copied().flatten()
    }

    /// Number of slots.
    pub(crate) fn len(self) -> usize {
        self.0.len()
    }
}
