//! Convolutions of codes, with whatever is added to their sums.

use super::pool::{axes, dims};
use super::{code_values, codes_tensor, ends, with_range};
use crate::error::OpError;
use quantize_ir::Tensor;
use quantize_ir::op::{ProductOutput, RangedConvolution, RangedOutput, RangedPadding, RangedProduct, RangedWindow};
use quantize_kernels::ConvGeometry;
use quantize_kernels::integer::{Accumulator, PackedCodes, Scratch, conv_codes, conv_codes_wide};
use quantize_numerics::ranged::{Codes, Ends, SIGNED_SUM_TOP, bias_unit, sum_value, wide_code, wide_range};
use std::borrow::Cow;
use std::sync::OnceLock;

/// The largest magnitude of 8-bit codes.
const LARGEST_CODE: u16 = 255;

/// Weights of a convolution that are the same at every run: packed at the first, for whatever has the sizes of its input.
#[derive(Debug, Default)]
pub(crate) struct RangedPacking(OnceLock<PackedCodes>);

impl RangedPacking {
    /// The weights packed for these sizes; `pack` does it.
    fn get(
        &self,
        geometry: &ConvGeometry,
        pack: impl Fn() -> Result<PackedCodes, OpError>,
    ) -> Result<Cow<'_, PackedCodes>, OpError> {
        if let Some(packed) = self.0.get() {
            return if packed.fits(geometry) { Ok(Cow::Borrowed(packed)) } else { pack().map(Cow::Owned) };
        }
        let packed = pack()?;
        // Another thread that was faster has packed the same, or for other sizes.
        let kept = self.0.get_or_init(|| packed.clone());
        Ok(if kept.fits(geometry) { Cow::Borrowed(kept) } else { Cow::Owned(packed) })
    }
}

/// What stands behind a convolution's range operands.
struct Operands<'t> {
    x: &'t Tensor,
    weights: &'t Tensor,
    bias: Option<&'t Tensor>,
    input: Ends,
    /// The range of the weights of each output channel.
    filters: Vec<Ends>,
    /// Whether all weights have one range.
    has_one_range: bool,
    rest: &'t [&'t Tensor],
}

/// The result of a convolution: codes and their range.
///
/// # Errors
/// If operands are missing or do not fit.
pub(super) fn convolution(
    work: &RangedConvolution,
    operands: &[&Tensor],
    packing: Option<&RangedPacking>,
) -> Result<Vec<Tensor>, OpError> {
    let filter = dims(operands.get(1).ok_or(OpError::Missing { slot: 1 })?)?;
    let channels = if work.is_depthwise { filter[2].saturating_mul(filter[3]) } else { filter[3] };
    let operands = split(work, operands, channels)?;
    let (sums, shape) = sums(work, &operands, (filter, channels), packing)?;
    let input = operands.input.product_scale(work.input);
    let units: Vec<f32> = operands.filters.iter().map(|range| input * range.product_scale(Codes::Signed)).collect();
    let bias_units: Vec<f32> =
        operands.filters.iter().map(|range| bias_unit((operands.input, work.input), *range)).collect();
    let bias = bias_reals(operands.bias, &bias_units)?;
    let reals = Reals { sums, shape, units, bias, has_relu: work.has_relu };
    match work.output {
        RangedOutput::Wide { has_summand } => wide(work, &operands, &reals, has_summand),
        RangedOutput::Narrow { codes, summand } => narrow(&operands, &reals, codes, summand),
        RangedOutput::Reals => {
            let values = reals.values(|_| (0.0, 0.0)).map(|(_, value)| value).collect();
            Ok(vec![Tensor::new(&reals.shape[..], values)?])
        }
    }
}

/// The result of a matrix product: codes and their range, or reals. It is a convolution of images of one pixel.
///
/// # Errors
/// If operands are missing or do not fit.
pub(super) fn product(
    work: &RangedProduct,
    operands: &[&Tensor],
    packing: Option<&RangedPacking>,
) -> Result<Vec<Tensor>, OpError> {
    let [x, weights, bias, rest @ ..] = operands else { return Err(OpError::Missing { slot: operands.len() }) };
    let (&[rows, depth], &[inner, columns]) = (x.shape(), weights.shape()) else {
        return Err(OpError::shape("a matrix product of what are no matrices"));
    };
    let x = (*x).clone().reshaped([rows, 1, 1, depth])?;
    let weights = (*weights).clone().reshaped([1, 1, inner, columns])?;
    let pixel = RangedWindow { size: [1; 2], strides: [1; 2], dilations: [1; 2], padding: RangedPadding::Same };
    let output = match work.output {
        ProductOutput::Codes(codes) => RangedOutput::Narrow { codes, summand: None },
        ProductOutput::Reals => RangedOutput::Reals,
    };
    let (input, has_relu) = (work.input, work.has_relu);
    let work = RangedConvolution { input, is_depthwise: false, window: pixel, has_bias: true, has_relu, output };
    let operands: Vec<&Tensor> = [&x, &weights, bias].into_iter().chain(rest.iter().copied()).collect();
    let mut results = convolution(&work, &operands, packing)?.into_iter();
    let sums = results.next().ok_or(OpError::Result { slot: 0, results: 0 })?.reshaped([rows, columns])?;
    Ok(std::iter::once(sums).chain(results).collect())
}

