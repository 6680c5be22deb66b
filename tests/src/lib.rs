//! What the suites share: the fixtures, edits of model files, graphs to compare, arrays of reference data, folders to
//! work in and the command itself.
//!
//! The suites are the files of `tests/`; nothing is tested here.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::panic)]

use std::io::Write;

pub mod arrays;
pub mod caffe;
pub mod fixtures;
pub mod graphs;
pub mod models;
pub mod npz;
pub mod sandbox;

mod binary;

/// Says on standard error that a test was left out, and why.
pub fn skipped(why: &str) {
    // Past the macros, whose output the test harness hides.
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
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
