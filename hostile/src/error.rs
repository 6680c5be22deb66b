//! The errors of the program; what a reader does wrong is no error of ours but a failure that is printed.

use std::path::{Path, PathBuf};

/// Why the inputs could not all be tried, or that some failed.
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
    /// A fixture is not what it should be.
    #[error("{name}: {cause}")]
    Seed {
        /// The fixture.
        name: String,
        /// What is wrong.
        cause: String,
    },
    /// A target was asked for that there is not.
    #[error("no target is called `{name}`; there are {known}")]
    UnknownTarget {
        /// The name given.
        name: String,
        /// Those there are.
        known: String,
    },
    /// What stands behind `--replay` names no input.
    #[error("`{text}` is no target and number, as in onnx:123")]
    UnknownInput {
        /// The text given.
        text: String,
    },
    /// A worker did not do what the driver asked.
    #[error("a worker for `{target}` ended without a report: {cause}")]
    Worker {
        /// The target.
        target: &'static str,
        /// What is known.
        cause: String,
    },
    /// Inputs failed; each of them has been printed.
    #[error("{0} inputs failed")]
    Failures(u64),
}

/// The result of a step.
pub(crate) type Result<T> = std::result::Result<T, Error>;

/// Puts the path into an error of the file system; for `map_err`.
pub(crate) fn at(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { path, source }
}
