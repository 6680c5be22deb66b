//! The entropy criterion of TensorRT's calibrator (S. Migacz, 8-bit inference with TensorRT, GTC 2017): the clipping
//! threshold at which the clipped histogram and the same resampled to the codes diverge least.
//!
//! xfDNN's criterion on cumulative distributions is another one and lives in [`crate::xfdnn::threshold`].

use crate::TensorStats;

/// Bins of magnitudes.
const BINS: usize = 2048;

/// Clipping threshold for `levels` codes of one sign, or `None` if there are no more bins than codes or no values other
/// than zero.
///
/// With P the histogram of the magnitudes in 2048 equal bins up to the largest, zeros left out (they are exact on any
/// grid, and their spike would decide alone), every cut i from `levels` on is tried: P\[..i\] with the mass beyond added
/// to its last bin, against the same without that mass, merged to `levels` runs of bins, each run's mass spread evenly
/// over its occupied bins. The threshold is the upper edge of bin i for the first i of least Σ P·ln(P / Q), both
/// normalized. Bins that only P occupies count as if Q had one value there.
pub(super) fn threshold(stats: &TensorStats, levels: usize) -> Option<f64> {
    let largest = f64::from(stats.range()?.abs_max());
    if levels >= BINS || largest <= 0.0 {
        return None;
    }
    let magnitudes = magnitudes(stats, largest);
    let total: f64 = magnitudes.iter().sum();
    let cuts = (levels..=BINS).map(|cut| (cut, divergence(&magnitudes, total, cut, levels)));
    let best = cuts.min_by(|a, b| a.1.total_cmp(&b.1))?;
    Some(best.0 as f64 * largest / BINS as f64)
}

/// The histogram of magnitudes, each bin of the signed one spread evenly.
fn magnitudes(stats: &TensorStats, largest: f64) -> Vec<f64> {
    let (from, to) = (stats.histogram().width(), largest / BINS as f64);
    let mut counts = vec![0.0; BINS];
    for (bin, count) in stats.histogram().occupied() {
        let inner = if bin < 0 { f64::from(-bin - 1) } else { f64::from(bin) };
        let (start, end) = (inner * from / to, ((inner + 1.0) * from / to).min(BINS as f64));
        let (start, span) = (start.min(end), (end - start).max(f64::MIN_POSITIVE));
        let first = (start as usize).min(BINS - 1);
        for (at, held) in counts.iter_mut().enumerate().skip(first).take(end.ceil() as usize - first) {
            let shared = end.min(at as f64 + 1.0) - start.max(at as f64);
            *held += count as f64 * (shared / span).clamp(0.0, 1.0);
        }
    }
    counts
}

/// Σ P·ln(P / Q) for a cut.
fn divergence(magnitudes: &[f64], total: f64, cut: usize, levels: usize) -> f64 {
    let kept = &magnitudes[..cut];
    let inside: f64 = kept.iter().sum();
    let beyond = total - inside;
    let quantized = inside.max(1.0);
    let mut sum = 0.0;
    for level in 0..levels {
        let (start, end) = (level * cut / levels, (level + 1) * cut / levels);
        let run = &kept[start..end];
        let mass: f64 = run.iter().sum();
        let occupied = run.iter().filter(|count| **count > 0.0).count() as f64;
        for (at, count) in run.iter().enumerate() {
            let is_last = start + at + 1 == cut;
            let p = count + if is_last { beyond } else { 0.0 };
            if p > 0.0 {
                let q = if *count > 0.0 { mass / occupied } else { 1.0 };
                sum += p / total * ((p / total) / (q / quantized)).ln();
            }
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(values: &[f32]) -> TensorStats {
        let mut stats = TensorStats::new();
        stats.observe(0, None, values).unwrap();
        stats
    }

    #[test]
    fn uniform_values_are_not_cut() {
        let values: Vec<f32> = (0..100_000).map(|i| i as f32 / 100_000.0).collect();
        assert!(threshold(&stats(&values), 128).unwrap() > 0.95);
    }

    #[test]
    fn a_far_outlier_is_cut() {
        let mut values: Vec<f32> = (0..100_000).map(|i| (i as f32 / 50_000.0 - 1.0).powi(3)).collect();
        values.push(20.0);
        let found = threshold(&stats(&values), 128).unwrap();
        assert!((1.0..3.0).contains(&found), "{found}");
    }

    #[test]
    fn zeros_do_not_decide() {
        let values: Vec<f32> = (0..100_000).map(|i| (i as f32 / 50_000.0 - 1.0).powi(3)).collect();
        let with_zeros = [values.clone(), vec![0.0; 1_000_000]].concat();
        assert_eq!(threshold(&stats(&values), 128), threshold(&stats(&with_zeros), 128));
    }

    #[test]
    fn too_many_codes_or_nothing_but_zero_give_no_threshold() {
        assert_eq!(threshold(&stats(&[1.0, 2.0]), 4096), None);
        assert_eq!(threshold(&stats(&[0.0; 4]), 128), None);
        assert!(threshold(&stats(&[1.0]), 128).is_some());
    }
}
