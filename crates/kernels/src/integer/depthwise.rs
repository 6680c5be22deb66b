//! Convolution with one input channel for each group: sums of shifted planes of 32-bit elements.

use super::isa::Isa;
use crate::depthwise::{Plan, set_weights};
use crate::geometry::ConvGeometry;

/// Hands the sum of every element of `out` to `put`.
pub(super) fn run<O>(
    isa: Isa,
    plan: &Plan,
    geometry: &ConvGeometry,
    x: &[i16],
    weight: &[i32],
    out: &mut [O],
    put: impl Fn(&mut O, i32),
    scratch: &mut Vec<i32>,
) {
    let mut taps = plan.taps();
    let sum = |out_channel: usize, plane: &[i32], row: &mut [i32]| {
        set_weights(&mut taps, &weight[out_channel * geometry.space.taps..]);
        isa.tap_sum(plane, &taps, row);
    };
    plan.each_plane(geometry, x, out, scratch, sum, put);
}
