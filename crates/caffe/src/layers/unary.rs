//! Functions of one element.

use super::Row;
use super::builder::{Fault, LayerBuilder};
use super::shape::{dim, known};
use quantize_ir::op::{Binary, Unary};
use quantize_ir::{Dim, Op, ValueId};

pub(super) const ROWS: &[Row] = &[
    Row { kind: "ReLU", bottoms: 1..=1, tops: 1..=1, read: relu },
    Row { kind: "ReLU6", bottoms: 1..=1, tops: 1..=1, read: |layer| clip(layer, 0.0, 6.0) },
    Row { kind: "PReLU", bottoms: 1..=1, tops: 1..=1, read: prelu },
    Row { kind: "ELU", bottoms: 1..=1, tops: 1..=1, read: elu },
    Row { kind: "Sigmoid", bottoms: 1..=1, tops: 1..=1, read: |layer| function(layer, Unary::Sigmoid) },
    Row { kind: "TanH", bottoms: 1..=1, tops: 1..=1, read: |layer| function(layer, Unary::Tanh) },
    Row { kind: "AbsVal", bottoms: 1..=1, tops: 1..=1, read: |layer| function(layer, Unary::Abs) },
    Row { kind: "BNLL", bottoms: 1..=1, tops: 1..=1, read: |layer| function(layer, Unary::Softplus) },
    Row { kind: "Swish", bottoms: 1..=1, tops: 1..=1, read: swish },
    Row { kind: "Clip", bottoms: 1..=1, tops: 1..=1, read: clip_to_limits },
    Row { kind: "Power", bottoms: 1..=1, tops: 1..=1, read: power },
    Row { kind: "Exp", bottoms: 1..=1, tops: 1..=1, read: exp },
    Row { kind: "Log", bottoms: 1..=1, tops: 1..=1, read: log },
];

fn function(layer: &mut LayerBuilder<'_>, function: Unary) -> Result<(), Fault> {
    let x = layer.x()?;
    let shape = layer.shape(x);
    let y = layer.main(Op::Unary(function), &[x], shape);
    layer.set_results(vec![y]);
    Ok(())
}

fn relu(layer: &mut LayerBuilder<'_>) -> Result<(), Fault> {
    let alpha = layer.params("relu_param")?.float_or("negative_slope", 0.0)?;
    function(layer, if alpha == 0.0 { Unary::Relu } else { Unary::LeakyRelu { alpha } })
}

fn elu(layer: &mut LayerBuilder<'_>) -> Result<(), Fault> {
    let alpha = layer.params("elu_param")?.float_or("alpha", 1.0)?;
    function(layer, Unary::Elu { alpha })
}

/// One slope for each channel, or one for all.
fn prelu(layer: &mut LayerBuilder<'_>) -> Result<(), Fault> {
    let shared = layer.params("prelu_param")?.flag("channel_shared", false)?;
    layer.need_blobs(1)?;
    let x = layer.x()?;
    let shape = layer.shape(x);
    let slope = if shared {
        layer.blob_as(0, "slope", &[&[], &[known(1)]], |_| Vec::new())?
    } else {
        let channels = shape.as_ref().map_or(Dim::Unknown, |shape| dim(shape, 1));
        let trailing = layer.known_shape(x)?.len().saturating_sub(2);
        layer.blob_as(0, "slope", &[&[channels]], |n| std::iter::once(n).chain(vec![1; trailing]).collect())?
    };
    let y = layer.main(Op::PRelu, &[x, slope], shape);
    layer.set_results(vec![y]);
    Ok(())
}

fn clip_to_limits(layer: &mut LayerBuilder<'_>) -> Result<(), Fault> {
    let params = layer.params("clip_param")?;
    for limit in ["min", "max"] {
        if !params.has(limit) {
            return Err(params.error(limit, "it is missing").into());
        }
    }
    let (min, max) = (params.float_or("min", 0.0)?, params.float_or("max", 0.0)?);
    clip(layer, min, max)
}

fn clip(layer: &mut LayerBuilder<'_>, min: f32, max: f32) -> Result<(), Fault> {
    let x = layer.x()?;
    let shape = layer.shape(x);
    let limits = [layer.scalar("min", min), layer.scalar("max", max)];
    let y = layer.main(Op::Clip, &[x, limits[0], limits[1]], shape);
    layer.set_results(vec![y]);
    Ok(())
}

