//! Parts of a document that stand in files beside it, named by paths that come from the document: opened only inside
//! the document's folder, read only where asked.
//!
//! Such a path is input like any other. What it could be made to say (leave the folder, follow a link out of it, block
//! on a pipe, lend a file of the reader a second name) is refused before a byte is read. Files are read by position
//! into memory that the caller drops again, not mapped: a file that shrinks meanwhile is an error rather than a signal,
//! and what is resident is what is in use.

use std::fs::{self, File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use thiserror::Error;

use crate::error::folder_of;
use crate::source::describe;

/// Why a part that a document refers to is not read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ExternalError {
    /// No path at all.
    #[error("its location is empty")]
    Empty,
    /// A path from the root of a file system.
    #[error("its location `{location}` is an absolute path")]
    Absolute {
        /// The path.
        location: String,
    },
    /// A path with `..`.
    #[error("its location `{location}` leaves the model's folder by `..`")]
    Parent {
        /// The path.
        location: String,
    },
    /// Links lead out of the folder.
    #[error("its location `{location}` leads out of the model's folder, to {}", target.display())]
    Escape {
        /// The path.
        location: String,
        /// Where it leads.
        target: PathBuf,
    },
    /// A folder, pipe, socket or device.
    #[error("its location `{location}` is {found}, not a regular file")]
    NotAFile {
        /// The path.
        location: String,
        /// What is there instead, with its article.
        found: &'static str,
    },
    /// A file that has other names too, which may stand anywhere.
    #[error("the file at its location `{location}` has {links} names (hard links), which may stand in other folders")]
    HardLinked {
        /// The path.
        location: String,
        /// Number of names.
        links: u64,
    },
    /// The file does not hold the bytes asked for.
    #[error("`{location}` has {size} bytes, none from {offset} to {end}")]
    Outside {
        /// The path.
        location: String,
        /// Size of the file.
        size: u64,
        /// First byte asked for.
        offset: u64,
        /// One past the last byte asked for.
        end: u128,
    },
    /// The system refused.
    #[error("cannot read `{location}`: {source}")]
    Io {
        /// The path.
        location: String,
        /// What the system said.
        source: io::Error,
    },
}

impl ExternalError {
    /// What the user can do.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "the files a model refers to must stand beside it; copy them along with the model"
            }
            Self::Io { .. } => "check that you may read the file",
            Self::Outside { .. } => "the file is cut off or belongs to another model; copy it once more",
            Self::HardLinked { .. } => "make a copy of the file that shares nothing with others (`cp`)",
            Self::Escape { .. } => "put the file itself, not a link to it, into the model's folder",
            Self::Empty | Self::Absolute { .. } | Self::Parent { .. } | Self::NotAFile { .. } => {
                "a model may only refer to regular files in its own folder or below; do not use models of unknown origin"
            }
        }
    }
}

/// A stretch of a file beside a document, as the document names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalRange {
    /// Path relative to the document's folder, as written.
    pub location: String,
    /// First byte.
    pub offset: u64,
    /// Number of bytes; `None` for everything up to the end of the file.
    pub length: Option<u64>,
}

impl ExternalRange {
    /// Opens the file of this stretch for the document at `document`, at its first byte; returns it with the number of
    /// bytes of the stretch.
    ///
    /// # Errors
    /// The path is unsafe, is no regular file with one name, cannot be opened, or does not have these bytes.
    pub fn open(&self, document: &Path) -> Result<ExternalPart, ExternalError> {
        let location = || self.location.clone();
        let failed = |source| ExternalError::Io { location: location(), source };
        let path = self.resolve(document)?;
        // Opening a pipe would block, so the path is looked at before it is opened.
        self.check_file(&fs::metadata(&path).map_err(failed)?)?;
        let mut file = File::open(&path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        self.check_file(&metadata)?;
        let size = metadata.len();
        let length = self.length.unwrap_or(size.saturating_sub(self.offset));
        let end = u128::from(self.offset) + u128::from(length);
        if self.offset > size || end > u128::from(size) {
            return Err(ExternalError::Outside { location: location(), size, offset: self.offset, end });
        }
        file.seek(SeekFrom::Start(self.offset)).map_err(failed)?;
        Ok(ExternalPart { location: location(), length, file: file.take(length) })
    }

    /// The file's path, without links.
    fn resolve(&self, document: &Path) -> Result<PathBuf, ExternalError> {
        let location = || self.location.clone();
        let failed = |source| ExternalError::Io { location: location(), source };
        let path = Path::new(&self.location);
        let parts: Vec<Component<'_>> = path.components().collect();
        // A Windows path is refused on every system, so that a model means the same everywhere.
        let drive = self.location.as_bytes().get(1) == Some(&b':') || self.location.starts_with('\\');
        if drive || parts.iter().any(|part| matches!(part, Component::RootDir | Component::Prefix(_))) {
            return Err(ExternalError::Absolute { location: location() });
        }
        if self.location.split(['/', '\\']).any(|part| part == "..") {
            return Err(ExternalError::Parent { location: location() });
        }
        if !parts.iter().any(|part| matches!(part, Component::Normal(_))) {
            return Err(ExternalError::Empty);
        }
        let folder = fs::canonicalize(folder_of(document)).map_err(failed)?;
        let target = fs::canonicalize(folder.join(path)).map_err(failed)?;
        if !target.starts_with(&folder) {
            return Err(ExternalError::Escape { location: location(), target });
        }
        Ok(target)
    }

    fn check_file(&self, metadata: &Metadata) -> Result<(), ExternalError> {
        let location = self.location.clone();
        if !metadata.is_file() {
            return Err(ExternalError::NotAFile { location, found: describe(metadata.file_type()) });
        }
        match link_count(metadata) {
            0 | 1 => Ok(()),
            links => Err(ExternalError::HardLinked { location, links }),
        }
    }
}

#[cfg(unix)]
fn link_count(metadata: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::nlink(metadata)
}

/// Elsewhere the number of names is not known without opening the file by other means.
#[cfg(not(unix))]
fn link_count(_: &Metadata) -> u64 {
    1
}

/// An opened stretch of a file; reading ends where the stretch ends.
#[derive(Debug)]
pub struct ExternalPart {
    location: String,
    length: u64,
    file: io::Take<File>,
}

impl ExternalPart {
    /// Number of bytes from first to last.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Fills `buffer` with the next bytes.
    ///
    /// # Errors
    /// The system refuses, or the file was cut off meanwhile.
    pub fn read_exact(&mut self, buffer: &mut [u8]) -> Result<(), ExternalError> {
        self.file.read_exact(buffer).map_err(|source| ExternalError::Io { location: self.location.clone(), source })
    }
}

/// Whether two files stand, or would stand, in the same folder.
pub fn same_folder(one: &Path, other: &Path) -> bool {
    let folder = |path: &Path| fs::canonicalize(folder_of(path)).ok();
    folder(one).is_some_and(|one| Some(one) == folder(other))
}

#[cfg(test)]
mod tests;
