//! Scaling the channels of a value: it is divided by one factor for each channel where it is computed, and the weights
//! that read it are multiplied, so that the network computes what it did.
//!
//! What lives here: the edits, and where channels lie in constants. Which values are scaled, and by what, is decided by
//! [`smooth`](crate::smooth) and [`equalize`](crate::equalize) from what weights and samples hold.
//!
//! The division goes into constants: those of a layer normalization, or the weight and bias of a layer, past functions
//! that keep factors. Where neither can take it, a multiplication stands before the readers.

use crate::PassError;
use quantize_ir::op::{Binary, Conv, FilterLayout, LayerNorm, Layout, Unary};
use quantize_ir::{Graph, GraphError, Node, NodeId, Op, Operand, Patch, PatchEdit, Tensor, ValueId};
use quantize_numerics::ChannelLayout;
use std::sync::Arc;

/// Name of the pass.
pub const PASS: &str = "scale-channels";

/// Operand slots of layers.
pub(crate) const INPUT: usize = 0;
pub(crate) const WEIGHT: usize = 1;
const BIAS: usize = 2;

/// Slots of a layer normalization.
const SCALE: usize = 1;
const SHIFT: usize = 2;

/// A value that is scaled.
#[derive(Clone, Debug, PartialEq)]
pub struct Scaled {
    /// The value.
    pub value: ValueId,
    /// What each of its channels is divided by for `readers`; normal and positive.
    pub factors: Vec<f32>,
    /// The layers that read it divided.
    pub readers: Vec<NodeId>,
    /// The node whose constants take the division; without one a node of its own divides.
    pub into: Option<NodeId>,
}

/// Where the input channels of a layer lie in its constant weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputLayout {
    /// Of a matrix product: along one axis.
    Matrix(ChannelLayout),
    /// Of a convolution: filters, the input channels of their group, and `inner` elements of each.
    Filters {
        /// Groups of channels.
        groups: usize,
        /// Filters, a multiple of the groups.
        outputs: usize,
        /// Input channels of one group.
        inputs: usize,
        /// Elements of a kernel.
        inner: usize,
    },
}

impl InputLayout {
    /// The layout of layer `id`; `None` if it is no layer with a constant weight that channels can be scaled of.
    pub fn of(graph: &Graph, id: NodeId) -> Option<Self> {
        let node = graph.node(id)?;
        let shape = graph.value(node.input(WEIGHT)?).constant.as_ref()?.shape();
        if shape.contains(&0) {
            return None;
        }
        match (&node.op, shape) {
            (Op::MatMul, [rows, columns]) => Some(Self::Matrix(ChannelLayout::new(*rows, *columns))),
            (Op::Gemm(g), [_, columns]) if g.trans_b && !g.trans_a => {
                Some(Self::Matrix(ChannelLayout::new(*columns, 1)))
            }
            (Op::Gemm(g), [rows, columns]) if !g.trans_a => Some(Self::Matrix(ChannelLayout::new(*rows, *columns))),
            (Op::Conv(conv), [outputs, inputs, kernel @ ..]) => {
                let groups = conv.group;
                let fits = is_plain(conv) && groups > 0 && outputs.is_multiple_of(groups);
                let inner = kernel.iter().product();
                fits.then_some(Self::Filters { groups, outputs: *outputs, inputs: *inputs, inner })
            }
            _ => None,
        }
    }

    /// Number of input channels.
    pub fn channels(self) -> usize {
        match self {
            Self::Matrix(layout) => layout.channels,
            Self::Filters { groups, inputs, .. } => groups * inputs,
        }
    }

    /// Elements that lie together and read one channel.
    pub(crate) fn run_length(self) -> usize {
        match self {
            Self::Matrix(layout) => layout.inner,
            Self::Filters { inner, .. } => inner,
        }
    }

    /// The channel that run `run` reads.
    pub(crate) fn channel(self, run: usize) -> usize {
        match self {
            Self::Matrix(layout) => run % layout.channels,
            Self::Filters { groups, outputs, inputs, .. } => {
                run / inputs / (outputs / groups).max(1) * inputs + run % inputs
            }
        }
    }
}

/// Whether channels stand where `InputLayout` and `divided` expect them.
fn is_plain(conv: &Conv) -> bool {
    conv.filter == FilterLayout::OutputFirst && conv.layout == Layout::ChannelsFirst
}

/// The weight of a layer, if it is constant.
///
/// # Errors
/// If it cannot be read.
pub fn weight_of(graph: &Graph, id: NodeId) -> Result<Option<Arc<Tensor>>, GraphError> {
    let weight = graph.node(id).and_then(|node| node.input(WEIGHT));
    Ok(weight.map(|value| graph.constant(value)).transpose()?.flatten())
}

