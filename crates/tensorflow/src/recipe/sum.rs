//! Additions that convolutions on codes carry out before they round: which may, and which of the two operands is the
//! convolution's.
//!
//! `QuantizedConv2DWithBiasSumAndReluAndRequantize` writes its result into the memory of the codes that it adds, and
//! crashes where it cannot have it. So these codes must be nobody's by then: every other reader must have run, which is
//! certain of what the convolution itself depends on and of nothing else. Neither may they be a constant or wanted by
//! the caller. Nothing is broadcast.

use super::{SignedSum, convolution, is_depthwise, is_non_negative, saturates};
use quantize_ir::op::behaviour::keeps_range;
use quantize_ir::op::{Binary, Padding, Window};
use quantize_ir::{Graph, KeepReason, Node, NodeId, Op, ValueId};
use std::collections::BTreeSet;

/// Which additions are carried out on integers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sums {
    pub(super) unsigned: bool,
    pub(super) signed: SignedSum,
}

/// What is added to the sums of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Addition {
    /// Slot of the convolution's result.
    pub(super) slot: usize,
    /// Whether the other operand may be negative.
    pub(super) is_signed: bool,
}

impl Sums {
    /// How the addition `id` becomes part of a convolution; else what stands against it. What can be had with unsigned
    /// codes is preferred, then the operand that is written first.
    pub(super) fn of(self, graph: &Graph, id: NodeId) -> Result<Addition, KeepReason> {
        let mut obstacle = None;
        let mut found: Option<Addition> = None;
        for slot in 0..2 {
            match self.with_convolution(graph, id, slot) {
                Ok(addition) if found.is_none_or(|f| f.is_signed && !addition.is_signed) => found = Some(addition),
                Ok(_) => {}
                // What is said of an operand that is a convolution's says more.
                Err(why) => obstacle = obstacle.filter(|known| *known != NO_CONVOLUTION).or(Some(why)),
            }
        }
        found.ok_or_else(|| KeepReason::Unsupported(obstacle.unwrap_or(NO_CONVOLUTION).to_owned()))
    }

    /// The same with the operand in `slot` for the convolution's.
    fn with_convolution(self, graph: &Graph, id: NodeId, slot: usize) -> Result<Addition, &'static str> {
        let node = graph.node(id).ok_or(NO_CONVOLUTION)?;
        let (Some(sum), Some(summand)) = (node.input(slot), node.input(1 - slot)) else { return Err(NO_CONVOLUTION) };
        let (conv, producer) = graph.producer(sum).ok_or(NO_CONVOLUTION)?;
        let Op::Conv(attributes) = &producer.op else { return Err(NO_CONVOLUTION) };
        if is_depthwise(attributes) || convolution(graph, producer, attributes).is_some() {
            return Err(NO_CONVOLUTION);
        }
        if graph.sole_consumer(sum).is_none() {
            return Err("others read the convolution before the addition");
        }
        let follower = node.output(0).and_then(|y| graph.sole_consumer(y)).and_then(|(reader, _)| graph.node(reader));
        if !follower.is_some_and(|follower| saturates(graph, follower)) {
            return Err("there is no integer kernel for an addition without ReLU");
        }
        let is_signed = !is_non_negative(graph, summand);
        self.allows(is_signed)?;
        if is_signed {
            let reads_signed = producer.input(0).is_none_or(|x| !is_non_negative(graph, x));
            if reads_signed {
                return Err("what is added may be negative, and so may what the convolution reads");
            }
            if node.output(0).is_some_and(|y| is_joined(graph, y)) {
                return Err("what is added may be negative, and the sum is joined with codes of all 8 bits");
            }
        }
        if !is_free(graph, summand, (id, conv)) {
            return Err("what is added may still be needed when the sum takes its place");
        }
        if !is_alike(graph, (sum, producer), summand) {
            return Err("what is added is not known to have the size of the convolution's result");
        }
        Ok(Addition { slot, is_signed })
    }

    fn allows(self, is_signed: bool) -> Result<(), &'static str> {
        match (is_signed, self.signed) {
            (true, SignedSum::Fp32) => {
                Err("what is added may be negative; `--signed-sum sum7bit` adds it with 7 bits for the sum")
            }
            (false, _) if !self.unsigned => Err("skipped on request (`--residual-sum fp32`)"),
            _ => Ok(()),
        }
    }
}

const NO_CONVOLUTION: &str = "neither operand comes right from a convolution on integers";

