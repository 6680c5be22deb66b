//! Depthwise convolution against its definition, on every instruction set.

use super::*;
use crate::blocked::{Shape, activate, to_blocked, to_planes};
use crate::testing::{any_axis, any_long_axis, noise, tap_input};
use proptest::prelude::*;

fn check(isa: Isa, batch: usize, channels: usize, window: [Axis; 2], activation: Activation, seed: u64) {
    let [v, h] = window;
    let filter = Filter {
        in_channels: channels,
        out_channels: channels,
        group: channels,
        kernel: window.map(|a| a.kernel),
        stride: window.map(|a| a.stride),
        dilation: window.map(|a| a.dilation),
    };
    let (inputs, outputs, taps) = (v.input * h.input, v.output * h.output, filter.taps());
    let (x, weight) = (noise(seed, batch * channels * inputs), noise(seed + 1, channels * taps));
    let (bias, residual) = (noise(seed + 2, channels), noise(seed + 3, batch * channels * outputs));
    let shape = Shape::new(batch, channels, v.input, h.input, isa.lanes()).unwrap();
    let result = Shape::new(batch, channels, v.output, h.output, isa.lanes()).unwrap();
    let (mut blocks, mut added) = (vec![0.0; shape.len()], vec![0.0; result.len()]);
    to_blocked(isa, shape, &x, &mut blocks).unwrap();
    to_blocked(isa, result, &residual, &mut added).unwrap();
    let packed = PackedDepthwise::new(isa, &filter, &weight, Some(&bias)).unwrap();
    let mut y = vec![f32::NAN; result.len()];
    packed.run(Blocked { shape, data: &blocks }, window, Some(&added), activation, &mut y).unwrap();
    let mut found = vec![0.0; residual.len()];
    to_planes(isa, Blocked { shape: result, data: &y }, &mut found).unwrap();
    for (i, found) in found.iter().enumerate() {
        let (plane, position) = (i / outputs, i % outputs);
        let c = plane % channels;
        let term = |tap| {
            let x = tap_input(&window, position, tap).map_or(0.0, |at| x[plane * inputs + at]);
            f64::from(weight[c * taps + tap]) * f64::from(x)
        };
        let sum: f64 = (0..taps).map(term).sum();
        let mut expected = [(sum + f64::from(bias[c]) + f64::from(residual[i])) as f32];
        activate(Isa::best_from("scalar"), activation, &mut expected);
        let close = (found - expected[0]).abs() <= 2e-7 * (taps as f32 + 4.0);
        assert!(close, "{} {window:?} {channels}: {found} instead of {}", isa.name(), expected[0]);
    }
}

#[test]
fn typical_layers() {
    for (input, kernel, stride) in
        [(19, 3, 1), (20, 3, 2), (23, 5, 2), (14, 5, 1), (7, 7, 1), (27, 7, 1), (9, 3, 3), (2, 5, 1)]
    {
        let pad = kernel / 2;
        let output = (input + 2 * pad - kernel) / stride + 1;
        let axis = Axis { input, kernel, stride, dilation: 1, pad_begin: pad, pad_end: pad, output };
        for isa in Isa::all() {
            check(isa, 2, 21, [axis; 2], Activation::Clamp { lo: 0.0, hi: 6.0 }, 1);
        }
    }
}

#[test]
fn other_filters_are_refused() {
    let ones = [1; 2];
    let filter = Filter { in_channels: 4, out_channels: 8, group: 4, kernel: ones, stride: ones, dilation: ones };
    assert!(PackedDepthwise::new(Isa::active(), &filter, &[0.0; 8], None).is_err());
    let filter = Filter { out_channels: 4, ..filter };
    assert!(PackedDepthwise::new(Isa::active(), &filter, &[0.0; 3], None).is_err());
    assert!(PackedDepthwise::new(Isa::active(), &filter, &[0.0; 4], Some(&[0.0; 3])).is_err());
    assert!(PackedDepthwise::new(Isa::active(), &filter, &[0.0; 4], None).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    #[test]
    fn depthwise_convolutions_match_the_definition(
        batch in 1usize..3, channels in 1usize..40, window in [any_axis(), any_axis()], seed: u64,
    ) {
        Isa::all().for_each(|isa| check(isa, batch, channels, window, Activation::HardSwish, seed));
    }

    #[test]
    fn tiles_of_every_length_match_the_definition(
        channels in 1usize..20, vertical in any_axis(), horizontal in any_long_axis(), seed: u64,
    ) {
        Isa::all().for_each(|isa| check(isa, 1, channels, [vertical, horizontal], Activation::Identity, seed));
    }
}
