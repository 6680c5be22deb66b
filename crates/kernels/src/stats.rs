//! Statistics of activations that have just been computed: counts, extremes, equal-width bins.
//!
//! Every result is a count or an extreme, so it is the same for every layout and instruction set. What lives here:
//! passes over values. What does not: how statistics of several images come together.

use crate::blocked::Blocked;
use crate::simd::{Isa, Kernel, Simd};

/// Values handled at a time, small enough for the first-level cache.
const CHUNK: usize = 1024;

/// Bins on either side of zero.
const SIDE: usize = 4096;

/// Counters of one bin: neighbouring equal values do not wait for each other's store.
const WAYS: usize = 4;

/// Below this many values clearing the interleaved counters costs more than they save.
const INTERLEAVE_FROM: usize = 16 * 1024;

/// The values of a tensor, in either layout.
#[derive(Clone, Copy, Debug)]
pub enum Values<'a> {
    /// All elements of a slice.
    Plain(&'a [f32]),
    /// The channels of blocks; what fills up the last block does not count.
    Blocked(Blocked<'a, f32>),
}

/// Counts and extremes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Summary {
    /// NaN values.
    pub nan: u64,
    /// Infinities of either sign.
    pub infinite: u64,
    /// Zeros of either sign and subnormals.
    pub zeros: u64,
    /// Smallest and largest finite value, subnormals taken as zero; absent without any.
    pub range: Option<(f32, f32)>,
}

/// Working memory of [`count_bins`], to be kept from call to call.
#[derive(Clone, Debug, Default)]
pub struct Counters(Vec<[u32; WAYS]>);

impl Values<'_> {
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

    /// Calls `visit` with slices that together hold every value once.
    fn for_each_run(&self, mut visit: impl FnMut(&[f32])) {
        let blocks = match self {
            Self::Plain(values) => return visit(values),
            Self::Blocked(blocks) => blocks,
        };
        let shape = &blocks.shape;
        if shape.is_empty() {
            return;
        }
        let whole = shape.channels / shape.lanes * shape.plane();
        let present = shape.channels % shape.lanes;
        for image in blocks.data.chunks_exact(shape.image()) {
            let (whole, last) = image.split_at(whole);
            if !whole.is_empty() {
                visit(whole);
            }
            let mut gathered = [0.0; CHUNK];
            for pixels in last.chunks(CHUNK / shape.lanes.max(1) * shape.lanes) {
                let mut len = 0;
                for pixel in pixels.chunks_exact(shape.lanes) {
                    gathered[len..len + present].copy_from_slice(&pixel[..present]);
                    len += present;
                }
                visit(&gathered[..len]);
            }
        }
    }
}

/// Counts and extremes of `values`.
pub fn summarize(isa: Isa, values: Values<'_>) -> Summary {
    let mut summary = Summary::default();
    values.for_each_run(|run| {
        for chunk in run.chunks(CHUNK) {
            summary.add(match isa.run_float(FiniteChunk(chunk)) {
                Some(found) => found,
                None => with_non_finite(chunk),
            });
        }
    });
    summary
}

impl Summary {
    fn add(&mut self, other: Self) {
        self.nan += other.nan;
        self.infinite += other.infinite;
        self.zeros += other.zeros;
        self.range = match (self.range, other.range) {
            (Some((lo, hi)), Some((low, high))) => Some((lo.min(low), hi.max(high))),
            (a, b) => a.or(b),
        };
    }
}

/// The summary of a chunk; `None` if it has NaN or infinities.
struct FiniteChunk<'a>(&'a [f32]);