/// Whether nobody but the addition `sum` needs `value` once the convolution `conv` runs.
fn is_free(graph: &Graph, value: ValueId, (sum, conv): (NodeId, NodeId)) -> bool {
    let known = graph.value(value);
    if known.constant.is_some() || graph.is_output(value) || graph.inputs().contains(&value) {
        return false;
    }
    let others: Vec<NodeId> = known.consumers().iter().map(|(reader, _)| *reader).filter(|id| *id != sum).collect();
    others.is_empty() || {
        let before = ancestors(graph, conv);
        others.iter().all(|reader| before.contains(reader))
    }
}

/// The nodes that `node` depends on, without itself.
fn ancestors(graph: &Graph, node: NodeId) -> BTreeSet<NodeId> {
    let mut found = BTreeSet::new();
    let mut open = vec![node];
    while let Some(id) = open.pop() {
        let operands = graph.node(id).into_iter().flat_map(|node| node.inputs.iter().flatten());
        for (producer, _) in operands.filter_map(|value| graph.producer(*value)) {
            if found.insert(producer) {
                open.push(producer);
            }
        }
    }
    found
}

/// Whether a concatenation reads `value`, at once or through what keeps its range.
fn is_joined(graph: &Graph, value: ValueId) -> bool {
    let mut seen = BTreeSet::new();
    let mut open = vec![value];
    while let Some(value) = open.pop() {
        for node in graph.value(value).consumers().iter().filter_map(|(id, _)| graph.node(*id)) {
            let carries = keeps_range(graph, node) || matches!(node.op, Op::AveragePool(_)) || saturates(graph, node);
            if matches!(node.op, Op::Concat(_)) {
                return true;
            }
            open.extend(node.outputs.iter().flatten().copied().filter(|y| carries && seen.insert(*y)));
        }
    }
    false
}

/// Whether a convolution's result and `summand` have the same size for every image: the same channels, and rows and
/// columns of a common origin, made fewer by the same strides.
fn is_alike(graph: &Graph, (sum, conv): (ValueId, &Node), summand: ValueId) -> bool {
    let outputs = conv.input(1).and_then(|weight| graph.value(weight).constant.as_ref()?.shape().last().copied());
    if outputs.is_none() || outputs != channels(graph, summand) {
        return false;
    }
    let ours = origins(graph, sum);
    origins(graph, summand).iter().any(|origin| ours.contains(origin))
}

/// Number of channels of `value`, by the weights of the convolutions before it.
fn channels(graph: &Graph, mut value: ValueId) -> Option<usize> {
    // No path is longer than the graph has nodes.
    for _ in 0..=graph.value_count() {
        let (_, node) = graph.producer(value)?;
        let of_convolution = |value: &ValueId| {
            graph.producer(*value).is_some_and(|(_, node)| matches!(&node.op, Op::Conv(conv) if !is_depthwise(conv)))
        };
        value = match &node.op {
            Op::Conv(conv) => {
                let shape = graph.value(node.input(1)?).constant.as_ref()?.shape();
                return shape.last().copied().filter(|outputs| *outputs > 1 || is_depthwise(conv));
            }
            Op::Binary(Binary::Add) => node.inputs.iter().flatten().copied().find(of_convolution).or(node.input(0))?,
            Op::MaxPool(_) | Op::AveragePool(_) | Op::Identity => node.input(0)?,
            _ if saturates(graph, node) => node.input(0)?,
            _ => return None,
        };
    }
    None
}

/// The values that `value` has rows and columns of, with the strides in between: as many as the origin's, divided by them
/// and rounded up.
fn origins(graph: &Graph, value: ValueId) -> Vec<(ValueId, [usize; 2])> {
    let mut found = vec![(value, [1, 1])];
    let mut at = (value, [1usize, 1]);
    while let Some((_, node)) = graph.producer(at.0).filter(|_| found.len() <= graph.value_count()) {
        let kernel = match &node.op {
            Op::Conv(conv) => {
                let kernel = node.input(1).and_then(|weight| graph.value(weight).constant.as_ref()?.shape().get(..2));
                kernel.map(|kernel| (kernel.to_vec(), &conv.window))
            }
            Op::MaxPool(pool) => Some((pool.kernel.clone(), &pool.window)),
            Op::AveragePool(pool) => Some((pool.kernel.clone(), &pool.window)),
            _ if saturates(graph, node) => None,
            _ => break,
        };
        let strides = match kernel {
            None => [1, 1],
            Some((kernel, window)) if keeps_places(&kernel, window) => both(&window.strides),
            Some(_) => break,
        };
        let (Some(before), Some(rows), Some(columns)) =
            (node.input(0), at.1[0].checked_mul(strides[0]), at.1[1].checked_mul(strides[1]))
        else {
            break;
        };
        at = (before, [rows, columns]);
        found.push(at);
    }
    found
}

