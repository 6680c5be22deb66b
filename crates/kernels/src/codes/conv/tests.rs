//! The convolution against its definition, bit for bit, on every instruction set.

use super::*;
use crate::codes::{Addition, CodeRange, Dequantize, Grid, Requantize, Residual, Rounding, Sign};
use crate::testing::{any_axis, gather, noise, spread, tap_input};
use proptest::prelude::*;

/// What becomes of the sums.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Finish {
    Float,
    Fixed,
    Added,
    Reals,
}

const FINISHES: [Finish; 4] = [Finish::Float, Finish::Fixed, Finish::Added, Finish::Reals];

/// A case in numbers: everything else is noise.
#[derive(Clone, Debug)]
struct Case {
    batch: usize,
    filter: Filter,
    window: [Axis; 2],
    narrow: bool,
    zero_point: u8,
    finish: Finish,
}

/// Operands on planes.
struct Operands {
    x: Vec<u8>,
    weight: Vec<i8>,
    bias: Vec<i32>,
    residual: Vec<u8>,
}

impl Case {
    fn new(in_channels: usize, out_channels: usize, group: usize, window: [Axis; 2]) -> Self {
        let filter = Filter {
            in_channels,
            out_channels,
            group,
            kernel: window.map(|a| a.kernel),
            stride: window.map(|a| a.stride),
            dilation: window.map(|a| a.dilation),
        };
        Self { batch: 1, filter, window, narrow: false, zero_point: 131, finish: Finish::Float }
    }

    fn depth(&self) -> usize {
        self.filter.in_channels / self.filter.group * self.filter.kernel[0] * self.filter.kernel[1]
    }

    /// A third of the codes and weights are the extreme ones.
    fn operands(&self, seed: u64) -> Operands {
        let f = &self.filter;
        let [v, h] = self.window;
        let bytes = |seed, len: usize| -> Vec<u8> {
            let bytes = noise(seed, len).into_iter().enumerate();
            let byte = |(i, x): (usize, f32)| match i % 6 {
                0 => 255,
                3 => [0, 128, 127][i % 3],
                _ => (x * 128.0 + 128.0) as u8,
            };
            bytes.map(byte).collect()
        };
        Operands {
            x: bytes(seed, self.batch * f.in_channels * v.input * h.input),
            weight: bytes(seed + 1, f.out_channels * self.depth()).into_iter().map(|w| w as i8).collect(),
            bias: noise(seed + 2, f.out_channels).into_iter().map(|b| (b * 9999.0) as i32).collect(),
            residual: bytes(seed + 3, self.batch * f.out_channels * v.output * h.output),
        }
    }

    /// The definition: sums with the bias, on planes, in 64 bits.
    fn sums(&self, operands: &Operands) -> Vec<i32> {
        let f = &self.filter;
        let (group_in, group_out) = (f.in_channels / f.group, f.out_channels / f.group);
        let [v, h] = self.window;
        let (inputs, outputs, taps) = (v.input * h.input, v.output * h.output, f.kernel[0] * f.kernel[1]);
        let reads: Vec<Option<usize>> =
            (0..outputs * taps).map(|i| tap_input(&self.window, i / taps, i % taps)).collect();
        let mut sums = Vec::new();
        for (n, oc) in (0..self.batch).flat_map(|n| (0..f.out_channels).map(move |oc| (n, oc))) {
            for position in 0..outputs {
                let mut sum = i64::from(operands.bias[oc]);
                for (ic, tap) in (0..group_in).flat_map(|ic| (0..taps).map(move |t| (ic, t))) {
                    let plane = n * f.in_channels + oc / group_out * group_in + ic;
                    if let Some(i) = reads[position * taps + tap] {
                        let x = i64::from(operands.x[plane * inputs + i]) - i64::from(self.zero_point);
                        sum += x * i64::from(operands.weight[(oc * group_in + ic) * taps + tap]);
                    }
                }
                sums.push(i32::try_from(sum).unwrap());
            }
        }
        sums
    }

