//! Whole walks through small networks.

use super::*;
use crate::layer::BIAS;
use crate::testing::Net;
use quantize_ir::op::Gemm;
use quantize_ir::{Blocks, Decision, NodePlan, Op, QuantParams, QuantType, ScaleIndex, Spread, WeightPlan};
use quantize_numerics::groups::least_error_params;
use std::collections::BTreeMap;
use std::sync::Arc;

struct Given(Vec<(ValueId, Tensor)>);

impl Samples for Given {
    type Error = OptimizeError;

    fn count(&self) -> usize {
        self.0.len()
    }

    fn sample(&self, index: usize) -> Result<Vec<(ValueId, Tensor)>, OptimizeError> {
        Ok(vec![self.0[index].clone()])
    }

    fn failed(&self, error: OptimizeError) -> OptimizeError {
        error
    }
}

const ALL: Steps = Steps { rounding: true, gain: true, bias: true };

/// Two convolutions of a few channels with an activation between, and images of correlated channels.
fn network() -> (Net, ValueId, Given) {
    let wave = |i: usize| ((i * 7919 % 997) as f32 / 997.0 - 0.45) * 2.0;
    let weights = |count: usize| (0..count).map(|i| wave(3 * i + 1)).collect::<Vec<f32>>();
    let mut net = Net::new();
    let x = net.input("x");
    let a = net.conv("first", x, &[6, 4, 1, 1], &weights(24), Some(&[0.1; 6]));
    let r = net.relu("relu", a);
    let b = net.conv("second", r, &[5, 6, 1, 1], &weights(30), None);
    let c = net.conv("third", b, &[3, 5, 1, 1], &weights(15), Some(&[0.0; 3]));
    net.outputs(&[c]);
    let image = |n: usize| {
        let pixel = |i: usize| wave(11 * (i % 900) + n) + 0.5 * wave(i / 900 + 5 * n);
        (x, Tensor::new([1, 4, 30, 30], (0..3600).map(pixel).collect::<Vec<f32>>()).unwrap())
    };
    (net, c, Given((0..12).map(image).collect()))
}

static NONE: BTreeSet<NodeId> = BTreeSet::new();

fn options(steps: Steps, threads: usize) -> WalkOptions<'static> {
    WalkOptions {
        steps,
        fixed: &NONE,
        inputs: LayerInputs::Rounded,
        coded_bias: true,
        constants: Constants::Resident,
        threads,
    }
}

/// Mean square difference of the simulated result and the fp32 one.
fn noise(net: &Net, result: ValueId, graph: &Graph, plan: &QuantPlan, samples: &Given) -> f64 {
    let fp32 = Program::compile(&net.graph, &[result]).unwrap();
    let quantized = Program::simulate(graph, &[result], plan).unwrap();
    let (mut sum, mut count) = (0.0, 0.0);
    for sample in &samples.0 {
        let fed = std::slice::from_ref(sample);
        let y = Session::new(&fp32).run(fed, &mut ()).unwrap();
        let q = Session::new(&quantized).run(fed, &mut ()).unwrap();
        for (y, q) in y[0].as_slice::<f32>().unwrap().iter().zip(q[0].as_slice::<f32>().unwrap()) {
            sum += f64::from(y - q).powi(2);
            count += 1.0;
        }
    }
    sum / count
}

#[test]
fn a_coarse_network_gets_better_with_every_step() {
    let (net, result, samples) = network();
    // Scales eight times too large: weights of four bits.
    let plan = net.plan_within(8.0, 4.0);
    let mut before = noise(&net, result, &net.graph, &plan, &samples);
    let gain = Steps { rounding: false, ..ALL };
    for steps in [Steps { gain: false, ..gain }, gain, ALL] {
        let walked = walk(&net.graph, &plan, &[result], &samples, &options(steps, 1), &Silent).unwrap();
        let after = noise(&net, result, &walked.graph, &walked.plan, &samples);
        assert!(after < before, "{steps:?}: {after} after {before}");
        before = after;
    }
}

