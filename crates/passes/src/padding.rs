//! Zeros that a `Pad` puts around an image go into the border of the convolution behind it.

use quantize_ir::op::{Conv, Layout, PadMode, Padding, Window};
use quantize_ir::{Graph, GraphError, Node, NodeId, Op, Operand, Patch, PatchEdit, ValueId};

/// Makes `id`, a convolution, read what a `Pad` reads, with the zeros in its own border, if nobody else reads the result
/// of the `Pad`, and this pads rows and columns with zeros only. `may_vanish` tells which nodes may go.
///
/// # Errors
/// If a constant cannot be read.
pub fn fold_padding(
    graph: &Graph,
    id: NodeId,
    may_vanish: &dyn Fn(NodeId) -> bool,
) -> Result<Option<Patch>, GraphError> {
    let Some((node, Op::Conv(conv))) = graph.node(id).map(|node| (node, &node.op)) else { return Ok(None) };
    let Some((pad_id, pad)) = node.input(0).and_then(|x| graph.producer(x)) else { return Ok(None) };
    let is_lone = pad.output(0).and_then(|padded| graph.sole_consumer(padded)).is_some();
    if !is_lone || !may_vanish(pad_id) {
        return Ok(None);
    }
    let (Some(x), Some(zeros)) = (pad.input(0), zeros(graph, pad, conv.layout)?) else { return Ok(None) };
    let Some(padding) = widened(&conv.window.padding, zeros) else { return Ok(None) };
    let window = Window { padding, ..conv.window.clone() };
    let others =
        node.inputs.iter().skip(1).map(|operand: &Option<ValueId>| operand.map_or(Operand::Absent, Operand::Value));
    Ok(Some(Patch {
        pass: "fold-padding",
        because: format!("`{}` becomes part of the border of `{}`", graph.label(pad_id), graph.label(id)),
        edits: vec![
            PatchEdit::Rewire {
                node: id,
                op: Op::Conv(Conv { window, ..conv.clone() }),
                inputs: std::iter::once(Operand::Value(x)).chain(others).collect(),
                outputs: node.outputs.clone(),
            },
            PatchEdit::Remove { node: pad_id },
        ],
    }))
}

/// Zeros before and after rows and columns.
type Zeros = [[usize; 2]; 2];

/// The zeros that a node puts around the rows and columns of images, if it is a `Pad` that does this and nothing else.
fn zeros(graph: &Graph, node: &Node, layout: Layout) -> Result<Option<Zeros>, GraphError> {
    let Op::Pad(pad) = &node.op else { return Ok(None) };
    let Some(amounts) = node.input(1).map(|value| graph.constant(value)).transpose()?.flatten() else {
        return Ok(None);
    };
    let is_zero = match node.input(2).map(|value| graph.constant(value)).transpose()? {
        None => true,
        Some(value) => value.is_some_and(|value| value.as_slice::<f32>().is_ok_and(|v| v.iter().all(|x| *x == 0.0))),
    };
    // Axes chosen by a further operand are left to the node.
    if pad.mode != PadMode::Constant || !is_zero || node.input(3).is_some() {
        return Ok(None);
    }
    let amounts: Option<Vec<usize>> =
        amounts.to_i64_vec().ok().and_then(|all| all.iter().map(|n| usize::try_from(*n).ok()).collect());
    Ok(match (amounts.as_deref(), layout) {
        (Some(&[0, top, left, 0, 0, bottom, right, 0]), Layout::ChannelsLast)
        | (Some(&[0, 0, top, left, 0, 0, bottom, right]), Layout::ChannelsFirst) => {
            Some([[top, left], [bottom, right]])
        }
        _ => None,
    })
}

/// A border of given size with more around it; `None` for one whose size depends on the image.
fn widened(padding: &Padding, [before, after]: Zeros) -> Option<Padding> {
    let sum = |sides: &[usize], more: [usize; 2]| -> Option<Vec<usize>> {
        let side = |axis: usize| sides.get(axis).copied().unwrap_or(0).checked_add(more[axis]);
        Some(vec![side(0)?, side(1)?])
    };
    let (begin, end) = match padding {
        Padding::Valid => (&[][..], &[][..]),
        Padding::Explicit { begin, end } => (begin.as_slice(), end.as_slice()),
        _ => return None,
    };
    Some(Padding::Explicit { begin: sum(begin, before)?, end: sum(end, after)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Builder, conv_op};
    use quantize_ir::op::Pad;

    /// A convolution of padded `x`, channels first.
    fn padded(b: &mut Builder, mode: PadMode, amounts: &[i64]) -> ValueId {
        let x = b.input("x");
        let amounts = b.integers("amounts", amounts);
        let padded = b.node("pad", Op::Pad(Pad { mode }), &[x, amounts]);
        let w = b.constant("w", &[2, 2, 1, 1], &[0.0; 4]);
        b.node("conv", conv_op(), &[padded, w])
    }

    #[test]
    fn zeros_around_the_image_become_the_border() {
        let mut b = Builder::default();
        let y = padded(&mut b, PadMode::Constant, &[0, 0, 1, 2, 0, 0, 3, 4]);
        b.outputs(&[y]);
        let patch = fold_padding(&b.graph, b.id("conv"), &|_| true).unwrap().unwrap();
        b.graph.apply(patch).unwrap();
        let node = b.graph.node(b.id("conv")).unwrap();
        let Op::Conv(conv) = &node.op else { panic!("{:?}", node.op) };
        assert_eq!(conv.window.padding, Padding::Explicit { begin: vec![1, 2], end: vec![3, 4] });
        assert_eq!(b.graph.value(node.input(0).unwrap()).name, "x");
        assert!(b.graph.nodes().all(|(_, node)| node.name != "pad"));
    }

    #[test]
    fn whatever_else_is_put_there_stays() {
        let cases: [(PadMode, &[i64], bool); 5] = [
            (PadMode::Reflect, &[0, 0, 1, 1, 0, 0, 1, 1], true),
            (PadMode::Constant, &[0, 1, 1, 1, 0, 0, 1, 1], true),
            (PadMode::Constant, &[0, 0, -1, 1, 0, 0, 1, 1], true),
            (PadMode::Constant, &[0, 0, 1, 1], true),
            (PadMode::Constant, &[0, 0, 1, 1, 0, 0, 1, 1], false),
        ];
        for (mode, amounts, may_vanish) in cases {
            let mut b = Builder::default();
            let y = padded(&mut b, mode, amounts);
            b.outputs(&[y]);
            assert!(fold_padding(&b.graph, b.id("conv"), &|_| may_vanish).unwrap().is_none(), "{mode:?} {amounts:?}");
        }
        let mut b = Builder::default();
        let y = padded(&mut b, PadMode::Constant, &[0, 0, 1, 1, 0, 0, 1, 1]);
        let padded = b.graph.node(b.id("conv")).unwrap().input(0).unwrap();
        b.outputs(&[y, padded]);
        assert!(fold_padding(&b.graph, b.id("conv"), &|_| true).unwrap().is_none(), "someone else reads it");
    }
}
