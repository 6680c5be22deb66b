//! The convolution against its definition, on every instruction set.

use super::*;
use crate::blocked::activate;
use crate::testing::{any_axis, any_long_axis, gather, noise, spread, tap_input};
use proptest::prelude::*;

/// A case in numbers: everything else is noise.
#[derive(Clone, Debug)]
struct Case {
    batch: usize,
    filter: Filter,
    window: [Axis; 2],
    narrow: bool,
    bias: bool,
    residual: bool,
    activation: Activation,
}

impl Case {
    fn new(filter: Filter, window: [Axis; 2]) -> Self {
        let activation = Activation::Identity;
        Self { batch: 1, filter, window, narrow: false, bias: true, residual: false, activation }
    }

    /// The definition, on planes, in f64.
    fn expected(&self, x: &[f32], weight: &[f32], bias: Option<&[f32]>, residual: Option<&[f32]>) -> Vec<f64> {
        let f = &self.filter;
        let (group_in, group_out) = (f.in_channels / f.group, f.out_channels / f.group);
        let [v, h] = self.window;
        let (inputs, outputs, taps) = (v.input * h.input, v.output * h.output, f.taps());
        let mut y = Vec::new();
        for (n, oc) in (0..self.batch).flat_map(|n| (0..f.out_channels).map(move |oc| (n, oc))) {
            for position in 0..outputs {
                let mut sum = f64::from(bias.map_or(0.0, |b| b[oc]));
                for (ic, tap) in (0..group_in).flat_map(|ic| (0..taps).map(move |t| (ic, t))) {
                    let plane = n * f.in_channels + oc / group_out * group_in + ic;
                    let x = tap_input(&self.window, position, tap).map_or(0.0, |i| x[plane * inputs + i]);
                    sum += f64::from(weight[(oc * group_in + ic) * taps + tap]) * f64::from(x);
                }
                sum += residual.map_or(0.0, |r| f64::from(r[y.len()]));
                let mut sum = [sum as f32];
                activate(Isa::best_from("scalar"), self.activation, &mut sum);
                y.push(f64::from(sum[0]));
            }
        }
        y
    }

    /// Compares every instruction set with the definition.
    fn check(&self, seed: u64, winograd: bool) {
        let f = &self.filter;
        let [v, h] = self.window;
        let depth = f.in_channels / f.group * f.taps();
        let x = noise(seed, self.batch * f.in_channels * v.input * h.input);
        let weight = noise(seed + 1, f.out_channels * depth);
        let bias = self.bias.then(|| noise(seed + 2, f.out_channels));
        let outputs = self.batch * f.out_channels * v.output * h.output;
        let residual = self.residual.then(|| noise(seed + 3, outputs));
        let expected = self.expected(&x, &weight, bias.as_deref(), residual.as_deref());
        // Sums of that many products of values in -1..1 are about a third of the root, the largest of many its whole.
        let tolerance = if winograd { 2e-5 * (depth as f64).sqrt() } else { 2e-7 * (depth as f64 + 4.0) };
        for isa in Isa::all() {
            let packed = PackedConv::new(isa, f, &weight, bias.as_deref()).unwrap().expect("blocks suit the filter");
            let packed = if winograd { packed } else { packed.without_winograd() };
            let found = self.found(isa, &packed, &x, residual.as_deref());
            for (i, (found, expected)) in found.into_iter().zip(&expected).enumerate() {
                let close = (f64::from(found) - expected).abs() <= tolerance;
                assert!(close, "{} {self:?}: element {i} is {found} instead of {expected}", isa.name());
            }
        }
    }

    /// What the kernel computes, as planes.
    fn found(&self, isa: Isa, packed: &PackedConv, x: &[f32], residual: Option<&[f32]>) -> Vec<f32> {
        let f = &self.filter;
        let [v, h] = self.window;
        let x_lanes = if self.narrow && f.in_channels <= 4 { 4 } else { isa.lanes() };
        let x_shape = Shape::new(self.batch, f.in_channels, v.input, h.input, x_lanes).unwrap();
        let y_shape = Shape::new(self.batch, f.out_channels, v.output, h.output, isa.lanes()).unwrap();
        let x = spread(&x_shape, x, f32::NAN);
        let added = residual.map(|r| spread(&y_shape, r, f32::NAN));
        let mut y = Buffer::from(&vec![f32::NAN; y_shape.len()][..]);
        let mut scratch = Buffer::from(&[9.0; 5][..]);
        let operand = Blocked { shape: x_shape, data: &x };
        packed.run(operand, self.window, added.as_deref(), self.activation, &mut y, &mut scratch).unwrap();
        gather(&y_shape, &y)
    }
}

