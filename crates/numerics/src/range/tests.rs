//! Tests of the range methods against sorting and brute force.

use super::*;
use crate::testing::{exponential, normal, sample, spiked, student_t3, uniform};

type Draw = fn(&mut u64) -> f64;

const MSE: RangeMethod = RangeMethod::Mse;

/// Statistics of `data` spread over four images.
fn stats(data: &[f32]) -> TensorStats {
    let mut stats = TensorStats::new();
    for (image, part) in data.chunks(data.len().div_ceil(4).max(1)).enumerate() {
        stats.observe(image as u64, None, part).unwrap();
    }
    stats
}

fn estimated(data: &[f32], qtype: QuantType, symmetric: bool, method: RangeMethod) -> RangeEstimate {
    estimate(&stats(data), qtype, symmetric, method, None).unwrap()
}

fn bounds(estimate: &RangeEstimate) -> (f32, f32) {
    (estimate.range.lo(), estimate.range.hi())
}

fn exact_mse(data: &[f32], params: &AffineParams) -> f64 {
    let error = |&x: &f32| (f64::from(x) - f64::from(params.dequantize(params.quantize(x)))).powi(2);
    data.iter().map(error).sum::<f64>() / data.len() as f64
}

#[test]
fn methods_have_a_text_form() {
    for (text, method) in [
        ("minmax", RangeMethod::MinMax),
        ("percentile", RangeMethod::Percentile(99.999)),
        ("percentile=99.99", RangeMethod::Percentile(99.99)),
        ("mse", MSE),
        ("mean-minmax", RangeMethod::MeanMinMax),
        ("kl", RangeMethod::Kl),
        ("aciq", RangeMethod::Aciq),
        ("cdf-kl", RangeMethod::CdfKl),
    ] {
        assert_eq!(text.parse::<RangeMethod>().unwrap(), method);
        assert_eq!(method.to_string(), text);
    }
    for text in ["", "entropy", "percentile=", "percentile=0", "percentile=101", "percentile=nan", "mse=2", "cdf-kl=1"]
    {
        assert!(text.parse::<RangeMethod>().is_err(), "{text}");
    }
}

#[test]
fn no_finite_value_is_an_error() {
    for data in [vec![], vec![f32::NAN, f32::INFINITY]] {
        let found = estimate(&stats(&data), QuantType::U8, false, MSE, None);
        assert_eq!(found, Err(NumericsError::EmptyStats));
    }
}

#[test]
fn all_zero_tensor_is_constant() {
    for method in [RangeMethod::MinMax, RangeMethod::Percentile(50.0), MSE, RangeMethod::CdfKl] {
        let found = estimated(&[0.0; 100], QuantType::U8, false, method);
        assert!(found.params.constant_zero && found.notes.contains(&RangeNote::ConstantZero), "{method}");
        assert_eq!((bounds(&found), found.expected_mse, found.clip_fraction), ((0.0, 0.0), 0.0, 0.0));
    }
}

#[test]
fn bounded_activation_uses_min_max_within_the_bound() {
    let data = sample(1, 10_000, |state| (3.0 * normal(state)).clamp(0.0, 6.5));
    let bound = Some(Range::new(0.0, 6.0).unwrap());
    let found = estimate(&stats(&data), QuantType::U8, false, MSE, bound).unwrap();
    assert_eq!((bounds(&found), found.method_used), ((0.0, 6.0), RangeMethod::MinMax));
    assert!(found.notes.contains(&RangeNote::Bounded) && found.clip_fraction > 0.0);
}

#[test]
fn spikes_at_the_ends_are_kept() {
    let data = sample(2, 100_000, |state| normal(state).min(2.0));
    for method in [RangeMethod::Percentile(90.0), MSE] {
        let found = estimated(&data, QuantType::I4Narrow, false, method);
        assert!(found.notes.contains(&RangeNote::AtomAtMax), "{method}");
        assert_eq!(found.range.hi(), 2.0, "{method}");
    }
    let found = estimated(&data, QuantType::U8, false, RangeMethod::Percentile(90.0));
    assert!(found.range.lo() > -2.0, "the free end is cut");
}

#[test]
fn single_occurrences_are_no_spikes() {
    let found = estimated(&sample(3, 500, normal), QuantType::U8, false, MSE);
    assert!(!found.notes.contains(&RangeNote::AtomAtMin) && !found.notes.contains(&RangeNote::AtomAtMax));
}

