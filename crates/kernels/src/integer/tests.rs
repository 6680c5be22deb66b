//! Every instruction set of this processor against the definition, computed in 64 bits.

use super::accumulator::TERMS_OF_BYTES;
use super::*;
use crate::geometry::Axis;
use crate::testing::{any_axes, codes, tap_input};
use proptest::prelude::*;

/// The definition: loops over image, output channel, output position, input channel and tap.
fn reference(g: &ConvGeometry, x: &[i16], weight: &[i16]) -> Vec<i64> {
    let mut out = Vec::new();
    for (n, oc) in (0..g.batch).flat_map(|n| (0..g.out_channels()).map(move |oc| (n, oc))) {
        for position in 0..g.space.output {
            let terms = (0..g.group_weight()).filter_map(|k| {
                let plane = n * g.in_channels() + oc / g.group_out * g.group_in + k / g.space.taps;
                let i = tap_input(&g.space.axes, position, k % g.space.taps)?;
                Some(i64::from(weight[oc * g.group_weight() + k]) * i64::from(x[plane * g.space.input + i]))
            });
            out.push(terms.sum());
        }
    }
    out
}

/// Both widths for every instruction set, packed for the input's codes and for the largest there are.
fn check(g: &ConvGeometry, x: &[i16], weight: &[i16]) {
    let expected = reference(g, x, weight);
    let largest = x.iter().map(|c| c.unsigned_abs()).max().unwrap_or(0);
    for packed in [largest, u16::MAX].map(|largest| PackedCodes::new(g, weight, largest).unwrap()) {
        Isa::all().for_each(|isa| check_packed(isa, g, x, &packed, &expected));
    }
}

fn check_packed(isa: Isa, g: &ConvGeometry, x: &[i16], packed: &PackedCodes, expected: &[i64]) {
    let mut scratch = used_scratch();
    let mut out = vec![i64::MIN; g.output_len()];
    wide(isa, g, x, packed, &mut out, &mut scratch).unwrap();
    assert_eq!(out, expected, "64-bit sums on {}", isa.name());
    if packed.accumulator() == Accumulator::I32 {
        let mut out = vec![i32::MIN; g.output_len()];
        narrow(isa, g, x, packed, &mut out, &mut scratch).unwrap();
        assert!(out.iter().map(|sum| i64::from(*sum)).eq(expected.iter().copied()), "32-bit sums on {}", isa.name());
    }
}

/// What another convolution could leave.
fn used_scratch() -> Scratch {
    let (panels, blocks) = (vec![tile::Lanes([9; tile::LANES]); 50], vec![[9; tile::ROWS]; 50]);
    Scratch(Buffers { rows: vec![9; 70], panels, blocks, plane: vec![9; 70] })
}

fn check_codes(g: &ConvGeometry, seed: u64) {
    for largest in [127, i16::MAX] {
        check(g, &codes(seed, g.input_len(), largest), &codes(seed + 1, g.weight_len(), largest));
    }
}

/// Codes that alternate between the two extremes of a type, and codes that are all its minimum.
fn check_extremes(g: &ConvGeometry) {
    for (low, high) in [(-128, 127), (i16::MIN, i16::MAX)] {
        let alternating = |len: usize| (0..len).map(|i| if i % 3 == 0 { high } else { low }).collect::<Vec<_>>();
        check(g, &alternating(g.input_len()), &alternating(g.weight_len()));
        check(g, &vec![low; g.input_len()], &vec![low; g.weight_len()]);
        check(g, &vec![low; g.input_len()], &vec![high; g.weight_len()]);
    }
}

fn same(input: usize, kernel: usize, stride: usize) -> Axis {
    let pad = kernel / 2;
    let output = (input + 2 * pad - kernel) / stride + 1;
    Axis { input, kernel, stride, dilation: 1, pad_begin: pad, pad_end: pad, output }
}

fn no_axes(batch: usize, in_channels: usize, out_channels: usize) -> ConvGeometry {
    ConvGeometry::new(batch, in_channels, out_channels, 1, &[]).unwrap()
}

