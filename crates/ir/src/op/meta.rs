//! Operators about shapes, and operators that make tensors from nothing.

use crate::tensor::TensorData;

/// Dimensions `start..end` of the operand; negative bounds count from the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShapeOf {
    /// First dimension.
    pub start: i64,
    /// One past the last; `None` for all.
    pub end: Option<i64>,
}

/// A tensor of one repeated value.
#[derive(Clone, PartialEq)]
pub struct ConstantOfShape {
    /// The value: exactly one element.
    pub value: TensorData,
}

impl std::fmt::Debug for ConstantOfShape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ConstantOfShape({})", self.value.dtype())
    }
}
