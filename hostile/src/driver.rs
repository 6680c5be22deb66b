//! The run: every target's inputs are shared among workers, which are watched and whose reports are added up.

use crate::corpus::Corpus;
use crate::error::{Error, Result, at};
use crate::measure::Fault;
use crate::target::Target;
use crate::worker::{Failure, Line, Share, Tally};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A worker that has been at one input for so many seconds is ended.
const MAX_SECONDS: u64 = 20;

/// Failures of a target after which the rest of its inputs is left out.
const MAX_FAILURES: usize = 20;

/// Reads all inputs of the targets and prints a table.
///
/// # Errors
///
/// If inputs fail, or cannot be read.
pub(crate) fn run(targets: &[&'static Target], inputs: u64, jobs: Option<usize>) -> Result<()> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = jobs.unwrap_or(processors).max(1);
    println!(
        "{:<14} {:>9} {:>9} {:>9} {:>10} {:>9} {:>8}",
        "target", "inputs", "read", "refused", "slowest", "peak", "failed"
    );
    let mut failed = 0;
    for target in targets {
        let report = all(target, Corpus::of(target)?.fixed() + inputs, jobs)?;
        print(target, &report);
        failed += report.failures.len() as u64;
    }
    if failed > 0 { Err(Error::Failures(failed)) } else { Ok(()) }
}

/// What workers reported.
#[derive(Default)]
struct Report {
    tally: Tally,
    failures: Vec<Failure>,
}

fn print(target: &Target, report: &Report) {
    let Tally { read, refused, slowest, largest, .. } = &report.tally;
    let mebibytes = largest.0 as f64 / f64::from(1 << 20);
    let failed = report.failures.len();
    println!(
        "{:<14} {:>9} {read:>9} {refused:>9} {:>7.1} ms {mebibytes:>5.1} MiB {failed:>8}",
        target.name,
        read + refused,
        slowest.0 * 1e3
    );
    for Failure { number, about, fault } in &report.failures {
        println!("  --replay {}:{number}  {about}: {fault:?}", target.name);
    }
}

/// All inputs of a target, a share of them in each of `jobs` processes.
fn all(target: &'static Target, inputs: u64, jobs: usize) -> Result<Report> {
    let share = inputs.div_ceil(jobs as u64).max(1);
    let reports = std::thread::scope(|scope| {
        let starts = (0..inputs).step_by(usize::try_from(share).unwrap_or(usize::MAX));
        let threads: Vec<_> =
            starts.map(|first| scope.spawn(move || range(target, first, (first + share).min(inputs)))).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, Result<Report>>| {
            let lost = |_| Error::Worker { target: target.name, cause: "its watcher panicked".to_owned() };
            thread.join().map_err(lost)?
        };
        threads.into_iter().map(join).collect::<Result<Vec<_>>>()
    })?;
    let mut total = Report::default();
    for report in reports {
        total.tally = total.tally.and(report.tally);
        total.failures.extend(report.failures);
    }
    Ok(total)
}

/// The inputs `first..end`. A worker that an input ends is followed by one that begins behind it.
fn range(target: &'static Target, mut first: u64, end: u64) -> Result<Report> {
    let mut report = Report::default();
    while first < end && report.failures.len() < MAX_FAILURES {
        let (lines, ended) = one(target, first, end)?;
        let mut is_done = false;
        for line in lines {
            match line {
                Line::Failed(failure) => report.failures.push(failure),
                Line::Done(tally) => {
                    report.tally = std::mem::take(&mut report.tally).and(tally);
                    is_done = true;
                }
            }
        }
        if is_done {
            break;
        }
        let (number, fault) = ended?;
        let about = Corpus::of(target)?.input(number).about;
        report.failures.push(Failure { number, about, fault });
        first = number + 1;
    }
    Ok(report)
}

/// What a worker reported, and the input that ended it if one did.
type Ended = Result<(u64, Fault)>;

/// Runs one worker to its end.
fn one(target: &'static Target, first: u64, end: u64) -> Result<(Vec<Line>, Ended)> {
    let folder = tempfile::tempdir().map_err(at(Path::new("temporary folder")))?;
    let progress = folder.path().join("progress");
    let program = std::env::current_exe().map_err(at(Path::new("hostile")))?;
    let mut child = Command::new(&program)
        .args(Share::arguments(target, first, end, &progress))
        // What a worker leaves behind goes with the folder.
        .env("TMPDIR", folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(at(&program))?;
    let out = child.stdout.take();
    let is_hung = AtomicBool::new(false);
    let (lines, status) = std::thread::scope(|scope| {
        let reader = scope.spawn(move || -> Vec<Line> {
            let lines = out.into_iter().flat_map(|out| BufReader::new(out).lines());
            lines.map_while(std::result::Result::ok).filter_map(|line| serde_json::from_str(&line).ok()).collect()
        });
        let status = watched(&mut child, &progress, &is_hung);
        (reader.join().unwrap_or_default(), status)
    });
    let status = status.map_err(at(&program))?;
    let ended = if is_hung.into_inner() { Fault::Hung(MAX_SECONDS) } else { Fault::Ended(status.to_string()) };
    let lost = || Error::Worker { target: target.name, cause: status.to_string() };
    Ok((lines, current(&progress).ok_or_else(lost).map(|number| (number, ended))))
}

/// Waits for the end of a worker, or ends it if it stays at one input.
fn watched(child: &mut Child, progress: &Path, is_hung: &AtomicBool) -> std::io::Result<ExitStatus> {
    let (mut last, mut since) = (None, Instant::now());
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        let number = current(progress);
        if number != last {
            (last, since) = (number, Instant::now());
        } else if since.elapsed() > Duration::from_secs(MAX_SECONDS) {
            is_hung.store(true, Ordering::Relaxed);
            child.kill()?;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The number of the input a worker is at.
fn current(progress: &Path) -> Option<u64> {
    fs::read(progress).ok()?.try_into().ok().map(u64::from_le_bytes)
}
