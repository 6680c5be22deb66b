//! Convolutions. Weights are `[output, input / group, spatial…]`, those of a deconvolution
//! `[input, output / group, spatial…]`; any number of spatial axes.

use super::Row;
use super::builder::{Fault, LayerBuilder};
use super::shape::{dim, known, size};
use crate::params::Params;
use quantize_ir::op::{Conv, ConvTranspose, FilterLayout, Layout, Padding, Rounding, Window};
use quantize_ir::{Dim, Op, Shape};

pub(super) const ROWS: &[Row] = &[
    Row { kind: "Convolution", bottoms: 1..=1, tops: 1..=1, read: |layer| convolution(layer, false) },
    Row { kind: "ConvolutionDepthwise", bottoms: 1..=1, tops: 1..=1, read: |layer| convolution(layer, true) },
    Row { kind: "Deconvolution", bottoms: 1..=1, tops: 1..=1, read: deconvolution },
];

/// The parameters of a convolution.
struct Parameters {
    outputs: usize,
    group: usize,
    bias: bool,
    kernel: Vec<usize>,
    stride: Vec<usize>,
    pad: Vec<usize>,
    dilation: Vec<usize>,
}

impl Parameters {
    fn read(layer: &LayerBuilder<'_>, shape: Option<&Shape>, depthwise: bool) -> Result<Self, Fault> {
        let params = layer.params("convolution_param")?;
        if params.int_or("axis", 1)? != 1 {
            return Err(Fault::form("its channel axis is not 1"));
        }
        let stored = || layer.stored_shape(0, 4).map(|axes| axes.len());
        let rank = shape.map(Vec::len).or_else(stored).and_then(|rank| rank.checked_sub(2)).filter(|rank| *rank > 0);
        let rank = rank.ok_or_else(|| Fault::invalid(format!("{} has no spatial axes", layer.describe(0))))?;
        let outputs = params.positive("num_output")?;
        let group = match params.size("group")? {
            Some(0) => return Err(params.error("group", "it is 0").into()),
            Some(group) if !depthwise || group > 1 => group,
            _ if depthwise => shape.and_then(|shape| size(&dim(shape, 1))).unwrap_or(outputs),
            _ => 1,
        };
        let positive = |list: Vec<usize>, name: &str| {
            if list.contains(&0) { Err(params.error(name, "it is 0")) } else { Ok(list) }
        };
        Ok(Self {
            outputs,
            group,
            bias: params.flag("bias_term", true)?,
            kernel: positive(spatial(&params, ["kernel_size", "kernel_h", "kernel_w"], rank, None)?, "kernel_size")?,
            stride: positive(spatial(&params, ["stride", "stride_h", "stride_w"], rank, Some(1))?, "stride")?,
            pad: spatial(&params, ["pad", "pad_h", "pad_w"], rank, Some(0))?,
            dilation: positive(spatial(&params, ["dilation", "", ""], rank, Some(1))?, "dilation")?,
        })
    }

    fn window(&self) -> Window {
        Window {
            strides: self.stride.clone(),
            dilations: self.dilation.clone(),
            padding: Padding::Explicit { begin: self.pad.clone(), end: self.pad.clone() },
            rounding: Rounding::Floor,
        }
    }

    fn extent(&self, axis: usize) -> Option<usize> {
        let (kernel, dilation) = (self.kernel.get(axis)?, self.dilation.get(axis)?);
        kernel.checked_sub(1)?.checked_mul(*dilation)?.checked_add(1)
    }

    /// `floor((in + 2 pad - extent) / stride) + 1`
    fn output(&self, axis: usize, input: usize) -> Option<usize> {
        let padded = self.pad.get(axis)?.checked_mul(2)?.checked_add(input)?;
        Some(padded.checked_sub(self.extent(axis)?)? / self.stride.get(axis)? + 1)
    }

    /// `stride (in - 1) + extent - 2 pad`
    fn transposed_output(&self, axis: usize, input: usize) -> Option<usize> {
        let spread = input.checked_sub(1)?.checked_mul(*self.stride.get(axis)?)?;
        let full = spread.checked_add(self.extent(axis)?)?;
        full.checked_sub(self.pad.get(axis)?.checked_mul(2)?).filter(|n| *n > 0)
    }

    /// Refuses groups that do not divide the channels.
    fn check_group(&self, layer: &LayerBuilder<'_>, channels: &Dim) -> Result<(), Fault> {
        let divides = |n: usize| n.is_multiple_of(self.group);
        if divides(self.outputs) && size(channels).is_none_or(divides) {
            return Ok(());
        }
        let (group, outputs) = (self.group, self.outputs);
        Err(Fault::invalid(format!("{group} groups do not divide {outputs} outputs and {}", layer.describe(0))))
    }
}

