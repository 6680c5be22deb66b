//! Checkpoints: the values of variables, by name.
//!
//! | module | what lives there |
//! |---|---|
//! | `bundle` | version 2: an index and files of elements |
//! | `former` | version 1: everything in one table |
//! | `table` | the tables that both are made of |
//! | `slices` | variables in parts |

mod bundle;
mod former;
mod slices;
mod table;
#[cfg(test)]
mod tests;

use crate::dtype::DataType;
use crate::error::TensorflowError;
use crate::names::nearest;
use crate::tensor::TensorProto;
use bundle::Bundle;
use former::Former;
use quantize_document::{DocumentError, Limits, Location, SourceFile, TextDocument};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The file that names the latest checkpoint of a folder, and the field that does.
const STATE_FILE: &str = "checkpoint";
const STATE_LATEST: &str = "model_checkpoint_path";
/// What the names of a checkpoint's files end in.
const INDEX: &str = ".index";
const META: &str = ".meta";
const DATA: &str = ".data-";

/// A checkpoint.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Former(Former),
    Bundle(Bundle),
}

/// A variable without its elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Type of its elements.
    pub dtype: DataType,
    /// Its shape.
    pub shape: Vec<usize>,
}

impl Checkpoint {
    /// Opens a checkpoint of either version by its prefix (`model.ckpt`), by one of its files, by its folder or by the
    /// folder's file `checkpoint`; of several in a folder the latest is taken.
    ///
    /// # Errors
    /// If there is none, or it is damaged or too large.
    pub fn open(path: &Path, limits: &Limits) -> Result<Self, TensorflowError> {
        let state = if path.is_dir() { Some(path.join(STATE_FILE)) } else { None };
        let state = state.or_else(|| path.file_name().is_some_and(|name| name == STATE_FILE).then(|| path.to_owned()));
        let prefix = match state {
            Some(state) => latest(&state, limits)?,
            None => prefix_of(path),
        };
        let index = prefixed(&prefix, INDEX);
        let file = if index.is_file() { index } else { prefix.clone() };
        let source = SourceFile::read(&file, limits).map_err(|error| missing(error, &prefix))?;
        let refused = |cause: String| {
            TensorflowError::invalid(Location::file(&file), cause)
                .with_hint("the file is damaged, or it is no checkpoint; copy all of its files once more")
        };
        let entries = table::entries(&source, limits).map_err(refused)?;
        let content = if file == prefix {
            Content::Former(Former::read(entries).map_err(refused)?)
        } else {
            Content::Bundle(Bundle::read(prefix, entries).map_err(refused)?)
        };
        Ok(Self { path: file, content })
    }

    /// The file with its table.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its version, 1 or 2.
    pub fn version(&self) -> u32 {
        match self.content {
            Content::Former(_) => 1,
            Content::Bundle(_) => 2,
        }
    }

    /// Its variables, by name.
    pub fn variables(&self) -> Vec<Variable> {
        match &self.content {
            Content::Former(former) => former.variables().collect(),
            Content::Bundle(bundle) => bundle.variables().collect(),
        }
    }

    /// Whether it has a variable of this name.
    pub fn has(&self, name: &str) -> bool {
        self.variables().iter().any(|variable| variable.name == name)
    }

    /// The value of a variable.
    ///
    /// # Errors
    /// If there is none of this name, its elements cannot be read, or their checksum does not fit.
    pub fn value(&self, name: &str) -> Result<TensorProto, TensorflowError> {
        let value = match &self.content {
            Content::Former(former) => former.value(name),
            Content::Bundle(bundle) => bundle.value(name),
        };
        let item = Some(format!("variable `{name}`"));
        let location = Location { item, ..Location::file(&self.path) };
        match value {
            Some(value) => value.map_err(|cause| TensorflowError::invalid(location, cause)),
            None => {
                let error = TensorflowError::invalid(location, "the checkpoint does not have it");
                let names: Vec<String> = self.variables().into_iter().map(|variable| variable.name).collect();
                Err(match nearest(name, names.iter().map(String::as_str)) {
                    Some(suggestion) => error.with_hint(suggestion),
                    None => error.with_hint(format!("it has {} variables; is it that of this graph?", names.len())),
                })
            }
        }
    }
}

/// A file whose name is `prefix` and `suffix`.
fn prefixed(prefix: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(prefix);
    name.push(suffix);
    name.into()
}

/// The prefix of the checkpoint that a file belongs to.
fn prefix_of(path: &Path) -> PathBuf {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return path.to_owned() };
    let data = name.find(DATA).and_then(|at| name.get(..at));
    let bare = name.strip_suffix(INDEX).or_else(|| name.strip_suffix(META)).or(data);
    bare.map_or_else(|| path.to_owned(), |bare| path.with_file_name(bare))
}

/// The prefix of the latest checkpoint that a file `checkpoint` names: beside the file if it is not where it says.
fn latest(state: &Path, limits: &Limits) -> Result<PathBuf, TensorflowError> {
    let text = TextDocument::parse(SourceFile::read(state, limits)?, limits)?;
    let named = text.root().scalar(STATE_LATEST).and_then(|path| path.as_str());
    let named = named
        .ok_or_else(|| TensorflowError::invalid(Location::file(state), format!("it does not say `{STATE_LATEST}`")))?;
    let folder = state.parent().unwrap_or(Path::new(""));
    let there = folder.join(named);
    let exists = |prefix: &Path| prefix.is_file() || prefixed(prefix, INDEX).is_file();
    match Path::new(named).file_name() {
        Some(name) if !exists(&there) => Ok(folder.join(name)),
        _ => Ok(there),
    }
}

/// Says of a file that is not there what was looked for.
fn missing(error: DocumentError, prefix: &Path) -> TensorflowError {
    match error {
        DocumentError::Read { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            let index = prefixed(prefix, INDEX);
            let cause = format!("there is no checkpoint: neither this file nor {}", index.display());
            TensorflowError::invalid(Location::file(prefix), cause)
                .with_hint("give the path without `.index` or `.data-00000-of-00001`")
        }
        error => error.into(),
    }
}
