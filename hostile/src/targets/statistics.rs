//! Records of statistics and files of them: reading, writing again, and every range that is estimated from them.

use crate::error::{Error, Result};
use crate::target::Seed;
use quantize_calib::{Provenance, Record, StatisticsFile, fingerprint};
use quantize_hostile::Draw;
use quantize_numerics::{ChannelLayout, QuantType, Range, RangeMethod, TensorStats, estimate};

/// Every method, as it is without further choices.
const METHODS: [RangeMethod; 8] = [
    RangeMethod::MinMax,
    RangeMethod::MeanMinMax,
    RangeMethod::Kl,
    RangeMethod::Aciq,
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

/// Bytes at the end of a file that vouch for the rest.
const CHECKSUM: usize = 32;

/// Files of a share and of a whole data set.
pub(super) fn files() -> Result<Vec<Seed>> {
    [("share", 2, 7), ("whole", 3, 3)].into_iter().map(|(name, seen, samples)| file(name, seen, samples)).collect()
}

fn file(name: &str, seen: u64, samples: u64) -> Result<Seed> {
    let failed = |cause: String| Error::Seed { name: name.to_owned(), cause };
    let mut tensors = std::collections::BTreeMap::new();
    for (tensor, images, scale) in [("conv", seen, 0.5), ("relu", seen, 60.0)] {
        let stats = TensorStats::decode(&record(tensor, None, images, scale)?.bytes);
        let stats = stats.map_err(|error| failed(error.to_string()))?;
        tensors.insert(tensor.to_owned(), Record { stats, first_not_finite: None });
    }
    let bound = Range::new(-1.0, 1.0).map_err(|error| failed(error.to_string()))?;
    let file = StatisticsFile {
        provenance: Provenance { model: fingerprint(b"a model"), preparation: "raw".to_owned(), samples },
        seen: (0..seen).map(|number| (number, format!("{number}.jpg"))).collect(),
        bounds: [("input".to_owned(), bound)].into(),
        tensors,
    };
    Ok(Seed::made(name, file.encode()))
}

/// Reads a file whose checksum is made to fit, unless it was cut, and merges it with another share.
pub(super) fn read_file(seed: &Seed, mut bytes: Vec<u8>) -> std::result::Result<(), String> {
    if bytes.len() == seed.bytes.len() {
        let content = bytes.len() - CHECKSUM;
        let fitting = fingerprint(&bytes[..content]);
        bytes[content..].copy_from_slice(&fitting);
    }
    let mut file = StatisticsFile::decode(&bytes).map_err(|error| error.to_string())?;
    assert!(file.encode() == bytes, "what was read is written in another way");
    if let Ok(other) = StatisticsFile::decode(&seed.bytes) {
        let _ = file.merge(&other);
    }
    Ok(())
}
