//! Operators on integers: which one stands for each quantized float operator, and in which order it takes codes and
//! their parameters. [`super::wiring`] knows the names, this module puts them in place.

use crate::error::OnnxError;
use crate::expand::RUNTIME_DOMAIN;
use crate::recipe::moves_codes;
use quantize_ir::op::behaviour::clip_limits;
use quantize_ir::op::{GlobalPool, Unary};
use quantize_ir::{Graph, Node, Op};
use quantize_proto::onnx::NodeProto;

const STANDARD: &str = "";

/// Names of codes and of what they stand for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CodeNames {
    pub(super) codes: String,
    pub(super) scale: String,
    pub(super) zero_point: String,
}

/// An operand or a result of an integer node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Operand {
    /// Codes.
    Codes(CodeNames),
    /// What is not quantized: shapes, indices, a real result.
    Plain(String),
    /// None.
    Absent,
}

impl Operand {
    /// The name of the tensor; empty if there is none.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Codes(names) => names.codes.clone(),
            Self::Plain(name) => name.clone(),
            Self::Absent => String::new(),
        }
    }

    /// All names that belong to it.
    pub(super) fn names(&self) -> Vec<String> {
        self.triple().into_iter().filter(|name| !name.is_empty()).collect()
    }

    fn parameters(&self) -> [String; 2] {
        match self {
            Self::Codes(names) => [names.scale.clone(), names.zero_point.clone()],
            Self::Plain(_) | Self::Absent => [String::new(), String::new()],
        }
    }

    fn triple(&self) -> [String; 3] {
        let [scale, zero_point] = self.parameters();
        [self.name(), scale, zero_point]
    }
}

/// Order of the operands of an integer operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// Triples of codes, scale and zero point of this many operands, the result's scale and zero point, and the codes
    /// of the operand after them, if there is one.
    OperandsResultBias(usize),
    /// Triples of two operands, the codes of the third or an empty name, and the result's parameters if it has codes.
    OperandsBiasResult,
    /// The result's parameters, then a triple of each operand.
    ResultOperands,
    /// Codes of two operands, their scales, their zero points; the result is real.
    RealResult,
    /// Codes of the first operand, all others as they are: the operator moves codes.
    Moved,
    /// Codes of the operand, and the codes its bounds have.
    Clipped,
}

/// The operator that stands for a float one.
#[derive(Clone, Copy, Debug)]
struct Row {
    op_type: &'static str,
    domain: &'static str,
    order: Order,
    /// Attributes of the float operator that it does not have.
    without: &'static [&'static str],
}

const fn row(op_type: &'static str, domain: &'static str, order: Order) -> Row {
    Row { op_type, domain, order, without: &[] }
}

/// The row of an operator with a result in codes, or with a real one; `None` if it has no integer form.
fn find(op: &Op, real_result: bool) -> Option<Row> {
    let row = match op {
        Op::Gemm(_) => Row { without: &["beta"], ..row("QGemm", RUNTIME_DOMAIN, Order::OperandsBiasResult) },
        Op::MatMul if real_result => row("MatMulIntegerToFloat", RUNTIME_DOMAIN, Order::RealResult),
        _ if real_result => return None,
        Op::MatMul => row("QLinearMatMul", STANDARD, Order::OperandsResultBias(2)),
        Op::Conv(_) => row("QLinearConv", STANDARD, Order::OperandsResultBias(2)),
        Op::Binary(quantize_ir::op::Binary::Add) => row("QLinearAdd", RUNTIME_DOMAIN, Order::OperandsResultBias(2)),
        Op::Binary(quantize_ir::op::Binary::Mul) => row("QLinearMul", RUNTIME_DOMAIN, Order::OperandsResultBias(2)),
        Op::Concat(_) => row("QLinearConcat", RUNTIME_DOMAIN, Order::ResultOperands),
        Op::GlobalPool(GlobalPool::Average) => {
            row("QLinearGlobalAveragePool", RUNTIME_DOMAIN, Order::OperandsResultBias(1))
        }
        Op::AveragePool(_) => {
            Row { without: &["dilations"], ..row("QLinearAveragePool", RUNTIME_DOMAIN, Order::OperandsResultBias(1)) }
        }
        Op::Unary(Unary::LeakyRelu { .. }) => row("QLinearLeakyRelu", RUNTIME_DOMAIN, Order::OperandsResultBias(1)),
        Op::Unary(Unary::Sigmoid) => row("QLinearSigmoid", RUNTIME_DOMAIN, Order::OperandsResultBias(1)),
        Op::Unary(Unary::Relu) | Op::Clip => row("Clip", STANDARD, Order::Clipped),
        op if moves_codes(op) => row("", STANDARD, Order::Moved),
        _ => return None,
    };
    Some(row)
}

