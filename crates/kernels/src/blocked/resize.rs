//! Nearest-neighbour upsampling by whole factors. Every other way of resizing is left to planes.

use super::{Blocked, Shape};
use crate::buffer::Number;
use crate::error::{KernelError, check_len};

/// Repeats every pixel `factors` times, vertically and horizontally: `y[r, c] = x[r / factors[0], c / factors[1]]`.
///
/// # Errors
/// If a factor is zero, or a length does not fit.
pub fn upsample_nearest<T: Number>(x: Blocked<'_, T>, factors: [usize; 2], y: &mut [T]) -> Result<(), KernelError> {
    check_len("blocks", x.shape.len(), x.data.len())?;
    if factors.contains(&0) {
        return Err(KernelError::Zero("factor"));
    }
    let Shape { batch, channels, height, width, lanes } = x.shape;
    let sizes = height.checked_mul(factors[0]).zip(width.checked_mul(factors[1]));
    let (height, width) = sizes.ok_or(KernelError::TooLarge("activation"))?;
    let shape = Shape::new(batch, channels, height, width, lanes)?;
    check_len("result", shape.len(), y.len())?;
    if shape.is_empty() {
        return Ok(());
    }
    let rows = x.data.chunks_exact(x.shape.width * lanes);
    for (y, x) in y.chunks_exact_mut(factors[0] * width * lanes).zip(rows) {
        let (first, others) = y.split_at_mut(width * lanes);
        match lanes {
            8 => repeat_pixels::<T, 8>(x, factors[1], first),
            16 => repeat_pixels::<T, 16>(x, factors[1], first),
            _ => {
                for (y, x) in first.chunks_exact_mut(factors[1] * lanes).zip(x.chunks_exact(lanes)) {
                    y.chunks_exact_mut(lanes).for_each(|y| y.copy_from_slice(x));
                }
            }
        }
        others.chunks_exact_mut(width * lanes).for_each(|row| row.copy_from_slice(first));
    }
    Ok(())
}

/// Repeats pixels of a known number of lanes, so that a copy is no call.
fn repeat_pixels<T: Number, const LANES: usize>(x: &[T], factor: usize, y: &mut [T]) {
    let (x, _) = x.as_chunks::<LANES>();
    let (y, _) = y.as_chunks_mut::<LANES>();
    for (y, x) in y.chunks_exact_mut(factor).zip(x) {
        y.fill(*x);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{gather, noise, spread};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_pixel_is_repeated(
            (batch, channels) in (1usize..3, 1usize..20), (height, width) in (0usize..5, 0usize..5),
            factors in [1usize..4, 1usize..4], lanes in prop_oneof![Just(4usize), Just(8), Just(16)], seed: u64,
        ) {
            let shape = Shape::new(batch, channels, height, width, lanes).unwrap();
            let result = Shape { height: height * factors[0], width: width * factors[1], ..shape };
            let planes = noise(seed, batch * channels * shape.positions());
            let mut y = vec![f32::NAN; result.len()];
            let blocks = spread(&shape, &planes, f32::NAN);
            upsample_nearest(Blocked { shape, data: &blocks }, factors, &mut y).unwrap();
            for (i, found) in gather(&result, &y).iter().enumerate() {
                let (plane, p) = (i / result.positions(), i % result.positions());
                let (row, column) = (p / result.width / factors[0], p % result.width / factors[1]);
                prop_assert_eq!(*found, planes[plane * shape.positions() + row * width + column]);
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let shape = Shape::new(1, 3, 2, 2, 4).unwrap();
        let x = Blocked { shape, data: &[0u8; 16][..] };
        assert!(upsample_nearest(x, [2, 1], &mut [0; 32]).is_ok());
        assert!(upsample_nearest(x, [2, 2], &mut [0; 32]).is_err());
        assert!(upsample_nearest(x, [0, 1], &mut []).is_err());
        assert!(upsample_nearest(x, [usize::MAX, 1], &mut []).is_err());
    }
}
