//! Data sets on disk: which files belong to one, in which order, and reading one of them.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::decode::{DecodedImage, HEAD_BYTES, Limits, begins_like_an_image};
use crate::error::CalibError;
use crate::npy::Array;
use crate::sampling::SamplingError;

const IMAGE_SUFFIXES: [&str; 4] = ["jpg", "jpeg", "png", "bmp"];
/// Stands anywhere in the name of an array file, as the xfDNN quantizer has it.
const ARRAY_MARK: &[u8] = b".npy";

/// What a file of a data set holds, before preprocessing.
#[derive(Debug, Clone, PartialEq)]
pub enum RawSample {
    /// The content of a JPEG, PNG or BMP file.
    Image(DecodedImage),
    /// The content of a `.npy` file.
    Array(Array),
}

impl RawSample {
    /// What messages call it: the path for a sample of an [`ImageFolder`], else the name given.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Image(image) => image.name(),
            Self::Array(array) => array.name(),
        }
    }

    /// The image, for steps that need one.
    ///
    /// # Errors
    /// [`CalibError::NotAnImage`] for an array.
    pub fn image(&self) -> Result<&DecodedImage, CalibError> {
        match self {
            Self::Image(image) => Ok(image),
            Self::Array(array) => Err(CalibError::NotAnImage { name: array.name().to_owned() }),
        }
    }
}

/// The images directly inside a folder, sorted by the bytes of their file names; or a single image file.
#[derive(Debug, Clone)]
pub struct ImageFolder {
    root: PathBuf,
    files: Vec<Member>,
    left_out: Vec<String>,
    limits: Limits,
}

/// A file of the data set.
#[derive(Debug, Clone)]
struct Member {
    path: PathBuf,
    name: String,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Image,
    Array,
}

/// Which kinds of files belong to a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Images,
    ImagesAndArrays,
}

impl ImageFolder {
    /// Lists the regular files (links are followed) that begin like a JPEG, PNG or BMP file, whatever their names, and
    /// those whose names end in `.jpg`, `.jpeg`, `.png` or `.bmp` in any case, so that a damaged image is found when it
    /// is read. Sub-folders are not searched. Nothing is decoded yet.
    ///
    /// # Errors
    /// [`CalibError::Missing`], [`CalibError::NotADataSet`], [`CalibError::NoImages`] or [`CalibError::Io`].
    pub fn open(path: impl AsRef<Path>, limits: Limits) -> Result<Self, CalibError> {
        Self::list(path.as_ref(), Wanted::Images, limits)
    }

    /// Like [`ImageFolder::open`]; files whose names contain `.npy` belong to the data set too, as arrays.
    ///
    /// # Errors
    /// As [`ImageFolder::open`].
    pub fn open_with_arrays(path: impl AsRef<Path>, limits: Limits) -> Result<Self, CalibError> {
        Self::list(path.as_ref(), Wanted::ImagesAndArrays, limits)
    }

    fn list(path: &Path, wanted: Wanted, limits: Limits) -> Result<Self, CalibError> {
        let root = path.to_owned();
        let listing = list(path, wanted)?;
        if listing.members.is_empty() {
            let (files, folders) = (listing.left_out.len(), listing.folders);
            return Err(CalibError::NoImages { path: root, files, folders });
        }
        Ok(Self { root, files: listing.members, left_out: listing.left_out, limits })
    }

    /// The files at these positions, in this order, as a data set of their own; what was left out is kept in mind.
    ///
    /// # Errors
    /// [`CalibError::NoSuchImage`] for a position past the end, [`CalibError::Sampling`] for no position.
    pub fn select(&self, positions: &[usize]) -> Result<Self, CalibError> {
        if positions.is_empty() {
            return Err(SamplingError::Nothing.into());
        }
        let files = positions.iter().map(|index| self.member(*index).cloned()).collect::<Result<_, _>>()?;
        Ok(Self { root: self.root.clone(), files, left_out: self.left_out.clone(), limits: self.limits })
    }

    /// Whether some sample is an array rather than an image.
    #[must_use]
    pub fn has_arrays(&self) -> bool {
        self.files.iter().any(|file| file.kind == Kind::Array)
    }

