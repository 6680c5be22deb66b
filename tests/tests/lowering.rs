//! Operators that ONNX says in another form compute the same after export.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use quantize_ir::op::{
    AveragePool, BatchNorm, Conv, ConvTranspose, DepthToSpace, DepthToSpaceMode, FilterLayout, Layout, LpPool, Lrn,
    LrnRegion, MaxPool, Padding, Rounding, Softmax, SpaceToDepth, Window,
};
use quantize_ir::{Constant, DType, Dim, Graph, Node, Op, Origin, Tensor, Value, ValueId};
use quantize_onnx::export;
use quantize_tests::graphs::{compare, read};

const LAST: Layout = Layout::ChannelsLast;

/// A graph of one node, with the tensors to feed. The shape of the activation is declared or not; weights are constants
/// or fed.
struct Sample {
    op: Op,
    x: Vec<usize>,
    weights: Vec<Vec<usize>>,
    declared: bool,
    constant: bool,
}

fn wave(shape: &[usize], phase: f32) -> Tensor {
    let len = shape.iter().product::<usize>();
    Tensor::new(shape, (0..len).map(|i| (i as f32 * 0.7 + phase).sin() + 1.1).collect::<Vec<f32>>()).unwrap()
}

impl Sample {
    fn of(op: Op, x: &[usize], weights: &[&[usize]]) -> Self {
        let weights = weights.iter().map(|w| w.to_vec()).collect();
        Self { op, x: x.to_vec(), weights, declared: true, constant: true }
    }

    fn fed(graph: &mut Graph, name: &str, shape: Option<&[usize]>) -> ValueId {
        let mut value = Value::named(name);
        value.dtype = Some(DType::F32);
        value.shape = shape.map(|dims| dims.iter().map(|n| Dim::Known(*n as u64)).collect());
        graph.add_value(value)
    }

    fn graph(&self) -> (Graph, Vec<Tensor>) {
        let origin = || Origin::Synthesized { pass: "test", from: vec![] };
        let mut graph = Graph::new();
        let mut inputs = vec![Self::fed(&mut graph, "x", self.declared.then_some(&self.x))];
        let mut tensors = vec![wave(&self.x, 0.3)];
        let mut operands = inputs.clone();
        for (i, shape) in self.weights.iter().enumerate() {
            let (name, tensor) = (format!("w{i}"), wave(shape, i as f32));
            if self.constant {
                operands.push(graph.add_constant(name, Constant::owned(tensor), DType::F32, origin()));
            } else {
                operands.push(Self::fed(&mut graph, &name, Some(shape)));
                inputs.push(operands[i + 1]);
                tensors.push(tensor);
            }
        }
        let y = graph.add_value(Value::named("y"));
        let inputs_of = operands.into_iter().map(Some).collect();
        let node = Node {
            name: "n".into(),
            op: self.op.clone(),
            inputs: inputs_of,
            outputs: vec![Some(y)],
            after: vec![],
            origin: origin(),
        };
        graph.add_node(node).unwrap();
        graph.set_inputs(inputs);
        graph.set_outputs(vec![y]);
        (graph, tensors)
    }

    /// Compares before and after; says whether the operator can be computed at all.
    fn check(&self, name: &str) -> bool {
        let (graph, tensors) = self.graph();
        let bytes = export(&graph, name).unwrap_or_else(|error| panic!("{error}"));
        compare(name, &graph, &read(&bytes), &tensors) == 1
    }
}

fn window(strides: &[usize], pads: [&[usize]; 2], rounding: Rounding) -> Window {
    let padding = Padding::Explicit { begin: pads[0].to_vec(), end: pads[1].to_vec() };
    Window { strides: strides.to_vec(), dilations: vec![], padding, rounding }
}

fn small() -> Window {
    window(&[2, 1], [&[1, 0], &[0, 1]], Rounding::Floor)
}

fn conv(window: Window, layout: Layout, filter: FilterLayout) -> Op {
    Op::Conv(Conv { window, group: 1, layout, filter })
}

