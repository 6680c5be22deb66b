//! Normalizations and softmax. Means and variances are summed up in double precision.

use super::alloc;
use super::dispatch::unsupported;
use super::layout::expand_to;
use crate::error::OpError;
use crate::operands::Operands;
use crate::pool::Pool;
use quantize_ir::op::{BatchNorm, InstanceNorm, LayerNorm, Softmax};
use quantize_ir::shape::resolve_axis;
use quantize_ir::{Tensor, TensorData};

mod lrn;

pub(crate) use lrn::lrn;

/// A tensor seen as `[outer, axis, inner]`.
struct Lanes {
    axis: usize,
    inner: usize,
}

impl Lanes {
    fn new(shape: &[usize], axis: usize) -> Self {
        Self { axis: shape[axis], inner: shape[axis + 1..].iter().product() }
    }
}

fn singles<'a>(operands: Operands<'a>, slot: usize, len: usize) -> Result<&'a [f32], OpError> {
    let values = operands.required(slot)?.as_slice::<f32>()?;
    if values.len() == len {
        Ok(values)
    } else {
        Err(OpError::Channels { slot, name: None, found: values.len(), channels: len })
    }
}

/// `(x - mean) / sqrt(variance + epsilon) * scale + bias` for each channel, of `float32` elements.
///
/// # Errors
/// If there is not one scale, bias, mean and variance for each channel.
pub(crate) fn batch_norm(attrs: &BatchNorm, operands: Operands<'_>, pool: &mut Pool) -> Result<Vec<Tensor>, OpError> {
    let x = operands.required(0)?;
    let elements = x.as_slice::<f32>()?;
    let lanes = Lanes::new(x.shape(), resolve_axis(attrs.axis, x.rank())?);
    let parameter = |slot| singles(operands, slot, lanes.axis);
    let (scale, bias, mean, variance) = (parameter(1)?, parameter(2)?, parameter(3)?, parameter(4)?);
    let affine = |c: usize| channel_affine(attrs, scale[c], bias[c], mean[c], variance[c]);
    let channels: Vec<(f32, f32)> = (0..lanes.axis).map(affine).collect();
    let mut out = alloc::buffer(x.shape(), pool)?;
    apply_affine(elements, &channels, lanes.inner, &mut out);
    Ok(vec![Tensor::new(x.shape(), out)?])
}

/// Factor and offset that one channel's normalization comes to.
pub(crate) fn channel_affine(attrs: &BatchNorm, scale: f32, bias: f32, mean: f32, variance: f32) -> (f32, f32) {
    let factor = f64::from(scale) / (f64::from(variance) + f64::from(attrs.epsilon)).sqrt();
    (factor as f32, (f64::from(bias) - f64::from(mean) * factor) as f32)
}

fn apply_affine(x: &[f32], channels: &[(f32, f32)], inner: usize, out: &mut [f32]) {
    if inner == 1 {
        for (out, x) in out.chunks_mut(channels.len().max(1)).zip(x.chunks(channels.len().max(1))) {
            out.iter_mut().zip(x).zip(channels).for_each(|((o, x), (factor, offset))| *o = x * factor + offset);
        }
        return;
    }
    let runs = out.chunks_mut(inner.max(1)).zip(x.chunks(inner.max(1)));
    for ((out, x), (factor, offset)) in runs.zip(channels.iter().cycle()) {
        out.iter_mut().zip(x).for_each(|(o, x)| *o = x * factor + offset);
    }
}

/// Mean and `1 / sqrt(variance + epsilon)` of a row.
fn moments(row: &[f32], epsilon: f32) -> (f64, f64) {
    let n = row.len() as f64;
    let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
    let variance = row.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n;
    (mean, (variance + f64::from(epsilon)).sqrt().recip())
}

/// Normalization of each channel of each sample over its spatial axes; channels first, `float32` elements.
///
/// # Errors
/// If the rank is below 3 or there is not one scale and bias for each channel.
pub(crate) fn instance_norm(
    attrs: &InstanceNorm,
    operands: Operands<'_>,
    pool: &mut Pool,
) -> Result<Vec<Tensor>, OpError> {
    let x = operands.required(0)?;
    let elements = x.as_slice::<f32>()?;
    if x.rank() < 3 {
        return Err(OpError::shape(format!("rank {} has no spatial axes to normalize over", x.rank())));
    }
    let lanes = Lanes::new(x.shape(), 1);
    let (scale, bias) = (singles(operands, 1, lanes.axis)?, singles(operands, 2, lanes.axis)?);
    let mut out = alloc::buffer(x.shape(), pool)?;
    let run = lanes.inner.max(1);
    for (i, (out, x)) in out.chunks_mut(run).zip(elements.chunks(run)).enumerate() {
        let (mean, inverse) = moments(x, attrs.epsilon);
        let factor = inverse * f64::from(scale[i % lanes.axis]);
        let offset = f64::from(bias[i % lanes.axis]);
        out.iter_mut().zip(x).for_each(|(o, &x)| *o = ((f64::from(x) - mean) * factor + offset) as f32);
    }
    Ok(vec![Tensor::new(x.shape(), out)?])
}