#[test]
fn percentiles_need_images_and_values() {
    let data = sample(4, 5000, normal);
    let mut single = TensorStats::new();
    single.observe(0, None, &data).unwrap();
    let found = estimate(&single, QuantType::U8, false, RangeMethod::Percentile(99.0), None).unwrap();
    assert_eq!((found.method_used, found.notes.as_slice()), (RangeMethod::MinMax, [RangeNote::SingleImage].as_slice()));
    let found = estimated(&data, QuantType::U8, false, RangeMethod::Percentile(99.9));
    assert_eq!(
        (found.method_used, found.notes.as_slice()),
        (RangeMethod::MinMax, [RangeNote::TooFewValues].as_slice())
    );
}

#[test]
fn percentile_is_within_a_bin_of_the_sorted_value() {
    let draws: [(&str, Draw, f64); 5] = [
        ("normal", normal, 2.0),
        ("student", student_t3, 2.0),
        ("exponential", exponential, 1.0),
        ("negative exponential", |state| -exponential(state), 1.0),
        ("spike", |state| if uniform(state) < 0.3 { 0.0 } else { normal(state) }, 2.0),
    ];
    for (name, draw, ends) in draws {
        let mut data = sample(5, 200_000, draw);
        let stats = stats(&data);
        data.sort_by(f32::total_cmp);
        for percent in [99.0, 99.9, 99.99, 50.0] {
            let found = estimate(&stats, QuantType::U8, false, RangeMethod::Percentile(percent), None).unwrap();
            let cut = ((1.0 - percent / 100.0) * 200_000.0 / ends).ceil() as usize;
            let width = stats.histogram().width();
            let near = |found: f32, sorted: f32| (f64::from(found) - f64::from(sorted)).abs() <= width;
            let (lo, hi) = bounds(&found);
            if ends == 2.0 || name.starts_with("negative") {
                assert!(near(lo, data[cut - 1]), "{name} {percent} {lo} {}", data[cut - 1]);
            }
            if !name.starts_with("negative") {
                assert!(near(hi, data[data.len() - cut]), "{name} {percent} {hi} {}", data[data.len() - cut]);
            }
        }
    }
}

#[test]
fn expected_error_matches_the_exact_error() {
    let draws: [(&str, Draw); 5] = [
        ("normal", normal),
        ("student", student_t3),
        ("exponential", exponential),
        ("spiked", spiked),
        ("uniform", uniform),
    ];
    for (name, draw) in draws {
        let data = sample(6, 200_000, draw);
        let stats = stats(&data);
        for (qtype, shrink) in [(QuantType::U8, 1.0), (QuantType::U8, 0.5), (QuantType::I4Narrow, 0.7)] {
            let range = stats.range().unwrap();
            let range = Range::new(range.lo() * shrink, range.hi() * shrink).unwrap();
            let params = params_from_range(range, qtype, false).unwrap().params;
            if stats.histogram().width() > f64::from(params.scale()) / 8.0 {
                continue;
            }
            let ratio = expected_mse(&stats, &params) / exact_mse(&data, &params);
            assert!((ratio - 1.0).abs() < 0.005, "{name} {qtype} {shrink}: {ratio}");
        }
    }
}

/// Error of the piecewise uniform density and the exact extremes, bin by bin and cell by cell, without prefix sums.
fn direct_mse(stats: &TensorStats, params: &AffineParams) -> f64 {
    let (width, scale) = (stats.histogram().width(), f64::from(params.scale()));
    let zero_point = f64::from(params.zero_point());
    let (lowest, highest) =
        (f64::from(params.qtype().qmin()) - zero_point, f64::from(params.qtype().qmax()) - zero_point);
    let ends = stats.extremes().unwrap();
    let (lo, hi) = (ends.range.lo(), ends.range.hi());
    let atoms = [(lo, if lo < 0.0 { ends.n_at_min } else { 0 }), (hi, if hi > 0.0 { ends.n_at_max } else { 0 })];
    let mut sum = 0.0;
    for (bin, mut count) in stats.histogram().occupied() {
        for &(value, n) in &atoms {
            let inside = (f64::from(value) / width).floor() as i32 == bin;
            count -= if inside { n } else { 0 };
            sum += if inside { n as f64 * exact_mse(&[value], params) } else { 0.0 };
        }
        let (mut left, end) = (f64::from(bin) * width, f64::from(bin + 1) * width);
        let mut level = (left / scale).round().clamp(lowest, highest);
        while left < end {
            let edge = if level == highest { end } else { ((level + 0.5) * scale).min(end) };
            let (a, b) = (left - level * scale, edge - level * scale);
            sum += count as f64 * (b.powi(3) - a.powi(3)) / 3.0 / width;
            left = edge.max(left);
            level = (level + 1.0).min(highest);
        }
    }
    sum / stats.n_finite() as f64
}

