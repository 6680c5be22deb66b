//! Tests of the affine quantizer, the trap cases included.

use proptest::prelude::*;

use super::*;

const TYPES: [QuantType; 8] = [
    QuantType::U8,
    QuantType::I8,
    QuantType::I8Narrow,
    QuantType::I8Reduced,
    QuantType::I4Narrow,
    QuantType::U16,
    QuantType::I16Narrow,
    QuantType::I32,
];

fn from_range(lo: f32, hi: f32, qtype: QuantType, symmetric: bool) -> RangeParams {
    params_from_range(Range::new(lo, hi).unwrap(), qtype, symmetric).unwrap()
}

fn params(scale: f32, zero_point: i32, qtype: QuantType) -> AffineParams {
    AffineParams::new(scale, zero_point, qtype).unwrap()
}

#[test]
fn ties_round_to_even() {
    let unit = params(1.0, 0, QuantType::I8);
    let table = [(0.5, 0), (1.5, 2), (2.5, 2), (-0.5, 0), (-1.5, -2), (-2.5, -2), (3.5, 4), (126.5, 126)];
    for (x, code) in table {
        assert_eq!(unit.quantize(x), code, "quantize({x})");
    }
}

#[test]
fn ties_are_rounded_before_the_zero_point_is_added() {
    let odd = params(1.0, 3, QuantType::U8);
    assert_eq!((odd.quantize(0.5), odd.quantize(1.5)), (3, 5));
}

#[test]
fn every_code_survives_a_round_trip() {
    let mut state = 7u64;
    for _ in 0..1000 {
        let scale = 2f32.powf(crate::testing::uniform(&mut state) as f32 * 160.0 - 80.0);
        let zero_point = (crate::testing::uniform(&mut state) * 256.0) as i32;
        for (qtype, zero_point) in [(QuantType::U8, zero_point), (QuantType::I8, zero_point - 128)] {
            let params = params(scale, zero_point, qtype);
            for code in qtype.qmin()..=qtype.qmax() {
                assert_eq!(params.quantize(params.dequantize(code)), code, "{params:?}");
            }
        }
    }
}

#[test]
fn conversion_saturates_and_defines_nan() {
    for qtype in TYPES {
        let params = params(0.5, 0, qtype);
        assert_eq!(params.quantize(f32::INFINITY), qtype.qmax(), "{qtype}");
        assert_eq!(params.quantize(f32::NEG_INFINITY), qtype.qmin(), "{qtype}");
        assert_eq!(params.quantize(f32::MAX), qtype.qmax(), "{qtype}");
        assert_eq!(params.quantize(f32::NAN), 0, "{qtype}");
    }
    assert_eq!(params(0.5, 9, QuantType::U8).quantize(f32::NAN), 9);
}

#[test]
fn constructor_rejects_unusable_scales() {
    for scale in [0.0, -1.0, f32::NAN, f32::INFINITY, 1e-39] {
        assert!(AffineParams::new(scale, 0, QuantType::I8).is_err(), "{scale}");
    }
}

#[test]
fn constructor_rejects_foreign_zero_points() {
    for (zero_point, qtype) in
        [(-1, QuantType::U8), (256, QuantType::U8), (128, QuantType::I8), (1, QuantType::I8Narrow)]
    {
        assert!(AffineParams::new(1.0, zero_point, qtype).is_err(), "{zero_point} {qtype}");
    }
}

#[test]
fn range_rejects_non_finite_and_reversed_bounds() {
    for (lo, hi) in [(f32::NAN, 1.0), (0.0, f32::INFINITY), (f32::NEG_INFINITY, 0.0)] {
        assert!(matches!(Range::new(lo, hi), Err(NumericsError::NonFiniteRange { .. })));
    }
    assert!(matches!(Range::new(1.0, 0.5), Err(NumericsError::ReversedRange { .. })));
}

