//! Every instruction set and layout against definitions on single values.

use super::*;
use crate::Isa;
use crate::blocked::{Shape, to_blocked, to_channels_last};
use crate::testing::noise;
use proptest::prelude::*;
use quantize_numerics::stats::{self as reference, TensorStats};
use quantize_numerics::{ChannelLayout, DyadicHistogram, Range};
use std::cell::RefCell;

/// What a survey and its bins say, by definition.
#[derive(Debug, PartialEq)]
struct Expected {
    survey: Survey,
    counts: Box<[u64; BINS]>,
}

fn expected(values: &[f32], exponent: Option<i16>) -> Expected {
    let finite = || values.iter().filter(|x| x.is_finite()).map(|x| if x.is_normal() { *x } else { 0.0 });
    let largest = finite().fold(0.0, |most: f32, x| most.max(x.abs()));
    let fits = |e: i16| f64::from(largest) < 4096.0 * f64::from(e).exp2();
    let found = (-137..=116).filter(|e| exponent.is_none_or(|least| *e >= least)).find(|e| fits(*e)).unwrap();
    let mut counts = Box::new([0; BINS]);
    for x in finite().filter(|x| *x != 0.0) {
        counts[((f64::from(x) * f64::from(-found).exp2()).floor() + 4096.0) as usize] += 1;
    }
    let count = |f: fn(&f32) -> bool| values.iter().filter(|x| f(x)).count() as u64;
    let lo = finite().fold(f32::INFINITY, f32::min);
    let hi = finite().fold(f32::NEG_INFINITY, f32::max);
    let summary = Summary {
        nan: count(|x| x.is_nan()),
        infinite: count(|x| x.is_infinite()),
        zeros: count(|x| !x.is_normal() && x.is_finite()),
        range: (lo <= hi).then_some((lo, hi)),
    };
    Expected { survey: Survey { summary, exponent: (largest > 0.0).then_some(found) }, counts }
}

fn found(isa: Isa, values: Values<'_>, exponent: Option<i16>, counters: &mut Counters) -> Expected {
    let survey = survey(isa, values, exponent, counters);
    let mut counts = Box::new([0; BINS]);
    counters.add_to(isa, &mut counts);
    Expected { survey, counts }
}

/// Values in blocks whose lanes beyond the channels hold what would change every result.
fn blocked(shape: Shape, planes: &[f32]) -> Vec<f32> {
    let mut blocks = vec![0.0; shape.len()];
    to_blocked(Isa::active(), shape, planes, &mut blocks).unwrap();
    for (i, x) in blocks.iter_mut().enumerate() {
        let block = i / shape.plane() % shape.blocks();
        if block * shape.lanes + i % shape.lanes >= shape.channels {
            *x = [f32::NAN, 1e30, -1e30, 0.0, f32::INFINITY][i % 5];
        }
    }
    blocks
}

/// Layouts of blocks, of which vectors of `isa` hold whole pixels or parts.
fn shapes(isa: Isa) -> impl Iterator<Item = Shape> {
    let sizes = [(1, 3, 7, 5), (2, 21, 3, 3), (1, 16, 13, 11), (3, 9, 1, 1), (1, 35, 16, 17), (1, 2, 40, 60)];
    sizes.into_iter().flat_map(move |(batch, channels, height, width)| {
        [4, isa.lanes(), 32].map(|lanes| Shape::new(batch, channels, height, width, lanes).unwrap())
    })
}

/// Values of every magnitude, specials among them where `seed` says so.
fn values(seed: u64, len: usize) -> Vec<f32> {
    const SPECIAL: [f32; 8] =
        [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, 1e-40, -1e-42, f32::MIN_POSITIVE, -f32::MIN_POSITIVE];
    let scale = [1.0, 1e-30, 1e30, 4096.0, 1e-4, 3e38, 1e-36][(seed % 7) as usize];
    let mut values = noise(seed, len);
    for (i, x) in values.iter_mut().enumerate() {
        *x = match (seed % 3, i % 11) {
            (0, 3) => SPECIAL[i / 11 % 8],
            (1, n) if n % 2 == 0 => x.max(0.0) * scale,
            (2, 5) => scale * 1e-6 * *x,
            _ => *x * scale,
        };
    }
    values
}

