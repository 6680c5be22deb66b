//! Layers that move elements, or pass them on.

use super::Row;
use super::builder::{Fault, LayerBuilder, describe};
use super::shape::{axis, differ, dim, joined, known, product, reshaped, size};
use crate::params::Params;
use quantize_ir::op::{Binary, Concat, Flatten, Reshape, Split, Transpose};
use quantize_ir::{Dim, Op, Shape};

pub(super) const ROWS: &[Row] = &[
    Row { kind: "Concat", bottoms: 1..=super::MANY, tops: 1..=1, read: concat },
    Row { kind: "Slice", bottoms: 1..=1, tops: 1..=super::MANY, read: slice },
    Row { kind: "Split", bottoms: 1..=1, tops: 1..=super::MANY, read: pass_on },
    Row { kind: "Dropout", bottoms: 1..=1, tops: 1..=1, read: dropout },
    Row { kind: "Silence", bottoms: 0..=super::MANY, tops: 0..=0, read: |_| Ok(()) },
    Row { kind: "Flatten", bottoms: 1..=1, tops: 1..=1, read: flatten },
    Row { kind: "Reshape", bottoms: 1..=1, tops: 1..=1, read: reshape },
    Row { kind: "Permute", bottoms: 1..=1, tops: 1..=1, read: permute },
    Row { kind: "Crop", bottoms: 2..=2, tops: 1..=1, read: crop },
    Row { kind: "Tile", bottoms: 1..=1, tops: 1..=1, read: tile },
];

/// Every result is what is read.
fn pass_on(layer: &mut LayerBuilder<'_>) -> Result<(), Fault> {
    let x = layer.x()?;
    layer.set_results(vec![x; layer.tops()]);
    Ok(())
}

/// Passes on what is read; forks that do not scale while training do it afterwards.
fn dropout(layer: &mut LayerBuilder<'_>) -> Result<(), Fault> {
    let params = layer.params("dropout_param")?;
    if params.flag("scale_train", true)? {
        return pass_on(layer);
    }
    let kept = 1.0 - params.float_or("dropout_ratio", 0.5)?;
    let x = layer.x()?;
    let shape = layer.shape(x);
    let kept = layer.scalar("kept", kept);
    let y = layer.main(Op::Binary(Binary::Mul), &[x, kept], shape);
    layer.set_results(vec![y]);
    Ok(())
}

/// The axis a layer works along, by its present and its former name.
fn along(params: &Params<'_>, former: &str) -> Result<i64, Fault> {
    Ok(match params.int("axis")? {
        Some(axis) => axis,
        None => params.int_or(former, 1)?,
    })
}

fn concat(layer: &mut LayerBuilder<'_>) -> Result<(), Fault> {
    let at = along(&layer.params("concat_param")?, "concat_dim")?;
    let inputs = layer.inputs().to_vec();
    let shape = joined(layer, &inputs, at)?;
    let y = layer.main(Op::Concat(Concat { axis: at }), &inputs, shape);
    layer.set_results(vec![y]);
    Ok(())
}

/// Cut before each `slice_point`, else into equal pieces.
fn slice(layer: &mut LayerBuilder<'_>) -> Result<(), Fault> {
    let params = layer.params("slice_param")?;
    let x = layer.x()?;
    let pieces = layer.tops();
    if pieces == 1 {
        return pass_on(layer);
    }
    let shape = layer.known_shape(x)?;
    let at = axis(along(&params, "slice_dim")?, &shape)?;
    let whole = size(&dim(&shape, at)).ok_or_else(|| Fault::form("it cuts an axis whose size is not known"))?;
    let points = params.sizes("slice_point")?;
    let sizes = match points.len() {
        0 if whole % pieces == 0 => vec![whole / pieces; pieces],
        0 => return Err(Fault::invalid(format!("{} cannot be cut into {pieces} equal pieces", layer.describe(0)))),
        n if n + 1 == pieces => piece_sizes(&params, &points, whole)?,
        n => return Err(params.error("slice_point", format!("{n} of them for {pieces} tops")).into()),
    };
    let shapes = sizes.iter().map(|size| Some(with_axis(&shape, at, known(*size)))).collect();
    let sizes = layer.integers("sizes", sizes.into_iter().map(|size| size as i64).collect());
    let results = layer.main_with_results(Op::Split(Split { axis: at as i64 }), &[x, sizes], shapes);
    layer.set_results(results);
    Ok(())
}

