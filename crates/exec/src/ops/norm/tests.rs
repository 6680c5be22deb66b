//! Tests of normalization against hand-computed and reference values.

use super::*;
use crate::ops::testing::{assert_close, counting, run};
use proptest::prelude::*;
use quantize_ir::op::{Lrn, LrnRegion};

fn vector(v: &[f32]) -> Tensor {
    Tensor::vector(v.to_vec())
}

#[test]
fn batch_norm_with_channels_first_and_last() {
    let [scale, bias, mean, variance] = [[2.0, 1.0], [0.5, -1.0], [1.0, 3.0], [3.0, 0.0]].map(|v| vector(&v));
    let of = |x: &Tensor, axis| {
        run(&[x, &scale, &bias, &mean, &variance], |o, p| batch_norm(&BatchNorm { epsilon: 1.0, axis }, o, p))
    };
    let first = of(&counting(&[1, 2, 2]), 1).unwrap();
    assert_close("first", first.as_slice().unwrap(), &[0.5, 1.5, -1.0, 0.0], 1e-6);
    let last = of(&counting(&[1, 2, 2]), -1).unwrap();
    assert_close("last", last.as_slice().unwrap(), &[0.5, -2.0, 2.5, 0.0], 1e-6);
    assert!(of(&counting(&[1, 3]), 1).is_err());
}

#[test]
fn lrn_stops_at_the_border() {
    let x = counting(&[1, 6, 1, 1]);
    let attrs = Lrn { alpha: 0.5, beta: 0.75, bias: 1.0, size: 3, region: LrnRegion::Across };
    let y = run(&[&x], |o, p| lrn(&attrs, o, p)).unwrap();
    let expected = [0.63470066, 0.8107201, 0.7992519, 0.7490873, 0.6970676, 0.9822196];
    assert_close("LRN", y.as_slice().unwrap(), &expected, 1e-6);
    assert!(run(&[&x], |o, p| lrn(&Lrn { size: 0, ..attrs }, o, p)).is_err());
    assert!(run(&[&x], |o, p| lrn(&Lrn { size: usize::MAX, ..attrs }, o, p)).is_ok());
}

/// Sum of squares divided by the size of the window, from the definition, at every place of a plane of `h` by `w`.
fn mean_squares(plane: &[f32], h: usize, w: usize, size: usize) -> Vec<f32> {
    let window = |at: usize, limit: usize| {
        let before = (size - 1) / 2;
        (0..size).filter_map(move |tap| (at + tap).checked_sub(before)).filter(move |i| *i < limit)
    };
    let sum = |y: usize, x: usize| -> f64 {
        window(y, h).flat_map(|i| window(x, w).map(move |j| f64::from(plane[i * w + j]).powi(2))).sum()
    };
    (0..h * w).map(|i| (sum(i / w, i % w) / (size * size) as f64) as f32).collect()
}

proptest! {
    #[test]
    fn lrn_within_a_channel_matches_its_definition(
        planes in (1usize..3, 1usize..4), h in 1usize..7, w in 1usize..7, size in 1usize..6, seed in 0u32..1000,
    ) {
        let shape = [planes.0, planes.1, h, w];
        let elements: Vec<f32> =
            (0..shape.iter().product::<usize>()).map(|i| ((i as f32 + 0.1) * (seed as f32 + 0.3)).sin() * 3.0).collect();
        let attrs = Lrn { alpha: 0.5, beta: 0.75, bias: 1.5, size, region: LrnRegion::Within };
        let x = Tensor::new(shape, elements.clone()).unwrap();
        let y = run(&[&x], |o, p| lrn(&attrs, o, p)).unwrap();
        let means = elements.chunks(h * w).flat_map(|plane| mean_squares(plane, h, w, size));
        let expected: Vec<f32> = elements.iter().zip(means).map(|(x, m)| x / (1.5 + 0.5 * m).powf(0.75)).collect();
        prop_assert_eq!(y.shape(), &shape);
        assert_close("LRN within", y.as_slice().unwrap(), &expected, 1e-5);
    }
}