#[test]
fn known_ranges_give_known_parameters() {
    let cases = [
        ("relu6 u8", 0.0, 6.0, QuantType::U8, false, (6.0f64 / 255.0) as f32, 0),
        ("relu6 i8", 0.0, 6.0, QuantType::I8, false, (6.0f64 / 255.0) as f32, -128),
        ("signed u8", -1.0, 3.0, QuantType::U8, false, (4.0f64 / 255.0) as f32, 64),
        ("symmetric i8", -1.0, 2.0, QuantType::I8, true, (2.0f64 / 127.0) as f32, 0),
        ("symmetric u8", -1.0, 2.0, QuantType::U8, true, (2.0f64 / 127.0) as f32, 128),
        ("narrow is symmetric", -1.0, 0.5, QuantType::I8Narrow, false, (1.0f64 / 127.0) as f32, 0),
        ("post-relu in signed", 0.0, 1.27, QuantType::I8, true, (f64::from(1.27f32) / 127.0) as f32, 0),
        ("zero not inside", 3.0, 5.0, QuantType::U8, false, (5.0f64 / 255.0) as f32, 0),
        ("all negative", -5.0, -3.0, QuantType::U8, false, (5.0f64 / 255.0) as f32, 255),
    ];
    for (name, lo, hi, qtype, symmetric, scale, zero_point) in cases {
        let found = from_range(lo, hi, qtype, symmetric);
        assert_eq!((found.params.scale(), found.params.zero_point()), (scale, zero_point), "{name}");
        assert!(!found.constant_zero, "{name}");
    }
}

#[test]
fn all_negative_tensor_pads_with_the_largest_code() {
    let found = from_range(-4.0, -1.0, QuantType::U8, false).params;
    assert_eq!(found.quantize(0.0), 255);
    assert_eq!(found.quantize(-0.0), 255);
}

#[test]
fn nothing_but_zero_has_unit_scale() {
    for (lo, hi) in [(0.0, 0.0), (-0.0, 0.0), (0.0, 1e-38), (-1e-36, 1e-37)] {
        let (u8, i8) = (from_range(lo, hi, QuantType::U8, false), from_range(lo, hi, QuantType::I8, true));
        assert!(u8.constant_zero && i8.constant_zero, "[{lo}, {hi}]");
        assert_eq!((u8.params.scale(), u8.params.zero_point()), (1.0, 0));
        assert_eq!((i8.params.scale(), i8.params.zero_point()), (1.0, 0));
    }
}

#[test]
fn constant_tensor_is_reproduced() {
    for constant in [1.0f32, -3.7, 1e-20, 2.5e30] {
        let (lo, hi) = (constant.min(0.0), constant.max(0.0));
        let found = from_range(lo, hi, QuantType::U8, false).params;
        let error = (found.dequantize(found.quantize(constant)) - constant).abs();
        assert!(error <= constant.abs() * f32::EPSILON, "{constant}: {error}");
    }
}

#[test]
fn very_large_ranges_have_finite_scales() {
    let found = from_range(-f32::MAX, f32::MAX, QuantType::U8, false).params;
    assert!(found.scale().is_finite());
    assert_eq!((found.quantize(f32::MAX), found.quantize(-f32::MAX)), (255, 0));
}

#[test]
fn negative_zero_is_zero() {
    let unit = params(0.1, 7, QuantType::U8);
    assert_eq!(unit.quantize(-0.0), unit.quantize(0.0));
    let mut values = [-0.0f32, -0.01];
    unit.fake_quantize_in_place(&mut values);
    assert_eq!(values.map(f32::to_bits), [0, 0]);
}

#[test]
fn slices_match_scalars_and_check_lengths() {
    let params = params(0.25, 3, QuantType::I8);
    let values = [0.3, -40.0, f32::NAN];
    let mut codes = [0; 3];
    params.quantize_slice(&values, &mut codes).unwrap();
    assert_eq!(codes, values.map(|x| params.quantize(x)));
    let mut back = [0.0; 3];
    params.dequantize_slice(&codes, &mut back).unwrap();
    assert_eq!(back, codes.map(|q| params.dequantize(q)));
    assert!(params.quantize_slice(&values, &mut codes[..2]).is_err());
    assert!(params.dequantize_slice(&codes, &mut back[..2]).is_err());
}

