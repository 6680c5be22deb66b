//! The dyadic signed histogram: equal bins whose width is a power of two, so that histograms of any magnitude merge
//! exactly and the result depends on the multiset of values alone.
//!
//! What else is known about a tensor lives in [`crate::stats`].

use crate::finite::{CHUNK, Cleaned, clean};

/// Bins on either side of zero.
pub const BINS_PER_SIDE: usize = 4096;

/// Bins of both signs.
pub const BINS: usize = 2 * BINS_PER_SIDE;
const LOG2_BINS_PER_SIDE: i16 = 12;

/// Smallest and largest possible exponent: of the smallest and the largest normal f32.
pub(crate) const EXPONENTS: std::ops::RangeInclusive<i16> = -137..=116;

/// Counts of non-zero finite values in bins `[k·2^e, (k+1)·2^e)`, −4096 <= k < 4096.
///
/// The exponent e is the smallest for which every magnitude seen is below 4096·2^e, hence the bin width is at most
/// 1/2048 of the largest magnitude. Zeros, subnormals (flushed to zero), NaN and infinities are not counted. Nothing
/// is allocated before the first countable value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DyadicHistogram {
    bins: Option<Bins>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Bins {
    exponent: i16,
    counts: Box<[u64; BINS]>,
}

impl DyadicHistogram {
    /// A histogram without values.
    pub const fn new() -> Self {
        Self { bins: None }
    }

    /// Rebuilds a histogram from its exponent and (bin, count) pairs with bins in −4096..4096.
    pub(crate) fn from_sparse(exponent: i16, pairs: &[(i32, u64)]) -> Result<Self, &'static str> {
        if !EXPONENTS.contains(&exponent) {
            return Err("histogram exponent out of range");
        }
        let mut bins = Bins::new(exponent);
        for &(bin, count) in pairs {
            let index = usize::try_from(bin + BINS_PER_SIDE as i32).map_err(|_| "bin out of range")?;
            *bins.counts.get_mut(index).ok_or("bin out of range")? = count;
        }
        let half = BINS_PER_SIDE / 2;
        let inner = half + 1..half + BINS_PER_SIDE;
        if bins.counts.iter().enumerate().all(|(index, &count)| count == 0 || inner.contains(&index)) {
            return Err("histogram exponent larger than its values require");
        }
        Ok(Self { bins: Some(bins) })
    }

    /// Adds every countable value of `values`.
    pub fn add(&mut self, values: &[f32]) {
        let mut buffer = [0.0; CHUNK];
        let mut largest = 0f32;
        for chunk in values.chunks(CHUNK) {
            let clean = clean(chunk, &mut buffer).values;
            largest = clean.iter().fold(largest, |m, v| m.max(v.abs()));
        }
        self.add_counted(largest, |exponent, counts| count_bins(values, exponent, counts));
    }

    /// Adds values of which the largest finite magnitude is known: `count(exponent, counts)` adds each of them to
    /// `counts[floor(x / 2^exponent) + 4096]`.
    pub(crate) fn add_counted(&mut self, largest: f32, count: impl FnOnce(i16, &mut [u64; BINS])) {
        if largest < f32::MIN_POSITIVE {
            return;
        }
        let bins = self.widened(exponent_for(largest));
        count(bins.exponent, &mut bins.counts);
    }

    /// The counts of bins −4096, −4095, …, 4095 of width 2^exponent, for values to be added to; they must include one
    /// that lies in no narrower bins, unless the bins are that wide already. `None`, and nothing changes, if they are
    /// wider, or if no magnitude asks for such bins.
    pub fn counts_at(&mut self, exponent: i16) -> Option<&mut [u64; BINS]> {
        if self.exponent().is_some_and(|known| known > exponent) || !EXPONENTS.contains(&exponent) {
            return None;
        }
        Some(&mut self.widened(exponent).counts)
    }

    /// The bins at least as wide as 2^exponent.
    fn widened(&mut self, exponent: i16) -> &mut Bins {
        let bins = self.bins.get_or_insert_with(|| Bins::new(exponent));
        bins.raise_to(exponent);
        bins
    }

    /// Adds the counts of `other`; exact, associative and commutative.
    pub fn merge(&mut self, other: &Self) {
        let Some(theirs) = &other.bins else { return };
        let Some(ours) = &mut self.bins else {
            self.bins = Some(theirs.clone());
            return;
        };
        ours.raise_to(theirs.exponent);
        let shift = shift_between(theirs.exponent, ours.exponent);
        for (index, &count) in theirs.counts.iter().enumerate() {
            ours.counts[shifted(index, shift)] += count;
        }
    }

    /// The same values in bins of twice the width.
    #[cfg(test)]
    fn halved(&self) -> Self {
        let mut halved = self.clone();
        if let Some(bins) = &mut halved.bins {
            bins.raise_to(bins.exponent + 1);
        }
        halved
    }

    /// Base-2 logarithm of the bin width, or `None` while there are no values.
    pub fn exponent(&self) -> Option<i16> {
        self.bins.as_ref().map(|bins| bins.exponent)
    }

    /// Bin width 2^e, or 0 while there are no values.
    pub fn width(&self) -> f64 {
        self.exponent().map_or(0.0, |exponent| f64::from(exponent).exp2())
    }

    /// Counts of bins −4096, −4095, …, 4095; empty while there are no values.
    pub fn counts(&self) -> &[u64] {
        self.bins.as_ref().map_or(&[], |bins| bins.counts.as_slice())
    }

    /// Number of values counted.
    pub fn total(&self) -> u64 {
        self.counts().iter().sum()
    }

    /// The occupied bins as (k, count), ascending; bin k is `[k·width, (k+1)·width)`.
    pub fn occupied(&self) -> impl DoubleEndedIterator<Item = (i32, u64)> + '_ {
        let bins = self.counts().iter().enumerate();
        bins.filter(|&(_, &count)| count > 0).map(|(index, &count)| (index as i32 - BINS_PER_SIDE as i32, count))
    }
}

