//! Names for files that another output will refer to by name: never one of a file with other contents, which an older
//! output may still need.

use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

/// Where a file can stand without taking anything away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Nothing is there.
    Free(PathBuf),
    /// A file with these very contents is there.
    Written(PathBuf),
}

impl Place {
    /// The place for a file of `length` bytes that `write` writes: at `path`, or with a number in front of the extension
    /// where that is taken by something else. `write` may be called several times.
    pub fn find(path: &Path, length: u64, write: &dyn Fn(&mut dyn Write) -> io::Result<()>) -> Self {
        let mut number = 0u64;
        loop {
            let candidate = numbered(path, number);
            match fs::symlink_metadata(&candidate) {
                Err(_) => return Self::Free(candidate),
                Ok(found) if is_plain(&found, length) && holds(&candidate, write) => return Self::Written(candidate),
                Ok(_) => number += 1,
            }
        }
    }

    /// The path.
    pub fn path(&self) -> &Path {
        match self {
            Self::Free(path) | Self::Written(path) => path,
        }
    }
}

/// `net.onnx.data`, `net.onnx.1.data`, `net.onnx.2.data`, …
fn numbered(path: &Path, number: u64) -> PathBuf {
    let Some(stem) = path.file_stem().filter(|_| number > 0) else { return path.to_owned() };
    let mut name = OsString::from(stem);
    name.push(format!(".{number}"));
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

/// Whether it is a regular file of this size that has no other name.
fn is_plain(found: &Metadata, length: u64) -> bool {
    #[cfg(unix)]
    let alone = std::os::unix::fs::MetadataExt::nlink(found) == 1;
    #[cfg(not(unix))]
    let alone = true;
    found.is_file() && found.len() == length && alone
}

fn holds(path: &Path, write: &dyn Fn(&mut dyn Write) -> io::Result<()>) -> bool {
    let Ok(file) = File::open(path) else { return false };
    write(&mut Comparison(BufReader::new(file))).is_ok()
}

/// Takes only what its file holds.
struct Comparison(BufReader<File>);

impl Write for Comparison {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut held = [0; 1 << 13];
        let length = bytes.len().min(held.len());
        let (bytes, held) = (bytes.get(..length).unwrap_or_default(), held.get_mut(..length).unwrap_or_default());
        self.0.read_exact(held)?;
        if held == bytes { Ok(length) } else { Err(io::ErrorKind::InvalidData.into()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_other_contents_keeps_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let find = |content: &'static [u8]| {
            Place::find(&path("net.onnx.data"), content.len() as u64, &|out| out.write_all(content))
        };
        assert_eq!(find(b"new"), Place::Free(path("net.onnx.data")));
        fs::write(path("net.onnx.data"), b"old").unwrap();
        assert_eq!(find(b"new"), Place::Free(path("net.onnx.1.data")));
        assert_eq!(find(b"old"), Place::Written(path("net.onnx.data")));
        fs::create_dir(path("net.onnx.1.data")).unwrap();
        assert_eq!(find(b"new"), Place::Free(path("net.onnx.2.data")));
        fs::write(path("net.onnx.2.data"), vec![7; 20_000]).unwrap();
        assert_eq!(find(&[7; 20_000]), Place::Written(path("net.onnx.2.data")));
        assert_eq!(find(&[7; 20_001]).path(), path("net.onnx.3.data"));
    }
}
