//! Pooling of codes against its definition, bit for bit, on every instruction set.

use super::*;
use crate::blocked::Shape;
use crate::testing::{any_axis, gather, noise, spread, tap_input};
use proptest::prelude::*;

fn bytes(seed: u64, len: usize) -> Vec<u8> {
    noise(seed, len).into_iter().map(|x| (x * 128.0 + 128.0) as u8).collect()
}

/// The definition of a mean: codes, and how many elements count.
fn mean_code(mean: &Mean, codes: &[u8], count: f32) -> u8 {
    let sum: i64 = codes.iter().map(|c| i64::from(*c) - i64::from(mean.x.zero_point)).sum();
    let distance = sum as f32 * (mean.x.scale / (mean.y_scale * count.max(1.0)));
    let code = distance.round_ties_even() as i64 + i64::from(mean.range.zero_point);
    code.clamp(mean.range.lowest.into(), mean.range.highest.into()) as u8
}

/// Codes of each window of planes, those of the padding left out.
fn windows(window: &[Axis; 2], x: &[u8]) -> Vec<Vec<u8>> {
    let [v, h] = window;
    let (inputs, outputs, taps) = (v.input * h.input, v.output * h.output, v.kernel * h.kernel);
    let positions = x.chunks_exact(inputs).flat_map(|plane| (0..outputs).map(move |o| (plane, o)));
    let window =
        |(plane, o): (&[u8], usize)| (0..taps).filter_map(|t| tap_input(window, o, t)).map(|i| plane[i]).collect();
    positions.map(window).collect()
}

proptest! {
    #[test]
    fn pooling_matches_the_definition(
        channels in 1usize..40, window in [any_axis(), any_axis()], include: bool, zero_points: (u8, u8),
        scale in 0.1f32..3.0, seed: u64,
    ) {
        let x = bytes(seed, 2 * channels * window[0].input * window[1].input);
        let range = CodeRange { zero_point: zero_points.1, lowest: 4, highest: 250 };
        let mean = Mean { x: Grid { scale, zero_point: zero_points.0 }, y_scale: 1.0, range };
        let windows = windows(&window, &x);
        let counts = window_counts(&window, include);
        let largest: Vec<u8> = windows.iter().map(|w| w.iter().copied().max().unwrap_or(0)).collect();
        let means: Vec<u8> =
            windows.iter().zip(counts.iter().cycle()).map(|(w, count)| mean_code(&mean, w, *count)).collect();
        for isa in Isa::all() {
            let shape = Shape::new(2, channels, window[0].input, window[1].input, isa.lanes()).unwrap();
            let result = Shape::new(2, channels, window[0].output, window[1].output, isa.lanes()).unwrap();
            let blocks = spread(&shape, &x, 255);
            let view = Blocked { shape, data: &blocks[..] };
            let mut y = vec![77; result.len()];
            max_pool(isa, view, window, &mut y).unwrap();
            prop_assert_eq!(gather(&result, &y), largest.clone(), "{}", isa.name());
            average_pool(isa, view, window, include, &mean, &mut y).unwrap();
            prop_assert_eq!(gather(&result, &y), means.clone(), "{}", isa.name());
        }
    }

    #[test]
    fn whole_planes_match_the_definition(
        channels in 1usize..40, (height, width) in (1usize..12, 1usize..12), zero_points: (u8, u8),
        scale in 0.1f32..3.0, seed: u64,
    ) {
        let x = bytes(seed, 2 * channels * height * width);
        let range = CodeRange { zero_point: zero_points.1, lowest: 0, highest: 255 };
        let mean = Mean { x: Grid { scale, zero_point: zero_points.0 }, y_scale: 1.0, range };
        let planes = || x.chunks_exact(height * width);
        let means: Vec<u8> = planes().map(|p| mean_code(&mean, p, p.len() as f32)).collect();
        let largest: Vec<u8> = planes().map(|p| p.iter().copied().max().unwrap()).collect();
        for isa in Isa::all() {
            let shape = Shape::new(2, channels, height, width, isa.lanes()).unwrap();
            let result = Shape { height: 1, width: 1, ..shape };
            let blocks = spread(&shape, &x, 255);
            let view = Blocked { shape, data: &blocks[..] };
            let mut y = vec![77; result.len()];
            global_average_pool(isa, view, &mean, &mut y).unwrap();
            prop_assert_eq!(gather(&result, &y), means.clone(), "{}", isa.name());
            global_max_pool(isa, view, &mut y).unwrap();
            prop_assert_eq!(gather(&result, &y), largest.clone(), "{}", isa.name());
        }
    }
}

#[test]
fn means_round_half_to_even_and_saturate() {
    let mean = |scale, lowest| Mean {
        x: Grid { scale, zero_point: 100 },
        y_scale: 1.0,
        range: CodeRange { zero_point: 7, lowest, highest: 255 },
    };
    for isa in Isa::all() {
        let shape = Shape::new(1, isa.lanes(), 1, 2, isa.lanes()).unwrap();
        for (pair, mean, expected) in [
            ([100, 101], mean(1.0, 0), 7),
            ([101, 102], mean(1.0, 0), 9),
            ([100, 99], mean(1.0, 0), 7),
            ([0, 0], mean(1.0, 7), 7),
            ([255, 255], mean(2.0, 0), 255),
        ] {
            let x: Vec<u8> = pair.iter().flat_map(|code| vec![*code; isa.lanes()]).collect();
            let mut y = vec![0; isa.lanes()];
            global_average_pool(isa, Blocked { shape, data: &x }, &mean, &mut y).unwrap();
            assert_eq!(y, vec![expected; isa.lanes()], "{} {pair:?}", isa.name());
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let isa = Isa::active();
    let shape = Shape::new(1, 3, 4, 4, isa.lanes()).unwrap();
    let x = vec![0; shape.len()];
    let view = Blocked { shape, data: &x[..] };
    let axis = Axis { input: 4, kernel: 2, stride: 2, output: 2, ..Axis::UNIT };
    let mean = Mean { x: Grid { scale: 1.0, zero_point: 0 }, y_scale: 1.0, range: CodeRange::full(0) };
    let mut y = vec![0; 4 * isa.lanes()];
    assert!(average_pool(isa, view, [axis; 2], true, &mean, &mut y).is_ok());
    assert!(max_pool(isa, view, [Axis { input: 5, ..axis }; 2], &mut y).is_err());
    assert!(max_pool(isa, view, [axis; 2], &mut y[1..]).is_err());
    assert!(global_average_pool(isa, view, &mean, &mut y).is_err());
    for y_scale in [0.0, -1.0, f32::NAN] {
        let y = &mut y[..isa.lanes()];
        assert!(global_average_pool(isa, view, &Mean { y_scale, ..mean }, y).is_err(), "{y_scale}");
    }
    let empty = Blocked { shape: Shape { width: 0, ..shape }, data: &[][..] };
    assert!(global_max_pool(isa, empty, &mut y[..isa.lanes()]).is_err());
    assert_eq!(mean.check(Some(1 << 24)), Err(KernelError::TooLarge("window")));
}
