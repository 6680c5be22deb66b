//! Depthwise convolution of codes against its definition, bit for bit, on every instruction set.

use super::*;
use crate::codes::{Addition, CodeRange, Dequantize, Grid, Requantize, Residual, Rounding, Sign};
use crate::testing::{any_axis, any_long_axis, gather, noise, spread, tap_input};
use proptest::prelude::*;

const ZERO_POINT: u8 = 131;

fn filter(channels: usize, window: &[Axis; 2]) -> Filter {
    Filter {
        in_channels: channels,
        out_channels: channels,
        group: channels,
        kernel: window.map(|a| a.kernel),
        stride: window.map(|a| a.stride),
        dilation: window.map(|a| a.dilation),
    }
}

/// Codes of which a third are extreme ones.
fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let byte = |(i, x): (usize, f32)| if i % 3 == 0 { [255, 0, 128, 127][i % 4] } else { (x * 128.0 + 128.0) as u8 };
    noise(seed, len).into_iter().enumerate().map(byte).collect()
}

/// Operands on planes, and the definition: sums with the bias.
struct Case {
    channels: usize,
    window: [Axis; 2],
    x: Vec<u8>,
    weight: Vec<i8>,
    bias: Vec<i32>,
    residual: Vec<u8>,
    sums: Vec<i32>,
}

impl Case {
    /// Two images.
    fn new(channels: usize, window: [Axis; 2], seed: u64) -> Self {
        let [v, h] = window;
        let (inputs, outputs, taps) = (v.input * h.input, v.output * h.output, v.kernel * h.kernel);
        let x = bytes(seed, 2 * channels * inputs);
        let weight: Vec<i8> = bytes(seed + 1, channels * taps).into_iter().map(|w| w as i8).collect();
        let bias: Vec<i32> = noise(seed + 2, channels).into_iter().map(|b| (b * 9999.0) as i32).collect();
        let residual = bytes(seed + 3, 2 * channels * outputs);
        let sum = |i: usize| {
            let (plane, position) = (i / outputs, i % outputs);
            let term = |tap| {
                let x = tap_input(&window, position, tap).map_or(ZERO_POINT, |at| x[plane * inputs + at]);
                (i32::from(x) - i32::from(ZERO_POINT)) * i32::from(weight[plane % channels * taps + tap])
            };
            bias[plane % channels] + (0..taps).map(term).sum::<i32>()
        };
        let sums = (0..2 * channels * outputs).map(sum).collect();
        Self { channels, window, x, weight, bias, residual, sums }
    }

    fn requantize(&self, rounding: Rounding) -> Requantize {
        let range = CodeRange { zero_point: 120, lowest: 3, highest: 250 };
        let taps = self.weight.len() as f64 / self.channels as f64;
        let multipliers: Vec<f64> = (0..self.channels).map(|c| 1e-2 / taps.sqrt() * (1.0 + c as f64 / 40.0)).collect();
        Requantize::new(&self.bias, &multipliers, range, rounding).unwrap()
    }

    /// Codes on planes.
    fn codes(&self, isa: Isa, requantize: &Requantize, addition: Option<&Addition>) -> Vec<u8> {
        let [v, h] = self.window;
        let shape = Shape::new(2, self.channels, v.input, h.input, isa.lanes()).unwrap();
        let result = Shape::new(2, self.channels, v.output, h.output, isa.lanes()).unwrap();
        let packed = PackedCodesDepthwise::new(isa, &filter(self.channels, &self.window), &self.weight).unwrap();
        let (x, added) = (spread(&shape, &self.x, 77), spread(&result, &self.residual, 0));
        let mut y = vec![0; result.len()];
        let residual = addition.map(|addition| Residual { addition, codes: &added });
        let output = Output::Codes { requantize, residual, y: &mut y };
        let x = Blocked { shape, data: &x[..] };
        packed.run(x, ZERO_POINT, self.window, output, &mut Buffer::default()).unwrap();
        gather(&result, &y)
    }

    fn reals(&self, isa: Isa, dequantize: &Dequantize) -> Vec<f32> {
        let [v, h] = self.window;
        let shape = Shape::new(2, self.channels, v.input, h.input, isa.lanes()).unwrap();
        let result = Shape::new(2, self.channels, v.output, h.output, isa.lanes()).unwrap();
        let packed = PackedCodesDepthwise::new(isa, &filter(self.channels, &self.window), &self.weight).unwrap();
        let (x, mut y) = (spread(&shape, &self.x, 77), vec![0.0; result.len()]);
        let output = Output::Reals { dequantize, y: &mut y };
        let x = Blocked { shape, data: &x[..] };
        packed.run(x, ZERO_POINT, self.window, output, &mut Buffer::default()).unwrap();
        gather(&result, &y)
    }

