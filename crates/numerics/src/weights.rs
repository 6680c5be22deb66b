//! Weight scales with the floors that make biases and requantization multipliers fit, weight codes, bias codes.
//!
//! Weights are quantized symmetrically; which axis carries the channels is the caller's knowledge.

use crate::affine::{MIN_SCALE, check_len};
use crate::measure::SqnrAccumulator;
use crate::{AffineParams, ChannelLayout, NumericsError, QuantType};

/// Largest magnitude of a bias code: leaves one bit of an int32 accumulator to the products.
pub const MAX_BIAS_CODE: i32 = 1 << 30;

/// A dead channel gets this share of the largest scale of the live ones.
const DEAD_SCALE_SHARE: f64 = 1.0 / 256.0;

/// Least ratio of two scales of one tensor, so that requantization multipliers span less than 2³¹.
const MIN_SCALE_RATIO: f64 = 1.0 / (1u32 << 24) as f64;

/// What the bias demands of the weight scales.
#[derive(Debug, Clone, Copy)]
pub struct BiasConstraint<'a> {
    /// Bias per channel, fp32.
    pub bias: &'a [f32],
    /// Scale of the layer's input.
    pub input_scale: f32,
}

/// Scales of a weight tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct WeightScales {
    /// One scale per channel, or a single one for the whole tensor.
    pub scales: Vec<f32>,
    /// Channels whose scale was raised above max|W| / qmax (dead channels included), ascending; channel 0 stands for
    /// the whole tensor if there is a single scale.
    pub raised: Vec<usize>,
}

/// Symmetric scale per channel: max|W_c| / qmax, raised where needed.
///
/// * A channel with max|W_c| < 2⁻¹⁰⁰ is dead: its codes are all 0, its scale is 2⁻⁸ of the largest live one (1 if no
///   channel is alive).
/// * With a `bias`: s_c >= |b_c| / (s_x · 2³⁰) so that the bias code fits, and s_x · s_c is a normal f32.
/// * s_c >= 2⁻²⁴ · max s.
///
/// # Errors
/// [`NumericsError::InvalidLayout`], [`NumericsError::NotAWeightType`], [`NumericsError::NonFiniteWeight`],
/// [`NumericsError::NonFiniteBias`], [`NumericsError::LengthMismatch`] of the bias, [`NumericsError::InvalidScale`] of
/// the input, or [`NumericsError::ScaleOverflow`].
pub fn per_channel_scales(
    weights: &[f32],
    layout: ChannelLayout,
    qtype: QuantType,
    bias: Option<BiasConstraint<'_>>,
) -> Result<WeightScales, NumericsError> {
    check_weight_type(qtype)?;
    let largest = largest_magnitudes(weights, layout)?;
    let floors = bias.map_or_else(|| Ok(vec![0.0; largest.len()]), |bias| bias_floors(bias, largest.len()))?;
    raised_scales(&largest, &floors, qtype)
}

/// One symmetric scale for the whole tensor, with the floors of [`per_channel_scales`] applied to the largest demand.
///
/// # Errors
/// As [`per_channel_scales`].
pub fn per_tensor_scale(
    weights: &[f32],
    layout: ChannelLayout,
    qtype: QuantType,
    bias: Option<BiasConstraint<'_>>,
) -> Result<WeightScales, NumericsError> {
    check_weight_type(qtype)?;
    let largest = largest_magnitudes(weights, layout)?;
    let floors = bias.map_or_else(|| Ok(Vec::new()), |bias| bias_floors(bias, largest.len()))?;
    let largest = largest.into_iter().fold(0.0, f32::max);
    raised_scales(&[largest], &[floors.into_iter().fold(0.0, f64::max)], qtype)
}

fn check_weight_type(qtype: QuantType) -> Result<(), NumericsError> {
    let fits = qtype.is_signed() && qtype.qmax() <= i32::from(i16::MAX);
    if fits { Ok(()) } else { Err(NumericsError::NotAWeightType { qtype }) }
}

/// max|W_c| per channel.
fn largest_magnitudes(weights: &[f32], layout: ChannelLayout) -> Result<Vec<f32>, NumericsError> {
    layout.check(weights.len())?;
    let mut largest = vec![0f32; layout.channels];
    for (channel, run) in layout.runs(weights) {
        if !run.iter().all(|w| w.is_finite()) {
            return Err(NumericsError::NonFiniteWeight { channel });
        }
        largest[channel] = run.iter().fold(largest[channel], |m, w| m.max(w.abs()));
    }
    Ok(largest)
}

