//! Inputs and comparisons of the tests.

use crate::blocked::Shape;
use crate::buffer::{Buffer, Number};
use crate::geometry::Axis;
use proptest::prelude::*;

/// Reproducible values in -1..1.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1u32 << 23) as f32 - 1.0
        })
        .collect()
}

/// Reproducible codes in `-largest - 1..=largest`.
pub(crate) fn codes(seed: u64, len: usize, largest: i16) -> Vec<i16> {
    let range = f32::from(largest) + 1.0;
    noise(seed, len).iter().map(|v| (v * range).floor() as i16).collect()
}

/// Index in an input plane that an output position reads under a tap, unless it is padding: the definition.
pub(crate) fn tap_input(axes: &[Axis], mut position: usize, mut tap: usize) -> Option<usize> {
    let (mut index, mut step) = (0, 1);
    for a in axes.iter().rev() {
        let at = position % a.output * a.stride + tap % a.kernel * a.dilation;
        index += at.checked_sub(a.pad_begin).filter(|i| *i < a.input)? * step;
        (step, position, tap) = (step * a.input, position / a.output, tap / a.kernel);
    }
    Some(index)
}

/// Blocks of planes; lanes beyond the channels hold `filler`, so that whoever reads them is found out.
pub(crate) fn spread<T: Number>(shape: &Shape, planes: &[T], filler: T) -> Buffer<T> {
    let mut blocks = Buffer::from(&vec![filler; shape.len()][..]);
    for (i, value) in planes.iter().enumerate() {
        let (plane, position) = (i / shape.positions(), i % shape.positions());
        blocks[place(shape, plane / shape.channels, plane % shape.channels, position)] = *value;
    }
    blocks
}

/// Planes of blocks.
pub(crate) fn gather<T: Number>(shape: &Shape, blocks: &[T]) -> Vec<T> {
    let planes = (0..shape.batch).flat_map(|n| (0..shape.channels).map(move |c| (n, c)));
    planes.flat_map(|(n, c)| (0..shape.positions()).map(move |p| blocks[place(shape, n, c, p)])).collect()
}

fn place(shape: &Shape, image: usize, channel: usize, position: usize) -> usize {
    image * shape.image() + channel / shape.lanes * shape.plane() + position * shape.lanes + channel % shape.lanes
}

/// Asserts equality up to the rounding of sums of `terms` products of values in -1..1.
#[track_caller]
pub(crate) fn assert_close(found: &[f32], expected: &[f32], terms: f32) {
    assert_eq!(found.len(), expected.len());
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        assert!((f - e).abs() <= 2e-7 * (terms + 4.0), "element {i}: {f} instead of {e}");
    }
}

/// Any small axis whose windows start inside the padded input.
pub(crate) fn any_axis() -> impl Strategy<Value = Axis> {
    (1usize..9, 1usize..4, 1usize..4, 1usize..4, 0usize..4, 0usize..4).prop_map(
        |(input, kernel, stride, dilation, pad_begin, pad_end)| {
            let free = (input + pad_begin + pad_end).saturating_sub(dilation * (kernel - 1) + 1);
            Axis { input, kernel, stride, dilation, pad_begin, pad_end, output: free / stride + 1 }
        },
    )
}

/// Any axis of some tiles' length, with at most five neighbouring taps.
pub(crate) fn any_long_axis() -> impl Strategy<Value = Axis> {
    (1usize..80, 1usize..6, 1usize..3, 0usize..4, 0usize..4).prop_map(|(input, kernel, stride, pad_begin, pad_end)| {
        let free = (input + pad_begin + pad_end).saturating_sub(kernel);
        Axis { input, kernel, stride, dilation: 1, pad_begin, pad_end, output: free / stride + 1 }
    })
}

/// One to three axes.
pub(crate) fn any_axes() -> impl Strategy<Value = Vec<Axis>> {
    proptest::collection::vec(any_axis(), 1..4)
}
