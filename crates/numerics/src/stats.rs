//! Mergeable statistics of one tensor over many images: counts, extremes, histogram, per-channel moments.
//!
//! The result is bit-identical for any order of images and any split over threads or shards: everything is an integer
//! count, an extreme, a map keyed by image, or a floating-point sum over a fixed tree of images. Running the images
//! and storing the statistics in files happen elsewhere; ranges are derived in [`crate::range`].

mod moments;
mod record;
mod summary;

use std::collections::BTreeMap;

use crate::{ChannelLayout, DyadicHistogram, NumericsError, Range};
use moments::{ImageSums, channel_moments};

pub use moments::ChannelMoments;
pub use summary::{Summary, Values};

/// What is known about the values of one tensor.
///
/// Subnormals count as zero and −0.0 as +0.0. NaN and infinities are counted and otherwise ignored. Statistics of no
/// image are valid: every count is zero and every extreme absent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TensorStats {
    n: u64,
    n_nan: u64,
    n_inf: u64,
    n_zero: u64,
    extremes: Option<Extremes>,
    histogram: DyadicHistogram,
    /// Range of the finite values of every observed image; absent if it had none.
    images: BTreeMap<u64, Option<Range>>,
    channels: Option<ChannelStats>,
}

/// Range of the finite values and how often its exact ends occur.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Extremes {
    /// Smallest and largest finite value.
    pub range: Range,
    /// Occurrences of the smallest value.
    pub n_at_min: u64,
    /// Occurrences of the largest value.
    pub n_at_max: u64,
}

impl Extremes {
    /// The end with more to say wins; equal ends add up.
    fn merged(a: Self, b: Self) -> Self {
        let at = |end: fn(Range) -> f32, n: fn(&Self) -> u64, winner: f32| {
            [a, b].iter().filter(|side| end(side.range) == winner).map(n).sum()
        };
        let range = a.range.union(b.range);
        Self {
            range,
            n_at_min: at(Range::lo, |side| side.n_at_min, range.lo()),
            n_at_max: at(Range::hi, |side| side.n_at_max, range.hi()),
        }
    }
}

/// Per-channel statistics of finite values.
#[derive(Debug, Clone, PartialEq)]
pub struct ChannelStats {
    counts: Vec<u64>,
    ranges: Vec<Option<Range>>,
    sums: ImageSums,
}

impl ChannelStats {
    fn new(channels: usize) -> Self {
        Self { counts: vec![0; channels], ranges: vec![None; channels], sums: ImageSums::default() }
    }

    /// Number of channels.
    pub fn len(&self) -> usize {
        self.counts.len()
    }

    /// Whether there are no channels; never true for observed statistics.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// Finite values per channel.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// Range of the finite values per channel; absent for a channel without any.
    pub fn ranges(&self) -> &[Option<Range>] {
        &self.ranges
    }

    /// Mean per channel; 0 for a channel without finite values.
    pub fn means(&self) -> Vec<f64> {
        self.averages(0)
    }

    /// Mean square per channel; 0 for a channel without finite values.
    pub fn second_moments(&self) -> Vec<f64> {
        self.averages(self.len())
    }

    fn averages(&self, first: usize) -> Vec<f64> {
        let totals = self.sums.total(2 * self.len());
        let sums = &totals[first..first + self.len()];
        sums.iter().zip(&self.counts).map(|(sum, &n)| if n == 0 { 0.0 } else { sum / n as f64 }).collect()
    }

    fn merge(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(ours, theirs)| *ours += theirs);
        for (ours, theirs) in self.ranges.iter_mut().zip(&other.ranges) {
            *ours = union(*ours, *theirs);
        }
        self.sums.merge(&other.sums);
    }
}

fn union(a: Option<Range>, b: Option<Range>) -> Option<Range> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.union(b)),
        (a, b) => a.or(b),
    }
}