/// `x * sigmoid(beta * x)`
fn swish(layer: &mut LayerBuilder<'_>) -> Result<(), Fault> {
    let beta = layer.params("swish_param")?.float_or("beta", 1.0)?;
    let x = layer.x()?;
    let shape = layer.shape(x);
    let scaled = with_number(layer, "scaled", Binary::Mul, x, beta);
    let gate = layer.helper("sigmoid", Op::Unary(Unary::Sigmoid), &[scaled], shape.clone());
    let y = layer.main(Op::Binary(Binary::Mul), &[x, gate], shape);
    layer.set_results(vec![y]);
    Ok(())
}

/// `x * number` or `x + number` beside the main operator; `x` itself where that changes nothing.
fn with_number(layer: &mut LayerBuilder<'_>, part: &str, op: Binary, x: ValueId, number: f32) -> ValueId {
    let neutral = if op == Binary::Mul { 1.0 } else { 0.0 };
    if number == neutral {
        return x;
    }
    let shape = layer.shape(x);
    let constant = layer.scalar(&format!("{part}_by"), number);
    layer.helper(part, Op::Binary(op), &[x, constant], shape)
}

/// `(shift + scale * x) ^ power`; the last step that changes something is the main operator.
fn power(layer: &mut LayerBuilder<'_>) -> Result<(), Fault> {
    let params = layer.params("power_param")?;
    let numbers = [params.float_or("scale", 1.0)?, params.float_or("shift", 0.0)?, params.float_or("power", 1.0)?];
    let steps = [("scale", Binary::Mul, 1.0), ("shift", Binary::Add, 0.0), ("power", Binary::Pow, 1.0)];
    let effective: Vec<_> = steps.into_iter().zip(numbers).filter(|((_, _, neutral), n)| n != neutral).collect();
    let mut y = layer.x()?;
    let shape = layer.shape(y);
    let last = effective.len().saturating_sub(1);
    for (i, ((part, op, _), number)) in effective.into_iter().enumerate() {
        let constant = layer.scalar(&format!("{part}_by"), number);
        y = if i == last {
            layer.main(Op::Binary(op), &[y, constant], shape.clone())
        } else {
            layer.helper(part, Op::Binary(op), &[y, constant], shape.clone())
        };
    }
    layer.set_results(vec![y]);
    Ok(())
}

/// Base of an exponential or logarithm: its natural logarithm; -1 stands for e.
fn natural(params: &crate::params::Params<'_>) -> Result<f32, Fault> {
    match params.float_or("base", -1.0)? {
        -1.0 => Ok(1.0),
        base if base > 0.0 => Ok(base.ln()),
        base => Err(params.error("base", format!("{base} is not positive")).into()),
    }
}

/// `base ^ (shift + scale * x)`
fn exp(layer: &mut LayerBuilder<'_>) -> Result<(), Fault> {
    let params = layer.params("exp_param")?;
    let base = natural(&params)?;
    let (scale, shift) = (params.float_or("scale", 1.0)?, params.float_or("shift", 0.0)?);
    let x = layer.x()?;
    let shape = layer.shape(x);
    let scaled = with_number(layer, "scale", Binary::Mul, x, scale * base);
    let shifted = with_number(layer, "shift", Binary::Add, scaled, shift * base);
    let y = layer.main(Op::Unary(Unary::Exp), &[shifted], shape);
    layer.set_results(vec![y]);
    Ok(())
}

/// Logarithm of `shift + scale * x` to the base.
fn log(layer: &mut LayerBuilder<'_>) -> Result<(), Fault> {
    let params = layer.params("log_param")?;
    let base = natural(&params)?;
    let (scale, shift) = (params.float_or("scale", 1.0)?, params.float_or("shift", 0.0)?);
    let x = layer.x()?;
    let shape = layer.shape(x);
    let scaled = with_number(layer, "scale", Binary::Mul, x, scale);
    let shifted = with_number(layer, "shift", Binary::Add, scaled, shift);
    let y = layer.main(Op::Unary(Unary::Log), &[shifted], shape);
    let y = with_number(layer, "base", Binary::Mul, y, 1.0 / base);
    layer.set_results(vec![y]);
    Ok(())
}
