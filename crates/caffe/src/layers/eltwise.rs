//! Sums, products and maxima of several blobs of the same shape.

use super::Row;
use super::builder::{Fault, LayerBuilder};
use super::shape::common;
use quantize_ir::op::{Binary, Nary};
use quantize_ir::{Op, Shape, ValueId};

pub(super) const ROWS: &[Row] = &[Row { kind: "Eltwise", bottoms: 2..=super::MANY, tops: 1..=1, read: eltwise }];

#[derive(Clone, Copy, PartialEq)]
enum Operation {
    Product,
    Sum,
    Maximum,
}

/// `EltwiseParameter.EltwiseOp`
const OPERATIONS: &[(&str, u64, Operation)] =
    &[("PROD", 0, Operation::Product), ("SUM", 1, Operation::Sum), ("MAX", 2, Operation::Maximum)];

fn eltwise(layer: &mut LayerBuilder<'_>) -> Result<(), Fault> {
    let params = layer.params("eltwise_param")?;
    let operation = params.choice("operation", OPERATIONS)?.unwrap_or(Operation::Sum);
    let coefficients = params.floats("coeff")?;
    let inputs = layer.inputs().to_vec();
    if !coefficients.is_empty() && (operation != Operation::Sum || coefficients.len() != inputs.len()) {
        let cause = format!("{} coefficients for {} blobs; only sums have them", coefficients.len(), inputs.len());
        return Err(params.error("coeff", cause).into());
    }
    let shape = common(layer, &inputs)?;
    let y = match operation {
        Operation::Sum => sum(layer, &inputs, &coefficients, shape),
        Operation::Product => product(layer, &inputs, shape)?,
        Operation::Maximum => layer.main(Op::Nary(Nary::Max), &inputs, shape),
    };
    layer.set_results(vec![y]);
    Ok(())
}

fn sum(layer: &mut LayerBuilder<'_>, inputs: &[ValueId], coefficients: &[f32], shape: Option<Shape>) -> ValueId {
    match (inputs, coefficients) {
        ([a, b], [1.0, -1.0]) => return layer.main(Op::Binary(Binary::Sub), &[*a, *b], shape),
        ([a, b], [-1.0, 1.0]) => return layer.main(Op::Binary(Binary::Sub), &[*b, *a], shape),
        _ => {}
    }
    let ones = std::iter::repeat(&1.0f32);
    let mut terms = Vec::with_capacity(inputs.len());
    for (i, (input, coefficient)) in inputs.iter().zip(coefficients.iter().chain(ones)).enumerate() {
        terms.push(if *coefficient == 1.0 {
            *input
        } else {
            let constant = layer.scalar(&format!("coeff_{i}"), *coefficient);
            layer.helper(&format!("term_{i}"), Op::Binary(Binary::Mul), &[*input, constant], shape.clone())
        });
    }
    let op = if terms.len() == 2 { Op::Binary(Binary::Add) } else { Op::Nary(Nary::Sum) };
    layer.main(op, &terms, shape)
}

/// Products of two, one after another; the last is the main operator.
fn product(layer: &mut LayerBuilder<'_>, inputs: &[ValueId], shape: Option<Shape>) -> Result<ValueId, Fault> {
    let Some((last, [first, middle @ ..])) = inputs.split_last() else {
        return Err(Fault::invalid("it reads one blob"));
    };
    let mut so_far = *first;
    for (i, factor) in middle.iter().enumerate() {
        let factors = [so_far, *factor];
        so_far = layer.helper(&format!("product_{i}"), Op::Binary(Binary::Mul), &factors, shape.clone());
    }
    Ok(layer.main(Op::Binary(Binary::Mul), &[so_far, *last], shape))
}
