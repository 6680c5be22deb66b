//! What the suites share: the fixtures, edits of model files, folders to work in and the command itself.
//!
//! The suites are the files of `tests/`; nothing is tested here.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::panic, clippy::print_stderr)]

pub mod fixtures;
pub mod models;
pub mod sandbox;

mod binary;

/// Says on standard error that a test was left out, and why.
pub fn skipped(why: &str) {
    eprintln!("skipped: {why}");
}