impl Kernel for FiniteChunk<'_> {
    type Output = Option<Summary>;

    #[inline(always)]
    #[allow(unsafe_code)]
    fn run<S: Simd>(self, s: S) -> Option<Summary> {
        let (zero, one) = (s.splat(0.0), s.splat(1.0));
        let (smallest, infinity) = (s.splat(f32::MIN_POSITIVE), s.splat(f32::INFINITY));
        let (mut lo, mut hi) = (infinity, s.splat(f32::NEG_INFINITY));
        // A chunk's counts are small enough for single precision.
        let (mut finite, mut zeros) = (zero, zero);
        let vectors = self.0.chunks_exact(S::LANES);
        let rest = vectors.remainder();
        for vector in vectors {
            // SAFETY: the chunk has `LANES` elements.
            let x = unsafe { s.load(vector.as_ptr()) };
            let magnitude = s.max(x, s.sub(zero, x));
            let value = s.select_less(magnitude, smallest, zero, x);
            finite = s.add(finite, s.select_less(magnitude, infinity, one, zero));
            zeros = s.add(zeros, s.select_less(magnitude, smallest, one, zero));
            lo = s.min(value, lo);
            hi = s.max(value, hi);
        }
        let mut summary = Summary { range: None, ..Summary::default() };
        let mut all_finite = sum(s, finite) as usize == self.0.len() - rest.len();
        summary.zeros = sum(s, zeros) as u64;
        let (mut low, mut high) = (fold(s, lo, f32::min), fold(s, hi, f32::max));
        for &x in rest {
            let value = if x.abs() < f32::MIN_POSITIVE { 0.0 } else { x };
            summary.zeros += u64::from(value == 0.0);
            all_finite &= x.is_finite();
            (low, high) = (low.min(value), high.max(value));
        }
        // Adding zero makes -0.0 the zero that it counts as.
        summary.range = (!self.0.is_empty()).then_some((low + 0.0, high + 0.0));
        all_finite.then_some(summary)
    }
}

#[inline(always)]
#[allow(unsafe_code)]
fn lanes<S: Simd>(s: S, x: S::F32) -> [f32; 16] {
    let mut array = [0.0; 16];
    // SAFETY: no vector has more than 16 lanes.
    unsafe { s.store(array.as_mut_ptr(), x) };
    array
}

#[inline(always)]
fn sum<S: Simd>(s: S, x: S::F32) -> f32 {
    lanes(s, x)[..S::LANES].iter().sum()
}

#[inline(always)]
fn fold<S: Simd>(s: S, x: S::F32, f: fn(f32, f32) -> f32) -> f32 {
    let array = lanes(s, x);
    array[1..S::LANES].iter().fold(array[0], |a, b| f(a, *b))
}

#[cold]
fn with_non_finite(chunk: &[f32]) -> Summary {
    let mut summary = Summary::default();
    for &x in chunk {
        summary.nan += u64::from(x.is_nan());
        summary.infinite += u64::from(x.is_infinite());
        if x.is_finite() {
            let value = if x.is_normal() { x } else { 0.0 };
            summary.add(Summary { zeros: u64::from(value == 0.0), range: Some((value, value)), ..Summary::default() });
        }
    }
    summary
}

/// Number of values equal to `value`; zero stands for subnormals too.
pub fn count_equal(isa: Isa, values: Values<'_>, value: f32) -> u64 {
    let mut count = 0;
    values.for_each_run(|run| count += isa.run_float(CountEqual { run, value }));
    count
}

struct CountEqual<'a> {
    run: &'a [f32],
    value: f32,
}

impl Kernel for CountEqual<'_> {
    type Output = u64;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> u64 {
        let value = self.value;
        let mut count = 0;
        for chunk in self.run.chunks(CHUNK) {
            let mut equal = 0u32;
            if value == 0.0 {
                for x in chunk {
                    equal += u32::from(x.abs() < f32::MIN_POSITIVE);
                }
            } else {
                for x in chunk {
                    equal += u32::from(*x == value);
                }
            }
            count += u64::from(equal);
        }
        count
    }
}

