//! How far two outputs are apart.

use quantize_pipeline::Tensor;

/// The largest difference as a part of the largest finite magnitude of `theirs`; infinite if shapes, types or integers
/// differ, or only one of two numbers is NaN or infinite.
pub(super) fn relative_difference(ours: &Tensor, theirs: &Tensor) -> f64 {
    let largest = absolute_difference(ours, theirs);
    if largest == 0.0 { 0.0 } else { largest / magnitude(theirs) }
}

/// The largest difference; infinite if shapes, types or integers differ, or only one of two numbers is NaN or infinite.
pub(super) fn absolute_difference(ours: &Tensor, theirs: &Tensor) -> f64 {
    if ours.shape() != theirs.shape() {
        return f64::INFINITY;
    }
    match (reals(ours), reals(theirs)) {
        (Some(a), Some(b)) if ours.dtype() == theirs.dtype() => largest_difference(&a, &b),
        _ if ours == theirs => 0.0,
        _ => f64::INFINITY,
    }
}

/// The elements of a tensor of real numbers.
fn reals(tensor: &Tensor) -> Option<Vec<f64>> {
    match (tensor.as_slice::<f32>(), tensor.as_slice::<f64>()) {
        (Ok(values), _) => Some(values.iter().copied().map(f64::from).collect()),
        (_, Ok(values)) => Some(values.to_vec()),
        _ => None,
    }
}

fn largest_difference(ours: &[f64], theirs: &[f64]) -> f64 {
    let difference = |(a, b): (&f64, &f64)| match a - b {
        _ if a == b || (a.is_nan() && b.is_nan()) => 0.0,
        d if d.is_nan() => f64::INFINITY,
        d => d.abs(),
    };
    ours.iter().zip(theirs).map(difference).fold(0.0, f64::max)
}

/// The largest finite magnitude; 0 of what are no real numbers.
fn magnitude(tensor: &Tensor) -> f64 {
    let values = reals(tensor).unwrap_or_default();
    values.iter().map(|value| value.abs()).filter(|value| value.is_finite()).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_never_hide_anything() {
        let vector = |values: &[f32]| Tensor::vector(values.to_vec());
        let cases = [
            ("equal", vector(&[1.0, -4.0]), vector(&[1.0, -4.0]), (0.0, 0.0)),
            ("a part of the scale", vector(&[1.0, -4.0]), vector(&[2.0, -4.0]), (0.25, 1.0)),
            ("another shape", vector(&[1.0]), vector(&[1.0, 1.0]), (f64::INFINITY, f64::INFINITY)),
            ("not a number", vector(&[f32::NAN]), vector(&[1.0]), (f64::INFINITY, f64::INFINITY)),
            ("not a number either", vector(&[1.0]), vector(&[f32::NAN]), (f64::INFINITY, f64::INFINITY)),
            ("both not a number", vector(&[f32::NAN, 1.0]), vector(&[f32::NAN, 2.0]), (0.5, 1.0)),
            ("both infinite", vector(&[f32::INFINITY, 1.0]), vector(&[f32::INFINITY, 2.0]), (0.5, 1.0)),
            ("infinities apart", vector(&[f32::INFINITY]), vector(&[-f32::INFINITY]), (f64::INFINITY, f64::INFINITY)),
            ("beside zeros", vector(&[1.0]), vector(&[0.0]), (f64::INFINITY, 1.0)),
            ("double precision", Tensor::vector(vec![2.0f64, -1.5]), Tensor::vector(vec![2.0f64, -1.0]), (0.25, 0.5)),
            ("another precision", Tensor::vector(vec![2.0f64]), vector(&[2.0]), (f64::INFINITY, f64::INFINITY)),
            ("equal integers", Tensor::vector(vec![3i64]), Tensor::vector(vec![3i64]), (0.0, 0.0)),
            ("other integers", Tensor::vector(vec![3i64]), Tensor::vector(vec![4i64]), (f64::INFINITY, f64::INFINITY)),
            ("another type", Tensor::vector(vec![3i64]), vector(&[3.0]), (f64::INFINITY, f64::INFINITY)),
        ];
        for (name, ours, theirs, expected) in cases {
            let differences = (relative_difference(&ours, &theirs), absolute_difference(&ours, &theirs));
            assert_eq!(differences, expected, "{name}");
        }
    }
}
