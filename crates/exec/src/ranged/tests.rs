//! Small nodes against sums written out by hand, and a graph with a report.

use super::*;
use quantize_ir::op::{Opaque, Unary};
use quantize_ir::{Constant, Node, Origin, RangedConvolution, RangedOutput, RangedPadding, RangedWindow, Value};
use quantize_numerics::ranged::{Codes, Reading};

fn run(work: &RangedWork, operands: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
    work::run(work, operands, &mut Buffers::default())
}

fn window(size: usize, stride: usize, padding: RangedPadding) -> RangedWindow {
    RangedWindow { size: [size; 2], strides: [stride; 2], dilations: [1; 2], padding }
}

fn convolution(is_depthwise: bool, output: RangedOutput) -> RangedWork {
    RangedWork::Convolution(RangedConvolution {
        input: Codes::Unsigned,
        is_depthwise,
        window: window(2, 1, RangedPadding::Same),
        has_bias: true,
        has_relu: true,
        output,
    })
}

fn scalar(value: f32) -> Tensor {
    Tensor::scalar(value)
}

/// `[1, 2, 2, 2]` codes from 1 to 8.
fn image() -> Tensor {
    Tensor::new([1, 2, 2, 2], (1u8..=8).collect()).unwrap()
}

#[test]
fn sums_are_those_of_the_window() {
    // Two inputs, one output: taps of the first input are 1, of the second -1, but for 10 at the last tap.
    let weights = Tensor::new([2, 2, 2, 1], vec![1i8, -1, 1, -1, 1, -1, 10, -1]).unwrap();
    let output = RangedOutput::Wide { has_summand: false };
    let operands = [
        &image(),
        &weights,
        &Tensor::vector(vec![0.5f32]),
        &scalar(0.0),
        &scalar(255.0),
        &scalar(-127.0),
        &scalar(127.0),
    ];
    let results = run(&convolution(false, output), &operands).unwrap();
    // One unit is 1 * 1; half a unit of bias rounds to the even 0. Padding stands behind.
    assert_eq!(results[0], Tensor::new([1, 2, 2, 1], vec![59i32, 0, 0, 0]).unwrap());
    assert_eq!(results[2], scalar((1u64 << 31) as f32));
}

#[test]
fn depthwise_channels_stay_apart_and_are_narrowed() {
    // One filter for each of two inputs, with ranges of their own.
    let weights = Tensor::new([2, 2, 2, 1], vec![1i8, 2, 0, 0, 0, 0, 0, 0]).unwrap();
    let bias = Tensor::vector(vec![0f32, 1.0]);
    let (low, high) = (Tensor::vector(vec![-127f32, -254.0]), Tensor::vector(vec![127f32, 254.0]));
    let output = RangedOutput::Narrow { codes: Codes::Unsigned, summand: None };
    let operands = [&image(), &weights, &bias, &scalar(0.0), &scalar(255.0), &low, &high, &scalar(0.0), &scalar(510.0)];
    let results = run(&convolution(true, output), &operands).unwrap();
    // A step of the result is 2: x / 2 to even, and (4 x + 1) / 2.
    let expected = vec![0u8, 4, 2, 8, 2, 12, 4, 16];
    assert_eq!(results[0], Tensor::new([1, 2, 2, 2], expected).unwrap());
}

#[test]
fn summands_are_added_before_rounding() {
    let weights = Tensor::new([2, 2, 2, 1], vec![1i8, 0, 0, 0, 0, 0, 0, 0]).unwrap();
    let bias = Tensor::vector(vec![-3i32]);
    let summand = Tensor::new([1, 2, 2, 1], vec![10u8, 20, 30, 40]).unwrap();
    let range = [scalar(0.0), scalar(255.0)];
    let output = RangedOutput::Narrow { codes: Codes::Unsigned, summand: Some(Codes::Unsigned) };
    let half = scalar(127.5);
    let image = image();
    let operands = [
        &image,
        &weights,
        &bias,
        &range[0],
        &range[1],
        &scalar(-127.0),
        &scalar(127.0),
        &range[0],
        &range[1],
        &summand,
        &range[0],
        &half,
    ];
    let results = run(&convolution(false, output), &operands).unwrap();
    // x - 3 + s / 2
    assert_eq!(results[0], Tensor::new([1, 2, 2, 1], vec![3u8, 10, 17, 24]).unwrap());
    let error = run(&convolution(false, output), &operands[..10]).unwrap_err();
    assert_eq!(error, OpError::Missing { slot: 9 });
}

#[test]
fn pools_look_at_what_exists() {
    let operands = [&image(), &scalar(0.0), &scalar(1.0)];
    let same = window(2, 1, RangedPadding::Same);
    let max = run(&RangedWork::MaxPool(same, Codes::Unsigned), &operands).unwrap();
    assert_eq!(max[0].as_slice::<u8>().unwrap(), [7, 8, 7, 8, 7, 8, 7, 8]);
    let average = run(&RangedWork::AveragePool(same, Codes::Unsigned), &operands).unwrap();
    assert_eq!(average[0].as_slice::<u8>().unwrap(), [4, 5, 5, 6, 6, 7, 7, 8]);
    let too_large = window(3, 1, RangedPadding::Explicit([0; 4]));
    assert!(run(&RangedWork::MaxPool(too_large, Codes::Unsigned), &operands).is_err());
}