fn piece_sizes(params: &Params<'_>, points: &[usize], whole: usize) -> Result<Vec<usize>, Fault> {
    let starts = std::iter::once(&0).chain(points);
    let ends = points.iter().chain([&whole]);
    let size = |(start, end): (&usize, &usize)| end.checked_sub(*start).filter(|size| *size > 0);
    let sizes: Option<Vec<usize>> = starts.zip(ends).map(size).collect();
    Ok(sizes.ok_or_else(|| params.error("slice_point", format!("{points:?} do not cut an axis of {whole}")))?)
}

fn with_axis(shape: &[Dim], axis: usize, dim: Dim) -> Shape {
    shape.iter().enumerate().map(|(i, own)| if i == axis { dim.clone() } else { own.clone() }).collect()
}

fn flatten(layer: &mut LayerBuilder<'_>) -> Result<(), Fault> {
    let params = layer.params("flatten_param")?;
    let (first, last) = (params.int_or("axis", 1)?, params.int_or("end_axis", -1)?);
    let x = layer.x()?;
    let Some(shape) = layer.shape(x) else {
        if (first, last) != (1, -1) {
            return Err(Fault::form("the shape of what it reads is not known"));
        }
        let y = layer.main(Op::Flatten(Flatten { axis: 1 }), &[x], None);
        layer.set_results(vec![y]);
        return Ok(());
    };
    let (from, to) = (axis(first, &shape)?, axis(last, &shape)?);
    let (Some(joined), Some(behind)) = (shape.get(from..=to), shape.get(to + 1..)) else {
        return Err(params.error("end_axis", format!("{last} is before axis {first}")).into());
    };
    let joined = product(joined).map_or(Dim::Unknown, known);
    let result: Shape = shape.iter().take(from).cloned().chain([joined]).chain(behind.iter().cloned()).collect();
    if from == 1 && behind.is_empty() {
        let y = layer.main(Op::Flatten(Flatten { axis: 1 }), &[x], Some(result));
        layer.set_results(vec![y]);
        return Ok(());
    }
    let behind = sizes_behind(behind)?;
    let target = std::iter::repeat_n(0, from).chain([-1]).chain(behind).collect();
    reshape_to(layer, target, result)
}

/// The sizes of axes that move, which have to be known.
fn sizes_behind(dims: &[Dim]) -> Result<Vec<i64>, Fault> {
    let sizes: Option<Vec<i64>> = dims.iter().map(|dim| size(dim).map(|n| n as i64)).collect();
    sizes.ok_or_else(|| Fault::form("it moves an axis whose size is not known"))
}

fn reshape_to(layer: &mut LayerBuilder<'_>, target: Vec<i64>, result: Shape) -> Result<(), Fault> {
    let x = layer.x()?;
    let target = layer.integers("shape", target);
    let y = layer.main(Op::Reshape(Reshape { allow_zero: false }), &[x, target], Some(result));
    layer.set_results(vec![y]);
    Ok(())
}

/// Replaces `num_axes` axes from `axis` on; 0 copies an axis, -1 stands for what is left.
fn reshape(layer: &mut LayerBuilder<'_>) -> Result<(), Fault> {
    let params = layer.params("reshape_param")?;
    let wanted = params.messages("shape").map(|shape| Params::whole(shape).ints("dim"));
    let wanted: Vec<i64> = wanted.collect::<Result<Vec<_>, _>>()?.concat();
    let x = layer.x()?;
    let shape = layer.known_shape(x)?;
    let first = match params.int_or("axis", 0)? {
        // Counted from the end, an axis to insert before may be behind the last.
        n if n < 0 => usize::try_from(n + shape.len() as i64 + 1).unwrap_or(usize::MAX),
        n => usize::try_from(n).unwrap_or(usize::MAX),
    };
    let count = match params.int_or("num_axes", -1)? {
        -1 => shape.len().saturating_sub(first),
        n => usize::try_from(n).map_err(|_| params.error("num_axes", format!("it is {n}")))?,
    };
    let behind = first.checked_add(count).and_then(|end| shape.get(end..));
    let Some(behind) = behind else {
        return Err(params.error("axis", format!("it leaves the shape {}", describe(&shape))).into());
    };
    let moves = wanted.len() != count;
    let behind = if moves { sizes_behind(behind)? } else { vec![0; behind.len()] };
    let target: Vec<i64> = std::iter::repeat_n(0, first).chain(wanted).chain(behind).collect();
    let result = reshaped(&shape, &target)?;
    reshape_to(layer, target, result)
}

