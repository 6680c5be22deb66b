//! Normalizations and softmax.

use super::Row;
use super::builder::{Fault, LayerBuilder};
use super::shape::{axis, common, dim, known, size};
use quantize_ir::op::{BatchNorm, Binary, Lrn, LrnRegion, Reduce, ReduceKind, Softmax, Unary};
use quantize_ir::{Dim, Op, Shape, Tensor, ValueId};

pub(super) const ROWS: &[Row] = &[
    Row { kind: "BatchNorm", bottoms: 1..=1, tops: 1..=1, read: batch_norm },
    Row { kind: "BN", bottoms: 1..=1, tops: 1..=1, read: bn },
    Row { kind: "LRN", bottoms: 1..=1, tops: 1..=1, read: lrn },
    Row { kind: "MVN", bottoms: 1..=1, tops: 1..=1, read: mvn },
    Row { kind: "Normalize", bottoms: 1..=1, tops: 1..=1, read: normalize },
    Row { kind: "Softmax", bottoms: 1..=1, tops: 1..=1, read: softmax },
];

/// The parameters of a per-channel normalization; what is absent changes nothing.
pub(super) struct PerChannel {
    pub(super) scale: Option<ValueId>,
    pub(super) bias: Option<ValueId>,
    pub(super) mean: Option<ValueId>,
    pub(super) variance: Option<ValueId>,
    pub(super) epsilon: f32,
}

/// The node `(x - mean) / sqrt(variance + epsilon) * scale + bias` over the `channels` of axis 1.
pub(super) fn per_channel(layer: &mut LayerBuilder<'_>, p: PerChannel, channels: usize) -> Result<(), Fault> {
    let x = layer.x()?;
    let shape = layer.shape(x);
    // Counted from the end, the channels of a matrix are where a matrix product has them.
    let axis = if shape.as_ref().is_some_and(|shape| shape.len() == 2) { -1 } else { 1 };
    let mut operands = vec![x];
    for (part, given, absent) in
        [("scale", p.scale, 1.0f32), ("bias", p.bias, 0.0), ("mean", p.mean, 0.0), ("variance", p.variance, 1.0)]
    {
        let constant = given.unwrap_or_else(|| layer.constant(part, Tensor::vector(vec![absent; channels])));
        operands.push(constant);
    }
    let y = layer.main(Op::BatchNorm(BatchNorm { epsilon: p.epsilon, axis }), &operands, shape);
    layer.set_results(vec![y]);
    Ok(())
}

/// The channel axis of what the layer reads, and its shape.
fn channels(layer: &LayerBuilder<'_>) -> Result<Dim, Fault> {
    match layer.shape(layer.x()?) {
        Some(shape) if shape.len() < 2 => Err(Fault::invalid(format!("{} has no channels", layer.describe(0)))),
        Some(shape) => Ok(dim(&shape, 1)),
        None => Ok(Dim::Unknown),
    }
}

/// The numbers of a blob that has one for each channel, as a vector or with the axes of an image.
fn channel_numbers(layer: &LayerBuilder<'_>, index: usize) -> Result<Vec<f32>, Fault> {
    let channels = channels(layer)?;
    layer.numbers(index, &[std::slice::from_ref(&channels), &image_axes(&channels)])
}

fn channel_blob(layer: &mut LayerBuilder<'_>, index: usize, part: &str) -> Result<ValueId, Fault> {
    let channels = channels(layer)?;
    layer.blob_as(index, part, &[std::slice::from_ref(&channels), &image_axes(&channels)], |n| vec![n])
}

fn image_axes(channels: &Dim) -> [Dim; 4] {
    [known(1), channels.clone(), known(1), known(1)]
}

