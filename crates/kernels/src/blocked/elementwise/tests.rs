//! Arithmetic against its definition on single numbers, on every instruction set.

use super::*;
use crate::blocked::Shape;
use crate::testing::noise;

const OPS: [Arithmetic; 6] =
    [Arithmetic::Add, Arithmetic::Sub, Arithmetic::Mul, Arithmetic::Div, Arithmetic::Max, Arithmetic::Min];
const RELU: Activation = Activation::Clamp { lo: 0.0, hi: f32::INFINITY };

#[test]
fn pairs_and_scalars_follow_the_definition() {
    for (isa, op) in Isa::all().flat_map(|isa| OPS.map(|op| (isa, op))) {
        for len in [0, 1, 7, 16, 33, PART + 5] {
            let (a, b) = (noise(1, len), noise(2, len));
            let mut y = vec![f32::NAN; len];
            combine(isa, op, &a, &b, RELU, &mut y).unwrap();
            let expected: Vec<f32> = a.iter().zip(&b).map(|(a, b)| calculate(op, *a, *b).max(0.0)).collect();
            assert_eq!(y, expected, "{} {op:?}", isa.name());
            y.copy_from_slice(&a);
            combine_in_place(isa, op, &mut y, &b, RELU).unwrap();
            assert_eq!(y, expected, "{} {op:?}", isa.name());
            for reversed in [false, true] {
                combine_scalar(isa, op, &a, 0.3, reversed, Activation::Identity, &mut y).unwrap();
                let of = |a: f32| if reversed { calculate(op, 0.3, a) } else { calculate(op, a, 0.3) };
                assert_eq!(y, a.iter().map(|a| of(*a)).collect::<Vec<_>>(), "{} {op:?}", isa.name());
            }
        }
    }
    assert!(combine(Isa::active(), OPS[0], &[0.0], &[], RELU, &mut [0.0]).is_err());
    assert!(combine_in_place(Isa::active(), OPS[0], &mut [0.0], &[], RELU).is_err());
    assert!(combine_scalar(Isa::active(), OPS[0], &[0.0], 1.0, false, RELU, &mut []).is_err());
}

#[test]
fn channels_meet_their_number() {
    for (isa, op) in Isa::all().flat_map(|isa| OPS.map(|op| (isa, op))) {
        let shape = Shape::new(2, isa.lanes() + 3, 5, 3, isa.lanes()).unwrap();
        let pixel = shape.blocks() * shape.lanes;
        let x = noise(1, shape.len());
        let mut y = vec![f32::NAN; shape.len()];
        for (per_image, reversed) in [(false, false), (true, false), (true, true)] {
            let v = noise(2, if per_image { 2 * pixel } else { pixel });
            combine_channels(isa, op, Blocked { shape, data: &x }, &v, reversed, RELU, &mut y).unwrap();
            for (i, found) in y.iter().enumerate() {
                let v = v[(i / shape.plane() * shape.lanes + i % shape.lanes) % v.len()];
                let expected = if reversed { calculate(op, v, x[i]) } else { calculate(op, x[i], v) };
                assert_eq!(*found, expected.max(0.0), "{} {op:?} element {i}", isa.name());
            }
        }
        let (scale, shift) = (noise(3, pixel), noise(4, pixel));
        affine_channels(isa, Blocked { shape, data: &x }, &scale, &shift, RELU, &mut y).unwrap();
        for (i, found) in y.iter().enumerate() {
            let c = (i / shape.plane() * shape.lanes + i % shape.lanes) % pixel;
            assert_eq!(*found, (x[i] * scale[c] + shift[c]).max(0.0), "{} element {i}", isa.name());
        }
        let view = Blocked { shape, data: &x };
        assert!(combine_channels(isa, op, view, &scale[1..], false, RELU, &mut y).is_err());
        assert!(affine_channels(isa, view, &scale, &shift, RELU, &mut y[1..]).is_err());
    }
}

#[test]
fn the_larger_and_the_smaller_of_nan_and_infinities() {
    let ends = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1.5];
    for (isa, a, b) in Isa::all().flat_map(|isa| ends.into_iter().flat_map(move |a| ends.map(|b| (isa, a, b)))) {
        let nan = a.is_nan() || b.is_nan();
        for (op, number) in [(Arithmetic::Max, a.max(b)), (Arithmetic::Min, a.min(b))] {
            let expected = if nan { f32::NAN } else { number };
            let shape = Shape::new(1, isa.lanes(), 1, 1, isa.lanes()).unwrap();
            let (x, v, mut y) = (vec![a; isa.lanes()], vec![b; isa.lanes()], vec![0.0; isa.lanes()]);
            let check = |y: &[f32]| {
                let same = y.iter().all(|y| y.total_cmp(&expected).is_eq() || y.is_nan() && nan);
                assert!(same, "{} {op:?}({a}, {b}): {y:?}", isa.name());
            };
            combine(isa, op, &x, &v, Activation::Identity, &mut y).unwrap();
            check(&y);
            let view = Blocked { shape, data: &x };
            combine_channels(isa, op, view, &v, false, Activation::Identity, &mut y).unwrap();
            check(&y);
        }
    }
}
