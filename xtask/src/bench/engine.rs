//! An engine: a process of its own on one core that answers requests.

use super::Bench;
use super::request::{Job, Request};
use crate::error::{Error, Result};
use serde::de::DeserializeOwned;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// A running engine; it ends when this is dropped.
pub(super) struct Engine {
    name: &'static str,
    child: Child,
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Engine {
    /// Starts a command that reads requests from its standard input.
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    pub(super) fn start(bench: &Bench, name: &'static str, command: &Command) -> Result<Self> {
        let mut pinned = pinned(bench, command);
        pinned.stdin(Stdio::piped()).stdout(Stdio::piped());
        let program = pinned.get_program().to_string_lossy().into_owned();
        let mut child = pinned.spawn().map_err(|source| Error::Start { program, source })?;
        let ends = child.stdin.take().zip(child.stdout.take());
        let Some((requests, answers)) = ends else {
            return Err(Error::Engine { name, cause: "it has no standard input or output".into() });
        };
        Ok(Self { name, child, requests: Some(requests), answers: BufReader::new(answers) })
    }

    /// Asks and waits for the answer.
    ///
    /// # Errors
    ///
    /// If the engine ended, or answers something else.
    pub(super) fn ask<T: DeserializeOwned>(&mut self, request: &Request) -> Result<T> {
        let name = self.name;
        let failed = |cause: String| Error::Engine { name, cause };
        let line = serde_json::to_string(request).map_err(|error| failed(error.to_string()))?;
        let Some(requests) = &mut self.requests else { return Err(failed("it was told to end".into())) };
        writeln!(requests, "{line}").and_then(|()| requests.flush()).map_err(|error| failed(error.to_string()))?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer).map_err(|error| failed(error.to_string()))?;
        if answer.is_empty() {
            return Err(failed("it ended without an answer".into()));
        }
        serde_json::from_str(&answer).map_err(|error| failed(error.to_string()))
    }

    /// Processor time of one image, in seconds.
    ///
    /// # Errors
    ///
    /// As [`Engine::ask`].
    pub(super) fn time(&mut self, job: Job) -> Result<f64> {
        self.ask(&Request::Time(job))
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // The end of its input tells the process to end.
        self.requests = None;
        let _ = self.child.wait();
    }
}

/// The command on the benchmark's core.
pub(super) fn pinned(bench: &Bench, command: &Command) -> Command {
    let mut pinned = Command::new("taskset");
    pinned.arg("--cpu-list").arg(bench.core.to_string()).arg(command.get_program()).args(command.get_args());
    pinned
}
