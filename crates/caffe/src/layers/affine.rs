//! Scale and bias along some axes.
//!
//! With one number for each channel the layer is a batch normalization that changes nothing else, which is what
//! folding looks for; every other form is a product and a sum with constants or blobs.

use super::Row;
use super::builder::{Fault, LayerBuilder};
use super::norm::{PerChannel, per_channel};
use super::shape::{axis, dim};
use crate::params::Params;
use quantize_ir::op::Binary;
use quantize_ir::{Dim, Op, Shape, ValueId};

pub(super) const ROWS: &[Row] = &[
    Row { kind: "Scale", bottoms: 1..=2, tops: 1..=1, read: scale },
    Row { kind: "Bias", bottoms: 1..=2, tops: 1..=1, read: bias },
];

/// The axes that factors lie along.
struct Span {
    first: usize,
    shape: Shape,
    /// Axes behind them.
    trailing: usize,
}

impl Span {
    /// The axes of a blob of weights: `num_axes` from `axis` on.
    fn of_weights(params: &Params<'_>, x: &[Dim]) -> Result<Self, Fault> {
        let first = axis(params.int_or("axis", 1)?, x)?;
        let count = match params.int_or("num_axes", 1)? {
            -1 => x.len() - first,
            n => usize::try_from(n).map_err(|_| params.error("num_axes", format!("it is {n}")))?,
        };
        let shape = x.get(first..).and_then(|rest| rest.get(..count)).map(<[Dim]>::to_vec);
        let shape = shape.ok_or_else(|| params.error("num_axes", format!("there are only {} axes", x.len())))?;
        Ok(Self { first, trailing: x.len() - first - count, shape })
    }

    /// The axes of the second blob the layer reads.
    fn of_input(layer: &LayerBuilder<'_>, params: &Params<'_>, x: &[Dim]) -> Result<Self, Fault> {
        let shape = layer.known_shape(layer.input(1)?)?;
        // A scalar has no axis to lie along.
        let first = if shape.is_empty() { 0 } else { axis(params.int_or("axis", 1)?, x)? };
        let fits = |(own, other): (&Dim, &Dim)| own.known().zip(other.known()).is_none_or(|(a, b)| a == b);
        let along = x.get(first..).and_then(|rest| rest.get(..shape.len()));
        match along {
            Some(along) if along.iter().zip(&shape).all(fits) => {
                Ok(Self { first, trailing: x.len() - first - shape.len(), shape })
            }
            _ => Err(super::shape::differ(layer, 0, 1)),
        }
    }

    /// Whether there is one number for each channel.
    fn is_per_channel(&self) -> bool {
        self.first == 1 && self.shape.len() == 1
    }

    /// A blob of weights that lies along these axes, with an axis for each that is behind.
    fn blob(&self, layer: &mut LayerBuilder<'_>, index: usize, part: &str) -> Result<ValueId, Fault> {
        let sizes: Option<Vec<usize>> = self.shape.iter().map(super::shape::size).collect();
        let sizes = sizes.ok_or_else(|| Fault::form("it lies along an axis whose size is not known"))?;
        let shape = [sizes, vec![1; self.trailing]].concat();
        layer.blob_as(index, part, &[&self.shape], |_| shape)
    }

    /// The second blob the layer reads, with an axis for each that is behind.
    fn aligned(&self, layer: &mut LayerBuilder<'_>) -> Result<ValueId, Fault> {
        let value = layer.input(1)?;
        if self.trailing == 0 || self.shape.is_empty() {
            return Ok(value);
        }
        let rank = self.shape.len() as i64;
        let axes = layer.integers("axes", (rank..rank + self.trailing as i64).collect());
        let ones = std::iter::repeat_n(super::shape::known(1), self.trailing);
        let shape = self.shape.iter().cloned().chain(ones).collect();
        Ok(layer.helper("aligned", Op::Unsqueeze, &[value, axes], Some(shape)))
    }
}

fn scale(layer: &mut LayerBuilder<'_>) -> Result<(), Fault> {
    let params = layer.params("scale_param")?;
    let has_bias = params.flag("bias_term", false)?;
    let x = layer.x()?;
    let computed = layer.bottoms() == 2;
    layer.need_blobs(usize::from(!computed) + usize::from(has_bias))?;
    let shape = layer.known_shape(x)?;
    let span = if computed { Span::of_input(layer, &params, &shape)? } else { Span::of_weights(&params, &shape)? };
    if span.is_per_channel() && !computed {
        let scale = Some(layer.blob(0, "scale", &span.shape)?);
        let bias = if has_bias { Some(layer.blob(1, "bias", &span.shape)?) } else { None };
        let channels = super::shape::size(&dim(&shape, 1)).ok_or_else(|| Fault::form("its channels are not known"))?;
        return per_channel(layer, PerChannel { scale, bias, mean: None, variance: None, epsilon: 0.0 }, channels);
    }
    let factor = if computed { span.aligned(layer)? } else { span.blob(layer, 0, "scale")? };
    let bias = if has_bias { Some(span.blob(layer, usize::from(!computed), "bias")?) } else { None };
    let mut y = layer.main(Op::Binary(Binary::Mul), &[x, factor], Some(shape.clone()));
    if let Some(bias) = bias {
        y = layer.helper("sum", Op::Binary(Binary::Add), &[y, bias], Some(shape));
    }
    layer.set_results(vec![y]);
    Ok(())
}

fn bias(layer: &mut LayerBuilder<'_>) -> Result<(), Fault> {
    let params = layer.params("bias_param")?;
    let x = layer.x()?;
    let computed = layer.bottoms() == 2;
    layer.need_blobs(usize::from(!computed))?;
    let shape = layer.known_shape(x)?;
    let addend = if computed {
        Span::of_input(layer, &params, &shape)?.aligned(layer)?
    } else {
        Span::of_weights(&params, &shape)?.blob(layer, 0, "bias")?
    };
    let y = layer.main(Op::Binary(Binary::Add), &[x, addend], Some(shape));
    layer.set_results(vec![y]);
    Ok(())
}
