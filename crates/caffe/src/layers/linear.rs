//! The fully connected layer. Weights are `[output, input]`, or `[input, output]` if they are transposed.

use super::Row;
use super::builder::{Fault, LayerBuilder};
use super::shape::{axis, dim, known, product};
use quantize_ir::op::{Flatten, Gemm};
use quantize_ir::{Dim, Op, ValueId};

pub(super) const ROWS: &[Row] = &[Row { kind: "InnerProduct", bottoms: 1..=1, tops: 1..=1, read: inner_product }];

fn inner_product(layer: &mut LayerBuilder<'_>) -> Result<(), Fault> {
    let params = layer.params("inner_product_param")?;
    let outputs = params.positive("num_output")?;
    let (bias, transposed) = (params.flag("bias_term", true)?, params.flag("transpose", false)?);
    let x = layer.x()?;
    let shape = layer.shape(x);
    let at = params.int_or("axis", 1)?;
    let at = shape.as_ref().map_or(Ok(at), |shape| axis(at, shape).map(|at| at as i64))?;
    if at != 1 {
        return Err(Fault::form("it does not flatten from axis 1 on"));
    }
    let elements = shape.as_ref().and_then(|shape| product(shape.get(1..)?)).map_or(Dim::Unknown, known);
    let batch = shape.as_ref().map_or(Dim::Unknown, |shape| dim(shape, 0));
    layer.need_blobs(1 + usize::from(bias))?;
    let expected = if transposed { [elements, known(outputs)] } else { [known(outputs), elements] };
    let weight = layer.blob(0, "weight", &expected)?;
    let bias = if bias { Some(layer.blob(1, "bias", &[known(outputs)])?) } else { None };
    let matrix = flattened(layer, x);
    let op = Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: !transposed };
    let operands: Vec<_> = [matrix, weight].into_iter().chain(bias).collect();
    let y = layer.main(Op::Gemm(op), &operands, Some(vec![batch, known(outputs)]));
    layer.set_results(vec![y]);
    Ok(())
}

/// A value with all axes but the batch joined, as a matrix.
pub(super) fn flattened(layer: &mut LayerBuilder<'_>, x: ValueId) -> ValueId {
    let matrix = match layer.shape(x) {
        Some(shape) if shape.len() == 2 => return x,
        Some(shape) => shape.split_first().map(|(batch, rest)| (batch.clone(), product(rest))),
        None => None,
    };
    let (batch, elements) = matrix.unwrap_or((Dim::Unknown, None));
    let result = vec![batch, elements.map_or(Dim::Unknown, known)];
    layer.helper("flatten", Op::Flatten(Flatten { axis: 1 }), &[x], Some(result))
}
