//! Codes of weights: those of the original script, bit for bit, and symmetric ones rounded to nearest.

use super::Rules;
use crate::dtype::DataType;
use crate::node::NodeDef;
use crate::tensor::TensorProto;
use quantize_ir::Tensor;

/// Ends of a range that are closer to zero than this count as zero.
const NEAR_ZERO: f32 = 1e-6;
/// The smallest range of a channel.
const SMALLEST_RANGE: f32 = 1e-4;
/// The largest code and its distance from zero.
const TOP: f32 = 127.0;

/// How many ranges weights have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Granularity {
    /// One, a scalar.
    Tensor,
    /// One for each output channel: the last axes of the array, which are this many elements.
    Channel(usize),
}

/// Codes of weights and the ranges that they stand for.
pub(crate) struct Codes {
    codes: Tensor,
    min: Tensor,
    max: Tensor,
}

impl Codes {
    /// The nodes that take the place of the weights `name`: `<name>_qint8_const`, `<name>_min` and `<name>_max`.
    pub(crate) fn nodes(&self, name: &str) -> Result<[NodeDef; 3], String> {
        let constant = |suffix: &str, dtype, value| {
            TensorProto::new(dtype, value).map(|tensor| NodeDef::constant(format!("{name}_{suffix}"), tensor))
        };
        Ok([
            constant("qint8_const", DataType::QINT8, &self.codes)?,
            constant("min", DataType::FLOAT, &self.min)?,
            constant("max", DataType::FLOAT, &self.max)?,
        ])
    }
}

/// Quantizes weights to signed codes.
///
/// # Errors
/// If they are not finite single-precision numbers, or have not as many channels as stated.
pub(crate) fn quantize(weights: &Tensor, granularity: Granularity, rules: Rules) -> Result<Codes, String> {
    let values = weights.as_slice::<f32>().map_err(|error| error.to_string())?;
    if !values.iter().all(|value| value.is_finite()) {
        return Err("its values are not finite".into());
    }
    let (codes, min, max) = match (granularity, rules) {
        (Granularity::Tensor, Rules::Original) => per_tensor(values),
        (Granularity::Tensor, Rules::Sound) => {
            let top = values.iter().fold(SMALLEST_RANGE, |top, value| top.max(value.abs()));
            let codes = values.iter().map(|value| rounded(*value, top)).collect();
            (codes, Tensor::scalar(-top), Tensor::scalar(top))
        }
        (Granularity::Channel(channels), _) => per_channel(values, channels, rules)?,
    };
    let codes = Tensor::new(weights.shape(), codes).map_err(|error| error.to_string())?;
    Ok(Codes { codes, min, max })
}

/// One range for all, as `QuantizeV2` in its mode `SCALED` makes it: the scale is the largest of whole codes for which
/// neither end leaves -128 to 127, and the ends are moved to those codes.
fn per_tensor(values: &[f32]) -> (Vec<i8>, Tensor, Tensor) {
    let (min, max) = with_zero(values);
    let (min, max) = unequal(min, max);
    let below = if min < 0.0 { -128.0 / min } else { f32::MAX };
    let above = if max > 0.0 { TOP / max } else { f32::MAX };
    let scale = below.min(above);
    let (min, max) = (-128.0 / scale, TOP / scale);
    let codes = values.iter().map(|value| (value.clamp(min, max) * scale).round_ties_even() as i8).collect();
    (codes, Tensor::scalar(min), Tensor::scalar(max))
}

/// The least of the values or zero, and the greatest.
fn with_zero(values: &[f32]) -> (f32, f32) {
    let min = values.iter().fold(0.0f32, |min, value| min.min(*value));
    let max = values.iter().copied().reduce(f32::max).unwrap_or(0.0);
    (min, max)
}

/// A range whose ends differ.
pub(super) fn unequal(min: f32, max: f32) -> (f32, f32) {
    match () {
        () if min != max => (min, max),
        () if min.abs() < NEAR_ZERO => (min, min + 1.0),
        () if min > 0.0 => (min, 2.0 * min),
        () => (min, min / 2.0),
    }
}

