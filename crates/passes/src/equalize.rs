//! Which layers follow each other so that channels between them may be scaled (cross-layer equalization; the factors
//! are those of [`quantize_numerics::equalize`], the edits those of [`scaled`](crate::scaled)).

use crate::scaled::{INPUT, InputLayout, Scaled, computed_by, output_constants, weight_of};
use crate::select::Selection;
use quantize_ir::{Graph, GraphError, NodeId, ValueId};
use quantize_numerics::equalize::{LayerExtents, Link, equalizing};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

/// A value between two quantized layers.
struct Between {
    value: ValueId,
    first: NodeId,
    second: NodeId,
}

/// What makes the channels of the weights of quantized layers alike. Nodes of `untouched` are not changed.
///
/// # Errors
/// If a weight cannot be read.
pub fn equalized(
    graph: &Graph,
    selection: &Selection,
    untouched: &BTreeSet<NodeId>,
) -> Result<Vec<Scaled>, GraphError> {
    let links = links(graph, selection, untouched)?;
    let mut layers: BTreeMap<NodeId, usize> = BTreeMap::new();
    let mut extents = Vec::new();
    for id in links.iter().flat_map(|l| [l.first, l.second]) {
        if let Entry::Vacant(new) = layers.entry(id) {
            new.insert(extents.len());
            extents.push(extents_of(graph, id)?);
        }
    }
    let positions: Vec<Link> =
        links.iter().map(|l| Link { first: layers[&l.first], second: layers[&l.second] }).collect();
    let scaled = links.into_iter().zip(equalizing(&extents, &positions)).filter(|(_, factors)| {
        // One factor for all channels of a link changes nothing but the scales around it.
        factors.iter().any(|t| *t != 1.0)
    });
    Ok(scaled
        .map(|(Between { value, first, second }, factors)| Scaled {
            value,
            factors,
            readers: vec![second],
            into: Some(first),
        })
        .collect())
}

/// The values that only one quantized layer reads and that another one computes, in the order of the network.
fn links(graph: &Graph, selection: &Selection, untouched: &BTreeSet<NodeId>) -> Result<Vec<Between>, GraphError> {
    let between = |second: NodeId| {
        let value = graph.node(second)?.input(INPUT)?;
        graph.sole_consumer(value).filter(|(_, slot)| *slot == INPUT)?;
        let first = computed_by(graph, value)?;
        let both = [first, second].iter().all(|id| selection.quantizes(*id) && !untouched.contains(id));
        let channels = InputLayout::of(graph, second)?.channels();
        InputLayout::of(graph, first)?;
        let takes = both && first != second && output_constants(graph, first, channels).is_some();
        takes.then_some(Between { value, first, second })
    };
    Ok(graph.topological_order()?.into_iter().filter_map(between).collect())
}

/// The largest magnitudes of a layer's weight.
fn extents_of(graph: &Graph, id: NodeId) -> Result<LayerExtents, GraphError> {
    let nothing = LayerExtents { groups: 1, outputs: 0, inputs: 0, largest: Vec::new() };
    let (Some(layout), Some(weight)) = (InputLayout::of(graph, id), weight_of(graph, id)?) else {
        return Ok(nothing);
    };
    let values = weight.as_slice::<f32>()?;
    let largest = |run: &[f32]| f64::from(run.iter().fold(0f32, |most, w| most.max(w.abs())));
    Ok(match layout {
        InputLayout::Filters { groups, outputs, inputs, inner } => {
            LayerExtents { groups, outputs, inputs, largest: values.chunks_exact(inner).map(largest).collect() }
        }
        InputLayout::Matrix(layout) => {
            let (inputs, outputs) = (layout.channels, values.len() / layout.channels);
            let at = |output: usize, input: usize| match layout.inner {
                1 => values[output * inputs + input],
                inner => values[input * inner + output],
            };
            let each = (0..outputs).flat_map(|o| (0..inputs).map(move |i| f64::from(at(o, i).abs())));
            LayerExtents { groups: 1, outputs, inputs, largest: each.collect() }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scaled::scale;
    use crate::select::select;
    use crate::testing::{Builder, Target};
    use quantize_ir::Op;
    use quantize_ir::op::Unary;

    /// Two layers with a function between them.
    fn pair(between: Op) -> Builder {
        let mut b = Builder::default();
        let x = b.input("x");
        let first = b.conv("first", x);
        let middle = b.node("between", between, &[first]);
        let y = b.conv("second", middle);
        let y = b.node("exp", Op::Unary(Unary::Exp), &[y]);
        b.outputs(&[y]);
        b
    }

    fn found(b: &Builder) -> Vec<Scaled> {
        let selection = select(&b.graph, &Target, &BTreeSet::new()).unwrap();
        equalized(&b.graph, &selection, &BTreeSet::new()).unwrap()
    }

    #[test]
    fn layers_around_a_homogeneous_function_are_linked() {
        let b = pair(Op::Unary(Unary::Relu));
        let [scaled] = &found(&b)[..] else { panic!() };
        assert_eq!((scaled.into, &scaled.readers), (Some(b.id("first")), &vec![b.id("second")]));
        let mut graph = b.graph.clone();
        graph.apply(scale(&graph, scaled).unwrap()).unwrap();
        let (first, second) = (extents_of(&graph, b.id("first")).unwrap(), extents_of(&graph, b.id("second")).unwrap());
        let rows: Vec<f64> = first.largest.chunks(2).map(|r| r[0].max(r[1])).collect();
        let columns: Vec<f64> = (0..2).map(|i| second.largest[i].max(second.largest[2 + i])).collect();
        for (row, column) in rows.iter().zip(&columns) {
            assert!((row / column - 1.0).abs() < 1e-5, "{rows:?} {columns:?}");
        }
    }

    #[test]
    fn a_bounded_function_separates_layers() {
        assert_eq!(found(&pair(Op::Unary(Unary::Sigmoid))), []);
    }

    #[test]
    fn untouched_layers_are_not_linked() {
        let b = pair(Op::Unary(Unary::Relu));
        let selection = select(&b.graph, &Target, &BTreeSet::new()).unwrap();
        for name in ["first", "second"] {
            assert_eq!(equalized(&b.graph, &selection, &BTreeSet::from([b.id(name)])).unwrap(), [], "{name}");
        }
    }
}