/// Normalization over the axes from `axis` on, of `float32` elements. Results: y, the means, the inverse deviations.
///
/// # Errors
/// If scale or bias do not broadcast to the normalized axes.
pub(crate) fn layer_norm(attrs: &LayerNorm, operands: Operands<'_>, pool: &mut Pool) -> Result<Vec<Tensor>, OpError> {
    let (x, scale) = (operands.required(0)?, operands.required(1)?);
    let elements = x.as_slice::<f32>()?;
    let axis = resolve_axis(attrs.axis, x.rank())?;
    let (outer, normalized) = x.shape().split_at(axis);
    let scale = expand_to(scale, normalized.to_vec(), pool)?;
    let bias = operands.optional(2).map(|b| expand_to(b, normalized.to_vec(), pool)).transpose()?;
    let (scale, bias) = (scale.as_slice::<f32>()?, bias.as_ref().map(Tensor::as_slice::<f32>).transpose()?);
    let mut out = alloc::buffer(x.shape(), pool)?;
    let rows = alloc::result_len(outer)?;
    let (mut means, mut inverses) = (vec![0f32; rows], vec![0f32; rows]);
    let row = scale.len().max(1);
    for (i, (out, x)) in out.chunks_mut(row).zip(elements.chunks(row)).enumerate() {
        let (mean, inverse) = moments(x, attrs.epsilon);
        out.iter_mut().zip(x).zip(scale).for_each(|((o, &x), s)| *o = ((f64::from(x) - mean) * inverse) as f32 * s);
        if let Some(bias) = bias {
            out.iter_mut().zip(bias).for_each(|(o, b)| *o += b);
        }
        (means[i], inverses[i]) = (mean as f32, inverse as f32);
    }
    let statistics_shape = [outer, &vec![1; normalized.len()]].concat();
    let statistics = |v| Tensor::new(statistics_shape.clone(), v);
    Ok(vec![Tensor::new(x.shape(), out)?, statistics(means)?, statistics(inverses)?])
}

/// Softmax or its logarithm along an axis, of `float32` or `float64` elements.
///
/// # Errors
/// If the axis is outside the rank or the elements are not floats.
pub(crate) fn softmax(attrs: &Softmax, operands: Operands<'_>, pool: &mut Pool) -> Result<Vec<Tensor>, OpError> {
    let x = operands.required(0)?;
    let axis = resolve_axis(attrs.axis, x.rank())?;
    let lanes = match attrs.flatten {
        true => Lanes { axis: x.shape()[axis..].iter().product(), inner: 1 },
        false => Lanes::new(x.shape(), axis),
    };
    let y = match x.data() {
        TensorData::F32(v) => {
            let mut out = alloc::buffer(x.shape(), pool)?;
            for_each_lane(v, &mut out, &lanes, |lane| softmax_single(lane, attrs.log));
            Tensor::new(x.shape(), out)?
        }
        TensorData::F64(v) => {
            let mut out = alloc::buffer(x.shape(), pool)?;
            for_each_lane(v, &mut out, &lanes, |lane| softmax_double(lane, attrs.log));
            Tensor::new(x.shape(), out)?
        }
        _ => return Err(unsupported(attrs.name(), x.dtype())),
    };
    Ok(vec![y])
}

/// Copies `x` to `out` and applies `f` in place to every lane along the axis.
fn for_each_lane<T: Copy + Default>(x: &[T], out: &mut [T], lanes: &Lanes, f: impl Fn(&mut [T])) {
    out.copy_from_slice(x);
    if lanes.inner == 1 {
        out.chunks_mut(lanes.axis.max(1)).for_each(f);
        return;
    }
    let mut lane = vec![T::default(); if out.is_empty() { 0 } else { lanes.axis }];
    for slab in out.chunks_mut((lanes.axis * lanes.inner).max(1)) {
        for i in 0..lanes.inner {
            lane.iter_mut().zip(slab[i..].iter().step_by(lanes.inner)).for_each(|(l, x)| *l = *x);
            f(&mut lane);
            slab[i..].iter_mut().step_by(lanes.inner).zip(&lane).for_each(|(x, l)| *x = *l);
        }
    }
}

fn softmax_single(lane: &mut [f32], log: bool) {
    let max = lane.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0f64;
    if log {
        lane.iter().for_each(|&x| sum += f64::from((x - max).exp()));
        let log_sum = sum.ln() as f32;
        lane.iter_mut().for_each(|x| *x = *x - max - log_sum);
        return;
    }
    for x in lane.iter_mut() {
        *x = (*x - max).exp();
        sum += f64::from(*x);
    }
    let sum = sum as f32;
    lane.iter_mut().for_each(|x| *x /= sum);
}

fn softmax_double(lane: &mut [f64], log: bool) {
    let max = lane.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = lane.iter().map(|x| (x - max).exp()).sum();
    let log_sum = sum.ln();
    lane.iter_mut().for_each(|x| *x = if log { *x - max - log_sum } else { (*x - max).exp() / sum });
}

#[cfg(test)]
mod tests;
