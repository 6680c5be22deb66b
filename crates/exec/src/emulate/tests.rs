//! What single nodes and short chains of them compute on codes.

use super::*;
use crate::testing::Network;
use quantize_ir::op::{Binary, Concat, Conv, Flatten, Gemm, GlobalPool, Nary, Padding, Rounding, Softmax, Window};
use quantize_ir::{IntegerNode, IntegerWork};
use quantize_numerics::xfdnn::{BitWidth, Flavor, Multiplier, Rescaler};

const EIGHT: BitWidth = BitWidth::Eight;

fn grid(threshold: f64) -> SymmetricGrid {
    SymmetricGrid::new(threshold, EIGHT).unwrap()
}

/// Halves its accumulator, after adding `bias`.
fn halving(bias: i32) -> Rescaler {
    let multiplier = Multiplier { prescale_shift: 0, scale: 1 << 14, postscale_shift: 15 };
    Rescaler::new(Flavor::V3, EIGHT, multiplier, bias).unwrap()
}

fn conv() -> Op {
    let window = Window { strides: vec![], dilations: vec![], padding: Padding::none(), rounding: Rounding::Floor };
    Op::Conv(Conv { window, group: 1, layout: Default::default(), filter: Default::default() })
}

fn product(weight: &[i16], channels: Vec<Rescaler>) -> IntegerWork {
    IntegerWork::Product { weight: weight.into(), channels }
}

fn plan(nodes: Vec<(NodeId, f64, f64, IntegerWork)>) -> IntegerPlan {
    let node = |(id, input, output, work)| (id, IntegerNode { input: grid(input), output: grid(output), work });
    IntegerPlan { nodes: nodes.into_iter().map(node).collect() }
}

fn image(data: &[f32]) -> Tensor {
    Tensor::new(vec![1, 2, 1, data.len() / 2], data.to_vec()).unwrap()
}

#[test]
fn real_operands_are_truncated_and_codes_stay_codes() {
    let mut net = Network::default();
    let x = net.input("x");
    let w = net.constant("w", Tensor::new(vec![2, 2, 1, 1], vec![0f32; 4]).unwrap());
    let a = net.node("a", conv(), &[x, w]);
    let r = net.node("r", Op::Unary(Unary::Relu), &[a]);
    let b = net.node("b", conv(), &[r, w]);
    let (a_node, b_node) = (net.producer(a), net.producer(b));
    let first = product(&[2, 0, 0, 2], vec![halving(0), halving(6)]);
    let second = product(&[0, 2, 2, 0], vec![halving(0); 2]);
    // Codes of 127 stand for 127, 254 and 254: the second layer takes the first one's codes as they are.
    let plan = plan(vec![(a_node, 127.0, 254.0, first), (b_node, 7.0, 254.0, second)]);
    let emulation = Emulation::compile(&net.graph, &[a, b], &plan).unwrap();
    let mut seen = Vec::new();
    let mut observer = |value: ValueId, seen_as: &View<'_>| {
        seen.push((value, seen_as.tensor().unwrap().as_slice::<f32>().unwrap().to_vec()));
    };
    let found = Emulator::new(&emulation).run(&[(x, image(&[5.9, -3.9, 200.0, 0.4]))], &mut observer).unwrap();
    assert_eq!(found[0].as_slice::<f32>().unwrap(), [10.0, -6.0, 254.0, 6.0], "5, -3, 127 and 0 + 3 in steps of 2");
    assert_eq!(found[1].as_slice::<f32>().unwrap(), [254.0, 6.0, 10.0, 0.0], "the channels exchanged after a cut at 0");
    assert_eq!(seen.iter().map(|(v, _)| *v).collect::<Vec<_>>(), [a, r, b]);
}

