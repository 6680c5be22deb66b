//! Which values may be scaled before the products that read them (SmoothQuant; the factors are those of
//! [`quantize_numerics::smooth`], the edits those of [`scaled`](crate::scaled)).

use crate::scaled::{INPUT, InputLayout, output_constants};
use crate::select::Selection;
use quantize_ir::{Decision, Graph, NodeId, Op, Recipe, ValueId};
use quantize_numerics::ChannelLayout;
use std::collections::BTreeSet;

/// A value that may be scaled before the products that read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The value; its last axis are the channels.
    pub value: ValueId,
    /// Their number.
    pub channels: usize,
    /// The quantized products that read it, each with a constant weight.
    pub readers: Vec<NodeId>,
    /// The layer normalization that can take the division, as nobody else reads what it computes.
    pub into: Option<NodeId>,
}

/// The values of `graph` that may be scaled: computed on reals, and read by quantized products. Nodes of `untouched`
/// are not changed.
pub fn candidates(
    graph: &Graph,
    selection: &Selection,
    recipe: &dyn Recipe,
    untouched: &BTreeSet<NodeId>,
) -> Vec<Candidate> {
    let candidate = |value: ValueId| {
        let (producer, node) = graph.producer(value)?;
        let real = matches!(selection.decisions.get(&producer), Some(Decision::Keep(_) | Decision::WeightOnly));
        if !real || graph.value(value).constant.is_some() || !recipe.may_insert_behind(graph, value) {
            return None;
        }
        let reads = |(id, slot): &(NodeId, usize)| {
            let channels = input_layout(graph, *id)?.channels;
            (*slot == INPUT && selection.quantizes(*id)).then_some((*id, channels))
        };
        let found: Vec<(NodeId, usize)> = graph.value(value).consumers().iter().filter_map(reads).collect();
        let channels = found.first()?.1;
        let readers: Vec<NodeId> = found.into_iter().filter(|(_, n)| *n == channels).map(|(id, _)| id).collect();
        let lone = graph.value(value).consumers().len() == readers.len() && !graph.is_output(value);
        let is_norm = matches!(node.op, Op::LayerNorm(_)) && !untouched.contains(&producer);
        let takes = lone && is_norm && output_constants(graph, producer, channels).is_some();
        Some(Candidate { value, channels, readers, into: takes.then_some(producer) })
    };
    graph.values().map(|(id, _)| id).filter_map(candidate).collect()
}

/// Where the input channels of a matrix product lie in its constant weight; `None` if `id` is no such product.
pub fn input_layout(graph: &Graph, id: NodeId) -> Option<ChannelLayout> {
    match InputLayout::of(graph, id)? {
        InputLayout::Matrix(layout) => Some(layout),
        InputLayout::Filters { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scaled::{Scaled, WEIGHT, scale};
    use crate::select::select;
    use crate::testing::{Builder, Target};
    use quantize_ir::op::{Binary, LayerNorm};

    const ADD: Op = Op::Binary(Binary::Add);

    /// A normalization of two channels, and what reads it: two products, and an addition if asked for.
    fn block(residual: bool) -> Builder {
        let mut b = Builder::default();
        let x = b.input("x");
        let (scale, shift) = (b.constant("scale", &[2], &[2.0, 8.0]), b.constant("shift", &[2], &[1.0, 4.0]));
        let norm = b.node("norm", Op::LayerNorm(LayerNorm { axis: -1, epsilon: 1e-5 }), &[x, scale, shift]);
        let w = b.constant("w", &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let (one, two) = (b.node("one", Op::MatMul, &[norm, w]), b.node("two", Op::MatMul, &[norm, w]));
        let mut outputs = vec![one, two];
        if residual {
            outputs.push(b.node("residual", ADD, &[norm, x]));
        }
        b.outputs(&outputs);
        b
    }

    fn chosen(b: &Builder) -> Vec<Candidate> {
        struct Open;
        impl Recipe for Open {
            fn support(&self, graph: &Graph, node: NodeId) -> quantize_ir::Support {
                Target.support(graph, node)
            }
            fn allows_real_result(&self, _: &Graph, _: NodeId) -> bool {
                true
            }
            fn may_insert_behind(&self, _: &Graph, _: ValueId) -> bool {
                true
            }
            fn channel_axis(&self, _: &Graph, _: NodeId, _: usize) -> Option<usize> {
                None
            }
            fn grids(&self) -> quantize_ir::Grids {
                Target.grids()
            }
        }
        let selection = select(&b.graph, &Open, &BTreeSet::new()).unwrap();
        candidates(&b.graph, &selection, &Open, &BTreeSet::new())
    }

    fn applied(b: &Builder, candidate: &Candidate) -> Graph {
        let Candidate { value, readers, into, .. } = candidate.clone();
        let mut graph = b.graph.clone();
        let patch = scale(&graph, &Scaled { value, factors: vec![0.5, 4.0], readers, into }).unwrap();
        graph.apply(patch).unwrap();
        graph
    }

    fn constant(graph: &Graph, node: NodeId, slot: usize) -> Vec<f32> {
        let value = graph.node(node).and_then(|n| n.input(slot)).unwrap();
        graph.constant(value).unwrap().unwrap().as_slice::<f32>().unwrap().to_vec()
    }

    #[test]
    fn a_normalization_that_only_products_read_takes_the_division() {
        let b = block(false);
        let [candidate] = &chosen(&b)[..] else { panic!() };
        assert_eq!(candidate.into, Some(b.id("norm")));
        let graph = applied(&b, candidate);
        assert_eq!(graph.nodes().count(), 3);
        assert_eq!(constant(&graph, b.id("norm"), 1), [4.0, 2.0]);
        assert_eq!(constant(&graph, b.id("norm"), 2), [2.0, 1.0]);
        for product in ["one", "two"] {
            assert_eq!(constant(&graph, b.id(product), WEIGHT), [0.5, 1.0, 1.5, 16.0, 20.0, 24.0]);
        }
    }

    #[test]
    fn a_value_that_others_read_is_divided_before_the_products() {
        let b = block(true);
        let [candidate] = &chosen(&b)[..] else { panic!() };
        assert_eq!(candidate.into, None);
        let graph = applied(&b, candidate);
        let (id, node) = graph.nodes().last().unwrap();
        assert_eq!((node.name.as_str(), constant(&graph, id, 1)), ("norm:0_scaling", vec![2.0, 0.25]));
        for (reader, divided) in [("one", true), ("two", true), ("residual", false)] {
            assert_eq!(graph.node(b.id(reader)).unwrap().input(0) == node.output(0), divided, "{reader}");
        }
    }

    #[test]
    fn what_is_computed_on_codes_is_no_candidate() {
        let mut b = Builder::default();
        let x = b.input("x");
        let w = b.constant("w", &[2, 2], &[1.0; 4]);
        let first = b.node("first", Op::MatMul, &[x, w]);
        let y = b.node("second", Op::MatMul, &[first, w]);
        b.outputs(&[y]);
        assert_eq!(chosen(&b), []);
    }
}
