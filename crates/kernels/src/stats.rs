//! Statistics of the values of a tensor while they are in the cache: counts of special values, extremes, a histogram
//! with bins as wide as a power of two, and the moments of each channel.
//!
//! Subnormals count as zero and -0.0 as +0.0; NaN and infinities are counted and otherwise ignored. Results depend on
//! the values alone: they are the same for every instruction set, and for planes and blocks of channels. What lives
//! here: passes over values. What does not: how statistics of several images come together.

mod count;
mod counters;
mod moments;
mod survey;

#[cfg(test)]
mod tests;

pub use count::count_equal;
pub use counters::{BINS, Counters};
pub use moments::{ChannelMoments, moments_of_blocks, moments_of_channels};
pub use survey::{Summary, Survey, count_bins, summarize, survey};

use crate::blocked::Blocked;

/// The values of a tensor, in either layout.
#[derive(Clone, Copy, Debug)]
pub enum Values<'a> {
    /// All elements of a slice.
    Plain(&'a [f32]),
    /// The channels of blocks; what fills up the last block does not count, nor does an image that is cut short.
    Blocked(Blocked<'a, f32>),
}

impl<'a> Values<'a> {
    /// Number of values.
    pub fn len(&self) -> usize {
        match self {
            Self::Plain(values) => values.len(),
            Self::Blocked(blocks) => blocks.shape.batch * blocks.shape.channels * blocks.shape.positions(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Stretches of memory that together hold every value once, for vectors of `vector` elements.
    fn runs(self, vector: usize) -> impl Iterator<Item = Run<'a>> {
        let (data, image, whole, lanes, present) = match self {
            Self::Plain(data) => (data, data.len(), data.len(), 1, 1),
            Self::Blocked(Blocked { shape, data }) => {
                let whole = shape.channels / shape.lanes * shape.plane();
                (data, shape.image(), whole, shape.lanes, shape.channels % shape.lanes)
            }
        };
        data.chunks_exact(image.max(1)).flat_map(move |image| {
            let (whole, last) = image.split_at(whole);
            // Where vectors do not hold whole pixels, each pixel is a run.
            let fits = vector.is_multiple_of(lanes);
            let last = last.chunks(if fits { last.len().max(1) } else { lanes }).map(move |data| match fits {
                true => Run { data, lanes, present },
                false => Run { data: &data[..present], lanes: 1, present: 1 },
            });
            std::iter::once(Run { data: whole, lanes: 1, present: 1 }).chain(last)
        })
    }
}

/// Pixels of `lanes` elements, of which the first `present` are values.
#[derive(Clone, Copy)]
struct Run<'a> {
    data: &'a [f32],
    lanes: usize,
    present: usize,
}

impl Run<'_> {
    /// Number of values.
    fn len(&self) -> usize {
        self.data.len() / self.lanes * self.present
    }

    /// Elements of a vector that are values: bit `i` for element `i`.
    fn mask(&self) -> u32 {
        (0..u32::BITS).filter(|i| *i as usize % self.lanes < self.present).fold(0, |mask, i| mask | 1 << i)
    }
}
