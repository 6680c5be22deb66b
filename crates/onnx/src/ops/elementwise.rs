//! Operators that compute each element on its own.

use super::reader::{NodeReader, Read, ReadError};
use super::{MANY, Row};
use crate::tensor::dtype_of;
use quantize_ir::op::{Binary, Cast, Nary, Unary};
use quantize_ir::{DType, Op, Tensor};

pub(super) const ROWS: &[Row] = &[
    Row { name: "Relu", operands: 1..=1, results: 1, read: |_| unary(Unary::Relu) },
    Row {
        name: "LeakyRelu",
        operands: 1..=1,
        results: 1,
        read: |n| unary(Unary::LeakyRelu { alpha: n.float_or("alpha", 0.01)? }),
    },
    Row { name: "Sigmoid", operands: 1..=1, results: 1, read: |_| unary(Unary::Sigmoid) },
    Row { name: "Tanh", operands: 1..=1, results: 1, read: |_| unary(Unary::Tanh) },
    Row { name: "HardSigmoid", operands: 1..=1, results: 1, read: hard_sigmoid },
    Row { name: "HardSwish", operands: 1..=1, results: 1, read: |_| unary(Unary::HardSwish) },
    Row { name: "Elu", operands: 1..=1, results: 1, read: |n| unary(Unary::Elu { alpha: n.float_or("alpha", 1.0)? }) },
    Row { name: "Softplus", operands: 1..=1, results: 1, read: |_| unary(Unary::Softplus) },
    Row { name: "Erf", operands: 1..=1, results: 1, read: |_| unary(Unary::Erf) },
    Row { name: "Gelu", operands: 1..=1, results: 1, read: gelu },
    Row { name: "Mish", operands: 1..=1, results: 1, read: |_| unary(Unary::Mish) },
    Row { name: "Exp", operands: 1..=1, results: 1, read: |_| unary(Unary::Exp) },
    Row { name: "Log", operands: 1..=1, results: 1, read: |_| unary(Unary::Log) },
    Row { name: "Sqrt", operands: 1..=1, results: 1, read: |_| unary(Unary::Sqrt) },
    Row { name: "Abs", operands: 1..=1, results: 1, read: |_| unary(Unary::Abs) },
    Row { name: "Neg", operands: 1..=1, results: 1, read: |_| unary(Unary::Neg) },
    Row { name: "Reciprocal", operands: 1..=1, results: 1, read: |_| unary(Unary::Reciprocal) },
    Row { name: "Floor", operands: 1..=1, results: 1, read: |_| unary(Unary::Floor) },
    Row { name: "Ceil", operands: 1..=1, results: 1, read: |_| unary(Unary::Ceil) },
    Row { name: "Round", operands: 1..=1, results: 1, read: |_| unary(Unary::Round) },
    Row { name: "Not", operands: 1..=1, results: 1, read: |_| unary(Unary::Not) },
    Row { name: "Add", operands: 2..=2, results: 1, read: |_| binary(Binary::Add) },
    Row { name: "Sub", operands: 2..=2, results: 1, read: |_| binary(Binary::Sub) },
    Row { name: "Mul", operands: 2..=2, results: 1, read: |_| binary(Binary::Mul) },
    Row { name: "Div", operands: 2..=2, results: 1, read: |_| binary(Binary::Div) },
    Row { name: "Pow", operands: 2..=2, results: 1, read: |_| binary(Binary::Pow) },
    Row { name: "Equal", operands: 2..=2, results: 1, read: |_| binary(Binary::Equal) },
    Row { name: "Less", operands: 2..=2, results: 1, read: |_| binary(Binary::Less) },
    Row { name: "LessOrEqual", operands: 2..=2, results: 1, read: |_| binary(Binary::LessOrEqual) },
    Row { name: "Greater", operands: 2..=2, results: 1, read: |_| binary(Binary::Greater) },
    Row { name: "GreaterOrEqual", operands: 2..=2, results: 1, read: |_| binary(Binary::GreaterOrEqual) },
    Row { name: "And", operands: 2..=2, results: 1, read: |_| binary(Binary::And) },
    Row { name: "Or", operands: 2..=2, results: 1, read: |_| binary(Binary::Or) },
    Row { name: "Sum", operands: 1..=MANY, results: 1, read: |_| nary(Nary::Sum) },
    Row { name: "Mean", operands: 1..=MANY, results: 1, read: |_| nary(Nary::Mean) },
    Row { name: "Min", operands: 1..=MANY, results: 1, read: |_| nary(Nary::Min) },
    Row { name: "Max", operands: 1..=MANY, results: 1, read: |_| nary(Nary::Max) },
    Row { name: "Clip", operands: 1..=3, results: 1, read: clip },
    Row { name: "PRelu", operands: 2..=2, results: 1, read: |_| Ok(Op::PRelu.into()) },
    Row { name: "Where", operands: 3..=3, results: 1, read: |_| Ok(Op::Where.into()) },
    Row { name: "Cast", operands: 1..=1, results: 1, read: cast },
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
    let (lo, hi) = (node.float("min")?.map(Tensor::scalar), node.float("max")?.map(Tensor::scalar));
    Ok(node.old_form(Op::Clip)?.with_some(1, lo).with_some(2, hi))
}

fn cast(node: &NodeReader<'_>) -> Result<Read, ReadError> {
    let to = node.int("to")?.ok_or(ReadError::Missing("to"))?;
    let dtype = i32::try_from(to).ok().and_then(dtype_of);
    match dtype {
        None => Err(ReadError::Value { name: "to", value: to.to_string() }),
        Some(DType::F16 | DType::BF16) => Err(ReadError::Form("half precision is not computed here")),
        Some(to) => Ok(Op::Cast(Cast { to }).into()),
    }
}
