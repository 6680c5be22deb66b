//! What all checks work with: the program under test, the runtime, folders.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Suite;
use super::report::{Report, Verdict};
use super::venv::Venv;
use crate::error::{Result, at};
use crate::workspace;

/// Names the folder of large models, images and reference outputs.
const SHARED: &str = "QUANTIZE_SHARED";

/// The program under test, its counterpart and the folders of a conformance run.
#[derive(Debug)]
pub(crate) struct Context {
    quantize: PathBuf,
    venv: Venv,
    shared: Option<PathBuf>,
    work: PathBuf,
}

impl Context {
    /// Builds `quantize`, prepares the environment with a suite's runtime and an empty work folder of this name.
    ///
    /// # Errors
    ///
    /// If the build, the virtual environment or the folder fails.
    pub(crate) fn prepare(name: &str, suite: Suite) -> Result<Self> {
        let target = workspace::metadata()?.target_directory;
        let outputs = target.join("conformance");
        let venv = Venv::prepare(&outputs.join(format!("venv-{}", suite.environment())), suite.requirements())?;
        workspace::output(workspace::cargo().args(["build", "--release", "--locked", "--package", "quantize-cli"]))?;
        let quantize = target.join("release/quantize");
        let work = outputs.join(name);
        if work.exists() {
            fs::remove_dir_all(&work).map_err(at(&work))?;
        }
        fs::create_dir_all(&work).map_err(at(&work))?;
        let shared = std::env::var_os(SHARED).filter(|path| !path.is_empty()).map(PathBuf::from);
        Ok(Self { quantize, venv, shared, work })
    }

    /// The program under test.
    pub(crate) fn quantize(&self) -> Command {
        Command::new(&self.quantize)
    }

    /// A script, by its path in `xtask/conformance`.
    pub(crate) fn script(&self, name: &str) -> Command {
        self.venv.script(name)
    }

    /// The folder in which this run writes; empty at the beginning.
    pub(crate) fn work(&self) -> &Path {
        &self.work
    }

    /// A new folder in the work folder.
    ///
    /// # Errors
    ///
    /// If it cannot be made.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.work.join(name);
        fs::create_dir_all(&folder).map_err(at(&folder))?;
        Ok(folder)
    }

    /// The folder of shared data, if there is one.
    pub(crate) fn shared_folder(&self) -> Option<&Path> {
        self.shared.as_deref()
    }

    /// A folder next to the work folder that outlives the run.
    pub(crate) fn cache(&self, name: &str) -> PathBuf {
        self.work.with_file_name(name)
    }

    /// The folder of shared data. If there is none, records why the check `name` is not run: skipped, or failed in
    /// continuous integration.
    pub(crate) fn shared(&self, name: &str, report: &mut Report) -> Option<&Path> {
        if self.shared.is_none() {
            let why = format!("{SHARED} is not set");
            let in_ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty());
            report.record(name, if in_ci { Verdict::Failed(why) } else { Verdict::Skipped(why) });
        }
        self.shared.as_deref()
    }
}
