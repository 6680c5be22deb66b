//! Reductions, and the place of the largest element.

use super::Row;
use super::builder::{Fault, LayerBuilder};
use super::linear::flattened;
use super::shape::{axis, dim, known};
use quantize_ir::op::{ArgMax, Binary, Cast, Reduce, ReduceKind, Reshape};
use quantize_ir::{DType, Op};

pub(super) const ROWS: &[Row] = &[
    Row { kind: "Reduction", bottoms: 1..=1, tops: 1..=1, read: reduction },
    Row { kind: "ArgMax", bottoms: 1..=1, tops: 1..=1, read: arg_max },
];

/// `ReductionParameter.ReductionOp`
const OPERATIONS: &[(&str, u64, ReduceKind)] = &[
    ("SUM", 1, ReduceKind::Sum),
    ("ASUM", 2, ReduceKind::L1),
    ("SUMSQ", 3, ReduceKind::SumSquare),
    ("MEAN", 4, ReduceKind::Mean),
];

/// All axes from `axis` on become one number, times `coeff`.
fn reduction(layer: &mut LayerBuilder<'_>) -> Result<(), Fault> {
    let params = layer.params("reduction_param")?;
    let kind = params.choice("operation", OPERATIONS)?.unwrap_or(ReduceKind::Sum);
    let coefficient = params.float_or("coeff", 1.0)?;
    let x = layer.x()?;
    let shape = layer.known_shape(x)?;
    let first = axis(params.int_or("axis", 0)?, &shape)?;
    let axes = layer.integers("axes", (first as i64..shape.len() as i64).collect());
    let result: Vec<_> = shape.into_iter().take(first).collect();
    let op = Op::Reduce(Reduce { kind, keep_dims: false, noop_with_empty_axes: false });
    let mut y = layer.main(op, &[x, axes], Some(result.clone()));
    if coefficient != 1.0 {
        let constant = layer.scalar("coeff", coefficient);
        y = layer.helper("scaled", Op::Binary(Binary::Mul), &[y, constant], Some(result));
    }
    layer.set_results(vec![y]);
    Ok(())
}

/// The place of the largest element along `axis`, or in a whole sample, as a real number.
fn arg_max(layer: &mut LayerBuilder<'_>) -> Result<(), Fault> {
    let params = layer.params("argmax_param")?;
    if params.size("top_k")?.unwrap_or(1) != 1 {
        return Err(Fault::form("it finds several elements (`top_k`)"));
    }
    if params.flag("out_max_val", false)? {
        return Err(Fault::form("its result is the element too (`out_max_val`)"));
    }
    let x = layer.x()?;
    let shape = layer.known_shape(x)?;
    let given = params.int("axis")?.map(|at| axis(at, &shape)).transpose()?;
    let at = given.unwrap_or(1);
    let batch = dim(&shape, 0);
    let operand = match given {
        Some(_) => x,
        None => flattened(layer, x),
    };
    let found: Vec<_> = match given {
        Some(at) => shape.iter().enumerate().map(|(i, dim)| if i == at { known(1) } else { dim.clone() }).collect(),
        None => vec![batch.clone(), known(1)],
    };
    // Of equal elements Caffe finds the last.
    let op = Op::ArgMax(ArgMax { axis: at as i64, keep_dims: true, select_last: true });
    let place = layer.main(op, &[operand], Some(found.clone()));
    layer.set_integer(place);
    let mut y = layer.helper("real", Op::Cast(Cast { to: DType::F32 }), &[place], Some(found));
    if given.is_none() {
        let target = layer.integers("shape", vec![0, 1, 1]);
        let result = Some(vec![batch, known(1), known(1)]);
        y = layer.helper("reshaped", Op::Reshape(Reshape { allow_zero: false }), &[y, target], result);
    }
    layer.set_results(vec![y]);
    Ok(())
}