fn same(input: usize, kernel: usize, stride: usize) -> Axis {
    let pad = kernel / 2;
    let output = (input + 2 * pad - kernel) / stride + 1;
    Axis { input, kernel, stride, dilation: 1, pad_begin: pad, pad_end: pad, output }
}

fn filter(in_channels: usize, out_channels: usize, group: usize, window: [Axis; 2]) -> Filter {
    Filter {
        in_channels,
        out_channels,
        group,
        kernel: window.map(|a| a.kernel),
        stride: window.map(|a| a.stride),
        dilation: window.map(|a| a.dilation),
    }
}

#[test]
fn typical_layers() {
    let square = |input, kernel, stride| [same(input, kernel, stride); 2];
    let cases = [
        (24, 40, 1, square(14, 1, 1)),
        (64, 48, 1, square(15, 1, 2)),
        (3, 32, 1, square(33, 3, 2)),
        (3, 20, 1, square(29, 7, 2)),
        (40, 17, 1, [same(30, 3, 1), same(31, 3, 1)]),
        (32, 64, 1, square(7, 3, 1)),
        (33, 16, 1, square(6, 5, 3)),
        (128, 1000, 1, square(1, 1, 1)),
        (16, 16, 1, [Axis::UNIT, same(70, 9, 1)]),
    ];
    for (i, (inputs, outputs, group, window)) in cases.into_iter().enumerate() {
        for (residual, narrow) in [(false, true), (true, false)] {
            let activation = Activation::Clamp { lo: 0.0, hi: 6.0 };
            let filter = filter(inputs, outputs, group, window);
            Case { residual, narrow, activation, batch: 2, ..Case::new(filter, window) }.check(i as u64, false);
        }
    }
}

#[test]
fn groups_are_slices_of_blocks_or_share_some() {
    let window = [same(9, 3, 1), same(10, 3, 2)];
    for (inputs, outputs, group) in [(32, 64, 2), (128, 128, 32), (12, 9, 3), (64, 32, 4), (10, 20, 5)] {
        Case::new(filter(inputs, outputs, group, window), window).check(5, false);
    }
    let apart = filter(90, 90, 9, window);
    let weight = vec![0.0; 90 * 10 * 9];
    assert!(PackedConv::new(Isa::best_from("scalar"), &apart, &weight, None).unwrap().is_none());
}

#[test]
fn winograd_computes_the_same() {
    for (inputs, outputs, size, pad) in
        [(32, 16, [8, 8], 1), (40, 24, [13, 9], 1), (64, 64, [14, 23], 0), (33, 20, [11, 12], 2)]
    {
        let window = size.map(|input| {
            let output = input + 2 * pad - 2;
            Axis { input, kernel: 3, stride: 1, dilation: 1, pad_begin: pad, pad_end: pad, output }
        });
        let case = Case {
            residual: true,
            batch: 2,
            activation: Activation::Clamp { lo: -1.0, hi: 4.0 },
            ..Case::new(filter(inputs, outputs, 1, window), window)
        };
        let packed =
            PackedConv::new(Isa::active(), &case.filter, &vec![0.0; inputs * outputs * 9], None).unwrap().unwrap();
        assert_eq!(packed.uses_winograd(&window), window.iter().all(|a| a.output >= 8));
        case.check(11, true);
    }
}

#[test]
fn empty_operands_are_defined() {
    let window = [same(3, 3, 1), same(2, 3, 1)];
    Case { batch: 0, ..Case::new(filter(4, 5, 1, window), window) }.check(1, false);
    Case::new(filter(4, 0, 1, window), window).check(1, false);
    Case::new(filter(4, 5, 1, window), [Axis { output: 0, ..window[0] }, window[1]]).check(1, false);
    let no_inputs = filter(0, usize::MAX / 2, 1, window);
    assert!(PackedConv::new(Isa::best_from("scalar"), &no_inputs, &[], None).unwrap().is_none());
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let window = [same(5, 3, 1); 2];
    let f = filter(8, 8, 1, window);
    let isa = Isa::active();
    assert!(PackedConv::new(isa, &f, &[0.0; 5], None).is_err());
    assert!(PackedConv::new(isa, &f, &[0.0; 576], Some(&[0.0; 7])).is_err());
    assert!(PackedConv::new(isa, &Filter { stride: [0, 1], ..f }, &[0.0; 576], None).is_err());
    assert!(PackedConv::new(isa, &Filter { group: 3, ..f }, &[0.0; 576], None).is_err());
    let packed = PackedConv::new(isa, &f, &[0.0; 576], None).unwrap().unwrap();
    let shape = Shape::new(1, 8, 5, 5, isa.lanes()).unwrap();
    let (x, mut y) = (Buffer::new(shape.len()), Buffer::new(shape.len()));
    let run = |shape: Shape, window, x: &[f32], residual: Option<&[f32]>, y: &mut [f32]| {
        packed.run(Blocked { shape, data: x }, window, residual, Activation::Identity, y, &mut Buffer::default())
    };
    assert!(run(shape, window, &x, None, &mut y).is_ok());
    assert!(run(shape, window, &x[1..], None, &mut y).is_err());
    assert!(run(shape, window, &x, None, &mut y[1..]).is_err());
    assert!(run(shape, window, &x, Some(&[0.0; 3]), &mut y).is_err());
    assert!(run(shape, [same(5, 5, 1); 2], &x, None, &mut y).is_err());
    assert!(run(Shape { channels: 7, ..shape }, window, &x, None, &mut y).is_err());
    assert!(run(Shape { lanes: 4, ..shape }, window, &x, None, &mut y).is_err());
}