    fn requantize(&self, bias: &[i32]) -> Requantize {
        let spread = 2.5 * 74.0 * 74.0 * (self.depth().max(1) as f64).sqrt();
        let multipliers: Vec<f64> = (0..bias.len()).map(|c| 128.0 / spread * (1.0 + c as f64 / 40.0)).collect();
        let rounding = if self.finish == Finish::Fixed { Rounding::FixedPoint } else { Rounding::FloatHalfEven };
        let range = CodeRange { zero_point: 120, lowest: 3, highest: 250 };
        Requantize::new(bias, &multipliers, range, rounding).unwrap()
    }

    fn addition() -> Addition {
        let grid = |scale, zero_point| Grid { scale, zero_point };
        Addition::new(Sign::Signed, grid(0.02, 120), grid(0.03, 7), 0.04, CodeRange::full(99)).unwrap()
    }

    fn check(&self, isa: Isa, seed: u64) {
        let operands = self.operands(seed);
        let sums = self.sums(&operands);
        let [v, h] = self.window;
        let x_lanes = if self.narrow && self.filter.in_channels <= 4 { 4 } else { isa.lanes() };
        let x_shape = Shape::new(self.batch, self.filter.in_channels, v.input, h.input, x_lanes).unwrap();
        let y_shape = Shape::new(self.batch, self.filter.out_channels, v.output, h.output, isa.lanes()).unwrap();
        let packed =
            PackedCodesConv::new(isa, &self.filter, &operands.weight).unwrap().expect("blocks suit the filter");
        let data = spread(&x_shape, &operands.x, 77);
        let x = Blocked { shape: x_shape, data: &data };
        let mut scratch = Buffer::from(&[9; 5][..]);
        let channel = |i: usize| i / y_shape.positions().max(1) % y_shape.channels;
        if self.finish == Finish::Reals {
            let scales: Vec<f32> = (0..operands.bias.len()).map(|c| 0.1 + c as f32).collect();
            let dequantize = Dequantize::new(&operands.bias, &scales).unwrap();
            let mut y = Buffer::from(&vec![f32::NAN; y_shape.len()][..]);
            let output = Output::Reals { dequantize: &dequantize, y: &mut y };
            packed.run(x, self.zero_point, self.window, output, &mut scratch).unwrap();
            let expected: Vec<f32> = sums.iter().enumerate().map(|(i, s)| *s as f32 * scales[channel(i)]).collect();
            assert_eq!(gather(&y_shape, &y), expected, "{} {self:?}", isa.name());
            return;
        }
        let (requantize, addition) = (self.requantize(&operands.bias), Self::addition());
        let added = spread(&y_shape, &operands.residual, 55);
        let residual = (self.finish == Finish::Added).then_some(Residual { addition: &addition, codes: &added });
        let mut y = Buffer::from(&vec![1; y_shape.len()][..]);
        let output = Output::Codes { requantize: &requantize, residual, y: &mut y };
        packed.run(x, self.zero_point, self.window, output, &mut scratch).unwrap();
        let code = |(i, sum): (usize, &i32)| {
            let code = requantize.code(channel(i), *sum);
            if residual.is_some() { addition.code(code, operands.residual[i]) } else { code }
        };
        let expected: Vec<u8> = sums.iter().enumerate().map(code).collect();
        assert_eq!(gather(&y_shape, &y), expected, "{} {self:?}", isa.name());
    }

    fn check_everywhere(&self, seed: u64) {
        for isa in Isa::all() {
            for finish in FINISHES {
                Self { finish, ..self.clone() }.check(isa, seed);
            }
        }
    }
}

fn same(input: usize, kernel: usize, stride: usize) -> Axis {
    let pad = kernel / 2;
    let output = (input + 2 * pad - kernel) / stride + 1;
    Axis { input, kernel, stride, dilation: 1, pad_begin: pad, pad_end: pad, output }
}

