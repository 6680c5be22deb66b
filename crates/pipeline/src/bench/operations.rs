//! How many operations the nodes of a graph are, from the shapes that a run shows.

use quantize_exec::{ExecError, Observer, Program, Session, View};
use quantize_ir::op::FilterLayout;
use quantize_ir::{Graph, Node, Op, Tensor, ValueId};
use std::collections::{BTreeMap, BTreeSet};

/// Operations of each node that the outputs of `graph` depend on, by the node's label: each multiplication and each
/// addition. They are those of the plain formulas, however the node is computed.
pub(crate) fn operations(graph: &Graph, fed: &[(ValueId, Tensor)]) -> Result<BTreeMap<String, u64>, ExecError> {
    let program = Program::observe(graph, &needed(graph))?;
    let mut shapes = Shapes::default();
    Session::new(&program).run(fed, &mut shapes)?;
    Ok(shapes.operations(graph))
}

/// All values that the outputs depend on.
fn needed(graph: &Graph) -> Vec<ValueId> {
    let mut needed = BTreeSet::new();
    let mut waiting = graph.outputs().to_vec();
    while let Some(value) = waiting.pop() {
        if graph.value(value).constant.is_none() && needed.insert(value) {
            waiting.extend(graph.producer(value).into_iter().flat_map(|(_, node)| node.inputs.iter().flatten()));
        }
    }
    needed.into_iter().collect()
}

/// Shapes of the values of a run.
#[derive(Debug, Default)]
struct Shapes(BTreeMap<ValueId, Vec<usize>>);

impl Observer for Shapes {
    fn observe(&mut self, value: ValueId, seen: &View<'_>) {
        self.0.insert(value, seen.dims().into_owned());
    }
}

impl Shapes {
    fn of<'a>(&'a self, graph: &'a Graph, value: Option<ValueId>) -> Option<&'a [usize]> {
        let value = value?;
        let constant = graph.value(value).constant.as_ref().map(|constant| constant.shape());
        constant.or_else(|| self.0.get(&value).map(Vec::as_slice))
    }

    fn operations(&self, graph: &Graph) -> BTreeMap<String, u64> {
        let counted = |(id, node)| Some((graph.label(id), 2 * self.of_node(graph, node)?));
        graph.nodes().filter_map(counted).collect()
    }

    fn of_node(&self, graph: &Graph, node: &Node) -> Option<u64> {
        let result = self.of(graph, node.output(0))?;
        let (a, b) = (self.of(graph, node.input(0))?, self.of(graph, node.input(1)));
        multiply_accumulates(&node.op, a, b, result)
    }
}

/// Multiply-accumulates of an operator with these shapes of its first two operands and its result: those of
/// convolutions, including taps on padding, and of matrix products. Biases and everything else count nothing.
fn multiply_accumulates(op: &Op, a: &[usize], b: Option<&[usize]>, result: &[usize]) -> Option<u64> {
    let (elements, each) = match op {
        Op::Conv(conv) => (result, per_channel(b?, conv.filter)?),
        Op::ConvTranspose(conv) => (a, per_channel(b?, conv.filter)?),
        Op::Gemm(gemm) => (result, *a.get(usize::from(!gemm.trans_a))?),
        Op::MatMul => (result, *a.last()?),
        _ => return None,
    };
    Some(product(elements) * each as u64)
}

/// Elements of a filter for each channel of the axis that stands alone: output channels of a convolution, input
/// channels of a transposed one.
fn per_channel(filter: &[usize], layout: FilterLayout) -> Option<usize> {
    match layout {
        FilterLayout::OutputFirst => filter.get(1..).map(|rest| rest.iter().product()),
        FilterLayout::OutputLast => filter.split_last().map(|(_, rest)| rest.iter().product()),
    }
}

fn product(shape: &[usize]) -> u64 {
    shape.iter().map(|dim| *dim as u64).product()
}

#[cfg(test)]
mod tests {
    use super::*;
    use quantize_ir::op::{Conv, ConvTranspose, Gemm, Layout, Padding, Rounding, Unary, Window};

    fn window() -> Window {
        Window { strides: vec![], dilations: vec![], padding: Padding::none(), rounding: Rounding::Floor }
    }

    fn conv(group: usize, filter: FilterLayout) -> Op {
        Op::Conv(Conv { window: window(), group, layout: Layout::ChannelsFirst, filter })
    }

    fn transposed(filter: FilterLayout) -> Op {
        let (output_padding, output_shape, layout) = (vec![], vec![], Layout::ChannelsFirst);
        Op::ConvTranspose(ConvTranspose { window: window(), group: 1, output_padding, output_shape, layout, filter })
    }

    /// Operator, shapes of its operands and its result, multiply-accumulates.
    type Case = (Op, &'static [usize], &'static [usize], &'static [usize], u64);

    #[test]
    fn every_product_counts_once() {
        let gemm = |trans_a| Op::Gemm(Gemm { alpha: 1.0, beta: 1.0, trans_a, trans_b: true });
        let (first, last) = (FilterLayout::OutputFirst, FilterLayout::OutputLast);
        let dense: Case = (conv(1, first), &[1, 3, 8, 8], &[16, 3, 3, 3], &[1, 16, 6, 6], 16 * 36 * 27);
        let depthwise: Case = (conv(8, first), &[2, 8, 5], &[8, 1, 3], &[2, 8, 3], 144);
        let channels_last: Case = (conv(1, last), &[1, 4, 4, 3], &[2, 2, 3, 5], &[1, 3, 3, 5], 45 * 12);
        let transposed: Case = (transposed(first), &[1, 3, 4, 4], &[3, 5, 2, 2], &[1, 5, 8, 8], 48 * 20);
        let product: Case = (Op::MatMul, &[2, 3, 4], &[4, 5], &[2, 3, 5], 120);
        let plain: Case = (gemm(false), &[3, 4], &[5, 4], &[3, 5], 60);
        let turned: Case = (gemm(true), &[4, 3], &[5, 4], &[3, 5], 60);
        for case in [dense, depthwise, channels_last, transposed, product, plain, turned] {
            let (op, a, b, result, expected) = &case;
            assert_eq!(multiply_accumulates(op, a, Some(b), result), Some(*expected), "{case:?}");
        }
        assert_eq!(multiply_accumulates(&Op::Unary(Unary::Relu), &[9], None, &[9]), None);
    }

    #[test]
    fn odd_shapes_count_nothing() {
        assert_eq!(multiply_accumulates(&conv(1, FilterLayout::OutputLast), &[], Some(&[]), &[]), None);
        assert_eq!(multiply_accumulates(&Op::MatMul, &[], Some(&[]), &[]), None);
    }
}
