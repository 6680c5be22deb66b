//! What statistics cost: our calibration beside our bare fp32 run, and beside the calibrators of the peer.

use super::Bench;
use super::request::Job;
use super::rounds::best_of;
use super::speed::Pair;
use super::subject::Subject;
use super::table::{Row, Unit};
use crate::error::Result;

/// Networks whose calibration is left out: the peer's calibrators would hold several copies of half a gigabyte.
const TOO_LARGE: &[&str] = &["vgg16", "vgg16_conv"];

/// The rows of a network.
///
/// # Errors
///
/// If an engine fails.
pub(super) fn rows(bench: &Bench, subject: &Subject, pair: &mut Pair) -> Result<Vec<Row>> {
    if TOO_LARGE.contains(&subject.name) {
        return Ok(Vec::new());
    }
    let [ours, bare, min_max, percentile, entropy] = best_of(bench.rounds, |competitor| match competitor {
        0 => pair.ours.time(Job::Calibration),
        1 => pair.ours.time(Job::Fp32),
        2 => pair.peer.time(Job::MinMax),
        3 => pair.peer.time(Job::Percentile),
        _ => pair.peer.time(Job::Entropy),
    })?;
    let peers = [
        ("our bare fp32", bare),
        ("onnxruntime MinMax", min_max),
        ("onnxruntime Percentile", percentile),
        ("onnxruntime Entropy", entropy),
    ];
    let row = |(peer, figure): (&str, f64)| {
        Row::new(subject.name, ["calibration, an image", peer], Unit::Milliseconds, [1e3 * ours, 1e3 * figure])
    };
    Ok(peers.into_iter().map(row).collect())
}
