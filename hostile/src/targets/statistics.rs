//! Records of statistics: reading, writing again, and every range that is estimated from them.

use crate::error::{Error, Result};
use crate::target::Seed;
use quantize_hostile::Draw;
use quantize_numerics::{ChannelLayout, QuantType, RangeMethod, TensorStats, estimate};

/// Every method, as it is without further choices.
const METHODS: [RangeMethod; 5] = [
    RangeMethod::MinMax,
    RangeMethod::Percentile(RangeMethod::DEFAULT_PERCENTILE),
    RangeMethod::Mse,
    RangeMethod::CdfKl,
    RangeMethod::Headroom,
];

/// A few tensors: with and without channels, of many and of one image, with values that are not finite.
pub(super) fn records() -> Result<Vec<Seed>> {
    let made = [
        record("channels", Some(ChannelLayout::new(3, 8)), 5, 0.7),
        record("plain", None, 9, 100.0),
        record("one image", Some(ChannelLayout::new(8, 1)), 1, 1e-30),
        record("zeros", None, 2, 0.0),
        record("not finite", None, 3, f32::INFINITY),
        Ok(Seed::made("empty", encoded(&TensorStats::new()))),
    ];
    made.into_iter().collect()
}

fn record(name: &str, layout: Option<ChannelLayout>, images: u64, scale: f32) -> Result<Seed> {
    let mut draw = Draw::new(images);
    let mut stats = TensorStats::new();
    for image in 0..images {
        let values: Vec<f32> = (0..48).map(|_| scale * (draw.below(2001) as f32 / 1000.0 - 1.0)).collect();
        let observed = stats.observe(image, layout, &values);
        observed.map_err(|error| Error::Seed { name: name.to_owned(), cause: error.to_string() })?;
    }
    Ok(Seed::made(name, encoded(&stats)))
}

fn encoded(stats: &TensorStats) -> Vec<u8> {
    let mut record = Vec::new();
    stats.encode(&mut record);
    record
}

/// Reads a record and uses it.
pub(super) fn read(_: &Seed, bytes: Vec<u8>) -> std::result::Result<(), String> {
    let stats = TensorStats::decode(&bytes).map_err(|error| error.to_string())?;
    let again = encoded(&stats);
    let read = TensorStats::decode(&again).expect("what was written is read");
    assert!(encoded(&read) == again, "what was read is written in another way");
    for method in METHODS {
        for (qtype, symmetric) in [(QuantType::U8, false), (QuantType::I8, true)] {
            if let Ok(found) = estimate(&stats, qtype, symmetric, method, None) {
                let finite = found.range.lo().is_finite() && found.range.hi().is_finite();
                assert!(finite, "{method}: {:?}", found.range);
            }
        }
    }
    let mut merged = TensorStats::new();
    merged.merge(&stats).map_err(|error| error.to_string())
}
