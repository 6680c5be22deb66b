//! Operators on integers, read as what they stand for: dequantized operands, the float operator, a quantized result.
//!
//! What the shared operator set lacks are only the names: `QLinearConv` and the like compute what a `Conv` between
//! dequantize and quantize nodes does, up to the rounding of a last step.

use quantize_proto::onnx::attribute_proto::AttributeType;
use quantize_proto::onnx::{AttributeProto, NodeProto};

/// The domain of onnxruntime's own operators.
pub(crate) const RUNTIME_DOMAIN: &str = "com.microsoft";

/// Where an operand's codes and parameters stand among the inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Coded {
    codes: usize,
    scale: usize,
    zero_point: usize,
}

const fn triple(first: usize) -> Coded {
    Coded { codes: first, scale: first + 1, zero_point: first + 2 }
}

/// An integer operator.
#[derive(Clone, Copy, Debug)]
struct Row {
    op_type: &'static str,
    domain: &'static str,
    /// The float operator.
    float: &'static str,
    operands: Operands,
    /// Scale of the result, the zero point behind it; `None` if the result is always real.
    result: Option<usize>,
    /// The 32-bit codes of a bias, whose scale is the product of those of the first two operands.
    bias: Option<usize>,
    /// Axis of the scales of the second operand.
    axis: fn(&NodeProto) -> i64,
}

#[derive(Clone, Copy, Debug)]
enum Operands {
    /// These.
    These(&'static [Coded]),
    /// Triples from this input on.
    From(usize),
}

const PAIR: &[Coded] = &[triple(0), triple(3)];
const ONE: &[Coded] = &[triple(0)];
const SPLIT_PAIR: &[Coded] =
    &[Coded { codes: 0, scale: 2, zero_point: 4 }, Coded { codes: 1, scale: 3, zero_point: 5 }];

const fn row(
    op_type: &'static str,
    domain: &'static str,
    float: &'static str,
    operands: &'static [Coded],
    result: usize,
) -> Row {
    Row { op_type, domain, float, operands: Operands::These(operands), result: Some(result), bias: None, axis: |_| 0 }
}

const ROWS: [Row; 11] = [
    Row { bias: Some(8), ..row("QLinearConv", "", "Conv", PAIR, 6) },
    Row { axis: |_| -1, ..row("QLinearMatMul", "", "MatMul", PAIR, 6) },
    Row { bias: Some(6), axis: gemm_axis, ..row("QGemm", RUNTIME_DOMAIN, "Gemm", PAIR, 7) },
    row("QLinearAdd", RUNTIME_DOMAIN, "Add", PAIR, 6),
    row("QLinearMul", RUNTIME_DOMAIN, "Mul", PAIR, 6),
    row("QLinearSigmoid", RUNTIME_DOMAIN, "Sigmoid", ONE, 3),
    row("QLinearLeakyRelu", RUNTIME_DOMAIN, "LeakyRelu", ONE, 3),
    row("QLinearGlobalAveragePool", RUNTIME_DOMAIN, "GlobalAveragePool", ONE, 3),
    row("QLinearAveragePool", RUNTIME_DOMAIN, "AveragePool", ONE, 3),
    Row { operands: Operands::From(2), ..row("QLinearConcat", RUNTIME_DOMAIN, "Concat", &[], 0) },
    Row { result: None, axis: |_| -1, ..row("MatMulIntegerToFloat", RUNTIME_DOMAIN, "MatMul", SPLIT_PAIR, 0) },
];

/// Weights of a `Gemm` have their output channels last, unless they are transposed.
fn gemm_axis(node: &NodeProto) -> i64 {
    let transposed = node.attribute.iter().any(|a| a.name() == "transB" && a.i() != 0);
    i64::from(!transposed)
}

/// The standard nodes that `node` stands for, in the order they run; `None` if it is no operator on integers or one
/// in a form that they cannot say. `fresh` makes the names of the values between them.
pub(crate) fn expand(node: &NodeProto, fresh: &mut dyn FnMut(&str) -> String) -> Option<Vec<NodeProto>> {
    let row = ROWS.iter().find(|row| row.op_type == node.op_type() && row.domain == node.domain())?;
    let channels_last = node.attribute.iter().any(|a| a.name() == "channels_last" && a.i() != 0);
    // `MatMulIntegerToFloat` may have a bias behind its parameters, which is real.
    if channels_last || (row.result.is_none() && node.input.len() > 6) {
        return None;
    }
    let mut expansion = Expansion { node, fresh, steps: Vec::new() };
    let mut operands = expansion.operands(row)?;
    operands.extend(expansion.bias(row));
    let result = expansion.result(row)?;
    let mut float = NodeProto { input: operands, output: vec![result.real], ..node.clone() };
    float.op_type = Some(row.float.to_owned());
    float.domain = None;
    float.attribute.retain(|a| a.name() != "channels_last");
    expansion.steps.push(float);
    expansion.steps.extend(result.quantize);
    Some(expansion.steps)
}

struct Expansion<'a> {
    node: &'a NodeProto,
    fresh: &'a mut dyn FnMut(&str) -> String,
    steps: Vec<NodeProto>,
}

