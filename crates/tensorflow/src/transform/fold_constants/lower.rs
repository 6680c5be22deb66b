//! Operators on constants, said in the operators that are executed.

use super::super::Evaluator;
use crate::node::NodeDef;
use quantize_ir::op::{Binary, Cast, Concat, Nary, Reshape, Transpose, Unary};
use quantize_ir::{Op, Tensor};

/// The value of a node; `None` if its operator is not one that is folded.
///
/// # Errors
/// If the operands do not fit the operator.
pub(super) fn evaluate(
    node: &NodeDef,
    inputs: &[&Tensor],
    evaluator: &dyn Evaluator,
) -> Result<Option<Tensor>, String> {
    let run = |op: Op, operands: &[&Tensor]| evaluator.evaluate(op, operands);
    let value = match (node.op(), inputs) {
        ("Identity" | "StopGradient" | "PreventGradient" | "Snapshot", [x]) => (*x).clone(),
        ("Rsqrt", [x]) => run(Op::Unary(Unary::Reciprocal), &[&run(Op::Unary(Unary::Sqrt), &[x])?])?,
        ("Square", [x]) => run(Op::Binary(Binary::Mul), &[x, x])?,
        ("SquaredDifference", [a, b]) => {
            let difference = run(Op::Binary(Binary::Sub), &[a, b])?;
            run(Op::Binary(Binary::Mul), &[&difference, &difference])?
        }
        ("Maximum", [_, _]) => run(Op::Nary(Nary::Max), inputs)?,
        ("Minimum", [_, _]) => run(Op::Nary(Nary::Min), inputs)?,
        ("AddN", [_, ..]) => run(Op::Nary(Nary::Sum), inputs)?,
        ("Cast", [x]) => {
            let to = node.dtype("DstT").map_err(|error| error.to_string())?.and_then(|dtype| dtype.elements());
            let Some(to) = to else { return Ok(None) };
            run(Op::Cast(Cast { to }), &[x])?
        }
        ("Reshape", [x, shape]) => run(Op::Reshape(Reshape { allow_zero: true }), &[x, &wide(shape)?])?,
        ("ExpandDims", [x, axis]) => run(Op::Unsqueeze, &[x, &list(axis)?])?,
        ("Squeeze", [x]) => {
            let axes = node.ints("squeeze_dims").map_err(|error| error.to_string())?.unwrap_or_default();
            match axes.is_empty() {
                true => run(Op::Squeeze, &[x])?,
                false => run(Op::Squeeze, &[x, &Tensor::vector(axes)])?,
            }
        }
        ("Transpose", [x, perm]) => {
            let perm = perm.to_i64_vec().map_err(|error| error.to_string())?;
            let perm: Result<Vec<usize>, _> = perm.into_iter().map(usize::try_from).collect();
            run(Op::Transpose(Transpose { perm: perm.map_err(|_| "a negative axis".to_owned())? }), &[x])?
        }
        ("ConcatV2", [parts @ .., axis]) | ("Concat", [axis, parts @ ..]) => join(parts, scalar(axis)?, evaluator)?,
        ("Pack", [_, ..]) => {
            let axis = node.int("axis").map_err(|error| error.to_string())?.unwrap_or(0);
            let at = Tensor::vector(vec![axis]);
            let parts = inputs.iter().map(|part| run(Op::Unsqueeze, &[part, &at])).collect::<Result<Vec<_>, _>>()?;
            join(&parts.iter().collect::<Vec<_>>(), axis, evaluator)?
        }
        ("Fill", [shape, value]) => run(Op::Expand, &[value, &wide(shape)?])?,
        _ => match (elementwise(node.op()), inputs.len()) {
            (Some(op @ Op::Unary(_)), 1) | (Some(op @ Op::Binary(_)), 2) => run(op, inputs)?,
            _ => return Ok(None),
        },
    };
    Ok(Some(value))
}

/// Operators that mean the same here and there.
fn elementwise(op: &str) -> Option<Op> {
    Some(match op {
        "Add" | "AddV2" => Op::Binary(Binary::Add),
        "Sub" => Op::Binary(Binary::Sub),
        "Mul" => Op::Binary(Binary::Mul),
        "RealDiv" => Op::Binary(Binary::Div),
        "Pow" => Op::Binary(Binary::Pow),
        "Sqrt" => Op::Unary(Unary::Sqrt),
        "Neg" => Op::Unary(Unary::Neg),
        "Exp" => Op::Unary(Unary::Exp),
        "Abs" => Op::Unary(Unary::Abs),
        "Reciprocal" | "Inv" => Op::Unary(Unary::Reciprocal),
        _ => return None,
    })
}

fn join(parts: &[&Tensor], axis: i64, evaluator: &dyn Evaluator) -> Result<Tensor, String> {
    match parts {
        [] => Err("nothing to join".into()),
        [only] => Ok((*only).clone()),
        parts => evaluator.evaluate(Op::Concat(Concat { axis }), parts),
    }
}

/// Integers in 64 bits, the form shapes and axes have.
fn wide(tensor: &Tensor) -> Result<Tensor, String> {
    let values = tensor.to_i64_vec().map_err(|error| error.to_string())?;
    Tensor::new(tensor.shape(), values).map_err(|error| error.to_string())
}

/// One or several integers as a list.
fn list(tensor: &Tensor) -> Result<Tensor, String> {
    tensor.to_i64_vec().map(Tensor::vector).map_err(|error| error.to_string())
}

fn scalar(tensor: &Tensor) -> Result<i64, String> {
    match tensor.to_i64_vec().map_err(|error| error.to_string())?[..] {
        [value] => Ok(value),
        _ => Err("an axis is one number".into()),
    }
}
