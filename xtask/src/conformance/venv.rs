//! The Python virtual environment that holds a format's runtime.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Error, Result, at};
use crate::workspace;

/// A virtual environment in which everything required is installed.
#[derive(Debug)]
pub(crate) struct Venv {
    python: PathBuf,
}

impl Venv {
    /// The environment in `folder`, made anew unless it was completed for the same requirements, one a line.
    ///
    /// # Errors
    ///
    /// If `python3` or its `venv` module is missing, or the packages cannot be installed.
    pub(crate) fn prepare(folder: &Path, requirements: &str) -> Result<Self> {
        let stamp = folder.join("requirements.txt");
        let python = folder.join("bin").join("python");
        let is_complete = fs::read_to_string(&stamp).is_ok_and(|installed| installed == requirements);
        if is_complete && python.is_file() {
            return Ok(Self { python });
        }
        println!("making a virtual environment in {}", folder.display());
        workspace::output(Command::new("python3").args(["-m", "venv", "--clear"]).arg(folder)).map_err(no_venv)?;
        let packages = requirements.lines().filter(|line| !line.is_empty());
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
        workspace::output(Command::new(&python).args(pip).args(packages)).map_err(no_packages)?;
        fs::write(&stamp, requirements).map_err(at(&stamp))?;
        Ok(Self { python })
    }

    /// A command that runs a script in this environment; its path is relative to `xtask/conformance`.
    pub(crate) fn script(&self, name: &str) -> Command {
        let mut command = Command::new(&self.python);
        command.arg(workspace::root().join("xtask/conformance").join(name));
        command
    }
}

fn no_venv(error: Error) -> Error {
    Error::Environment { what: "a Python virtual environment (python3 with its venv module)", cause: error.into() }
}

fn no_packages(error: Error) -> Error {
    Error::Environment { what: "the packages of requirements.txt in xtask/conformance, by pip", cause: error.into() }
}
