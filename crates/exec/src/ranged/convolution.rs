//! Convolutions of codes, with whatever is added to their sums.

use super::pool::{axes, dims};
use super::work::{code_values, codes_tensor, ends, with_range};
use crate::error::OpError;
use quantize_ir::{RangedConvolution, RangedOutput, Tensor};
use quantize_kernels::ConvGeometry;
use quantize_kernels::integer::{Accumulator, PackedCodes, Scratch, conv_codes, conv_codes_wide};
use quantize_numerics::ranged::{Codes, Ends, product_code, wide_range};

/// The largest magnitude of 8-bit codes.
const LARGEST_CODE: u16 = 255;

/// Working memory that is kept from node to node.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    sums: Vec<i32>,
    wide: Vec<i64>,
    scratch: Scratch,
}

/// What stands behind a convolution's range operands.
struct Operands<'t> {
    x: &'t Tensor,
    weights: &'t Tensor,
    bias: Option<&'t Tensor>,
    input: Ends,
    /// What one code of the weights is, for each output channel.
    scales: Vec<f32>,
    rest: &'t [&'t Tensor],
}

/// The result of a convolution: codes and their range.
///
/// # Errors
/// If operands are missing or do not fit.
pub(super) fn convolution(
    work: &RangedConvolution,
    operands: &[&Tensor],
    buffers: &mut Buffers,
) -> Result<Vec<Tensor>, OpError> {
    let filter = dims(operands.get(1).ok_or(OpError::Missing { slot: 1 })?)?;
    let channels = if work.is_depthwise { filter[2].saturating_mul(filter[3]) } else { filter[3] };
    let operands = split(work, operands, channels)?;
    let (sums, shape) = sums(work, &operands, filter, channels, buffers)?;
    let input = operands.input.product_scale(work.input);
    let units: Vec<f32> = operands.scales.iter().map(|scale| input * scale).collect();
    match work.output {
        RangedOutput::Wide { has_summand } => {
            let summand = has_summand.then(|| operands.rest.first().copied().ok_or(OpError::Missing { slot: 7 }));
            wide(work, &operands, sums, shape, &units, summand.transpose()?)
        }
        RangedOutput::Narrow { codes, summand } => {
            let [min, max, more @ ..] = operands.rest else { return Err(OpError::Missing { slot: 7 }) };
            let range = ends(min, max)?;
            let summand = match (summand, more) {
                (None, _) => None,
                (Some(codes), [tensor, min, max, ..]) => {
                    Some((code_values(tensor)?, ends(min, max)?.product_scale(codes)))
                }
                (Some(_), _) => return Err(OpError::Missing { slot: 9 }),
            };
            narrow(work, &operands, &sums, shape, &units, codes, range, summand)
        }
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
    let scale = |(min, max): (&f32, &f32)| Ends { min: *min, max: *max }.product_scale(Codes::Signed);
    let scales = minima.iter().zip(maxima).map(scale).cycle().take(channels).collect();
    Ok(Operands { x: first[0], weights: first[1], bias, input: ends(x_min, x_max)?, scales, rest })
}

/// The sums of products, channels last, and their shape.
fn sums(
    work: &RangedConvolution,
    operands: &Operands<'_>,
    filter: [usize; 4],
    channels: usize,
    buffers: &mut Buffers,
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
    let weights = code_values(operands.weights)?;
    // Height and width, then channels: channels go first. Depthwise weights have theirs in the right order already.
    let weights = match work.is_depthwise {
        true => channels_first(&weights, 1, filter[0] * filter[1], channels),
        false => outputs_first(&weights, filter),
    };
    let packed = PackedCodes::new(&geometry, &weights, LARGEST_CODE)?;
    let mut sums = vec![0; geometry.output_len()];
    match packed.accumulator() {
        Accumulator::I32 => {
            buffers.sums.resize(geometry.output_len(), 0);
            conv_codes(&geometry, &x, &packed, &mut buffers.sums, &mut buffers.scratch)?;
            channels_last(&buffers.sums, plane, channels, &mut sums, |sum| *sum);
        }
        Accumulator::I64 => {
            buffers.wide.resize(geometry.output_len(), 0);
            conv_codes_wide(&geometry, &x, &packed, &mut buffers.wide, &mut buffers.scratch)?;
            let saturated = |sum: &i64| (*sum).clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32;
            channels_last(&buffers.wide, plane, channels, &mut sums, saturated);
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

/// A bias in reals, or in codes of which each is a unit.
fn bias_reals(bias: &Tensor, units: &[f32]) -> Result<Vec<f64>, OpError> {
    let reals: Vec<f64> = match bias.as_slice::<f32>() {
        Ok(reals) => reals.iter().map(|bias| f64::from(*bias)).collect(),
        Err(_) => {
            let codes = bias.as_slice::<i32>()?;
            codes.iter().zip(units).map(|(code, unit)| f64::from(*code) * f64::from(*unit)).collect()
        }
    };
    if reals.len() != units.len() {
        return Err(OpError::shape(format!("{} channels have a bias of {} elements", units.len(), bias.len())));
    }
    Ok(reals)
}

/// 32-bit codes: sums, with bias and summand rounded to codes.
fn wide(
    work: &RangedConvolution,
    operands: &Operands<'_>,
    mut sums: Vec<i32>,
    shape: [usize; 4],
    units: &[f32],
    summand: Option<&Tensor>,
) -> Result<Vec<Tensor>, OpError> {
    let code = |real: f64, unit: f32| (real / f64::from(unit)).round_ties_even() as i32;
    if let Some(bias) = operands.bias {
        let codes = bias_reals(bias, units)?.into_iter().zip(units).map(|(bias, unit)| code(bias, *unit));
        let codes: Vec<i32> = codes.collect();
        sums.iter_mut().zip(codes.iter().cycle()).for_each(|(sum, bias)| *sum = sum.saturating_add(*bias));
    }
    if let Some(summand) = summand {
        let reals = summand.as_slice::<f32>()?;
        if reals.len() != sums.len() {
            return Err(OpError::shape(format!("{} sums meet a summand of {} elements", sums.len(), reals.len())));
        }
        let added = reals.iter().zip(units.iter().cycle()).map(|(real, unit)| code(f64::from(*real), *unit));
        sums.iter_mut().zip(added).for_each(|(sum, added)| *sum = sum.saturating_add(added));
    }
    if work.has_relu {
        sums.iter_mut().for_each(|sum| *sum = (*sum).max(0));
    }
    let codes = Tensor::new(&shape[..], sums)?;
    let weight_ranges_are_scalars = operands.scales.len() == 1 || units.windows(2).all(|pair| pair[0] == pair[1]);
    match (weight_ranges_are_scalars, units) {
        (true, [unit, ..]) => with_range(codes, wide_range(*unit)),
        _ => {
            let ranges: Vec<Ends> = units.iter().map(|unit| wide_range(*unit)).collect();
            let min = Tensor::vector(ranges.iter().map(|range| range.min).collect());
            let max = Tensor::vector(ranges.iter().map(|range| range.max).collect());
            Ok(vec![codes, min, max])
        }
    }
}

/// 8-bit codes of a given range.
fn narrow(
    work: &RangedConvolution,
    operands: &Operands<'_>,
    sums: &[i32],
    shape: [usize; 4],
    units: &[f32],
    codes: Codes,
    range: Ends,
    summand: Option<(Vec<i16>, f32)>,
) -> Result<Vec<Tensor>, OpError> {
    let scale = f64::from(range.product_scale(codes));
    if scale == 0.0 {
        return Err(OpError::shape("the range of its result has no width"));
    }
    let factors: Vec<f64> = units.iter().map(|unit| f64::from(*unit) / scale).collect();
    let bias = match operands.bias {
        Some(bias) => bias_reals(bias, units)?.into_iter().map(|bias| bias / scale).collect(),
        None => vec![0.0; units.len()],
    };
    if summand.as_ref().is_some_and(|(codes, _)| codes.len() != sums.len()) {
        return Err(OpError::shape("a summand has another size than the sums"));
    }
    let added = |at: usize| {
        let summand = summand.as_ref().and_then(|(codes, step)| Some((codes.get(at)?, step)));
        summand.map_or(0.0, |(code, step)| f64::from(*code) * f64::from(*step) / scale)
    };
    let channels = factors.iter().zip(&bias).cycle();
    let narrowed = sums
        .iter()
        .zip(channels)
        .enumerate()
        .map(|(at, (sum, (factor, bias)))| product_code(codes, *sum, *factor, bias + added(at), work.has_relu));
    with_range(codes_tensor(codes, &shape, narrowed)?, range)
}
