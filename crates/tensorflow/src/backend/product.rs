//! Matrix products on integers, with the constants they read.

use super::names::Names;
use super::operators::{bias, refusal, stem, weight};
use super::ranges::{self, Codes};
use super::{Operand, Ported, Revision};
use crate::dtype::DataType;
use crate::error::TensorflowError;
use crate::node::NodeDef;
use quantize_ir::op::Gemm;
use quantize_ir::{Node, NodeId, Op, Tensor};

/// Ends of the range that an operator with a real result reads and has no use for.
const NO_RANGE: [f32; 2] = [0.0, 1.0];

/// The operator, with the name `real`, that a product with a real result becomes, behind the constants that it reads.
///
/// # Errors
/// If there is no operator for the node as it is planned.
pub(super) fn dequantized(
    revision: &Revision<'_>,
    (id, node): (NodeId, &Node),
    operand: Option<&Operand>,
    real: &str,
    names: &mut Names,
) -> Result<Vec<NodeDef>, TensorflowError> {
    let refused = |cause: &str| refusal(revision, id, cause.to_owned());
    let Op::Gemm(gemm) = &node.op else { return Err(refused("the plan has no range for its result")) };
    let Some((x, codes)) = operand else { return Err(refused("it reads nothing")) };
    let product = Product { revision, id, node, gemm, x, codes };
    let op = "QuantizedMatMulWithBiasAndDequantize";
    let made = product.nodes(op, real.to_owned(), (DataType::FLOAT, NO_RANGE), names);
    made.map_err(|cause| refusal(revision, id, cause))
}

/// The operator that a product with a ReLU behind it becomes, behind the constants that it reads. Its results are codes
/// and the ends of their range.
///
/// # Errors
/// If there is no operator for the node as it is planned.
pub(super) fn requantized(
    revision: &Revision<'_>,
    (id, node): (NodeId, &Node),
    (gemm, x, codes): (&Gemm, &Ported, &Codes),
    result: &Codes,
    names: &mut Names,
) -> Result<Vec<NodeDef>, String> {
    if result.is_signed() {
        return Err("there is no such operator with negative codes".into());
    }
    let name = names.fresh(&format!("{}_eightbit_requantize", node.name));
    let product = Product { revision, id, node, gemm, x, codes };
    let written = (result.dtype, [result.low, result.high]);
    product.nodes("QuantizedMatMulWithBiasAndReluAndRequantize", name, written, names)
}

/// A matrix product as it is planned.
struct Product<'a> {
    revision: &'a Revision<'a>,
    id: NodeId,
    node: &'a Node,
    gemm: &'a Gemm,
    x: &'a Ported,
    codes: &'a Codes,
}

impl Product<'_> {
    fn nodes(
        &self,
        op: &str,
        name: String,
        (dtype, [low, high]): (DataType, [f32; 2]),
        names: &mut Names,
    ) -> Result<Vec<NodeDef>, String> {
        let weight = weight(self.revision, self.id)?;
        let &[scale] = weight.params.scale() else { return Err("its weight has a scale for each column".into()) };
        let codes = matrix(&weight.codes, self.gemm.trans_b)?;
        let columns = codes.shape().last().copied().unwrap_or(1);
        let bias = bias(self.revision, (self.id, self.node), columns)?;
        let (stem, own) = (stem(self.revision, self.node), &self.node.name);
        let mut made = vec![
            ranges::constant(names.fresh(&format!("{stem}_qint8_const")), DataType::QINT8, &codes)?,
            ranges::constant(names.fresh(&format!("{own}_eightbit_bias")), DataType::QINT32, &bias)?,
            ranges::scalar(names.fresh(&format!("{stem}_min")), -scale * ranges::SIGNED),
            ranges::scalar(names.fresh(&format!("{stem}_max")), scale * ranges::SIGNED),
            ranges::scalar(names.fresh(&format!("{own}_eightbit_requant_range/frozen_min")), low),
            ranges::scalar(names.fresh(&format!("{own}_eightbit_requant_range/frozen_max")), high),
        ];
        let constants: Vec<String> = made.iter().map(|node| node.name().to_owned()).collect();
        let [x, x_low, x_high] = self.x.names();
        let (factors, ends) = constants.split_at(2);
        let inputs = [x].into_iter().chain(factors.iter().cloned()).chain([x_low, x_high]).chain(ends.iter().cloned());
        let fused = NodeDef::new(name, op)
            .with_inputs(inputs)
            .with_attr("T1", self.codes.dtype)
            .with_attr("T2", DataType::QINT8)
            .with_attr("Tbias", DataType::QINT32)
            .with_attr("Toutput", dtype)
            .with_attr("input_quant_mode", ranges::SCALED);
        made.push(fused);
        Ok(made)
    }
}

/// Codes of a matrix as `[depth, columns]`.
fn matrix(codes: &Tensor, is_transposed: bool) -> Result<Tensor, String> {
    let (&[rows, columns], true) = (codes.shape(), is_transposed) else { return Ok(codes.clone()) };
    let elements = codes.as_slice::<i8>().map_err(|error| error.to_string())?;
    let turned = (0..columns).flat_map(|column| elements.iter().skip(column).step_by(columns.max(1)).copied());
    Tensor::new([columns, rows], turned.collect::<Vec<i8>>()).map_err(|error| error.to_string())
}