/// The node that computes `value`, past functions for which a positive factor of a channel stays a factor; `None` if
/// others read what lies between, or nothing computes it.
pub fn computed_by(graph: &Graph, value: ValueId) -> Option<NodeId> {
    let mut value = value;
    loop {
        let (id, node) = graph.producer(value)?;
        let keeps = match node.op {
            Op::Unary(Unary::Relu | Unary::LeakyRelu { .. }) => node.inputs.len() == 1,
            Op::MaxPool(_) | Op::AveragePool(_) => node.outputs.iter().flatten().count() == 1,
            _ => false,
        };
        if !keeps {
            return Some(id);
        }
        value = node.input(INPUT)?;
        graph.sole_consumer(value)?;
    }
}

/// The edits that scale a value.
///
/// # Errors
/// If a constant cannot be read, or the entry does not fit the graph: a node that is no reader of the value, another
/// number of channels, or one whose constants cannot take the division.
pub fn scale(graph: &Graph, scaled: &Scaled) -> Result<Patch, PassError> {
    let unfit = || PassError::Unfit { value: graph.value(scaled.value).name.clone() };
    let mut edits = Vec::new();
    for id in &scaled.readers {
        edits.push(with_scaled_weight(graph, *id, scaled)?.ok_or_else(unfit)?);
    }
    let name = &graph.value(scaled.value).name;
    let whereto = match scaled.into {
        Some(producer) => {
            edits.push(divided(graph, producer, scaled)?.ok_or_else(unfit)?);
            format!("in `{}`", graph.label(producer))
        }
        None => {
            edits.push(division(name, scaled));
            "before".to_owned()
        }
    };
    let readers: Vec<String> = scaled.readers.iter().map(|id| format!("`{}`", graph.label(*id))).collect();
    let because = format!("channels of `{name}` are divided {whereto}, and multiplied in {}", readers.join(", "));
    Ok(Patch { pass: PASS, because, edits })
}

/// The layer with a weight that answers the factors.
fn with_scaled_weight(graph: &Graph, id: NodeId, scaled: &Scaled) -> Result<Option<PatchEdit>, PassError> {
    let (Some(node), Some(layout)) = (graph.node(id), InputLayout::of(graph, id)) else { return Ok(None) };
    let (Some(weight), Some(value)) = (weight_of(graph, id)?, node.input(WEIGHT)) else { return Ok(None) };
    if node.input(INPUT) != Some(scaled.value) || layout.channels() != scaled.factors.len() {
        return Ok(None);
    }
    let mut data = weight.as_slice::<f32>().map_err(GraphError::from)?.to_vec();
    for (run, weights) in data.chunks_exact_mut(layout.run_length()).enumerate() {
        let factor = f64::from(scaled.factors[layout.channel(run)]);
        weights.iter_mut().for_each(|w| *w = (f64::from(*w) * factor) as f32);
    }
    let tensor = Tensor::new(weight.shape(), data).map_err(GraphError::from)?;
    Ok(Some(rewired(id, node, &[(WEIGHT, Operand::Constant { name: graph.value(value).name.clone(), tensor })])))
}

/// The node that computes the value, with divided constants.
fn divided(graph: &Graph, id: NodeId, scaled: &Scaled) -> Result<Option<PatchEdit>, PassError> {
    if computed_by(graph, scaled.value) != Some(id) {
        return Ok(None);
    }
    let (Some(node), Some(slots)) = (graph.node(id), output_constants(graph, id, scaled.factors.len())) else {
        return Ok(None);
    };
    let mut changed = Vec::new();
    for (slot, layout) in slots {
        let Some(value) = node.input(slot) else { return Ok(None) };
        let Some(tensor) = graph.constant(value)? else { return Ok(None) };
        let mut data = tensor.as_slice::<f32>().map_err(GraphError::from)?.to_vec();
        for (run, elements) in data.chunks_exact_mut(layout.inner.max(1)).enumerate() {
            let factor = f64::from(scaled.factors[run % layout.channels]);
            elements.iter_mut().for_each(|x| *x = (f64::from(*x) / factor) as f32);
        }
        let tensor = Tensor::new(tensor.shape(), data).map_err(GraphError::from)?;
        changed.push((slot, Operand::Constant { name: graph.value(value).name.clone(), tensor }));
    }
    Ok(Some(rewired(id, node, &changed)))
}

