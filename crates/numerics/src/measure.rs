//! Error measures between a reference and an approximation, in f64.
//!
//! Slices of one call must have equal lengths. NaN in either slice makes a sum NaN; it is passed on, not hidden.

use crate::NumericsError;
use crate::affine::check_len;

/// Running sums for the signal-to-quantization-noise ratio Σ‖y‖² / Σ‖y − ŷ‖².
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct SqnrAccumulator {
    signal: f64,
    noise: f64,
}

impl SqnrAccumulator {
    /// Sums of nothing.
    pub const fn new() -> Self {
        Self { signal: 0.0, noise: 0.0 }
    }

    /// Adds one pair of slices.
    ///
    /// # Errors
    /// [`NumericsError::LengthMismatch`].
    pub fn add(&mut self, reference: &[f32], approximation: &[f32]) -> Result<(), NumericsError> {
        check_len("approximation", reference.len(), approximation.len())?;
        for (&y, &approximate) in reference.iter().zip(approximation) {
            let (y, error) = (f64::from(y), f64::from(y) - f64::from(approximate));
            self.signal += y * y;
            self.noise += error * error;
        }
        Ok(())
    }

    /// Ratio in dB; see [`sqnr_db_of`] for the limits.
    pub fn db(&self) -> f64 {
        sqnr_db_of(self.signal, self.noise)
    }
}

/// 10·log₁₀(signal / noise) of two energies: +∞ without noise (even without signal), −∞ for noise without signal.
pub fn sqnr_db_of(signal: f64, noise: f64) -> f64 {
    if noise == 0.0 { f64::INFINITY } else { 10.0 * (signal / noise).log10() }
}

/// Signal-to-quantization-noise ratio of one pair, in dB.
///
/// # Errors
/// [`NumericsError::LengthMismatch`].
pub fn sqnr_db(reference: &[f32], approximation: &[f32]) -> Result<f64, NumericsError> {
    let mut sums = SqnrAccumulator::new();
    sums.add(reference, approximation)?;
    Ok(sums.db())
}

/// Mean over images of the ratio in dB; `None` without images.
///
/// # Errors
/// [`NumericsError::LengthMismatch`].
pub fn mean_sqnr_db<'a>(
    images: impl IntoIterator<Item = (&'a [f32], &'a [f32])>,
) -> Result<Option<f64>, NumericsError> {
    let (mut sum, mut n) = (0.0, 0u64);
    for (reference, approximation) in images {
        sum += sqnr_db(reference, approximation)?;
        n += 1;
    }
    Ok((n > 0).then(|| sum / n as f64))
}

/// Cosine of the angle between two vectors: 1 if both are zero, 0 if one is.
///
/// # Errors
/// [`NumericsError::LengthMismatch`].
pub fn cosine(reference: &[f32], approximation: &[f32]) -> Result<f64, NumericsError> {
    check_len("approximation", reference.len(), approximation.len())?;
    let (mut dot, mut left, mut right) = (0.0, 0.0, 0.0);
    for (&a, &b) in reference.iter().zip(approximation) {
        let (a, b) = (f64::from(a), f64::from(b));
        dot += a * b;
        left += a * a;
        right += b * b;
    }
    Ok(if left == 0.0 && right == 0.0 {
        1.0
    } else if left == 0.0 || right == 0.0 {
        0.0
    } else {
        dot / (left.sqrt() * right.sqrt())
    })
}

/// Largest |y − ŷ|; 0 for empty slices, NaN if any difference is NaN.
///
/// # Errors
/// [`NumericsError::LengthMismatch`].
pub fn max_abs_error(reference: &[f32], approximation: &[f32]) -> Result<f64, NumericsError> {
    check_len("approximation", reference.len(), approximation.len())?;
    let errors = reference.iter().zip(approximation).map(|(&a, &b)| (f64::from(a) - f64::from(b)).abs());
    Ok(errors.fold(0.0, |largest: f64, error| if error > largest || error.is_nan() { error } else { largest }))
}

/// Index of the largest value; of equal ones the lowest. NaN never wins; `None` if there is no number.
pub fn top1(scores: &[f32]) -> Option<usize> {
    let mut best: Option<usize> = None;
    for (index, &score) in scores.iter().enumerate() {
        if !score.is_nan() && best.is_none_or(|best| score > scores[best]) {
            best = Some(index);
        }
    }
    best
}

/// Share of images whose [`top1`] agrees; an image without a top-1 on either side does not agree. `None` without
/// images.
pub fn top1_agreement<'a>(images: impl IntoIterator<Item = (&'a [f32], &'a [f32])>) -> Option<f64> {
    let (mut agreeing, mut n) = (0u64, 0u64);
    for (reference, approximation) in images {
        let (a, b) = (top1(reference), top1(approximation));
        agreeing += u64::from(a.is_some() && a == b);
        n += 1;
    }
    (n > 0).then(|| agreeing as f64 / n as f64)
}

