//! What statistics cost: our calibration beside our bare fp32 run, and beside the calibrators of the peer.

use super::Bench;
use super::request::Job;
use super::rounds::best_of;
use super::speed::Pair;
use super::subject::Subject;
use super::table::{Row, Table, Unit};
use crate::error::Result;

/// Networks whose calibration is left out: the peer's calibrators would hold several copies of half a gigabyte.
const TOO_LARGE: &[&str] = &["vgg16", "vgg16_conv"];

/// Adds the rows of a network.
///
/// # Errors
///
/// If an engine fails.
pub(super) fn measure(bench: &Bench, subject: &Subject, pair: &mut Pair, table: &mut Table) -> Result<()> {
    if TOO_LARGE.contains(&subject.name) {
        return Ok(());
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
    for (peer, figure) in peers {
        let names = ["calibration, an image", peer];
        table.push(Row::new(subject.name, names, Unit::Milliseconds, [1e3 * ours, 1e3 * figure]));
    }
    Ok(())
}
