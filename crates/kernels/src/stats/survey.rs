//! Counts of special values, extremes and the histogram.

use super::counters::{BINS, Counters, PART, ROOM, exponent_for};
use super::{Run, Values};
use crate::simd::{Isa, Kernel, Simd};

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

/// What one pass over the values finds besides what it counts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Survey {
    /// Counts and extremes.
    pub summary: Summary,
    /// Base-2 logarithm of the width of the bins; absent if no value was counted.
    pub exponent: Option<i16>,
}

/// Counts and extremes of `values`.
pub fn summarize(isa: Isa, values: Values<'_>) -> Summary {
    isa.run_float(Pass { values, counters: None }).summary
}

/// Counts and extremes of `values`, and in `counters`, whose former content is lost, each normal value x in bin
/// `floor(x / 2^e)`.
///
/// The width of a bin is `2^exponent`, or if a magnitude reaches `4096 * 2^exponent`, as large as the largest magnitude
/// asks for. Without `exponent` the bins are as narrow as that allows.
pub fn survey(isa: Isa, values: Values<'_>, exponent: Option<i16>, counters: &mut Counters) -> Survey {
    counters.start(exponent, values.len());
    isa.run_float(Pass { values, counters: Some(counters) })
}

/// Adds each normal value x to bin `floor(x / 2^exponent) + 4096` of the 8192 `counts`. Zeros, subnormals, NaN and
/// infinities do not count; all others must be smaller than `4096 * 2^exponent` in magnitude.
pub fn count_bins(isa: Isa, values: Values<'_>, exponent: i16, counts: &mut [u64; BINS], counters: &mut Counters) {
    survey(isa, values, Some(exponent), counters);
    counters.add_to(isa, counts);
}

struct Pass<'a, 'b> {
    values: Values<'a>,
    /// Where the histogram is counted, if it is.
    counters: Option<&'b mut Counters>,
}

impl Kernel for Pass<'_, '_> {
    type Output = Survey;

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) -> Survey {
        let mut total = Seen { lo: f32::INFINITY, hi: f32::NEG_INFINITY, ..Seen::default() };
        for run in self.values.runs(S::LANES) {
            let mask = run.mask();
            for data in run.data.chunks(PART) {
                let part = Run { data, ..run };
                total.add(match &mut self.counters {
                    Some(counters) => survey_part(s, part, mask, counters),
                    None => summarize_part(s, part, mask),
                });
            }
        }
        let (lo, hi) = (total.lo, total.hi);
        let summary = Summary {
            nan: total.nan,
            infinite: total.infinite,
            zeros: total.values - total.nan - total.infinite - total.normal,
            range: (lo <= hi).then(|| (flushed(lo), flushed(hi))),
        };
        let exponent = self.counters.filter(|_| total.normal > 0).map(|counters| counters.exponent);
        Survey { summary, exponent }
    }
}

/// Replaces subnormals and -0.0 by +0.0.
fn flushed(x: f32) -> f32 {
    if x.is_normal() { x } else { 0.0 }
}

/// What there is in a part.
#[derive(Default)]
struct Seen {
    values: u64,
    normal: u64,
    nan: u64,
    infinite: u64,
    /// Smallest and largest finite value.
    lo: f32,
    hi: f32,
}

impl Seen {
    #[inline(always)]
    fn add(&mut self, part: Self) {
        self.values += part.values;
        self.normal += part.normal;
        self.nan += part.nan;
        self.infinite += part.infinite;
        self.lo = if part.lo < self.lo { part.lo } else { self.lo };
        self.hi = if part.hi > self.hi { part.hi } else { self.hi };
    }
}

/// Looks at the values of a part, of which `mask` says where they are in a vector.
#[inline(always)]
fn summarize_part<S: Simd>(s: S, part: Run<'_>, mask: u32) -> Seen {
    let scale = Scale::new(0);
    match part.lanes {
        1 => index::<S, false, true, true>(s, part, mask, &scale, &mut []),
        _ => index::<S, false, true, false>(s, part, mask, &scale, &mut []),
    }
}

/// Counts the values of a part.
#[inline(always)]
fn survey_part<S: Simd>(s: S, part: Run<'_>, mask: u32, counters: &mut Counters) -> Seen {
    let mut seen = index_part(s, part, mask, counters);
    let largest = if -seen.lo > seen.hi { -seen.lo } else { seen.hi };
    if largest >= f32::MIN_POSITIVE && exponent_for(largest) > counters.exponent {
        counters.raise(exponent_for(largest));
        seen = index_part(s, part, mask, counters);
    }
    counters.take(seen.normal as usize);
    seen
}

#[inline(always)]
fn index_part<S: Simd>(s: S, part: Run<'_>, mask: u32, counters: &mut Counters) -> Seen {
    let scale = Scale::new(counters.exponent);
    let room = counters.room();
    match (scale.is_plain(), part.lanes) {
        (true, 1) => index::<S, true, true, true>(s, part, mask, &scale, room),
        (true, _) => index::<S, true, true, false>(s, part, mask, &scale, room),
        (false, _) => index::<S, true, false, false>(s, part, mask, &scale, room),
    }
}

/// 2^-exponent as a product of two normal numbers: alone it may be none.
struct Scale {
    exponent: i16,
    factors: [f32; 2],
}

impl Scale {
    fn new(exponent: i16) -> Self {
        let first = (-exponent).min(127);
        Self { exponent, factors: [pow2(first), pow2(-exponent - first)] }
    }

    /// Whether one factor is enough and makes no normal number subnormal.
    fn is_plain(&self) -> bool {
        (-127..=0).contains(&self.exponent)
    }
}

/// 2^exponent for -126 <= exponent <= 127.
fn pow2(exponent: i16) -> f32 {
    f32::from_bits(((i32::from(exponent) + 127) as u32) << 23)
}