/// Kullback–Leibler divergence KL(softmax(y) ‖ softmax(ŷ)) of two vectors of logits, in nats; 0 for empty ones.
///
/// # Errors
/// [`NumericsError::LengthMismatch`].
pub fn kl_softmax(reference: &[f32], approximation: &[f32]) -> Result<f64, NumericsError> {
    check_len("approximation", reference.len(), approximation.len())?;
    let (log_p, log_q) = (log_softmax(reference), log_softmax(approximation));
    let term = |(&log_p, &log_q): (&f64, &f64)| {
        let p = log_p.exp();
        // A logit of −∞ has probability 0 and contributes nothing.
        if p == 0.0 { 0.0 } else { p * (log_p - log_q) }
    };
    let sum: f64 = log_p.iter().zip(&log_q).map(term).sum();
    // Rounding may leave a tiny negative sum; NaN is kept.
    Ok(if sum < 0.0 { 0.0 } else { sum })
}

fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let largest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits.iter().map(|&x| (f64::from(x) - largest).exp()).sum();
    logits.iter().map(|&x| f64::from(x) - largest - sum.ln()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sqnr_has_a_closed_form() {
        let cases = [
            ("20 dB", vec![1.0, 0.0], vec![1.0, 0.1], 20.0),
            ("equal", vec![1.0, 2.0], vec![1.0, 2.0], f64::INFINITY),
            ("noise only", vec![0.0], vec![1.0], f64::NEG_INFINITY),
            ("nothing", vec![], vec![], f64::INFINITY),
            ("zeros", vec![0.0], vec![0.0], f64::INFINITY),
        ];
        for (name, y, approximate, expected) in cases {
            let found = sqnr_db(&y, &approximate).unwrap();
            assert!(found == expected || (found - expected).abs() < 1e-6, "{name}: {found}");
        }
        assert!(sqnr_db(&[f32::NAN], &[1.0]).unwrap().is_nan());
        assert!(sqnr_db(&[1.0], &[1.0, 2.0]).is_err());
    }

    #[test]
    fn sums_and_means_over_images_differ() {
        let images: [(&[f32], &[f32]); 2] = [(&[1.0], &[0.9]), (&[10.0], &[0.0])];
        let mut sums = SqnrAccumulator::new();
        images.iter().for_each(|(y, approximate)| sums.add(y, approximate).unwrap());
        assert!((sums.db() - 10.0 * (101.0f64 / 100.01).log10()).abs() < 1e-6);
        assert!((mean_sqnr_db(images).unwrap().unwrap() - 10.0).abs() < 1e-5);
        assert_eq!(mean_sqnr_db([]).unwrap(), None);
    }

    #[test]
    fn cosine_and_its_limits() {
        for (a, b, expected) in [
            (vec![1.0, 0.0], vec![1.0, 1.0], 0.5f64.sqrt()),
            (vec![1.0], vec![-3.0], -1.0),
            (vec![0.0], vec![0.0], 1.0),
            (vec![0.0], vec![1.0], 0.0),
        ] {
            assert!((cosine(&a, &b).unwrap() - expected).abs() < 1e-12, "{a:?} {b:?}");
        }
        assert!(cosine(&[1.0], &[]).is_err());
    }

    #[test]
    fn largest_error_keeps_nan() {
        assert_eq!(max_abs_error(&[1.0, -2.0], &[1.5, 2.0]).unwrap(), 4.0);
        assert_eq!(max_abs_error(&[], &[]).unwrap(), 0.0);
        assert!(max_abs_error(&[f32::NAN, 1.0], &[0.0, 0.0]).unwrap().is_nan());
        assert!(max_abs_error(&[1.0], &[]).is_err());
    }

    #[test]
    fn top1_prefers_the_lowest_index() {
        assert_eq!(top1(&[1.0, 3.0, 3.0]), Some(1));
        assert_eq!(top1(&[f32::NAN, -1.0]), Some(1));
        assert_eq!(top1(&[f32::NEG_INFINITY]), Some(0));
        assert_eq!((top1(&[]), top1(&[f32::NAN])), (None, None));
    }

    #[test]
    fn agreement_counts_images() {
        let images: [(&[f32], &[f32]); 4] = [
            (&[1.0, 2.0], &[0.0, 9.0]),
            (&[1.0, 1.0], &[2.0, 2.0]),
            (&[1.0, 0.0], &[0.0, 1.0]),
            (&[f32::NAN], &[f32::NAN]),
        ];
        assert_eq!(top1_agreement(images), Some(0.5));
        assert_eq!(top1_agreement([]), None);
    }

    #[test]
    fn divergence_has_a_closed_form() {
        let logits = [2f32.ln(), 0.0];
        let expected = 2.0 / 3.0 * (4.0f64 / 3.0).ln() + 1.0 / 3.0 * (2.0f64 / 3.0).ln();
        assert!((kl_softmax(&logits, &[0.0, 0.0]).unwrap() - expected).abs() < 1e-7);
        assert_eq!(kl_softmax(&[1e30, -1e30], &[1e30, -1e30]).unwrap(), 0.0);
        assert_eq!(kl_softmax(&[0.0, f32::NEG_INFINITY], &[0.0, f32::NEG_INFINITY]).unwrap(), 0.0);
        assert_eq!(kl_softmax(&[0.0, 0.0], &[0.0, f32::NEG_INFINITY]).unwrap(), f64::INFINITY);
        assert_eq!(kl_softmax(&[], &[]).unwrap(), 0.0);
        assert!(kl_softmax(&[f32::NAN, 0.0], &[0.0, 0.0]).unwrap().is_nan());
        assert!(kl_softmax(&[1.0], &[]).is_err());
    }
}