/// Least scale per channel for which the bias code fits and the bias scale is a normal number.
fn bias_floors(constraint: BiasConstraint<'_>, channels: usize) -> Result<Vec<f64>, NumericsError> {
    check_len("bias", channels, constraint.bias.len())?;
    check_bias(constraint.bias)?;
    let input_scale = f64::from(AffineParams::new(constraint.input_scale, 0, QuantType::I32)?.scale());
    let normal = f64::from(f32::MIN_POSITIVE) / input_scale;
    let floor = |b: &f32| (f64::from(b.abs()) / (input_scale * f64::from(MAX_BIAS_CODE))).max(normal);
    Ok(constraint.bias.iter().map(floor).collect())
}

fn check_bias(bias: &[f32]) -> Result<(), NumericsError> {
    let bad = bias.iter().position(|b| !b.is_finite());
    bad.map_or(Ok(()), |channel| Err(NumericsError::NonFiniteBias { channel }))
}

fn raised_scales(largest: &[f32], floors: &[f64], qtype: QuantType) -> Result<WeightScales, NumericsError> {
    let plain: Vec<f64> = largest.iter().map(|&m| f64::from(m) / f64::from(qtype.qmax())).collect();
    let is_dead = |channel: usize| f64::from(largest[channel]) < MIN_SCALE;
    let live = (0..plain.len()).filter(|&channel| !is_dead(channel)).map(|channel| plain[channel]);
    let dead = dead_scale(live.fold(0.0, f64::max));
    let bounded = |channel: usize| {
        let needed = (if is_dead(channel) { dead } else { plain[channel] }).max(floors[channel]);
        if needed < f64::from(f32::MAX) { Ok(needed) } else { Err(NumericsError::ScaleOverflow { channel }) }
    };
    let bounded: Vec<f64> = (0..plain.len()).map(bounded).collect::<Result<_, _>>()?;
    let relative = bounded.iter().copied().fold(0.0, f64::max) * MIN_SCALE_RATIO;
    let needed = || bounded.iter().map(|needed| needed.max(relative)).zip(&plain);
    let scales = needed().map(|(needed, &plain)| round_scale(needed, needed > plain)).collect();
    let raised =
        needed().enumerate().filter(|(_, (needed, plain))| needed > plain).map(|(channel, _)| channel).collect();
    Ok(WeightScales { scales, raised })
}

/// At least 2⁻⁹⁸, so that magnitudes below 2⁻¹⁰⁰ round to code 0.
fn dead_scale(largest_live: f64) -> f64 {
    if largest_live == 0.0 { 1.0 } else { (largest_live * DEAD_SCALE_SHARE).max(4.0 * MIN_SCALE) }
}

/// Nearest f32, but never below a floor.
fn round_scale(needed: f64, is_floor: bool) -> f32 {
    let nearest = needed as f32;
    if is_floor && f64::from(nearest) < needed { nearest.next_up() } else { nearest }
}

/// Grids of every channel; a single scale serves all of them.
fn grids(layout: ChannelLayout, scales: &[f32], qtype: QuantType) -> Result<Vec<AffineParams>, NumericsError> {
    check_weight_type(qtype)?;
    let grids: Vec<AffineParams> =
        scales.iter().map(|&scale| AffineParams::new(scale, 0, qtype)).collect::<Result<_, _>>()?;
    if let [single] = grids[..] {
        return Ok(vec![single; layout.channels]);
    }
    check_len("weight scales", layout.channels, grids.len())?;
    Ok(grids)
}

/// Codes of a weight tensor, in the layout of `weights`. `scales` holds one scale per channel or a single one.
///
/// # Errors
/// [`NumericsError::InvalidLayout`], [`NumericsError::NotAWeightType`], [`NumericsError::InvalidScale`],
/// [`NumericsError::LengthMismatch`] of the scales, or [`NumericsError::NonFiniteWeight`].
pub fn quantize_weights(
    weights: &[f32],
    layout: ChannelLayout,
    scales: &[f32],
    qtype: QuantType,
) -> Result<Vec<i32>, NumericsError> {
    quantize_weights_as(weights, layout, scales, qtype, |code| code).map(|(codes, _)| codes)
}