#[test]
fn typical_layers_are_exact() {
    let unequal = Axis { input: 9, kernel: 3, stride: 2, dilation: 2, pad_begin: 1, pad_end: 2, output: 4 };
    let cases = [
        ("pointwise", 24, 40, 1, [same(14, 1, 1); 2]),
        ("pointwise with stride", 33, 16, 1, [same(15, 1, 2); 2]),
        ("pointwise, more pixels than a part", 600, 8, 1, [same(30, 1, 1); 2]),
        ("stem", 3, 33, 1, [same(33, 7, 2); 2]),
        ("more rows than a band", 400, 3, 1, [same(40, 3, 1), same(31, 3, 1)]),
        ("narrow rows", 20, 34, 1, [same(7, 3, 1); 2]),
        ("aligned groups", 64, 96, 2, [same(9, 3, 1); 2]),
        ("small groups in bundles", 32, 64, 8, [same(9, 3, 1); 2]),
        ("all groups in a bundle", 6, 9, 3, [same(9, 3, 1); 2]),
        ("unequal padding and dilation", 3, 9, 1, [unequal; 2]),
        ("one axis", 18, 20, 1, [Axis::UNIT, same(50, 5, 1)]),
        ("fully connected", 300, 70, 1, [Axis::UNIT; 2]),
        ("kernel as large as the input", 5, 34, 1, [Axis { output: 1, pad_begin: 0, pad_end: 0, ..same(5, 5, 1) }; 2]),
    ];
    for (name, in_channels, out_channels, group, window) in cases {
        let case = Case { batch: 2, ..Case::new(in_channels, out_channels, group, window) };
        let result = std::panic::catch_unwind(|| case.check_everywhere(5));
        assert!(result.is_ok(), "{name}");
        Case { narrow: true, ..case }.check_everywhere(6);
    }
}

#[test]
fn extreme_codes_and_weights_do_not_saturate() {
    for (isa, weight) in Isa::all().flat_map(|isa| [-128i8, 127].map(|w| (isa, w))) {
        let channels = i32::MAX as usize / 255 / 128;
        let case = Case::new(channels, 2, 1, [Axis::UNIT; 2]);
        let packed = PackedCodesConv::new(isa, &case.filter, &vec![weight; 2 * channels]).unwrap().unwrap();
        let dequantize = Dequantize::new(&[0, 7], &[1.0, 1.0]).unwrap();
        for (code, zero_point) in [(255, 0), (0, 255), (255, 255), (255, 128)] {
            let shape = Shape::new(1, channels, 1, 1, isa.lanes()).unwrap();
            let x = Blocked { shape, data: &vec![code; shape.len()] };
            let mut y = vec![0.0; isa.lanes()];
            let output = Output::Reals { dequantize: &dequantize, y: &mut y };
            packed.run(x, zero_point, case.window, output, &mut Buffer::default()).unwrap();
            let sum = (i32::from(code) - i32::from(zero_point)) * i32::from(weight) * channels as i32;
            assert_eq!(y[..2], [sum as f32, (sum + 7) as f32], "{}", isa.name());
        }
        assert!(
            PackedCodesConv::new(
                isa,
                &Case::new(channels + 1, 2, 1, case.window).filter,
                &vec![-128; 2 * channels + 2]
            )
            .unwrap()
            .is_none()
        );
    }
}

