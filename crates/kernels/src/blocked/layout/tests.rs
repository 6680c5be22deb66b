//! Conversions against the place of every element, on every instruction set.

use super::*;
use crate::testing::noise;
use proptest::prelude::*;

fn place(s: &Shape, n: usize, c: usize, p: usize) -> usize {
    n * s.image() + c / s.lanes * s.plane() + p * s.lanes + c % s.lanes
}

fn shapes() -> impl Strategy<Value = (usize, usize, usize, usize)> {
    (0usize..3, 0usize..40, 0usize..12, 0usize..20)
}

proptest! {
    #[test]
    fn there_and_back_is_the_same((batch, channels, height, width) in shapes(), seed: u64) {
        for isa in Isa::all() {
            for lanes in [4, isa.lanes()] {
                let shape = Shape::new(batch, channels, height, width, lanes).unwrap();
                let x = noise(seed, batch * channels * height * width);
                let (mut planes, mut pixels) = (vec![f32::NAN; shape.len()], vec![f32::NAN; shape.len()]);
                to_blocked(isa, shape, &x, &mut planes).unwrap();
                from_channels_last(isa, shape, &x, &mut pixels).unwrap();
                for (i, value) in x.iter().enumerate() {
                    let (plane, p) = (i / shape.positions(), i % shape.positions());
                    prop_assert_eq!(planes[place(&shape, plane / channels, plane % channels, p)], *value);
                    let (pixel, c) = (i / channels, i % channels);
                    let found = pixels[place(&shape, pixel / shape.positions(), c, pixel % shape.positions())];
                    prop_assert_eq!(found, *value);
                }
                prop_assert_eq!(planes.iter().filter(|v| **v != 0.0).count(), x.iter().filter(|v| **v != 0.0).count());
                let mut back = vec![f32::NAN; x.len()];
                to_planes(isa, Blocked { shape, data: &planes }, &mut back).unwrap();
                prop_assert_eq!(&back, &x);
                to_channels_last(isa, Blocked { shape, data: &pixels }, &mut back).unwrap();
                prop_assert_eq!(&back, &x);
            }
        }
    }
}

#[test]
fn wrong_lengths_are_refused() {
    let isa = Isa::active();
    let shape = Shape::new(1, 3, 2, 2, isa.lanes()).unwrap();
    let (planes, mut blocks) = (vec![0f32; 12], vec![0f32; shape.len()]);
    assert!(to_blocked(isa, shape, &planes[1..], &mut blocks).is_err());
    assert!(from_channels_last(isa, shape, &planes, &mut blocks[1..]).is_err());
    assert!(to_planes(isa, Blocked { shape, data: &blocks[1..] }, &mut [0.0; 12]).is_err());
    assert!(to_channels_last(isa, Blocked { shape, data: &blocks }, &mut [0.0; 11]).is_err());
}
