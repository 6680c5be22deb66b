//! Which files belong to a data set, in which order, and what each of them holds. Nothing is decoded here.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::decode::{HEAD_BYTES, begins_like_an_image};
use crate::error::CalibError;

const IMAGE_SUFFIXES: [&str; 4] = ["jpg", "jpeg", "png", "bmp"];
/// Suffixes of files of arrays, with what these hold.
const ARRAY_SUFFIXES: [(&str, Kind); 3] = [("npy", Kind::Npy), ("npz", Kind::Npz), ("pb", Kind::Message)];
/// Stands anywhere in the name of an array file, as the xfDNN quantizer has it.
const ARRAY_MARK: &[u8] = b".npy";

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A JPEG, PNG or BMP image.
    Image,
    /// One array, as `numpy.save` writes it.
    Npy,
    /// Arrays by name, as `numpy.savez` writes them.
    Npz,
    /// A serialized tensor of a model format.
    Message,
}

/// Which kinds of files belong to a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Images.
    Images,
    /// Images, and arrays whose names contain `.npy`.
    ImagesAndNpy,
    /// Images and every kind of array.
    All,
}

/// The regular files directly inside a folder that belong to a data set, sorted by the bytes of their names; or one
/// such file.
#[derive(Debug)]
pub(crate) struct Listing {
    /// The path as given.
    pub(crate) root: PathBuf,
    /// At least one.
    pub(crate) members: Vec<Member>,
    /// Names of the files that do not belong to it, sorted.
    pub(crate) left_out: Vec<String>,
}

/// A file of a data set.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) path: PathBuf,
    /// Its name without folder; bytes that are not UTF-8 are replaced.
    pub(crate) name: String,
    pub(crate) kind: Kind,
}

impl Listing {
    /// Lists the files of the wanted kinds; links are followed, sub-folders are not searched.
    ///
    /// # Errors
    /// [`CalibError::Missing`], [`CalibError::NotADataSet`], [`CalibError::NoSamples`] or [`CalibError::Io`].
    pub(crate) fn of(root: &Path, wanted: Wanted) -> Result<Self, CalibError> {
        let path = || root.to_owned();
        let no_data_set = || CalibError::NotADataSet { path: path(), wanted: wanted.files() };
        match fs::metadata(root) {
            Ok(kind) if kind.is_dir() => {
                let listed = Self::folder(root, wanted).map_err(|source| CalibError::Io { path: path(), source });
                listed.and_then(|(listing, folders)| listing.with_members(wanted, folders))
            }
            Ok(kind) if kind.is_file() => {
                let kind = wanted.kind_of(root).ok_or_else(no_data_set)?;
                let member = Member { path: path(), name: display_name(root), kind };
                Ok(Self { root: path(), members: vec![member], left_out: Vec::new() })
            }
            Ok(_) => Err(no_data_set()),
            Err(source) if source.kind() == io::ErrorKind::NotFound => {
                Err(CalibError::Missing { path: path(), wanted: wanted.files() })
            }
            Err(source) => Err(CalibError::Io { path: path(), source }),
        }
    }

    /// What is in a folder, and how many folders.
    fn folder(root: &Path, wanted: Wanted) -> io::Result<(Self, usize)> {
        let mut listing = Self { root: root.to_owned(), members: Vec::new(), left_out: Vec::new() };
        let mut folders = 0;
        let mut paths: Vec<PathBuf> = fs::read_dir(root)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
        paths.sort_by(|a, b| name_bytes(a).cmp(name_bytes(b)));
        for path in paths {
            let name = display_name(&path);
            let kind = match fs::metadata(&path) {
                Ok(kind) if kind.is_dir() => {
                    folders += 1;
                    continue;
                }
                Ok(kind) if kind.is_file() => wanted.kind_of(&path),
                // A link to nowhere or a pipe is no sample; reading it is not attempted.
                _ => None,
            };
            match kind {
                Some(kind) => listing.members.push(Member { path, name, kind }),
                None => listing.left_out.push(name),
            }
        }
        Ok((listing, folders))
    }

    fn with_members(self, wanted: Wanted, folders: usize) -> Result<Self, CalibError> {
        if self.members.is_empty() {
            let files = self.left_out.len();
            return Err(CalibError::NoSamples { path: self.root, wanted: wanted.files(), files, folders });
        }
        Ok(self)
    }
}

impl Wanted {
    /// Kinds of files in words, for messages.
    fn files(self) -> &'static str {
        match self {
            Self::Images => "JPEG, PNG or BMP",
            Self::ImagesAndNpy => "JPEG, PNG, BMP or .npy",
            Self::All => "JPEG, PNG, BMP, .npy, .npz or .pb",
        }
    }

    /// What a regular file holds, if it is wanted. A file whose beginning cannot be read and whose name says nothing is
    /// not. What begins like an image is one, whatever its name.
    fn kind_of(self, path: &Path) -> Option<Kind> {
        let is_image = || head_of(path).is_ok_and(|head| begins_like_an_image(&head));
        match self {
            Self::ImagesAndNpy if name_bytes(path).windows(ARRAY_MARK.len()).any(|part| part == ARRAY_MARK) => {
                Some(Kind::Npy)
            }
            _ if is_image_name(path) || is_image() => Some(Kind::Image),
            Self::Images | Self::ImagesAndNpy => None,
            Self::All => {
                let suffix = path.extension().unwrap_or_default();
                let known = ARRAY_SUFFIXES.iter().find(|(known, _)| suffix.eq_ignore_ascii_case(known));
                known.map(|(_, kind)| *kind)
            }
        }
    }
}

/// Reads a whole file of at most `limit` bytes.
pub(crate) fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, CalibError> {
    let failed = |source| CalibError::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    let mut bytes = Vec::new();
    if length <= limit {
        file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
    }
    let length = length.max(bytes.len() as u64);
    if length > limit {
        return Err(CalibError::FileTooLarge { path: path.to_owned(), bytes: length, limit });
    }
    Ok(bytes)
}

/// Whether the name ends like an image file of a format we read.
pub(crate) fn is_image_name(path: &Path) -> bool {
    let suffix = path.extension().unwrap_or_default();
    IMAGE_SUFFIXES.iter().any(|known| suffix.eq_ignore_ascii_case(known))
}

fn head_of(path: &Path) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(HEAD_BYTES);
    File::open(path)?.take(HEAD_BYTES as u64).read_to_end(&mut head)?;
    Ok(head)
}

fn name_bytes(path: &Path) -> &[u8] {
    path.file_name().map_or(&[], OsStr::as_encoded_bytes)
}

fn display_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
