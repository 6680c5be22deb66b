//! Operators that compute each element on its own.

use super::reader::{NodeReader, Read, ReadError};
use super::{MANY, Row};
use crate::tensor::dtype_of;
use quantize_ir::op::{Binary, Cast, Nary, Unary};
use quantize_ir::{Op, Tensor};

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
    Row { name: "Selu", operands: 1..=1, results: 1, read: selu },
    Row { name: "Shrink", operands: 1..=1, results: 1, read: shrink },
    Row { name: "Softplus", operands: 1..=1, results: 1, read: |_| unary(Unary::Softplus) },
    Row { name: "Erf", operands: 1..=1, results: 1, read: |_| unary(Unary::Erf) },
    Row { name: "Gelu", operands: 1..=1, results: 1, read: gelu },
    Row { name: "Mish", operands: 1..=1, results: 1, read: |_| unary(Unary::Mish) },
    Row { name: "Exp", operands: 1..=1, results: 1, read: |_| unary(Unary::Exp) },
    Row { name: "Log", operands: 1..=1, results: 1, read: |_| unary(Unary::Log) },
    Row { name: "Sqrt", operands: 1..=1, results: 1, read: |_| unary(Unary::Sqrt) },
    Row { name: "Abs", operands: 1..=1, results: 1, read: |_| unary(Unary::Abs) },
    Row { name: "Neg", operands: 1..=1, results: 1, read: |_| unary(Unary::Neg) },
    Row { name: "Sign", operands: 1..=1, results: 1, read: |_| unary(Unary::Sign) },
    Row { name: "Reciprocal", operands: 1..=1, results: 1, read: |_| unary(Unary::Reciprocal) },
    Row { name: "Floor", operands: 1..=1, results: 1, read: |_| unary(Unary::Floor) },
    Row { name: "Ceil", operands: 1..=1, results: 1, read: |_| unary(Unary::Ceil) },
    Row { name: "Round", operands: 1..=1, results: 1, read: |_| unary(Unary::Round) },
    Row { name: "Not", operands: 1..=1, results: 1, read: |_| unary(Unary::Not) },
    Row { name: "Add", operands: 2..=2, results: 1, read: |n| binary(n, Binary::Add) },
    Row { name: "Sub", operands: 2..=2, results: 1, read: |n| binary(n, Binary::Sub) },
    Row { name: "Mul", operands: 2..=2, results: 1, read: |n| binary(n, Binary::Mul) },
    Row { name: "Div", operands: 2..=2, results: 1, read: |n| binary(n, Binary::Div) },
    Row { name: "Pow", operands: 2..=2, results: 1, read: |n| binary(n, Binary::Pow) },
    Row { name: "Equal", operands: 2..=2, results: 1, read: |n| binary(n, Binary::Equal) },
    Row { name: "Less", operands: 2..=2, results: 1, read: |n| binary(n, Binary::Less) },
    Row { name: "LessOrEqual", operands: 2..=2, results: 1, read: |n| binary(n, Binary::LessOrEqual) },
    Row { name: "Greater", operands: 2..=2, results: 1, read: |n| binary(n, Binary::Greater) },
    Row { name: "GreaterOrEqual", operands: 2..=2, results: 1, read: |n| binary(n, Binary::GreaterOrEqual) },
    Row { name: "And", operands: 2..=2, results: 1, read: |n| binary(n, Binary::And) },
    Row { name: "Or", operands: 2..=2, results: 1, read: |n| binary(n, Binary::Or) },
    Row { name: "Sum", operands: 1..=MANY, results: 1, read: |_| nary(Nary::Sum) },
    Row { name: "Mean", operands: 1..=MANY, results: 1, read: |_| nary(Nary::Mean) },
    Row { name: "Min", operands: 1..=MANY, results: 1, read: |_| nary(Nary::Min) },
    Row { name: "Max", operands: 1..=MANY, results: 1, read: |_| nary(Nary::Max) },
    Row { name: "Clip", operands: 1..=3, results: 1, read: clip },
    Row { name: "PRelu", operands: 2..=2, results: 1, read: prelu },
    Row { name: "Where", operands: 3..=3, results: 1, read: |_| Ok(Op::Where.into()) },
    Row { name: "Cast", operands: 1..=1, results: 1, read: cast },
];

fn unary(function: Unary) -> Result<Read, ReadError> {
    Ok(Op::Unary(function).into())
}

/// Before opset 7 the second operand may stand at an `axis` of the first other than its last ones.
fn binary(node: &NodeReader<'_>, function: Binary) -> Result<Read, ReadError> {
    let op = Op::Binary(function);
    match node.int("axis")?.filter(|_| node.opset() < 7) {
        Some(axis) if node.flag("broadcast", false)? => aligned(node, op, axis),
        _ => Ok(op.into()),
    }
}

/// Before opset 7 the slopes stand at the axis of channels, not at the last one.
fn prelu(node: &NodeReader<'_>) -> Result<Read, ReadError> {
    if node.opset() < 7 { aligned(node, Op::PRelu, 1) } else { Ok(Op::PRelu.into()) }
}