#[test]
fn typical_layers_are_exact() {
    let whole_input = Axis { output: 1, pad_begin: 0, pad_end: 0, ..same(5, 5, 1) };
    let unequal = Axis { input: 9, kernel: 3, stride: 2, dilation: 2, pad_begin: 1, pad_end: 2, output: 4 };
    let cases = [
        ("pointwise", 2, 24, 40, 1, vec![same(14, 1, 1); 2]),
        ("pointwise with stride", 1, 9, 16, 1, vec![same(15, 1, 2); 2]),
        ("stem", 1, 3, 33, 1, vec![same(33, 7, 2); 2]),
        ("more positions than a block", 1, 70, 3, 1, vec![same(30, 3, 1), same(31, 3, 1)]),
        ("one output channel", 1, 5, 1, 1, vec![same(9, 3, 1); 2]),
        ("groups", 2, 12, 27, 3, vec![same(9, 3, 1); 2]),
        ("unequal padding and dilation", 1, 3, 9, 1, vec![unequal; 2]),
        ("depthwise 3x3", 2, 7, 7, 7, vec![same(19, 3, 1); 2]),
        ("depthwise 5x5 with stride", 1, 5, 5, 5, vec![same(23, 5, 2); 2]),
        ("depthwise with multiplier", 1, 3, 6, 3, vec![same(9, 3, 1); 2]),
        ("depthwise with more taps than a part of a sum", 1, 2, 2, 2, vec![same(41, 25, 1); 2]),
        ("depthwise along three axes", 1, 3, 3, 3, vec![same(5, 3, 1); 3]),
        ("one axis", 1, 4, 6, 2, vec![same(30, 5, 1)]),
        ("three axes", 1, 3, 4, 1, vec![same(6, 3, 2); 3]),
        ("no axes", 3, 4, 5, 1, vec![]),
        ("no axes, more images than rows, more channels than lanes", 19, 1027, 70, 1, vec![]),
        ("no axes, groups", 9, 15, 66, 3, vec![]),
        ("kernel as large as the input", 3, 4, 34, 2, vec![whole_input; 2]),
        ("one output position with padding", 2, 3, 5, 1, vec![same(1, 3, 1); 2]),
    ];
    for (name, batch, ic, oc, group, axes) in cases {
        let g = ConvGeometry::new(batch, ic, oc, group, &axes).unwrap();
        let result = std::panic::catch_unwind(|| check_codes(&g, 3));
        assert!(result.is_ok(), "{name}");
    }
}

#[test]
fn extreme_codes_are_exact_beyond_the_parts_of_a_sum() {
    check_extremes(&no_axes(2, 2 * TERMS_OF_BYTES + 3, 3));
    check_extremes(&ConvGeometry::new(1, 129, 2, 1, &[same(4, 3, 1); 2]).unwrap());
    check_extremes(&ConvGeometry::new(1, 4, 4, 4, &[same(20, 22, 1); 2]).unwrap());
    check_extremes(&ConvGeometry::new(1, 2, 2, 2, &[same(20, 23, 1); 2]).unwrap());
}

#[test]
fn the_largest_sum_that_fits_32_bits_is_exact() {
    let mut weight = vec![i16::MAX; 65538];
    weight[65537] = i16::MIN;
    let mut x = vec![1; 65538];
    x[65537] = -1;
    let g = no_axes(1, 65538, 1);
    let packed = PackedCodes::new(&g, &weight, 1).unwrap();
    let mut out = [0];
    for isa in Isa::all() {
        narrow(isa, &g, &x, &packed, &mut out, &mut Scratch::default()).unwrap();
        assert_eq!(out, [i32::MAX], "{}", isa.name());
    }
}

#[test]
fn sums_that_may_overflow_are_refused_before_anything_is_written() {
    let g = no_axes(1, 2, 1);
    let pack = |largest_input| PackedCodes::new(&g, &[i16::MIN; 2], largest_input).unwrap();
    assert_eq!(pack(32767).accumulator(), Accumulator::I32);
    let mut out = [7];
    let result = conv_codes(&g, &[0, 1], &pack(32768), &mut out, &mut Scratch::default());
    assert_eq!(result, Err(KernelError::Overflow { largest_input: 32768 }));
    let too_large = KernelError::Input { found: 32768, largest: 32767 };
    let result = conv_codes(&g, &[0, i16::MIN], &pack(32767), &mut out, &mut Scratch::default());
    assert_eq!((result, out), (Err(too_large.clone()), [7]));
    let mut out = [7];
    let result = conv_codes_wide(&g, &[0, i16::MIN], &pack(32767), &mut out, &mut Scratch::default());
    assert_eq!((result, out), (Err(too_large), [7]));
}