/// Sums on their way to reals.
struct Reals {
    sums: Vec<i32>,
    shape: [usize; 4],
    /// What a sum is counted in, for each channel.
    units: Vec<f32>,
    /// What is added, for each channel.
    bias: Vec<f32>,
    has_relu: bool,
}

impl Reals {
    /// What the sums stand for, each with the number of its channel; `summand` tells what is added at a place, in so many
    /// steps.
    fn values<'r>(&'r self, summand: impl Fn(usize) -> (f32, f32) + 'r) -> impl Iterator<Item = (usize, f32)> + 'r {
        let channels = self.units.iter().zip(&self.bias).enumerate().cycle();
        self.sums.iter().zip(channels).enumerate().map(move |(at, (sum, (channel, (unit, bias))))| {
            (channel, sum_value(*sum, *unit, *bias, summand(at), self.has_relu))
        })
    }
}

/// The operands by what they are.
fn split<'t>(work: &RangedConvolution, operands: &'t [&'t Tensor], channels: usize) -> Result<Operands<'t>, OpError> {
    let (first, rest) = operands.split_at_checked(2).ok_or(OpError::Missing { slot: 1 })?;
    let (bias, rest) = match (work.has_bias, rest) {
        (false, rest) => (None, rest),
        (true, [bias, rest @ ..]) => (Some(*bias), rest),
        (true, []) => return Err(OpError::Missing { slot: 2 }),
    };
    let [x_min, x_max, w_min, w_max, rest @ ..] = rest else { return Err(OpError::Missing { slot: 6 }) };
    let (minima, maxima) = (w_min.as_slice::<f32>()?, w_max.as_slice::<f32>()?);
    if minima.len() != maxima.len() || !(minima.len() == channels || minima.len() == 1) {
        let cause = format!("{channels} channels of weights have {} and {} ends of ranges", minima.len(), maxima.len());
        return Err(OpError::shape(cause));
    }
    let ranges = minima.iter().zip(maxima).map(|(min, max)| Ends { min: *min, max: *max });
    let filters = ranges.cycle().take(channels).collect();
    let has_one_range = minima.len() == 1;
    Ok(Operands { x: first[0], weights: first[1], bias, input: ends(x_min, x_max)?, filters, has_one_range, rest })
}

/// The sums of products, channels last, and their shape.
fn sums(
    work: &RangedConvolution,
    operands: &Operands<'_>,
    (filter, channels): ([usize; 4], usize),
    packing: Option<&RangedPacking>,
) -> Result<(Vec<i32>, [usize; 4]), OpError> {
    let [images, height, width, inputs] = dims(operands.x)?;
    if filter[2] != inputs {
        return Err(OpError::shape(format!("{inputs} channels meet weights of {}", filter[2])));
    }
    let axes = axes(&work.window, [filter[0], filter[1]], [height, width])?;
    let group = if work.is_depthwise { inputs } else { 1 };
    let geometry = ConvGeometry::new(images, inputs, channels, group, &axes)?;
    let plane = axes[0].output * axes[1].output;
    let x = channels_first(&code_values(operands.x)?, images, height * width, inputs);
    let pack = || {
        let weights = code_values(operands.weights)?;
        // Height and width, then channels: channels go first. Depthwise weights have theirs in the right order already.
        let weights = match work.is_depthwise {
            true => channels_first(&weights, 1, filter[0] * filter[1], channels),
            false => outputs_first(&weights, filter),
        };
        Ok(PackedCodes::new(&geometry, &weights, LARGEST_CODE)?)
    };
    let packed = match packing {
        Some(packing) => packing.get(&geometry, pack)?,
        None => Cow::Owned(pack()?),
    };
    let mut sums = vec![0; geometry.output_len()];
    match packed.accumulator() {
        Accumulator::I32 => {
            let mut planes = vec![0; geometry.output_len()];
            conv_codes(&geometry, &x, &packed, &mut planes, &mut Scratch::default())?;
            channels_last(&planes, plane, channels, &mut sums, |sum| *sum);
        }
        Accumulator::I64 => {
            let mut planes = vec![0; geometry.output_len()];
            conv_codes_wide(&geometry, &x, &packed, &mut planes, &mut Scratch::default())?;
            let saturated = |sum: &i64| (*sum).clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32;
            channels_last(&planes, plane, channels, &mut sums, saturated);
        }
    }
    Ok((sums, [images, axes[0].output, axes[1].output, channels]))
}

/// Images of planes of channels, of images of points of channels.
fn channels_first(data: &[i16], images: usize, plane: usize, channels: usize) -> Vec<i16> {
    let mut out = vec![0; data.len()];
    let image = plane * channels;
    for at in 0..images {
        let (from, to) = (&data[at * image..(at + 1) * image], &mut out[at * image..(at + 1) * image]);
        for (point, values) in from.chunks_exact(channels.max(1)).enumerate() {
            for (channel, value) in values.iter().enumerate() {
                to[channel * plane + point] = *value;
            }
        }
    }
    out
}

/// Weights `[height, width, inputs, outputs]` as `[outputs, inputs, height, width]`.
fn outputs_first(weights: &[i16], [height, width, inputs, outputs]: [usize; 4]) -> Vec<i16> {
    let taps = height * width;
    let mut out = vec![0; weights.len()];
    for (at, row) in weights.chunks_exact(outputs.max(1)).enumerate() {
        let (tap, input) = (at / inputs, at % inputs);
        for (output, value) in row.iter().enumerate() {
            out[(output * inputs + input) * taps + tap] = *value;
        }
    }
    out
}

/// Images of points of channels, of images of planes of channels.
fn channels_last<S>(data: &[S], plane: usize, channels: usize, out: &mut [i32], read: impl Fn(&S) -> i32) {
    for (image, points) in
        data.chunks_exact((plane * channels).max(1)).zip(out.chunks_exact_mut((plane * channels).max(1)))
    {
        for (point, values) in points.chunks_exact_mut(channels.max(1)).enumerate() {
            for (channel, value) in values.iter_mut().enumerate() {
                *value = read(&image[channel * plane + point]);
            }
        }
    }
}

/// A bias in reals, from reals or from codes of which each is a unit; zeros if there is none.
fn bias_reals(bias: Option<&Tensor>, units: &[f32]) -> Result<Vec<f32>, OpError> {
    let Some(bias) = bias else { return Ok(vec![0.0; units.len()]) };
    if bias.len() != units.len() {
        return Err(OpError::shape(format!("{} channels have a bias of {} elements", units.len(), bias.len())));
    }
    Ok(match bias.as_slice::<f32>() {
        Ok(reals) => reals.to_vec(),
        Err(_) => bias.as_slice::<i32>()?.iter().zip(units).map(|(code, unit)| *code as f32 * unit).collect(),
    })
}

/// 32-bit codes, and the range that follows from the widths of the operands' ranges.
fn wide(
    work: &RangedConvolution,
    operands: &Operands<'_>,
    reals: &Reals,
    has_summand: bool,
) -> Result<Vec<Tensor>, OpError> {
    let summand: &[f32] = match (has_summand, operands.rest) {
        (false, _) => &[],
        (true, [summand, ..]) => summand.as_slice()?,
        (true, []) => return Err(OpError::Missing { slot: 7 }),
    };
    if has_summand && summand.len() != reals.sums.len() {
        let cause = format!("{} sums meet a summand of {} elements", reals.sums.len(), summand.len());
        return Err(OpError::shape(cause));
    }
    let per_unit: Vec<f32> = reals.units.iter().map(|unit| 1.0 / unit).collect();
    let added = |at: usize| (summand.get(at).copied().unwrap_or(0.0), 1.0);
    let codes = reals.values(added).map(|(channel, value)| wide_code(value, per_unit[channel])).collect();
    let codes = Tensor::new(&reals.shape[..], codes)?;
    let input = operands.input.width_scale(work.input);
    let ranges: Vec<Ends> =
        operands.filters.iter().map(|range| wide_range(input * range.width_scale(Codes::Signed))).collect();
    match (operands.has_one_range, ranges.first()) {
        (true, Some(range)) => with_range(codes, *range),
        _ => {
            let min = Tensor::vector(ranges.iter().map(|range| range.min).collect());
            let max = Tensor::vector(ranges.iter().map(|range| range.max).collect());
            Ok(vec![codes, min, max])
        }
    }
}

/// 8-bit codes of a given range.
fn narrow(
    operands: &Operands<'_>,
    reals: &Reals,
    codes: Codes,
    summand: Option<Codes>,
) -> Result<Vec<Tensor>, OpError> {
    let [min, max, more @ ..] = operands.rest else { return Err(OpError::Missing { slot: 7 }) };
    let range = ends(min, max)?;
    let per_unit = 1.0 / range.product_scale(codes);
    if !per_unit.is_finite() {
        return Err(OpError::shape("the range of its result has no width"));
    }
    let (added, step) = match (summand, more) {
        (None, _) => (Vec::new(), 0.0),
        (Some(codes), [tensor, min, max, ..]) => (code_values(tensor)?, ends(min, max)?.product_scale(codes)),
        (Some(_), _) => return Err(OpError::Missing { slot: 9 }),
    };
    if summand.is_some() && added.len() != reals.sums.len() {
        return Err(OpError::shape("a summand has another size than the sums"));
    }
    let values = reals.values(|at| (added.get(at).map_or(0.0, |code| f32::from(*code)), step));
    let top = if summand == Some(Codes::Signed) { SIGNED_SUM_TOP } else { *codes.all().end() };
    let narrowed = values.map(|(_, value)| codes.nearest(f64::from(value * per_unit)).min(top));
    with_range(codes_tensor(codes, &reals.shape, narrowed)?, range)
}
