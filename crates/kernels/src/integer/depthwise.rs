//! Convolution with one input channel for each group: sums of shifted planes of 32-bit elements.

use super::accumulator::Accumulator;
use super::product::Step;
use crate::depthwise::{Plan, set_weights};
use crate::geometry::ConvGeometry;
use crate::simd::Isa;
use crate::tap_sum::tap_sum_i32;

/// Hands the sums of every element of `out` to `put`, one for each digit.
pub(super) fn run<O>(
    isa: Isa,
    plan: &Plan,
    geometry: &ConvGeometry,
    x: &[i16],
    weight: &[i32],
    accumulator: Accumulator,
    out: &mut [O],
    put: impl Fn(&mut O, i32, Step) + Copy,
    scratch: &mut Vec<i32>,
) {
    let (digits, count) = (accumulator.digits(), geometry.space.taps);
    let mut taps = plan.taps();
    plan.each_plane(geometry, x, out, scratch, |channel, plane, row, out| {
        for (d, digit) in digits.iter().enumerate() {
            set_weights(&mut taps, &weight[(channel * digits.len() + d) * count..][..count]);
            tap_sum_i32(isa, plane, &taps, row);
            let step = Step { first: d == 0, shift: digit.shift };
            plan.crop(row, out, |to, sum| put(to, sum, step));
        }
    });
}
