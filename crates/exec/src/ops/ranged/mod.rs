//! Work on codes that travel with their ranges, exactly as TensorFlow's kernels do it.
//!
//! Codes are tensors of 8- or 32-bit integers with their channels last, the ends of ranges tensors of their own. The
//! formulas are in [`quantize_numerics::ranged`]; `convolution` and `pool` are the larger operators.

mod convolution;
mod pool;
#[cfg(test)]
mod tests;

use crate::error::OpError;
use crate::operands::Operands;
pub(crate) use convolution::RangedPacking;
use convolution::{convolution, product};
use quantize_ir::Tensor;
use quantize_ir::op::RangedWork;
use quantize_numerics::ranged::{Codes, Ends, Narrowing, Scaling, Unscaling, used_channel_range, used_range};

/// The results of a node; `packing` is for the weights of a convolution, if they are constant.
///
/// # Errors
/// If operands are missing or of other types or shapes than the work needs.
pub(crate) fn evaluate(
    work: &RangedWork,
    operands: Operands<'_>,
    packing: Option<&RangedPacking>,
) -> Result<Vec<Tensor>, OpError> {
    let operands = (0..operands.len()).map(|slot| operands.required(slot)).collect::<Result<Vec<_>, _>>()?;
    let operands = operands.as_slice();
    let operand = |slot: usize| operands.get(slot).copied().ok_or(OpError::Missing { slot });
    let range = |slot: usize| ends(operand(slot)?, operand(slot + 1)?);
    match work {
        RangedWork::Quantize(codes) => {
            let scaling = Scaling::new(*codes, range(1)?);
            let x = operand(0)?;
            let quantized = x.as_slice::<f32>()?.iter().map(|x| scaling.code(*x));
            with_range(codes_tensor(*codes, x.shape(), quantized)?, scaling.range)
        }
        RangedWork::Dequantize { codes, reading } => {
            let unscaling = Unscaling::new(*codes, *reading, range(1)?);
            let x = operand(0)?;
            let reals = code_values(x)?.into_iter().map(|code| unscaling.value(i32::from(code))).collect();
            Ok(vec![Tensor::new(x.shape(), reals)?])
        }
        RangedWork::Convolution(work) => convolution(work, operands, packing),
        RangedWork::Product(work) => product(work, operands, packing),
        RangedWork::UsedRange => {
            let (least, greatest) = extremes(operand(0)?.as_slice::<i32>()?.iter());
            let used = used_range(range(1)?, least, greatest);
            Ok(vec![Tensor::scalar(used.min), Tensor::scalar(used.max)])
        }
        RangedWork::UsedChannelRange(clip) => {
            let channels = channels(operand(0)?, operand(1)?, operand(2)?)?;
            let sums = operand(0)?.as_slice::<i32>()?;
            let width = channels.len().max(1);
            let used = channels.iter().enumerate().map(|(at, ends)| {
                let (least, greatest) = extremes(sums.iter().skip(at).step_by(width));
                (*ends, least, greatest)
            });
            let used = used_channel_range(&used.collect::<Vec<_>>(), *clip);
            Ok(vec![Tensor::scalar(used.min), Tensor::scalar(used.max)])
        }
        RangedWork::Narrow => {
            let narrow = range(3)?;
            let narrowing = Narrowing::new(range(1)?, narrow);
            let sums = operand(0)?;
            let narrowed = sums.as_slice::<i32>()?.iter().map(|sum| narrowing.code(*sum));
            with_range(codes_tensor(Codes::Unsigned, sums.shape(), narrowed)?, narrow)
        }
        RangedWork::NarrowChannels(codes) => {
            let (sums, narrow) = (operand(0)?, range(3)?);
            let channels = channels(sums, operand(1)?, operand(2)?)?;
            let factor = |wide: &Ends| {
                f64::from(wide.magnitude()) / f64::from(1u32 << 31) / f64::from(narrow.product_scale(*codes))
            };
            let factors: Vec<f64> = channels.iter().map(factor).collect();
            let narrowed = sums.as_slice::<i32>()?.iter().zip(factors.iter().cycle());
            let narrowed = narrowed.map(|(sum, factor)| codes.nearest(f64::from(*sum) * factor));
            with_range(codes_tensor(*codes, sums.shape(), narrowed)?, narrow)
        }
        RangedWork::MaxPool(window, codes) => with_range(pool::max(window, *codes, operand(0)?)?, range(1)?),
        RangedWork::AveragePool(window, codes) => with_range(pool::average(window, *codes, operand(0)?)?, range(1)?),
        RangedWork::Join { parts, codes } => join(*parts, *codes, operands),
    }
}

/// The ends of a range in two scalars.
pub(super) fn ends(min: &Tensor, max: &Tensor) -> Result<Ends, OpError> {
    let number = |tensor: &Tensor| match tensor.as_slice::<f32>()? {
        [number] => Ok(*number),
        other => Err(OpError::shape(format!("the end of a range has {} elements", other.len()))),
    };
    let ends = Ends { min: number(min)?, max: number(max)? };
    if !ends.is_finite() {
        return Err(OpError::shape(format!("its range is from {} to {}", ends.min, ends.max)));
    }
    Ok(ends)
}