#[test]
fn threads_share_packed_weights() {
    fn shared<T: Send + Sync>() {}
    shared::<PackedConv>();
    let window = [same(17, 3, 1), same(15, 3, 1)];
    let isa = Isa::active();
    let weight = noise(1, 40 * 24 * 9);
    let packed = PackedConv::new(isa, &filter(40, 24, 1, window), &weight, None).unwrap().unwrap();
    let shape = Shape::new(1, 40, 17, 15, isa.lanes()).unwrap();
    let x = Buffer::from(&noise(2, shape.len())[..]);
    let run = || {
        let mut y = Buffer::new(Shape { channels: 24, ..shape }.len());
        let operand = Blocked { shape, data: &x };
        packed.run(operand, window, None, Activation::Identity, &mut y, &mut Buffer::default()).unwrap();
        y.iter().map(|v| v.to_bits()).collect::<Vec<_>>()
    };
    assert!(packed.uses_winograd(&window));
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(run)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(results.iter().all(|bits| *bits == results[0]));
}

#[test]
fn depthwise_filters_are_left_to_their_own_kernel() {
    let window = [same(5, 3, 1); 2];
    for channels in [2, 4, 8] {
        let filter = filter(channels, channels, channels, window);
        let packed = PackedConv::new(Isa::best_from("scalar"), &filter, &vec![0.0; channels * 9], None).unwrap();
        assert!(packed.is_none(), "{channels} channels");
    }
}

#[test]
fn windows_far_larger_than_their_input_need_little_memory() {
    const FAR: usize = 1 << 44;
    let one = Axis { input: 3, kernel: 3, stride: 1, dilation: 1, pad_begin: 1, pad_end: 1, output: 3 };
    let axes = [
        Axis { stride: FAR, output: 1, ..one },
        Axis { stride: FAR, pad_begin: FAR, pad_end: FAR, output: 3, ..one },
        Axis { dilation: FAR, pad_begin: FAR, pad_end: FAR, ..one },
        Axis { dilation: FAR, stride: FAR + 1, pad_begin: FAR, pad_end: 2 * FAR, output: 2, ..one },
        Axis { dilation: 2 * FAR, stride: FAR, pad_begin: 2 * FAR, pad_end: 2 * FAR, output: 4, ..one },
        Axis { pad_begin: FAR, ..one },
        Axis { input: 0, pad_begin: 5, pad_end: 6, output: 9, ..one },
    ];
    for (i, (axis, narrow)) in axes.into_iter().flat_map(|a| [(a, true), (a, false)]).enumerate() {
        for window in [[axis, one], [one, axis], [axis; 2]] {
            let case = Case { narrow, ..Case::new(filter(3, 20, 1, window), window) };
            case.check(i as u64, false);
        }
    }
}

#[test]
fn borders_without_an_input_and_wide_ones_are_computed_directly() {
    let near = |input, pad| Axis { input, kernel: 3, stride: 1, dilation: 1, pad_begin: pad, pad_end: 9, output: 9 };
    for axis in [near(0, 5), near(1, 9), near(3, 4), near(3, usize::MAX / 2 + 5)] {
        for window in [[axis, near(9, 1)], [near(9, 1), axis], [axis; 2]] {
            let filter = filter(32, 16, 1, window);
            let packed = PackedConv::new(Isa::active(), &filter, &[0.0; 32 * 16 * 9], None).unwrap().unwrap();
            assert!(!packed.uses_winograd(&window), "{axis:?}");
            Case::new(filter, window).check(3, true);
        }
    }
}