#[test]
fn operators_without_integer_work_see_reals() {
    let mut net = Network::default();
    let x = net.input("x");
    let w = net.constant("w", Tensor::new(vec![2, 2, 1, 1], vec![0f32; 4]).unwrap());
    let a = net.node("a", conv(), &[x, w]);
    let flat = net.node("flat", Op::Flatten(Flatten { axis: 1 }), &[a]);
    let y = net.node("y", Op::Softmax(Softmax { axis: 1, flatten: false, log: false }), &[flat]);
    let node = net.producer(a);
    let plan = plan(vec![(node, 127.0, 127.0, product(&[2, 0, 0, 2], vec![halving(0); 2]))]);
    let emulation = Emulation::compile(&net.graph, &[y], &plan).unwrap();
    let found = Emulator::new(&emulation).run(&[(x, image(&[3.0, 3.0]))], &mut ()).unwrap();
    assert_eq!(found[0].as_slice::<f32>().unwrap(), [0.5, 0.5]);
}

#[test]
fn raw_codes_are_added_and_compared() {
    for (op, expected) in [(Op::Binary(Binary::Add), [7.0, 2.0]), (Op::Nary(Nary::Max), [5.0, 3.0])] {
        let mut net = Network::default();
        let (x, z) = (net.input("x"), net.input("z"));
        let y = net.node("y", op, &[x, z]);
        let work = IntegerWork::Eltwise(halving(0));
        let plan = plan(vec![(net.producer(y), 127.0, 127.0, work)]);
        let emulation = Emulation::compile(&net.graph, &[y], &plan).unwrap();
        let fed = [(x, Tensor::vector(vec![10f32, 5.0])), (z, Tensor::vector(vec![3f32, -1.5]))];
        let found = Emulator::new(&emulation).run(&fed, &mut ()).unwrap();
        assert_eq!(found[0].as_slice::<f32>().unwrap(), expected, "half of the raw result, half up");
    }
}

#[test]
fn codes_of_different_grids_meet_as_reals() {
    let mut net = Network::default();
    let x = net.input("x");
    let a = net.node("a", Op::Nary(Nary::Max), &[x]);
    let b = net.node("b", Op::Nary(Nary::Max), &[x]);
    let y = net.node("y", Op::Concat(Concat { axis: 0 }), &[a, b]);
    let one = || IntegerWork::Eltwise(Rescaler::new(Flavor::V3, EIGHT, Multiplier::ONE, 0).unwrap());
    let plan = plan(vec![(net.producer(a), 127.0, 127.0, one()), (net.producer(b), 127.0, 254.0, one())]);
    let emulation = Emulation::compile(&net.graph, &[y], &plan).unwrap();
    let found = Emulator::new(&emulation).run(&[(x, Tensor::vector(vec![3f32]))], &mut ()).unwrap();
    assert_eq!(found[0].as_slice::<f32>().unwrap(), [3.0, 6.0]);
}

#[test]
fn averages_are_sums_times_a_multiplier() {
    let mut net = Network::default();
    let x = net.input("x");
    let y = net.node("y", Op::GlobalPool(GlobalPool::Average), &[x]);
    let quarter = Multiplier { prescale_shift: 0, scale: 1, postscale_shift: 2 };
    let work = IntegerWork::AveragePool { channels: vec![quarter, Multiplier::ONE], bits: EIGHT };
    let plan = plan(vec![(net.producer(y), 127.0, 127.0, work)]);
    let emulation = Emulation::compile(&net.graph, &[y], &plan).unwrap();
    let x = [(x, image(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, -8.0]))];
    let found = Emulator::new(&emulation).run(&x, &mut ()).unwrap();
    assert_eq!(
        (found[0].shape(), found[0].as_slice::<f32>().unwrap()),
        ([1, 2, 1, 1].as_slice(), [3.0, 10.0].as_slice())
    );
}

