//! What can go wrong with a document, whose fault it is, where it happened and
//! what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::limits::LimitExceeded;
use crate::text::{TextError, TextFault};
use crate::wire::{WireError, WireFault};

/// Who has to act on an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The contents of a file are not what they should be.
    Input,
    /// The file is larger or more deeply nested than we accept.
    Limits,
    /// The request itself is wrong, such as a folder where a file is needed.
    Caller,
    /// The system refused: permissions, a full disk, a missing folder.
    Environment,
    /// Our own code used a document wrongly.
    Bug,
}

/// Any failure of this crate.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// A file could not be opened or read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A folder, pipe, socket or device was given as an input file.
    #[error("cannot read {}: it is {found}, not a regular file", path.display())]
    NotAFile {
        /// The path as given.
        path: PathBuf,
        /// What is there instead, with its article.
        found: &'static str,
    },
    /// A file is larger than the limit.
    #[error("cannot read {}: {exceeded}", path.display())]
    FileTooLarge {
        /// The file.
        path: PathBuf,
        /// The limit and the size.
        exceeded: LimitExceeded,
    },
    /// A file does not fit into memory.
    #[error("cannot read {}: no memory for its {bytes} bytes", path.display())]
    OutOfMemory {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// A file became shorter or longer while it was read.
    #[error("cannot read {}: its size changed while it was read", path.display())]
    ChangedWhileRead {
        /// The file.
        path: PathBuf,
    },
    /// A file does not have the bytes that another file says it has.
    #[error("{} has {size} bytes, none from {offset} to {end}", path.display())]
    Outside {
        /// The file.
        path: PathBuf,
        /// Its size.
        size: u64,
        /// First byte asked for.
        offset: u64,
        /// One past the last byte asked for.
        end: u128,
    },
    /// The bytes of a file are not a valid message.
    #[error("{}: {source}", path.display())]
    Wire {
        /// The file.
        path: PathBuf,
        /// Offset and cause.
        source: WireError,
    },
    /// A file is not in the text format.
    #[error("{}: {source}", path.display())]
    Text {
        /// The file.
        path: PathBuf,
        /// Line, column and cause.
        source: TextError,
    },
    /// An edit of a text names bytes that the text does not have.
    #[error("the edit of bytes {start}..{end} is outside the {length} bytes of the text")]
    EditOutside {
        /// First byte of the edit.
        start: usize,
        /// One past its last byte.
        end: usize,
        /// Bytes there are.
        length: usize,
    },
    /// Two edits of a text change the same bytes.
    #[error("the edit of bytes {start}..{end} overlaps another one")]
    EditOverlap {
        /// First byte of the edit.
        start: usize,
        /// One past its last byte.
        end: usize,
    },
    /// A message index was used with bytes that are too short for it.
    #[error("the message at bytes {start}..{end} is outside the {length} bytes of the document")]
    ForeignIndex {
        /// First byte of the indexed message.
        start: usize,
        /// One past its last byte.
        end: usize,
        /// Bytes there are.
        length: usize,
    },
    /// An edit names a field that the message does not have.
    #[error("the message has {count} fields, none with index {index}")]
    NoSuchField {
        /// Index asked for.
        index: usize,
        /// Fields there are.
        count: usize,
    },
    /// A nested message was wanted where the field holds a number.
    #[error("field {number} at byte {offset} is not length-delimited, so it holds no message")]
    NotAMessage {
        /// Field number.
        number: u32,
        /// Byte offset of the field.
        offset: usize,
    },
    /// A folder, pipe, socket or device is where an output file should go.
    #[error("cannot write {}: it is {found}, not a regular file", path.display())]
    OutputNotAFile {
        /// The path as given.
        path: PathBuf,
        /// What is there instead, with its article.
        found: &'static str,
    },
    /// The output path ends in no file name.
    #[error("cannot write {}: the path names no file", path.display())]
    OutputUnnamed {
        /// The path as given.
        path: PathBuf,
    },
    /// The folder of an output file does not exist.
    #[error("cannot write {}: the folder {} does not exist", path.display(), folder_of(path).display())]
    OutputFolderMissing {
        /// The path as given.
        path: PathBuf,
    },
    /// A folder that outputs go to cannot be made.
    #[error("cannot make the folder {}: {source}", path.display())]
    OutputFolder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file to be replaced is write-protected.
    #[error("cannot write {}: the existing file is read-only", path.display())]
    OutputReadOnly {
        /// The path as given.
        path: PathBuf,
    },
    /// Two outputs of one set have the same path.
    #[error("cannot write {}: two outputs have this path", path.display())]
    DuplicateOutput {
        /// The path given twice.
        path: PathBuf,
    },
    /// An output file could not be written; what was there before is unchanged.
    #[error("cannot write {}: {step} failed: {source}", path.display())]
    Write {
        /// The file that was to be written.
        path: PathBuf,
        /// What was being done.
        step: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// After a failed write the previous files could not be put back.
    #[error(
        "cannot restore {}: {source}; its previous contents are in {}",
        path.display(),
        backup.display()
    )]
    Restore {
        /// The file that was to be put back.
        path: PathBuf,
        /// Where its previous contents are.
        backup: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl DocumentError {
    /// Who has to act on the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Wire { source, .. } => source.kind(),
            Self::Text { source, .. } => source.kind(),
            Self::FileTooLarge { .. } => ErrorKind::Limits,
            Self::Outside { .. } => ErrorKind::Input,
            Self::NotAFile { .. }
            | Self::OutputNotAFile { .. }
            | Self::OutputUnnamed { .. }
            | Self::DuplicateOutput { .. } => ErrorKind::Caller,
            Self::Read { .. }
            | Self::OutOfMemory { .. }
            | Self::ChangedWhileRead { .. }
            | Self::OutputFolderMissing { .. }
            | Self::OutputFolder { .. }
            | Self::OutputReadOnly { .. }
            | Self::Write { .. }
            | Self::Restore { .. } => ErrorKind::Environment,
            Self::ForeignIndex { .. }
            | Self::NoSuchField { .. }
            | Self::NotAMessage { .. }
            | Self::EditOutside { .. }
            | Self::EditOverlap { .. } => ErrorKind::Bug,
        }
    }

    /// The file concerned, if there is one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Read { path, .. }
            | Self::NotAFile { path, .. }
            | Self::FileTooLarge { path, .. }
            | Self::OutOfMemory { path, .. }
            | Self::ChangedWhileRead { path }
            | Self::Outside { path, .. }
            | Self::Wire { path, .. }
            | Self::Text { path, .. }
            | Self::OutputNotAFile { path, .. }
            | Self::OutputUnnamed { path }
            | Self::OutputFolderMissing { path }
            | Self::OutputFolder { path, .. }
            | Self::OutputReadOnly { path }
            | Self::DuplicateOutput { path }
            | Self::Write { path, .. }
            | Self::Restore { path, .. } => Some(path),
            Self::ForeignIndex { .. }
            | Self::NoSuchField { .. }
            | Self::NotAMessage { .. }
            | Self::EditOutside { .. }
            | Self::EditOverlap { .. } => None,
        }
    }

    /// Byte offset in the file, if the error is about its contents.
    pub fn offset(&self) -> Option<usize> {
        match self {
            Self::Wire { source, .. } => Some(source.offset),
            Self::NotAMessage { offset, .. } => Some(*offset),
            _ => None,
        }
    }

    /// What the user can do, where we know.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Read { path, source } => read_hint(path, source.kind()),
            Self::Write { path, source, .. } => write_hint(path, source.kind()),
            Self::Wire { source, .. } => wire_hint(&source.fault),
            Self::Text { source, .. } => text_hint(&source.fault),
            Self::NotAFile { found, .. } | Self::OutputNotAFile { found, .. } => file_hint(found),
            Self::OutputUnnamed { .. } => Some("add a file name to the output path".into()),
            Self::OutputFolderMissing { path } => write_hint(path, io::ErrorKind::NotFound),
            Self::OutputFolder { .. } => Some("choose another output path, or make the folder yourself".into()),
            Self::OutputReadOnly { .. } => Some("choose another output path, or make the file writable".into()),
            Self::Outside { .. } => Some("the file is cut off or belongs to another one; copy both once more".into()),
            Self::OutOfMemory { .. } => Some("use a machine with more free memory".into()),
            Self::ChangedWhileRead { .. } => Some("wait until nothing writes to the file, then run again".into()),
            Self::Restore { path, backup, .. } => Some(format!("rename {} to {}", backup.display(), path.display())),
            _ => None,
        }
    }
}