/// Weight codes as `narrow` stores them, and the signal-to-quantization-noise ratio of the weights in dB, as
/// [`crate::measure::sqnr_db`] finds it; neither wider codes nor their reals are ever held all at once.
///
/// # Errors
/// As [`quantize_weights`].
pub fn quantize_weights_as<T>(
    weights: &[f32],
    layout: ChannelLayout,
    scales: &[f32],
    qtype: QuantType,
    narrow: impl Fn(i32) -> T,
) -> Result<(Vec<T>, f64), NumericsError> {
    layout.check(weights.len())?;
    let grids = grids(layout, scales, qtype)?;
    let (mut codes, mut sums, mut reals) = (Vec::with_capacity(weights.len()), SqnrAccumulator::new(), Vec::new());
    for (channel, run) in layout.runs(weights) {
        if !run.iter().all(|w| w.is_finite()) {
            return Err(NumericsError::NonFiniteWeight { channel });
        }
        let grid = &grids[channel];
        for run in run.chunks(SQNR_CHUNK) {
            let wide = run.iter().map(|&w| grid.quantize(w));
            reals.clear();
            codes.extend(wide.inspect(|&code| reals.push(grid.dequantize(code))).map(&narrow));
            sums.add(run, &reals)?;
        }
    }
    Ok((codes, sums.db()))
}

/// Reals of codes that are held at a time.
const SQNR_CHUNK: usize = 1024;

/// Reals of weight codes: q · s_c.
///
/// # Errors
/// [`NumericsError::InvalidLayout`], [`NumericsError::InvalidScale`] or [`NumericsError::LengthMismatch`].
pub fn dequantize_weights(codes: &[i32], layout: ChannelLayout, scales: &[f32]) -> Result<Vec<f32>, NumericsError> {
    layout.check(codes.len())?;
    let grids = grids(layout, scales, QuantType::I8)?;
    let mut values = Vec::with_capacity(codes.len());
    layout.runs(codes).for_each(|(channel, run)| values.extend(run.iter().map(|&q| grids[channel].dequantize(q))));
    Ok(values)
}

/// Replaces every weight by its quantized value, bit-equal to [`dequantize_weights`] of [`quantize_weights`].
///
/// # Errors
/// As [`quantize_weights`]; the weights are then unchanged.
pub fn fake_quantize_weights(
    weights: &mut [f32],
    layout: ChannelLayout,
    scales: &[f32],
    qtype: QuantType,
) -> Result<(), NumericsError> {
    largest_magnitudes(weights, layout)?;
    let grids = grids(layout, scales, qtype)?;
    for (channel, run) in layout.runs_mut(weights) {
        grids[channel].fake_quantize_in_place(run);
    }
    Ok(())
}

