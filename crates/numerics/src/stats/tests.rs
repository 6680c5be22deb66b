//! Tests of the statistics: order, splits, merging, records.

use proptest::prelude::*;

use super::*;
use crate::testing::{exponential, normal, sample, spiked, student_t3, uniform};

const LAYOUT: Option<ChannelLayout> = Some(ChannelLayout::new(3, 40));

fn observed(images: &[(u64, Vec<f32>)], layout: Option<ChannelLayout>) -> TensorStats {
    let mut stats = TensorStats::new();
    for (image, data) in images {
        stats.observe(*image, layout, data).unwrap();
    }
    stats
}

fn bytes(stats: &TensorStats) -> Vec<u8> {
    let mut out = Vec::new();
    stats.encode(&mut out);
    out
}

/// One tensor over 21 images, its magnitude varying by 10^5 between images.
fn images(tensor: u64) -> Vec<(u64, Vec<f32>)> {
    let draws = [normal, exponential, student_t3, spiked, |state: &mut u64| -exponential(state), uniform];
    let draw = draws[tensor as usize % draws.len()];
    (0..21)
        .map(|image| {
            let magnitude = 10f64.powf(5.0 * uniform(&mut (tensor * 100 + image)) - 2.5);
            (image, sample(tensor * 1000 + image, 240, |state| magnitude * draw(state)))
        })
        .collect()
}

fn shuffle<T>(items: &mut [T], state: &mut u64) {
    for index in (1..items.len()).rev() {
        items.swap(index, (uniform(state) * (index + 1) as f64) as usize);
    }
}

#[test]
fn any_order_and_split_gives_the_same_bytes() {
    let mut state = 1;
    for tensor in 0..12 {
        let reference = bytes(&observed(&images(tensor), LAYOUT));
        for permutation in 0..20 {
            let mut shuffled = images(tensor);
            shuffle(&mut shuffled, &mut state);
            let shard_size = 1 + (uniform(&mut state) * 21.0) as usize;
            let mut shards: Vec<_> = shuffled.chunks(shard_size).map(|shard| observed(shard, LAYOUT)).collect();
            shuffle(&mut shards, &mut state);
            let mut merged = TensorStats::new();
            shards.iter().for_each(|shard| merged.merge(shard).unwrap());
            assert_eq!(bytes(&merged), reference, "tensor {tensor}, permutation {permutation}");
        }
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bytes() {
    let images = images(2);
    let reference = bytes(&observed(&images, LAYOUT));
    for threads in [1, 2, 8] {
        let shards: Vec<TensorStats> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads)
                .map(|thread| {
                    let share: Vec<_> = images.iter().skip(thread).step_by(threads).cloned().collect();
                    scope.spawn(move || observed(&share, LAYOUT))
                })
                .collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).collect()
        });
        let mut merged = TensorStats::new();
        shards.iter().for_each(|shard| merged.merge(shard).unwrap());
        assert_eq!(bytes(&merged), reference, "{threads} threads");
    }
}

#[test]
fn merge_is_associative() {
    let all = images(4);
    let [a, b, c] = [&all[..5], &all[5..11], &all[11..]].map(|part| observed(part, LAYOUT));
    let merged = |left: &TensorStats, right: &TensorStats| {
        let mut left = left.clone();
        left.merge(right).unwrap();
        left
    };
    assert_eq!(bytes(&merged(&merged(&a, &b), &c)), bytes(&merged(&a, &merged(&b, &c))));
    assert_eq!(merged(&TensorStats::new(), &a), a);
    assert_eq!(merged(&a, &TensorStats::new()), a);
}

#[test]
fn memory_does_not_grow_with_consecutive_images() {
    let mut stats = TensorStats::new();
    let layout = Some(ChannelLayout::new(64, 1));
    let data = sample(9, 64, normal);
    let mut sizes = Vec::new();
    for image in 0..1024 {
        stats.observe(image, layout, &data).unwrap();
        sizes.push(stats.channels().unwrap().sums.nodes().len());
    }
    assert!(sizes.iter().all(|&nodes| nodes <= 10), "{sizes:?}");
}

#[test]
fn special_values_are_counted_and_excluded() {
    let data = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, 0.0, 1e-40, -1e-39, 2.0, 2.0, -1.0];
    let stats = observed(&[(3, data.to_vec())], None);
    assert_eq!((stats.n(), stats.n_nan(), stats.n_inf(), stats.n_zero(), stats.n_finite()), (10, 1, 2, 4, 7));
    let extremes = stats.extremes().unwrap();
    assert_eq!((extremes.range.lo(), extremes.range.hi()), (-1.0, 2.0));
    assert_eq!((extremes.n_at_min, extremes.n_at_max), (1, 2));
    assert_eq!(stats.histogram().total(), 3);
}

#[test]
fn nothing_finite_is_a_defined_state() {
    for data in [vec![], vec![f32::NAN; 5]] {
        let stats = observed(&[(0, data)], None);
        assert_eq!((stats.n_finite(), stats.range(), stats.second_moment()), (0, None, 0.0));
        assert_eq!(stats.images().collect::<Vec<_>>(), [(0, None)]);
    }
}

