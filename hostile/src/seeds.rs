//! The valid files that inputs are made from: small fixtures that the project's own scripts made.

use crate::error::{Error, Result, at};
use crate::target::Seed;
use std::fs;
use std::path::{Path, PathBuf};

/// The root of the source tree.
fn root() -> &'static Path {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own)
}

/// A file or folder by its path relative to the root of the source tree.
pub(crate) fn path(relative: impl AsRef<Path>) -> PathBuf {
    root().join(relative)
}

/// Reads a file; its path is relative to the root of the source tree.
///
/// # Errors
///
/// If it cannot be read.
pub(crate) fn read(path: impl AsRef<Path>) -> Result<Vec<u8>> {
    let path = root().join(path);
    fs::read(&path).map_err(at(&path))
}

/// The files of a folder whose names end like this and that have at most `most` bytes, in the order of their names.
///
/// # Errors
///
/// If they cannot be read, or there are none.
pub(crate) fn files(folder: &str, end: &str, most: usize) -> Result<Vec<Seed>> {
    let path = root().join(folder);
    let entries = fs::read_dir(&path).map_err(at(&path))?;
    let listed: std::io::Result<Vec<PathBuf>> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
    let mut paths = listed.map_err(at(&path))?;
    paths.retain(|path| path.to_string_lossy().ends_with(end));
    paths.sort();
    let mut seeds = paths.iter().map(|path| seed(path)).collect::<Result<Vec<Seed>>>()?;
    seeds.retain(|seed| seed.bytes.len() <= most);
    if seeds.is_empty() {
        return Err(Error::Seed { name: folder.to_owned(), cause: format!("it has no file *{end}") });
    }
    Ok(seeds)
}

fn seed(path: &Path) -> Result<Seed> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(Seed { name, bytes: fs::read(path).map_err(at(path))?, companions: Vec::new() })
}

impl Seed {
    /// A file that is made here.
    pub(crate) fn made(name: impl Into<String>, bytes: Vec<u8>) -> Self {
        Self { name: name.into(), bytes, companions: Vec::new() }
    }

    /// With a file that is read together with it.
    pub(crate) fn with(mut self, companion: Vec<u8>) -> Self {
        self.companions.push(companion);
        self
    }

    /// Companion `index`; empty if there is none.
    pub(crate) fn companion(&self, index: usize) -> Vec<u8> {
        self.companions.get(index).cloned().unwrap_or_default()
    }
}