fn conv_transpose(window: Window, filter: FilterLayout) -> Op {
    let (output_padding, output_shape) = (vec![], vec![]);
    let op = ConvTranspose { window, group: 1, output_padding, output_shape, layout: LAST, filter };
    Op::ConvTranspose(op.into())
}

fn samples() -> Vec<(&'static str, Sample)> {
    let ceil = || Window { rounding: Rounding::Ceil, ..small() };
    let same = Window { padding: Padding::SameUpper, ..ceil() };
    let kernel = || vec![3, 2];
    let mode = DepthToSpaceMode::ColumnRowDepth;
    let batch_norm = |axis| Op::BatchNorm(BatchNorm { epsilon: 0.5, axis });
    let lrn = |size| Op::Lrn(Lrn { alpha: 0.7, beta: 0.75, bias: 1.5, size, region: LrnRegion::Within });
    let softmax = |axis, log| Op::Softmax(Softmax { axis, flatten: true, log });
    let (first, output_first, output_last) =
        (Layout::ChannelsFirst, FilterLayout::OutputFirst, FilterLayout::OutputLast);
    let average = AveragePool { kernel: kernel(), window: ceil(), count_include_pad: true, layout: LAST };
    vec![
        ("conv_last", Sample::of(conv(small(), LAST, output_first), &[2, 7, 6, 3], &[&[4, 3, 3, 2], &[4]])),
        ("conv_last_last", Sample::of(conv(small(), LAST, output_last), &[2, 7, 6, 3], &[&[3, 2, 3, 4], &[4]])),
        ("conv_first_last", Sample::of(conv(small(), first, output_last), &[2, 3, 7, 6], &[&[3, 2, 3, 4]])),
        ("conv_ceil", Sample::of(conv(ceil(), first, output_first), &[1, 3, 8, 6], &[&[4, 3, 3, 2]])),
        ("conv_ceil_last", Sample::of(conv(ceil(), LAST, output_last), &[1, 8, 6, 3], &[&[3, 2, 3, 4]])),
        ("conv_ceil_same", Sample::of(conv(same, first, output_first), &[1, 3, 8, 6], &[&[4, 3, 3, 2]])),
        ("conv_transpose", Sample::of(conv_transpose(small(), output_first), &[1, 4, 5, 3], &[&[3, 4, 3, 2], &[4]])),
        ("conv_transpose_last", Sample::of(conv_transpose(ceil(), output_last), &[1, 4, 5, 3], &[&[3, 2, 4, 3]])),
        (
            "max_pool",
            Sample::of(
                Op::MaxPool(MaxPool { kernel: kernel(), window: ceil(), column_major: false, layout: LAST }),
                &[1, 6, 5, 3],
                &[],
            ),
        ),
        ("average_pool", Sample::of(Op::AveragePool(average), &[1, 6, 5, 3], &[])),
        (
            "lp_pool",
            Sample::of(Op::LpPool(LpPool { kernel: kernel(), window: ceil(), p: 2, layout: LAST }), &[1, 6, 5, 3], &[]),
        ),
        ("batch_norm", Sample::of(batch_norm(-1), &[2, 3, 4, 5], &[&[5], &[5], &[5], &[5]])),
        ("batch_norm_axis_0", Sample::of(batch_norm(0), &[2, 3, 4], &[&[2], &[2], &[2], &[2]])),
        ("batch_norm_axis_2", Sample::of(batch_norm(2), &[2, 3, 4, 5], &[&[4], &[4], &[4], &[4]])),
        ("batch_norm_matrix", Sample::of(batch_norm(-1), &[2, 5], &[&[5], &[5], &[5], &[5]])),
        ("depth", Sample::of(Op::DepthToSpace(DepthToSpace { block: 2, mode, layout: LAST }), &[1, 2, 3, 8], &[])),
        ("space", Sample::of(Op::SpaceToDepth(SpaceToDepth { block: 2, layout: LAST }), &[1, 4, 6, 3], &[])),
        ("lrn_1d", Sample::of(lrn(3), &[1, 2, 7], &[])),
        ("lrn_2d", Sample::of(lrn(5), &[2, 3, 6, 4], &[])),
        ("lrn_even", Sample::of(lrn(4), &[1, 2, 6, 7], &[])),
        ("lrn_3d", Sample::of(lrn(3), &[1, 2, 3, 4, 2], &[])),
        ("lrn_point", Sample::of(lrn(3), &[2, 3], &[])),
        ("softmax", Sample::of(softmax(1, false), &[2, 3, 4], &[])),
        ("log_softmax", Sample::of(softmax(2, true), &[2, 3, 4], &[])),
    ]
}