fn read_hint(path: &Path, kind: io::ErrorKind) -> Option<String> {
    match kind {
        io::ErrorKind::NotFound => Some("check the spelling of the path".into()),
        io::ErrorKind::PermissionDenied => Some(format!("check that you may read {}", path.display())),
        _ => None,
    }
}

fn write_hint(path: &Path, kind: io::ErrorKind) -> Option<String> {
    let folder = folder_of(path).display();
    match kind {
        io::ErrorKind::NotFound => Some(format!("create the folder {folder} first")),
        io::ErrorKind::NotADirectory => Some(format!("{folder} is not a folder; choose another output path")),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            Some(format!("check that you may create files in {folder}, or choose another output path"))
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Some(format!("free some space on the disk of {folder}, or choose another output path"))
        }
        io::ErrorKind::InvalidFilename => Some("choose a shorter file name".into()),
        _ => None,
    }
}

fn wire_hint(fault: &WireFault) -> Option<String> {
    match fault {
        WireFault::Limit(_) => None,
        WireFault::Truncated { .. } | WireFault::UnclosedGroup => {
            Some("the file is cut off or of another format; copy or download it once more".into())
        }
        _ => Some("the file is damaged or of another format".into()),
    }
}

fn text_hint(fault: &TextFault) -> Option<String> {
    match fault {
        TextFault::Limit(_) => None,
        TextFault::Unclosed { .. } => Some("the file is cut off, or a bracket is missing".into()),
        _ => Some("correct the line; a file of another format has no lines to correct".into()),
    }
}

fn file_hint(found: &str) -> Option<String> {
    match found {
        "a folder" => Some("name a file inside the folder".into()),
        _ => Some("use a regular file".into()),
    }
}

/// The folder a file is in; `.` for a bare name.
pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}
