//! Shapes, moving elements, and what makes tensors of nothing.

use super::super::builder::{Fault, NodeBuilder, Results};
use super::same;
use quantize_ir::op::{
    Cast, Concat, DepthToSpace, DepthToSpaceMode, Gather, Layout, Pad, PadMode, Reshape, ShapeOf, SpaceToDepth, Split,
    Transpose,
};
use quantize_ir::{DType, Op, ValueId};

pub(super) fn read(b: &mut NodeBuilder<'_>) -> Option<Results> {
    Some(match b.node().op() {
        "Reshape" => reshape(b),
        "Squeeze" => squeeze(b),
        "ExpandDims" => with_wide(b, Op::Unsqueeze),
        "Tile" => with_wide(b, Op::Tile),
        "Transpose" => transpose(b),
        "ConcatV2" => concat(b, false),
        "Concat" => concat(b, true),
        "Pack" => pack(b),
        "Unpack" => unpack(b),
        "Split" => split(b),
        "SplitV" => split_to_sizes(b),
        "Slice" => slice(b),
        "StridedSlice" => strided_slice(b),
        "Gather" | "GatherV2" => gather(b),
        "Pad" | "PadV2" => pad(b, PadMode::Constant),
        "MirrorPad" => mirror_pad(b),
        "DepthToSpace" => depth_to_space(b),
        "SpaceToDepth" => space_to_depth(b),
        "Cast" => cast(b),
        "Shape" => shape(b),
        "Fill" => fill(b),
        "Range" => same(b, Op::Range, 3),
        _ => return None,
    })
}

fn with_wide(b: &mut NodeBuilder<'_>, op: Op) -> Results {
    let second = b.wide(1)?;
    b.main(op, &[b.input(0)?, second])
}

fn reshape(b: &mut NodeBuilder<'_>) -> Results {
    with_wide(b, Op::Reshape(Reshape { allow_zero: true }))
}

fn squeeze(b: &mut NodeBuilder<'_>) -> Results {
    let listed = b.node().ints("squeeze_dims")?.filter(|axes| !axes.is_empty());
    let axes = if listed.is_some() { listed } else { b.node().ints("axis")?.filter(|axes| !axes.is_empty()) };
    match axes {
        None => same(b, Op::Squeeze, 1),
        Some(axes) => {
            let axes = b.list("axes", axes);
            b.main(Op::Squeeze, &[b.input(0)?, axes])
        }
    }
}

fn transpose(b: &mut NodeBuilder<'_>) -> Results {
    let perm: Option<Vec<usize>> = b.integers(1)?.into_iter().map(|axis| usize::try_from(axis).ok()).collect();
    let perm = perm.ok_or_else(|| Fault::form("negative axes"))?;
    b.main(Op::Transpose(Transpose { perm }), &[b.input(0)?])
}

fn concat(b: &mut NodeBuilder<'_>, axis_first: bool) -> Results {
    let count = b.inputs().len();
    let axis = b.integer(if axis_first { 0 } else { count.saturating_sub(1) })?;
    let parts = if axis_first { b.inputs().get(1..) } else { b.inputs().get(..count.saturating_sub(1)) };
    let parts = parts.unwrap_or_default().to_vec();
    join(b, &parts, axis)
}

fn join(b: &mut NodeBuilder<'_>, parts: &[ValueId], axis: i64) -> Results {
    match parts {
        [] => Err(b.invalid("it joins nothing")),
        [_] => b.main(Op::Identity, parts),
        parts => b.main(Op::Concat(Concat { axis }), parts),
    }
}

fn pack(b: &mut NodeBuilder<'_>) -> Results {
    let axis = b.node().int("axis")?.unwrap_or(0);
    let at = b.list("axis", vec![axis]);
    let inputs = b.inputs().to_vec();
    let parts: Vec<ValueId> =
        inputs.iter().enumerate().map(|(n, part)| b.step(&format!("part_{n}"), Op::Unsqueeze, &[*part, at])).collect();
    join(b, &parts, axis)
}

/// Number of pieces that an attribute gives.
fn pieces(b: &NodeBuilder<'_>, attribute: &str) -> Result<usize, Fault> {
    let count = b.node().int(attribute)?.and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0);
    count.ok_or_else(|| b.invalid(format!("it has no `{attribute}` above zero")))
}

