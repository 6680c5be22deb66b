//! Ranges along axes.

use super::resolve_axes;
use crate::error::OpError;
use crate::operands::Operands;
use crate::ops::dispatch::on_elements;
use crate::ops::strided::{View, dense_strides};
use crate::pool::Pool;
use quantize_ir::{Tensor, TensorData};

/// Takes the range `start..end` in steps along each given axis; bounds may be negative and are cut to the axis.
///
/// # Errors
/// If a step is zero, an axis comes twice, or the lists differ in length.
pub(crate) fn slice(operands: Operands<'_>, pool: &mut Pool) -> Result<Vec<Tensor>, OpError> {
    let x = operands.required(0)?;
    let (starts, ends) = (operands.required(1)?.to_i64_vec()?, operands.required(2)?.to_i64_vec()?);
    let axes = operands.optional(3).map(Tensor::to_i64_vec).transpose()?;
    let axes = axes.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = operands.optional(4).map(Tensor::to_i64_vec).transpose()?.unwrap_or_else(|| vec![1; starts.len()]);
    if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
        return Err(OpError::shape("starts, ends, axes and steps differ in length"));
    }
    let mut view = View { shape: x.shape().to_vec(), strides: dense_strides(x.shape()), offset: 0 };
    for (i, axis) in resolve_axes(&axes, x.rank())?.into_iter().enumerate() {
        let range = range(starts[i], ends[i], steps[i], x.shape()[axis])?;
        view.offset += range.start * view.strides[axis];
        view.strides[axis] = view.strides[axis].wrapping_mul(range.step);
        view.shape[axis] = range.count;
    }
    let shape = view.shape.clone();
    let y = on_elements!(x.data(), v => view.materialize(v, shape, pool))?;
    Ok(vec![y])
}

struct Range {
    start: isize,
    step: isize,
    count: usize,
}

fn range(start: i64, end: i64, step: i64, dim: usize) -> Result<Range, OpError> {
    if step == 0 {
        return Err(OpError::shape("a slice with step 0"));
    }
    let dim = dim as i128;
    let (low, high) = if step > 0 { (0, dim) } else { (-1, dim - 1) };
    let bound = |b: i64| (if b < 0 { i128::from(b) + dim } else { i128::from(b) }).clamp(low, high);
    let (start, end, step) = (bound(start), bound(end), i128::from(step));
    let span = if step > 0 { end - start } else { start - end };
    let count = if span <= 0 { 0 } else { (span - 1) / step.abs() + 1 };
    // An empty range never reads, and a single element never steps: both stay inside the operand.
    let start = if count == 0 { 0 } else { start };
    let step = if count <= 1 { 0 } else { step };
    Ok(Range { start: start as isize, step: step as isize, count: count as usize })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{counting, run};

    #[test]
    fn ranges() {
        let cases: [(&str, [i64; 3], &[f32]); 9] = [
            ("plain", [1, 3, 1], &[2.0, 3.0]),
            ("negative bounds", [-3, -1, 1], &[3.0, 4.0]),
            ("end beyond", [3, i64::MAX, 1], &[4.0, 5.0]),
            ("steps", [0, 5, 2], &[1.0, 3.0, 5.0]),
            ("backwards", [-1, i64::MIN, -2], &[5.0, 3.0, 1.0]),
            ("backwards from beyond", [100, 2, -1], &[5.0, 4.0]),
            ("empty", [3, 3, 1], &[]),
            ("reversed bounds", [4, 1, 1], &[]),
            ("one huge step", [2, 5, i64::MAX], &[3.0]),
        ];
        let x = counting(&[5]);
        for (name, [start, end, step], expected) in cases {
            let operands = [start, end, 0, step].map(|v| Tensor::vector(vec![v]));
            let y = run(&[&x, &operands[0], &operands[1], &operands[2], &operands[3]], slice);
            assert_eq!(y, Ok(Tensor::vector(expected.to_vec())), "{name}");
        }
    }

    #[test]
    fn inner_axes_of_any_type() {
        let x = Tensor::new([2, 3], vec![1u16, 2, 3, 4, 5, 6]).unwrap();
        let [starts, ends, axes] = [1, 3, -1].map(|v| Tensor::vector(vec![v]));
        let y = run(&[&x, &starts, &ends, &axes], slice);
        assert_eq!(y, Ok(Tensor::new([2, 2], vec![2u16, 3, 5, 6]).unwrap()));
        let zero = Tensor::vector(vec![0i32]);
        assert!(run(&[&x, &starts, &ends, &axes, &zero], slice).is_err());
    }
}
