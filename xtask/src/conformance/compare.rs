//! How far two outputs are apart.

use quantize_pipeline::Tensor;

/// The largest difference as a part of the largest magnitude of `theirs`; infinite if shapes, types or integers
/// differ or a number is NaN.
pub(super) fn relative_difference(ours: &Tensor, theirs: &Tensor) -> f64 {
    let largest = absolute_difference(ours, theirs);
    if largest == 0.0 { 0.0 } else { largest / magnitude(theirs) }
}

/// The largest difference; infinite if shapes, types or integers differ or a number is NaN.
pub(super) fn absolute_difference(ours: &Tensor, theirs: &Tensor) -> f64 {
    if ours.shape() != theirs.shape() {
        return f64::INFINITY;
    }
    match (ours.as_slice::<f32>(), theirs.as_slice::<f32>()) {
        (Ok(ours), Ok(theirs)) => largest_difference(ours, theirs),
        _ if ours == theirs => 0.0,
        _ => f64::INFINITY,
    }
}

fn largest_difference(ours: &[f32], theirs: &[f32]) -> f64 {
    let differences = ours.iter().zip(theirs).map(|(a, b)| (f64::from(*a) - f64::from(*b)).abs());
    differences.fold(0.0, |largest, d| if d.is_nan() { f64::INFINITY } else { f64::max(largest, d) })
}

/// The largest magnitude; 0 of what is not float32.
fn magnitude(tensor: &Tensor) -> f64 {
    let values = tensor.as_slice::<f32>().unwrap_or_default();
    values.iter().map(|value| f64::from(value.abs())).fold(0.0, f64::max)
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
            ("beside zeros", vector(&[1.0]), vector(&[0.0]), (f64::INFINITY, 1.0)),
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
