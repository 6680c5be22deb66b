//! Writing output files so that a failure at any moment leaves the previous
//! files or the new ones, never a half-written one and never a mix.
//!
//! Each file is written to a temporary in its own folder, synced to disk and
//! then renamed. How temporaries are named, and how those of a killed process
//! are recognized, is in `temporary`.

mod fresh;
mod publish;
mod temporary;

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::error::{DocumentError, folder_of};
use crate::source::describe;
pub use fresh::Place;
use temporary::Temporary;

/// Output files that are written all together or not at all.
///
/// With several files, add the one that names the others last, for example the
/// topology after its weights: it is the first to disappear and the last to
/// appear, so even a process killed half-way leaves the old files, the new
/// files, or no topology, never an old topology with new weights. If only that
/// last one is there already, it is replaced in one step when the others are
/// complete, and never missing.
///
/// An output may replace the file the model was read from. A symbolic link at
/// an output path is replaced; the file it points to is not touched.
#[derive(Default)]
pub struct OutputSet<'a> {
    outputs: Vec<Output<'a>>,
    makes_folders: bool,
}

struct Output<'a> {
    path: PathBuf,
    content: Content<'a>,
}

type Writer<'a> = Box<dyn FnOnce(&mut dyn Write) -> io::Result<()> + 'a>;

enum Content<'a> {
    Bytes(Cow<'a, [u8]>),
    Writer(Writer<'a>),
}

impl<'a> OutputSet<'a> {
    /// A set without files.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file with these contents.
    pub fn add_bytes(&mut self, path: impl Into<PathBuf>, bytes: impl Into<Cow<'a, [u8]>>) {
        self.outputs.push(Output { path: path.into(), content: Content::Bytes(bytes.into()) });
    }

    /// Adds a file whose contents `write` produces. It is called once, during
    /// [`commit`](Self::commit), with a buffered writer; if it fails, nothing is written.
    pub fn add_writer<F>(&mut self, path: impl Into<PathBuf>, write: F)
    where
        F: FnOnce(&mut dyn Write) -> io::Result<()> + 'a,
    {
        self.outputs.push(Output { path: path.into(), content: Content::Writer(Box::new(write)) });
    }

    /// Lets [`OutputSet::commit`] make the folders that outputs go to where they are missing.
    pub fn make_folders(&mut self) {
        self.makes_folders = true;
    }

    /// Writes all files and returns their paths in the order they were added.
    ///
    /// Temporaries that a killed process left beside these outputs are removed first.
    ///
    /// # Errors
    /// A path names a folder, a device or a write-protected file, its folder
    /// does not exist, two paths are the same, or the system refuses. Files that existed before are then
    /// unchanged, and no temporary remains.
    pub fn commit(self) -> Result<Vec<PathBuf>, DocumentError> {
        let paths: Vec<PathBuf> = self.outputs.iter().map(|output| output.path.clone()).collect();
        check_distinct(&paths)?;
        if self.makes_folders {
            paths.iter().try_for_each(|path| make_folder(path))?;
        }
        for path in &paths {
            check_target(path)?;
        }
        for path in &paths {
            temporary::remove_stale(path);
        }
        let staged: Result<Vec<Temporary>, _> = self.outputs.into_iter().map(Output::stage).collect();
        publish::publish(staged?)?;
        Ok(paths)
    }
}

impl Output<'_> {
    /// Writes the contents to a temporary and makes sure they are on the disk.
    fn stage(self) -> Result<Temporary, DocumentError> {
        let path = self.path;
        let failed = |step| {
            let path = path.clone();
            move |source| DocumentError::Write { path, step, source }
        };
        let temporary = Temporary::create(&path).map_err(failed("creating a temporary file"))?;
        let mut out = BufWriter::new(temporary.file());
        self.content.write_to(&mut out).and_then(|()| out.flush()).map_err(failed("writing the contents"))?;
        drop(out);
        temporary.file().sync_all().map_err(failed("syncing to disk"))?;
        Ok(temporary)
    }
}

impl Content<'_> {
    fn write_to(self, out: &mut dyn Write) -> io::Result<()> {
        match self {
            Self::Bytes(bytes) => out.write_all(&bytes),
            Self::Writer(write) => write(out),
        }
    }
}

fn make_folder(path: &Path) -> Result<(), DocumentError> {
    let folder = folder_of(path);
    fs::create_dir_all(folder).map_err(|source| DocumentError::OutputFolder { path: folder.into(), source })
}

fn check_distinct(paths: &[PathBuf]) -> Result<(), DocumentError> {
    let mut seen = std::collections::BTreeSet::new();
    for path in paths {
        if !seen.insert(place(path)) {
            return Err(DocumentError::DuplicateOutput { path: path.clone() });
        }
    }
    Ok(())
}

/// Folder and name, the folder free of links and `..` where it exists.
fn place(path: &Path) -> (PathBuf, Option<&OsStr>) {
    let folder = folder_of(path);
    (fs::canonicalize(folder).unwrap_or_else(|_| folder.into()), path.file_name())
}

/// Refuses what must not be replaced: folders, devices, write-protected files.
fn check_target(path: &Path) -> Result<(), DocumentError> {
    let names_a_folder = path.as_os_str().as_encoded_bytes().ends_with(b"/");
    match fs::metadata(path) {
        Ok(existing) => check_existing(path, &existing),
        Err(_) if path.file_name().is_none() || names_a_folder => {
            Err(DocumentError::OutputUnnamed { path: path.into() })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound && is_missing(folder_of(path)) => {
            Err(DocumentError::OutputFolderMissing { path: path.into() })
        }
        // Whatever else is wrong shows when the temporary file is created.
        Err(_) => Ok(()),
    }
}

fn is_missing(folder: &Path) -> bool {
    matches!(fs::metadata(folder), Err(error) if error.kind() == io::ErrorKind::NotFound)
}

fn check_existing(path: &Path, existing: &Metadata) -> Result<(), DocumentError> {
    if !existing.is_file() {
        let found = describe(existing.file_type());
        return Err(DocumentError::OutputNotAFile { path: path.into(), found });
    }
    if existing.permissions().readonly() {
        return Err(DocumentError::OutputReadOnly { path: path.into() });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
