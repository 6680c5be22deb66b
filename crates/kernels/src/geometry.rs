//! Sizes of sliding-window kernels, checked once so that the loops need no overflow checks.

use crate::error::{KernelError, check_len};
use std::ops::Range;

/// Windows have at most this many taps along an axis: far beyond any network, small enough to iterate over.
const MAX_KERNEL: usize = 1 << 24;

/// A sliding window along one spatial axis: output `o` reads `input[o * stride + tap * dilation - pad_begin]` for each
/// tap below `kernel`; what lies outside the input is padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Axis {
    /// Input size.
    pub input: usize,
    /// Taps of the window, at least 1.
    pub kernel: usize,
    /// Step between neighbouring outputs, at least 1.
    pub stride: usize,
    /// Distance between taps, at least 1.
    pub dilation: usize,
    /// Padding before the input.
    pub pad_begin: usize,
    /// Padding after the input; only averages that count padding look at it.
    pub pad_end: usize,
    /// Output size.
    pub output: usize,
}

impl Axis {
    /// An axis of size 1 without padding, which changes nothing.
    pub const UNIT: Self = Self { input: 1, kernel: 1, stride: 1, dilation: 1, pad_begin: 0, pad_end: 0, output: 1 };

    pub(crate) fn check(&self) -> Result<(), KernelError> {
        for (what, size) in [("kernel size", self.kernel), ("stride", self.stride), ("dilation", self.dilation)] {
            if size == 0 {
                return Err(KernelError::Zero(what));
            }
        }
        let padded = self.input.checked_add(self.pad_begin).and_then(|p| p.checked_add(self.pad_end));
        if self.kernel > MAX_KERNEL || padded.is_none() || self.checked_span().is_none() {
            return Err(KernelError::TooLarge("window"));
        }
        Ok(())
    }

    fn checked_span(&self) -> Option<usize> {
        let last = self.output.saturating_sub(1).checked_mul(self.stride)?;
        last.checked_add((self.kernel - 1).checked_mul(self.dilation)?)?.checked_add(1)
    }

    /// Padded elements from the first tap of the first window to the last tap of the last.
    pub(crate) fn span(&self) -> usize {
        self.output.saturating_sub(1) * self.stride + (self.kernel - 1) * self.dilation + 1
    }

    /// Input index under `tap` of window `output`, unless it is padding.
    pub(crate) fn input_at(&self, output: usize, tap: usize) -> Option<usize> {
        (output * self.stride + tap * self.dilation).checked_sub(self.pad_begin).filter(|i| *i < self.input)
    }

    /// Windows whose `tap` lies inside the input.
    pub(crate) fn inside(&self, tap: usize) -> Range<usize> {
        let shift = tap * self.dilation;
        let first = self.pad_begin.saturating_sub(shift).div_ceil(self.stride).min(self.output);
        let end = (self.input + self.pad_begin).saturating_sub(shift).div_ceil(self.stride).min(self.output);
        first..end.max(first)
    }

    /// Taps of window `output` that lie inside the input.
    pub(crate) fn taps_inside(&self, output: usize) -> Range<usize> {
        let start = output * self.stride;
        let first = self.pad_begin.saturating_sub(start).div_ceil(self.dilation).min(self.kernel);
        let end = (self.input + self.pad_begin).saturating_sub(start).div_ceil(self.dilation).min(self.kernel);
        first..end.max(first)
    }

    /// Windows that lie inside the input with all their taps.
    pub(crate) fn all_inside(&self) -> Range<usize> {
        let first = self.pad_begin.div_ceil(self.stride).min(self.output);
        let reach = (self.kernel - 1) * self.dilation;
        let end = (self.input + self.pad_begin).saturating_sub(reach).div_ceil(self.stride).min(self.output);
        first..end.max(first)
    }

    /// Input index under `tap` of the first window of [`Axis::inside`].
    pub(crate) fn first_inside(&self, tap: usize) -> usize {
        (self.inside(tap).start * self.stride + tap * self.dilation).saturating_sub(self.pad_begin)
    }

    /// Whether each output reads exactly the input of its own index.
    pub(crate) fn is_identity(&self) -> bool {
        self.kernel == 1 && self.stride == 1 && self.pad_begin == 0 && self.input == self.output
    }
}

fn product(what: &'static str, sizes: impl IntoIterator<Item = usize>) -> Result<usize, KernelError> {
    let product = sizes.into_iter().try_fold(1usize, usize::checked_mul);
    product.filter(|n| *n <= isize::MAX as usize).ok_or(KernelError::TooLarge(what))
}

/// Axes with their products; at least one axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Space {
    pub(crate) axes: Vec<Axis>,
    /// Elements of one input plane.
    pub(crate) input: usize,
    /// Elements of one output plane.
    pub(crate) output: usize,
    /// Taps of a window.
    pub(crate) taps: usize,
}

impl Space {
    fn new(axes: &[Axis]) -> Result<Self, KernelError> {
        let axes = if axes.is_empty() { vec![Axis::UNIT] } else { axes.to_vec() };
        axes.iter().try_for_each(Axis::check)?;
        let input = product("input", axes.iter().map(|a| a.input))?;
        let output = product("output", axes.iter().map(|a| a.output))?;
        let taps = product("window", axes.iter().map(|a| a.kernel))?;
        Ok(Self { axes, input, output, taps })
    }

