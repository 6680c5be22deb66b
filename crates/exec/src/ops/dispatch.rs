//! From the element type known at run time to generic code: the only place that lists the types.

use crate::error::OpError;
use quantize_ir::DType;

/// Evaluates the body with the elements of any `&TensorData` bound to a name.
macro_rules! on_elements {
    ($data:expr, $v:ident => $body:expr) => {
        match $data {
            TensorData::F32($v) => $body,
            TensorData::F64($v) => $body,
            TensorData::I8($v) => $body,
            TensorData::U8($v) => $body,
            TensorData::I16($v) => $body,
            TensorData::U16($v) => $body,
            TensorData::I32($v) => $body,
            TensorData::U32($v) => $body,
            TensorData::I64($v) => $body,
            TensorData::U64($v) => $body,
            TensorData::Bool($v) => $body,
        }
    };
}

/// As [`on_elements`], for an operator of numbers: truth values are an error that names it.
macro_rules! on_numbers {
    ($op:expr, $data:expr, $v:ident => $body:expr) => {
        match $data {
            TensorData::F32($v) => $body,
            TensorData::F64($v) => $body,
            TensorData::I8($v) => $body,
            TensorData::U8($v) => $body,
            TensorData::I16($v) => $body,
            TensorData::U16($v) => $body,
            TensorData::I32($v) => $body,
            TensorData::U32($v) => $body,
            TensorData::I64($v) => $body,
            TensorData::U64($v) => $body,
            TensorData::Bool(_) => Err($crate::ops::dispatch::unsupported($op, quantize_ir::DType::Bool)),
        }
    };
}

pub(crate) use {on_elements, on_numbers};

/// The error of an operator that is not evaluated on elements of a type.
pub(crate) fn unsupported(op: &str, dtype: DType) -> OpError {
    OpError::Unsupported(format!("{op} of {dtype} elements"))
}