/// Adds each normal value x to bin `floor(x / 2^exponent) + 4096` of the 8192 `counts`. Zeros, subnormals, NaN and
/// infinities do not count; all others must be smaller than `4096 * 2^exponent` in magnitude.
///
/// # Panics
/// If there are not 8192 counts.
pub fn count_bins(isa: Isa, values: Values<'_>, exponent: i16, counts: &mut [u64], counters: &mut Counters) {
    let counts: &mut [u64; 2 * SIDE] = counts.try_into().expect("8192 bins");
    let factors = factors(exponent);
    if values.len() < INTERLEAVE_FROM {
        values.for_each_run(|run| isa.run_float(CountFew { run, factors, counts }));
        return;
    }
    counters.0.resize(2 * SIDE, [0; WAYS]);
    // No tensor has so many values that a quarter of them overflows 32 bits.
    values.for_each_run(|run| isa.run_float(CountMany { run, factors, counters: &mut counters.0 }));
    for (count, ways) in counts.iter_mut().zip(&mut counters.0) {
        *count += ways.iter().map(|n| u64::from(*n)).sum::<u64>();
        *ways = [0; WAYS];
    }
}

/// `2^-exponent` as a product of two normal numbers: alone it may exceed `f32`.
fn factors(exponent: i16) -> [f32; 2] {
    let power = |n: i16| f32::from_bits(((i32::from(n) + 127) as u32) << 23);
    let first = (-exponent).min(127);
    [power(first), power(-exponent - first)]
}

struct CountFew<'a> {
    run: &'a [f32],
    factors: [f32; 2],
    counts: &'a mut [u64; 2 * SIDE],
}

impl Kernel for CountFew<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let mut indices = [0; CHUNK + 16];
        for chunk in self.run.chunks(CHUNK) {
            let len = bins(s, chunk, self.factors, &mut indices);
            for index in &indices[..len] {
                self.counts[*index as usize % (2 * SIDE)] += 1;
            }
        }
    }
}

struct CountMany<'a> {
    run: &'a [f32],
    factors: [f32; 2],
    counters: &'a mut [[u32; WAYS]],
}

impl Kernel for CountMany<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Ok(counters) = <&mut [[u32; WAYS]; 2 * SIDE]>::try_from(self.counters) else { return };
        let mut indices = [0; CHUNK + 16];
        for chunk in self.run.chunks(CHUNK) {
            let len = bins(s, chunk, self.factors, &mut indices);
            let groups = indices[..len].chunks_exact(WAYS);
            for index in groups.remainder() {
                counters[*index as usize % (2 * SIDE)][0] += 1;
            }
            for group in groups {
                for way in 0..WAYS {
                    counters[group[way] as usize % (2 * SIDE)][way] += 1;
                }
            }
        }
    }
}

/// Writes the bins of the values that count, without gaps, and returns how many there are.
#[inline(always)]
#[allow(unsafe_code)]
fn bins<S: Simd>(s: S, chunk: &[f32], factors: [f32; 2], indices: &mut [i32; CHUNK + 16]) -> usize {
    let vectors = chunk.chunks_exact(S::LANES);
    let mut padded = [0.0; 16];
    let rest = vectors.remainder();
    padded[..rest.len()].copy_from_slice(rest);
    let mut len = 0;
    for vector in vectors.chain([&padded[..S::LANES]]) {
        // SAFETY: the slice has `LANES` elements; at most as many indices as there were elements, which `indices` has
        // room for, and a vector more, have been written.
        unsafe {
            let x = s.load(vector.as_ptr());
            len += s.store_where_normal(indices.as_mut_ptr().add(len), bin(s, x, factors), x);
        }
    }
    len
}