fn any_activation() -> impl Strategy<Value = Activation> {
    prop_oneof![
        Just(Activation::Identity),
        Just(Activation::Clamp { lo: 0.0, hi: f32::INFINITY }),
        Just(Activation::Clamp { lo: -1.0, hi: 0.5 }),
        Just(Activation::LeakyRelu { alpha: 0.1 }),
        Just(Activation::Sigmoid),
        Just(Activation::Silu),
        Just(Activation::HardSigmoid { alpha: 0.2, beta: 0.5 }),
        Just(Activation::HardSwish),
        Just(Activation::Tanh),
    ]
}

/// An axis on which Winograd's transform pays.
fn any_winograd_axis() -> impl Strategy<Value = Axis> {
    (8usize..24, 0usize..3, 0usize..3).prop_filter_map("too few outputs", |(input, pad_begin, pad_end)| {
        let output = input + pad_begin + pad_end - 2;
        let axis = Axis { input, kernel: 3, stride: 1, dilation: 1, pad_begin, pad_end, output };
        (output >= 8).then_some(axis)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]
    #[test]
    fn convolutions_match_the_definition(
        batch in 1usize..3, channels in (1usize..40, 1usize..40), window in [any_axis(), any_axis()],
        flags: [bool; 3], activation in any_activation(), seed: u64,
    ) {
        let [narrow, bias, residual] = flags;
        let filter = filter(channels.0, channels.1, 1, window);
        Case { batch, filter, window, narrow, bias, residual, activation }.check(seed, false);
    }

    #[test]
    fn grouped_convolutions_match_the_definition(
        group in 1usize..9, channels in (1usize..9, 2usize..9), window in [any_axis(), any_axis()], seed: u64,
    ) {
        let filter = filter(group * channels.0, group * channels.1, group, window);
        Case { bias: false, ..Case::new(filter, window) }.check(seed, false);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn winograd_matches_the_definition(
        batch in 1usize..3, channels in (32usize..50, 1usize..50), window in [any_winograd_axis(), any_winograd_axis()],
        residual: bool, activation in any_activation(), seed: u64,
    ) {
        let case = Case { batch, residual, activation, ..Case::new(filter(channels.0, channels.1, 1, window), window) };
        let packed = PackedConv::new(Isa::active(), &case.filter, &vec![0.0; channels.0 * channels.1 * 9], None);
        prop_assert!(packed.unwrap().unwrap().uses_winograd(&window));
        case.check(seed, true);
    }

    #[test]
    fn long_rows_match_the_definition(
        channels in (1usize..20, 1usize..50), window in (any_axis(), any_long_axis()),
        flags: [bool; 2], seed: u64,
    ) {
        let (vertical, horizontal) = window;
        let window = [vertical, horizontal];
        let [narrow, residual] = flags;
        let case = Case::new(filter(channels.0, channels.1, 1, window), window);
        Case { narrow, residual, ..case }.check(seed, false);
    }
}

#[test]
fn a_matrix_packs_as_its_transposition_does() {
    for isa in Isa::all() {
        for (depth, columns) in [(1, 1), (3, 40), (17, 16), (33, 24), (40, 100)] {
            let filter = Filter {
                in_channels: depth,
                out_channels: columns,
                group: 1,
                kernel: [1; 2],
                stride: [1; 2],
                dilation: [1; 2],
            };
            let (matrix, bias) = (noise(1, depth * columns), noise(2, columns));
            let turned: Vec<f32> = (0..columns)
                .flat_map(|c| (0..depth).map(move |d| (d, c)))
                .map(|(d, c)| matrix[d * columns + c])
                .collect();
            let packed = |order, elements: &[f32], piece: usize| {
                let mut packer = MatrixPacker::new(isa, [depth, columns], order, Some(&bias)).unwrap().unwrap();
                elements.chunks(piece).for_each(|piece| packer.push(piece));
                packer.finish().unwrap()
            };
            let expected = PackedConv::new(isa, &filter, &turned, Some(&bias)).unwrap().unwrap();
            let parts = |conv: PackedConv| {
                let mut weights = conv.weights;
                (weights.bias(0).to_vec(), weights.elements_mut().to_vec())
            };
            let expected = parts(expected);
            for piece in [1, 7, depth * columns] {
                let rows = parts(packed(MatrixOrder::Rows, &matrix, piece));
                let lines = parts(packed(MatrixOrder::Columns, &turned, piece));
                assert!(rows == expected && lines == expected, "{} {depth} x {columns} by {piece}", isa.name());
            }
        }
        for elements in [5, 7] {
            let mut packer = MatrixPacker::new(isa, [2, 3], MatrixOrder::Rows, None).unwrap().unwrap();
            packer.push(&vec![0.0; elements]);
            assert!(packer.finish().is_err(), "{elements} elements");
        }
        assert!(MatrixPacker::new(isa, [0, 3], MatrixOrder::Rows, None).is_ok_and(|packer| packer.is_none()));
    }
}