/// Pieces cut off, each without the axis along which they were cut.
fn unpack(b: &mut NodeBuilder<'_>) -> Results {
    let (axis, count) = (b.node().int("axis")?.unwrap_or(0), pieces(b, "num")?);
    if count > MOST_PIECES {
        return Err(Fault::form(format!("{count} pieces")));
    }
    let at = b.list("axis", vec![axis]);
    let sizes = b.list("sizes", vec![1; count]);
    let x = b.input(0)?;
    let mut rest = Vec::with_capacity(count);
    let split = b.steps("pieces", Op::Split(Split { axis }), &[x, sizes], count);
    for (n, piece) in split.into_iter().enumerate() {
        rest.push(b.step(&format!("piece_{n}"), Op::Squeeze, &[piece, at]));
    }
    b.named_ports(&rest);
    Ok(rest)
}

/// Pieces beyond which no network goes.
const MOST_PIECES: usize = 1 << 12;

fn split(b: &mut NodeBuilder<'_>) -> Results {
    let (axis, count) = (b.integer(0)?, pieces(b, "num_split")?);
    if count > MOST_PIECES {
        return Err(Fault::form(format!("{count} pieces")));
    }
    b.main_with(Op::Split(Split { axis }), &[b.input(1)?], count)
}

fn split_to_sizes(b: &mut NodeBuilder<'_>) -> Results {
    let (sizes, axis) = (b.integers(1)?, b.integer(2)?);
    if sizes.iter().any(|size| *size < 0) {
        return Err(Fault::form("a size that is left to the others"));
    }
    let count = sizes.len();
    let sizes = b.list("sizes", sizes);
    b.main_with(Op::Split(Split { axis }), &[b.input(0)?, sizes], count)
}

fn slice(b: &mut NodeBuilder<'_>) -> Results {
    let (begin, size) = (b.integers(1)?, b.integers(2)?);
    if begin.len() != size.len() {
        return Err(b.invalid("its begins and sizes are not as many"));
    }
    let end = |(begin, size): (&i64, &i64)| if *size < 0 { i64::MAX } else { begin.saturating_add(*size) };
    let ends = begin.iter().zip(&size).map(end).collect();
    let (starts, ends) = (b.list("starts", begin), b.list("ends", ends));
    b.main(Op::Slice, &[b.input(0)?, starts, ends])
}

/// What one entry of a strided slice does.
#[derive(Default)]
struct Ranges {
    starts: Vec<i64>,
    ends: Vec<i64>,
    axes: Vec<i64>,
    steps: Vec<i64>,
    /// Axes of which one element is taken and that go.
    dropped: Vec<i64>,
    /// Axes of the result that are new.
    added: Vec<i64>,
}

impl Ranges {
    /// The ranges that bounds and masks ask for; entry `n` is in a mask if its bit `n` is set.
    fn of(b: &NodeBuilder<'_>) -> Result<Self, Fault> {
        let (begin, end, strides) = (b.integers(1)?, b.integers(2)?, b.integers(3)?);
        if begin.len() != end.len() || begin.len() != strides.len() {
            return Err(b.invalid("its begins, ends and strides are not as many"));
        }
        let mask = |name: &str| b.node().int(&format!("{name}_mask")).map(|mask| mask.unwrap_or(0));
        let (open_begin, open_end, ellipsis) = (mask("begin")?, mask("end")?, mask("ellipsis")?);
        let (new, shrunk) = (mask("new_axis")?, mask("shrink_axis")?);
        if ellipsis != 0 && (new != 0 || shrunk != 0) {
            return Err(Fault::form("an ellipsis with axes that come or go"));
        }
        let is_in = |mask: i64, entry: usize| u32::try_from(entry).is_ok_and(|n| n < 63 && mask >> n & 1 == 1);
        let entries = i64::try_from(begin.len()).unwrap_or(i64::MAX);
        let (mut ranges, mut axis, mut result) = (Self::default(), 0i64, 0i64);
        for (n, ((begin, end), step)) in begin.iter().zip(&end).zip(&strides).enumerate() {
            if is_in(ellipsis, n) {
                axis = i64::try_from(n).unwrap_or(0) + 1 - entries;
                continue;
            }
            if is_in(new, n) {
                ranges.added.push(result);
                result += 1;
                continue;
            }
            let one = is_in(shrunk, n);
            let (first, last) = if *step < 0 { (i64::MAX, i64::MIN) } else { (0, i64::MAX) };
            ranges.starts.push(if is_in(open_begin, n) && !one { first } else { *begin });
            ranges.ends.push(match (one, is_in(open_end, n)) {
                (true, _) if *begin == -1 => i64::MAX,
                (true, _) => begin.saturating_add(1),
                (false, true) => last,
                (false, false) => *end,
            });
            ranges.steps.push(if one { 1 } else { *step });
            ranges.axes.push(axis);
            if one {
                ranges.dropped.push(axis);
            } else {
                result += 1;
            }
            axis += 1;
        }
        Ok(ranges)
    }
}

