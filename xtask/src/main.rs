//! Tasks of the project that are no part of what it ships: `cargo xtask <task>`.
//!
//! This file only dispatches; each task is a module of its own.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a task talks to the person who started it")]

mod conformance;
mod error;
mod tidy;
mod workspace;

use std::process::ExitCode;

use clap::Parser;

/// Tasks of the project.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Task {
    /// Check the rules of the source tree: crate edges, module docs, file access, text.
    Tidy,
    /// Compare what `quantize` writes and computes with the real runtime of a format.
    Conformance {
        /// The format.
        format: conformance::Format,
        /// Run only the checks whose name contains one of these words.
        only: Vec<String>,
    },
}

fn main() -> ExitCode {
    let done = match Task::parse() {
        Task::Tidy => tidy::run(),
        Task::Conformance { format, only } => conformance::run(format, &only),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