#[test]
fn joined_codes_get_the_range_that_all_need() {
    let codes = |codes: [u8; 2]| Tensor::new([1, 2], codes.to_vec()).unwrap();
    let (a, b, axis) = (codes([100, 255]), codes([7, 8]), Tensor::scalar(-1i32));
    let operands = [&a, &b, &axis, &scalar(0.0), &scalar(0.0), &scalar(1.0), &scalar(2.0)];
    let joined = run(&RangedWork::Join { parts: 2, codes: Codes::Unsigned }, &operands).unwrap();
    assert_eq!(joined[0], Tensor::new([1, 4], vec![50u8, 128, 7, 8]).unwrap());
    assert_eq!(joined[2], scalar(2.0));
    assert!(run(&RangedWork::Join { parts: 2, codes: Codes::Unsigned }, &operands[..6]).is_err());
}

#[test]
fn channels_are_narrowed_by_ranges_of_their_own() {
    let sums = Tensor::new([1, 1, 1, 2], vec![1i32 << 30, -(1 << 29)]).unwrap();
    let (low, high) = (Tensor::vector(vec![-2f32, -8.0]), Tensor::vector(vec![2f32, 8.0]));
    let used = run(&RangedWork::UsedChannelRange(1e30), &[&sums, &low, &high]).unwrap();
    assert_eq!(used, [scalar(-2.0), scalar(2.0)]);
    let narrow = run(&RangedWork::NarrowChannels(Codes::Signed), &[&sums, &low, &high, &used[0], &used[1]]).unwrap();
    assert_eq!(narrow[0].as_slice::<i8>().unwrap(), [64, -127]);
}

#[test]
fn ranges_without_meaning_are_refused() {
    let x = Tensor::vector(vec![1f32]);
    let quantize = RangedWork::Quantize(Codes::Unsigned);
    assert!(run(&quantize, &[&x, &scalar(0.0), &scalar(f32::NAN)]).is_err());
    assert!(run(&quantize, &[&x, &scalar(0.0)]).is_err());
    assert!(run(&quantize, &[&x, &scalar(0.0), &Tensor::vector(vec![1f32, 2.0])]).is_err());
}

/// `Relu`, codes of it in a constant range, a report of them, and reals again.
#[test]
fn graphs_mix_reals_and_codes_and_report() {
    let mut graph = Graph::new();
    let x = graph.add_value(Value::named("x"));
    let constant = |graph: &mut Graph, name: &str, number: f32| {
        let mut value = Value::named(name);
        value.constant = Some(Constant::owned(scalar(number)));
        graph.add_value(value)
    };
    let ends = [constant(&mut graph, "min", 0.0), constant(&mut graph, "max", 255.0)];
    let opaque = |kind: &str| Op::Opaque(Opaque { domain: String::new(), kind: kind.into() });
    let add = |graph: &mut Graph, op: Op, inputs: &[ValueId], outputs: usize| {
        let outputs: Vec<ValueId> = (0..outputs).map(|_| graph.add_value(Value::named("v"))).collect();
        let node = Node {
            name: op.name().to_owned(),
            op,
            inputs: inputs.iter().copied().map(Some).collect(),
            outputs: outputs.iter().copied().map(Some).collect(),
            after: Vec::new(),
            origin: Origin::Synthesized { pass: "test", from: Vec::new() },
        };
        (graph.add_node(node).unwrap(), outputs)
    };
    let (_, relu) = add(&mut graph, Op::Unary(Unary::Relu), &[x], 1);
    let (quantize, codes) = add(&mut graph, opaque("Quantize"), &[relu[0], ends[0], ends[1]], 3);
    let (report, shown) = add(&mut graph, opaque("Report"), &[codes[2], codes[1], codes[2]], 1);
    let (dequantize, reals) = add(&mut graph, opaque("Dequantize"), &[codes[0], codes[1], shown[0]], 1);
    let mut plan = RangedPlan::default();
    plan.nodes.insert(quantize, RangedWork::Quantize(Codes::Unsigned));
    plan.nodes.insert(report, RangedWork::Report);
    assert!(matches!(RangedProgram::new(&graph, &plan, &reals), Err(ExecError::Opaque { .. })));
    plan.nodes.insert(dequantize, RangedWork::Dequantize { codes: Codes::Unsigned, reading: Reading::Scaled });
    let program = RangedProgram::new(&graph, &plan, &reals).unwrap();
    let mut heard = Vec::new();
    let mut listener = |node: NodeId, shown: &[&Tensor]| {
        heard.push((node, shown.iter().map(|tensor| (*tensor).clone()).collect::<Vec<_>>()));
    };
    let fed = [(x, Tensor::vector(vec![-3f32, 1.5, 7.4]))];
    let results = program.run(&fed, &mut listener).unwrap();
    assert_eq!(results, [Tensor::vector(vec![0f32, 2.0, 7.0])]);
    assert_eq!(heard, [(report, vec![scalar(0.0), scalar(255.0)])]);
    assert!(matches!(program.run(&[], &mut |_, _| {}), Err(ExecError::NotFed { .. })));
}