    /// Splits the index of a tap of the whole window into one for each axis.
    pub(crate) fn split_tap(&self, mut index: usize, tap: &mut [usize]) {
        for (t, axis) in tap.iter_mut().zip(&self.axes).rev() {
            *t = index % axis.kernel;
            index /= axis.kernel;
        }
    }
}

/// Sizes of a convolution of `[batch, in_channels, input…]` to `[batch, out_channels, output…]`, with a weight
/// `[out_channels, in_channels / group, kernel…]`.
///
/// A transposed convolution is described by the convolution it is the adjoint of: its input is this one's output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvGeometry {
    pub(crate) batch: usize,
    pub(crate) group: usize,
    /// Input channels of one group.
    pub(crate) group_in: usize,
    /// Output channels of one group.
    pub(crate) group_out: usize,
    pub(crate) space: Space,
}

impl ConvGeometry {
    /// Checked sizes; no axes stand for one axis of size 1.
    ///
    /// # Errors
    /// If a kernel size, stride, dilation or `group` is zero, `group` does not divide the channels, or a size
    /// overflows.
    pub fn new(
        batch: usize,
        in_channels: usize,
        out_channels: usize,
        group: usize,
        axes: &[Axis],
    ) -> Result<Self, KernelError> {
        if group == 0 {
            return Err(KernelError::Zero("group"));
        }
        if let Some(channels) = [in_channels, out_channels].into_iter().find(|c| c % group != 0) {
            return Err(KernelError::Group { channels, group });
        }
        let space = Space::new(axes)?;
        let geometry = Self { batch, group, group_in: in_channels / group, group_out: out_channels / group, space };
        product("input", [batch, in_channels, geometry.space.input])?;
        product("output", [batch, out_channels, geometry.space.output])?;
        product("weight", [out_channels, geometry.group_in, geometry.space.taps])?;
        Ok(geometry)
    }

    /// Elements of the convolution's input.
    pub fn input_len(&self) -> usize {
        self.batch * self.group * self.group_in * self.space.input
    }

    /// Elements of the convolution's output.
    pub fn output_len(&self) -> usize {
        self.batch * self.out_channels() * self.space.output
    }

    /// Elements of the weight.
    pub fn weight_len(&self) -> usize {
        self.out_channels() * self.group_weight()
    }

    pub(crate) fn out_channels(&self) -> usize {
        self.group * self.group_out
    }

    pub(crate) fn in_channels(&self) -> usize {
        self.group * self.group_in
    }

    /// Weights of one output channel: the length of the sums a convolution computes.
    pub(crate) fn group_weight(&self) -> usize {
        self.group_in * self.space.taps
    }

    /// Whether the convolution is a plain product of the weight with the input.
    pub(crate) fn is_pointwise(&self) -> bool {
        self.space.axes.iter().all(Axis::is_identity)
    }
}

/// Sizes of a pooling of `[planes, input…]` to `[planes, output…]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolGeometry {
    pub(crate) planes: usize,
    pub(crate) space: Space,
}

impl PoolGeometry {
    /// Checked sizes; no axes stand for one axis of size 1.
    ///
    /// # Errors
    /// If a kernel size, stride or dilation is zero, or a size overflows.
    pub fn new(planes: usize, axes: &[Axis]) -> Result<Self, KernelError> {
        let space = Space::new(axes)?;
        product("input", [planes, space.input])?;
        product("output", [planes, space.output])?;
        Ok(Self { planes, space })
    }

    pub(crate) fn check(&self, x: &[f32], y: &[f32]) -> Result<(), KernelError> {
        check_len("input", self.planes * self.space.input, x.len())?;
        check_len("output", self.planes * self.space.output, y.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::any_axis;
    use proptest::prelude::*;

    #[test]
    fn sizes_that_cannot_be_are_refused() {
        let axis = Axis { input: 4, output: 4, ..Axis::UNIT };
        assert_eq!(ConvGeometry::new(1, 4, 4, 0, &[axis]), Err(KernelError::Zero("group")));
        assert_eq!(ConvGeometry::new(1, 3, 4, 2, &[axis]), Err(KernelError::Group { channels: 3, group: 2 }));
        assert!(ConvGeometry::new(usize::MAX, 2, 2, 1, &[axis]).is_err());
        let cases = [
            ("kernel", Axis { kernel: 0, ..axis }),
            ("stride", Axis { stride: 0, ..axis }),
            ("dilation", Axis { dilation: 0, ..axis }),
            ("huge kernel", Axis { kernel: usize::MAX, ..axis }),
            ("huge pad", Axis { pad_begin: usize::MAX, ..axis }),
            ("huge stride", Axis { stride: usize::MAX, ..axis }),
        ];
        for (name, axis) in cases {
            assert!(PoolGeometry::new(1, &[axis]).is_err(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn the_inside_of_a_tap_is_where_it_reads_input(axis in any_axis()) {
            for tap in 0..axis.kernel {
                let inside = axis.inside(tap);
                for o in 0..axis.output {
                    prop_assert_eq!(inside.contains(&o), axis.input_at(o, tap).is_some());
                }
                if !inside.is_empty() {
                    prop_assert_eq!(Some(axis.first_inside(tap)), axis.input_at(inside.start, tap));
                }
            }
        }
    }
}
