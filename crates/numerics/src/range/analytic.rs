//! Clipping by a fitted Laplace distribution (Banner et al., Post training 4-bit quantization of convolutional networks
//! for rapid-deployment, 2019, known as ACIQ): the threshold follows from the mean deviation and the number of bits.

use crate::{Range, TensorStats};

/// Thresholds of least mean squared error in units of the mean absolute deviation, for 2, 3, … 9 bits.
const FACTORS: [f64; 8] = [2.83, 3.90, 5.03, 6.20, 7.41, 8.65, 9.90, 11.16];

/// The range that the threshold leaves of the observed one, or `None` for grids that no factor is known for.
///
/// For values of both signs it is μ ± k(bits)·E|x − μ|; for those of one sign, 0 to k(bits + 1)·E|x|, since all codes
/// lie on one side of the mode. Values are taken to lie in the middle of their histogram bins.
pub(super) fn range(stats: &TensorStats, observed: Range, bits: u32) -> Option<Range> {
    let factor = |bits: u32| FACTORS.get(usize::try_from(bits).ok()?.checked_sub(2)?).copied();
    let width = stats.histogram().width();
    let middles = || stats.histogram().occupied().map(|(bin, count)| ((f64::from(bin) + 0.5) * width, count as f64));
    let (n, zeros) = (stats.n_finite() as f64, stats.n_zero() as f64);
    let (lo, hi) = (f64::from(observed.lo()), f64::from(observed.hi()));
    let (from, to) = if lo < 0.0 && hi > 0.0 {
        let mean = middles().map(|(x, count)| x * count).sum::<f64>() / n;
        let deviation = (middles().map(|(x, count)| (x - mean).abs() * count).sum::<f64>() + zeros * mean.abs()) / n;
        (mean - factor(bits)? * deviation, mean + factor(bits)? * deviation)
    } else {
        let reach = factor(bits + 1)? * middles().map(|(x, count)| x.abs() * count).sum::<f64>() / n;
        (-reach, reach)
    };
    Range::new(from.max(lo) as f32, to.min(hi) as f32).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Quantiles of a Laplace distribution with mean deviation 1.
    fn laplace(mean: f32) -> TensorStats {
        let quantile = |p: f32| if p < 0.5 { (2.0 * p).ln() } else { -(2.0 - 2.0 * p).ln() };
        let values: Vec<f32> = (1..1_000_000).map(|i| quantile(i as f32 / 1e6) + mean).collect();
        let mut stats = TensorStats::new();
        stats.observe(0, None, &values).unwrap();
        stats
    }

    #[test]
    fn a_laplace_distribution_is_cut_at_the_published_factor() {
        for (bits, factor) in [(4, 5.03), (8, 9.9)] {
            let stats = laplace(0.25);
            let found = range(&stats, stats.range().unwrap(), bits).unwrap();
            assert!((f64::from(found.hi()) - 0.25 - factor).abs() < 0.03 * factor, "{bits} bits: {found:?}");
            assert!((f64::from(found.lo()) - 0.25 + factor).abs() < 0.03 * factor, "{bits} bits: {found:?}");
        }
    }

    #[test]
    fn values_of_one_sign_have_all_codes() {
        let mut stats = TensorStats::new();
        let values: Vec<f32> = (1..100_000).map(|i| -(1.0 - i as f32 / 1e5).ln()).collect();
        stats.observe(0, None, &values).unwrap();
        let found = range(&stats, stats.range().unwrap(), 4).unwrap();
        assert!((found.hi() - 6.2).abs() < 0.1 && found.lo() >= 0.0, "{found:?}");
        assert_eq!(range(&stats, stats.range().unwrap(), 16), None);
    }
}
