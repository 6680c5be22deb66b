//! Layouts, shapes and conventions; the arithmetic is tested with the kernels.

use super::*;
use crate::ops::testing::{assert_close, counting, run};
use proptest::collection::vec;
use proptest::prelude::*;
use quantize_ir::op::Rounding;

fn window(strides: &[usize], padding: Padding) -> Window {
    Window { strides: strides.to_vec(), dilations: vec![], padding, rounding: Rounding::Floor }
}

fn pads(begin: &[usize], end: &[usize]) -> Padding {
    Padding::Explicit { begin: begin.to_vec(), end: end.to_vec() }
}

fn transposed(window: Window, output_padding: &[usize], output_shape: &[usize]) -> ConvTranspose {
    ConvTranspose {
        window,
        group: 1,
        output_padding: output_padding.to_vec(),
        output_shape: output_shape.to_vec(),
        layout: Layout::ChannelsFirst,
        filter: FilterLayout::OutputFirst,
    }
}

fn wave(shape: &[usize]) -> Tensor {
    let len = shape.iter().product::<usize>();
    Tensor::new(shape, (0..len).map(|i| (i as f32 * 0.7).sin()).collect::<Vec<f32>>()).unwrap()
}

fn reordered(x: &Tensor, perm: &[usize]) -> Tensor {
    permute(x, x.shape(), perm, None, &mut Pool::default()).unwrap()
}

#[test]
fn a_convolution_by_hand() {
    let attrs = Conv {
        window: window(&[2], pads(&[1], &[0])),
        group: 1,
        layout: Layout::default(),
        filter: Default::default(),
    };
    let (x, w) = (counting(&[1, 1, 4]), Tensor::new([1, 1, 3], vec![1f32, 10.0, 100.0]).unwrap());
    let y = run(&[&x, &w, &Tensor::vector(vec![0.5f32])], |o, p| conv(&attrs, o, p));
    assert_eq!(y, Ok(Tensor::new([1, 1, 2], vec![210.5, 432.5f32]).unwrap()));
}

#[test]
fn channels_last_and_output_last_give_the_same_convolution() {
    let x = wave(&[2, 6, 5, 7]);
    let w = wave(&[4, 3, 3, 2]);
    let first = Conv {
        window: window(&[2, 1], Padding::SameUpper),
        group: 2,
        layout: Layout::ChannelsFirst,
        filter: FilterLayout::OutputFirst,
    };
    let last = Conv { layout: Layout::ChannelsLast, filter: FilterLayout::OutputLast, ..first.clone() };
    let expected = run(&[&x, &w], |o, p| conv(&first, o, p)).unwrap();
    let (x, w) = (reordered(&x, &[0, 2, 3, 1]), reordered(&w, &[2, 3, 1, 0]));
    let found = run(&[&x, &w], |o, p| conv(&last, o, p)).unwrap();
    assert_eq!(found, reordered(&expected, &[0, 2, 3, 1]));
}

#[test]
fn channels_last_gives_the_same_transposed_convolution() {
    let (x, w) = (wave(&[2, 6, 5, 4]), wave(&[6, 2, 3, 2]));
    let first = ConvTranspose { group: 2, ..transposed(window(&[2, 3], pads(&[1, 0], &[0, 1])), &[1, 0], &[]) };
    let last = ConvTranspose { layout: Layout::ChannelsLast, filter: FilterLayout::OutputLast, ..first.clone() };
    let expected = run(&[&x, &w], |o, p| conv_transpose(&first, o, p)).unwrap();
    let (x, w) = (reordered(&x, &[0, 2, 3, 1]), reordered(&w, &[2, 3, 1, 0]));
    let found = run(&[&x, &w], |o, p| conv_transpose(&last, o, p)).unwrap();
    assert_eq!(found, reordered(&expected, &[0, 2, 3, 1]));
}