/// What has been seen of a part.
struct Lanes<S: Simd> {
    /// Smallest and largest value, NaN aside.
    lo: S::F32,
    hi: S::F32,
    /// Bits of the largest magnitude; NaN is above infinity.
    magnitude: S::I32,
    /// Normal values.
    normal: usize,
}

/// Looks at the values of a part, and if `LIST` lists the bins of the normal ones, which are meaningless unless all
/// magnitudes are below 4096 2^exponent. `PLAIN` is [`Scale::is_plain`]; if `DENSE`, the mask has every element.
#[inline(always)]
#[allow(unsafe_code)]
fn index<S: Simd, const LIST: bool, const PLAIN: bool, const DENSE: bool>(
    s: S,
    part: Run<'_>,
    mask: u32,
    scale: &Scale,
    list: &mut [i32],
) -> Seen {
    assert!(!LIST || part.data.len() <= PART && list.len() == ROOM);
    let list = list.as_mut_ptr();
    let (lo, hi) = (s.splat(f32::INFINITY), s.splat(f32::NEG_INFINITY));
    let mut lanes = Lanes::<S> { lo, hi, magnitude: s.splat_i32(0), normal: 0 };
    let vectors = part.data.chunks_exact(S::LANES);
    let rest = vectors.remainder();
    for vector in vectors {
        // SAFETY: the vector has `LANES` elements; no more indices are listed than there were elements, at most `PART`,
        // and the list has room for a vector more.
        unsafe { lanes.add::<LIST, PLAIN, DENSE>(s, s.load(vector.as_ptr()), mask, scale, list) };
    }
    if !rest.is_empty() {
        // The last pixel is repeated: it changes no extreme.
        let mut vector = [0.0; 16];
        for i in 0..S::LANES {
            vector[i] = if i < rest.len() { rest[i] } else { vector[i - part.lanes] };
        }
        let mask = mask & ((1 << rest.len()) - 1);
        // SAFETY: as above.
        unsafe { lanes.add::<LIST, PLAIN, false>(s, s.load(vector.as_ptr()), mask, scale, list) };
    }
    let (lo, hi, magnitude) = reduced(s, &lanes, mask);
    let seen = Seen { values: part.len() as u64, normal: lanes.normal as u64, nan: 0, infinite: 0, lo, hi };
    if magnitude < f32::INFINITY.to_bits() as i32 { seen } else { without_special(part, seen) }
}

impl<S: Simd> Lanes<S> {
    /// Adds the lanes of `x`, and if `LIST` writes the bins of the normal ones that are in the mask to the end of `list`.
    ///
    /// # Safety
    /// If `LIST`, `list` points to `normal + LANES` writable elements.
    #[inline(always)]
    #[allow(unsafe_code)]
    unsafe fn add<const LIST: bool, const PLAIN: bool, const DENSE: bool>(
        &mut self,
        s: S,
        x: S::F32,
        mask: u32,
        scale: &Scale,
        list: *mut i32,
    ) {
        self.lo = s.min(x, self.lo);
        self.hi = s.max(x, self.hi);
        self.magnitude = s.max_i32(self.magnitude, s.and_i32(s.bits(x), s.splat_i32(i32::MAX)));
        let keep = if DENSE { s.normal(x) } else { s.normal(x) & mask };
        if LIST {
            let mut scaled = s.mul(x, s.splat(scale.factors[0]));
            if !PLAIN {
                // What is negative stays so even if the product is too small for a number.
                let (zero, below) = (s.splat(0.0), s.splat(-f32::MIN_POSITIVE));
                scaled = s.mul(scaled, s.splat(scale.factors[1]));
                scaled = s.select_less(x, zero, s.min(scaled, below), scaled);
            }
            // SAFETY: the caller's.
            unsafe { s.store_kept(list.add(self.normal), s.floor_i32(scaled), keep) };
        }
        self.normal += keep.count_ones() as usize;
    }
}

/// Smallest and largest value and the bits of the largest magnitude in the lanes of the mask.
#[inline(always)]
#[allow(unsafe_code)]
fn reduced<S: Simd>(s: S, lanes: &Lanes<S>, mask: u32) -> (f32, f32, i32) {
    let (mut los, mut his, mut magnitudes) = ([0.0; 16], [0.0; 16], [0; 16]);
    // SAFETY: a vector has at most 16 lanes.
    unsafe {
        s.store(los.as_mut_ptr(), lanes.lo);
        s.store(his.as_mut_ptr(), lanes.hi);
        s.store_i32(magnitudes.as_mut_ptr(), lanes.magnitude);
    }
    let (mut lo, mut hi, mut magnitude) = (f32::INFINITY, f32::NEG_INFINITY, 0);
    for lane in 0..S::LANES {
        if mask >> lane & 1 == 1 {
            lo = if los[lane] < lo { los[lane] } else { lo };
            hi = if his[lane] > hi { his[lane] } else { hi };
            magnitude = if magnitudes[lane] > magnitude { magnitudes[lane] } else { magnitude };
        }
    }
    (lo, hi, magnitude)
}

/// What was seen in a part that holds values that are not finite, with these counted and the extremes free of them.
#[cold]
fn without_special(part: Run<'_>, seen: Seen) -> Seen {
    let mut seen = Seen { lo: f32::INFINITY, hi: f32::NEG_INFINITY, ..seen };
    for pixel in part.data.chunks(part.lanes) {
        for x in &pixel[..part.present] {
            if x.is_finite() {
                seen.lo = seen.lo.min(*x);
                seen.hi = seen.hi.max(*x);
            } else {
                seen.nan += u64::from(x.is_nan());
                seen.infinite += u64::from(x.is_infinite());
            }
        }
    }
    seen
}
