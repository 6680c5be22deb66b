//! Writing to the terminal: results, messages, progress. A closed pipe ends quietly.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use quantize_pipeline::{Error, Progress};
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Mutex;

/// Why a command ends early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The job failed.
    Job(Box<Error>),
    /// The arguments contradict each other.
    Usage(String),
    /// A file or a stream could not be written.
    Io(String, io::Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Job(Box::new(error))
    }
}

impl Failure {
    /// Says what went wrong and what to do, and gives the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        match self {
            Self::Job(error) => {
                note(&format!("error: {error}"));
                if let Some(hint) = error.hint() {
                    note(&format!("\nhint: {hint}"));
                }
                ExitCode::from(if error.is_usage() { 2 } else { 1 })
            }
            Self::Usage(cause) => {
                note(&format!("error: {cause}\n\nFor more information, try '--help'."));
                ExitCode::from(2)
            }
            // The reader of our output left: there is nobody to tell.
            Self::Io(_, error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
            Self::Io(what, error) => {
                note(&format!("error: {what}: {error}"));
                ExitCode::FAILURE
            }
        }
    }
}

/// Writes a result to standard output.
pub(crate) fn result(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).map_err(|e| Failure::Io("cannot write the result".into(), e))
}

/// Writes a message to standard error; if nobody reads it, so be it.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// A progress bar with the time left, on a terminal; nothing elsewhere.
#[derive(Debug)]
pub(crate) struct Bar {
    hidden: bool,
    current: Mutex<Option<ProgressBar>>,
}

impl Bar {
    /// A bar, unless `quiet`.
    pub(crate) fn new(quiet: bool) -> Self {
        Self { hidden: quiet, current: Mutex::new(None) }
    }

    fn with(&self, act: impl FnOnce(&mut Option<ProgressBar>)) {
        if let Ok(mut current) = self.current.lock() {
            act(&mut current);
        }
    }
}

impl Progress for Bar {
    fn begin(&self, stage: &str, total: usize) {
        let target = if self.hidden { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(Some(total as u64), target);
        if let Ok(style) = ProgressStyle::with_template("{msg:>18} [{bar:32}] {pos}/{len} images, {eta} left") {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(stage.to_owned());
        self.with(|current| *current = Some(bar));
    }

    fn step(&self) {
        self.with(|current| {
            if let Some(bar) = current {
                bar.inc(1);
            }
        });
    }

    fn end(&self) {
        self.with(|current| {
            if let Some(bar) = current.take() {
                bar.finish_and_clear();
            }
        });
    }
}