#[test]
fn channels_last_gives_the_same_pools() {
    let x = wave(&[2, 3, 6, 5]);
    let kernel = vec![3, 2];
    let window = Window { rounding: Rounding::Ceil, ..window(&[2, 2], pads(&[1, 0], &[1, 1])) };
    type Run<'a> = &'a dyn Fn(Layout, &Tensor) -> Tensor;
    let pools: [(&str, Run<'_>); 3] = [
        ("max", &|layout, x| {
            let attrs = MaxPool { kernel: kernel.clone(), window: window.clone(), column_major: false, layout };
            run(&[x], |o, p| max_pool(&attrs, false, o, p)).unwrap()
        }),
        ("average", &|layout, x| {
            let attrs = AveragePool { kernel: kernel.clone(), window: window.clone(), count_include_pad: true, layout };
            run(&[x], |o, p| average_pool(&attrs, o, p)).unwrap()
        }),
        ("norm", &|layout, x| {
            let attrs = LpPool { kernel: kernel.clone(), window: window.clone(), p: 3, layout };
            run(&[x], |o, p| lp_pool(&attrs, o, p)).unwrap()
        }),
    ];
    for (name, pool) in pools {
        let expected = reordered(&pool(Layout::ChannelsFirst, &x), &[0, 2, 3, 1]);
        assert_eq!(pool(Layout::ChannelsLast, &reordered(&x, &[0, 2, 3, 1])), expected, "{name}");
    }
}

#[test]
fn sizes_of_transposed_convolutions() {
    // Input 3, kernel 3, stride 2: 7 elements before padding cuts them.
    let cases = [
        ("unpadded", transposed(window(&[2], Padding::none()), &[], &[]), vec![1.0, 1.0, 2.0, 1.0, 2.0, 1.0, 1.0]),
        ("padded", transposed(window(&[2], pads(&[1], &[2])), &[], &[]), vec![1.0, 2.0, 1.0, 2.0]),
        ("extended", transposed(window(&[2], pads(&[1], &[1])), &[1], &[]), vec![1.0, 2.0, 1.0, 2.0, 1.0, 1.0]),
        ("same upper", transposed(window(&[2], Padding::SameUpper), &[], &[]), vec![1.0, 1.0, 2.0, 1.0, 2.0, 1.0]),
        ("same lower", transposed(window(&[2], Padding::SameLower), &[], &[]), vec![1.0, 2.0, 1.0, 2.0, 1.0, 1.0]),
        ("given", transposed(window(&[2], Padding::none()), &[], &[4]), vec![2.0, 1.0, 2.0, 1.0]),
        (
            "given, larger",
            transposed(window(&[2], Padding::none()), &[], &[8]),
            vec![1.0, 1.0, 2.0, 1.0, 2.0, 1.0, 1.0, 0.0],
        ),
    ];
    let ones = Tensor::new([1, 1, 3], vec![1f32; 3]).unwrap();
    for (name, attrs, expected) in cases {
        let y = run(&[&ones, &ones], |o, p| conv_transpose(&attrs, o, p)).unwrap();
        assert_eq!(y.as_slice::<f32>().unwrap(), expected, "{name}");
    }
}

#[test]
fn global_pools() {
    let x = Tensor::new([1, 2, 1, 4], vec![1f32, 2.0, 3.0, 6.0, -1.0, -2.0, -4.0, -5.0]).unwrap();
    for (attrs, expected) in [
        (GlobalPool::Average, [3.0, -3.0]),
        (GlobalPool::Max, [6.0, -1.0]),
        (GlobalPool::Lp(1), [12.0, 12.0]),
        (GlobalPool::Lp(2), [50f32.sqrt(), 46f32.sqrt()]),
    ] {
        let y = run(&[&x], |o, p| global_pool(attrs, o, p)).unwrap();
        assert_eq!(y.shape(), [1, 2, 1, 1]);
        assert_close(attrs.name(), y.as_slice().unwrap(), &expected, 1e-6);
    }
    let empty = Tensor::new([1, 2, 0], Vec::<f32>::new()).unwrap();
    assert!(run(&[&empty], |o, p| global_pool(GlobalPool::Average, o, p)).is_err());
}

#[test]
fn operands_that_do_not_fit_are_errors() {
    let attrs = |group| Conv {
        window: window(&[], Padding::none()),
        group,
        layout: Layout::ChannelsFirst,
        filter: FilterLayout::OutputFirst,
    };
    let x = counting(&[1, 2, 4]);
    let cases = [
        ("channels", 1, vec![&x], counting(&[2, 3, 1])),
        ("groups", 2, vec![&x], counting(&[3, 1, 1])),
        ("no groups", 0, vec![&x], counting(&[3, 1, 1])),
        ("rank", 1, vec![&x], counting(&[2, 2])),
        ("window", 1, vec![&x], counting(&[2, 2, 5])),
        ("type", 1, vec![&x], Tensor::new([2, 2, 1], vec![1i8; 4]).unwrap()),
    ];
    for (name, group, mut operands, weight) in cases {
        operands.push(&weight);
        assert!(run(&operands, |o, p| conv(&attrs(group), o, p)).is_err(), "{name}");
    }
    assert_eq!(run(&[&x], |o, p| conv(&attrs(1), o, p)), Err(OpError::Missing { slot: 1 }));
    let huge = ConvTranspose { output_shape: vec![1 << 40], ..transposed(window(&[], Padding::none()), &[], &[]) };
    assert!(run(&[&x, &counting(&[2, 2, 1])], |o, p| conv_transpose(&huge, o, p)).is_err());
}

fn any_padding() -> impl Strategy<Value = Padding> {
    let amounts = || vec(prop_oneof![0usize..4, Just(1 << 40), Just(usize::MAX)], 0..4);
    prop_oneof![
        4 => vec(0usize..3, 0..4).prop_map(|p| Padding::Explicit { begin: p.clone(), end: p }),
        1 => (amounts(), amounts()).prop_map(|(begin, end)| Padding::Explicit { begin, end }),
        1 => Just(Padding::SameUpper),
        1 => Just(Padding::SameLower),
        1 => Just(Padding::Valid),
    ]
}

fn any_window() -> impl Strategy<Value = Window> {
    let steps = || prop_oneof![3 => vec(0usize..4, 0..4), 1 => vec(prop_oneof![Just(1usize), Just(usize::MAX), Just(1 << 40)], 0..4)];
    (steps(), steps(), any_padding(), any::<bool>()).prop_map(|(strides, dilations, padding, ceil)| Window {
        strides,
        dilations,
        padding,
        rounding: if ceil { Rounding::Ceil } else { Rounding::Floor },
    })
}

fn any_layout() -> impl Strategy<Value = (Layout, FilterLayout)> {
    (any::<bool>(), any::<bool>()).prop_map(|(l, f)| {
        let layout = if l { Layout::ChannelsLast } else { Layout::ChannelsFirst };
        (layout, if f { FilterLayout::OutputLast } else { FilterLayout::OutputFirst })
    })
}

proptest! {
    #[test]
    fn nothing_panics(
        x in vec(0usize..5, 0..6), w in vec(0usize..4, 0..6), b in proptest::option::of(0usize..4),
        window in any_window(), group in 0usize..3, kernel in vec(prop_oneof![5 => 0usize..4, 1 => Just(usize::MAX)], 0..4),
        (layout, filter) in any_layout(), extra in vec(0usize..3, 0..3), sizes in vec(0usize..9, 0..3), flag: bool,
    ) {
        let (x, w) = (wave(&x), wave(&w));
        let bias = b.map(|n| wave(&[n]));
        let operands: Vec<&Tensor> = [&x, &w].into_iter().chain(&bias).collect();
        let attrs = Conv { window: window.clone(), group, layout, filter };
        let _ = run(&operands, |o, p| conv(&attrs, o, p));
        let attrs = ConvTranspose { window: window.clone(), group, output_padding: extra, output_shape: sizes, layout, filter };
        let _ = run(&operands, |o, p| conv_transpose(&attrs, o, p));
        let attrs = MaxPool { kernel: kernel.clone(), window: window.clone(), column_major: flag, layout };
        let _ = run(&[&x], |o, p| max_pool(&attrs, false, o, p));
        let _ = run(&[&x], |o, p| max_pool(&attrs, true, o, p));
        let attrs = AveragePool { kernel: kernel.clone(), window: window.clone(), count_include_pad: flag, layout };
        let _ = run(&[&x], |o, p| average_pool(&attrs, o, p));
        let _ = run(&[&x], |o, p| lp_pool(&LpPool { kernel: kernel.clone(), window: window.clone(), p: 2, layout }, o, p));
        let _ = run(&[&x], |o, p| global_pool(GlobalPool::Max, o, p));
    }
}