#[test]
fn a_survey_follows_the_definition_for_every_length() {
    for isa in Isa::all() {
        let mut counters = Counters::default();
        for (seed, len) in [0, 1, 7, 8, 15, 16, 17, 100, 2048, 2049, 8192, 8193, 20_000].into_iter().enumerate() {
            for seed in [seed as u64, seed as u64 + 1, seed as u64 + 2] {
                let values = values(seed, len);
                for exponent in [None, Some(-137), Some(-12), Some(-2), Some(3), Some(40), Some(116)] {
                    let found = found(isa, Values::Plain(&values), exponent, &mut counters);
                    assert_eq!(summarize(isa, Values::Plain(&values)), found.survey.summary, "{}", isa.name());
                    assert!(
                        found == expected(&values, exponent),
                        "{} {len} values of seed {seed}: {:?}",
                        isa.name(),
                        found.survey
                    );
                }
            }
        }
    }
}

#[test]
fn blocks_give_what_their_values_give() {
    for isa in Isa::all() {
        let mut counters = Counters::default();
        for (seed, shape) in shapes(isa).enumerate() {
            let planes = values(seed as u64, shape.batch * shape.channels * shape.positions());
            let data = blocked(shape, &planes);
            let x = Values::Blocked(Blocked { shape, data: &data });
            assert_eq!(x.len(), planes.len());
            for exponent in [None, Some(5)] {
                assert!(
                    found(isa, x, exponent, &mut counters) == expected(&planes, exponent),
                    "{} {shape:?} {exponent:?}",
                    isa.name()
                );
            }
            assert_eq!(summarize(isa, x), expected(&planes, None).survey.summary, "{} {shape:?}", isa.name());
            for value in [0.0, planes[0], planes[planes.len() - 1], f32::MIN_POSITIVE, 1e30] {
                let expected = planes.iter().filter(|x| **x == value || value == 0.0 && x.abs() < f32::MIN_POSITIVE);
                assert_eq!(count_equal(isa, x, value), expected.count() as u64, "{} {shape:?}", isa.name());
            }
        }
    }
}

#[test]
fn growing_magnitudes_widen_the_bins_on_the_way() {
    let values: Vec<f32> =
        (0..30_000).map(|i| (i as f32 / 3000.0).exp2() * if i % 3 == 0 { -1.0 } else { 1.0 }).collect();
    for isa in Isa::all() {
        for len in [5000, 30_000] {
            let found = found(isa, Values::Plain(&values[..len]), None, &mut Counters::default());
            assert!(found == expected(&values[..len], None), "{} {len}", isa.name());
        }
    }
}

#[test]
fn full_counters_lose_nothing() {
    let values: Vec<f32> = noise(1, 50_000).into_iter().enumerate().map(|(i, x)| x * (1 + i / 20_000) as f32).collect();
    for isa in Isa::all() {
        let mut counters = Counters::holding(5000);
        for _ in 0..2 {
            assert!(
                found(isa, Values::Plain(&values), None, &mut counters) == expected(&values, None),
                "{}",
                isa.name()
            );
        }
    }
}

#[test]
fn what_was_not_taken_is_forgotten() {
    let isa = Isa::active();
    let (many, few) = (noise(1, 40_000), noise(2, 50));
    let mut counters = Counters::holding(9000);
    for values in [&many, &few, &many] {
        survey(isa, Values::Plain(&many), None, &mut counters);
        assert!(found(isa, Values::Plain(values), None, &mut counters) == expected(values, None));
    }
}

/// Moments of the values of one channel, in order.
fn moments(values: &[f32]) -> ChannelMoments {
    let Summary { nan, infinite, range, .. } = expected(values, None).survey.summary;
    let mut parts = [[0.0; 8]; 2];
    for (i, x) in values.iter().enumerate().filter(|(_, x)| x.is_normal()) {
        parts[0][i % 8] += f64::from(*x);
        parts[1][i % 8] += f64::from(*x) * f64::from(*x);
    }
    let [sum, squares] = parts.map(|parts| parts.iter().fold(0.0, |sum, part| sum + part));
    ChannelMoments { count: values.len() as u64 - nan - infinite, range, sum, squares }
}

#[test]
fn moments_have_the_same_bits_in_every_layout() {
    for isa in Isa::all() {
        for (seed, shape) in shapes(isa).chain(Shape::new(2, 7, 5, 3, 5)).enumerate() {
            let (channels, positions) = (shape.channels, shape.positions());
            let planes = values(seed as u64, shape.batch * channels * positions);
            let expected: Vec<ChannelMoments> = (0..channels)
                .map(|c| {
                    let of_channel = planes.chunks(positions).skip(c).step_by(channels);
                    moments(&of_channel.flatten().copied().collect::<Vec<_>>())
                })
                .collect();
            let data = blocked(shape, &planes);
            let x = Blocked { shape, data: &data };
            let mut pixels = vec![0.0; planes.len()];
            to_channels_last(isa, x, &mut pixels).unwrap();
            assert_eq!(moments_of_blocks(isa, x).unwrap(), expected, "{} {shape:?}", isa.name());
            assert_eq!(moments_of_channels(isa, &planes, channels, positions).unwrap(), expected, "{shape:?}");
            assert_eq!(moments_of_channels(isa, &pixels, channels, 1).unwrap(), expected, "{shape:?}");
        }
    }
}

