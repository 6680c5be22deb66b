//! Convolution with one input channel for each group, over one or two axes.
//!
//! An input plane is copied into a zero-bordered plane that is split by stride: phase (i, j) holds every element whose
//! row is i and column is j modulo the strides. Whatever the stride and dilation, neighbouring outputs then read
//! neighbouring elements under each tap, rows follow each other at the same pitch in all phases, and the whole output
//! plane becomes one long row of [`tap_sum`], with a few unused elements at the end of each row.

use crate::geometry::{Axis, ConvGeometry};
use crate::simd::Isa;
use crate::strided::copy_strided;
use crate::tap_sum::{BLOCK, Tap, tap_sum};

/// Bordered planes larger than this many elements (4 MiB) are left to the general convolution.
const MAX_PLANE: usize = 1 << 20;

/// Layout of the bordered plane.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    vertical: Axis,
    horizontal: Axis,
    /// Elements between neighbouring rows of a phase.
    pitch: usize,
    /// Elements of a phase.
    phase: usize,
    /// Elements of all phases.
    plane: usize,
    /// Elements of the long output row, in whole blocks.
    row: usize,
}

impl Plan {
    /// The plan for a geometry, if the kernel suits it.
    pub(crate) fn new(geometry: &ConvGeometry) -> Option<Self> {
        let (vertical, horizontal) = match geometry.space.axes.as_slice() {
            [h] => (Axis::UNIT, *h),
            [v, h] => (*v, *h),
            _ => return None,
        };
        if geometry.group_in != 1 || geometry.space.input == 0 || geometry.space.output == 0 {
            return None;
        }
        let pitch = horizontal.span().div_ceil(horizontal.stride);
        let phase = vertical.span().div_ceil(vertical.stride).checked_mul(pitch)?;
        let plane = phase.checked_mul(vertical.stride)?.checked_mul(horizontal.stride)?;
        let row = ((vertical.output - 1) * pitch + horizontal.output).next_multiple_of(BLOCK);
        (plane <= MAX_PLANE).then_some(Self { vertical, horizontal, pitch, phase, plane, row })
    }

    /// Convolves; the lengths have been checked.
    pub(crate) fn run(
        &self,
        geometry: &ConvGeometry,
        x: &[f32],
        weight: &[f32],
        bias: Option<&[f32]>,
        y: &mut [f32],
        scratch: &mut Vec<f32>,
    ) {
        let mut taps = self.taps();
        self.each_plane(geometry, x, y, scratch, |channel, plane, row, y| {
            set_weights(&mut taps, &weight[channel * geometry.space.taps..]);
            tap_sum(Isa::active(), plane, &taps, bias.map_or(0.0, |b| b[channel]), row);
            self.crop(row, y, |to, sum| *to = sum);
        });
    }

    /// Calls `visit(channel, plane, row, y)` for each output plane `y`, with its channel, the bordered input plane and
    /// room for the long output row.
    pub(crate) fn each_plane<T: Copy + Into<U>, U: Copy + Default, O>(
        &self,
        geometry: &ConvGeometry,
        x: &[T],
        y: &mut [O],
        scratch: &mut Vec<U>,
        mut visit: impl FnMut(usize, &[U], &mut [U], &mut [O]),
    ) {
        // The last block of the long row may read up to a block beyond the plane.
        let bordered = self.plane + BLOCK;
        scratch.clear();
        scratch.resize(bordered + self.row, U::default());
        let (plane, row) = scratch.split_at_mut(bordered);
        for (channel, y) in y.chunks_exact_mut(geometry.space.output).enumerate() {
            if channel % geometry.group_out == 0 {
                self.spread(&x[channel / geometry.group_out * geometry.space.input..][..geometry.space.input], plane);
            }
            visit(channel % geometry.out_channels(), plane, row, y);
        }
    }

    /// Hands the valid elements of the long output row to their places in the output plane.
    pub(crate) fn crop<U: Copy, O>(&self, row: &[U], y: &mut [O], put: impl Fn(&mut O, U)) {
        for (to, from) in y.chunks_exact_mut(self.horizontal.output).zip(row.chunks(self.pitch)) {
            to.iter_mut().zip(from).for_each(|(to, from)| put(to, *from));
        }
    }

    /// Offsets of all taps, in the order of the weights, which are still 0.
    pub(crate) fn taps<T: Default>(&self) -> Vec<Tap<T>> {
        let (v, h) = (&self.vertical, &self.horizontal);
        let at = |i: usize, j: usize| self.position(i * v.dilation, j * h.dilation);
        let pairs = (0..v.kernel).flat_map(|i| (0..h.kernel).map(move |j| (i, j)));
        pairs.map(|(i, j)| Tap { offset: at(i, j), weight: T::default() }).collect()
    }

    /// Where the bordered element in `row` and `column` stands.
    fn position(&self, row: usize, column: usize) -> usize {
        let (v, h) = (self.vertical.stride, self.horizontal.stride);
        (row % v * h + column % h) * self.phase + row / v * self.pitch + column / h
    }

    /// Copies an input plane to the inside of the bordered plane; the border stays as it is.
    fn spread<T: Copy + Into<U>, U>(&self, x: &[T], plane: &mut [U]) {
        let (begin, stride) = (self.horizontal.pad_begin, self.horizontal.stride);
        let width = self.horizontal.input.min(self.horizontal.span().saturating_sub(begin));
        let rows = self.vertical.span().saturating_sub(self.vertical.pad_begin);
        for (i, x) in x.chunks_exact(self.horizontal.input).take(rows).enumerate() {
            for phase in 0..stride.min(width) {
                let to = self.position(i + self.vertical.pad_begin, phase + begin);
                copy_strided(&x[phase..width], stride, &mut plane[to..]);
            }
        }
    }
}

/// Gives the taps their weights, in order.
pub(crate) fn set_weights<T: Copy>(taps: &mut [Tap<T>], weights: &[T]) {
    taps.iter_mut().zip(weights).for_each(|(tap, weight)| tap.weight = *weight);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn huge_borders_are_left_to_the_general_convolution() {
        let axis = Axis { input: 1, stride: 1 << 30, pad_begin: 1 << 40, output: 1 << 10, ..Axis::UNIT };
        assert!(Plan::new(&ConvGeometry::new(1, 1, 1, 1, &[axis]).unwrap()).is_none());
    }

    #[test]
    fn phases_keep_neighbouring_outputs_together() {
        let axis = Axis { input: 8, kernel: 3, stride: 2, pad_begin: 1, output: 4, ..Axis::UNIT };
        let plan = Plan::new(&ConvGeometry::new(1, 1, 1, 1, &[axis]).unwrap()).unwrap();
        let mut plane = vec![0.0; plan.plane];
        plan.spread(&[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0], &mut plane);
        assert_eq!(plane, [0.0, 2.0, 4.0, 6.0, 8.0, 1.0, 3.0, 5.0, 7.0, 0.0]);
        let offsets: Vec<usize> = plan.taps::<f32>().iter().map(|t| t.offset).collect();
        assert_eq!(offsets, [0, 5, 1]);
    }
}
