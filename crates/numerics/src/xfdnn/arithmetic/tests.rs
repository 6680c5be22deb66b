//! Tests of the integer arithmetic against hand-computed values and exact rationals.

use proptest::prelude::*;

use super::*;

const WIDTHS: [BitWidth; 2] = [BitWidth::Eight, BitWidth::Sixteen];

fn grid(threshold: f64) -> SymmetricGrid {
    SymmetricGrid::new(threshold, BitWidth::Eight).unwrap()
}

fn multiplier(prescale_shift: u32, scale: i32, postscale_shift: u32) -> Multiplier {
    Multiplier { prescale_shift, scale, postscale_shift }
}

fn rescaler(flavor: Flavor, bits: BitWidth, parts: (u32, i32, u32), bias: i32) -> Rescaler {
    Rescaler::new(flavor, bits, multiplier(parts.0, parts.1, parts.2), bias).unwrap()
}

/// value / 2^shift, half up, without a limit of width.
fn exact_shift(value: i128, shift: u32) -> i128 {
    if shift == 0 { value } else { (value + (1 << (shift - 1))).div_euclid(1 << shift) }
}

fn exact_clamp(value: i128, bits: u32) -> i128 {
    value.clamp(-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
}

#[test]
fn inputs_truncate_and_weights_round_half_away() {
    // One step is 2.
    let grid = grid(254.0);
    for (x, input, weight) in [
        (3.0, 1, 2),
        (-3.0, -1, -2),
        (1.9, 0, 1),
        (0.9, 0, 0),
        (253.9, 126, 127),
        (1e30, 127, 127),
        (f32::NEG_INFINITY, -127, -127),
        (f32::NAN, 0, 0),
        (-0.0, 0, 0),
    ] {
        assert_eq!((grid.input_code(x), grid.weight_code(x)), (input, weight), "{x}");
    }
    assert_eq!((grid.dequantize(127), grid.dequantize(-1)), (254.0, -1.0 / 127.0 * 254.0));
}

#[test]
fn thresholds_of_dead_tensors_give_zeros() {
    for threshold in [0.0, -0.0, 1e-46] {
        let grid = grid(threshold);
        for x in [0.0, 1.0, -1.0, f32::MAX, f32::INFINITY, f32::NAN, 1e-45] {
            assert_eq!((grid.input_code(x), grid.weight_code(x)), (0, 0), "{x}");
        }
        assert_eq!(grid.dequantize(127), 0.0);
        let mut values = [1.0, f32::NAN];
        grid.fake_quantize_in_place(&mut values);
        assert_eq!(values, [0.0, 0.0]);
    }
}

#[test]
fn unusable_thresholds_are_errors() {
    for threshold in [-1.0, f64::NAN, f64::INFINITY, 1e39] {
        let found = SymmetricGrid::new(threshold, BitWidth::Eight);
        assert!(matches!(found, Err(NumericsError::InvalidThreshold { .. })), "{threshold}");
    }
}

#[test]
fn fake_quantization_rounds_half_to_even_and_clips() {
    let mut values = [1.0, 3.0, -5.0, 4.1, 1e9, -1e9, 0.0];
    grid(254.0).fake_quantize_in_place(&mut values);
    assert_eq!(values, [0.0, 4.0, -4.0, 4.0, 254.0, -254.0, 0.0]);
}

#[test]
fn slices_do_what_single_values_do() {
    let grid = grid(1.0);
    let values = [0.3, -0.7, 2.0];
    let (mut inputs, mut weights, mut reals) = ([0; 3], [0; 3], [0.0; 3]);
    grid.input_codes(&values, &mut inputs).unwrap();
    grid.weight_codes(&values, &mut weights).unwrap();
    grid.dequantize_slice(&weights, &mut reals).unwrap();
    assert_eq!(inputs, values.map(|x| grid.input_code(x)));
    assert_eq!(weights, values.map(|x| grid.weight_code(x)));
    assert_eq!(reals, weights.map(|code| grid.dequantize(code)));
    assert!(grid.input_codes(&values, &mut [0; 2]).is_err() && grid.weight_codes(&values, &mut [0; 4]).is_err());
    assert!(grid.dequantize_slice(&[0; 3], &mut [0.0; 2]).is_err());
}

#[test]
fn the_place_of_the_bias_decides_its_grid() {
    // Steps: input 2, weights 1/2, output 4: an accumulator unit is 1.
    let (input, weights, output) = (grid(254.0), grid(63.5), grid(508.0));
    let v2 = BiasGrid::of(Flavor::V2, input, weights, output);
    let v3 = BiasGrid::of(Flavor::V3, input, weights, output);
    for (bias, v2_code, v3_code) in [
        (10.0, 3, 10),
        (-10.5, -3, -11),
        (1e9, 127, 8_388_607),
        (f32::NEG_INFINITY, -127, -8_388_607),
        (f32::NAN, 0, 0),
    ] {
        assert_eq!((v2.code(bias), v3.code(bias)), (v2_code, v3_code), "{bias}");
    }
    let wide = |threshold| SymmetricGrid::new(threshold, BitWidth::Sixteen).unwrap();
    let v3_wide = BiasGrid::of(Flavor::V3, wide(32767.0), wide(32767.0), wide(1.0));
    assert_eq!([65_536.0, 98_304.0, -98_304.0].map(|bias| v3_wide.code(bias)), [1, 2, -2]);
    assert_eq!([1e30, -1e30].map(|bias| v3_wide.code(bias)), [i32::MAX, i32::MIN]);
}

#[test]
fn bias_of_a_dead_channel_is_zero() {
    for flavor in [Flavor::V2, Flavor::V3] {
        for (input, weights, output) in [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0)] {
            let dead = BiasGrid::of(flavor, grid(input), grid(weights), grid(output));
            assert_eq!([0.0, 3.0, -1e30].map(|bias| dead.code(bias)), [0; 3], "{flavor:?}");
        }
    }
}

