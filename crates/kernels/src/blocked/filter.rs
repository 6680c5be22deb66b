//! What a convolution is before it is known on which sizes it runs, and how its channels map to blocks.

use super::Shape;
use crate::error::{KernelError, check_len};
use crate::geometry::Axis;

/// Channels, groups and window of a convolution over one or two spatial axes; with one, all vertical numbers are 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Input channels of all groups.
    pub in_channels: usize,
    /// Output channels of all groups.
    pub out_channels: usize,
    /// Groups of channels that are convolved on their own.
    pub group: usize,
    /// Taps, vertical and horizontal.
    pub kernel: [usize; 2],
    /// Step between outputs, vertical and horizontal.
    pub stride: [usize; 2],
    /// Distance between taps, vertical and horizontal.
    pub dilation: [usize; 2],
}

/// Groups that share a block are packed as one dense product with zeros between them: at most this many, beyond which
/// the zeros cost more than a convolution on planes.
const MAX_BUNDLE: usize = 8;

/// Independent dense convolutions that a grouped one is made of: slices of whole blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Units {
    /// How many.
    pub(crate) count: usize,
    /// Groups in each.
    pub(crate) bundle: usize,
    /// Input channels of each.
    pub(crate) in_channels: usize,
    /// Output channels of each.
    pub(crate) out_channels: usize,
}

impl Filter {
    /// Taps of the window.
    pub(crate) fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Checks that nothing is zero that must not be, and the lengths of the weight and the bias.
    ///
    /// # Errors
    /// If they do not fit.
    pub(crate) fn check(&self, weight: usize, bias: Option<usize>) -> Result<(), KernelError> {
        for (what, sizes) in [("kernel size", self.kernel), ("stride", self.stride), ("dilation", self.dilation)] {
            if sizes.contains(&0) {
                return Err(KernelError::Zero(what));
            }
        }
        for channels in [self.in_channels, self.out_channels] {
            if self.group == 0 || channels % self.group != 0 {
                return Err(KernelError::Group { channels, group: self.group });
            }
        }
        let sizes = [self.out_channels, self.in_channels / self.group, self.kernel[0], self.kernel[1]];
        let expected = sizes.into_iter().try_fold(1usize, usize::checked_mul);
        check_len("weight", expected.ok_or(KernelError::TooLarge("weight"))?, weight)?;
        bias.map_or(Ok(()), |len| check_len("bias", self.out_channels, len))
    }

    /// How the groups become slices of blocks; `None` if that would waste too much.
    pub(crate) fn units(&self, lanes: usize) -> Option<Units> {
        let (group_in, group_out) = (self.in_channels / self.group, self.out_channels / self.group);
        let aligned = |bundle: &usize| {
            let whole_blocks = |channels: usize| (bundle * channels).is_multiple_of(lanes);
            self.group.is_multiple_of(*bundle)
                && (*bundle == self.group || (whole_blocks(group_in) && whole_blocks(group_out)))
        };
        let bundle = (1..=self.group.min(MAX_BUNDLE)).find(aligned)?;
        Some(Units {
            count: self.group / bundle,
            bundle,
            in_channels: bundle * group_in,
            out_channels: bundle * group_out,
        })
    }

    /// Whether a window has one tap, so that each output reads one pixel.
    pub(crate) fn is_pointwise(&self) -> bool {
        self.taps() == 1
    }

    /// Checks the sizes of a call and returns the shape of its result, in blocks of `lanes`.
    ///
    /// # Errors
    /// If the input, the window or the length of the result does not belong to the filter.
    pub(crate) fn result(
        &self,
        x: &Shape,
        x_len: usize,
        window: &[Axis; 2],
        lanes: usize,
        y_len: usize,
    ) -> Result<Shape, KernelError> {
        let x = Shape::new(x.batch, x.channels, x.height, x.width, x.lanes)?;
        check_len("input channels", self.in_channels, x.channels)?;
        check_len("input", x.len(), x_len)?;
        for (i, axis) in window.iter().enumerate() {
            axis.check()?;
            let input = [x.height, x.width][i];
            if [axis.input, axis.kernel, axis.stride, axis.dilation]
                != [input, self.kernel[i], self.stride[i], self.dilation[i]]
            {
                return Err(KernelError::Packing);
            }
        }
        let y = Shape::new(x.batch, self.out_channels, window[0].output, window[1].output, lanes)?;
        check_len("output", y.len(), y_len)?;
        Ok(y)
    }
}