/// Axes that are not listed follow in order.
fn permute(layer: &mut LayerBuilder<'_>) -> Result<(), Fault> {
    let params = layer.params("permute_param")?;
    let mut order = params.sizes("order")?;
    let x = layer.x()?;
    let shape = layer.known_shape(x)?;
    let wrong = || params.error("order", format!("it does not order {}", describe(&shape)));
    if order.len() > shape.len() {
        return Err(wrong().into());
    }
    let rest: Vec<usize> = (0..shape.len()).filter(|axis| !order.contains(axis)).collect();
    order.extend(rest);
    if order.len() != shape.len() {
        return Err(wrong().into());
    }
    let result = order.iter().map(|axis| dim(&shape, *axis)).collect();
    let y = layer.main(Op::Transpose(Transpose { perm: order }), &[x], Some(result));
    layer.set_results(vec![y]);
    Ok(())
}

/// Cuts the first blob to the size of the second, from `axis` on.
fn crop(layer: &mut LayerBuilder<'_>) -> Result<(), Fault> {
    let params = layer.params("crop_param")?;
    let x = layer.x()?;
    let (shape, wanted) = (layer.known_shape(x)?, layer.known_shape(layer.input(1)?)?);
    let first = axis(params.int_or("axis", 2)?, &shape)?;
    let offsets = params.sizes("offset")?;
    if offsets.len() > 1 && offsets.len() != shape.len() - first {
        return Err(params
            .error("offset", format!("{} of them for {} axes", offsets.len(), shape.len() - first))
            .into());
    }
    if shape.len() != wanted.len() {
        return Err(differ(layer, 0, 1));
    }
    let (mut starts, mut ends, mut axes, mut result) = (Vec::new(), Vec::new(), Vec::new(), shape.clone());
    for (position, at) in (first..shape.len()).enumerate() {
        let unknown = || Fault::form("it cuts an axis whose size is not known");
        let own = size(&dim(&shape, at)).ok_or_else(unknown)?;
        let other = size(&dim(&wanted, at)).ok_or_else(unknown)?;
        let start = offsets.get(position).or(offsets.first()).copied().unwrap_or(0);
        let end = start.checked_add(other).filter(|end| *end <= own).ok_or_else(|| differ(layer, 0, 1))?;
        starts.push(start as i64);
        ends.push(end as i64);
        axes.push(at as i64);
        result = with_axis(&result, at, known(other));
    }
    let operands = [x, layer.integers("starts", starts), layer.integers("ends", ends), layer.integers("axes", axes)];
    let y = layer.main(Op::Slice, &operands, Some(result));
    layer.set_results(vec![y]);
    Ok(())
}

fn tile(layer: &mut LayerBuilder<'_>) -> Result<(), Fault> {
    let params = layer.params("tile_param")?;
    let tiles = params.positive("tiles")?;
    let x = layer.x()?;
    let shape = layer.known_shape(x)?;
    let at = axis(params.int_or("axis", 1)?, &shape)?;
    let tiled = size(&dim(&shape, at)).and_then(|n| n.checked_mul(tiles)).map_or(Dim::Unknown, known);
    let repeats = (0..shape.len()).map(|i| if i == at { tiles as i64 } else { 1 }).collect();
    let repeats = layer.integers("repeats", repeats);
    let y = layer.main(Op::Tile, &[x, repeats], Some(with_axis(&shape, at, tiled)));
    layer.set_results(vec![y]);
    Ok(())
}