/// Blobs: mean and variance, both to be divided by the third; NVCaffe adds scale and bias.
fn batch_norm(layer: &mut LayerBuilder<'_>) -> Result<(), Fault> {
    let params = layer.params("batch_norm_param")?;
    if !params.flag("use_global_stats", true)? {
        return Err(Fault::form("it computes statistics of the batch (`use_global_stats` is false)"));
    }
    let epsilon = params.float_or("eps", 1e-5)?;
    let fused = layer.blob_count() == 5;
    layer.need_blobs(if fused { 5 } else { 3 })?;
    let (mean, variance) = (channel_numbers(layer, 0)?, channel_numbers(layer, 1)?);
    let one = [known(1)];
    let factor = layer.numbers(2, &[&one, &image_axes(&known(1))])?.first().copied().unwrap_or(0.0);
    let factor = if factor == 0.0 { 0.0 } else { 1.0 / factor };
    let channels = mean.len();
    if variance.len() != channels {
        return Err(Fault::invalid(format!("{channels} means and {} variances", variance.len())));
    }
    let scaled = |numbers: Vec<f32>| Tensor::vector(numbers.into_iter().map(|v| v * factor).collect::<Vec<f32>>());
    let mean = Some(layer.constant("mean", scaled(mean)));
    let variance = Some(layer.constant("variance", scaled(variance)));
    let (scale, bias) = match fused {
        true => (Some(channel_blob(layer, 3, "scale")?), Some(channel_blob(layer, 4, "bias")?)),
        false => (None, None),
    };
    per_channel(layer, PerChannel { scale, bias, mean, variance, epsilon }, channels)
}

/// The layer of segmentation forks. Blobs: scale and bias, and unless they are folded into these, mean and variance.
fn bn(layer: &mut LayerBuilder<'_>) -> Result<(), Fault> {
    let folded = layer.blob_count() == 2;
    layer.need_blobs(if folded { 2 } else { 4 })?;
    let epsilon = layer.params("bn_param")?.float_or("eps", 1e-5)?;
    let count = channel_numbers(layer, 0)?.len();
    let scale = Some(channel_blob(layer, 0, "scale")?);
    let bias = Some(channel_blob(layer, 1, "bias")?);
    let p = match folded {
        true => PerChannel { scale, bias, mean: None, variance: None, epsilon: 0.0 },
        false => {
            let mean = Some(channel_blob(layer, 2, "mean")?);
            let variance = Some(channel_blob(layer, 3, "variance")?);
            PerChannel { scale, bias, mean, variance, epsilon }
        }
    };
    per_channel(layer, p, count)
}

/// `LRNParameter.NormRegion`
const REGIONS: &[(&str, u64, LrnRegion)] =
    &[("ACROSS_CHANNELS", 0, LrnRegion::Across), ("WITHIN_CHANNEL", 1, LrnRegion::Within)];

fn lrn(layer: &mut LayerBuilder<'_>) -> Result<(), Fault> {
    let params = layer.params("lrn_param")?;
    let size = params.size("local_size")?.unwrap_or(5);
    if size % 2 == 0 {
        return Err(params.error("local_size", format!("{size} is not odd")).into());
    }
    let region = params.choice("norm_region", REGIONS)?.unwrap_or(LrnRegion::Across);
    // Within a channel, Caffe takes 1 for `k`.
    let k = if region == LrnRegion::Across { params.float_or("k", 1.0)? } else { 1.0 };
    let op = Lrn { alpha: params.float_or("alpha", 1.0)?, beta: params.float_or("beta", 0.75)?, bias: k, size, region };
    let x = layer.x()?;
    let shape = layer.shape(x);
    let y = layer.main(Op::Lrn(op), &[x], shape);
    layer.set_results(vec![y]);
    Ok(())
}

fn softmax(layer: &mut LayerBuilder<'_>) -> Result<(), Fault> {
    let params = layer.params("softmax_param")?;
    let at = params.int_or("axis", 1)?;
    let x = layer.x()?;
    let shape = layer.shape(x);
    shape.as_ref().map(|shape| axis(at, shape)).transpose()?;
    let y = layer.main(Op::Softmax(Softmax { axis: at, flatten: false, log: false }), &[x], shape);
    layer.set_results(vec![y]);
    Ok(())
}

