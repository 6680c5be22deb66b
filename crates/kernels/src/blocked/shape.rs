//! Sizes of blocked activations.

use crate::error::KernelError;

/// Sizes of activations in blocks of channels, with all products checked. A tensor with one spatial axis has height 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Images.
    pub batch: usize,
    /// Channels, not counting what fills up the last block.
    pub channels: usize,
    /// Rows of a plane.
    pub height: usize,
    /// Pixels of a row.
    pub width: usize,
    /// Channels of a block: the lanes of a vector, or 4 for the few channels of an image.
    pub lanes: usize,
}

impl Shape {
    /// Sizes whose products fit the machine.
    ///
    /// # Errors
    /// If they do not, or `lanes` is zero.
    pub fn new(batch: usize, channels: usize, height: usize, width: usize, lanes: usize) -> Result<Self, KernelError> {
        if lanes == 0 {
            return Err(KernelError::Zero("lanes"));
        }
        let padded = channels.checked_next_multiple_of(lanes).ok_or(KernelError::TooLarge("activation"))?;
        let len = [batch, padded, height, width].into_iter().try_fold(size_of::<f32>(), usize::checked_mul);
        len.filter(|n| *n <= isize::MAX as usize).ok_or(KernelError::TooLarge("activation"))?;
        Ok(Self { batch, channels, height, width, lanes })
    }

    /// The same sizes with another number of channels.
    ///
    /// # Errors
    /// If the products do not fit the machine.
    pub(super) fn with_channels(&self, channels: usize) -> Result<Self, KernelError> {
        Self::new(self.batch, channels, self.height, self.width, self.lanes)
    }

    /// Blocks of channels.
    pub fn blocks(&self) -> usize {
        self.channels.div_ceil(self.lanes)
    }

    /// Pixels of a plane.
    pub fn positions(&self) -> usize {
        self.height * self.width
    }

    /// Elements of one block of one image.
    pub fn plane(&self) -> usize {
        self.positions() * self.lanes
    }

    /// Elements of one image.
    pub fn image(&self) -> usize {
        self.blocks() * self.plane()
    }

    /// Elements of all images, what fills up the last blocks included.
    pub fn len(&self) -> usize {
        self.batch * self.image()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Activations in blocks of channels: [`Shape::len`] elements.
#[derive(Clone, Copy, Debug)]
pub struct Blocked<'a, T> {
    /// Their sizes.
    pub shape: Shape,
    /// Their elements.
    pub data: &'a [T],
}