#[test]
fn a_scale_multiplies_shifts_and_saturates() {
    let mut net = Network::default();
    let x = net.input("x");
    let y = net.node("y", Op::Identity, &[x]);
    let work = IntegerWork::ChannelScale {
        factors: vec![2, -4],
        channels: vec![halving(0); 2],
        offsets: vec![100, 1],
        bits: EIGHT,
    };
    let plan = plan(vec![(net.producer(y), 127.0, 127.0, work)]);
    let emulation = Emulation::compile(&net.graph, &[y], &plan).unwrap();
    let found = Emulator::new(&emulation).run(&[(x, image(&[3.0, 90.0, 5.0, -1.0]))], &mut ()).unwrap();
    assert_eq!(found[0].as_slice::<f32>().unwrap(), [103.0, 127.0, -9.0, 3.0]);
}

#[test]
fn limits_move_onto_the_grid_of_the_codes() {
    let mut net = Network::default();
    let x = net.input("x");
    let a = net.node("a", Op::Nary(Nary::Max), &[x]);
    let (lo, hi) = (net.constant("lo", Tensor::scalar(0f32)), net.constant("hi", Tensor::scalar(6f32)));
    let y = net.node("y", Op::Clip, &[a, lo, hi]);
    let one = IntegerWork::Eltwise(Rescaler::new(Flavor::V3, EIGHT, Multiplier::ONE, 0).unwrap());
    let plan = plan(vec![(net.producer(a), 127.0, 508.0, one)]);
    let emulation = Emulation::compile(&net.graph, &[y], &plan).unwrap();
    let fed = [(x, Tensor::vector(vec![-3f32, 1.0, 100.0]))];
    let found = Emulator::new(&emulation).run(&fed, &mut ()).unwrap();
    assert_eq!(found[0].as_slice::<f32>().unwrap(), [0.0, 4.0, 8.0], "6 is 1.5 steps of 4");
}

#[test]
fn matrix_products_and_sums_beyond_24_bits() {
    let mut net = Network::default();
    let x = net.input("x");
    let w = net.constant("w", Tensor::new(vec![2, 600], vec![0f32; 1200]).unwrap());
    let gemm = Op::Gemm(Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: true });
    let y = net.node("y", gemm, &[x, w]);
    let weight: Vec<i16> = (0..1200).map(|i| if i < 600 { 127 } else { i % 2 }).collect();
    let tiny = Multiplier { prescale_shift: 0, scale: 1, postscale_shift: 24 };
    let channels = vec![Rescaler::new(Flavor::V3, EIGHT, tiny, 0).unwrap(), halving(0)];
    let node = net.producer(y);
    let plan = plan(vec![(node, 127.0, 127.0, product(&weight, channels))]);
    let emulation = Emulation::compile(&net.graph, &[y], &plan).unwrap();
    let mut emulator = Emulator::new(&emulation);
    let x = [(x, Tensor::new(vec![1, 600], vec![127f32; 600]).unwrap())];
    let found = emulator.run(&x, &mut ()).unwrap();
    assert_eq!(found[0].as_slice::<f32>().unwrap(), [1.0, 127.0]);
    assert_eq!(emulator.overflows(), &BTreeMap::from([(node, 1)]));
}

#[test]
fn operands_that_do_not_fit_are_errors_that_name_the_node() {
    let mut net = Network::default();
    let (x, z) = (net.input("x"), net.input("z"));
    let y = net.node("y", Op::Binary(Binary::Add), &[x, z]);
    let plan = plan(vec![(net.producer(y), 1.0, 1.0, IntegerWork::Eltwise(halving(0)))]);
    let emulation = Emulation::compile(&net.graph, &[y], &plan).unwrap();
    let fed = [(x, Tensor::vector(vec![1f32])), (z, Tensor::vector(vec![1f32, 2.0]))];
    let error = Emulator::new(&emulation).run(&fed, &mut ()).unwrap_err();
    assert!(matches!(&error, ExecError::Node { node, .. } if node == "y"), "{error}");
    let error = Emulator::new(&emulation).run(&fed[..1], &mut ()).unwrap_err();
    assert_eq!(error, ExecError::NotFed { name: "z".into() });
}
