//! What the format's operators mean in the shared operator set.
//!
//! A row says the shared operator, or who reads the rest: [`window`] (convolution, pooling, resampling), [`layout`]
//! (shapes and moving elements), [`linear`] (products, normalizations, reductions), [`ranged`] (operators on codes).

mod layout;
mod linear;
mod ranged;
mod window;

use super::builder::{Fault, NodeBuilder, Results};
use crate::node::NodeDef;
use quantize_ir::op::{Binary, Nary, Softmax, Unary};
use quantize_ir::{Op, Tensor, ValueId};

/// Operators that pass their first input on as it is.
pub(super) fn passes_on(op: &str) -> bool {
    matches!(
        op,
        "Identity"
            | "StopGradient"
            | "PreventGradient"
            | "Snapshot"
            | "CheckNumerics"
            | "PlaceholderWithDefault"
            | "Print"
    )
}

/// Number of a node's results, as far as its attributes say.
pub(super) fn result_count(node: &NodeDef) -> usize {
    let count = |name: &str| node.int(name).ok().flatten().and_then(|n| usize::try_from(n).ok()).unwrap_or(1);
    match node.op() {
        "Split" | "SplitV" => count("num_split"),
        "Unpack" => count("num"),
        "Switch" | "Merge" | "TopKV2" => 2,
        _ => ranged::result_count(node).unwrap_or(1),
    }
}

/// The node's results; `None` if its operator is not known.
pub(super) fn read(b: &mut NodeBuilder<'_>) -> Option<Results> {
    let op = b.node().op();
    if passes_on(op) {
        return Some(same(b, Op::Identity, 1));
    }
    if let Some(unary) = unary(b) {
        return Some(unary.and_then(|f| same(b, Op::Unary(f), 1)));
    }
    if let Some(f) = binary(op) {
        return Some(same(b, Op::Binary(f), 2));
    }
    Some(match op {
        "Maximum" => same(b, Op::Nary(Nary::Max), 2),
        "Minimum" => same(b, Op::Nary(Nary::Min), 2),
        "AddN" => match b.inputs().len() {
            1 => same(b, Op::Identity, 1),
            2 => same(b, Op::Binary(Binary::Add), 2),
            count => same(b, Op::Nary(Nary::Sum), count),
        },
        "SquaredDifference" => squared_difference(b),
        "Square" => square(b),
        "Rsqrt" => rsqrt(b),
        "Relu6" => relu6(b),
        "ClipByValue" => same(b, Op::Clip, 3),
        "Select" | "SelectV2" => select(b),
        "Softmax" | "LogSoftmax" => {
            same(b, Op::Softmax(Softmax { axis: -1, flatten: false, log: op == "LogSoftmax" }), 1)
        }
        _ => {
            return window::read(b).or_else(|| layout::read(b)).or_else(|| linear::read(b)).or_else(|| ranged::read(b));
        }
    })
}

/// The operator with the node's own inputs, of which there are `count`.
fn same(b: &mut NodeBuilder<'_>, op: Op, count: usize) -> Results {
    let inputs: Vec<ValueId> = (0..count).map(|slot| b.input(slot)).collect::<Result<_, _>>()?;
    b.main(op, &inputs)
}

fn unary(b: &NodeBuilder<'_>) -> Option<Result<Unary, Fault>> {
    Some(Ok(match b.node().op() {
        "Relu" => Unary::Relu,
        "LeakyRelu" => match b.node().float("alpha") {
            Ok(alpha) => Unary::LeakyRelu { alpha: alpha.unwrap_or(0.2) },
            Err(error) => return Some(Err(error.into())),
        },
        "Elu" => Unary::Elu { alpha: 1.0 },
        // Klambauer et al. 2017, "Self-Normalizing Neural Networks", section 2.
        "Selu" => Unary::Selu { alpha: 1.673_263_2, gamma: 1.050_701 },
        "Sigmoid" => Unary::Sigmoid,
        "Tanh" => Unary::Tanh,
        "Softplus" => Unary::Softplus,
        "Erf" => Unary::Erf,
        "Exp" => Unary::Exp,
        "Log" => Unary::Log,
        "Sqrt" => Unary::Sqrt,
        "Neg" => Unary::Neg,
        "Abs" => Unary::Abs,
        "Sign" => Unary::Sign,
        "Reciprocal" | "Inv" => Unary::Reciprocal,
        "Floor" => Unary::Floor,
        "Ceil" => Unary::Ceil,
        "Round" | "Rint" => Unary::Round,
        "LogicalNot" => Unary::Not,
        _ => return None,
    }))
}

fn binary(op: &str) -> Option<Binary> {
    Some(match op {
        "Add" | "AddV2" => Binary::Add,
        "Sub" => Binary::Sub,
        "Mul" => Binary::Mul,
        "RealDiv" | "Div" => Binary::Div,
        "Pow" => Binary::Pow,
        "Equal" => Binary::Equal,
        "Less" => Binary::Less,
        "LessEqual" => Binary::LessOrEqual,
        "Greater" => Binary::Greater,
        "GreaterEqual" => Binary::GreaterOrEqual,
        "LogicalAnd" => Binary::And,
        "LogicalOr" => Binary::Or,
        _ => return None,
    })
}

fn squared_difference(b: &mut NodeBuilder<'_>) -> Results {
    let difference = b.step("difference", Op::Binary(Binary::Sub), &[b.input(0)?, b.input(1)?]);
    b.main(Op::Binary(Binary::Mul), &[difference, difference])
}

fn square(b: &mut NodeBuilder<'_>) -> Results {
    let x = b.input(0)?;
    b.main(Op::Binary(Binary::Mul), &[x, x])
}

fn rsqrt(b: &mut NodeBuilder<'_>) -> Results {
    let root = b.step("root", Op::Unary(Unary::Sqrt), &[b.input(0)?]);
    b.main(Op::Unary(Unary::Reciprocal), &[root])
}

fn relu6(b: &mut NodeBuilder<'_>) -> Results {
    let [low, high] = [("low", 0.0f32), ("high", 6.0)].map(|(part, limit)| b.tensor(part, Tensor::scalar(limit)));
    b.main(Op::Clip, &[b.input(0)?, low, high])
}

/// The older `Select` takes a vector for whole rows, too, which no broadcast says.
fn select(b: &mut NodeBuilder<'_>) -> Results {
    let rows = b.node().op() == "Select" && b.constant_shape(0)?.is_none_or(|shape| shape.len() == 1);
    if rows {
        return Err(Fault::form("its condition may choose whole rows"));
    }
    same(b, Op::Where, 3)
}
