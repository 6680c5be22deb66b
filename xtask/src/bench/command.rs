//! The whole command on EfficientNet-Lite0: beside the peer's own tool, on two threads beside one, and with many photos
//! beside few.

use super::Bench;
use super::engine::pinned;
use super::rounds::best_of;
use super::subject::LITE0;
use super::table::{Row, Table, Unit};
use crate::conformance::files::{Choice, some_photos};
use crate::conformance::onnx::lite0;
use crate::conformance::usage::Usage;
use crate::error::{Error, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What can be measured.
pub(super) const NAMES: &[&str] = &["command", "threads", "memory"];

/// Rounds of whole commands, which take seconds each.
const ROUNDS: usize = 2;

/// Adds the rows of one of [`NAMES`]; none without the shared data.
///
/// # Errors
///
/// If a command fails.
pub(super) fn measure(bench: &Bench, name: &str, table: &mut Table) -> Result<()> {
    let Some(shared) = bench.context.shared_folder() else {
        println!("skipped {name}: QUANTIZE_SHARED is not set");
        return Ok(());
    };
    let job = Job { bench, model: lite0::model(shared), photos: shared.join("images/calib") };
    let rows = match name {
        "command" => job.beside_the_peer(),
        "threads" => job.two_threads(),
        _ => job.many_photos(&shared.join("images/val")),
    };
    rows?.into_iter().for_each(|row| table.push(row));
    Ok(())
}

struct Job<'b> {
    bench: &'b Bench,
    model: PathBuf,
    photos: PathBuf,
}

impl Job<'_> {
    fn beside_the_peer(&self) -> Result<Vec<Row>> {
        let mut commands = vec![pinned(self.bench, &self.ours(&self.photos, 1))];
        let methods = ["MinMax", "Percentile"];
        commands.extend(methods.map(|method| pinned(self.bench, &self.theirs(method))));
        let mut peaks = [0.0_f64; 3];
        let seconds: [f64; 3] = best_of(ROUNDS, |competitor| {
            let usage = self.measure(&commands[competitor])?;
            peaks[competitor] = usage.peak_mb;
            Ok(usage.cpu_seconds)
        })?;
        let mut rows = Vec::new();
        for (index, method) in (1..).zip(methods) {
            let names = ["quantize onnx, 100 photos", &format!("quantize_static {method}")];
            rows.push(Row::new(LITE0, names, Unit::Seconds, [seconds[0], seconds[index]]).noting("processor time"));
            rows.push(Row::new(LITE0, names, Unit::Megabytes, [peaks[0], peaks[index]]).noting("peak memory"));
        }
        Ok(rows)
    }

    fn two_threads(&self) -> Result<Vec<Row>> {
        let commands = [2, 1].map(|threads| self.ours(&self.photos, threads));
        let seconds: [f64; 2] = best_of(ROUNDS, |competitor| Ok(self.measure(&commands[competitor])?.seconds))?;
        let names = ["quantize onnx, 2 threads", "quantize onnx, 1 thread"];
        Ok(vec![Row::new(LITE0, names, Unit::Seconds, seconds).noting("wall time")])
    }

    fn many_photos(&self, more: &Path) -> Result<Vec<Row>> {
        let folder = self.bench.context.folder("photos-500")?;
        some_photos(&self.photos, &folder, Choice { first: 0, step: 1, count: 100 })?;
        some_photos(more, &folder, Choice { first: 0, step: 1, count: 400 })?;
        let few = self.bench.context.folder("photos-10")?;
        some_photos(&self.photos, &few, Choice { first: 0, step: 1, count: 10 })?;
        let peak = |photos: &Path| Ok::<f64, Error>(self.measure(&self.ours(photos, 1))?.peak_mb);
        let names = ["quantize onnx, 500 photos", "quantize onnx, 10 photos"];
        Ok(vec![Row::new(LITE0, names, Unit::Megabytes, [peak(&folder)?, peak(&few)?]).noting("peak memory")])
    }

    fn ours(&self, photos: &Path, threads: usize) -> Command {
        let mut command = lite0::quantize(&self.bench.context, &self.model, photos, &self.output("ours"));
        command.arg("--threads").arg(threads.to_string());
        command
    }

    fn theirs(&self, method: &str) -> Command {
        let mut command = self.bench.context.script("bench/quantize_static.py");
        command.arg(&self.model).arg("--calib").arg(&self.photos).args(["--method", method]);
        command.arg("--output").arg(self.output(method));
        command
    }

    fn output(&self, name: &str) -> PathBuf {
        self.bench.context.work().join(format!("{LITE0}.{name}.onnx"))
    }

    /// What a command uses; one that fails is an error.
    fn measure(&self, command: &Command) -> Result<Usage> {
        let usage = Usage::of(&self.bench.context, command)?;
        match usage.status {
            0 => Ok(usage),
            status => {
                let program = command.get_args().next().unwrap_or_default().to_string_lossy();
                let cause = format!("`{program} …` ended with {status}: {}", usage.stderr);
                Err(Error::Engine { name: "the whole command", cause })
            }
        }
    }
}