/// A symmetric range for each channel.
fn per_channel(values: &[f32], channels: usize, rules: Rules) -> Result<(Vec<i8>, Tensor, Tensor), String> {
    if channels == 0 || !values.len().is_multiple_of(channels) {
        return Err(format!("{} weights do not have {channels} channels", values.len()));
    }
    let mut tops = vec![SMALLEST_RANGE; channels];
    for row in values.chunks_exact(channels) {
        tops.iter_mut().zip(row).for_each(|(top, value)| *top = top.max(value.abs()));
    }
    let code = |(value, top): (&f32, &f32)| match rules {
        Rules::Original => (value * TOP / top) as i8,
        Rules::Sound => rounded(*value, *top),
    };
    let codes = values.iter().zip(tops.iter().cycle()).map(code).collect();
    let min = Tensor::vector(tops.iter().map(|top| -top).collect());
    Ok((codes, min, Tensor::vector(tops)))
}

/// The nearest code of a symmetric range, ties to even.
fn rounded(value: f32, top: f32) -> i8 {
    (value * (TOP / top)).round_ties_even().clamp(-TOP, TOP) as i8
}

/// Unsigned codes of weights, and the range that they stand for.
#[derive(Debug)]
pub(super) struct UnsignedCodes {
    pub(super) codes: Tensor,
    pub(super) min: f32,
    pub(super) max: f32,
}

/// How unsigned codes are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counting {
    /// From the code of the least value, each rounded on its own.
    MinFirst,
    /// From the least value.
    MinCombined,
}

impl Counting {
    /// Its name as the attribute `mode`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::MinFirst => "MIN_FIRST",
            Self::MinCombined => "MIN_COMBINED",
        }
    }
}

/// Quantizes weights to unsigned codes as `QuantizeV2` does; halves are rounded away from zero. The range begins at zero at
/// the latest, and if it `reaches_zero` does not end before either.
///
/// # Errors
/// If they are not finite single-precision numbers.
pub(super) fn quantize_unsigned(
    weights: &Tensor,
    counting: Counting,
    reaches_zero: bool,
) -> Result<UnsignedCodes, String> {
    let values = weights.as_slice::<f32>().map_err(|error| error.to_string())?;
    if !values.iter().all(|value| value.is_finite()) {
        return Err("its values are not finite".into());
    }
    let (min, max) = with_zero(values);
    let (min, max) = unequal(min, if reaches_zero { max.max(0.0) } else { max });
    let scale = 255.0 / (max - min);
    if !scale.is_normal() {
        return Err(format!("its range from {min:e} to {max:e} has no steps in single precision"));
    }
    let code = |value: &f32| {
        let code = match counting {
            Counting::MinFirst => (value * scale).round() - (min * scale).round(),
            Counting::MinCombined => ((value.clamp(min, max) - min) * scale).round(),
        };
        code.clamp(0.0, 255.0) as u8
    };
    let codes = Tensor::new(weights.shape(), values.iter().map(code).collect()).map_err(|error| error.to_string())?;
    Ok(UnsignedCodes { codes, min, max })
}

