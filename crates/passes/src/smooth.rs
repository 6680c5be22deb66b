//! Scaling the input channels of products: what a product reads is divided by one factor for each channel, and its
//! weight multiplied, so that the network computes what it did (SmoothQuant; the factors are those of
//! [`quantize_numerics::smooth`]).
//!
//! What lives here: which values may be scaled, and the edits. The division goes into a layer normalization that nobody
//! else reads, or else a multiplication stands before the products.

use crate::PassError;
use crate::select::Selection;
use quantize_ir::op::{Binary, LayerNorm};
use quantize_ir::{Decision, Graph, GraphError, Node, NodeId, Op, Operand, Patch, PatchEdit, Recipe, Tensor, ValueId};
use quantize_numerics::ChannelLayout;
use std::collections::BTreeSet;

/// Name of the pass.
pub const PASS: &str = "smooth";

/// Operand slots.
const INPUT: usize = 0;
const WEIGHT: usize = 1;

/// Slots of a layer normalization.
const SCALE: usize = 1;
const SHIFT: usize = 2;

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

/// A value that is scaled.
#[derive(Clone, Debug, PartialEq)]
pub struct Scaled {
    /// The value.
    pub value: ValueId,
    /// What each of its channels is divided by for `readers`; normal and positive.
    pub factors: Vec<f32>,
    /// The products that read it divided.
    pub readers: Vec<NodeId>,
    /// The layer normalization that divides; without one a node of its own does.
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
        let takes = lone && !untouched.contains(&producer) && constants_of_norm(graph, node, channels).is_some();
        Some(Candidate { value, channels, readers, into: takes.then_some(producer) })
    };
    graph.values().map(|(id, _)| id).filter_map(candidate).collect()
}

/// Where the input channels of a product lie in its constant weight; `None` if `id` is no such product.
pub fn input_layout(graph: &Graph, id: NodeId) -> Option<ChannelLayout> {
    let node = graph.node(id)?;
    let [rows, columns] = *graph.value(node.input(WEIGHT)?).constant.as_ref()?.shape() else { return None };
    let layout = match node.op {
        Op::MatMul => ChannelLayout::new(rows, columns),
        Op::Gemm(gemm) if gemm.trans_b && !gemm.trans_a => ChannelLayout::new(columns, 1),
        Op::Gemm(gemm) if !gemm.trans_a => ChannelLayout::new(rows, columns),
        _ => return None,
    };
    (layout.channels > 0 && layout.inner > 0).then_some(layout)
}

/// The weight of a product whose [`input_layout`] is known.
///
/// # Errors
/// If it cannot be read.
pub fn weight_of(graph: &Graph, id: NodeId) -> Result<Option<std::sync::Arc<Tensor>>, GraphError> {
    let weight = graph.node(id).and_then(|node| node.input(WEIGHT));
    Ok(weight.map(|value| graph.constant(value)).transpose()?.flatten())
}

/// The edits that scale a value.
///
/// # Errors
/// If a constant cannot be read, or the entry does not fit the graph: a node that is no product of the value, another
/// number of channels.
pub fn scale(graph: &Graph, scaled: &Scaled) -> Result<Patch, PassError> {
    let unfit = || PassError::Unfit { value: graph.value(scaled.value).name.clone() };
    let mut edits = Vec::new();
    for id in &scaled.readers {
        edits.push(with_scaled_weight(graph, *id, scaled)?.ok_or_else(unfit)?);
    }
    let name = &graph.value(scaled.value).name;
    let whereto = match scaled.into {
        Some(norm) => {
            edits.push(with_divided_result(graph, norm, scaled)?.ok_or_else(unfit)?);
            format!("in `{}`", graph.label(norm))
        }
        None => {
            edits.push(division(name, scaled));
            "before".to_owned()
        }
    };
    let readers: Vec<String> = scaled.readers.iter().map(|id| format!("`{}`", graph.label(*id))).collect();
    let because = format!("channels of `{name}` are scaled {whereto}, and the weights of {}", readers.join(", "));
    Ok(Patch { pass: PASS, because, edits })
}

/// The product with a weight that answers the factors.
fn with_scaled_weight(graph: &Graph, id: NodeId, scaled: &Scaled) -> Result<Option<PatchEdit>, PassError> {
    let (Some(node), Some(layout)) = (graph.node(id), input_layout(graph, id)) else { return Ok(None) };
    let (Some(weight), Some(value)) = (weight_of(graph, id)?, node.input(WEIGHT)) else { return Ok(None) };
    if node.input(INPUT) != Some(scaled.value) || layout.channels != scaled.factors.len() {
        return Ok(None);
    }
    let mut data = weight.as_slice::<f32>().map_err(GraphError::from)?.to_vec();
    for (run, weights) in data.chunks_exact_mut(layout.inner).enumerate() {
        let factor = f64::from(scaled.factors[run % layout.channels]);
        weights.iter_mut().for_each(|w| *w = (f64::from(*w) * factor) as f32);
    }
    let tensor = Tensor::new(weight.shape(), data).map_err(GraphError::from)?;
    Ok(Some(rewired(id, node, &[(WEIGHT, Operand::Constant { name: graph.value(value).name.clone(), tensor })])))
}