/// A range for each channel, which are the last axis of `sums`; one range stands for all of them.
fn channels(sums: &Tensor, min: &Tensor, max: &Tensor) -> Result<Vec<Ends>, OpError> {
    let (min, max) = (min.as_slice::<f32>()?, max.as_slice::<f32>()?);
    let channels = sums.shape().last().copied().unwrap_or(1);
    if min.len() != max.len() || !(min.len() == channels || min.len() == 1) {
        return Err(OpError::shape(format!("{channels} channels have {} and {} ends of ranges", min.len(), max.len())));
    }
    let all = min.iter().zip(max).map(|(min, max)| Ends { min: *min, max: *max }).cycle();
    Ok(all.take(channels).collect())
}

/// The least and the greatest of codes; zeros if there are none.
fn extremes<'c>(codes: impl Iterator<Item = &'c i32>) -> (i32, i32) {
    codes
        .fold(None, |seen, code| match seen {
            None => Some((*code, *code)),
            Some((least, greatest)) => Some((*code.min(&least), *code.max(&greatest))),
        })
        .unwrap_or((0, 0))
}

/// 8-bit codes of either kind.
pub(super) fn code_values(tensor: &Tensor) -> Result<Vec<i16>, OpError> {
    match tensor.as_slice::<u8>() {
        Ok(codes) => Ok(codes.iter().map(|code| i16::from(*code)).collect()),
        Err(_) => Ok(tensor.as_slice::<i8>()?.iter().map(|code| i16::from(*code)).collect()),
    }
}

/// A tensor of 8-bit codes.
pub(super) fn codes_tensor(
    codes: Codes,
    shape: &[usize],
    values: impl Iterator<Item = i32>,
) -> Result<Tensor, OpError> {
    Ok(match codes {
        Codes::Unsigned => Tensor::new(shape, values.map(|code| code as u8).collect())?,
        Codes::Signed => Tensor::new(shape, values.map(|code| code as i8).collect())?,
    })
}

/// Codes with their range.
pub(super) fn with_range(codes: Tensor, range: Ends) -> Result<Vec<Tensor>, OpError> {
    Ok(vec![codes, Tensor::scalar(range.min), Tensor::scalar(range.max)])
}

/// Codes put together along an axis. Where ranges differ, each is fitted to the one that all need.
fn join(parts: usize, codes: Codes, operands: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
    let missing = OpError::Missing { slot: 3 * parts };
    let (Some(tensors), Some(axis)) = (operands.get(..parts), operands.get(parts)) else { return Err(missing) };
    let (Some(minima), Some(maxima)) =
        (operands.get(parts + 1..2 * parts + 1), operands.get(2 * parts + 1..3 * parts + 1))
    else {
        return Err(missing);
    };
    let ranges = minima.iter().zip(maxima).map(|(min, max)| ends(min, max)).collect::<Result<Vec<_>, _>>()?;
    let joint = Ends {
        min: ranges.iter().map(|range| range.min).fold(f32::INFINITY, f32::min),
        max: ranges.iter().map(|range| range.max).fold(f32::NEG_INFINITY, f32::max),
    };
    let first = tensors.first().ok_or(OpError::Missing { slot: 0 })?;
    let rank = first.rank();
    let axis = axis.to_i64_vec()?.first().copied().unwrap_or(0);
    let axis = usize::try_from(if axis < 0 { axis + rank as i64 } else { axis }).ok().filter(|axis| *axis < rank);
    let axis = axis.ok_or_else(|| OpError::shape("the axis of a concatenation is none of its operands'"))?;
    let outer: usize = first.shape().iter().take(axis).product();
    let is_alike = |tensor: &&Tensor| {
        tensor.rank() == rank
            && tensor.shape().iter().zip(first.shape()).enumerate().all(|(at, (a, b))| at == axis || a == b)
    };
    if !tensors.iter().all(is_alike) {
        return Err(OpError::shape("operands of a concatenation differ in other axes than the joined one"));
    }
    let mut fitted = Vec::with_capacity(parts);
    for (tensor, range) in tensors.iter().zip(&ranges) {
        let ratio = f64::from(range.magnitude()) / f64::from(joint.magnitude());
        let is_same = *range == joint || joint.magnitude() == 0.0;
        let fit = |code: i16| if is_same { i32::from(code) } else { codes.nearest(f64::from(code) * ratio) };
        fitted.push(code_values(tensor)?.into_iter().map(fit).collect::<Vec<i32>>());
    }
    let mut joined = Vec::with_capacity(fitted.iter().map(Vec::len).sum());
    for at in 0..outer {
        for part in &fitted {
            let row = part.len() / outer.max(1);
            joined.extend_from_slice(&part[at * row..(at + 1) * row]);
        }
    }
    let mut shape = first.shape().to_vec();
    shape[axis] = tensors.iter().map(|tensor| tensor.shape()[axis]).sum();
    with_range(codes_tensor(codes, &shape, joined.into_iter())?, joint)
}
