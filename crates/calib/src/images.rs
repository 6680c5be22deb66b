//! Images on disk: a folder of them, or one, and reading them. Which files belong to a data set is told in `listing`.

use std::path::{Path, PathBuf};

use crate::array::Array;
use crate::decode::{DecodedImage, Limits};
use crate::error::CalibError;
use crate::listing::{Kind, Listing, Member, Wanted, read_bounded};

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

impl ImageFolder {
    /// Lists the regular files (links are followed) that begin like a JPEG, PNG or BMP file, whatever their names, and
    /// those whose names end in `.jpg`, `.jpeg`, `.png` or `.bmp` in any case, so that a damaged image is found when it
    /// is read. Sub-folders are not searched. Nothing is decoded yet.
    ///
    /// # Errors
    /// [`CalibError::Missing`], [`CalibError::NotADataSet`], [`CalibError::NoSamples`] or [`CalibError::Io`].
    pub fn open(path: impl AsRef<Path>, limits: Limits) -> Result<Self, CalibError> {
        Ok(Self::of(Listing::of(path.as_ref(), Wanted::Images)?, limits))
    }

    /// Like [`ImageFolder::open`]; files whose names contain `.npy` belong to the data set too, as arrays.
    ///
    /// # Errors
    /// As [`ImageFolder::open`].
    pub fn open_with_arrays(path: impl AsRef<Path>, limits: Limits) -> Result<Self, CalibError> {
        Ok(Self::of(Listing::of(path.as_ref(), Wanted::ImagesAndNpy)?, limits))
    }

    /// The members of a listing.
    pub(crate) fn of(listing: Listing, limits: Limits) -> Self {
        Self { root: listing.root, files: listing.members, left_out: listing.left_out, limits }
    }

    /// Whether some sample is an array rather than an image.
    #[must_use]
    pub fn has_arrays(&self) -> bool {
        self.files.iter().any(|file| file.kind != Kind::Image)
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
            Kind::Npy | Kind::Npz | Kind::Message => Array::parse(name, &bytes, self.limits).map(RawSample::Array),
        }
    }

    fn member(&self, index: usize) -> Result<&Member, CalibError> {
        let missing = || CalibError::NoSuchImage { path: self.root.clone(), index, len: self.len() };
        self.files.get(index).ok_or_else(missing)
    }
}

#[cfg(test)]
mod tests;