/// What the float operator writes, and the node that makes codes of it.
struct Written {
    real: String,
    quantize: Option<NodeProto>,
}

impl Expansion<'_> {
    fn input(&self, slot: usize) -> Option<String> {
        self.node.input.get(slot).filter(|name| !name.is_empty()).cloned()
    }

    fn operands(&mut self, row: &Row) -> Option<Vec<String>> {
        let coded: Vec<Coded> = match row.operands {
            Operands::These(these) => these.to_vec(),
            Operands::From(first) => (first..self.node.input.len()).step_by(3).map(triple).collect(),
        };
        let axis = (row.axis)(self.node);
        coded.iter().enumerate().map(|(slot, at)| self.dequantized(*at, if slot == 1 { axis } else { 0 })).collect()
    }

    fn dequantized(&mut self, at: Coded, axis: i64) -> Option<String> {
        let input = [self.input(at.codes)?, self.input(at.scale)?, self.input(at.zero_point).unwrap_or_default()];
        let real = (self.fresh)(&format!("{}_dequantized", input[0]));
        self.steps.push(step("DequantizeLinear", input.to_vec(), &real, Some(axis)));
        Some(real)
    }

    /// The real bias of 32-bit codes, if there is one.
    fn bias(&mut self, row: &Row) -> Option<String> {
        let codes = self.input(row.bias?)?;
        let scale = (self.fresh)(&format!("{codes}_scale"));
        let scales = vec![self.input(1)?, self.input(4)?];
        self.steps.push(step("Mul", scales, &scale, None));
        let real = (self.fresh)(&format!("{codes}_dequantized"));
        self.steps.push(step("DequantizeLinear", vec![codes, scale], &real, Some(0)));
        Some(real)
    }

    fn result(&mut self, row: &Row) -> Option<Written> {
        let output = self.node.output.first().filter(|name| !name.is_empty())?.clone();
        let scale = row.result.and_then(|slot| Some((self.input(slot)?, self.input(slot + 1).unwrap_or_default())));
        Some(match scale {
            None => Written { real: output, quantize: None },
            Some((scale, zero_point)) => {
                let real = (self.fresh)(&format!("{output}_real"));
                let quantize = step("QuantizeLinear", vec![real.clone(), scale, zero_point], &output, None);
                Written { real, quantize: Some(quantize) }
            }
        })
    }
}

