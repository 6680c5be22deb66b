//! Channels joined and cut out, also where they begin in the middle of a block.

use super::layout::copy_pixels;
use super::{Blocked, Shape};
use crate::buffer::Number;
use crate::error::{KernelError, check_len};

/// Joins the channels of activations that agree in everything else into `y`, which is in blocks of as many lanes.
///
/// # Errors
/// If there are none, they do not agree, or `y` has another length than all their channels make.
pub fn concat_channels<T: Number>(parts: &[Blocked<'_, T>], y: &mut [T]) -> Result<(), KernelError> {
    let Some(first) = parts.first() else { return check_len("joined blocks", 0, y.len()) };
    let sum = parts.iter().try_fold(0usize, |sum, part| sum.checked_add(part.shape.channels));
    let channels = sum.ok_or(KernelError::TooLarge("activation"))?;
    let shape = first.shape.with_channels(channels)?;
    for part in parts {
        check_len("blocks", part.shape.len(), part.data.len())?;
        let agrees = Shape { channels, ..part.shape } == shape;
        agrees.then_some(()).ok_or(KernelError::Packing)?;
    }
    check_len("joined blocks", shape.len(), y.len())?;
    let mut start = 0;
    for part in parts {
        Copy { from: part.shape, first: 0, to: shape, start, count: part.shape.channels }.run(part.data, y);
        start += part.shape.channels;
    }
    Ok(())
}

/// Cuts out the channels `first..first + count`, into `y` of that many channels in blocks of as many lanes.
///
/// # Errors
/// If `x` has not these channels, or a length does not fit.
pub fn slice_channels<T: Number>(
    x: Blocked<'_, T>,
    first: usize,
    count: usize,
    y: &mut [T],
) -> Result<(), KernelError> {
    check_len("blocks", x.shape.len(), x.data.len())?;
    let inside = first.checked_add(count).is_some_and(|end| end <= x.shape.channels);
    inside.then_some(()).ok_or(KernelError::Packing)?;
    let shape = x.shape.with_channels(count)?;
    check_len("blocks of the slice", shape.len(), y.len())?;
    Copy { from: x.shape, first, to: shape, start: 0, count }.run(x.data, y);
    Ok(())
}

/// `count` channels of every image, from channel `first` of one shape to channel `start` of another.
struct Copy {
    from: Shape,
    first: usize,
    to: Shape,
    start: usize,
    count: usize,
}

impl Copy {
    fn run<T: Number>(&self, x: &[T], y: &mut [T]) {
        if self.from.plane() == 0 || self.count == 0 {
            return;
        }
        for (x, y) in x.chunks_exact(self.from.image()).zip(y.chunks_exact_mut(self.to.image())) {
            self.image(x, y);
        }
    }

    /// Runs of channels that stay within a block on both sides, one after the other.
    fn image<T: Number>(&self, x: &[T], y: &mut [T]) {
        let (lanes, plane) = (self.from.lanes, self.from.plane());
        let mut done = 0;
        while done < self.count {
            let (from, to) = (self.first + done, self.start + done);
            let run = (self.count - done).min(lanes - from % lanes).min(lanes - to % lanes);
            let x = &x[from / lanes * plane..][..plane];
            let y = &mut y[to / lanes * plane..][..plane];
            if run == lanes {
                y.copy_from_slice(x);
            } else {
                copy_run(lanes, (&x[from % lanes..], &mut y[to % lanes..]), run);
            }
            done += run;
        }
    }
}

/// Copies `run` lanes of every pixel. Most numbers of channels are multiples of 4.
fn copy_run<T: Number>(lanes: usize, (x, y): (&[T], &mut [T]), run: usize) {
    match run {
        4 => copy_pixels::<T, 4>(x, lanes, y, lanes),
        8 => copy_pixels::<T, 8>(x, lanes, y, lanes),
        12 => copy_pixels::<T, 12>(x, lanes, y, lanes),
        _ => {
            for (y, x) in y.chunks_mut(lanes).zip(x.chunks(lanes)) {
                y.iter_mut().zip(x).take(run).for_each(|(y, x)| *y = *x);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{gather, noise, spread};
    use proptest::prelude::*;

    /// Channels `range` of planes `[batch][channels][positions]`.
    fn cut(planes: &[f32], channels: usize, positions: usize, range: std::ops::Range<usize>) -> Vec<f32> {
        let images = planes.chunks_exact(channels * positions);
        images.flat_map(|image| image[range.start * positions..range.end * positions].to_vec()).collect()
    }

    proptest! {
        #[test]
        fn joined_channels_follow_each_other_and_are_found_again(
            channels in proptest::collection::vec(1usize..40, 1..5), batch in 1usize..3, positions in 1usize..9,
            lanes in prop_oneof![Just(4usize), Just(8), Just(16)], seed: u64,
        ) {
            let shape = |c| Shape::new(batch, c, 1, positions, lanes).unwrap();
            let whole = shape(channels.iter().sum());
            let planes = noise(seed, batch * whole.channels * positions);
            let blocks = spread(&whole, &planes, f32::NAN);
            let (mut start, mut parts) = (0, Vec::new());
            for c in channels {
                let mut part = vec![f32::NAN; shape(c).len()];
                slice_channels(Blocked { shape: whole, data: &blocks }, start, c, &mut part).unwrap();
                prop_assert_eq!(gather(&shape(c), &part), cut(&planes, whole.channels, positions, start..start + c));
                parts.push((shape(c), part));
                start += c;
            }
            let views: Vec<_> = parts.iter().map(|(shape, data)| Blocked { shape: *shape, data }).collect();
            let mut joined = vec![f32::NAN; whole.len()];
            concat_channels(&views, &mut joined).unwrap();
            prop_assert_eq!(gather(&whole, &joined), planes);
            prop_assert!(concat_channels(&views, &mut joined[1..]).is_err());
        }
    }

    #[test]
    fn what_does_not_belong_together_is_refused() {
        let shape = Shape::new(1, 5, 2, 2, 4).unwrap();
        let (data, mut y) = ([0u8; 32], [0; 64]);
        let x = Blocked { shape, data: &data[..] };
        let other = Blocked { shape: Shape { height: 1, width: 4, ..shape }, data: &data[..] };
        assert!(concat_channels(&[x, x], &mut y[..48]).is_ok());
        assert!(concat_channels(&[x, other], &mut y[..48]).is_err());
        assert!(concat_channels::<u8>(&[], &mut y).is_err());
        assert!(slice_channels(x, 4, 1, &mut y[..16]).is_ok());
        assert!(slice_channels(x, 4, 2, &mut y[..16]).is_err());
        assert!(slice_channels(x, usize::MAX, 2, &mut y[..16]).is_err());
        assert!(slice_channels(x, 0, 5, &mut y[..16]).is_err());
    }
}
