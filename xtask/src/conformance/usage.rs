//! What a command used: memory and time, as the operating system counts them.

use std::process::Command;

use serde::Deserialize;

use super::context::Context;
use crate::error::Result;
use crate::workspace;

/// What `usage.py` prints.
#[derive(Deserialize)]
pub(crate) struct Usage {
    /// Exit code.
    pub(crate) status: i32,
    /// Peak resident memory, in 10⁶ bytes.
    pub(crate) peak_mb: f64,
    /// Wall time, in seconds.
    pub(crate) seconds: f64,
    /// Processor time of all threads, user and system together, in seconds.
    pub(crate) cpu_seconds: f64,
    /// The messages of the command.
    pub(crate) stderr: String,
}

impl Usage {
    /// Runs a command to its end, whatever its exit code.
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    pub(crate) fn of(context: &Context, command: &Command) -> Result<Self> {
        let mut script = context.script("usage.py");
        workspace::json(script.arg(command.get_program()).args(command.get_args()))
    }

    /// The figures as `120.5 MB in 2.1 s, 3.9 s of processor time`.
    pub(crate) fn describe(&self) -> String {
        format!("{:.1} MB in {:.1} s, {:.1} s of processor time", self.peak_mb, self.seconds, self.cpu_seconds)
    }
}
