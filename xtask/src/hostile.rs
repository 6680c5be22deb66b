//! `cargo xtask hostile`: builds the program in `hostile/` and runs it. It is a program of its own because it counts what
//! is allocated, which would slow down what other tasks measure.

use crate::error::{Error, Result};
use crate::workspace;
use std::ffi::OsString;

/// Runs the program to its end. It is optimized as tests are, and like them it checks its arithmetic for overflow.
///
/// # Errors
///
/// If it cannot be built, or inputs fail; both have been printed.
pub(crate) fn run(arguments: &[OsString]) -> Result<()> {
    let mut command = workspace::cargo();
    command.args(["run", "--quiet", "--locked", "--package", "quantize-hostile", "--"]).args(arguments);
    let status = command.status().map_err(|source| Error::Start { program: "cargo".to_owned(), source })?;
    if status.success() { Ok(()) } else { Err(Error::Hostile) }
}
