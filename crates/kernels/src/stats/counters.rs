//! Counters of a histogram.

use crate::buffer::Buffer;
use crate::simd::{Isa, Kernel, Simd};

/// Bins of a histogram, half of them for negative values.
pub const BINS: usize = 8192;

/// Base-2 logarithm of the bins on either side of zero.
const LOG2_SIDE: i16 = 12;

/// The exponent that the smallest normal number asks for.
pub(super) const SMALLEST_EXPONENT: i16 = exponent_for(f32::MIN_POSITIVE);

/// Interleaved counters of a bin: neighbours in one bin do not wait for each other's store.
const WAYS: usize = 2;

/// Values whose indices are kept rather than counted: adding up the counters of all bins would take longer.
const FEW: usize = 8192;

/// Values whose indices are made at a time: they stay in the first-level cache.
pub(super) const PART: usize = 2048;

/// Room for the indices of a part and the unspecified rest of a vector.
pub(super) const ROOM: usize = PART + 16;

/// Smallest exponent e with `largest` < 4096 2^e, for a normal number.
pub(super) const fn exponent_for(largest: f32) -> i16 {
    (largest.to_bits() >> 23) as i16 - 127 + 1 - LOG2_SIDE
}

/// Working memory of [`super::survey`], to be kept from call to call, and what a survey leaves there: how many values
/// lie in the bins `[k 2^e, (k+1) 2^e)`, -4096 <= k < 4096, with the exponent e of the survey.
///
/// The index of a bin is `k` modulo their number. The indices of few values are only listed; those of many increment one
/// of several counters for each bin, whose sums move on to the totals before they can overflow.
#[derive(Clone, Debug)]
pub struct Counters {
    pub(super) exponent: i16,
    list: Buffer<i32>,
    listed: usize,
    /// Indices the list may hold before they are counted.
    most_listed: usize,
    counters: Vec<[u32; WAYS]>,
    counted: usize,
    /// Values the counters may hold.
    most_counted: usize,
    totals: Vec<u64>,
    /// Values in the totals.
    spilled: u64,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            exponent: SMALLEST_EXPONENT,
            list: Buffer::default(),
            listed: 0,
            most_listed: 0,
            counters: Vec::new(),
            counted: 0,
            most_counted: u32::MAX as usize,
            totals: Vec::new(),
            spilled: 0,
        }
    }
}

impl Counters {
    /// For tests: room in the counters for `most` values only.
    #[cfg(test)]
    pub(super) fn holding(most: usize) -> Self {
        Self { most_counted: most, ..Self::default() }
    }

    /// Nothing counted, ready for `len` values in bins of width 2^exponent or the narrowest.
    pub(super) fn start(&mut self, exponent: Option<i16>, len: usize) {
        self.exponent = exponent.unwrap_or(SMALLEST_EXPONENT);
        self.list.resize(FEW + ROOM);
        self.most_listed = if len <= FEW { FEW } else { 0 };
        self.counters.resize(if len <= FEW { self.counters.len() } else { BINS }, [0; WAYS]);
        if self.counted > 0 {
            self.counters.fill([0; WAYS]);
        }
        if self.spilled > 0 {
            self.totals.fill(0);
        }
        (self.listed, self.counted, self.spilled) = (0, 0, 0);
    }

    /// Where the indices of the next part go, modulo the number of bins.
    #[inline(always)]
    pub(super) fn room(&mut self) -> &mut [i32] {
        &mut self.list[self.listed..][..ROOM]
    }

    /// Takes the first `n` indices that were written to the room.
    #[inline(always)]
    pub(super) fn take(&mut self, n: usize) {
        self.listed += n;
        if self.listed > self.most_listed {
            self.count();
        }
    }

    /// Moves the list to the counters.
    #[inline(always)]
    fn count(&mut self) {
        if self.counted + self.listed > self.most_counted {
            self.spill();
        }
        count(&self.list[..self.listed], &mut self.counters);
        self.counted += self.listed;
        self.listed = 0;
    }

    /// Moves the counters to the totals.
    fn spill(&mut self) {
        if self.totals.is_empty() {
            self.totals.resize(BINS, 0);
        }
        for (total, ways) in self.totals.iter_mut().zip(&mut self.counters) {
            *total += sum(std::mem::take(ways));
        }
        self.spilled += self.counted as u64;
        self.counted = 0;
    }

    /// Widens the bins to 2^exponent.
    pub(super) fn raise(&mut self, exponent: i16) {
        // 31 halvings leave no bins but 0 and -1.
        let shift = (exponent - self.exponent).clamp(0, 31) as u32;
        self.exponent = exponent;
        self.list[..self.listed].iter_mut().for_each(|index| *index = widened(*index as usize, shift) as i32);
        if self.counted > 0 {
            widen(&mut self.counters, shift, |ways, moved| (0..WAYS).for_each(|way| ways[way] += moved[way]));
        }
        if self.spilled > 0 {
            widen(&mut self.totals, shift, |total, moved| *total += moved);
        }
    }

    /// Adds the counts of bins -4096, -4095, …, 4095 to `counts` and leaves none.
    pub fn add_to(&mut self, isa: Isa, counts: &mut [u64; BINS]) {
        for index in &self.list[..self.listed] {
            counts[(*index as usize).wrapping_add(BINS / 2) % BINS] += 1;
        }
        self.listed = 0;
        let (negative, positive) = counts.split_at_mut(BINS / 2);
        if self.counted > 0 {
            let (above, below) = self.counters.split_at_mut(BINS / 2);
            isa.run_float(AddSums { counters: above, counts: positive });
            isa.run_float(AddSums { counters: below, counts: negative });
            self.counted = 0;
        }
        if self.spilled > 0 {
            for (count, total) in positive.iter_mut().chain(negative).zip(&mut self.totals) {
                *count += std::mem::take(total);
            }
            self.spilled = 0;
        }
    }
}

/// Increments the counters of the listed bins.
#[inline(always)]
fn count(list: &[i32], counters: &mut [[u32; WAYS]]) {
    let Some((counters, _)) = counters.split_first_chunk_mut::<BINS>() else { return };
    let groups = list.chunks_exact(2 * WAYS);
    for index in groups.remainder() {
        counters[*index as usize % BINS][0] += 1;
    }
    for group in groups {
        for i in 0..2 * WAYS {
            counters[group[i] as usize % BINS][i % WAYS] += 1;
        }
    }
}

#[inline(always)]
fn sum(ways: [u32; WAYS]) -> u64 {
    let mut sum = 0;
    for way in 0..WAYS {
        sum += u64::from(ways[way]);
    }
    sum
}

struct AddSums<'a> {
    counters: &'a mut [[u32; WAYS]],
    counts: &'a mut [u64],
}

impl Kernel for AddSums<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for (count, ways) in self.counts.iter_mut().zip(self.counters) {
            *count += sum(*ways);
            *ways = [0; WAYS];
        }
    }
}

/// Index of the bin that holds bin `index` after `shift` doublings of the width.
fn widened(index: usize, shift: u32) -> usize {
    const UNUSED: u32 = u32::BITS - BINS.ilog2();
    let k = (index as i32) << UNUSED >> UNUSED;
    (k >> shift) as usize % BINS
}

/// Doubles the width of the bins `shift` times. From zero outwards, what moves has been taken from its place before.
fn widen<T: Default>(counts: &mut [T], shift: u32, add: impl Fn(&mut T, T)) {
    for index in (0..BINS / 2).chain((BINS / 2..BINS).rev()) {
        let moved = std::mem::take(&mut counts[index]);
        add(&mut counts[widened(index, shift)], moved);
    }
}
