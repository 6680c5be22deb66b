//! Room for images that were not seen: the range of a tensor whose clipping nothing makes up for.
//!
//! The largest magnitude over a few images says little about the next one. A network's results must not be cut off,
//! and rounding them a little coarser costs little, so their range is an upper prediction bound: the mean of the
//! images' extremes plus Student's t times their deviation, `m + t(n − 1, 1 − p) · s · √(1 + 1/n)`, which a further
//! image exceeds with probability p if the extremes are normally distributed.

use crate::{Range, TensorStats};

/// Quantiles of Student's t distribution for p = 10⁻⁴ and 1, 2, … degrees of freedom.
const QUANTILES: [f64; 10] = [3183.1, 70.70, 22.20, 13.03, 9.678, 8.025, 7.063, 6.442, 6.010, 5.694];

/// The quantile of the normal distribution for the same p.
const NORMAL: f64 = 3.7190;

/// Times the observed extreme that the range may reach, and reaches for a single image.
const LARGEST: f64 = 4.0;

/// The observed range with headroom on each side that has values beyond zero.
pub(super) fn with_headroom(stats: &TensorStats, observed: Range) -> Range {
    let ranges: Vec<Range> = stats.images().filter_map(|(_, range)| range).collect();
    let upper = bound(observed.hi(), ranges.iter().map(|r| f64::from(r.hi())));
    let lower = bound(-observed.lo(), ranges.iter().map(|r| -f64::from(r.lo())));
    Range::new(-lower, upper).unwrap_or(observed)
}

/// Largest magnitude to expect, with or without images on the other side of zero.
pub(super) fn magnitude(stats: &TensorStats, observed: Range) -> f32 {
    let ranges = stats.images().filter_map(|(_, range)| range);
    bound(observed.abs_max(), ranges.map(|r| f64::from(r.abs_max())))
}

fn bound(observed: f32, extremes: impl Iterator<Item = f64>) -> f32 {
    if observed <= 0.0 {
        return observed;
    }
    let extremes: Vec<f64> = extremes.collect();
    let n = extremes.len() as f64;
    let predicted = if extremes.len() < 2 {
        f64::INFINITY
    } else {
        let mean = extremes.iter().sum::<f64>() / n;
        let variance = extremes.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0);
        mean + quantile(extremes.len() - 1) * (variance * (1.0 + 1.0 / n)).sqrt()
    };
    let bounded = predicted.clamp(f64::from(observed), LARGEST * f64::from(observed));
    if bounded < f64::from(f32::MAX) { bounded as f32 } else { observed }
}

/// Student's quantile: from the table, then by its expansion around the normal one (Abramowitz and Stegun 26.7.5).
fn quantile(degrees: usize) -> f64 {
    if let Some(exact) = QUANTILES.get(degrees.saturating_sub(1)) {
        return *exact;
    }
    let (v, z) = (degrees as f64, NORMAL);
    let first = (z.powi(3) + z) / 4.0;
    let second = (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / 96.0;
    let third = (3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z) / 384.0;
    z + first / v + second / v.powi(2) + third / v.powi(3)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(images: &[&[f32]]) -> TensorStats {
        let mut stats = TensorStats::new();
        for (index, image) in (0u64..).zip(images) {
            stats.observe(index, None, image).unwrap();
        }
        stats
    }

    fn headroom(images: &[&[f32]]) -> (f32, f32) {
        let stats = stats(images);
        let range = with_headroom(&stats, stats.range().unwrap());
        (range.lo(), range.hi())
    }

    #[test]
    fn quantiles_fall_towards_the_normal_one() {
        assert!((quantile(11) - 5.453).abs() < 0.03 && (quantile(99) - 3.861).abs() < 0.01);
        assert!((1..200).all(|d| quantile(d) > quantile(d + 1) && quantile(d) > NORMAL));
    }

    #[test]
    fn images_that_differ_get_room_and_equal_ones_do_not() {
        let (lo, hi) = headroom(&[&[1.0], &[2.0], &[3.0]]);
        assert_eq!((lo, hi), (1.0, 12.0), "three images allow the largest room");
        assert_eq!(headroom(&[&[-1.0, 2.0], &[-1.0, 2.0]]), (-1.0, 2.0));
        let many: Vec<Vec<f32>> = (0..100).map(|i| vec![-2.0 - (i % 2) as f32, 10.0 + (i % 5) as f32]).collect();
        let (lo, hi) = headroom(&many.iter().map(Vec::as_slice).collect::<Vec<_>>());
        assert!((-4.5..-4.3).contains(&lo) && (17.4..17.6).contains(&hi), "{lo} {hi}");
    }

    #[test]
    fn one_image_is_given_four_times_its_range() {
        assert_eq!(headroom(&[&[-0.5, 3.0]]), (-2.0, 12.0));
        let stats = stats(&[&[-0.5, 3.0]]);
        assert_eq!(magnitude(&stats, stats.range().unwrap()), 12.0);
        assert_eq!(headroom(&[&[0.0]]), (0.0, 0.0));
        assert_eq!(headroom(&[&[f32::MAX]]).1, f32::MAX);
    }
}