impl TensorStats {
    /// Statistics of no image.
    pub const fn new() -> Self {
        Self {
            n: 0,
            n_nan: 0,
            n_inf: 0,
            n_zero: 0,
            extremes: None,
            histogram: DyadicHistogram::new(),
            images: BTreeMap::new(),
            channels: None,
        }
    }

    /// Adds the tensor's values for one image. `layout` asks for per-channel statistics; it must have the same number
    /// of channels for every image, `inner` may vary.
    ///
    /// # Errors
    /// [`NumericsError::DuplicateImage`], [`NumericsError::ChannelMismatch`] or [`NumericsError::InvalidLayout`];
    /// the statistics are then unchanged.
    pub fn observe(&mut self, image: u64, layout: Option<ChannelLayout>, data: &[f32]) -> Result<(), NumericsError> {
        self.check_observation(image, layout, data.len())?;
        self.add(image, data);
        if let Some(layout) = layout {
            self.add_channels(image, &channel_moments(layout, data));
        }
        Ok(())
    }

    /// Adds the tensor's values for one image, however they are stored, without per-channel statistics.
    ///
    /// # Errors
    /// As [`TensorStats::observe`].
    pub fn observe_values<V: Values + ?Sized>(&mut self, image: u64, values: &V) -> Result<(), NumericsError> {
        self.observe_channels(image, values, &[])
    }

    /// Adds the tensor's values for one image, and what is known about each of its channels.
    ///
    /// # Errors
    /// As [`TensorStats::observe`].
    pub fn observe_channels<V: Values + ?Sized>(
        &mut self,
        image: u64,
        values: &V,
        channels: &[ChannelMoments],
    ) -> Result<(), NumericsError> {
        self.check_image(image, channels.len())?;
        self.add(image, values);
        if !channels.is_empty() {
            self.add_channels(image, channels);
        }
        Ok(())
    }

    fn add<V: Values + ?Sized>(&mut self, image: u64, values: &V) {
        let summary = values.survey(&mut self.histogram);
        self.n += values.len();
        self.n_nan += summary.n_nan;
        self.n_inf += summary.n_inf;
        self.n_zero += summary.n_zero;
        self.images.insert(image, summary.range);
        if let Some(range) = summary.range {
            self.add_extremes(range, &summary, values);
        }
    }

    fn add_channels(&mut self, image: u64, channels: &[ChannelMoments]) {
        self.channels.get_or_insert_with(|| ChannelStats::new(channels.len())).add(image, channels);
    }

    fn check_observation(&self, image: u64, layout: Option<ChannelLayout>, len: usize) -> Result<(), NumericsError> {
        if let Some(layout) = layout {
            layout.check(len)?;
        }
        self.check_image(image, layout.map_or(0, |layout| layout.channels))
    }

    fn check_image(&self, image: u64, channels: usize) -> Result<(), NumericsError> {
        if self.images.contains_key(&image) {
            return Err(NumericsError::DuplicateImage { image });
        }
        self.check_channels(channels)
    }

    fn check_channels(&self, found: usize) -> Result<(), NumericsError> {
        let expected = self.channels.as_ref().map_or(0, ChannelStats::len);
        if self.images.is_empty() || expected == found {
            return Ok(());
        }
        Err(NumericsError::ChannelMismatch { expected, found })
    }

    fn add_extremes<V: Values + ?Sized>(&mut self, range: Range, summary: &Summary, values: &V) {
        let count = |end: f32| if end == 0.0 { summary.n_zero } else { values.count_equal(end) };
        // Counting takes another pass over the data: only where the new extreme is not beaten already.
        let (lo, hi) = self.extremes.map_or((range.lo(), range.hi()), |known| (known.range.lo(), known.range.hi()));
        let n_at_min = if range.lo() <= lo { count(range.lo()) } else { 0 };
        let n_at_max = if range.hi() >= hi { count(range.hi()) } else { 0 };
        let new = Extremes { range, n_at_min, n_at_max };
        self.extremes = Some(self.extremes.map_or(new, |known| Extremes::merged(known, new)));
    }