/// The constants of `id` that decide the scale of each channel of its result, with where the channels lie in them;
/// `None` if it has not `channels` of them, or one is not constant.
pub(crate) fn output_constants(graph: &Graph, id: NodeId, channels: usize) -> Option<Vec<(usize, ChannelLayout)>> {
    let node = graph.node(id)?;
    let shape = |slot: usize| Some(graph.value(node.input(slot)?).constant.as_ref()?.shape());
    let vector = |slot: usize| (shape(slot)? == [channels]).then_some((slot, ChannelLayout::new(channels, 1)));
    let axis = match node.op {
        Op::LayerNorm(LayerNorm { axis, .. }) => {
            let rank = node.input(INPUT).and_then(|x| graph.value(x).shape.as_ref()).map(|shape| shape.len());
            let last = axis == -1 || rank.and_then(|rank| i64::try_from(rank).ok()) == Some(axis + 1);
            let shift = node.input(SHIFT).map(|_| vector(SHIFT));
            return match shift {
                _ if !last => None,
                None => Some(vec![vector(SCALE)?]),
                Some(shift) => Some(vec![vector(SCALE)?, shift?]),
            };
        }
        Op::Conv(ref conv) if is_plain(conv) => 0,
        Op::Gemm(gemm) if gemm.alpha == 1.0 && gemm.beta == 1.0 => usize::from(!gemm.trans_b),
        _ => return None,
    };
    let weight = ChannelLayout::of_shape(shape(WEIGHT)?, axis).filter(|l| l.channels == channels && l.inner > 0)?;
    match node.input(BIAS) {
        None => Some(vec![(WEIGHT, weight)]),
        Some(_) => Some(vec![(WEIGHT, weight), vector(BIAS)?]),
    }
}

/// The multiplication before the readers.
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
    use crate::testing::Builder;
    use quantize_ir::op::Gemm;

    const RELU: Op = Op::Unary(Unary::Relu);

    fn constant(graph: &Graph, node: NodeId, slot: usize) -> Vec<f32> {
        let value = graph.node(node).and_then(|n| n.input(slot)).unwrap();
        graph.constant(value).unwrap().unwrap().as_slice::<f32>().unwrap().to_vec()
    }

    fn applied(b: &Builder, scaled: &Scaled) -> Graph {
        let mut graph = b.graph.clone();
        graph.apply(scale(&graph, scaled).unwrap()).unwrap();
        graph
    }

    #[test]
    fn a_layer_takes_the_division_past_what_keeps_factors() {
        let mut b = Builder::default();
        let x = b.input("x");
        let first = b.conv("first", x);
        let relu = b.node("relu", RELU, &[first]);
        let y = b.conv("second", relu);
        b.outputs(&[y]);
        let (first, second) = (b.id("first"), b.id("second"));
        assert_eq!(computed_by(&b.graph, relu), Some(first));
        let scaled = Scaled { value: relu, factors: vec![2.0, 0.5], readers: vec![second], into: Some(first) };
        let graph = applied(&b, &scaled);
        assert_eq!(graph.nodes().count(), 3);
        assert_eq!(constant(&graph, first, WEIGHT), [0.5, 1.0, 6.0, 8.0]);
        assert_eq!(constant(&graph, second, WEIGHT), [2.0, 1.0, 6.0, 2.0]);
    }

    #[test]
    fn what_others_read_is_not_passed() {
        let mut b = Builder::default();
        let x = b.input("x");
        let first = b.conv("first", x);
        let relu = b.node("relu", RELU, &[first]);
        let y = b.node("sum", Op::Binary(Binary::Add), &[relu, first]);
        b.outputs(&[y]);
        assert_eq!(computed_by(&b.graph, relu), None);
        assert_eq!(computed_by(&b.graph, x), None);
    }

    #[test]
    fn channels_of_groups_follow_each_other() {
        let layout = InputLayout::Filters { groups: 2, outputs: 4, inputs: 3, inner: 9 };
        let read: Vec<usize> = (0..12).map(|run| layout.channel(run)).collect();
        assert_eq!((layout.channels(), read), (6, vec![0, 1, 2, 0, 1, 2, 3, 4, 5, 3, 4, 5]));
        let depthwise = InputLayout::Filters { groups: 3, outputs: 3, inputs: 1, inner: 9 };
        assert_eq!((0..3).map(|run| depthwise.channel(run)).collect::<Vec<_>>(), [0, 1, 2]);
    }

    #[test]
    fn weights_of_either_order_are_scaled_along_their_inputs() {
        let mut b = Builder::default();
        let gemm = Op::Gemm(Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: true });
        let (x, w) = (b.input("z"), b.constant("v", &[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
        let y = b.node("gemm", gemm, &[x, w]);
        b.outputs(&[y]);
        let readers = vec![b.id("gemm")];
        let graph = applied(&b, &Scaled { value: x, factors: vec![0.5, 4.0], readers, into: None });
        assert_eq!(constant(&graph, b.id("gemm"), WEIGHT), [0.5, 8.0, 1.5, 16.0, 2.5, 24.0]);
    }

    #[test]
    fn an_entry_that_does_not_fit_is_refused() {
        let mut b = Builder::default();
        let x = b.input("x");
        let first = b.conv("first", x);
        let y = b.conv("second", first);
        b.outputs(&[y]);
        let (first_id, second) = (b.id("first"), b.id("second"));
        let entry = |factors: usize, reader, into| Scaled {
            value: first,
            factors: vec![1.0; factors],
            readers: vec![reader],
            into,
        };
        for bad in [entry(3, second, None), entry(2, first_id, None), entry(2, second, Some(second))] {
            assert_eq!(scale(&b.graph, &bad).unwrap_err(), PassError::Unfit { value: "first:0".into() });
        }
    }
}
