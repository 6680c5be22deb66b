//! What the suites share: the fixtures, edits of model files, graphs to compare, arrays of reference data, folders to
//! work in and the command itself.
//!
//! The suites are the files of `tests/`; nothing is tested here.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::panic)]

use std::io::Write;

pub mod arrays;
pub mod binary;
pub mod caffe;
pub mod external;
pub mod fixtures;
pub mod graphs;
pub mod models;
pub mod pictures;
mod proto;
pub mod quantcfg;
pub mod relu_net;
pub mod sandbox;
pub mod small_net;
pub mod tensorflow;
pub mod token_net;

/// Says on standard error that a test was left out, and why.
pub fn skipped(why: &str) {
    // Past the macros, whose output the test harness hides.
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}

/// Says on standard error how many cases a test has looked at, and that there were some.
///
/// # Panics
/// If there were none.
pub fn counted(count: usize, what: &str) {
    assert!(count > 0, "no {what}");
    let _ = writeln!(std::io::stderr(), "checked: {count} {what}");
}

/// The files of a folder in the order of their names.
///
/// # Panics
/// If it cannot be listed.
#[must_use]
pub fn files_in(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).filter(|p| p.is_file()).collect();
    files.sort();
    files
}

/// The folder of large models, images and reference outputs, if there is one.
#[must_use]
pub fn shared() -> Option<std::path::PathBuf> {
    let folder = std::env::var_os("QUANTIZE_SHARED").map(std::path::PathBuf::from);
    if folder.is_none() {
        skipped("QUANTIZE_SHARED is not set");
    }
    folder
}