#[test]
fn prefix_sums_equal_the_direct_sum() {
    for (seed, draw) in [normal as Draw, student_t3, exponential, spiked].into_iter().enumerate() {
        let stats = stats(&sample(seed as u64, 50_000, draw));
        for (lo, hi) in [(-1.0, 3.0), (-0.3, 0.2), (0.0, 40.0)] {
            let params = params_from_range(Range::new(lo, hi).unwrap(), QuantType::U8, false).unwrap().params;
            let (found, direct) = (expected_mse(&stats, &params), direct_mse(&stats, &params));
            assert!((found / direct - 1.0).abs() < 1e-10, "[{lo}, {hi}]: {found} {direct}");
        }
    }
}

#[test]
fn search_is_as_good_as_brute_force() {
    let draws: [(&str, Draw); 5] = [
        ("normal", normal),
        ("student", student_t3),
        ("exponential", exponential),
        ("skewed", |state| exponential(state) - 0.3 * exponential(state)),
        ("mixture", |state| if uniform(state) < 0.01 { 5.0 * normal(state) } else { normal(state) }),
    ];
    for (name, draw) in draws {
        let stats = stats(&sample(8, 100_000, draw));
        let observed = stats.range().unwrap();
        let full = observed.including_zero();
        for qtype in [QuantType::U8, QuantType::I4Narrow] {
            let grid = Grid { qtype, symmetric: false };
            let task = Task { stats: &stats, binned: Binned::new(&stats), observed, grid };
            let mut best = f64::INFINITY;
            for i in 0..100 {
                for j in 0..100 {
                    let [a, b] = [i, j].map(|point| 0.2 + 0.8 * point as f32 / 99.0);
                    best = best.min(task.loss(Range::new(full.lo() * a, full.hi() * b).unwrap()));
                }
            }
            let found = estimate(&stats, qtype, false, MSE, None).unwrap();
            assert!(found.expected_mse <= 1.001 * best, "{name} {qtype}: {} {best}", found.expected_mse);
            let cap = if qtype == QuantType::U8 { MAX_CLIP_FRACTION } else { 1.0 };
            assert!(found.clip_fraction <= cap * 1.0001, "{name} {qtype}");
        }
    }
}

#[test]
fn uniform_data_is_not_clipped() {
    for (lo, hi) in [(0.0, 1.0), (-1.0, 1.0), (-0.2, 3.0)] {
        let data = sample(9, 100_000, |state| lo + (hi - lo) * uniform(state));
        for qtype in [QuantType::U8, QuantType::I8Narrow] {
            let found = estimated(&data, qtype, false, MSE);
            let observed = stats(&data).range().unwrap();
            assert!(found.range.abs_max() >= 0.99 * observed.abs_max(), "[{lo}, {hi}] {qtype}: {found:?}");
        }
    }
}

#[test]
fn normal_data_is_clipped_at_the_known_multiples_of_sigma() {
    let data = sample(10, 1_000_000, normal);
    for (qtype, lo, hi) in [(QuantType::I8Narrow, 3.9, 4.6), (QuantType::I4Narrow, 2.45, 2.75)] {
        let found = estimated(&data, qtype, true, MSE).range.abs_max();
        assert!((lo..hi).contains(&found), "{qtype}: {found}");
    }
}

#[test]
fn useful_outliers_are_not_clipped_away() {
    let data = sample(11, 100_000, |state| if uniform(state) < 0.005 { 8.0 + normal(state) } else { normal(state) });
    let found = estimated(&data, QuantType::U8, false, MSE);
    assert!(found.clip_fraction <= MAX_CLIP_FRACTION && found.range.hi() > 8.0, "{found:?}");
}

#[test]
fn sixteen_bit_grids_keep_min_max() {
    let data = sample(12, 10_000, student_t3);
    let found = estimated(&data, QuantType::I16Narrow, true, MSE);
    assert_eq!((found.method_used, found.clip_fraction), (RangeMethod::MinMax, 0.0));
    assert!(found.notes.contains(&RangeNote::GridTooFine) && found.expected_mse > 0.0);
}

#[test]
fn lost_resolution_is_reported() {
    let far = estimated(&[3.0, 4.0, 5.0], QuantType::U8, false, RangeMethod::MinMax);
    assert_eq!((bounds(&far), far.notes), ((3.0, 5.0), vec![RangeNote::FarFromZero]));
    assert_eq!(far.params.params.zero_point(), 0);
    let relu = estimated(&[0.0, 4.0, 5.0], QuantType::I8, true, RangeMethod::MinMax);
    assert_eq!(relu.notes, [RangeNote::HalfUnused]);
    let negative = estimated(&[-5.0, -4.0], QuantType::U8, false, RangeMethod::MinMax);
    assert_eq!(negative.notes, [RangeNote::FarFromZero]);
    assert_eq!(negative.params.params.zero_point(), 255);
}