/// Values as statistics take them, surveyed by the kernels.
struct Surveyed<'a> {
    isa: Isa,
    values: Values<'a>,
    counters: RefCell<Counters>,
}

impl reference::Values for Surveyed<'_> {
    fn len(&self) -> u64 {
        self.values.len() as u64
    }

    fn summary(&self) -> reference::Summary {
        numerics(summarize(self.isa, self.values))
    }

    fn survey(&self, histogram: &mut DyadicHistogram) -> reference::Summary {
        let mut counters = self.counters.borrow_mut();
        let found = survey(self.isa, self.values, histogram.exponent(), &mut counters);
        if let Some(exponent) = found.exponent {
            counters.add_to(self.isa, histogram.counts_at(exponent).unwrap());
        }
        numerics(found.summary)
    }

    fn count_equal(&self, value: f32) -> u64 {
        count_equal(self.isa, self.values, value)
    }

    fn count_bins(&self, exponent: i16, counts: &mut [u64; BINS]) {
        count_bins(self.isa, self.values, exponent, counts, &mut self.counters.borrow_mut());
    }
}

fn numerics(found: Summary) -> reference::Summary {
    let range = found.range.map(|(lo, hi)| Range::new(lo, hi).unwrap());
    reference::Summary { n_nan: found.nan, n_inf: found.infinite, n_zero: found.zeros, range }
}

#[test]
fn statistics_of_many_images_are_those_of_the_reference() {
    for isa in Isa::all() {
        let layout = ChannelLayout::new(21, 15 * 40);
        let shape = Shape::new(1, layout.channels, 15, 40, isa.lanes()).unwrap();
        let (mut expected, mut found) = (TensorStats::new(), TensorStats::new());
        for image in [3, 0, 6, 5, 1, 2, 4, 9, 8, 7] {
            let planes = values(image, layout.channels * layout.inner);
            let data = blocked(shape, &planes);
            let blocks = Blocked { shape, data: &data };
            let moments: Vec<_> = moments_of_blocks(isa, blocks)
                .unwrap()
                .into_iter()
                .map(|m| {
                    let range = m.range.map(|(lo, hi)| Range::new(lo, hi).unwrap());
                    reference::ChannelMoments { count: m.count, range, sum: m.sum, squares: m.squares }
                })
                .collect();
            let surveyed = Surveyed { isa, values: Values::Blocked(blocks), counters: RefCell::default() };
            expected.observe(image, Some(layout), &planes).unwrap();
            found.observe_channels(image, &surveyed, &moments).unwrap();
            let (mut two_passes, mut plain) = (Box::new([0; BINS]), Box::new([0; BINS]));
            reference::Values::count_bins(&surveyed, 116, &mut two_passes);
            reference::Values::count_bins(planes.as_slice(), 116, &mut plain);
            assert!(two_passes == plain, "{} image {image}", isa.name());
        }
        let bytes = |stats: &TensorStats| {
            let mut bytes = Vec::new();
            stats.encode(&mut bytes);
            bytes
        };
        assert!(bytes(&found) == bytes(&expected), "{}", isa.name());
    }
}

#[test]
fn sizes_that_do_not_fit_are_refused() {
    let isa = Isa::active();
    let shape = Shape::new(1, 3, 2, 2, 4).unwrap();
    let short = Blocked { shape, data: &[0.0; 15] };
    assert!(moments_of_blocks(isa, short).is_err());
    for (len, channels, inner) in [(7, 2, 3), (4, 0, 1), (4, 1, 0), (4, usize::MAX, 2)] {
        assert!(moments_of_channels(isa, &vec![0.0; len], channels, inner).is_err());
    }
}

proptest! {
    #[test]
    fn any_bits_are_counted_exactly(
        bits in proptest::collection::vec(any::<u32>(), 0..80),
        exponent in proptest::option::of(-137i16..=116),
    ) {
        let values: Vec<f32> = bits.into_iter().map(f32::from_bits).collect();
        let expected = expected(&values, exponent);
        for isa in Isa::all() {
            let found = found(isa, Values::Plain(&values), exponent, &mut Counters::default());
            prop_assert_eq!(&found.survey, &expected.survey);
            prop_assert!(found.counts == expected.counts);
        }
    }
}