/// The shape with ones along `axes`.
fn collapsed(shape: &[Dim], axes: &[i64]) -> Shape {
    let along = |i: usize| axes.contains(&(i as i64));
    shape.iter().enumerate().map(|(i, dim)| if along(i) { known(1) } else { dim.clone() }).collect()
}

fn reduce(kind: ReduceKind) -> Op {
    Op::Reduce(Reduce { kind, keep_dims: true, noop_with_empty_axes: false })
}

/// `(x - mean) / (sqrt(variance) + eps)` over each channel, or over all.
fn mvn(layer: &mut LayerBuilder<'_>) -> Result<(), Fault> {
    let params = layer.params("mvn_param")?;
    let (across, eps) = (params.flag("across_channels", false)?, params.float_or("eps", 1e-9)?);
    let x = layer.x()?;
    let shape = layer.known_shape(x)?;
    let list: Vec<i64> = (if across { 1 } else { 2 }..shape.len() as i64).collect();
    if list.is_empty() {
        return Err(Fault::invalid(format!("{} has no axes to normalize over", layer.describe(0))));
    }
    let small = Some(collapsed(&shape, &list));
    let axes = layer.integers("axes", list);
    let mean = layer.helper("mean", reduce(ReduceKind::Mean), &[x, axes], small.clone());
    let shape = Some(shape);
    if !params.flag("normalize_variance", true)? {
        let y = layer.main(Op::Binary(Binary::Sub), &[x, mean], shape);
        layer.set_results(vec![y]);
        return Ok(());
    }
    let centred = layer.helper("centred", Op::Binary(Binary::Sub), &[x, mean], shape.clone());
    let squares = layer.helper("squares", Op::Binary(Binary::Mul), &[centred, centred], shape.clone());
    let variance = layer.helper("variance", reduce(ReduceKind::Mean), &[squares, axes], small.clone());
    let deviation = layer.helper("deviation", Op::Unary(Unary::Sqrt), &[variance], small.clone());
    let eps = layer.scalar("eps", eps);
    let divisor = layer.helper("divisor", Op::Binary(Binary::Add), &[deviation, eps], small);
    let y = layer.main(Op::Binary(Binary::Div), &[centred, divisor], shape);
    layer.set_results(vec![y]);
    Ok(())
}

/// The layer of SSD: `x / sqrt(sum of squares + eps) * scale`, the sum over channels, or over all of a sample.
fn normalize(layer: &mut LayerBuilder<'_>) -> Result<(), Fault> {
    let params = layer.params("norm_param")?;
    let across = params.flag("across_spatial", true)?;
    let shared = params.flag("channel_shared", true)?;
    let eps = params.float_or("eps", 1e-10)?;
    layer.need_blobs(1)?;
    let x = layer.x()?;
    let shape = layer.known_shape(x)?;
    let channels = size(&channels(layer)?).ok_or_else(|| Fault::form("the number of channels is not known"))?;
    let trailing = vec![1; shape.len().saturating_sub(2)];
    let scale = match shared {
        true => layer.blob_as(0, "scale", &[&[known(1)], &[]], |_| Vec::new())?,
        false => layer.blob_as(0, "scale", &[&[known(channels)]], |n| [vec![n], trailing].concat())?,
    };
    let list: Vec<i64> = if across { (1..shape.len() as i64).collect() } else { vec![1] };
    let small = Some(collapsed(&shape, &list));
    let axes = layer.integers("axes", list);
    let sum = layer.helper("sum", reduce(ReduceKind::SumSquare), &[x, axes], small.clone());
    let eps = layer.scalar("eps", eps);
    let sum = layer.helper("shifted", Op::Binary(Binary::Add), &[sum, eps], small.clone());
    let norm = layer.helper("norm", Op::Unary(Unary::Sqrt), &[sum], small);
    let shape = common(layer, &[x])?;
    let unit = layer.helper("unit", Op::Binary(Binary::Div), &[x, norm], shape.clone());
    let y = layer.main(Op::Binary(Binary::Mul), &[unit, scale], shape);
    layer.set_results(vec![y]);
    Ok(())
}
