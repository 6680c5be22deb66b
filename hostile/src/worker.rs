//! One process that reads a range of a target's inputs and reports on standard output, one JSON value a line.

use crate::corpus::Corpus;
use crate::error::{Error, Result, at};
use crate::measure::{Call, Fault, call, keep_panics};
use crate::target::{Outcome, Target};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Most memory of a process, so that an input cannot exhaust the machine: reading it fails instead.
const MAX_MEMORY: u64 = 4 << 30;

/// The hidden part of the command line.
#[derive(clap::Args)]
pub(crate) struct WorkerArgs {
    /// Target.
    #[arg(long = "worker", value_name = "TARGET", hide = true, requires_all = ["first", "end", "progress"])]
    target: Option<String>,
    /// Number of the first input.
    #[arg(long, hide = true)]
    first: Option<u64>,
    /// Number behind the last input.
    #[arg(long, hide = true)]
    end: Option<u64>,
    /// The file that always holds the number of the current input.
    #[arg(long, hide = true)]
    progress: Option<PathBuf>,
}

/// The inputs a worker reads.
pub(crate) struct Share {
    target: String,
    first: u64,
    end: u64,
    progress: PathBuf,
}

impl WorkerArgs {
    /// What to read, if this process is a worker.
    pub(crate) fn share(&self) -> Option<Share> {
        let progress = self.progress.clone()?;
        Some(Share { target: self.target.clone()?, first: self.first?, end: self.end?, progress })
    }
}

impl Share {
    /// The arguments that make a process the worker for some inputs.
    pub(crate) fn arguments(target: &Target, first: u64, end: u64, progress: &Path) -> Vec<std::ffi::OsString> {
        let (first, end) = (first.to_string(), end.to_string());
        ["--worker", target.name, "--first", &first, "--end", &end, "--progress"]
            .into_iter()
            .map(Into::into)
            .chain([progress.into()])
            .collect()
    }
}

/// A line of a worker's report.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Line {
    /// An input that failed.
    Failed(Failure),
    /// All inputs have been read.
    Done(Tally),
}

/// An input with which a reader did what it must not.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Failure {
    /// Number of the input.
    pub(crate) number: u64,
    /// What it is.
    pub(crate) about: String,
    /// What went wrong.
    pub(crate) fault: Fault,
}

/// Figures of many inputs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Tally {
    /// Inputs that were read.
    pub(crate) read: u64,
    /// Inputs that were refused.
    pub(crate) refused: u64,
    /// Processor time of all calls together, in seconds.
    pub(crate) seconds: f64,
    /// Processor time of the longest call in seconds, and the input's number.
    pub(crate) slowest: (f64, u64),
    /// Most bytes at once, and the input's number.
    pub(crate) largest: (usize, u64),
}

impl Tally {
    fn count(&mut self, number: u64, call: &Call) {
        *(if call.refused.is_some() { &mut self.refused } else { &mut self.read }) += 1;
        self.seconds += call.time.as_secs_f64();
        let (time, peak) = (call.time.as_secs_f64(), call.peak);
        if time > self.slowest.0 {
            self.slowest = (time, number);
        }
        if peak > self.largest.0 {
            self.largest = (peak, number);
        }
    }

    /// Both together.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            read: self.read + other.read,
            refused: self.refused + other.refused,
            seconds: self.seconds + other.seconds,
            slowest: if other.slowest.0 > self.slowest.0 { other.slowest } else { self.slowest },
            largest: if other.largest.0 > self.largest.0 { other.largest } else { self.largest },
        }
    }
}

/// Reads the inputs.
///
/// # Errors
///
/// If the target's valid files cannot be had, or the reports cannot be written.
pub(crate) fn run(share: &Share) -> Result<()> {
    limit_memory();
    keep_panics();
    let target = Target::named(&share.target)?;
    let corpus = Corpus::of(target)?;
    let mut progress = File::create(&share.progress).map_err(at(&share.progress))?;
    let mut tally = Tally::default();
    for number in share.first..share.end {
        note(&mut progress, number).map_err(at(&share.progress))?;
        let input = corpus.input(number);
        let about = input.about.clone();
        let call = call(target, input);
        tally.count(number, &call);
        if let Some(fault) = call.fault {
            say(&Line::Failed(Failure { number, about, fault }))?;
        }
    }
    say(&Line::Done(tally))
}

fn note(progress: &mut File, number: u64) -> std::io::Result<()> {
    progress.seek(SeekFrom::Start(0))?;
    progress.write_all(&number.to_le_bytes())
}

fn say(line: &Line) -> Result<()> {
    let standard_output = Path::new("standard output");
    let text = serde_json::to_string(line).map_err(|error| at(standard_output)(error.into()))?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).map_err(at(standard_output))
}

#[cfg(target_os = "linux")]
fn limit_memory() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let limit = Rlimit { current: Some(MAX_MEMORY), maximum: Some(MAX_MEMORY) };
    // Without the limit inputs are read as well.
    let _ = setrlimit(Resource::As, limit);
}

#[cfg(not(target_os = "linux"))]
fn limit_memory() {}

/// Reads the input that `text` names, as in `onnx:123`, and says what comes of it; writes it to `save`.
///
/// # Errors
///
/// If there is no such input, it cannot be written, or it fails.
pub(crate) fn replay(text: &str, save: Option<&Path>) -> Result<()> {
    let unknown = || Error::UnknownInput { text: text.to_owned() };
    let (name, number) = text.split_once(':').ok_or_else(unknown)?;
    let (target, number) = (Target::named(name)?, number.parse().map_err(|_| unknown())?);
    let corpus = Corpus::of(target)?;
    let input = corpus.input(number);
    println!("{}: {} bytes, must be {:?}", input.about, input.bytes.len(), input.outcome);
    if let Some(path) = save {
        fs::write(path, &input.bytes).map_err(at(path))?;
    }
    let outcome = input.outcome;
    keep_panics();
    let Call { refused, time, peak, fault } = call(target, input);
    let _ = std::panic::take_hook();
    match refused {
        Some(cause) => println!("refused: {cause}"),
        None if fault.is_none() || outcome == Outcome::Refused => println!("read"),
        None => {}
    }
    println!("{} ms, {:.1} MiB", milliseconds(time), peak as f64 / f64::from(1 << 20));
    fault.map_or(Ok(()), |fault| {
        println!("{fault:?}");
        Err(Error::Failures(1))
    })
}

fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e4).round() / 10.0
}