/// An operator whose second operand stands at `axis` of the first: with axes of size 1 behind its own, so that it
/// broadcasts as in newer opsets.
fn aligned(node: &NodeReader<'_>, op: Op, axis: i64) -> Result<Read, ReadError> {
    let shape = node.constant_shape(1).map(|(_, shape)| shape);
    if shape.as_ref().is_some_and(|shape| shape.iter().all(|size| *size == 1)) {
        return Ok(op.into());
    }
    let (Some(rank), Some(own)) = (node.rank(0), shape.as_ref().map(Vec::len).or_else(|| node.rank(1))) else {
        return Err(ReadError::Form(
            "where its second operand stands in the first depends on ranks that are not known",
        ));
    };
    let place =
        if axis < 0 { usize::try_from(axis.saturating_add_unsigned(rank as u64)) } else { usize::try_from(axis) };
    let behind = place.ok().and_then(|place| rank.checked_sub(place)?.checked_sub(own));
    match behind {
        None => Err(ReadError::Value { name: "axis", value: format!("{axis}, where {own} axes do not fit in {rank}") }),
        Some(0) => Ok(op.into()),
        Some(behind) => with_axes_behind(node, op, behind),
    }
}

/// An operator whose second operand, a constant, gets this many axes of size 1 behind its own.
fn with_axes_behind(node: &NodeReader<'_>, op: Op, behind: usize) -> Result<Read, ReadError> {
    let Some(constant) = node.constant(1) else {
        return Err(ReadError::Form("its second operand stands before the last axes and is no small constant"));
    };
    let shape: Vec<usize> = constant.shape().iter().copied().chain(std::iter::repeat_n(1, behind)).collect();
    let tensor = Tensor::clone(&constant).reshaped(shape);
    let tensor = tensor.map_err(|error| ReadError::Value { name: "axis", value: error.to_string() })?;
    Ok(Read { operands: Some(1), ..Read::from(op) }.with(1, tensor))
}

fn nary(function: Nary) -> Result<Read, ReadError> {
    Ok(Op::Nary(function).into())
}

fn hard_sigmoid(node: &NodeReader<'_>) -> Result<Read, ReadError> {
    unary(Unary::HardSigmoid { alpha: node.float_or("alpha", 0.2)?, beta: node.float_or("beta", 0.5)? })
}

fn selu(node: &NodeReader<'_>) -> Result<Read, ReadError> {
    unary(Unary::Selu { alpha: node.float_or("alpha", 1.673_263_2)?, gamma: node.float_or("gamma", 1.050_701)? })
}

fn shrink(node: &NodeReader<'_>) -> Result<Read, ReadError> {
    unary(Unary::Shrink { lambda: node.float_or("lambd", 0.5)?, bias: node.float_or("bias", 0.0)? })
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
        Some(to) => Ok(Op::Cast(Cast { to }).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Known, read};
    use super::*;
    use crate::tests::{int, node};
    use quantize_proto::onnx::{AttributeProto, NodeProto};
    use std::sync::Arc;

    /// `x` has rank 4, `c` is a constant of 3 channels, `one` one of a single element.
    struct Around;

    impl Known for Around {
        fn constant(&self, name: &str) -> Option<Arc<Tensor>> {
            let values = self.constant_shape(name)?.iter().map(|size| *size as f32).collect();
            Tensor::new(self.constant_shape(name)?, if name == "c" { vec![1.0, 2.0, 3.0] } else { values })
                .ok()
                .map(Arc::new)
        }

        fn constant_shape(&self, name: &str) -> Option<Vec<usize>> {
            [("c", 3), ("one", 1)].iter().find(|(known, _)| *known == name).map(|(_, size)| vec![*size])
        }

        fn rank(&self, name: &str) -> Option<usize> {
            match name {
                "x" => Some(4),
                "y" => None,
                _ => Some(1),
            }
        }
    }

    fn second_shape(node: &NodeProto, opset: i64) -> Result<Option<Vec<usize>>, String> {
        let read =
            read(&NodeReader::new(node, opset, &Around)).expect("a known operator").map_err(|e| e.to_string())?;
        Ok(read.added.first().map(|(_, tensor)| tensor.shape().to_vec()))
    }

    #[test]
    fn old_second_operands_stand_where_their_axis_says() {
        let add = |x, second, attributes| node("Add", &[x, second], &["z"], attributes);
        let at = |axis: i64| -> Vec<AttributeProto> { vec![int("broadcast", 1), int("axis", axis)] };
        let cases = [
            ("channels", add("x", "c", at(1)), 6, Ok(Some(vec![3, 1, 1]))),
            ("channels from the end", add("x", "c", at(-3)), 6, Ok(Some(vec![3, 1, 1]))),
            ("newer opsets have no axis", add("x", "c", at(1)), 7, Ok(None)),
            ("the last axis", add("x", "c", at(3)), 6, Ok(None)),
            ("no axis", add("x", "c", vec![int("broadcast", 1)]), 6, Ok(None)),
            ("one element", add("y", "one", at(1)), 6, Ok(None)),
            ("slopes", node("PRelu", &["x", "c"], &["z"], vec![]), 6, Ok(Some(vec![3, 1, 1]))),
            ("slopes of newer opsets", node("PRelu", &["x", "c"], &["z"], vec![]), 7, Ok(None)),
        ];
        for (name, node, opset, expected) in cases {
            assert_eq!(second_shape(&node, opset), expected, "{name}");
        }
        let refused = [
            (add("x", "c", at(4)), "attribute `axis` has value 4, where 1 axes do not fit in 4"),
            (
                add("x", "c", at(i64::MIN)),
                "attribute `axis` has value -9223372036854775808, where 1 axes do not fit in 4",
            ),
            (add("y", "c", at(1)), "where its second operand stands in the first depends on ranks that are not known"),
            (add("x", "v", at(1)), "its second operand stands before the last axes and is no small constant"),
        ];
        for (node, cause) in refused {
            assert_eq!(second_shape(&node, 6), Err(cause.to_owned()));
        }
    }
}