fn strided_slice(b: &mut NodeBuilder<'_>) -> Results {
    let Ranges { starts, ends, axes, steps, dropped, added } = Ranges::of(b)?;
    let lists = [("starts", starts), ("ends", ends), ("axes", axes), ("steps", steps)].map(|(p, list)| b.list(p, list));
    let operands = [&[b.input(0)?], &lists[..]].concat();
    match (dropped.is_empty(), added.is_empty()) {
        (true, true) => b.main(Op::Slice, &operands),
        (false, true) => {
            let taken = b.step("taken", Op::Slice, &operands);
            let dropped = b.list("dropped", dropped);
            b.main(Op::Squeeze, &[taken, dropped])
        }
        (dropped_none, false) => {
            let mut taken = b.step("taken", Op::Slice, &operands);
            if !dropped_none {
                let dropped = b.list("dropped", dropped);
                taken = b.step("left", Op::Squeeze, &[taken, dropped]);
            }
            let added = b.list("added", added);
            b.main(Op::Unsqueeze, &[taken, added])
        }
    }
}

fn gather(b: &mut NodeBuilder<'_>) -> Results {
    if b.node().int("batch_dims")?.unwrap_or(0) != 0 {
        return Err(Fault::form("entries of each sample on their own (`batch_dims`)"));
    }
    let axis = if b.node().op() == "GatherV2" { b.integer(2)? } else { 0 };
    b.main(Op::Gather(Gather { axis }), &[b.input(0)?, b.input(1)?])
}

/// Numbers before and after each axis, first all of the former.
fn pads(b: &mut NodeBuilder<'_>) -> Result<ValueId, Fault> {
    let pairs = b.integers(1)?;
    let (pairs, []) = pairs.as_chunks::<2>() else { return Err(b.invalid("its paddings are not pairs")) };
    let list = pairs.iter().map(|[before, _]| *before).chain(pairs.iter().map(|[_, after]| *after)).collect();
    Ok(b.list("pads", list))
}

fn pad(b: &mut NodeBuilder<'_>, mode: PadMode) -> Results {
    let pads = pads(b)?;
    let mut operands = vec![b.input(0)?, pads];
    if b.node().op() == "PadV2" {
        operands.push(b.input(2)?);
    }
    b.main(Op::Pad(Pad { mode }), &operands)
}

fn mirror_pad(b: &mut NodeBuilder<'_>) -> Results {
    match b.node().text("mode")?.as_deref() {
        Some("REFLECT") => pad(b, PadMode::Reflect),
        mode => Err(Fault::form(format!("the mode {}", mode.unwrap_or("that is not given")))),
    }
}

fn block(b: &NodeBuilder<'_>) -> Result<(usize, Layout), Fault> {
    Ok((pieces(b, "block_size")?, super::window::layout(b)?))
}

fn depth_to_space(b: &mut NodeBuilder<'_>) -> Results {
    let (block, layout) = block(b)?;
    same(b, Op::DepthToSpace(DepthToSpace { block, mode: DepthToSpaceMode::DepthColumnRow, layout }), 1)
}

fn space_to_depth(b: &mut NodeBuilder<'_>) -> Results {
    let (block, layout) = block(b)?;
    same(b, Op::SpaceToDepth(SpaceToDepth { block, layout }), 1)
}

fn cast(b: &mut NodeBuilder<'_>) -> Results {
    let to = b.node().dtype("DstT")?.ok_or_else(|| b.invalid("it has no `DstT`"))?;
    let to = to.elements().ok_or_else(|| Fault::form(format!("elements of type {to}")))?;
    same(b, Op::Cast(Cast { to }), 1)
}

fn shape(b: &mut NodeBuilder<'_>) -> Results {
    let to = b.node().dtype("out_type")?.and_then(|dtype| dtype.elements()).unwrap_or(DType::I32);
    let op = Op::Shape(ShapeOf { start: 0, end: None });
    let x = b.input(0)?;
    if to == DType::I64 {
        return b.main(op, &[x]);
    }
    let sizes = b.step("sizes", op, &[x]);
    b.main(Op::Cast(Cast { to }), &[sizes])
}

fn fill(b: &mut NodeBuilder<'_>) -> Results {
    let sizes = b.wide(0)?;
    b.main(Op::Expand, &[b.input(1)?, sizes])
}