/// Bias codes RN(b_c / (s_x · s_c)), computed in f64, |code| <= 2³⁰. `weight_scales` holds one scale per channel or a
/// single one.
///
/// # Errors
/// [`NumericsError::BiasOverflow`] if a weight scale was not raised as [`per_channel_scales`] does;
/// [`NumericsError::NonFiniteBias`], [`NumericsError::InvalidScale`] or [`NumericsError::LengthMismatch`].
pub fn quantize_bias(bias: &[f32], input_scale: f32, weight_scales: &[f32]) -> Result<Vec<i32>, NumericsError> {
    check_bias(bias)?;
    let input_scale = f64::from(AffineParams::new(input_scale, 0, QuantType::I32)?.scale());
    let grids = grids(ChannelLayout::new(bias.len(), 1), weight_scales, QuantType::I8)?;
    let code = |(channel, (&b, grid)): (usize, (&f32, &AffineParams))| {
        let code = (f64::from(b) / (input_scale * f64::from(grid.scale()))).round_ties_even();
        let fits = code.abs() <= f64::from(MAX_BIAS_CODE);
        if fits { Ok(code as i32) } else { Err(NumericsError::BiasOverflow { channel, code }) }
    };
    bias.iter().zip(&grids).enumerate().map(code).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NARROW: QuantType = QuantType::I8Narrow;

    #[test]
    fn the_ratio_is_that_of_the_reals() {
        let weights: Vec<f32> = (0..6 * 3000).map(|i| (i as f32 * 0.37).sin() * (1 + i % 7) as f32).collect();
        for layout in [ChannelLayout::new(6, 3000), ChannelLayout::of_shape(&[3000, 6], 1).unwrap()] {
            let scales = per_channel_scales(&weights, layout, NARROW, None).unwrap().scales;
            let codes = quantize_weights(&weights, layout, &scales, NARROW).unwrap();
            let reals = dequantize_weights(&codes, layout, &scales).unwrap();
            let (narrow, found) = quantize_weights_as(&weights, layout, &scales, NARROW, |code| code as i8).unwrap();
            assert_eq!(found, crate::measure::sqnr_db(&weights, &reals).unwrap());
            assert!(narrow.iter().zip(&codes).all(|(narrow, code)| i32::from(*narrow) == *code));
        }
    }

    fn scales(weights: &[f32], channels: usize, bias: Option<(&[f32], f32)>) -> WeightScales {
        let layout = ChannelLayout::new(channels, weights.len() / channels);
        let bias = bias.map(|(bias, input_scale)| BiasConstraint { bias, input_scale });
        per_channel_scales(weights, layout, NARROW, bias).unwrap()
    }

    #[test]
    fn scale_is_the_largest_magnitude_over_127() {
        let found = scales(&[1.0, -2.54, 0.0, 1.27], 2, None);
        assert_eq!(found.scales, [(f64::from(2.54f32) / 127.0) as f32, (f64::from(1.27f32) / 127.0) as f32]);
        assert!(found.raised.is_empty());
    }

    #[test]
    fn per_tensor_scale_covers_all_channels() {
        let layout = ChannelLayout::new(2, 2);
        let found = per_tensor_scale(&[1.0, -2.54, 0.0, 1.27], layout, NARROW, None).unwrap();
        assert_eq!(found.scales, [(f64::from(2.54f32) / 127.0) as f32]);
        let zero = per_tensor_scale(&[0.0; 4], layout, NARROW, None).unwrap();
        assert_eq!((zero.scales.as_slice(), zero.raised.as_slice()), ([1.0].as_slice(), [0].as_slice()));
    }

    #[test]
    fn dead_channels_have_zero_codes_and_a_usable_scale() {
        for dead in [0.0, 1e-31, -1e-38, 1e-44] {
            let weights = [127.0, 1.0, dead, dead];
            let found = scales(&weights, 2, None);
            assert_eq!(
                (found.scales.as_slice(), found.raised.as_slice()),
                ([1.0, 1.0 / 256.0].as_slice(), [1].as_slice())
            );
            let codes = quantize_weights(&weights, ChannelLayout::new(2, 2), &found.scales, NARROW).unwrap();
            assert_eq!(codes, [127, 1, 0, 0], "{dead}");
        }
        assert_eq!(scales(&[0.0; 4], 2, None).scales, [1.0, 1.0]);
    }

    #[test]
    fn dead_channel_beside_a_tiny_one_still_has_zero_codes() {
        let weights = [8e-31, 7e-31];
        let found = scales(&weights, 2, None);
        let codes = quantize_weights(&weights, ChannelLayout::new(2, 1), &found.scales, NARROW).unwrap();
        assert_eq!(codes, [127, 0]);
    }

    #[test]
    fn bias_of_a_dead_channel_stays_exact() {
        let found = scales(&[1.0, 0.0], 2, Some((&[0.5, 0.75], 0.02)));
        let codes = quantize_bias(&[0.5, 0.75], 0.02, &found.scales).unwrap();
        let back = f64::from(codes[1]) * 0.02f32 as f64 * f64::from(found.scales[1]);
        assert!((back - 0.75).abs() <= 0.5 * f64::from(0.02f32) * f64::from(found.scales[1]), "{back}");
    }

    #[test]
    fn tiny_channels_are_raised_until_the_bias_fits() {
        let weights = [1.0, 1e-12];
        let bias = [0.1, -3.0];
        let plain = (1e-12f64 / 127.0) as f32;
        assert!(matches!(
            quantize_bias(&bias, 0.02, &[1.0 / 127.0, plain]),
            Err(NumericsError::BiasOverflow { channel: 1, .. })
        ));
        let found = scales(&weights, 2, Some((&bias, 0.02)));
        assert_eq!(found.raised, [1]);
        let codes = quantize_bias(&bias, 0.02, &found.scales).unwrap();
        assert!(codes[1] < -(1 << 29) && codes[1] >= -MAX_BIAS_CODE, "{codes:?}");
    }

    #[test]
    fn scales_span_at_most_24_bits() {
        let found = scales(&[127.0, 1e-20], 2, None);
        assert_eq!((found.scales[1], found.raised), (2f32.powi(-24), vec![1]));
    }

    #[test]
    fn bias_scale_is_a_normal_number() {
        let found = scales(&[1e-10, 1e-10], 2, Some((&[0.0, 0.0], 1e-32)));
        for scale in found.scales {
            assert!((1e-32 * scale).is_normal());
        }
    }

    #[test]
    fn impossible_demands_are_errors() {
        let layout = ChannelLayout::new(2, 1);
        let scales = |weights: &[f32], bias: &[f32], input_scale| {
            per_channel_scales(weights, layout, NARROW, Some(BiasConstraint { bias, input_scale }))
        };
        assert_eq!(scales(&[1.0, f32::NAN], &[0.0; 2], 1.0), Err(NumericsError::NonFiniteWeight { channel: 1 }));
        assert_eq!(scales(&[f32::INFINITY, 1.0], &[0.0; 2], 1.0), Err(NumericsError::NonFiniteWeight { channel: 0 }));
        assert_eq!(scales(&[1.0; 2], &[0.0, f32::NAN], 1.0), Err(NumericsError::NonFiniteBias { channel: 1 }));
        assert_eq!(scales(&[1.0; 2], &[0.0, 1e38], 1e-30), Err(NumericsError::ScaleOverflow { channel: 1 }));
        assert!(scales(&[1.0; 2], &[0.0], 1.0).is_err());
        assert!(scales(&[1.0; 2], &[0.0; 2], f32::NAN).is_err());
        assert!(scales(&[1.0; 3], &[0.0; 2], 1.0).is_err());
        assert!(per_channel_scales(&[1.0; 2], layout, QuantType::U8, None).is_err());
        assert!(quantize_weights(&[1.0; 2], layout, &[1.0; 3], NARROW).is_err());
    }

    #[test]
    fn channels_may_lie_on_any_axis() {
        // [outer 2][channels 2][inner 1]: the last axis.
        let weights = [1.0, 10.0, -2.0, 20.0];
        let layout = ChannelLayout::new(2, 1);
        let found = per_channel_scales(&weights, layout, NARROW, None).unwrap().scales;
        let codes = quantize_weights(&weights, layout, &found, NARROW).unwrap();
        assert_eq!(codes, [64, 64, -127, 127]);
    }

    proptest! {
        #[test]
        fn codes_are_narrow_and_fake_quantization_agrees(
            weights in proptest::collection::vec(-1e3f32..1e3, 12),
            exponents in proptest::collection::vec(-40i32..20, 3),
        ) {
            let weights: Vec<f32> = weights.iter().enumerate().map(|(i, w)| w * 2f32.powi(exponents[i / 2 % 3])).collect();
            let layout = ChannelLayout::new(3, 2);
            let scales = per_channel_scales(&weights, layout, NARROW, None)?.scales;
            let codes = quantize_weights(&weights, layout, &scales, NARROW)?;
            prop_assert!(codes.iter().all(|&q| q >= -127));
            let mut fake = weights.clone();
            fake_quantize_weights(&mut fake, layout, &scales, NARROW)?;
            let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&fake), bits(&dequantize_weights(&codes, layout, &scales)?));
        }

        #[test]
        fn bias_codes_always_fit_raised_scales(
            weights in proptest::collection::vec(-1f32..1.0, 4),
            exponents in proptest::collection::vec(-120i32..3, 4),
            bias in proptest::collection::vec(-1e4f32..1e4, 4),
            input_exponent in -30i32..10,
        ) {
            let weights: Vec<f32> = weights.iter().zip(&exponents).map(|(w, &e)| w * 2f32.powi(e)).collect();
            let input_scale = 1.1 * 2f32.powi(input_exponent);
            let constraint = Some(BiasConstraint { bias: &bias, input_scale });
            for scales in [
                per_channel_scales(&weights, ChannelLayout::new(4, 1), NARROW, constraint)?,
                per_tensor_scale(&weights, ChannelLayout::new(4, 1), NARROW, constraint)?,
            ] {
                prop_assert!(quantize_bias(&bias, input_scale, &scales.scales).is_ok());
            }
        }
    }
}