#[test]
fn all_zero_tensor_has_extremes_but_no_histogram() {
    let stats = observed(&[(0, vec![-0.0, 0.0, 1e-42])], None);
    let extremes = stats.extremes().unwrap();
    assert_eq!((extremes.range.lo().to_bits(), extremes.range.hi().to_bits()), (0, 0));
    assert_eq!((extremes.n_at_min, extremes.n_at_max), (3, 3));
    assert_eq!(stats.histogram().exponent(), None);
}

#[test]
fn extreme_counts_follow_the_winner() {
    let stats = observed(&[(0, vec![6.0, 6.0, 0.0]), (1, vec![5.0, 1.0]), (2, vec![6.0, 0.0, 0.0])], None);
    let extremes = stats.extremes().unwrap();
    assert_eq!((extremes.n_at_min, extremes.n_at_max), (3, 3));
    assert_eq!(stats.images().nth(1), Some((1, Some(Range::new(1.0, 5.0).unwrap()))));
}

#[test]
fn channel_statistics_match_direct_computation_in_every_layout() {
    for (layout, outer) in
        [(ChannelLayout::new(3, 40), 1), (ChannelLayout::new(4, 1), 50), (ChannelLayout::new(2, 17), 3)]
    {
        let len = layout.channels * layout.inner * outer;
        let mut data = sample(len as u64, len, normal);
        data[1] = f32::NAN;
        let stats = observed(&[(0, data.clone()), (1, data.clone())], Some(layout));
        let channels = stats.channels().unwrap();
        for channel in 0..layout.channels {
            let values: Vec<f64> = (0..len)
                .filter(|index| index / layout.inner % layout.channels == channel)
                .map(|index| f64::from(data[index]))
                .filter(|x| x.is_finite())
                .collect();
            let n = values.len() as f64;
            assert_eq!(channels.counts()[channel], 2 * values.len() as u64);
            assert!((channels.means()[channel] - values.iter().sum::<f64>() / n).abs() < 1e-12);
            assert!((channels.second_moments()[channel] - values.iter().map(|x| x * x).sum::<f64>() / n).abs() < 1e-12);
            let range = channels.ranges()[channel].unwrap();
            assert_eq!(f64::from(range.lo()), values.iter().copied().fold(f64::INFINITY, f64::min));
            assert_eq!(f64::from(range.hi()), values.iter().copied().fold(f64::NEG_INFINITY, f64::max));
        }
    }
}

#[test]
fn wrong_observations_change_nothing() {
    let mut stats = observed(&[(0, vec![1.0; 120])], LAYOUT);
    let before = stats.clone();
    let cases = [
        (0, LAYOUT, 120, "duplicate image"),
        (1, None, 120, "channels missing"),
        (1, Some(ChannelLayout::new(2, 60)), 120, "other channel count"),
        (1, LAYOUT, 119, "partial channel"),
    ];
    for (image, layout, len, name) in cases {
        assert!(stats.observe(image, layout, &vec![2.0; len]).is_err(), "{name}");
    }
    assert!(matches!(stats.merge(&before), Err(NumericsError::DuplicateImage { image: 0 })));
    assert!(matches!(stats.merge(&observed(&[(1, vec![1.0])], None)), Err(NumericsError::ChannelMismatch { .. })));
    assert_eq!(stats, before);
}

#[test]
fn pooling_equals_observing_the_values_together() {
    let (a, b) = (images(1), images(3));
    let together: Vec<_> =
        a.iter().zip(&b).map(|((image, a), (_, b))| (*image, [a.clone(), b.clone()].concat())).collect();
    let pooled = TensorStats::pooled([&observed(&a, LAYOUT), &observed(&b, LAYOUT)]);
    assert_eq!(bytes(&pooled), bytes(&observed(&together, None)));
}

#[test]
fn second_moment_is_close_to_the_exact_one() {
    let data = sample(5, 100_000, normal);
    let exact = data.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / data.len() as f64;
    let found = observed(&[(0, data)], None).second_moment();
    assert!((found / exact - 1.0).abs() < 1e-4, "{found} {exact}");
}

#[test]
fn records_survive_a_round_trip() {
    for stats in [
        TensorStats::new(),
        observed(&images(0), LAYOUT),
        observed(&images(5)[3..9], None),
        observed(&[(7, vec![f32::NAN]), (9, vec![0.0])], Some(ChannelLayout::new(1, 1))),
    ] {
        assert_eq!(TensorStats::decode(&bytes(&stats)).unwrap(), stats);
    }
}

#[test]
fn truncated_records_are_errors() {
    let record = bytes(&observed(&images(0)[..3], LAYOUT));
    for len in 0..record.len() {
        assert!(matches!(TensorStats::decode(&record[..len]), Err(NumericsError::DamagedRecord { .. })), "{len} bytes");
    }
    assert!(TensorStats::decode(&[record.as_slice(), &[0]].concat()).is_err());
}

proptest! {
    #[test]
    fn damaged_records_never_panic(position in 0usize..2000, value: u8) {
        let mut record = bytes(&observed(&images(0)[..3], LAYOUT));
        let position = position % record.len();
        record[position] = value;
        if let Ok(stats) = TensorStats::decode(&record) {
            prop_assert_eq!(bytes(&stats), record);
        }
    }
}