/// Each value moved to the middle of its bucket, of which there are `buckets` of equal width between the least and the
/// greatest value. Values that are all the same stay.
///
/// # Errors
/// If they are not finite single-precision numbers.
pub(crate) fn bucketed(weights: &Tensor, buckets: u32) -> Result<Tensor, String> {
    let values = weights.as_slice::<f32>().map_err(|error| error.to_string())?;
    if !values.iter().all(|value| value.is_finite()) {
        return Err("its values are not finite".into());
    }
    let min = values.iter().copied().reduce(f32::min).unwrap_or(0.0);
    let max = values.iter().copied().reduce(f32::max).unwrap_or(0.0);
    let buckets = buckets as f32;
    let width = (max - min) / buckets;
    if width <= 0.0 {
        return Ok(weights.clone());
    }
    if !width.is_finite() {
        return Err(format!("its range from {min:e} to {max:e} has no steps in single precision"));
    }
    let middle = |value: &f32| {
        let bucket = ((value - min) / width).floor().min(buckets - 1.0);
        min + width * (bucket + 0.5)
    };
    Tensor::new(weights.shape(), values.iter().map(middle).collect()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn codes(values: &[f32], granularity: Granularity, rules: Rules) -> (Vec<i8>, Vec<f32>) {
        let quantized = quantize(&Tensor::vector(values.to_vec()), granularity, rules).unwrap();
        (quantized.codes.into_vec().unwrap(), quantized.max.into_vec().unwrap())
    }

    #[test]
    fn the_negative_side_takes_one_code_more() {
        assert_eq!(codes(&[-1.0, 0.5, 1.0], Granularity::Tensor, Rules::Original), (vec![-127, 64, 127], vec![1.0]));
        let (codes, max) = codes(&[-2.0, 1.0], Granularity::Tensor, Rules::Original);
        assert_eq!((codes, max), (vec![-128, 64], vec![127.0 / 64.0]));
    }

    #[test]
    fn channels_have_ranges_of_their_own() {
        let values = [1.0, -0.1, 0.996, 0.05];
        assert_eq!(
            codes(&values, Granularity::Channel(2), Rules::Original),
            (vec![127, -127, 126, 63], vec![1.0, 0.1])
        );
        assert_eq!(codes(&values, Granularity::Channel(2), Rules::Sound).0, [127, -127, 126, 64]);
    }

    #[test]
    fn degenerate_weights_are_defined() {
        assert_eq!(codes(&[0.0, 0.0], Granularity::Tensor, Rules::Original), (vec![0, 0], vec![1.0]));
        assert_eq!(codes(&[], Granularity::Channel(1), Rules::Sound), (vec![], vec![SMALLEST_RANGE]));
        assert!(quantize(&Tensor::vector(vec![f32::NAN]), Granularity::Tensor, Rules::Sound).is_err());
        assert!(quantize(&Tensor::vector(vec![1f32]), Granularity::Channel(0), Rules::Sound).is_err());
        let huge = Tensor::vector(vec![-3e38f32, 3e38]);
        assert!(bucketed(&huge, 256).unwrap_err().contains("no steps"));
        assert!(quantize_unsigned(&huge, Counting::MinFirst, true).unwrap_err().contains("no steps"));
        assert_eq!(bucketed(&Tensor::vector(vec![2f32; 3]), 256).unwrap(), Tensor::vector(vec![2f32; 3]));
    }

    #[test]
    fn the_greatest_value_is_in_the_last_bucket() {
        let rounded = bucketed(&Tensor::vector(vec![0f32, 1.0, 4.0]), 4).unwrap();
        assert_eq!(rounded, Tensor::vector(vec![0.5f32, 1.5, 3.5]));
    }

    proptest! {
        #[test]
        fn values_return_within_a_step(values in proptest::collection::vec(-10f32..10.0, 1..64)) {
            let weights = Tensor::vector(values.clone());
            for granularity in [Granularity::Tensor, Granularity::Channel(values.len())] {
                let (codes, max) = codes(&values, granularity, Rules::Sound);
                for ((code, value), top) in codes.iter().zip(&values).zip(max.iter().cycle()) {
                    prop_assert!((f32::from(*code) * top / TOP - value).abs() <= top / TOP * 0.51);
                }
            }
            for counting in [Counting::MinFirst, Counting::MinCombined] {
                let unsigned = quantize_unsigned(&weights, counting, true).unwrap();
                let step = (unsigned.max - unsigned.min) / 255.0;
                for (code, value) in unsigned.codes.as_slice::<u8>().unwrap().iter().zip(&values) {
                    prop_assert!((f32::from(*code) * step + unsigned.min - value).abs() <= 1.01 * step);
                }
            }
        }
    }
}
