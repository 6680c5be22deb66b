//! Operators that compute each element on its own.

use super::Row;
use super::reader::{NodeReader, Read, ReadError};
use crate::tensor::dtype_of;
use quantize_ir::op::{Binary, Cast, Nary, Unary};
use quantize_ir::{Op, Tensor};

pub(super) const ROWS: &[Row] = &[
    Row { name: "Relu", read: |_| unary(Unary::Relu) },
    Row { name: "LeakyRelu", read: |n| unary(Unary::LeakyRelu { alpha: n.float_or("alpha", 0.01)? }) },
    Row { name: "Sigmoid", read: |_| unary(Unary::Sigmoid) },
    Row { name: "Tanh", read: |_| unary(Unary::Tanh) },
    Row { name: "HardSigmoid", read: hard_sigmoid },
    Row { name: "HardSwish", read: |_| unary(Unary::HardSwish) },
    Row { name: "Elu", read: |n| unary(Unary::Elu { alpha: n.float_or("alpha", 1.0)? }) },
    Row { name: "Softplus", read: |_| unary(Unary::Softplus) },
    Row { name: "Erf", read: |_| unary(Unary::Erf) },
    Row { name: "Gelu", read: gelu },
    Row { name: "Mish", read: |_| unary(Unary::Mish) },
    Row { name: "Exp", read: |_| unary(Unary::Exp) },
    Row { name: "Log", read: |_| unary(Unary::Log) },
    Row { name: "Sqrt", read: |_| unary(Unary::Sqrt) },
    Row { name: "Abs", read: |_| unary(Unary::Abs) },
    Row { name: "Neg", read: |_| unary(Unary::Neg) },
    Row { name: "Reciprocal", read: |_| unary(Unary::Reciprocal) },
    Row { name: "Floor", read: |_| unary(Unary::Floor) },
    Row { name: "Ceil", read: |_| unary(Unary::Ceil) },
    Row { name: "Round", read: |_| unary(Unary::Round) },
    Row { name: "Not", read: |_| unary(Unary::Not) },
    Row { name: "Add", read: |_| binary(Binary::Add) },
    Row { name: "Sub", read: |_| binary(Binary::Sub) },
    Row { name: "Mul", read: |_| binary(Binary::Mul) },
    Row { name: "Div", read: |_| binary(Binary::Div) },
    Row { name: "Pow", read: |_| binary(Binary::Pow) },
    Row { name: "Equal", read: |_| binary(Binary::Equal) },
    Row { name: "Less", read: |_| binary(Binary::Less) },
    Row { name: "LessOrEqual", read: |_| binary(Binary::LessOrEqual) },
    Row { name: "Greater", read: |_| binary(Binary::Greater) },
    Row { name: "GreaterOrEqual", read: |_| binary(Binary::GreaterOrEqual) },
    Row { name: "And", read: |_| binary(Binary::And) },
    Row { name: "Or", read: |_| binary(Binary::Or) },
    Row { name: "Sum", read: |_| nary(Nary::Sum) },
    Row { name: "Mean", read: |_| nary(Nary::Mean) },
    Row { name: "Min", read: |_| nary(Nary::Min) },
    Row { name: "Max", read: |_| nary(Nary::Max) },
    Row { name: "Clip", read: clip },
    Row { name: "PRelu", read: |_| Ok(Op::PRelu.into()) },
    Row { name: "Where", read: |_| Ok(Op::Where.into()) },
    Row { name: "Cast", read: cast },
];

fn unary(function: Unary) -> Result<Read, ReadError> {
    Ok(Op::Unary(function).into())
}

fn binary(function: Binary) -> Result<Read, ReadError> {
    Ok(Op::Binary(function).into())
}

fn nary(function: Nary) -> Result<Read, ReadError> {
    Ok(Op::Nary(function).into())
}

fn hard_sigmoid(node: &NodeReader<'_>) -> Result<Read, ReadError> {
    unary(Unary::HardSigmoid { alpha: node.float_or("alpha", 0.2)?, beta: node.float_or("beta", 0.5)? })
}

fn gelu(node: &NodeReader<'_>) -> Result<Read, ReadError> {
    unary(Unary::Gelu { tanh: node.choice("approximate", "none", &[("none", false), ("tanh", true)])? })
}

fn clip(node: &NodeReader<'_>) -> Result<Read, ReadError> {
    if node.opset() >= 11 {
        return Ok(Op::Clip.into());
    }
    let (lo, hi) = (node.float_or("min", f32::MIN)?, node.float_or("max", f32::MAX)?);
    Ok(Read::from(Op::Clip).with(1, Tensor::scalar(lo)).with(2, Tensor::scalar(hi)))
}

fn cast(node: &NodeReader<'_>) -> Result<Read, ReadError> {
    let to = node.int("to")?.ok_or(ReadError::Missing("to"))?;
    let dtype = i32::try_from(to).ok().and_then(dtype_of);
    let to = dtype.ok_or_else(|| ReadError::Value { name: "to", value: to.to_string() })?;
    Ok(Op::Cast(Cast { to }).into())
}
