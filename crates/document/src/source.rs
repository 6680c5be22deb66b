//! Reading a whole file into memory: regular files only, no larger than the
//! limit, and never changed by anyone while we hold it.

use std::fs::{self, File, FileType, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use crate::error::DocumentError;
use crate::limits::Limits;
use crate::wire::{MessageIndex, WireError, index_message};

/// The bytes of an input file and the path they came from.
///
/// Clones share the bytes. The file may be overwritten once it is read.
#[derive(Debug, Clone)]
pub struct SourceFile {
    path: Arc<Path>,
    bytes: Arc<Vec<u8>>,
}

impl SourceFile {
    /// Reads the file at `path`, following symbolic links.
    ///
    /// # Errors
    /// Anything but a regular file is refused, since pipes and devices may
    /// block or never end; so are files larger than
    /// [`Limits::max_file_bytes`], before memory is taken for them.
    pub fn read(path: impl AsRef<Path>, limits: &Limits) -> Result<Self, DocumentError> {
        let path = path.as_ref();
        // Opening a pipe would block, so the path is looked at before it is opened.
        check_regular(path, &fs::metadata(path).map_err(|error| read_error(path, error))?)?;
        let file = File::open(path).map_err(|error| read_error(path, error))?;
        let metadata = file.metadata().map_err(|error| read_error(path, error))?;
        check_regular(path, &metadata)?;
        let bytes = read_bytes(path, file, metadata.len(), limits)?;
        Ok(Self::from_bytes(path, bytes))
    }

    /// Wraps bytes that are already in memory; `path` is for messages only.
    pub fn from_bytes(path: impl AsRef<Path>, bytes: Vec<u8>) -> Self {
        Self { path: path.as_ref().into(), bytes: Arc::new(bytes) }
    }

    /// The path as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The contents.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Indexes the contents as one protocol buffers message.
    ///
    /// # Errors
    /// The contents are no valid message, or exceed a limit.
    pub fn index(&self, limits: &Limits) -> Result<MessageIndex, DocumentError> {
        index_message(&self.bytes, 0..self.bytes.len(), limits).map_err(|error| self.locate(error))
    }

    /// Adds the path of this file to an error about its contents.
    pub fn locate(&self, source: WireError) -> DocumentError {
        DocumentError::Wire { path: self.path.to_path_buf(), source }
    }
}

/// Reads `length` bytes of the file at `path` from byte `offset` on, following symbolic links.
///
/// # Errors
/// As for [`SourceFile::read`]; or the file does not have these bytes. Memory is taken after that is known.
pub fn read_range(path: &Path, offset: u64, length: u64) -> Result<Vec<u8>, DocumentError> {
    check_regular(path, &fs::metadata(path).map_err(|error| read_error(path, error))?)?;
    let mut file = File::open(path).map_err(|error| read_error(path, error))?;
    let metadata = file.metadata().map_err(|error| read_error(path, error))?;
    check_regular(path, &metadata)?;
    let size = metadata.len();
    let end = u128::from(offset) + u128::from(length);
    if end > u128::from(size) {
        return Err(DocumentError::Outside { path: path.into(), size, offset, end });
    }
    let mut bytes = reserve(length).ok_or_else(|| DocumentError::OutOfMemory { path: path.into(), bytes: length })?;
    file.seek(SeekFrom::Start(offset)).map_err(|error| read_error(path, error))?;
    file.take(length).read_to_end(&mut bytes).map_err(|error| read_error(path, error))?;
    if bytes.len() as u64 != length {
        return Err(DocumentError::ChangedWhileRead { path: path.into() });
    }
    Ok(bytes)
}

/// The contents.
impl AsRef<[u8]> for SourceFile {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

fn check_regular(path: &Path, metadata: &Metadata) -> Result<(), DocumentError> {
    if metadata.is_file() {
        return Ok(());
    }
    Err(DocumentError::NotAFile { path: path.into(), found: describe(metadata.file_type()) })
}

fn read_bytes(path: &Path, file: File, length: u64, limits: &Limits) -> Result<Vec<u8>, DocumentError> {
    limits.check_file_bytes(length).map_err(|exceeded| DocumentError::FileTooLarge { path: path.into(), exceeded })?;
    let mut bytes = reserve(length).ok_or_else(|| DocumentError::OutOfMemory { path: path.into(), bytes: length })?;
    // One byte more than expected is enough to notice that the file grew.
    file.take(length + 1).read_to_end(&mut bytes).map_err(|error| read_error(path, error))?;
    if bytes.len() as u64 != length {
        return Err(DocumentError::ChangedWhileRead { path: path.into() });
    }
    Ok(bytes)
}

fn reserve(length: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    // Room for the byte that would show growth, so that reading never reallocates.
    bytes.try_reserve_exact(usize::try_from(length).ok()?.checked_add(1)?).ok()?;
    Some(bytes)
}

fn read_error(path: &Path, source: io::Error) -> DocumentError {
    DocumentError::Read { path: path.into(), source }
}

/// Names a kind of directory entry, with its article.
pub(crate) fn describe(kind: FileType) -> &'static str {
    if kind.is_dir() {
        return "a folder";
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if kind.is_fifo() {
            return "a pipe";
        }
        if kind.is_socket() {
            return "a socket";
        }
        if kind.is_block_device() || kind.is_char_device() {
            return "a device";
        }
    }
    "something else"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn refusal(path: &Path) -> DocumentError {
        SourceFile::read(path, &Limits::default()).expect_err("refused")
    }

    #[test]
    fn reads_files_and_links_to_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.onnx");
        fs::write(&path, b"\x08\x08").unwrap();
        let source = SourceFile::read(&path, &Limits::default()).unwrap();
        assert_eq!(source.bytes(), b"\x08\x08");
        assert_eq!(source.path(), path);
        assert_eq!(source.index(&Limits::default()).unwrap().fields().len(), 1);

        fs::write(&path, b"").unwrap();
        assert_eq!(SourceFile::read(&path, &Limits::default()).unwrap().bytes(), b"");
    }

    #[cfg(unix)]
    #[test]
    fn follows_links_but_refuses_what_is_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("target");
        let link = folder.path().join("link");
        fs::write(&target, b"x").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert_eq!(SourceFile::read(&link, &Limits::default()).unwrap().bytes(), b"x");

        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let socket = folder.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let pipe_link = folder.path().join("pipe link");
        std::os::unix::fs::symlink(&pipe, &pipe_link).unwrap();

        let cases = [
            (folder.path(), "a folder"),
            (&pipe, "a pipe"),
            (&pipe_link, "a pipe"),
            (&socket, "a socket"),
            (Path::new("/dev/zero"), "a device"),
        ];
        for (path, expected) in cases {
            let error = refusal(path);
            assert_eq!(error.kind(), ErrorKind::Caller, "{expected}");
            assert_eq!(error.path(), Some(path), "{expected}");
            assert!(error.to_string().contains(expected), "{error}");
            assert!(error.hint().is_some(), "{expected}");
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = refusal(Path::new("/no/such/model.onnx"));
        assert_eq!(error.kind(), ErrorKind::Environment);
        assert!(error.to_string().starts_with("cannot read /no/such/model.onnx: "), "{error}");
        assert_eq!(error.hint().as_deref(), Some("check the spelling of the path"));
    }

    #[test]
    fn a_file_above_the_limit_is_refused_before_it_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sparse");
        // Sparse: reading it would need more memory than any test machine has.
        File::create(&path).unwrap().set_len(1 << 43).unwrap();
        let error = refusal(&path);
        assert_eq!(error.kind(), ErrorKind::Limits);
        assert!(error.to_string().contains("8796093022208 bytes"), "{error}");
    }

    #[test]
    fn a_part_of_a_file_is_read_if_it_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        fs::write(&path, b"abcdef").unwrap();
        assert_eq!(read_range(&path, 2, 3).unwrap(), b"cde");
        assert_eq!(read_range(&path, 6, 0).unwrap(), b"");
        for (offset, length) in [(4, 3), (7, 0), (u64::MAX, u64::MAX)] {
            let error = read_range(&path, offset, length).expect_err("outside");
            assert_eq!(error.kind(), ErrorKind::Input);
            assert!(error.to_string().contains("has 6 bytes, none from"), "{error}");
        }
        assert!(read_range(folder.path(), 0, 0).is_err());
    }

    #[test]
    fn an_error_about_the_contents_names_path_and_offset() {
        let source = SourceFile::from_bytes("cut.onnx", b"\x08\x08\x12\x05ab".to_vec());
        let error = source.index(&Limits::default()).expect_err("cut off");
        assert_eq!(error.to_string(), "cut.onnx: at byte 4, reading the contents of field 2: bytes needed: 5, left: 2");
        assert_eq!(error.offset(), Some(4));
        assert_eq!(error.kind(), ErrorKind::Input);
    }
}