/// The layer normalization whose constants are divided.
fn with_divided_result(graph: &Graph, id: NodeId, scaled: &Scaled) -> Result<Option<PatchEdit>, PassError> {
    let Some(node) = graph.node(id).filter(|n| n.output(0) == Some(scaled.value)) else { return Ok(None) };
    let Some(slots) = constants_of_norm(graph, node, scaled.factors.len()) else { return Ok(None) };
    let mut changed = Vec::new();
    for (slot, value) in slots {
        let Some(tensor) = graph.constant(value)? else { return Ok(None) };
        let data = tensor.as_slice::<f32>().map_err(GraphError::from)?;
        let divided = data.iter().zip(&scaled.factors).map(|(x, t)| (f64::from(*x) / f64::from(*t)) as f32);
        let tensor = Tensor::new(tensor.shape(), divided.collect()).map_err(GraphError::from)?;
        changed.push((slot, Operand::Constant { name: graph.value(value).name.clone(), tensor }));
    }
    Ok(Some(rewired(id, node, &changed)))
}

/// Scale and shift of a layer normalization of the last axis, if they are constants of one element for each channel.
fn constants_of_norm(graph: &Graph, node: &Node, channels: usize) -> Option<Vec<(usize, ValueId)>> {
    let Op::LayerNorm(LayerNorm { axis, .. }) = node.op else { return None };
    let rank = node.input(INPUT).and_then(|x| graph.value(x).shape.as_ref()).map(|shape| shape.len());
    if axis != -1 && rank.and_then(|rank| i64::try_from(rank).ok()) != Some(axis + 1) {
        return None;
    }
    let vector = |slot: usize| {
        let value = node.input(slot)?;
        (graph.value(value).constant.as_ref()?.shape() == [channels]).then_some((slot, value))
    };
    let scale = vector(SCALE)?;
    match node.input(SHIFT) {
        None => Some(vec![scale]),
        Some(_) => Some(vec![scale, vector(SHIFT)?]),
    }
}

/// The multiplication before the products.
fn division(name: &str, scaled: &Scaled) -> PatchEdit {
    let inverse = scaled.factors.iter().map(|t| (1.0 / f64::from(*t)) as f32).collect();
    PatchEdit::Insert {
        name: format!("{name}_scaling"),
        op: Op::Binary(Binary::Mul),
        from: scaled.value,
        others: vec![Operand::Constant { name: format!("{name}_scaling_factors"), tensor: Tensor::vector(inverse) }],
        output: format!("{name}_scaled"),
        readers: scaled.readers.iter().map(|id| (*id, INPUT)).collect(),
    }
}

/// The node with other operands in some slots.
fn rewired(id: NodeId, node: &Node, changed: &[(usize, Operand)]) -> PatchEdit {
    let operand = |(slot, value): (usize, &Option<ValueId>)| {
        let other = changed.iter().find(|(at, _)| *at == slot).map(|(_, operand)| operand.clone());
        other.unwrap_or_else(|| value.map_or(Operand::Absent, Operand::Value))
    };
    PatchEdit::Rewire {
        node: id,
        op: node.op.clone(),
        inputs: node.inputs.iter().enumerate().map(operand).collect(),
        outputs: node.outputs.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::select::select;
    use crate::testing::{Builder, Target};
    use quantize_ir::op::Gemm;

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
        assert_eq!(constant(&graph, b.id("norm"), SCALE), [4.0, 2.0]);
        assert_eq!(constant(&graph, b.id("norm"), SHIFT), [2.0, 1.0]);
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
    fn weights_of_either_order_are_scaled_along_their_inputs() {
        let mut b = block(false);
        let gemm = Op::Gemm(Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: true });
        let (x, w) = (b.input("z"), b.constant("v", &[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
        let y = b.node("gemm", gemm, &[x, w]);
        b.outputs(&[y]);
        let readers = vec![b.id("gemm")];
        let scaled = Scaled { value: x, factors: vec![0.5, 4.0], readers, into: None };
        let mut graph = b.graph.clone();
        graph.apply(scale(&graph, &scaled).unwrap()).unwrap();
        assert_eq!(constant(&graph, b.id("gemm"), WEIGHT), [0.5, 8.0, 1.5, 16.0, 2.5, 24.0]);
    }

    #[test]
    fn an_entry_that_does_not_fit_is_refused() {
        let b = block(false);
        let value = b.graph.node(b.id("norm")).unwrap().output(0).unwrap();
        let entry = |factors: usize, reader: &str| Scaled {
            value,
            factors: vec![1.0; factors],
            readers: vec![b.id(reader)],
            into: None,
        };
        for bad in [entry(3, "one"), entry(2, "norm")] {
            assert_eq!(scale(&b.graph, &bad).unwrap_err(), PassError::Unfit { value: "norm:0".into() });
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