    /// Adds statistics of the same tensor over other images; associative and commutative bit for bit.
    ///
    /// # Errors
    /// [`NumericsError::DuplicateImage`] or [`NumericsError::ChannelMismatch`]; the statistics are then unchanged.
    pub fn merge(&mut self, other: &Self) -> Result<(), NumericsError> {
        if other.images.is_empty() {
            return Ok(());
        }
        self.check_channels(other.channels.as_ref().map_or(0, ChannelStats::len))?;
        if let Some(&image) = other.images.keys().find(|image| self.images.contains_key(image)) {
            return Err(NumericsError::DuplicateImage { image });
        }
        self.absorb_values(other);
        match (&mut self.channels, &other.channels) {
            (Some(ours), Some(theirs)) => ours.merge(theirs),
            (ours, theirs) => *ours = theirs.clone(),
        }
        Ok(())
    }

    /// Statistics of the values of several tensors taken together, for tensors that must share scale and zero point.
    /// Images may be common to all of them; per-channel statistics have no meaning here and are absent.
    pub fn pooled<'a>(tensors: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut pooled = Self::new();
        tensors.into_iter().for_each(|tensor| pooled.absorb_values(tensor));
        pooled
    }

    fn absorb_values(&mut self, other: &Self) {
        self.n += other.n;
        self.n_nan += other.n_nan;
        self.n_inf += other.n_inf;
        self.n_zero += other.n_zero;
        self.extremes = match (self.extremes, other.extremes) {
            (Some(a), Some(b)) => Some(Extremes::merged(a, b)),
            (a, b) => a.or(b),
        };
        self.histogram.merge(&other.histogram);
        for (&image, &range) in &other.images {
            let entry = self.images.entry(image).or_insert(None);
            *entry = union(*entry, range);
        }
    }

    /// All values, NaN and infinities included.
    pub const fn n(&self) -> u64 {
        self.n
    }

    /// NaN values.
    pub const fn n_nan(&self) -> u64 {
        self.n_nan
    }

    /// Infinite values of either sign.
    pub const fn n_inf(&self) -> u64 {
        self.n_inf
    }

    /// Zeros, −0.0 and subnormals.
    pub const fn n_zero(&self) -> u64 {
        self.n_zero
    }

    /// Values that are neither NaN nor infinite.
    pub const fn n_finite(&self) -> u64 {
        self.n - self.n_nan - self.n_inf
    }

    /// Range of the finite values, or `None` without any.
    pub fn range(&self) -> Option<Range> {
        self.extremes.map(|extremes| extremes.range)
    }

    /// Range of the finite values with the occurrences of its ends, or `None` without any finite value.
    pub const fn extremes(&self) -> Option<Extremes> {
        self.extremes
    }

    /// Histogram of the non-zero finite values.
    pub const fn histogram(&self) -> &DyadicHistogram {
        &self.histogram
    }

    /// Observed images, ascending by id, with the range of their finite values.
    pub fn images(&self) -> impl ExactSizeIterator<Item = (u64, Option<Range>)> + '_ {
        self.images.iter().map(|(&image, &range)| (image, range))
    }

    /// Per-channel statistics, if the observations had a channel layout.
    pub const fn channels(&self) -> Option<&ChannelStats> {
        self.channels.as_ref()
    }

    /// Mean square of the finite values, values taken as uniform within their histogram bin; 0 without any.
    pub fn second_moment(&self) -> f64 {
        if self.n_finite() == 0 {
            return 0.0;
        }
        let sum: f64 = self.histogram.occupied().map(|(bin, count)| count as f64 * bin_second_moment(bin)).sum();
        sum * self.histogram.width().powi(2) / self.n_finite() as f64
    }
}

/// Mean of x² for x uniform in [bin, bin + 1).
fn bin_second_moment(bin: i32) -> f64 {
    let centre = f64::from(bin) + 0.5;
    centre * centre + 1.0 / 12.0
}

#[cfg(test)]
mod tests;