#[test]
fn what_is_left_of_a_mean_is_chance() {
    let (net, result, samples) = network();
    let steps = Steps { rounding: false, ..ALL };
    let plan = net.plan_within(8.0, 4.0);
    let walked = walk(&net.graph, &plan, &[result], &samples, &options(steps, 1), &Silent).unwrap();
    let codes = walked.plan.weights.clone();
    let biases =
        |node| -> Vec<f64> { codes[&(node, BIAS)].params.scale().iter().map(|step| 0.5 * f64::from(*step)).collect() };
    let again = Steps { rounding: false, gain: false, bias: true };
    // Walking the corrected network against the original one finds no more than chance.
    let mut walker = Walker {
        reference: &net.graph,
        samples: &samples,
        options: &options(again, 1),
        walked: Walked { changes: Vec::new(), ..walked },
        images: Vec::new(),
        room: vec![samples.count(); 4],
    };
    for (index, stage) in stages(&net.graph, &plan, &[result], &NONE).unwrap().iter().enumerate() {
        walker.admit(index, stage).unwrap();
        let computed: Vec<ValueId> = stage.after.iter().copied().filter(|v| !stage.before.contains(v)).collect();
        let images = walker.advance_reals(stage, &computed, stage.layer.as_ref()).unwrap();
        for (c, pair) in Moments::total(&images).0.iter().enumerate() {
            let ((y, q), deviation) = (pair.means(), (pair.spread() / pair.count).sqrt());
            let chance = crate::correction::standard_error(images.iter().map(|image| {
                let (y, q) = image.0[c].means();
                y - q
            }));
            let left = (y - q).abs();
            let step = biases(stage.layer.as_ref().unwrap().node)[c];
            assert!(left <= chance + step + 1e-4 * deviation, "{:?}: {left} of {deviation}", stage.layer);
        }
        walker.advance_rounded(stage, &computed).unwrap();
    }
}

#[test]
fn nothing_is_lost_so_nothing_is_changed() {
    let (net, result, samples) = network();
    let exact = |plan: QuantPlan| QuantPlan { activations: BTreeMap::new(), ..plan };
    // Weights that are multiples of their scales, and activations in fp32.
    let mut plan = exact(net.plan(1.0));
    let mut graph = net.graph.clone();
    for (&(node, slot), entry) in plan.weights.iter_mut().filter(|((_, slot), _)| *slot == WEIGHT) {
        let codes: Vec<i32> = entry.codes.as_slice::<i8>().unwrap().iter().map(|q| i32::from(*q)).collect();
        let back = entry.params.quantizers(entry.codes.shape()).unwrap().dequantize(&codes);
        let value = graph.node(node).unwrap().input(slot).unwrap();
        let tensor = Tensor::new(entry.codes.shape(), back).unwrap();
        graph.value_mut(value).constant = Some(quantize_ir::Constant::owned(tensor));
    }
    plan.weights.retain(|(_, slot), _| *slot == WEIGHT);
    let walked = walk(&graph, &plan, &[result], &samples, &options(ALL, 1), &Silent).unwrap();
    for change in &walked.changes {
        assert!(change.codes == 0 && change.before_db > 100.0, "{change:?}");
        assert!((change.gains.0 - 1.0).abs() < 1e-6 && (change.gains.1 - 1.0).abs() < 1e-6, "{change:?}");
    }
}

#[test]
fn a_scale_that_is_wrong_is_put_right() {
    let (net, result, samples) = network();
    let mut plan = net.plan(1.0);
    let key = (net.id("second"), WEIGHT);
    let right = plan.weights[&key].params.scale().to_vec();
    let weak = right.iter().map(|s| 0.9 * s).collect();
    let entry = plan.weights.get_mut(&key).unwrap();
    entry.params = QuantParams::per_channel(entry.params.qtype(), 0, weak).unwrap();
    let steps = Steps { rounding: false, ..ALL };
    let walked = walk(&net.graph, &plan, &[result], &samples, &options(steps, 1), &Silent).unwrap();
    for (found, right) in walked.plan.weights[&key].params.scale().iter().zip(right) {
        assert!((found / right - 1.0).abs() < 2e-2, "{found} for {right}");
    }
}

#[test]
fn threads_do_not_show() {
    let (net, result, samples) = network();
    let plan = net.plan_within(8.0, 4.0);
    let walked = |threads| {
        let walked = walk(&net.graph, &plan, &[result], &samples, &options(ALL, threads), &Silent).unwrap();
        (walked.plan, walked.changes)
    };
    let one = walked(1);
    assert_eq!(walked(2), one);
    assert_eq!(walked(7), one);
}

#[test]
fn a_layer_without_a_bias_gets_one() {
    let (net, result, samples) = network();
    let steps = Steps { rounding: false, gain: false, bias: true };
    let plan = net.plan_within(8.0, 4.0);
    let walked = walk(&net.graph, &plan, &[result], &samples, &options(steps, 1), &Silent).unwrap();
    let node = walked.graph.node(net.id("second")).unwrap();
    assert!(node.input(BIAS).is_some() && walked.plan.weights.contains_key(&(net.id("second"), BIAS)));
}

#[test]
fn codes_stay_when_a_walk_starts_from_those_of_another() {
    let (net, result, samples) = network();
    let plan = net.plan_within(8.0, 4.0);
    let walked = walk(&net.graph, &plan, &[result], &samples, &options(ALL, 1), &Silent).unwrap();
    let start = walked.codes_on(&plan);
    let key = (net.id("second"), WEIGHT);
    assert_eq!(start.weights[&key].params, plan.weights[&key].params);
    assert_ne!(start.weights[&key].codes, plan.weights[&key].codes);
    let steps = Steps { rounding: false, ..ALL };
    let again = walk(&net.graph, &start, &[result], &samples, &options(steps, 1), &Silent).unwrap();
    for (key, entry) in &walked.plan.weights {
        assert_eq!((&again.plan.weights[key].codes, &again.plan.weights[key].params), (&entry.codes, &entry.params));
    }
}

