//! What tests of operators share.

use crate::error::OpError;
use crate::operands::Operands;
use crate::pool::Pool;
use quantize_ir::Tensor;

/// The first result of an operator on the given operands.
pub(crate) fn run(
    operands: &[&Tensor],
    f: impl FnOnce(Operands<'_>, &mut Pool) -> Result<Vec<Tensor>, OpError>,
) -> Result<Tensor, OpError> {
    let slots: Vec<Option<&Tensor>> = operands.iter().map(|t| Some(*t)).collect();
    f(Operands(&slots), &mut Pool::default()).map(|mut results| results.swap_remove(0))
}

/// Asserts that `actual` is within `tolerance` of `expected`, relative to magnitudes above one.
pub(crate) fn assert_close(name: &str, actual: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(actual.len(), expected.len(), "{name}: {actual:?} for {expected:?}");
    let close = |a: f32, e: f32| a == e || (a - e).abs() <= tolerance * e.abs().max(1.0) || (a.is_nan() && e.is_nan());
    assert!(actual.iter().zip(expected).all(|(&a, &e)| close(a, e)), "{name}: {actual:?} for {expected:?}");
}

/// `1, 2, 3, …` in the given shape.
pub(crate) fn counting(shape: &[usize]) -> Tensor {
    let len = shape.iter().product::<usize>();
    Tensor::new(shape, (1..=len).map(|i| i as f32).collect::<Vec<f32>>()).unwrap()
}
