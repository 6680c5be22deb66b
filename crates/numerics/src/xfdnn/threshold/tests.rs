//! Tests of the thresholds against a literal transcription of the definition, and of the streaming form against both.

use proptest::prelude::*;

use super::*;
use crate::testing::{exponential, normal, sample, student_t3, uniform};

const EIGHT: BitWidth = BitWidth::Eight;

fn stats(values: &[f32]) -> TensorStats {
    let mut stats = TensorStats::new();
    for (image, part) in values.chunks(values.len().div_ceil(4).max(1)).enumerate() {
        stats.observe(image as u64, None, part).unwrap();
    }
    stats
}

/// `values`, known at equidistant points, at as many others over the same interval.
fn interpolated(values: &[f64], points: usize) -> Vec<f64> {
    let spread = |j: usize| j as f64 * (values.len() - 1) as f64 / (points - 1) as f64;
    (0..points)
        .map(|j| {
            let k = (spread(j) as usize).min(values.len() - 2);
            values[k] + (values[k + 1] - values[k]) * (spread(j) - k as f64)
        })
        .collect()
}

/// The definition, step by step.
fn reference(values: &[f32]) -> f64 {
    let magnitudes: Vec<f32> = values.iter().map(|x| x.abs()).collect();
    let (max, min) = magnitudes.iter().fold((0f32, f32::INFINITY), |(hi, lo), &a| (hi.max(a), lo.min(a)));
    let n = magnitudes.len() as f64;
    let bins = (f64::from(max) / (f64::from(max - min) / n.sqrt())).ceil() as usize;
    if bins <= 128 {
        return f64::from(max);
    }
    let width = f64::from(max) / bins as f64;
    let edges: Vec<f64> = (0..bins).map(|k| k as f64 * width).collect();
    let mut shares = vec![0.0; bins];
    for &a in &magnitudes {
        shares[edges.partition_point(|&edge| edge <= f64::from(a)) - 1] += 1.0 / n;
    }
    for k in 1..bins {
        shares[k] += shares[k - 1];
    }
    let divergence = |cut: usize| -> f64 {
        let mut p = shares.clone();
        p[cut - 1..].fill(1.0);
        let back = interpolated(&interpolated(&p[..cut], 128), cut);
        p[..cut].copy_from_slice(&back);
        shares.iter().zip(&p).map(|(p, q)| (p - q) * (p / q).log2()).sum()
    };
    let best = (129..=bins)
        .map(|cut| (divergence(cut), cut))
        .fold((f64::INFINITY, 0), |best, found| if found.0 < best.0 { found } else { best });
    (best.1 as f64 + 0.5) * width
}

type Draw = fn(&mut u64) -> f64;

const DRAWS: [(&str, Draw); 5] = [
    ("normal", normal),
    ("student", student_t3),
    ("exponential", exponential),
    ("relu", |state| normal(state).max(0.0)),
    ("outlier", |state| if uniform(state) < 1e-4 { 20.0 } else { normal(state) }),
];

#[test]
fn thresholds_follow_the_definition() {
    for (name, draw) in DRAWS {
        for n in [17_000, 40_000, 65_536] {
            let values = sample(11, n, draw);
            let (found, expected) = (kl_threshold(&[&values], EIGHT), reference(&values));
            assert!((found / expected - 1.0).abs() < 1e-12, "{name} {n}: {found} {expected}");
        }
    }
}

/// How much worse the cut at `threshold` is than the best one, as a share of the divergence of the best.
fn regret(values: &[f32], threshold: f64) -> f64 {
    let seen = Magnitudes::of(&[values]);
    let mut regret = 0.0;
    let _ = seen.cut(128, |bins| {
        let shares = shares(&[values], seen, bins);
        let divergence = |cut: usize| {
            let clipped = shares[cut - 1..].iter().map(|p| (p - 1.0) * p.log2()).sum();
            divergence(&shares, cut, clipped, &mut [0.0; 128], f64::INFINITY)
        };
        let cut = (threshold * bins as f64 / f64::from(seen.max) - 0.5).round() as usize;
        regret = divergence(cut) / divergence(least_divergence(&shares, 128)) - 1.0;
        shares
    });
    regret
}

#[test]
fn streaming_thresholds_are_as_good_as_those_of_the_values() {
    let mut equal = 0;
    for (name, draw) in DRAWS {
        for n in [17_000, 40_000, 65_536, 300_000, 1_000_000] {
            let values = sample(12, n, draw);
            let found = kl_threshold_of(&stats(&values), EIGHT).unwrap();
            assert!(regret(&values, found) < 0.05, "{name} {n}");
            equal += u32::from((found / kl_threshold(&[&values], EIGHT) - 1.0).abs() < 1e-12);
        }
    }
    assert!(equal >= 20, "only {equal} of 25 are the same");
}