#[test]
fn a_fixed_layer_stays_and_is_answered_behind() {
    let (net, result, samples) = network();
    let plan = net.plan_within(8.0, 4.0);
    let first = net.id("first");
    let fixed = BTreeSet::from([first]);
    let options = WalkOptions { fixed: &fixed, ..options(ALL, 1) };
    let walked = walk(&net.graph, &plan, &[result], &samples, &options, &Silent).unwrap();
    assert!(walked.changes.iter().all(|change| change.node != "first") && walked.changes.len() == 2);
    assert_eq!(walked.plan.weights[&(first, WEIGHT)], plan.weights[&(first, WEIGHT)]);
    let before = noise(&net, result, &net.graph, &plan, &samples);
    assert!(noise(&net, result, &walked.graph, &walked.plan, &samples) < before);
}

/// Two products of tokens whose features are mixtures of a few, with 4-bit weights in groups.
#[test]
fn products_of_reals_get_better_codes_and_gains() {
    let wave = |i: usize| ((i * 7919 % 997) as f32 / 997.0 - 0.45) * 2.0;
    let mut net = Net::new();
    let x = net.input("x");
    let weight = |net: &mut Net, name: &str, shape: [usize; 2], seed: usize| {
        let values = (0..shape[0] * shape[1]).map(|i| wave(13 * i + seed)).collect::<Vec<f32>>();
        net.constant(name, Tensor::new(shape, values).unwrap())
    };
    let (w, v) = (weight(&mut net, "w", [40, 24], 1), weight(&mut net, "v", [6, 24], 5));
    let hidden = net.node("up", Op::MatMul, &[x, w]);
    let hidden = net.relu("relu", hidden);
    let gemm = Op::Gemm(Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: true });
    let y = net.node("down", gemm, &[hidden, v]);
    net.outputs(&[y]);
    let mut plan = QuantPlan::default();
    for (name, axis) in [("up", 0), ("down", 1)] {
        let id = net.id(name);
        let value = net.graph.node(id).unwrap().input(WEIGHT).unwrap();
        let entry = grouped(&net.graph.constant(value).unwrap().unwrap(), Blocks { axis, size: 16 });
        plan.weights.insert((id, WEIGHT), entry);
        plan.nodes.insert(id, NodePlan { decision: Decision::WeightOnly });
    }
    let mixed = |row: usize, k: usize| (0..5).map(|j| wave(97 * row + j) * wave(31 * k + 7 * j)).sum::<f32>();
    let sample = |n: usize| {
        let values = (0..20 * 40).map(|i| mixed(20 * n + i / 40, i % 40)).collect::<Vec<f32>>();
        (x, Tensor::new([20, 40], values).unwrap())
    };
    let samples = Given((0..10).map(sample).collect());
    let walked = walk(&net.graph, &plan, &[y], &samples, &options(ALL, 1), &Silent).unwrap();
    assert_eq!(walked.changes.len(), 2);
    assert!(walked.changes.iter().all(|change| change.codes > 0), "{:?}", walked.changes);
    let before = noise(&net, y, &net.graph, &plan, &samples);
    let after = noise(&net, y, &walked.graph, &walked.plan, &samples);
    assert!(after < 0.4 * before, "{after} after {before}");
    let many = walk(&net.graph, &plan, &[y], &samples, &options(ALL, 3), &Silent).unwrap();
    assert_eq!((many.plan, many.changes), (walked.plan, walked.changes));
}

fn grouped(weight: &Tensor, blocks: Blocks) -> WeightPlan {
    let index = ScaleIndex::of(Spread::Blocks(blocks), weight.shape()).unwrap();
    let values = weight.as_slice::<f32>().unwrap();
    let mut groups = vec![Vec::new(); index.scales()];
    values.iter().enumerate().for_each(|(i, w)| groups[index.scale_of(i)].push(*w));
    let fitted = groups.iter().map(|group| least_error_params(group, QuantType::U4).unwrap());
    let (scale, zero) = fitted.map(|grid| (grid.scale(), grid.zero_point())).unzip();
    let params = QuantParams::blocked(QuantType::U4, blocks, scale, zero).unwrap();
    let codes = params.quantizers(weight.shape()).unwrap().quantize(values);
    let codes = Tensor::new(weight.shape(), codes.iter().map(|q| *q as u8).collect::<Vec<_>>()).unwrap();
    WeightPlan { params, codes: Arc::new(codes), sqnr_db: 0.0 }
}