/// A value for each spatial axis: one for each, one for all, or one for height and one for width.
fn spatial(
    params: &Params<'_>,
    [all, height, width]: [&str; 3],
    rank: usize,
    default: Option<usize>,
) -> Result<Vec<usize>, Fault> {
    let list = params.sizes(all)?;
    let (h, w) = (params.size(height)?, params.size(width)?);
    let missing = || params.error(all, "it is missing");
    if h.is_some() || w.is_some() {
        if rank != 2 {
            return Err(params.error(height, format!("there are {rank} spatial axes")).into());
        }
        return Ok(vec![h.or(default).ok_or_else(missing)?, w.or(default).ok_or_else(missing)?]);
    }
    match list.as_slice() {
        [] => Ok(vec![default.ok_or_else(missing)?; rank]),
        [one] => Ok(vec![*one; rank]),
        several if several.len() == rank => Ok(list),
        several => Err(params.error(all, format!("{} values for {rank} spatial axes", several.len())).into()),
    }
}

/// Shape of the result, given how one spatial axis becomes another.
fn result(
    layer: &LayerBuilder<'_>,
    shape: Option<&Shape>,
    p: &Parameters,
    output: impl Fn(usize, usize) -> Option<usize>,
) -> Result<Option<Shape>, Fault> {
    let Some(shape) = shape else { return Ok(None) };
    let mut result = vec![dim(shape, 0), known(p.outputs)];
    for (axis, input) in shape.iter().skip(2).enumerate() {
        result.push(match size(input) {
            None => Dim::Unknown,
            Some(input) => known(output(axis, input).ok_or_else(|| {
                Fault::invalid(format!("a kernel of {:?} does not fit {}", p.kernel, layer.describe(0)))
            })?),
        });
    }
    Ok(Some(result))
}

fn convolution(layer: &mut LayerBuilder<'_>, depthwise: bool) -> Result<(), Fault> {
    let x = layer.x()?;
    let shape = layer.shape(x);
    let p = Parameters::read(layer, shape.as_ref(), depthwise)?;
    let channels = shape.as_ref().map_or(Dim::Unknown, |shape| dim(shape, 1));
    p.check_group(layer, &channels)?;
    let each = size(&channels).map_or(Dim::Unknown, |n| known(n / p.group));
    let result = result(layer, shape.as_ref(), &p, |axis, input| p.output(axis, input))?;
    let inputs = operands(layer, &p, [known(p.outputs), each])?;
    let op =
        Conv { window: p.window(), group: p.group, layout: Layout::ChannelsFirst, filter: FilterLayout::OutputFirst };
    let y = layer.main(Op::Conv(op), &inputs, result);
    layer.set_results(vec![y]);
    Ok(())
}

fn deconvolution(layer: &mut LayerBuilder<'_>) -> Result<(), Fault> {
    let x = layer.x()?;
    let shape = layer.shape(x);
    let p = Parameters::read(layer, shape.as_ref(), false)?;
    let channels = shape.as_ref().map_or(Dim::Unknown, |shape| dim(shape, 1));
    p.check_group(layer, &channels)?;
    let result = result(layer, shape.as_ref(), &p, |axis, input| p.transposed_output(axis, input))?;
    let inputs = operands(layer, &p, [channels, known(p.outputs / p.group)])?;
    let op = ConvTranspose {
        window: p.window(),
        group: p.group,
        output_padding: Vec::new(),
        output_shape: Vec::new(),
        layout: Layout::ChannelsFirst,
        filter: FilterLayout::OutputFirst,
    };
    let y = layer.main(Op::ConvTranspose(op.into()), &inputs, result);
    layer.set_results(vec![y]);
    Ok(())
}

/// The input, the weights and the bias.
fn operands(
    layer: &mut LayerBuilder<'_>,
    p: &Parameters,
    channels: [Dim; 2],
) -> Result<Vec<quantize_ir::ValueId>, Fault> {
    layer.need_blobs(1 + usize::from(p.bias))?;
    let expected: Vec<Dim> = channels.into_iter().chain(p.kernel.iter().map(|k| known(*k))).collect();
    let mut operands = vec![layer.x()?, layer.blob(0, "weight", &expected)?];
    if p.bias {
        operands.push(layer.blob(1, "bias", &[known(p.outputs)])?);
    }
    Ok(operands)
}