#[test]
fn lrn_within_a_channel_of_other_ranks() {
    let attrs = Lrn { alpha: 3.0, beta: 1.0, bias: 1.0, size: 3, region: LrnRegion::Within };
    let line = run(&[&counting(&[1, 1, 4])], |o, p| lrn(&attrs, o, p)).unwrap();
    assert_close("line", line.as_slice().unwrap(), &[1.0 / 6.0, 2.0 / 15.0, 0.1, 4.0 / 26.0], 1e-6);
    let point = run(&[&counting(&[1, 2])], |o, p| lrn(&attrs, o, p)).unwrap();
    assert_close("point", point.as_slice().unwrap(), &[0.25, 2.0 / 13.0], 1e-6);
    let volume = run(&[&Tensor::new([1, 1, 1, 1, 1], vec![3f32]).unwrap()], |o, p| lrn(&attrs, o, p)).unwrap();
    assert_close("volume", volume.as_slice().unwrap(), &[1.5], 1e-6);
    let empty = run(&[&counting(&[1, 2, 0, 3])], |o, p| lrn(&attrs, o, p)).unwrap();
    assert_eq!(empty.shape(), [1, 2, 0, 3]);
    assert!(run(&[&counting(&[3])], |o, p| lrn(&attrs, o, p)).is_err());
    for size in [0, usize::MAX] {
        assert!(run(&[&counting(&[1, 1, 4])], |o, p| lrn(&Lrn { size, ..attrs }, o, p)).is_err());
    }
}

#[test]
fn instance_norm_of_each_channel() {
    let x = counting(&[2, 2, 2]);
    let (scale, bias) = (vector(&[1.0, 2.0]), vector(&[0.0, 5.0]));
    let y = run(&[&x, &scale, &bias], |o, p| instance_norm(&InstanceNorm { epsilon: 0.0 }, o, p)).unwrap();
    let expected = [-1.0, 1.0, 3.0, 7.0, -1.0, 1.0, 3.0, 7.0];
    assert_close("InstanceNorm", y.as_slice().unwrap(), &expected, 1e-6);
}

#[test]
fn layer_norm_and_its_statistics() {
    let x = counting(&[2, 2]);
    let slots = [Some(&x), Some(&vector(&[1.0, 2.0])), Some(&vector(&[0.0, 5.0]))];
    let results = layer_norm(&LayerNorm { axis: -1, epsilon: 0.75 }, Operands(&slots), &mut Pool::default()).unwrap();
    assert_close("y", results[0].as_slice().unwrap(), &[-0.5, 6.0, -0.5, 6.0], 1e-6);
    assert_eq!(results[1], Tensor::new([2, 1], vec![1.5f32, 3.5]).unwrap());
    assert_eq!(results[2], Tensor::new([2, 1], vec![1f32, 1.0]).unwrap());
    assert!(run(&[&x, &vector(&[1.0; 3])], |o, p| layer_norm(&LayerNorm { axis: 1, epsilon: 0.0 }, o, p)).is_err());
}

#[test]
fn softmax_along_an_axis_or_flattened() {
    let x = Tensor::new([2, 1, 2], vec![0f32, 1.0, 2.0, 1.0]).unwrap();
    let cases = [
        ("last", -1, false, false, [0.26894143, 0.7310586, 0.7310586, 0.26894143]),
        ("first", 0, false, false, [0.11920292, 0.5, 0.880797, 0.5]),
        ("flattened", 0, true, false, [0.072329484, 0.19661193, 0.53444666, 0.19661193]),
        ("log", 0, false, true, [-2.126928, -std::f32::consts::LN_2, -0.126928, -std::f32::consts::LN_2]),
    ];
    for (name, axis, flatten, log, expected) in cases {
        let attrs = Softmax { axis, flatten, log };
        let y = run(&[&x], |o, p| softmax(&attrs, o, p)).unwrap();
        assert_close(name, y.as_slice().unwrap(), &expected, 1e-6);
        let wide = Tensor::new([2, 1, 2], vec![0f64, 1.0, 2.0, 1.0]).unwrap();
        let y: Vec<f64> = run(&[&wide], |o, p| softmax(&attrs, o, p)).unwrap().into_vec().unwrap();
        assert_close(name, &y.iter().map(|&y| y as f32).collect::<Vec<_>>(), &expected, 1e-6);
    }
    let large = run(&[&vector(&[1e30, 1e30])], |o, p| softmax(&Softmax { axis: 0, flatten: false, log: false }, o, p));
    assert_eq!(large, Ok(vector(&[0.5, 0.5])));
}
