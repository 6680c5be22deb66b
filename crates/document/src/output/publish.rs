//! Puts finished temporaries in the place of their targets. This is the only
//! moment at which existing files change, and it is undone if it fails half-way.
//!
//! Old files that step aside for a set get a temporary name. If the process is
//! killed before the set is complete they are left under it, and count as
//! leftovers when the same outputs are written again.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempPath;

use super::temporary::{self, Temporary};
use crate::error::{DocumentError, folder_of};

/// Renames each temporary to its target; the last one makes the set complete.
pub(super) fn publish(staged: Vec<Temporary>) -> Result<(), DocumentError> {
    // Replacing one file is a single step of the file system. Several are not,
    // so the old ones step aside first, the one that names the others leading.
    let mut undo = Undo::default();
    let replaced = |temporary: &Temporary| fs::symlink_metadata(temporary.target()).is_ok();
    let outcome = match staged.split_last() {
        Some((_, others)) if others.iter().any(replaced) => set_aside(&staged, &mut undo),
        _ => Ok(()),
    };
    let outcome = outcome.and_then(|()| replace(staged, &mut undo));
    match outcome {
        Ok(()) => Ok(()),
        Err(error) => undo.run().and(Err(error)),
    }
}

fn set_aside(staged: &[Temporary], undo: &mut Undo) -> Result<(), DocumentError> {
    for target in staged.iter().rev().map(Temporary::target) {
        if fs::symlink_metadata(target).is_ok() {
            undo.set_aside(target).map_err(failed(target, "moving the existing file away"))?;
        }
        sync_folder(target);
    }
    Ok(())
}

fn replace(staged: Vec<Temporary>, undo: &mut Undo) -> Result<(), DocumentError> {
    for temporary in staged {
        let target = temporary.target().to_path_buf();
        temporary.persist().map_err(failed(&target, "renaming the temporary file"))?;
        sync_folder(&target);
        undo.created.push(target);
    }
    Ok(())
}

fn failed<'p>(path: &'p Path, step: &'static str) -> impl FnOnce(io::Error) -> DocumentError + 'p {
    move |source| DocumentError::Write { path: path.into(), step, source }
}

/// Makes renames in the folder of `target` durable and keeps their order.
///
/// Not every file system can sync a folder; the rename itself has succeeded,
/// so that is no failure of the output.
fn sync_folder(target: &Path) {
    if let Ok(folder) = File::open(folder_of(target)) {
        let _ = folder.sync_all();
    }
}

/// What has been done so far. Old files that were set aside are deleted when
/// this is dropped, which is why a failure must [`run`](Self::run) it first.
#[derive(Default)]
struct Undo {
    aside: Vec<(PathBuf, TempPath)>,
    created: Vec<PathBuf>,
}

impl Undo {
    fn set_aside(&mut self, target: &Path) -> io::Result<()> {
        let backup = temporary::reserve_name(target)?;
        fs::rename(target, &backup)?;
        self.aside.push((target.into(), backup));
        Ok(())
    }

    /// Removes what was created and puts back what was set aside, the file that
    /// names the others last.
    fn run(self) -> Result<(), DocumentError> {
        for path in &self.created {
            let _ = fs::remove_file(path);
        }
        let mut outcome = Ok(());
        for (path, backup) in self.aside.into_iter().rev() {
            outcome = outcome.and(put_back(path, backup));
        }
        outcome
    }
}

fn put_back(path: PathBuf, backup: TempPath) -> Result<(), DocumentError> {
    let Err(error) = backup.persist(&path) else { return Ok(()) };
    let source = error.error;
    // The only copy of the user's file: it must outlive us.
    match error.path.keep() {
        Ok(backup) => Err(DocumentError::Restore { path, backup, source }),
        Err(kept) => Err(DocumentError::Restore { path, backup: kept.path.to_path_buf(), source }),
    }
}