#[test]
fn both_forms_agree_where_the_maximum_or_zero_is_the_answer() {
    let few = sample(13, 16_000, normal);
    let empty_first_bin = sample(14, 40_000, |state| 5.0 + 5.0 * uniform(state));
    let two_sided = sample(15, 40_000, |state| if uniform(state) < 0.5 { -5.0 } else { 5.0 } + uniform(state));
    let almost_equal = sample(16, 40_000, |state| if uniform(state) < 0.5 { 1.0 } else { 1.0 - 6e-8 });
    let tiny = sample(17, 40_000, |state| 1e-9 * uniform(state));
    let huge = [f32::MAX, -f32::MAX, 1.0];
    for values in [&few[..], &empty_first_bin, &two_sided, &almost_equal, &[-3.0; 20_000], &huge, &[2.0]] {
        let max = values.iter().fold(0f32, |m, x| m.max(x.abs()));
        assert_eq!(kl_threshold(&[values], EIGHT), f64::from(max));
        assert_eq!(kl_threshold_of(&stats(values), EIGHT), Some(f64::from(max)));
    }
    for values in [&tiny[..], &[0.0; 20_000], &[1e-40, -0.0]] {
        assert_eq!(kl_threshold(&[values], EIGHT), 0.0);
        assert_eq!(kl_threshold_of(&stats(values), EIGHT), Some(0.0));
    }
}

#[test]
fn sixteen_bits_give_the_maximum() {
    let values = sample(18, 100_000, normal);
    let max = values.iter().fold(0f32, |m, x| m.max(x.abs()));
    assert_eq!(kl_threshold(&[&values], BitWidth::Sixteen), f64::from(max));
    assert_eq!(kl_threshold_of(&stats(&values), BitWidth::Sixteen), Some(f64::from(max)));
    assert!(is_too_fine(QuantType::U16) && is_too_fine(QuantType::I16Narrow) && is_too_fine(QuantType::I32));
    assert!(!is_too_fine(QuantType::U8) && !is_too_fine(QuantType::I4Narrow));
}

#[test]
fn values_that_are_not_finite_are_ignored() {
    let values = sample(19, 20_000, student_t3);
    let special = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
    let mixed = [&values[..7000], &special, &values[7000..]];
    assert_eq!(kl_threshold(&mixed, EIGHT), kl_threshold(&[&values], EIGHT));
    assert_eq!(kl_threshold_of(&stats(&mixed.concat()), EIGHT), kl_threshold_of(&stats(&values), EIGHT));
    for nothing in [&[][..], &special] {
        assert_eq!(kl_threshold(&[nothing], EIGHT), 0.0);
        assert_eq!(kl_threshold_of(&stats(nothing), EIGHT), None);
    }
    assert_eq!(kl_threshold(&[], EIGHT), 0.0);
}

#[test]
fn a_threshold_may_exceed_the_maximum_by_half_a_bin() {
    // The minimum is zero, so there are exactly 200 bins.
    let values: Vec<f32> = (0..40_000u16).map(f32::from).collect();
    let width = 39_999.0 / 200.0;
    assert_eq!(kl_threshold(&[&values], EIGHT), 200.5 * width);
    assert_eq!(kl_threshold_of(&stats(&values), EIGHT), Some(200.5 * width));
}

#[test]
fn powers_of_two_are_rounded_up() {
    for (threshold, expected) in [(254.0, 254.0), (150.7, 254.0), (127.1, 254.0), (127.0, 127.0), (0.5, 0.9921875)] {
        assert_eq!(power_of_two_threshold(threshold, EIGHT), expected);
    }
    assert_eq!(power_of_two_threshold(0.75, BitWidth::Sixteen), 32767.0 / 32768.0);
    assert_eq!(power_of_two_threshold(0.0, EIGHT), 0.0);
    assert!(power_of_two_threshold(f64::INFINITY, EIGHT).is_infinite());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn thresholds_depend_on_neither_split_nor_sign_and_scale_with_the_values(
        seed: u64, n in 16_000usize..30_000, at in 0usize..16_000, exponent in -20i32..20,
    ) {
        let values = sample(seed, n, student_t3);
        let expected = kl_threshold(&[&values], EIGHT);
        let (left, right) = values.split_at(at);
        prop_assert_eq!(kl_threshold(&[right, left], EIGHT), expected);
        let negated: Vec<f32> = values.iter().map(|x| -x).collect();
        prop_assert_eq!(kl_threshold(&[&negated], EIGHT), expected);
        let factor = exponent as f32;
        let scaled: Vec<f32> = values.iter().map(|x| x * factor.exp2()).collect();
        prop_assert_eq!(kl_threshold(&[&scaled], EIGHT), expected * f64::from(exponent).exp2());
    }

    #[test]
    fn no_bits_make_either_form_panic(words in proptest::collection::vec(any::<u32>(), 0..60), copies in 1usize..400) {
        let values: Vec<f32> = words.iter().map(|&word| f32::from_bits(word)).collect::<Vec<_>>().repeat(copies);
        let max = values.iter().filter(|x| x.is_finite()).fold(0f32, |m, x| m.max(x.abs()));
        for found in [Some(kl_threshold(&[&values], EIGHT)), kl_threshold_of(&stats(&values), EIGHT)] {
            prop_assert!(found.is_none_or(|t| t >= 0.0 && t <= 1.01 * f64::from(max)));
        }
    }
}
