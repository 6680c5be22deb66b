//! The way from planes, or from pixels with all their channels, to blocks and back.

use super::{Blocked, Shape};
use crate::buffer::Number;
use crate::error::{KernelError, check_len};
use crate::simd::{Isa, Kernel, Simd};

/// Takes planes `[batch][channels][height][width]` into blocks; lanes beyond the channels become zero.
///
/// # Errors
/// If a slice has another length than `shape` says.
pub fn to_blocked<T: Number>(isa: Isa, shape: Shape, x: &[T], y: &mut [T]) -> Result<(), KernelError> {
    check_len("planes", shape.batch * shape.channels * shape.positions(), x.len())?;
    check_len("blocks", shape.len(), y.len())?;
    isa.run_float(ToBlocked { shape, x, y });
    Ok(())
}

/// Writes planes `[batch][channels][height][width]` from blocks.
///
/// # Errors
/// If a slice has another length than the shape says.
pub fn to_planes<T: Number>(isa: Isa, x: Blocked<'_, T>, y: &mut [T]) -> Result<(), KernelError> {
    check_len("blocks", x.shape.len(), x.data.len())?;
    check_len("planes", x.shape.batch * x.shape.channels * x.shape.positions(), y.len())?;
    isa.run_float(ToPlanes { x, y });
    Ok(())
}

/// Takes pixels `[batch][height][width][channels]` into blocks; lanes beyond the channels become zero.
///
/// # Errors
/// If a slice has another length than `shape` says.
pub fn from_channels_last<T: Number>(isa: Isa, shape: Shape, x: &[T], y: &mut [T]) -> Result<(), KernelError> {
    check_len("pixels", shape.batch * shape.channels * shape.positions(), x.len())?;
    check_len("blocks", shape.len(), y.len())?;
    isa.run_float(FromPixels { shape, x, y });
    Ok(())
}

/// Writes pixels `[batch][height][width][channels]` from blocks.
///
/// # Errors
/// If a slice has another length than the shape says.
pub fn to_channels_last<T: Number>(isa: Isa, x: Blocked<'_, T>, y: &mut [T]) -> Result<(), KernelError> {
    check_len("blocks", x.shape.len(), x.data.len())?;
    check_len("pixels", x.shape.batch * x.shape.channels * x.shape.positions(), y.len())?;
    isa.run_float(ToPixels { x, y });
    Ok(())
}

/// Channels of block `block`.
fn present(shape: &Shape, block: usize) -> usize {
    shape.lanes.min(shape.channels - block * shape.lanes)
}

/// Pixels whose lanes are gathered at a time: the planes' lines stay in the first-level cache.
const PIXELS: usize = 64;

struct ToBlocked<'a, T> {
    shape: Shape,
    x: &'a [T],
    y: &'a mut [T],
}

impl<T: Number> Kernel for ToBlocked<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { shape, x, y } = self;
        let (positions, lanes) = (shape.positions(), shape.lanes);
        if y.is_empty() {
            return;
        }
        let images = x.chunks_exact(shape.channels * positions).zip(y.chunks_exact_mut(shape.image()));
        for (x, y) in images {
            for (block, y) in y.chunks_exact_mut(shape.plane()).enumerate() {
                let count = present(&shape, block);
                let x = &x[block * lanes * positions..][..count * positions];
                for (part, y) in y.chunks_mut(PIXELS * lanes).enumerate() {
                    let start = part * PIXELS;
                    for lane in 0..lanes {
                        if lane < count {
                            let from = &x[lane * positions + start..][..y.len() / lanes];
                            for (to, from) in y[lane..].iter_mut().step_by(lanes).zip(from) {
                                *to = *from;
                            }
                        } else {
                            for to in y[lane..].iter_mut().step_by(lanes) {
                                *to = T::default();
                            }
                        }
                    }
                }
            }
        }
    }
}

struct ToPlanes<'a, T> {
    x: Blocked<'a, T>,
    y: &'a mut [T],
}

impl<T: Number> Kernel for ToPlanes<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { x: Blocked { shape, data }, y } = self;
        let (positions, lanes) = (shape.positions(), shape.lanes);
        if y.is_empty() {
            return;
        }
        let images = data.chunks_exact(shape.image()).zip(y.chunks_exact_mut(shape.channels * positions));
        for (x, y) in images {
            for (block, x) in x.chunks_exact(shape.plane()).enumerate() {
                let count = present(&shape, block);
                let y = &mut y[block * lanes * positions..][..count * positions];
                for (part, x) in x.chunks(PIXELS * lanes).enumerate() {
                    let start = part * PIXELS;
                    for lane in 0..count {
                        let to = &mut y[lane * positions + start..][..x.len() / lanes];
                        for (to, from) in to.iter_mut().zip(x[lane..].iter().step_by(lanes)) {
                            *to = *from;
                        }
                    }
                }
            }
        }
    }
}

struct FromPixels<'a, T> {
    shape: Shape,
    x: &'a [T],
    y: &'a mut [T],
}

impl<T: Number> Kernel for FromPixels<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { shape, x, y } = self;
        let lanes = shape.lanes;
        if y.is_empty() {
            return;
        }
        let images = x.chunks_exact(shape.channels * shape.positions()).zip(y.chunks_exact_mut(shape.image()));
        for (x, y) in images {
            for (block, y) in y.chunks_exact_mut(shape.plane()).enumerate() {
                let count = present(&shape, block);
                for (to, from) in y.chunks_exact_mut(lanes).zip(x.chunks_exact(shape.channels)) {
                    to[..count].copy_from_slice(&from[block * lanes..][..count]);
                    to[count..].fill(T::default());
                }
            }
        }
    }
}

struct ToPixels<'a, T> {
    x: Blocked<'a, T>,
    y: &'a mut [T],
}

impl<T: Number> Kernel for ToPixels<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { x: Blocked { shape, data }, y } = self;
        let lanes = shape.lanes;
        if y.is_empty() {
            return;
        }
        let images = data.chunks_exact(shape.image()).zip(y.chunks_exact_mut(shape.channels * shape.positions()));
        for (x, y) in images {
            for (block, x) in x.chunks_exact(shape.plane()).enumerate() {
                let count = present(&shape, block);
                for (to, from) in y.chunks_exact_mut(shape.channels).zip(x.chunks_exact(lanes)) {
                    to[block * lanes..][..count].copy_from_slice(&from[..count]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
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
}
