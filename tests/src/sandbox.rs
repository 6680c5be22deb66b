//! A folder of its own for each test, with the images in it, in which the command runs. All paths on its command line
//! and in its messages are relative to the folder.

use crate::{binary, fixtures};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

/// Options that feed the images to a `tiny_*` model as it was trained.
pub const DATA: &str = "--calib images --mean 127.5 --scale 0.00784313725490196";

/// A folder that holds `images/` and vanishes with the value.
#[derive(Debug)]
pub struct Sandbox {
    folder: TempDir,
}

/// How a command ended and what it said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Sandbox {
    /// A new folder with the images of the fixtures.
    ///
    /// # Panics
    /// If it cannot be made.
    #[must_use]
    pub fn new() -> Self {
        let sandbox = Self { folder: tempfile::tempdir().expect("a temporary folder") };
        sandbox.copy_images("images", |_| true);
        sandbox
    }

    /// A new folder that also holds these models of the fixtures.
    #[must_use]
    pub fn with_models(names: &[&str]) -> Self {
        let sandbox = Self::new();
        for name in names {
            sandbox.write(&format!("{name}.onnx"), fixtures::model_bytes(name));
        }
        sandbox
    }

    /// The place of a file in the folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file, with the folders it is in.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("the folder of the file");
        fs::write(path, bytes).expect("the file");
    }

    /// Reads a file.
    ///
    /// # Panics
    /// If it cannot be read.
    #[must_use]
    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Names of the files in the folder itself, in alphabetical order.
    ///
    /// # Panics
    /// If the folder cannot be listed.
    #[must_use]
    pub fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).expect("the folder");
        let files = entries.map(|entry| entry.expect("an entry")).filter(|entry| entry.path().is_file());
        let mut names: Vec<String> = files.map(|file| file.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// Copies the images whose name is `wanted` to a folder, the last one first.
    ///
    /// # Panics
    /// If an image cannot be copied.
    pub fn copy_images(&self, folder: &str, wanted: impl Fn(&str) -> bool) {
        let entries = fs::read_dir(fixtures::images()).expect("the images");
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an image").path()).collect();
        paths.sort();
        for path in paths.iter().rev() {
            let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
            if wanted(name) {
                self.write(&format!("{folder}/{name}"), fs::read(path).expect("an image"));
            }
        }
    }

    /// The command in this folder with these arguments, separated by single spaces.
    #[must_use]
    pub fn command(&self, line: &str) -> Command {
        let mut command = Command::new(binary::quantize());
        command.args(line.split(' ').filter(|word| !word.is_empty())).current_dir(self.folder.path());
        command
    }

    /// Runs the command with exactly these arguments.
    ///
    /// # Panics
    /// If it does not start or does not write UTF-8.
    #[must_use]
    pub fn quantize_words(&self, words: &[&str]) -> Outcome {
        self.command("").args(words).output().expect("the command starts").into()
    }

    /// Runs the command with these arguments, separated by single spaces.
    ///
    /// # Panics
    /// If it does not start or does not write UTF-8.
    #[must_use]
    pub fn quantize(&self, line: &str) -> Outcome {
        self.command(line).output().expect("the command starts").into()
    }

    /// Fills a folder with files from elsewhere, under their own names.
    ///
    /// # Panics
    /// If one cannot be copied.
    pub fn copy_files(&self, folder: &str, files: &[PathBuf]) {
        for path in files {
            let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
            self.write(&format!("{folder}/{name}"), fs::read(path).expect("a file"));
        }
    }

    /// Whether files can be made in the folder `name`, whatever its permissions say.
    #[must_use]
    pub fn can_write_to(&self, name: &str) -> bool {
        let probe: PathBuf = Path::new(&self.path(name)).join("probe");
        fs::write(&probe, b"").and_then(|()| fs::remove_file(probe)).is_ok()
    }
}

impl Default for Sandbox {
    fn default() -> Self {
        Self::new()
    }
}

impl From<Output> for Outcome {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("text in UTF-8");
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

impl Outcome {
    /// Insists on failure with this exit code, nothing on standard output, and these parts of the message.
    ///
    /// # Panics
    /// If it ended otherwise.
    pub fn failed(&self, code: i32, parts: &[&str]) {
        assert_eq!((self.code, self.stdout.as_str()), (Some(code), ""), "{}", self.stderr);
        for part in parts {
            assert!(self.stderr.contains(part), "no `{part}` in: {}", self.stderr);
        }
    }

    /// Insists on success without a word on standard error but notes.
    ///
    /// # Panics
    /// If the command failed.
    #[must_use]
    pub fn succeeded(self) -> Self {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self
    }
}