/// Whether an operator has a form on integers with a result in codes, or with a real one.
pub(super) fn exists(op: &Op, real_result: bool) -> bool {
    find(op, real_result).is_some()
}

/// Whether the operator's form on integers takes the codes of its bounds.
pub(super) fn is_clipped(op: &Op) -> bool {
    find(op, false).is_some_and(|row| row.order == Order::Clipped)
}

/// The bounds of a clipped result.
pub(super) fn bound(graph: &Graph, node: &Node) -> Option<(f32, f32)> {
    match node.op {
        Op::Unary(Unary::Relu) => Some((0.0, f32::INFINITY)),
        _ => clip_limits(graph, node),
    }
}

/// `float`, the node of the float operator, as its integer form on `operands` with the given results.
///
/// `bounds` are the names of the codes between which results lie, for bounded activations.
///
/// # Errors
/// If the operator has no integer form with such a result.
pub(super) fn node(
    op: &Op,
    mut float: NodeProto,
    operands: &[Operand],
    results: &[Operand],
    bounds: Option<&[String; 2]>,
) -> Result<NodeProto, OnnxError> {
    let result = results.first().unwrap_or(&Operand::Absent);
    let Some(row) = find(op, matches!(result, Operand::Plain(_))) else {
        let cause = format!("`{}` has no form on integers with such a result", op.name());
        return Err(OnnxError::Unwritable { node: float.name().to_owned(), cause });
    };
    let operand = |slot: usize| operands.get(slot).unwrap_or(&Operand::Absent);
    let triples = |slots: std::ops::Range<usize>| slots.flat_map(|slot| operand(slot).triple());
    float.input = match row.order {
        Order::OperandsResultBias(n) => {
            let mut input: Vec<String> = triples(0..n).chain(result.parameters()).collect();
            input.extend(operands.get(n).filter(|bias| **bias != Operand::Absent).map(Operand::name));
            input
        }
        Order::OperandsBiasResult => triples(0..2).chain([operand(2).name()]).chain(result.parameters()).collect(),
        Order::ResultOperands => result.parameters().into_iter().chain(triples(0..operands.len())).collect(),
        Order::RealResult => {
            let [[a, a_scale, a_zero], [b, b_scale, b_zero]] = [operand(0).triple(), operand(1).triple()];
            vec![a, b, a_scale, b_scale, a_zero, b_zero]
        }
        Order::Moved => operands.iter().map(Operand::name).collect(),
        Order::Clipped => [operand(0).name()].into_iter().chain(bounds.into_iter().flatten().cloned()).collect(),
    };
    while float.input.last().is_some_and(String::is_empty) {
        float.input.pop();
    }
    float.output = results.iter().map(Operand::name).collect();
    if !row.op_type.is_empty() {
        float.op_type = Some(row.op_type.to_owned());
        float.domain = Some(row.domain.to_owned()).filter(|domain| !domain.is_empty());
    }
    float.attribute.retain(|a| !row.without.contains(&a.name()));
    Ok(float)
}
