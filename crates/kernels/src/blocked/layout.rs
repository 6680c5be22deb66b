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

/// Pixels and lanes that are exchanged in registers; every number of lanes in use is a multiple of it.
const SQUARE: usize = 4;

#[inline(always)]
fn transpose<T: Copy>(x: [[T; SQUARE]; SQUARE]) -> [[T; SQUARE]; SQUARE] {
    let mut y = x;
    for i in 0..SQUARE {
        for j in 0..SQUARE {
            y[i][j] = x[j][i];
        }
    }
    y
}

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
                    let plane = |lane: usize| (lane < count).then(|| &x[lane * positions + part * PIXELS..]);
                    gather(plane, y, lanes);
                }
            }
        }
    }
}

/// Fills the lanes of some pixels from planes, or with zeros where there is none.
#[inline(always)]
fn gather<'a, T: Number>(plane: impl Fn(usize) -> Option<&'a [T]>, y: &mut [T], lanes: usize) {
    let zeros = [T::default(); PIXELS];
    let pixels = y.len() / lanes;
    let squares = lanes / SQUARE * SQUARE;
    for lane in (0..squares).step_by(SQUARE) {
        let mut planes = [&zeros[..pixels]; SQUARE];
        for i in 0..SQUARE {
            if let Some(x) = plane(lane + i) {
                planes[i] = &x[..pixels];
            }
        }
        gather_square(planes, &mut y[lane..], lanes);
    }
    for lane in squares..lanes {
        let x = plane(lane).unwrap_or(&zeros);
        y[lane..].iter_mut().step_by(lanes).zip(x).for_each(|(to, from)| *to = *from);
    }
}

/// Writes the first lanes of pixels from planes.
#[inline(always)]
fn gather_square<T: Number>(planes: [&[T]; SQUARE], y: &mut [T], lanes: usize) {
    let pixels = planes[0].len();
    let squares = pixels / SQUARE * SQUARE;
    for p in (0..squares).step_by(SQUARE) {
        let mut square = [[T::default(); SQUARE]; SQUARE];
        for lane in 0..SQUARE {
            square[lane].copy_from_slice(&planes[lane][p..][..SQUARE]);
        }
        let square = transpose(square);
        for i in 0..SQUARE {
            y[(p + i) * lanes..][..SQUARE].copy_from_slice(&square[i]);
        }
    }
    for p in squares..pixels {
        for lane in 0..SQUARE {
            y[p * lanes + lane] = planes[lane][p];
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
                    let y = &mut y[part * PIXELS..];
                    let mut lane = 0;
                    while lane + SQUARE <= count {
                        scatter_square(&x[lane..], lanes, &mut y[lane * positions..], positions);
                        lane += SQUARE;
                    }
                    for lane in lane..count {
                        let from = x[lane..].iter().step_by(lanes);
                        y[lane * positions..].iter_mut().zip(from).for_each(|(to, from)| *to = *from);
                    }
                }
            }
        }
    }
}

/// Writes planes that are `positions` apart from the first lanes of pixels.
#[inline(always)]
fn scatter_square<T: Number>(x: &[T], lanes: usize, y: &mut [T], positions: usize) {
    let pixels = x.len().div_ceil(lanes);
    let squares = pixels / SQUARE * SQUARE;
    for p in (0..squares).step_by(SQUARE) {
        let mut square = [[T::default(); SQUARE]; SQUARE];
        for i in 0..SQUARE {
            square[i].copy_from_slice(&x[(p + i) * lanes..][..SQUARE]);
        }
        let square = transpose(square);
        for lane in 0..SQUARE {
            y[lane * positions + p..][..SQUARE].copy_from_slice(&square[lane]);
        }
    }
    for p in squares..pixels {
        for lane in 0..SQUARE {
            y[lane * positions + p] = x[p * lanes + lane];
        }
    }
}

/// Copies the first `N` elements of all pixels: a copy of known length is no call.
#[inline(always)]
pub(super) fn copy_pixels<T: Number, const N: usize>(x: &[T], x_step: usize, y: &mut [T], y_step: usize) {
    for (to, from) in y.chunks_mut(y_step).zip(x.chunks(x_step)) {
        if let (Some(to), Some(from)) = (to.first_chunk_mut::<N>(), from.first_chunk::<N>()) {
            *to = *from;
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
                let x = &x[block * lanes..];
                match (count, lanes) {
                    (3, 4) => widen_pixels::<T, 3, 4>(x, shape.channels, y),
                    (4, 4) => widen_pixels::<T, 4, 4>(x, shape.channels, y),
                    (8, 8) => widen_pixels::<T, 8, 8>(x, shape.channels, y),
                    (16, 16) => widen_pixels::<T, 16, 16>(x, shape.channels, y),
                    _ => {
                        for (to, from) in y.chunks_exact_mut(lanes).zip(x.chunks(shape.channels)) {
                            to[..count].copy_from_slice(&from[..count]);
                            to[count..].fill(T::default());
                        }
                    }
                }
            }
        }
    }
}

/// Copies the first `N` elements of all pixels into blocks of as many or more lanes.
#[inline(always)]
fn widen_pixels<T: Number, const N: usize, const LANES: usize>(x: &[T], x_step: usize, y: &mut [T]) {
    let (y, _) = y.as_chunks_mut::<LANES>();
    for (to, from) in y.iter_mut().zip(x.chunks(x_step)) {
        let mut pixel = [T::default(); LANES];
        pixel[..N].copy_from_slice(&from[..N]);
        *to = pixel;
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
                match count {
                    3 => copy_pixels::<T, 3>(x, lanes, &mut y[block * lanes..], shape.channels),
                    4 => copy_pixels::<T, 4>(x, lanes, &mut y[block * lanes..], shape.channels),
                    8 => copy_pixels::<T, 8>(x, lanes, &mut y[block * lanes..], shape.channels),
                    16 => copy_pixels::<T, 16>(x, lanes, &mut y[block * lanes..], shape.channels),
                    _ => {
                        for (to, from) in y.chunks_exact_mut(shape.channels).zip(x.chunks_exact(lanes)) {
                            to[block * lanes..][..count].copy_from_slice(&from[..count]);
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