#[test]
fn each_form_computes_the_same_after_export() {
    for (name, sample) in samples() {
        assert!(sample.check(name), "{name} is not computed");
    }
}

#[test]
fn weights_that_are_computed_are_turned_around_too() {
    let filters = samples().into_iter().filter(|(_, sample)| matches!(sample.op, Op::Conv(_) | Op::ConvTranspose(_)));
    for (name, sample) in filters {
        assert!(Sample { constant: false, ..sample }.check(name), "{name} is not computed");
    }
}

#[test]
fn windows_and_filters_tell_the_rank_of_an_undeclared_operand() {
    let mut written = 0;
    for (name, sample) in samples() {
        let needs_shape = match &sample.op {
            Op::Conv(c) => c.window.rounding == Rounding::Ceil && matches!(c.window.padding, Padding::Explicit { .. }),
            Op::BatchNorm(_) | Op::Lrn(_) => true,
            _ => false,
        };
        let sample = Sample { declared: false, ..sample };
        if needs_shape {
            let error = export(&sample.graph().0, name).unwrap_err().to_string();
            assert!(error.contains("of its operand"), "{error}");
        } else {
            assert!(sample.check(name), "{name} is not computed");
            written += 1;
        }
    }
    assert!(written > 10, "only {written}");
}

proptest! {
    #[test]
    fn convolutions_that_round_up_keep_their_last_window(
        input in 1usize..12, kernel in 1usize..5, stride in 1usize..6, dilation in 1usize..3,
        begin in 0usize..4, end in 0usize..4,
    ) {
        let window = Window { dilations: vec![dilation], ..window(&[stride], [&[begin], &[end]], Rounding::Ceil) };
        let op = conv(window, Layout::ChannelsFirst, FilterLayout::OutputFirst);
        let sample = Sample::of(op, &[1, 1, input], &[&[1, 1, kernel]]);
        prop_assume!(input + begin + end > dilation * (kernel - 1));
        prop_assert!(sample.check("conv"));
    }

    #[test]
    fn pools_keep_their_rounding_and_what_they_count(
        input in (1usize..9, 1usize..9), kernel in (1usize..5, 1usize..5), stride in (1usize..5, 1usize..5),
        pad in (0usize..3, 0usize..3), ceil: bool, count_include_pad: bool, last: bool,
    ) {
        let rounding = if ceil { Rounding::Ceil } else { Rounding::Floor };
        let pads = [pad.0.min(kernel.0 - 1), pad.1.min(kernel.1 - 1)];
        let window = window(&[stride.0, stride.1], [&pads, &pads], rounding);
        let kernel = vec![kernel.0, kernel.1];
        prop_assume!(input.0 + 2 * pads[0] >= kernel[0] && input.1 + 2 * pads[1] >= kernel[1]);
        let (layout, x) = if last { (LAST, [1, input.0, input.1, 2]) } else { (Layout::ChannelsFirst, [1, 2, input.0, input.1]) };
        let max = MaxPool { kernel: kernel.clone(), window: window.clone(), column_major: false, layout };
        let average = AveragePool { kernel, window, count_include_pad, layout };
        prop_assert!(Sample::of(Op::MaxPool(max), &x, &[]).check("max"));
        prop_assert!(Sample::of(Op::AveragePool(average), &x, &[]).check("average"));
    }
}