fn any_params() -> impl Strategy<Value = AffineParams> {
    (0..TYPES.len(), -90f32..90.0, any::<u16>()).prop_map(|(index, exponent, zero_point)| {
        let qtype = TYPES[index];
        let span = qtype.steps() + 1;
        let zero_point = if qtype.is_symmetric() { 0 } else { i64::from(qtype.qmin()) + i64::from(zero_point) % span };
        params(exponent.exp2(), zero_point as i32, qtype)
    })
}

proptest! {
    #[test]
    fn fake_quantization_is_bit_equal_to_the_round_trip(params in any_params(), bits in proptest::collection::vec(any::<u32>(), 1..64)) {
        let mut values: Vec<f32> = bits.iter().map(|&bits| f32::from_bits(bits)).collect();
        // Add values near the grid and on its ties, where a shortcut would show first.
        values.extend(bits.iter().map(|&bits| (bits % 1024) as f32 * 0.5 * params.scale()));
        let expected: Vec<u32> = values.iter().map(|&x| params.dequantize(params.quantize(x)).to_bits()).collect();
        params.fake_quantize_in_place(&mut values);
        let found: Vec<u32> = values.iter().map(|x| x.to_bits()).collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn codes_match_the_definition_in_f64(params in any_params(), x in any::<f32>()) {
        let (qmin, qmax) = (f64::from(params.qtype().qmin()), f64::from(params.qtype().qmax()));
        let ratio = f64::from((x / params.scale()).round_ties_even());
        let expected = (ratio + f64::from(params.zero_point())).clamp(qmin, qmax);
        let expected = if x.is_nan() { params.zero_point() } else { expected as i32 };
        prop_assert_eq!(params.quantize(x), expected);
    }

    #[test]
    fn error_is_at_most_half_a_step(lo in -100f32..0.0, hi in 0.01f32..100.0, t in 0f64..=1.0) {
        let params = params_from_range(Range::new(lo, hi)?, QuantType::U8, false)?.params;
        let (low, high) = params.covered();
        let x = (f64::from(low) + t * (f64::from(high) - f64::from(low))) as f32;
        let error = (f64::from(x) - f64::from(params.dequantize(params.quantize(x)))).abs();
        // The relative term covers the rounding of x / s and s·q themselves at up to 255 steps from zero.
        let bound = 0.5 * f64::from(params.scale()) * (1.0 + 2f64.powi(-20)) + f64::from(x.abs()) * f64::from(f32::EPSILON);
        prop_assert!(error <= bound, "x = {}, error = {}, bound = {}", x, error, bound);
    }

    #[test]
    fn quantization_is_monotone(params in any_params(), a in any::<f32>(), b in any::<f32>()) {
        prop_assume!(!a.is_nan() && !b.is_nan());
        prop_assert!(params.quantize(a.min(b)) <= params.quantize(a.max(b)));
    }

    #[test]
    fn zero_is_always_exact(lo in any::<f32>(), hi in any::<f32>()) {
        prop_assume!(lo.is_finite() && hi.is_finite());
        let range = Range::new(lo.min(hi), lo.max(hi))?;
        for (qtype, symmetric) in [(QuantType::U8, false), (QuantType::I8, false), (QuantType::I8, true)] {
            let params = params_from_range(range, qtype, symmetric)?.params;
            prop_assert_eq!(params.dequantize(params.quantize(0.0)), 0.0);
            let (low, high) = params.covered();
            prop_assert!(f64::from(low) <= f64::from(range.lo().min(0.0)) + 0.51 * f64::from(params.scale()));
            prop_assert!(f64::from(high) >= f64::from(range.hi().max(0.0)) - 0.51 * f64::from(params.scale()));
        }
    }
}
