//! Scale and zero point of a few weights that share them: a group along the axis that a product sums over.
//!
//! Few codes for few weights leave no room for a range that follows from the extremes alone, so the squared error is
//! made small instead. What does not live here: which weights form a group, and codes that look at more than one weight.

use crate::affine::MIN_SCALE;
use crate::{AffineParams, NumericsError, QuantType};

/// Shares of the range from the smallest to the largest weight that are tried.
const SHARES: [f32; 10] = [1.0, 0.95, 0.9, 0.86, 0.82, 0.78, 0.74, 0.7, 0.65, 0.6];

/// Zero points that are tried, counted from the one that follows from the range.
const SHIFTS: [i32; 3] = [0, -1, 1];

/// Times codes and scale are fitted to each other at the end.
const REFITS: usize = 8;

/// Parameters of least squared error for `weights`, each of which gets the nearest code: the best of some shares of the
/// range with neighbouring zero points, then alternately the nearest codes for a scale and the scale
/// `sum w (q - z) / sum (q - z)²` for codes, neither of which can raise the error. Zero is always representable.
/// Weights too small for a usable scale, or none, get the scale 1 and the code of zero.
///
/// # Errors
/// [`NumericsError::NonFiniteWeight`] with the index of the weight as channel.
pub fn least_error_params(weights: &[f32], qtype: QuantType) -> Result<AffineParams, NumericsError> {
    if let Some(channel) = weights.iter().position(|w| !w.is_finite()) {
        return Err(NumericsError::NonFiniteWeight { channel });
    }
    let (lo, hi) = weights.iter().fold((0f64, 0f64), |(lo, hi), w| (lo.min((*w).into()), hi.max((*w).into())));
    let (steps, lowest) = (qtype.steps() as f64, f64::from(qtype.qmin()));
    let widest = if qtype.is_symmetric() { hi.max(-lo) / f64::from(qtype.qmax()) } else { (hi - lo) / steps };
    if widest < MIN_SCALE {
        return AffineParams::new(1.0, 0, qtype);
    }
    let centre = if qtype.is_symmetric() { 0 } else { (lowest - lo / widest).round_ties_even() as i32 };
    let candidate =
        |share: f32, shift: i32| AffineParams::new((widest * f64::from(share)) as f32, centre + shift, qtype);
    let candidates = SHIFTS.iter().flat_map(|shift| SHARES.iter().filter_map(|share| candidate(*share, *shift).ok()));
    let fitted = candidates.map(|params| (squared_error(weights, &params), params));
    let best = fitted.min_by(|a, b| a.0.total_cmp(&b.0));
    let Some(best) = best else { return Err(NumericsError::InvalidScale { scale: widest as f32 }) };
    Ok(refitted(weights, best))
}

/// Codes and scale fitted to each other as long as that lowers the error.
fn refitted(weights: &[f32], (mut error, mut params): (f32, AffineParams)) -> AffineParams {
    for _ in 0..REFITS {
        let Some(next) = fitted_scale(weights, &params) else { break };
        let found = squared_error(weights, &next);
        if found >= error {
            break;
        }
        (error, params) = (found, next);
    }
    params
}

/// The scale of least squared error for the codes nearest to `weights`.
fn fitted_scale(weights: &[f32], params: &AffineParams) -> Option<AffineParams> {
    let level = |w: f32| f64::from(params.quantize(w) - params.zero_point());
    let (shared, own) = weights.iter().fold((0.0, 0.0), |(shared, own), w| {
        let level = level(*w);
        (shared + f64::from(*w) * level, own + level * level)
    });
    AffineParams::new((shared / own) as f32, params.zero_point(), params.qtype()).ok()
}

/// Summed in a fixed number of lanes, so that the sum is the same on every processor.
fn squared_error(weights: &[f32], params: &AffineParams) -> f32 {
    const LANES: usize = 8;
    let (scale, inverse) = (params.scale(), params.scale().recip());
    let lo = (params.qtype().qmin() - params.zero_point()) as f32;
    let hi = (params.qtype().qmax() - params.zero_point()) as f32;
    let square = |w: f32| {
        let error = (w * inverse).round_ties_even().clamp(lo, hi) * scale - w;
        error * error
    };
    let mut sums = [0f32; LANES];
    let chunks = weights.chunks_exact(LANES);
    let rest: f32 = chunks.remainder().iter().map(|w| square(*w)).sum();
    for chunk in chunks {
        sums.iter_mut().zip(chunk).for_each(|(sum, w)| *sum += square(*w));
    }
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Range, params_from_range};
    use proptest::prelude::*;

    fn error(weights: &[f32], params: &AffineParams) -> f64 {
        weights.iter().map(|w| f64::from(params.dequantize(params.quantize(*w)) - w).powi(2)).sum()
    }

    proptest! {
        #[test]
        fn never_worse_than_the_range(weights in prop::collection::vec(-3f32..5.0, 1..40)) {
            let found = least_error_params(&weights, QuantType::U4).unwrap();
            let (lo, hi) = weights.iter().fold((0f32, 0f32), |(lo, hi), w| (lo.min(*w), hi.max(*w)));
            let plain = params_from_range(Range::new(lo, hi).unwrap(), QuantType::U4, false).unwrap().params;
            prop_assert!(error(&weights, &found) <= error(&weights, &plain) * 1.0001 + 1e-9);
        }

        #[test]
        fn weights_on_a_grid_are_exact(zero in 0i32..16, codes in prop::collection::vec(0i32..16, 2..32)) {
            let mut codes = codes;
            codes.extend([0, 15]);
            let grid = AffineParams::new(0.25, zero, QuantType::U4).unwrap();
            let weights: Vec<f32> = codes.iter().map(|q| grid.dequantize(*q)).collect();
            let found = least_error_params(&weights, QuantType::U4).unwrap();
            prop_assert!(error(&weights, &found) < 1e-9, "{found:?}");
        }
    }

    #[test]
    fn outliers_do_not_take_all_codes() {
        let mut weights: Vec<f32> = (0..1000).map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0).collect();
        weights.push(2.2);
        let found = least_error_params(&weights, QuantType::U4).unwrap();
        let plain = params_from_range(Range::new(-1.0, 2.2).unwrap(), QuantType::U4, false).unwrap().params;
        assert!(error(&weights, &found) < 0.85 * error(&weights, &plain));
    }

    #[test]
    fn nothing_has_the_code_of_zero() {
        for weights in [&[][..], &[0.0, -0.0], &[1e-35]] {
            let found = least_error_params(weights, QuantType::U4).unwrap();
            assert_eq!((found.scale(), found.zero_point()), (1.0, 0), "{weights:?}");
        }
        assert!(least_error_params(&[1.0, f32::NAN], QuantType::U4).is_err());
    }

    #[test]
    fn the_symmetric_grid_keeps_its_zero_point() {
        let found = least_error_params(&[-1.0, 0.3, 0.6], QuantType::I4Narrow).unwrap();
        assert_eq!(found.zero_point(), 0);
        assert!(error(&[-1.0, 0.3, 0.6], &found) < 0.01);
    }
}
