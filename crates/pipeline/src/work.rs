//! Shapes of the values of a run, and how many operations the nodes of a graph are by them.

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
pub(crate) struct Shapes(BTreeMap<ValueId, Vec<usize>>);

impl Observer for Shapes {
    fn observe(&mut self, value: ValueId, seen: &View<'_>) {
        self.0.insert(value, seen.dims().into_owned());
    }
}

impl Shapes {
    /// The shape of `value`, if it was seen or is that of a constant.
    pub(crate) fn of<'a>(&'a self, graph: &'a Graph, value: ValueId) -> Option<&'a [usize]> {
        let constant = graph.value(value).constant.as_ref().map(|constant| constant.shape());
        constant.or_else(|| self.0.get(&value).map(Vec::as_slice))
    }

    /// Adds a shape that was not seen.
    pub(crate) fn assume(&mut self, value: ValueId, shape: Vec<usize>) {
        self.0.entry(value).or_insert(shape);
    }

    /// Multiply-accumulates of a node: 0 if it is neither a convolution nor a matrix product, `None` if it is one of
    /// unknown shape.
    pub(crate) fn multiply_accumulates(&self, graph: &Graph, node: &Node) -> Option<u64> {
        if !is_product(&node.op) {
            return Some(0);
        }
        let shape = |value: Option<ValueId>| self.of(graph, value?);
        let (a, b, result) = (shape(node.input(0))?, shape(node.input(1)), shape(node.output(0))?);
        multiply_accumulates(&node.op, a, b, result)
    }

    fn operations(&self, graph: &Graph) -> BTreeMap<String, u64> {
        let products = graph.nodes().filter(|(_, node)| is_product(&node.op));
        let counted = |(id, node)| Some((graph.label(id), 2 * self.multiply_accumulates(graph, node)?));
        products.filter_map(counted).collect()
    }
}

/// Whether an operator is a convolution or a matrix product.
fn is_product(op: &Op) -> bool {
    matches!(op, Op::Conv(_) | Op::ConvTranspose(_) | Op::Gemm(_) | Op::MatMul)
}

/// Multiply-accumulates of an operator with these shapes of its first two operands and its result: those of
/// convolutions, including taps on padding, and of matrix products. Biases and everything else count nothing.
fn multiply_accumulates(op: &Op, a: &[usize], b: Option<&[usize]>, result: &[usize]) -> Option<u64> {
    let (elements, each) = match op {
        Op::Conv(conv) => (result, per_channel(b?, conv.filter)?),
        Op::ConvTranspose(conv) => (a, per_channel(b?, conv.filter)?),
        Op::Gemm(gemm) => (result, *a.get(usize::from(!gemm.trans_a))? as u64),
        Op::MatMul => (result, *a.last()? as u64),
        _ => return None,
    };
    Some(product(elements).saturating_mul(each))
}

/// Elements of a filter for each channel of the axis that stands alone: output channels of a convolution, input
/// channels of a transposed one.
fn per_channel(filter: &[usize], layout: FilterLayout) -> Option<u64> {
    match layout {
        FilterLayout::OutputFirst => filter.get(1..).map(product),
        FilterLayout::OutputLast => filter.split_last().map(|(_, rest)| product(rest)),
    }
}

fn product(shape: &[usize]) -> u64 {
    shape.iter().fold(1, |product: u64, dim| product.saturating_mul(*dim as u64))
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
        let window = window();
        Op::ConvTranspose(ConvTranspose { window, group: 1, output_padding, output_shape, layout, filter }.into())
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
