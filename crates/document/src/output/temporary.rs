//! Temporary files beside their target: created under a recognizable name and
//! locked while in use, so that those of a killed process can be told apart.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use tempfile::{NamedTempFile, TempPath};

use crate::error::folder_of;

const SUFFIX: &str = ".quantize-tmp";
const RANDOM_CHARACTERS: usize = 12;
/// Names may have 255 bytes on common file systems; this leaves room for the rest.
const STEM_BYTES: usize = 200;

/// A file that will take the place of `target`, and is removed if dropped before.
pub(super) struct Temporary {
    target: PathBuf,
    file: NamedTempFile,
}

impl Temporary {
    /// Creates an empty file beside `target` with the permissions that the
    /// target has, or would get if it were created now.
    pub(super) fn create(target: &Path) -> io::Result<Self> {
        let file = create_locked(target)?;
        if let Ok(existing) = fs::metadata(target) {
            file.as_file().set_permissions(existing.permissions())?;
        }
        Ok(Self { target: target.into(), file })
    }

    pub(super) fn target(&self) -> &Path {
        &self.target
    }

    pub(super) fn file(&self) -> &File {
        self.file.as_file()
    }

    /// Renames the file to its target, replacing what is there in one step.
    pub(super) fn persist(self) -> io::Result<()> {
        self.file.persist(&self.target)?;
        Ok(())
    }
}

/// An unused name beside `target`, held by an empty file that may be replaced.
pub(super) fn reserve_name(target: &Path) -> io::Result<TempPath> {
    Ok(create(target)?.into_temp_path())
}

fn create_locked(target: &Path) -> io::Result<NamedTempFile> {
    loop {
        let file = create(target)?;
        if file.as_file().lock().is_err() {
            // A file system without locks: nobody can take the file for abandoned.
            return Ok(file);
        }
        // Another process may have removed it as abandoned just before it was locked.
        if file.path().try_exists()? {
            return Ok(file);
        }
    }
}

fn create(target: &Path) -> io::Result<NamedTempFile> {
    let prefix = prefix(target);
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).suffix(SUFFIX).rand_bytes(RANDOM_CHARACTERS);
    // The usual permissions of a new file; the process's mask still applies.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder_of(target)).map_err(innermost)
}

/// The system's own error, without the path of the temporary that was tried.
fn innermost(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::from(error.kind()),
    }
}

fn prefix(target: &Path) -> String {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let stem_end = name.floor_char_boundary(STEM_BYTES);
    let (stem, _) = name.split_at(stem_end);
    format!(".{stem}.")
}

/// Removes temporaries for `target` that no running process holds.
///
/// Failing to do so harms nobody, so nothing is reported.
pub(super) fn remove_stale(target: &Path) {
    let Ok(entries) = fs::read_dir(folder_of(target)) else { return };
    let prefix = prefix(target);
    for entry in entries.flatten() {
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if is_file && is_temporary_name(&entry.file_name(), &prefix) {
            remove_if_abandoned(&entry.path());
        }
    }
}

fn is_temporary_name(name: &OsStr, prefix: &str) -> bool {
    name.to_str()
        .and_then(|name| name.strip_prefix(prefix)?.strip_suffix(SUFFIX))
        .is_some_and(|random| random.len() == RANDOM_CHARACTERS && random.bytes().all(|b| b.is_ascii_alphanumeric()))
}

fn remove_if_abandoned(path: &Path) {
    if let Ok(file) = File::open(path)
        && file.try_lock().is_ok()
    {
        let _ = fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_names_of_the_same_target_are_recognized() {
        let prefix = prefix(Path::new("models/net.onnx"));
        let cases = [
            (".net.onnx.abcDEF012345.quantize-tmp", true),
            (".net.onnx.abcDEF01234.quantize-tmp", false),
            (".net.onnx.data.abcDEF012345.quantize-tmp", false),
            (".net.onnx.abc.EF012345.quantize-tmp", false),
            ("net.onnx.abcDEF012345.quantize-tmp", false),
            (".net.onnx.abcDEF012345.tmp", false),
            (".other.onnx.abcDEF012345.quantize-tmp", false),
            ("net.onnx", false),
        ];
        for (name, expected) in cases {
            assert_eq!(is_temporary_name(OsStr::new(name), &prefix), expected, "{name}");
        }
    }

    #[test]
    fn created_names_are_recognized() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["net.onnx".to_string(), "ü".repeat(127)] {
            let target = folder.path().join(&name);
            let temporary = Temporary::create(&target).unwrap();
            let created = temporary.file.path().file_name().unwrap().to_owned();
            assert!(is_temporary_name(&created, &prefix(&target)), "{created:?}");
        }
    }

    #[test]
    fn abandoned_temporaries_go_and_live_ones_stay() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("net.onnx");
        let live = Temporary::create(&target).unwrap();
        let abandoned = folder.path().join(".net.onnx.abcDEF012345.quantize-tmp");
        fs::write(&abandoned, b"half").unwrap();

        remove_stale(&target);
        assert!(!abandoned.exists());
        assert!(live.file.path().exists());
    }
}
