//! Folders of files: their listing, copies of them, and whether files are equal.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result, at};

/// Numbers of threads for which the same bytes are required, as the command line takes them.
pub(crate) const THREADS: &[&str] = &["1", "2", "7"];

/// Some of the photos of a folder, sorted by name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Choice {
    /// Position of the first one, from 0.
    pub(crate) first: usize,
    /// Distance from one to the next; at least 1.
    pub(crate) step: usize,
    /// How many.
    pub(crate) count: usize,
}

/// The files of a folder whose names the filter takes, sorted.
///
/// # Errors
///
/// If the folder cannot be read.
pub(crate) fn files(folder: &Path, takes: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).map_err(at(folder))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(at(folder))?.path();
        if path.is_file() && path.file_name().and_then(|name| name.to_str()).is_some_and(&takes) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The file name without its extension.
pub(crate) fn stem(path: &Path) -> String {
    path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
}

impl Choice {
    /// The chosen ones, or `None` if there are too few.
    fn of<T>(self, all: &[T]) -> Option<Vec<&T>> {
        let chosen: Vec<&T> = all.iter().skip(self.first).step_by(self.step.max(1)).take(self.count).collect();
        (chosen.len() == self.count).then_some(chosen)
    }
}

/// Copies the chosen photos of a folder to a new one.
///
/// # Errors
///
/// If a file cannot be read or a copy not written, or if there are too few photos.
pub(crate) fn some_photos(from: &Path, to: &Path, choice: Choice) -> Result<PathBuf> {
    fs::create_dir_all(to).map_err(at(to))?;
    let photos = files(from, |name| name.ends_with(".jpg"))?;
    let too_few = Error::NothingToCheck { what: "enough photos to choose from in a folder of the shared data" };
    for photo in choice.of(&photos).ok_or(too_few)? {
        fs::copy(photo, to.join(photo.file_name().unwrap_or_default())).map_err(at(photo))?;
    }
    Ok(to.to_owned())
}

/// Copies a folder's files in an order that is neither theirs nor its reverse: by a hash of the name.
///
/// # Errors
///
/// If a file cannot be read or a copy not written.
pub(crate) fn shuffled_copy(from: &Path, to: &Path) -> Result<PathBuf> {
    let mut originals = files(from, |_| true)?;
    originals.sort_by_key(|file| fnv1a(file.file_name().unwrap_or_default().as_encoded_bytes()));
    for file in &originals {
        let copy = to.join(file.file_name().unwrap_or_default());
        fs::copy(file, &copy).map_err(at(file))?;
    }
    Ok(to.to_owned())
}

/// The 64-bit FNV-1a hash.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

/// Which files are not equal to the first.
///
/// # Errors
///
/// If a file cannot be read.
pub(crate) fn differing(outputs: &[PathBuf]) -> Result<Vec<String>> {
    let mut unmet = Vec::new();
    let mut first: Option<Vec<u8>> = None;
    for output in outputs {
        let bytes = fs::read(output).map_err(at(output))?;
        match &first {
            Some(first) if *first != bytes => unmet.push(format!("{} differs", output.display())),
            Some(_) => {}
            None => first = Some(bytes),
        }
    }
    Ok(unmet)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_complete_or_none() {
        let all = [0, 1, 2, 3, 4, 5, 6, 7];
        let choice = |count| Choice { first: 1, step: 3, count };
        assert_eq!(choice(3).of(&all), Some(vec![&1, &4, &7]));
        assert_eq!(choice(4).of(&all), None);
    }

    #[test]
    fn the_hash_is_the_published_one() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
    }
}