#[test]
fn shifts_round_half_up() {
    for (value, shift, expected) in [
        (5, 1, 3),
        (-5, 1, -2),
        (6, 2, 2),
        (-6, 2, -1),
        (7, 0, 7),
        (i64::MAX, 63, 1),
        (i64::MIN, 63, -1),
        (i64::MAX, 1, 1 << 62),
        (-1, 64, 0),
        (9, 70, 0),
    ] {
        assert_eq!(rounding_shift(value, shift), expected, "{value} {shift}");
    }
}

#[test]
fn v2_saturates_between_the_shifts_and_adds_the_bias_last() {
    let v2 = |acc, bias| rescaler(Flavor::V2, BitWidth::Eight, (4, 64, 7), bias).apply(acc);
    assert_eq!((v2(1000, 0), v2(-1000, 0)), (32, -31));
    // 10000 / 16 exceeds 127 before the scale halves it.
    assert_eq!((v2(10_000, 0), v2(-10_000, 0)), (64, -64));
    assert_eq!((v2(10_000, 100), v2(-10_000, -100), v2(0, 5)), (127, -128, 5));
}

#[test]
fn v3_adds_the_bias_to_the_accumulator() {
    let v3 = |acc, bias| rescaler(Flavor::V3, BitWidth::Eight, (0, 32768, 23), bias).apply(acc);
    assert_eq!((v3(1000, 24), v3(128, 0), v3(-128, 0), v3(-129, 0)), (4, 1, 0, -1));
    assert_eq!((v3(i64::MAX, 1), v3(i64::MIN, -1)), (127, -128));
    let wide = |acc, bias| rescaler(Flavor::V3, BitWidth::Sixteen, (8, 32768, 15), bias).apply(acc);
    assert_eq!((wide(25_600, 0), wide(0, 1), wide(i64::MAX, i32::MAX)), (100, 256, 32767));
    // The shifted accumulator is limited to 24 bits before the scale.
    let wide = rescaler(Flavor::V3, BitWidth::Sixteen, (3, 32768, 24), 0);
    assert_eq!((wide.apply(1 << 40), wide.apply(-(1 << 40))), (16384, -16384));
}

#[test]
fn multipliers_the_hardware_cannot_apply_are_errors() {
    use BitWidth::{Eight, Sixteen};
    for (flavor, bits, parts) in [
        (Flavor::V3, Eight, (1, 100, 10)),
        (Flavor::V3, Eight, (0, 65_536, 10)),
        (Flavor::V3, Eight, (0, 100, 41)),
        (Flavor::V3, Sixteen, (64, 100, 10)),
        (Flavor::V2, Eight, (0, 256, 7)),
        (Flavor::V2, Sixteen, (0, -256, 7)),
        (Flavor::V2, Sixteen, (0, 1, u32::MAX)),
    ] {
        let found = Rescaler::new(flavor, bits, multiplier(parts.0, parts.1, parts.2), 0);
        assert!(matches!(found, Err(NumericsError::UnsupportedMultiplier { .. })), "{flavor:?} {bits:?} {parts:?}");
    }
}