/// A standard node.
pub(crate) fn step(op_type: &str, mut input: Vec<String>, output: &str, axis: Option<i64>) -> NodeProto {
    while input.last().is_some_and(String::is_empty) {
        input.pop();
    }
    let axis = axis.map(|axis| AttributeProto {
        name: Some("axis".to_owned()),
        i: Some(axis),
        r#type: Some(AttributeType::Int.into()),
        ..AttributeProto::default()
    });
    NodeProto {
        op_type: Some(op_type.to_owned()),
        input,
        output: vec![output.to_owned()],
        attribute: axis.into_iter().collect(),
        ..NodeProto::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(op_type: &str, domain: &str, input: &[&str]) -> NodeProto {
        NodeProto {
            op_type: Some(op_type.to_owned()),
            domain: Some(domain.to_owned()),
            input: input.iter().map(|s| (*s).to_owned()).collect(),
            output: vec!["y".to_owned()],
            ..NodeProto::default()
        }
    }

    fn listing(node: &NodeProto) -> Option<Vec<String>> {
        let steps = expand(node, &mut |name| format!("{name}'"))?;
        Some(steps.iter().map(|n| format!("{}({})->{}", n.op_type(), n.input.join(","), n.output.join(","))).collect())
    }

    #[test]
    fn a_convolution_with_a_bias() {
        let conv = node("QLinearConv", "", &["x", "sx", "zx", "w", "sw", "zw", "sy", "zy", "b"]);
        let expected = [
            "DequantizeLinear(x,sx,zx)->x_dequantized'",
            "DequantizeLinear(w,sw,zw)->w_dequantized'",
            "Mul(sx,sw)->b_scale'",
            "DequantizeLinear(b,b_scale')->b_dequantized'",
            "Conv(x_dequantized',w_dequantized',b_dequantized')->y_real'",
            "QuantizeLinear(y_real',sy,zy)->y",
        ];
        assert_eq!(listing(&conv).unwrap(), expected);
    }

    #[test]
    fn a_product_with_a_real_result() {
        let gemm = node("QGemm", "com.microsoft", &["a", "sa", "za", "b", "sb", "zb"]);
        let expected = [
            "DequantizeLinear(a,sa,za)->a_dequantized'",
            "DequantizeLinear(b,sb,zb)->b_dequantized'",
            "Gemm(a_dequantized',b_dequantized')->y",
        ];
        assert_eq!(listing(&gemm).unwrap(), expected);
        let product = node("MatMulIntegerToFloat", "com.microsoft", &["a", "b", "sa", "sb", "za"]);
        let expected = [
            "DequantizeLinear(a,sa,za)->a_dequantized'",
            "DequantizeLinear(b,sb)->b_dequantized'",
            "MatMul(a_dequantized',b_dequantized')->y",
        ];
        assert_eq!(listing(&product).unwrap(), expected);
    }

    #[test]
    fn a_concatenation_of_any_number() {
        let concat = node("QLinearConcat", "com.microsoft", &["sy", "zy", "a", "sa", "za", "b", "sb", "zb"]);
        assert_eq!(listing(&concat).unwrap()[2], "Concat(a_dequantized',b_dequantized')->y_real'");
    }

    #[test]
    fn what_cannot_be_said_stays() {
        assert_eq!(listing(&node("Conv", "", &["x", "w"])), None);
        assert_eq!(listing(&node("QLinearAdd", "", &["a", "sa", "za", "b", "sb", "zb", "sc", "zc"])), None);
        assert_eq!(listing(&node("QLinearConv", "", &["x"])), None, "operands are missing");
        let biased = node("MatMulIntegerToFloat", "com.microsoft", &["a", "b", "sa", "sb", "za", "zb", "bias"]);
        assert_eq!(listing(&biased), None);
        let mut pool = node("QLinearGlobalAveragePool", "com.microsoft", &["x", "sx", "zx", "sy", "zy"]);
        pool.attribute = step("", vec![], "", Some(1)).attribute;
        pool.attribute[0].name = Some("channels_last".to_owned());
        assert_eq!(listing(&pool), None);
    }
}