/// Whether a window has a place for each element of an image, but for strides.
fn keeps_places(kernel: &[usize], window: &Window) -> bool {
    both(&window.dilations).into_iter().enumerate().all(|(axis, dilation)| {
        let reach = kernel.get(axis).copied().unwrap_or(1).saturating_sub(1).saturating_mul(dilation);
        match &window.padding {
            Padding::SameUpper | Padding::SameLower => true,
            Padding::Valid => reach == 0,
            Padding::Explicit { begin, end } => {
                let side = |sides: &[usize]| sides.get(axis).copied().unwrap_or(0);
                side(begin).saturating_add(side(end)) == reach
            }
        }
    })
}

/// Numbers for rows and columns; ones if there are none.
fn both(numbers: &[usize]) -> [usize; 2] {
    [0, 1].map(|axis| numbers.get(axis).copied().unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::DataType;
    use crate::frontend::{Request, import};
    use crate::graph::GraphDef;
    use crate::node::NodeDef;
    use crate::recipe::TensorflowRecipe;
    use crate::tensor::TensorProto;
    use quantize_ir::{Recipe, Support, Tensor};
    use std::sync::Arc;

    fn weights(name: &str, shape: [usize; 4]) -> NodeDef {
        let tensor = Tensor::new(shape, vec![0.5f32; shape.iter().product()]).unwrap();
        NodeDef::constant(name, TensorProto::new(DataType::FLOAT, &tensor).unwrap())
    }

    fn conv(name: &str, x: &str, weights: &str, stride: i64) -> NodeDef {
        let node = NodeDef::new(name, "Conv2D").with_inputs([x, weights]).with_attr("padding", "SAME");
        node.with_attr("strides", vec![1, stride, stride, 1])
    }

    fn node(name: &str, op: &str, inputs: &[&str]) -> NodeDef {
        NodeDef::new(name, op).with_inputs(inputs.to_vec())
    }

    /// What becomes of `sum`, a rectified addition of `summand` to the convolution `inner` of the ReLU `start`.
    fn fate(summand: &str, more: Vec<NodeDef>, signed_sum: SignedSum) -> Result<usize, String> {
        let mut nodes = vec![
            NodeDef::new("x", "Placeholder").with_attr("dtype", DataType::FLOAT),
            weights("w", [3, 3, 2, 2]),
            weights("one", [1, 1, 2, 1]),
            conv("first", "x", "w", 1),
            node("start", "Relu", &["first"]),
            conv("inner", "start", "w", 1),
        ];
        nodes.extend(more);
        nodes.extend([node("sum", "AddV2", &[summand, "inner"]), node("y", "Relu", &["sum"])]);
        let request = Request { inputs: Vec::new(), outputs: vec!["y".into()] };
        let (graph, _) = import(&Arc::new(GraphDef::new(nodes)), &request).unwrap();
        let (id, _) = graph.nodes().find(|(_, node)| node.name == "sum").unwrap();
        match (TensorflowRecipe { signed_sum, ..TensorflowRecipe::default() }).support(&graph, id) {
            Support::Accumulates { slot } => Ok(slot),
            Support::Keep(reason) => Err(reason.to_string()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_was_read_before_is_added() {
        let unsigned = |summand, more| fate(summand, more, SignedSum::Fp32);
        let late = vec![conv("second", "start", "w", 1), node("late", "Relu", &["second"])];
        assert_eq!(unsigned("late", late.clone()), Ok(1), "nobody else reads it");
        let itself = unsigned("start", Vec::new()).unwrap_err();
        assert!(itself.contains("may still be needed"), "the convolution reads it itself: {itself}");
        let signed = vec![conv("second", "start", "w", 1)];
        assert!(unsigned("second", signed.clone()).unwrap_err().contains("--signed-sum"));
        assert_eq!(fate("second", signed, SignedSum::Sum7Bit), Ok(0), "the one that is written first");
    }

    #[test]
    fn nothing_is_broadcast() {
        let strided = vec![conv("second", "start", "w", 2), node("late", "Relu", &["second"])];
        let narrow = vec![conv("second", "start", "one", 1), node("late", "Relu", &["second"])];
        let valid =
            vec![conv("second", "start", "w", 1).with_attr("padding", "VALID"), node("late", "Relu", &["second"])];
        for more in [strided, narrow, valid] {
            let why = fate("late", more, SignedSum::Fp32).unwrap_err();
            assert!(why.contains("not known to have the size"), "{why}");
        }
    }
}