/// `floor(x * factors) + 4096`. For negative x the magnitude is first lowered by one ulp, which turns the ceiling that
/// the sign asks for into a truncation t, and the bin is -1 - t.
#[inline(always)]
fn bin<S: Simd>(s: S, x: S::F32, factors: [f32; 2]) -> S::I32 {
    let bits = s.bits(x);
    let negative = s.shift_right::<31>(bits);
    let magnitude = s.sub_i32(s.and_i32(bits, s.splat_i32(i32::MAX)), negative);
    let scaled = s.mul(s.mul(s.of_bits(magnitude), s.splat(factors[0])), s.splat(factors[1]));
    let truncated = s.truncate(scaled);
    let mask = s.sub_i32(s.splat_i32(0), negative);
    s.add_i32(s.xor_i32(truncated, mask), s.splat_i32(SIDE as i32))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocked::{Shape, to_blocked};
    use proptest::prelude::*;

    /// The definition, in f64.
    fn expected(values: &[f32], exponent: i16) -> (Summary, Vec<u64>) {
        let mut counts = vec![0; 2 * SIDE];
        for x in values.iter().filter(|x| x.is_normal()) {
            let bin = (f64::from(*x) * f64::from(-exponent).exp2()).floor();
            counts[(bin as i64 + SIDE as i64) as usize] += 1;
        }
        (with_non_finite(values), counts)
    }

    fn exponent_of(values: &[f32]) -> i16 {
        let largest = values.iter().filter(|x| x.is_finite()).fold(f32::MIN_POSITIVE, |m, x| m.max(x.abs()));
        (largest.to_bits() >> 23) as i16 - 127 + 1 - 12
    }

    fn check(values: &[f32], [channels, positions]: [usize; 2]) {
        let exponent = exponent_of(values);
        let (summary, counts) = expected(values, exponent);
        for isa in Isa::all() {
            let shape = Shape::new(1, channels, 1, positions, isa.lanes()).unwrap();
            let mut blocks = vec![0.0; shape.len()];
            to_blocked(isa, shape, values, &mut blocks).unwrap();
            // What fills up the last block must not count.
            let fill = channels % isa.lanes();
            if fill > 0 {
                let last = blocks.len() - shape.plane();
                blocks[last..].chunks_mut(isa.lanes()).for_each(|pixel| pixel[fill..].fill(1e9));
            }
            for view in [Values::Plain(values), Values::Blocked(Blocked { shape, data: &blocks })] {
                assert_eq!(summarize(isa, view), summary, "{} {view:?}", isa.name());
                let mut found = vec![0; 2 * SIDE];
                count_bins(isa, view, exponent, &mut found, &mut Counters::default());
                assert_eq!(found, counts, "{}", isa.name());
                for value in [0.0, 6.0, values.first().copied().unwrap_or(1.0)] {
                    let equal = |x: &&f32| **x == value || (value == 0.0 && x.abs() < f32::MIN_POSITIVE);
                    assert_eq!(count_equal(isa, view, value), values.iter().filter(equal).count() as u64);
                }
            }
        }
    }

    #[test]
    fn many_values_are_counted_as_few_are() {
        let values: Vec<f32> = crate::testing::noise(3, 40 * 1000).iter().map(|x| (x * 9.0).clamp(0.0, 6.0)).collect();
        check(&values, [40, 1000]);
        check(&values[..39 * 1001], [39, 1001]);
    }

    #[test]
    fn extreme_magnitudes_and_none() {
        check(&[], [0, 0]);
        check(&[f32::MAX, -f32::MAX, f32::MIN_POSITIVE, -f32::MIN_POSITIVE, 1e-40, -0.0], [3, 2]);
        check(&[f32::NAN, f32::INFINITY, 1.0, f32::NEG_INFINITY], [4, 1]);
        check(&[-0.0; 20], [20, 1]);
    }

    proptest! {
        #[test]
        fn every_layout_and_instruction_set_follows_the_definition(
            channels in 1usize..40, positions in 1usize..60, kind in 0usize..4, seed: u64,
        ) {
            let noise = crate::testing::noise(seed, channels * positions);
            let values: Vec<f32> = noise.iter().map(|x| match kind {
                0 => *x,
                1 => x.max(0.0),
                2 => f32::from_bits((x.to_bits() as u64).wrapping_mul(seed | 1) as u32),
                _ => (x * 3.0).round() * 2.0,
            }).collect();
            check(&values, [channels, positions]);
        }
    }
}