#[test]
fn channels_get_their_own_rescaler() {
    let rescalers = [(0, 1, 0), (0, 2, 0)].map(|parts| rescaler(Flavor::V3, BitWidth::Eight, parts, 0));
    let layout = ChannelLayout::new(2, 3);
    let mut codes = [0; 12];
    rescale_channels(&rescalers, layout, &[1, 2, 3, 1, 2, 3, -1, -2, -3, 40, 50, 100], &mut codes).unwrap();
    assert_eq!(codes, [1, 2, 3, 2, 4, 6, -1, -2, -3, 80, 100, 127]);
    assert!(rescale_channels(&rescalers, layout, &[0; 11], &mut codes).is_err());
    assert!(rescale_channels(&rescalers, layout, &[0; 6], &mut codes).is_err());
    assert!(rescale_channels(&rescalers[1..], layout, &[0; 12], &mut codes).is_err());
}

#[test]
fn average_pooling_truncates_the_product_before_the_shift() {
    // 49 · 21400 / 2^20 is just above 1.
    for (sum, scale, shift, expected) in [
        (49, 21_400, 20, 1),
        (-49, 21_400, 20, -1),
        (73, 21_400, 20, 1),
        (74, 21_400, 20, 2),
        (1 << 40, 32_767, 1, 127),
    ] {
        assert_eq!(average_pool(sum, multiplier(0, scale, shift), BitWidth::Eight), expected, "{sum}");
    }
    // 2^24 + 1 is no f32: the sum loses its last bit.
    assert_eq!(average_pool((1 << 24) + 1, multiplier(0, 1, 10), BitWidth::Sixteen), 16_384);
}

proptest! {
    #[test]
    fn rescaling_equals_exact_rational_arithmetic(
        acc in prop_oneof![any::<i64>(), -(1i64 << 24)..(1 << 24), -(1i64 << 44)..(1 << 44)],
        bias: i32, pre in 0u32..40, scale in -255i32..=255, wide_scale in -65_535i32..=65_535, post in 0u32..=40,
    ) {
        for bits in WIDTHS {
            let width = bits.bits();
            let v2 = exact_clamp(exact_shift(i128::from(acc), pre), width) * i128::from(scale);
            let v2 = exact_clamp(exact_clamp(exact_shift(v2, post), width) + i128::from(bias), width);
            prop_assert_eq!(i128::from(rescaler(Flavor::V2, bits, (pre, scale, post), bias).apply(acc)), v2);
        }
        let v3 = (i128::from(acc) + i128::from(bias)) * i128::from(wide_scale);
        let found = rescaler(Flavor::V3, BitWidth::Eight, (0, wide_scale, post), bias).apply(acc);
        prop_assert_eq!(i128::from(found), exact_clamp(exact_shift(v3, post), 8));
        let v3 = exact_clamp(exact_shift(i128::from(acc) + (i128::from(bias) << 16), pre), 24);
        let found = rescaler(Flavor::V3, BitWidth::Sixteen, (pre, wide_scale, post), bias).apply(acc);
        prop_assert_eq!(i128::from(found), exact_clamp(exact_shift(v3 * i128::from(wide_scale), post), 16));
    }

    #[test]
    fn slices_rescale_like_single_accumulators(accs in proptest::collection::vec(any::<i32>(), 0..50), bias: i32) {
        for (flavor, bits, parts) in [
            (Flavor::V2, BitWidth::Eight, (10, 107, 7)),
            (Flavor::V3, BitWidth::Eight, (0, 23_475, 25)),
            (Flavor::V3, BitWidth::Sixteen, (3, 28_811, 15)),
        ] {
            let rescaler = rescaler(flavor, bits, parts, bias);
            let mut codes = vec![0; accs.len()];
            rescaler.apply_slice(&accs, &mut codes).unwrap();
            let single: Vec<i32> = accs.iter().map(|&acc| rescaler.apply(i64::from(acc))).collect();
            prop_assert_eq!(codes, single);
        }
    }

    #[test]
    fn codes_come_back_within_one_step(x in -2f32..2.0, threshold in 0.01f64..1.0) {
        for bits in WIDTHS {
            let grid = SymmetricGrid::new(threshold, bits).unwrap();
            let clipped = f64::from(x).clamp(-threshold, threshold);
            let step = threshold / f64::from(bits.largest());
            // Relative rounding of f32 arithmetic, in steps.
            let slack = f64::from(bits.largest()) * 4.0 * f64::from(f32::EPSILON);
            let steps = |code| (f64::from(grid.dequantize(code)) - clipped).abs() / step;
            prop_assert!(steps(grid.input_code(x)) <= 1.0 + slack);
            prop_assert!(steps(grid.weight_code(x)) <= 0.5 + slack);
        }
    }
}