#[test]
fn operands_that_do_not_belong_together_are_errors() {
    let isa = Isa::active();
    let case = Case::new(3, 2, 1, [same(4, 3, 1); 2]);
    assert!(PackedCodesConv::new(isa, &case.filter, &[0; 53]).is_err());
    assert!(PackedCodesConv::new(isa, &Filter { group: 2, ..case.filter }, &[0; 54]).is_err());
    let packed = PackedCodesConv::new(isa, &case.filter, &[1; 54]).unwrap().unwrap();
    let shape = Shape::new(1, 3, 4, 4, isa.lanes()).unwrap();
    let data = vec![0; shape.len()];
    let x = Blocked { shape, data: &data };
    let run = |x, window, channels: usize, len, added: usize| {
        let requantize =
            Requantize::new(&vec![0; channels], &vec![1.0; channels], CodeRange::full(0), Rounding::FixedPoint);
        let (requantize, addition, mut y) = (requantize.unwrap(), Case::addition(), vec![0; len]);
        let codes = vec![0; added];
        let residual = Some(Residual { addition: &addition, codes: &codes });
        packed.run(x, 0, window, Output::Codes { requantize: &requantize, residual, y: &mut y }, &mut Buffer::default())
    };
    let len = 16 * isa.lanes();
    assert_eq!(run(x, case.window, 2, len, len), Ok(()));
    assert!(run(x, case.window, 3, len, len).is_err());
    assert!(run(x, case.window, 2, len, len - 1).is_err());
    assert!(run(x, case.window, 2, len - 1, len - 1).is_err());
    assert!(run(x, [same(4, 3, 2); 2], 2, len, len).is_err());
    assert!(run(Blocked { data: &data[1..], ..x }, case.window, 2, len, len).is_err());
    assert!(run(Blocked { shape: Shape { lanes: 5, ..shape }, ..x }, case.window, 2, len, len).is_err());
}

#[test]
fn filters_that_do_not_map_to_blocks_are_left_to_others() {
    for isa in Isa::all() {
        let depthwise = Case::new(32, 32, 32, [same(4, 3, 1); 2]);
        assert!(PackedCodesConv::new(isa, &depthwise.filter, &[0; 288]).unwrap().is_none());
    }
}

#[test]
fn empty_operands_give_the_bias_or_nothing() {
    Case::new(0, 5, 1, [same(3, 3, 1); 2]).check_everywhere(1);
    Case::new(0, 5, 1, [same(3, 1, 1); 2]).check_everywhere(1);
    Case { batch: 0, ..Case::new(4, 5, 1, [same(3, 3, 1); 2]) }.check_everywhere(1);
    Case::new(4, 0, 1, [same(3, 3, 1); 2]).check_everywhere(1);
    Case::new(4, 3, 1, [Axis { output: 0, ..same(3, 3, 1) }; 2]).check_everywhere(1);
    let padding_only = Axis { input: 0, pad_begin: 3, output: 2, ..same(3, 2, 1) };
    Case::new(4, 3, 1, [padding_only; 2]).check_everywhere(1);
}

/// Channels of groups that map to blocks of any instruction set.
fn any_channels() -> impl Strategy<Value = (usize, usize, usize)> {
    prop_oneof![
        (1usize..70, 1usize..70, Just(1usize)),
        (1usize..4, 2usize..4, 1usize..8).prop_map(|(i, o, g)| (i * g, o * g, g)),
        (1usize..3, 1usize..3, 2usize..4).prop_map(|(i, o, g)| (16 * i * g, 16 * o * g, g)),
        (1usize..3, 1usize..3, 1usize..3).prop_map(|(i, o, g)| (4 * i * 4 * g, 8 * o * 4 * g, 4 * g)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn convolutions_match_the_definition(
        batch in 1usize..3, channels in any_channels(), window in [any_axis(), any_axis()],
        wide in 0usize..40, narrow: bool, zero_point: u8, finish in 0usize..4, seed in 0..u64::MAX / 2,
    ) {
        let [v, h] = window;
        let h = Axis { input: h.input + wide * h.stride, output: h.output + wide, ..h };
        let (in_channels, out_channels, group) = channels;
        let finish = FINISHES[finish];
        let case = Case { batch, narrow, zero_point, finish, ..Case::new(in_channels, out_channels, group, [v, h]) };
        Isa::all().for_each(|isa| case.check(isa, seed));
    }
}
