//! How channels lie in a flat slice.

use crate::NumericsError;

/// Position of the channel axis in a dense tensor, seen as `[outer][channels][inner]`.
///
/// `outer` follows from the slice length. An OIHW weight has `channels = O`, `inner = I·H·W`; an NCHW activation of
/// one image has `channels = C`, `inner = H·W`; a channel-last tensor has `inner = 1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelLayout {
    /// Number of channels, at least 1 to be usable.
    pub channels: usize,
    /// Contiguous elements of one channel, at least 1 to be usable.
    pub inner: usize,
}

impl ChannelLayout {
    /// Layout of `channels` channels of `inner` contiguous elements.
    pub const fn new(channels: usize, inner: usize) -> Self {
        Self { channels, inner }
    }

    /// Layout of a tensor of `shape` whose channels lie along `axis`; `None` if there is no such axis.
    pub fn of_shape(shape: &[usize], axis: usize) -> Option<Self> {
        let channels = *shape.get(axis)?;
        let inner = shape[axis + 1..].iter().product();
        Some(Self { channels, inner })
    }

    /// Checks that `len` elements are a whole number of `[channels][inner]` groups.
    ///
    /// # Errors
    /// [`NumericsError::InvalidLayout`] if they are not, or if a dimension is 0.
    pub fn check(self, len: usize) -> Result<(), NumericsError> {
        let group = self.channels.checked_mul(self.inner).filter(|&group| group > 0);
        match group {
            Some(group) if len.is_multiple_of(group) => Ok(()),
            _ => Err(NumericsError::InvalidLayout { len, channels: self.channels, inner: self.inner }),
        }
    }

    /// Contiguous runs of `data` with the channel each belongs to, in memory order. Call after [`Self::check`].
    pub fn runs<T>(self, data: &[T]) -> impl Iterator<Item = (usize, &[T])> {
        data.chunks_exact(self.inner.max(1)).enumerate().map(move |(run, slice)| (run % self.channels.max(1), slice))
    }

    /// Mutable form of [`Self::runs`].
    pub(crate) fn runs_mut<T>(self, data: &mut [T]) -> impl Iterator<Item = (usize, &mut [T])> {
        data.chunks_exact_mut(self.inner.max(1))
            .enumerate()
            .map(move |(run, slice)| (run % self.channels.max(1), slice))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shape_and_axis_give_inner_extent() {
        assert_eq!(ChannelLayout::of_shape(&[2, 3, 4, 5], 1), Some(ChannelLayout::new(3, 20)));
        assert_eq!(ChannelLayout::of_shape(&[2, 3], 1), Some(ChannelLayout::new(3, 1)));
        assert_eq!(ChannelLayout::of_shape(&[2, 3], 2), None);
    }

    #[test]
    fn check_rejects_partial_groups_and_empty_dimensions() {
        assert!(ChannelLayout::new(3, 4).check(24).is_ok());
        for (layout, len) in [
            (ChannelLayout::new(3, 4), 23),
            (ChannelLayout::new(0, 4), 0),
            (ChannelLayout::new(3, 0), 0),
            (ChannelLayout::new(usize::MAX, 2), 4),
        ] {
            assert!(layout.check(len).is_err(), "{layout:?} accepted {len} elements");
        }
    }

    #[test]
    fn runs_cycle_through_channels() {
        let data = [0, 1, 2, 3, 4, 5, 6, 7];
        let channels: Vec<usize> = ChannelLayout::new(2, 2).runs(&data).map(|(channel, _)| channel).collect();
        assert_eq!(channels, [0, 1, 0, 1]);
    }
}