impl Bins {
    fn new(exponent: i16) -> Self {
        Self { exponent, counts: Box::new([0; BINS]) }
    }

    /// Widens the bins to 2^exponent; narrower requests change nothing.
    fn raise_to(&mut self, exponent: i16) {
        if exponent <= self.exponent {
            return;
        }
        let shift = shift_between(self.exponent, exponent);
        let old = std::mem::replace(&mut self.counts, Box::new([0; BINS]));
        for (index, &count) in old.iter().enumerate() {
            self.counts[shifted(index, shift)] += count;
        }
        self.exponent = exponent;
    }
}

/// Adds the normal values, whose magnitudes all lie below 4096·2^exponent, to 8192 counts.
pub(crate) fn count_bins(values: &[f32], exponent: i16, counts: &mut [u64; BINS]) {
    let mut binner = Binner::new(exponent);
    for chunk in values.chunks(CHUNK) {
        let (indices, n_zero) = binner.indices(chunk);
        indices.iter().for_each(|&index| counts[index as usize % BINS] += 1);
        // Zeros were counted with what lies just above them.
        counts[BINS_PER_SIDE] -= n_zero;
    }
}

/// Turns values into bin indices by a multiplication with a power of two, which is exact.
struct Binner {
    /// 2^-exponent as a product of two normal numbers: alone it may exceed f32.
    factors: [f32; 2],
    buffer: [f32; CHUNK],
    indices: [u32; CHUNK],
}

impl Binner {
    fn new(exponent: i16) -> Self {
        let first = (-exponent).min(127);
        Self { factors: [pow2(first), pow2(-exponent - first)], buffer: [0.0; CHUNK], indices: [0; CHUNK] }
    }

    /// Array indices of a chunk's finite values, and how many of them are zeros, which land in bin 0.
    fn indices(&mut self, chunk: &[f32]) -> (&[u32], u64) {
        let Cleaned { values, n_zero, .. } = clean(chunk, &mut self.buffer);
        let indices = &mut self.indices[..values.len()];
        for (index, &value) in indices.iter_mut().zip(values) {
            *index = bin_index(value, self.factors);
        }
        (indices, n_zero)
    }
}

/// floor(x·2^-e) + 4096. For negative x the magnitude is first lowered by one ulp, which turns the ceiling that the
/// sign asks for into a truncation, and !t = −1 − t.
fn bin_index(x: f32, factors: [f32; 2]) -> u32 {
    let bits = x.to_bits();
    let negative = bits >> 31;
    let magnitude = f32::from_bits((bits & 0x7fff_ffff) - negative);
    let truncated = truncate(magnitude * factors[0] * factors[1]);
    ((truncated ^ -(negative as i32)) + BINS_PER_SIDE as i32) as u32
}

/// Integer part of 0 <= x < 2²². Adding 2²³ leaves the nearest integer in the mantissa, which is one too large if it
/// was rounded up; unlike a saturating cast this vectorizes in any instruction set.
fn truncate(x: f32) -> i32 {
    const MAGIC: f32 = 8_388_608.0;
    let shifted = x + MAGIC;
    let nearest = (shifted.to_bits() & 0x007f_ffff) as i32;
    nearest - i32::from(shifted - MAGIC > x)
}

/// 2^exponent for −126 <= exponent <= 127.
fn pow2(exponent: i16) -> f32 {
    f32::from_bits(((i32::from(exponent) + 127) as u32) << 23)
}

/// Smallest e with `largest` < 4096·2^e, for a normal number.
fn exponent_for(largest: f32) -> i16 {
    let floor_log2 = (largest.to_bits() >> 23) as i16 - 127;
    floor_log2 + 1 - LOG2_BINS_PER_SIDE
}