#[test]
fn constant_tensor_has_no_error_worth_mentioning() {
    let found = estimated(&[2.5; 64], QuantType::U8, false, MSE);
    assert_eq!(bounds(&found), (2.5, 2.5));
    assert_eq!(found.params.params.quantize(2.5), 255);
}

#[test]
fn special_values_do_not_move_the_range() {
    let found = estimated(&[f32::NAN, f32::NEG_INFINITY, 1e-40, 1.0, -1.0], QuantType::U8, false, RangeMethod::MinMax);
    assert_eq!(bounds(&found), (-1.0, 1.0));
}

#[test]
fn cdf_kl_covers_its_threshold_on_symmetric_grids_and_the_observed_part_of_it_on_others() {
    let draws: [(&str, Draw); 4] = [
        ("student", student_t3),
        ("relu", |state| normal(state).max(0.0)),
        ("negative", |state| -exponential(state)),
        // The threshold lies half a bin above the maximum.
        ("uniform", uniform),
    ];
    for (name, draw) in draws {
        let data = sample(21, 40_000, draw);
        let t = crate::xfdnn::kl_threshold_of(&stats(&data), crate::xfdnn::BitWidth::Eight).unwrap() as f32;
        for qtype in [QuantType::I8, QuantType::U8, QuantType::I8Narrow] {
            let found = estimated(&data, qtype, true, RangeMethod::CdfKl);
            assert_eq!((bounds(&found), found.method_used), ((-t, t), RangeMethod::CdfKl), "{name}");
            assert_eq!(found.params.params.scale(), t / 127.0, "{name}");
        }
        let found = estimated(&data, QuantType::U8, false, RangeMethod::CdfKl);
        let observed = stats(&data).range().unwrap();
        assert_eq!(bounds(&found), (observed.lo().max(-t), observed.hi().min(t)), "{name}");
        assert!(found.clip_fraction < 0.01, "{name}");
    }
}

#[test]
fn cdf_kl_says_why_it_is_not_used() {
    let data = sample(22, 40_000, normal);
    let far = sample(23, 40_000, |state| 5.0 + uniform(state));
    for (data, qtype, note) in [
        (&data[..], QuantType::U16, RangeNote::GridTooFine),
        (&data[..16_000], QuantType::I8, RangeNote::CriterionUndefined),
        (&far, QuantType::I8, RangeNote::CriterionUndefined),
    ] {
        let found = estimated(data, qtype, true, RangeMethod::CdfKl);
        assert_eq!((found.range, found.method_used), (stats(data).range().unwrap(), RangeMethod::MinMax));
        assert_eq!(found.notes[0], note);
    }
    // A grid of 4 bits has few codes, and few values tell it enough.
    assert_eq!(
        estimated(&data[..16_000], QuantType::I4Narrow, true, RangeMethod::CdfKl).method_used,
        RangeMethod::CdfKl
    );
}

#[test]
fn pooled_statistics_give_the_range_of_all_members() {
    let (a, b) = (stats(&[-1.0, 0.5]), stats(&[0.0, 3.0]));
    let pooled = TensorStats::pooled([&a, &b]);
    let found = estimate(&pooled, QuantType::U8, false, RangeMethod::MinMax, None).unwrap();
    assert_eq!(bounds(&found), (-1.0, 3.0));
}

#[test]
fn means_are_taken_over_images() {
    let mut stats = TensorStats::new();
    for (image, values) in [[-1.0f32, 2.0], [-3.0, 4.0], [f32::NAN, f32::NAN]].iter().enumerate() {
        stats.observe(image as u64, None, values).unwrap();
    }
    let found = estimate(&stats, QuantType::U8, false, RangeMethod::MeanMinMax, None).unwrap();
    assert_eq!((bounds(&found), found.method_used), ((-2.0, 3.0), RangeMethod::MeanMinMax));
}

#[test]
fn criteria_stay_within_the_observed_range_and_its_sign() {
    for method in [RangeMethod::Kl, RangeMethod::Aciq] {
        for (draw, qtype) in [(normal as Draw, QuantType::U8), (exponential, QuantType::U8), (normal, QuantType::I8)] {
            let found = estimated(&sample(7, 50_000, draw), qtype, false, method);
            assert_eq!(found.method_used, method);
            assert!(found.clip_fraction < 0.05, "{method}: {found:?}");
        }
        let wide = estimated(&sample(8, 5_000, normal), QuantType::U16, false, method);
        assert_eq!(
            (wide.method_used, wide.notes.as_slice()),
            (RangeMethod::MinMax, [RangeNote::GridTooFine].as_slice())
        );
    }
}