#[test]
fn an_empty_sum_is_zero() {
    let g = ConvGeometry::new(1, 0, 2, 1, &[same(3, 3, 1)]).unwrap();
    let packed = PackedCodes::new(&g, &[], 128).unwrap();
    let mut out = [7; 6];
    conv_codes(&g, &[], &packed, &mut out, &mut Scratch::default()).unwrap();
    assert_eq!(out, [0; 6]);
    let padding_only = Axis { input: 0, pad_begin: 3, output: 2, ..same(3, 2, 1) };
    check(&ConvGeometry::new(2, 3, 2, 1, &[padding_only]).unwrap(), &[], &[5; 12]);
    check(&ConvGeometry::new(2, 3, 3, 3, &[padding_only]).unwrap(), &[], &[5; 6]);
}

#[test]
fn an_empty_output_stays_empty() {
    check(&no_axes(0, 3, 2), &[], &[1; 6]);
    check(&no_axes(2, 3, 0), &[1; 6], &[]);
    check(&ConvGeometry::new(1, 1, 1, 1, &[Axis { output: 0, ..same(3, 3, 1) }]).unwrap(), &[1; 3], &[1; 3]);
}

#[test]
fn wrong_lengths_are_errors() {
    let g = ConvGeometry::new(1, 1, 1, 1, &[same(3, 3, 1)]).unwrap();
    let (mut out, mut scratch) = ([0; 3], Scratch::default());
    assert!(PackedCodes::new(&g, &[0; 2], 128).is_err());
    let packed = PackedCodes::new(&g, &[0; 3], 128).unwrap();
    assert!(conv_codes(&g, &[0; 2], &packed, &mut out, &mut scratch).is_err());
    assert!(conv_codes(&g, &[0; 3], &packed, &mut out[1..], &mut scratch).is_err());
    assert!(conv_codes_wide(&g, &[0; 3], &packed, &mut [0; 4], &mut scratch).is_err());
}

#[test]
fn packed_weights_serve_any_batch_but_no_other_sizes() {
    let packed = PackedCodes::new(&no_axes(1, 2, 2), &[1, 2, 3, 4], 128).unwrap();
    let (mut out, mut scratch) = ([0; 6], Scratch::default());
    conv_codes(&no_axes(3, 2, 2), &[1, 0, 0, 1, 1, 1], &packed, &mut out, &mut scratch).unwrap();
    assert_eq!(out, [1, 3, 2, 4, 3, 7]);
    let grouped = ConvGeometry::new(1, 4, 2, 2, &[]).unwrap();
    assert_eq!(conv_codes(&grouped, &[0; 4], &packed, &mut [0; 2], &mut scratch), Err(KernelError::Packing));
    let longer = ConvGeometry::new(1, 2, 2, 1, &[same(3, 1, 1)]).unwrap();
    assert_eq!(conv_codes_wide(&longer, &[0; 6], &packed, &mut [0; 6], &mut scratch), Err(KernelError::Packing));
}

#[test]
fn packed_weights_are_shared_by_threads() {
    let g = ConvGeometry::new(1, 3, 9, 1, &[same(20, 3, 1); 2]).unwrap();
    let (x, weight) = (codes(1, g.input_len(), 127), codes(2, g.weight_len(), 127));
    let packed = PackedCodes::new(&g, &weight, 128).unwrap();
    let run = || {
        let mut out = vec![0; g.output_len()];
        conv_codes(&g, &x, &packed, &mut out, &mut Scratch::default()).map(|()| out)
    };
    let expected = run();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(run)).collect();
        threads.into_iter().for_each(|thread| assert_eq!(thread.join().unwrap(), expected));
    });
}

proptest! {
    #[test]
    fn convolutions_match_the_definition(
        batch in 1usize..3, group in 1usize..4, group_in in 1usize..5, group_out in 1usize..11,
        axes in any_axes(), seed in 0..u64::MAX,
    ) {
        let g = ConvGeometry::new(batch, group * group_in, group * group_out, group, &axes).unwrap();
        check_codes(&g, seed);
    }

    #[test]
    fn products_match_the_definition(
        batch in 1usize..20, in_channels in 1usize..90, out_channels in 1usize..80, seed in 0..u64::MAX,
    ) {
        check_codes(&no_axes(batch, in_channels, out_channels), seed);
    }
}