/// Halvings that lead from one exponent to a larger one; 31 already leave only the bins 0 and −1.
fn shift_between(from: i16, to: i16) -> u32 {
    (to - from).clamp(0, 31) as u32
}

/// Array index after halving the resolution `shift` times, with floor semantics on negative bins.
fn shifted(index: usize, shift: u32) -> usize {
    (((index as i32 - BINS_PER_SIDE as i32) >> shift) + BINS_PER_SIDE as i32) as usize
}

/// Rejects counts that contradict a histogram total.
pub(crate) fn check_total(histogram: &DyadicHistogram, expected: u64) -> Result<(), &'static str> {
    let total = histogram.counts().iter().try_fold(0u64, |sum, &count| sum.checked_add(count));
    if total == Some(expected) { Ok(()) } else { Err("histogram counts do not add up to the number of values") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn histogram(values: &[f32]) -> DyadicHistogram {
        let mut histogram = DyadicHistogram::new();
        histogram.add(values);
        histogram
    }

    /// Bin of x by exact f64 arithmetic.
    fn reference_bin(x: f32, exponent: i16) -> i32 {
        (f64::from(x) * f64::from(-exponent).exp2()).floor() as i32
    }

    #[test]
    fn nothing_is_allocated_without_a_countable_value() {
        let empty = histogram(&[0.0, -0.0, 1e-40, -1e-44, f32::NAN, f32::INFINITY]);
        assert_eq!(empty, DyadicHistogram::new());
        assert_eq!((empty.exponent(), empty.width(), empty.total()), (None, 0.0, 0));
    }

    #[test]
    fn exponent_is_the_smallest_that_holds_the_largest_magnitude() {
        for (largest, exponent) in
            [(1.0, -11), (0.999, -12), (4096.0, 1), (4095.9, 0), (f32::MAX, 116), (f32::MIN_POSITIVE, -137)]
        {
            assert_eq!(histogram(&[largest]).exponent(), Some(exponent), "{largest}");
            assert_eq!(histogram(&[-largest]).exponent(), Some(exponent), "-{largest}");
        }
    }

    #[test]
    fn extreme_magnitudes_land_in_the_right_bins() {
        let tiny = f32::MIN_POSITIVE;
        let found: Vec<_> = histogram(&[f32::MAX, -f32::MAX, tiny, -tiny]).occupied().collect();
        assert_eq!(found, [(-4096, 1), (-1, 1), (0, 1), (4095, 1)]);
        let found: Vec<_> = histogram(&[tiny, -tiny, 1.5 * tiny]).occupied().collect();
        assert_eq!(found, [(-2048, 1), (2048, 1), (3072, 1)]);
    }

    #[test]
    fn counting_at_once_and_in_pieces_agree() {
        let values = crate::testing::sample(3, 50_000, crate::testing::spiked);
        let mut pieces = DyadicHistogram::new();
        values.chunks(100).for_each(|piece| pieces.add(piece));
        assert_eq!(histogram(&values), pieces);
    }

    fn any_values() -> impl Strategy<Value = Vec<f32>> {
        proptest::collection::vec(any::<u32>().prop_map(f32::from_bits), 1..80)
    }

    fn similar_values() -> impl Strategy<Value = Vec<f32>> {
        proptest::collection::vec(-8f32..8.0, 1..200)
    }

    proptest! {
        #[test]
        fn bins_match_exact_arithmetic(values in prop_oneof![any_values(), similar_values()]) {
            let found = histogram(&values);
            let countable: Vec<f32> = values.into_iter().filter(|x| x.is_normal()).collect();
            let mut expected = std::collections::BTreeMap::new();
            for &x in &countable {
                *expected.entry(reference_bin(x, found.exponent().unwrap_or(0))).or_insert(0u64) += 1;
            }
            prop_assert_eq!(found.occupied().collect::<Vec<_>>(), expected.into_iter().collect::<Vec<_>>());
        }

        #[test]
        fn halving_equals_counting_at_the_larger_exponent(values in similar_values()) {
            let fine = histogram(&values);
            let exponent = fine.exponent().unwrap_or(0) + 1;
            let mut coarse = Bins::new(exponent);
            count_bins(&values, exponent, &mut coarse.counts);
            prop_assert_eq!(fine.halved(), DyadicHistogram { bins: Some(coarse) });
        }

        #[test]
        fn merging_equals_counting_together(a in any_values(), b in similar_values()) {
            let together = histogram(&[a.clone(), b.clone()].concat());
            let (mut ab, mut ba) = (histogram(&a), histogram(&b));
            ab.merge(&histogram(&b));
            ba.merge(&histogram(&a));
            prop_assert_eq!(&ab, &together);
            prop_assert_eq!(&ba, &together);
        }
    }
}
