//! The errors of the tasks.

use std::path::{Path, PathBuf};

/// A task that could not be done, or was done and found something wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Error {
    /// A file or folder could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file of a model could not be read or written.
    #[error(transparent)]
    Document(#[from] quantize_document::DocumentError),
    /// The example's network has something that Caffe's format has no layer for, or is no network.
    #[error("{path}: {cause}")]
    Example {
        /// The model.
        path: PathBuf,
        /// What is wrong.
        cause: String,
    },
    /// A program could not be started.
    #[error("cannot start `{program}`: {source}; is it installed and in PATH?")]
    Start {
        /// The program.
        program: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A program ran and failed.
    #[error("`{command}` failed ({status}){output}")]
    Command {
        /// The command line.
        command: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// The end of what it wrote to its standard error, on lines of its own.
        output: String,
    },
    /// A program printed something other than the JSON expected of it.
    #[error("unexpected output of `{command}`: {source}")]
    Json {
        /// The command line.
        command: String,
        /// What the JSON reader said.
        source: serde_json::Error,
    },
    /// Something outside the project that a task needs cannot be had.
    #[error("cannot get {what}: {cause}")]
    Environment {
        /// What is needed.
        what: &'static str,
        /// Why there is none.
        cause: Box<Error>,
    },
    /// A list of inputs is empty, so that a check would show nothing.
    #[error("no files found: {what}")]
    NothingToCheck {
        /// Which files.
        what: &'static str,
    },
    /// An array file is not what numpy writes for float32 or int64 numbers.
    #[error("{path}: not an array of float32 or int64 numbers in C order: {cause}")]
    Array {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        cause: String,
    },
    /// A process that a benchmark compares does not answer as it should.
    #[error("{name}: {cause}")]
    Engine {
        /// Which one.
        name: &'static str,
        /// What is wrong.
        cause: String,
    },
    /// A part of the benchmark was asked for that there is not.
    #[error("nothing to measure is called `{name}`; see `cargo xtask bench --help`")]
    UnknownPart {
        /// The name given.
        name: String,
    },
    /// Checks of a conformance run failed; each of them has been printed.
    #[error("the conformance run `{suite}` failed")]
    Conformance {
        /// The suite.
        suite: &'static str,
    },
    /// Damaged files were not treated as they should be; each of them has been printed.
    #[error("the run with hostile input failed")]
    Hostile,
    /// The library under test failed.
    #[error("{path}: {source}")]
    Model {
        /// The model.
        path: PathBuf,
        /// What the library said.
        source: Box<quantize_pipeline::Error>,
    },
    /// The source tree breaks rules; each of them has been printed.
    #[error("{0} problems in the source tree")]
    Untidy(usize),
}

/// The result of a task or a step of one.
pub(crate) type Result<T> = std::result::Result<T, Error>;

/// Puts the path into an error of the file system; for `map_err`.
pub(crate) fn at(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { path, source }
}
