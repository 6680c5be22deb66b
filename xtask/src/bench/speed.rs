//! A network in fp32 and int8: images a second, share of the processor's peak, and how far the outputs are apart.

use super::Bench;
use super::engine::Engine;
use super::request::{Input, Job, Limits, Request};
use super::rounds::best_of;
use super::subject::Subject;
use super::table::{Row, Table, Unit};
use super::{calibration, worker};
use crate::error::Result;

/// Our side and the peer, with the same network and the same input.
pub(super) struct Pair {
    pub(super) ours: Engine,
    pub(super) peer: Engine,
}

impl Pair {
    fn start(bench: &Bench, subject: &Subject) -> Result<Self> {
        subject.make_images(bench)?;
        let int8 = subject.quantize(bench)?;
        let mut ours = Engine::start(bench, "quantize", &worker::command(subject)?)?;
        let mut script = bench.context.script("bench/engine.py");
        let mut peer = Engine::start(bench, "onnxruntime", script.arg(&subject.model).arg(int8))?;
        let input: Input = ours.ask(&Request::Input)?;
        peer.ask::<()>(&Request::Feed(input))?;
        Ok(Self { ours, peer })
    }

    fn compare(&mut self, bench: &Bench, subject: &Subject, job: Job, names: [&str; 2]) -> Result<Row> {
        let limits = Request::Limits(job);
        let mut known: Limits = self.ours.ask(&limits)?;
        let [ours, peer] = best_of(bench.rounds, |competitor| match competitor {
            0 => {
                known = self.ours.ask(&limits)?;
                self.ours.time(job)
            }
            _ => self.peer.time(job),
        })?;
        let apart = self.apart(job)?;
        let share = known.operations as f64 / ours / known.peak;
        let note = format!("{:.1} % of peak, outputs {apart:.1e} apart", 100.0 * share);
        Ok(Row::new(subject.name, names, Unit::ImagesPerSecond, [1.0 / ours, 1.0 / peer]).noting(note))
    }

    /// The largest difference of the outputs, relative to the largest magnitude of the peer's.
    fn apart(&mut self, job: Job) -> Result<f64> {
        let outputs = Request::Outputs(job);
        let (ours, peer): (Vec<Vec<f64>>, Vec<Vec<f64>>) = (self.ours.ask(&outputs)?, self.peer.ask(&outputs)?);
        let (ours, peer) = (ours.concat(), peer.concat());
        Ok(if ours.len() == peer.len() { largest_difference(&ours, &peer) } else { f64::NAN })
    }
}

/// Adds all rows of a network.
///
/// # Errors
///
/// If an engine fails.
pub(super) fn measure(bench: &Bench, subject: &Subject, table: &mut Table) -> Result<()> {
    let mut pair = Pair::start(bench, subject)?;
    table.push(pair.compare(bench, subject, Job::Fp32, ["fp32", "onnxruntime fp32"])?);
    table.push(pair.compare(bench, subject, Job::Int8, ["int8, simulated", "onnxruntime int8"])?);
    calibration::measure(bench, subject, &mut pair, table)
}

fn largest_difference(ours: &[f64], peer: &[f64]) -> f64 {
    let difference = ours.iter().zip(peer).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    difference / peer.iter().map(|b| b.abs()).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_relative_to_the_largest_magnitude() {
        assert_eq!(largest_difference(&[1.0, -3.0], &[1.5, -5.0]), 0.4);
    }
}