    fn check(&self) {
        let channel = |i: usize| i / (self.window[0].output * self.window[1].output) % self.channels;
        let grid = |scale, zero_point| Grid { scale, zero_point };
        let addition = Addition::new(Sign::Signed, grid(0.02, 120), grid(0.03, 7), 0.04, CodeRange::full(99)).unwrap();
        let scales: Vec<f32> = (0..self.channels).map(|c| 0.01 + c as f32 / 7.0).collect();
        let dequantize = Dequantize::new(&self.bias, &scales).unwrap();
        let reals: Vec<f32> = self.sums.iter().enumerate().map(|(i, sum)| *sum as f32 * scales[channel(i)]).collect();
        for rounding in [Rounding::FloatHalfEven, Rounding::FixedPoint] {
            let requantize = self.requantize(rounding);
            let codes: Vec<u8> =
                self.sums.iter().enumerate().map(|(i, sum)| requantize.code(channel(i), *sum)).collect();
            let added: Vec<u8> = codes.iter().zip(&self.residual).map(|(a, b)| addition.code(*a, *b)).collect();
            for isa in Isa::all() {
                let case = format!("{} {:?} {} {rounding:?}", isa.name(), self.window, self.channels);
                assert_eq!(self.codes(isa, &requantize, None), codes, "{case}");
                assert_eq!(self.codes(isa, &requantize, Some(&addition)), added, "{case}");
            }
        }
        for isa in Isa::all() {
            assert_eq!(self.reals(isa, &dequantize), reals, "{} {:?} {}", isa.name(), self.window, self.channels);
        }
    }
}

fn same_padding(input: usize, kernel: usize, stride: usize) -> Axis {
    let pad = kernel / 2;
    let output = (input + 2 * pad - kernel) / stride + 1;
    Axis { input, kernel, stride, dilation: 1, pad_begin: pad, pad_end: pad, output }
}

#[test]
fn typical_layers_match_the_definition() {
    for (input, kernel, stride) in [
        (19, 3, 1),
        (20, 3, 2),
        (56, 3, 1),
        (7, 3, 1),
        (23, 5, 2),
        (14, 5, 1),
        (9, 7, 1),
        (9, 3, 3),
        (2, 5, 1),
        (6, 1, 1),
    ] {
        Case::new(21, [same_padding(input, kernel, stride); 2], 1).check();
    }
}

#[test]
fn bands_of_a_large_plane_fit_together() {
    Case::new(5, [same_padding(300, 3, 1), same_padding(64, 3, 2)], 2).check();
    Case::new(5, [same_padding(300, 3, 2), same_padding(64, 7, 1)], 3).check();
}

#[test]
fn operands_that_do_not_belong_together_are_errors() {
    let isa = Isa::active();
    let ones = [1; 2];
    let filter = Filter { in_channels: 4, out_channels: 8, group: 4, kernel: ones, stride: ones, dilation: ones };
    assert!(PackedCodesDepthwise::new(isa, &filter, &[0; 8]).is_err());
    let filter = Filter { out_channels: 4, ..filter };
    assert!(PackedCodesDepthwise::new(isa, &filter, &[0; 3]).is_err());
    let packed = PackedCodesDepthwise::new(isa, &filter, &[1; 4]).unwrap();
    let wide = Filter { kernel: [1, 65_794], ..filter };
    let overflow = PackedCodesDepthwise::new(isa, &wide, &vec![-128; 4 * 65_794]);
    assert_eq!(overflow.map(|_| ()), Err(KernelError::Overflow { largest_input: 255 }));
    let shape = Shape::new(1, 4, 1, 1, isa.lanes()).unwrap();
    let (x, mut y, mut scratch) = (vec![0; shape.len()], vec![0; shape.len()], Buffer::default());
    let three = Requantize::new(&[0; 3], &[1.0; 3], CodeRange::full(0), Rounding::FloatHalfEven).unwrap();
    let four = Requantize::new(&[0; 4], &[1.0; 4], CodeRange::full(0), Rounding::FloatHalfEven).unwrap();
    let mut run = |requantize: &Requantize, window: [Axis; 2], shape: Shape, y: &mut [u8]| {
        let output = Output::Codes { requantize, residual: None, y };
        packed.run(Blocked { shape, data: &x[..] }, 0, window, output, &mut scratch)
    };
    assert!(run(&four, [Axis::UNIT; 2], shape, &mut y).is_ok());
    assert!(run(&three, [Axis::UNIT; 2], shape, &mut y).is_err());
    assert!(run(&four, [Axis { kernel: 2, ..Axis::UNIT }; 2], shape, &mut y).is_err());
    assert!(run(&four, [Axis::UNIT; 2], Shape { lanes: 4, ..shape }, &mut y).is_err());
    assert!(run(&four, [Axis::UNIT; 2], shape, &mut y[1..]).is_err());
}

#[test]
fn taps_too_far_apart_are_refused_before_memory_is_asked_for() {
    const FAR: usize = 1 << 40;
    let axis = Axis { input: 3, kernel: 3, stride: 1, dilation: FAR, pad_begin: FAR, pad_end: FAR, output: 3 };
    let window = [axis, same_padding(3, 3, 1)];
    for isa in Isa::all() {
        let packed = PackedCodesDepthwise::new(isa, &filter(4, &window), &[1; 36]).unwrap();
        let shape = Shape::new(1, 4, 3, 3, isa.lanes()).unwrap();
        let requantize = Requantize::new(&[0; 4], &[1.0; 4], CodeRange::full(0), Rounding::FloatHalfEven).unwrap();
        let (x, mut y) = (vec![0; shape.len()], vec![0; shape.len()]);
        let output = Output::Codes { requantize: &requantize, residual: None, y: &mut y };
        let result = packed.run(Blocked { shape, data: &x[..] }, 0, window, output, &mut Buffer::default());
        assert_eq!(result, Err(KernelError::TooLarge("bordered input")));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_window_matches_the_definition(channels in 1usize..40, window in [any_axis(), any_axis()], seed: u64) {
        Case::new(channels, window, seed).check();
    }

    #[test]
    fn quads_match_the_definition(
        channels in 1usize..20, vertical in any_axis(), horizontal in any_long_axis(), seed: u64,
    ) {
        Case::new(channels, [vertical, horizontal], seed).check();
    }
}
