//! `cargo xtask tidy`: rules of the source tree that the compiler does not check.
//!
//! Each group of rules is a module that returns its problems; all of them are printed at once.

mod docs;
mod edges;
mod rust;
mod text;

use std::fmt;
use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::workspace;

/// A broken rule.
#[derive(Debug, PartialEq, Eq)]
struct Problem {
    /// The file, relative to the root of the workspace.
    file: PathBuf,
    /// The line, counted from 1, if the rule is about one.
    line: Option<usize>,
    /// What is wrong and what to do.
    message: String,
}

impl Problem {
    /// A problem of a whole file.
    fn file(file: impl Into<PathBuf>, message: impl Into<String>) -> Self {
        Self { file: file.into(), line: None, message: message.into() }
    }

    /// A problem of one line; `index` counts from 0.
    fn line(file: impl Into<PathBuf>, index: usize, message: impl Into<String>) -> Self {
        Self { file: file.into(), line: Some(index + 1), message: message.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.file.display(), self.message),
            None => write!(f, "{}: {}", self.file.display(), self.message),
        }
    }
}

/// Checks the tree and prints every problem.
///
/// # Errors
///
/// If there are problems, or the tree cannot be read.
pub(crate) fn run() -> Result<()> {
    let problems = problems()?;
    for problem in &problems {
        eprintln!("{problem}");
    }
    if !problems.is_empty() {
        return Err(Error::Untidy(problems.len()));
    }
    println!("tidy: no problems");
    Ok(())
}

/// All problems of the tree, group by group.
fn problems() -> Result<Vec<Problem>> {
    let metadata = workspace::metadata()?;
    let files = workspace::tracked_files()?;
    let mut problems = edges::problems(&metadata);
    problems.extend(docs::problems(&metadata)?);
    problems.extend(rust::problems(&files)?);
    problems.extend(text::problems(&files)?);
    Ok(problems)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_tidy() {
        if !workspace::root().join(".git").exists() {
            eprintln!("skipped: not a git checkout, so the files of the tree are not known");
            return;
        }
        let problems = problems().expect("the tree is readable");
        let listing: String = problems.iter().map(|problem| format!("\n{problem}")).collect();
        assert!(problems.is_empty(), "{} problems:{listing}", problems.len());
    }
}
