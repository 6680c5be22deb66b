//! The workspace as cargo and git describe it, and the way other programs are run.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// The part of `cargo metadata` the tasks use.
#[derive(Debug, Deserialize)]
pub(crate) struct Metadata {
    /// The members of the workspace.
    pub(crate) packages: Vec<Package>,
    /// Where cargo puts what it builds.
    pub(crate) target_directory: PathBuf,
}

/// A member of the workspace.
#[derive(Debug, Deserialize)]
pub(crate) struct Package {
    /// Name, such as `quantize-ir`.
    pub(crate) name: String,
    /// Absolute path of its `Cargo.toml`.
    pub(crate) manifest_path: PathBuf,
    /// What its manifest asks for.
    pub(crate) dependencies: Vec<Dependency>,
}

/// A line of a manifest's dependency tables.
#[derive(Debug, Deserialize)]
pub(crate) struct Dependency {
    /// Name of the package asked for.
    pub(crate) name: String,
    /// `None` for a normal dependency, else `dev` or `build`.
    pub(crate) kind: Option<String>,
}

/// The root folder of the workspace.
pub(crate) fn root() -> &'static Path {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own)
}

/// Asks cargo for the members of the workspace.
///
/// # Errors
///
/// If cargo fails, for instance because a manifest is wrong.
pub(crate) fn metadata() -> Result<Metadata> {
    json(cargo().args(["metadata", "--no-deps", "--format-version", "1", "--offline"]))
}

/// A cargo command that works on this workspace.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// The files git tracks that exist in the working tree, relative to the root, sorted.
///
/// # Errors
///
/// If git fails, for instance outside a checkout.
pub(crate) fn tracked_files() -> Result<Vec<PathBuf>> {
    let listing = output(Command::new("git").args(["ls-files", "-z"]).current_dir(root()))?;
    let listing = String::from_utf8_lossy(&listing.stdout).into_owned();
    let mut files: Vec<PathBuf> = listing.split_terminator('\0').map(PathBuf::from).collect();
    files.retain(|file| root().join(file).is_file());
    files.sort();
    Ok(files)
}

/// Runs a command to its end and reads its standard output as JSON.
///
/// # Errors
///
/// As [`output`], and if the output is not the JSON asked for.
pub(crate) fn json<T: DeserializeOwned>(command: &mut Command) -> Result<T> {
    let output = output(command)?;
    serde_json::from_slice(&output.stdout).map_err(|source| Error::Json { command: line(command), source })
}

/// Runs a command to its end and returns what it wrote.
///
/// # Errors
///
/// If it cannot be started or ends with another exit code than 0.
pub(crate) fn output(command: &mut Command) -> Result<Output> {
    let output = any_output(command)?;
    if output.status.success() {
        return Ok(output);
    }
    Err(Error::Command { command: line(command), status: output.status, output: last_lines(&output.stderr) })
}

/// Runs a command to its end and returns what it wrote, whatever its exit code.
///
/// # Errors
///
/// If it cannot be started.
pub(crate) fn any_output(command: &mut Command) -> Result<Output> {
    let program = command.get_program().to_string_lossy().into_owned();
    command.output().map_err(|source| Error::Start { program, source })
}

/// The last lines of a program's messages, each on a line of its own.
pub(crate) fn last_lines(stderr: &[u8]) -> String {
    const KEPT: usize = 12;
    let text = String::from_utf8_lossy(stderr);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines.iter().skip(lines.len().saturating_sub(KEPT)).map(|line| format!("\n    {line}")).collect()
}

/// The command as one would type it.
fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