    /// Number of images, at least 1.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "a data set without images cannot be opened")]
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// File name of image `index` without folder; `None` past the end. Bytes that are not UTF-8 are replaced.
    #[must_use]
    pub fn name(&self, index: usize) -> Option<&str> {
        self.files.get(index).map(|file| file.name.as_str())
    }

    /// File names of all images in order.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.files.iter().map(|file| file.name.as_str())
    }

    /// The path the data set was opened with.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Names of the files in the folder that are not part of the data set because they are no images, sorted.
    pub fn left_out(&self) -> impl ExactSizeIterator<Item = &str> {
        self.left_out.iter().map(String::as_str)
    }

    /// Reads and decodes image `index`. It is named by its path, since several data sets may be in use.
    ///
    /// # Errors
    /// [`CalibError::NoSuchImage`], [`CalibError::Io`], [`CalibError::FileTooLarge`] or what [`DecodedImage::decode`]
    /// or [`Array::parse`] reports.
    pub fn load(&self, index: usize) -> Result<RawSample, CalibError> {
        let Member { path, kind, .. } = self.member(index)?;
        let bytes = read_bounded(path, self.limits.max_file_bytes)?;
        let name = path.display().to_string();
        match kind {
            Kind::Image => DecodedImage::decode(name, &bytes, self.limits).map(RawSample::Image),
            Kind::Array => Array::parse(name, &bytes, self.limits).map(RawSample::Array),
        }
    }

    fn member(&self, index: usize) -> Result<&Member, CalibError> {
        let missing = || CalibError::NoSuchImage { path: self.root.clone(), index, len: self.len() };
        self.files.get(index).ok_or_else(missing)
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

#[derive(Default)]
struct Listing {
    members: Vec<Member>,
    left_out: Vec<String>,
    folders: usize,
}

fn list(root: &Path, wanted: Wanted) -> Result<Listing, CalibError> {
    let path = || root.to_owned();
    match fs::metadata(root) {
        Ok(kind) if kind.is_dir() => {
            list_folder(root, wanted).map_err(|source| CalibError::Io { path: path(), source })
        }
        Ok(kind) if kind.is_file() => {
            let kind = kind_of(root, wanted).ok_or_else(|| CalibError::NotADataSet { path: path() })?;
            Ok(Listing { members: vec![Member { path: path(), name: display_name(root), kind }], ..Listing::default() })
        }
        Ok(_) => Err(CalibError::NotADataSet { path: path() }),
        Err(source) if source.kind() == io::ErrorKind::NotFound => Err(CalibError::Missing { path: path() }),
        Err(source) => Err(CalibError::Io { path: path(), source }),
    }
}

fn list_folder(root: &Path, wanted: Wanted) -> io::Result<Listing> {
    let mut listing = Listing::default();
    let mut paths: Vec<PathBuf> = fs::read_dir(root)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    paths.sort_by(|a, b| name_bytes(a).cmp(name_bytes(b)));
    for path in paths {
        let name = display_name(&path);
        let kind = match fs::metadata(&path) {
            Ok(kind) if kind.is_dir() => {
                listing.folders += 1;
                continue;
            }
            Ok(kind) if kind.is_file() => kind_of(&path, wanted),
            // A link to nowhere or a pipe is no image; reading it is not attempted.
            _ => None,
        };
        match kind {
            Some(kind) => listing.members.push(Member { path, name, kind }),
            None => listing.left_out.push(name),
        }
    }
    Ok(listing)
}

/// What a regular file holds, if it is wanted. A file whose beginning cannot be read and whose name says nothing is not.
fn kind_of(path: &Path, wanted: Wanted) -> Option<Kind> {
    let is_array = name_bytes(path).windows(ARRAY_MARK.len()).any(|part| part == ARRAY_MARK);
    if wanted == Wanted::ImagesAndArrays && is_array {
        return Some(Kind::Array);
    }
    let is_image = is_image_name(path) || head_of(path).is_ok_and(|head| begins_like_an_image(&head));
    is_image.then_some(Kind::Image)
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

/// Whether the name ends like an image file of a format we read.
pub(crate) fn is_image_name(path: &Path) -> bool {
    let suffix = path.extension().unwrap_or_default();
    IMAGE_SUFFIXES.iter().any(|known| suffix.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests;
