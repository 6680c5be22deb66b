//! Data sets of any kind: a path holds images or arrays, and what it holds decides.

use std::path::Path;

use crate::arrays::{ArrayFiles, ReadMessage};
use crate::decode::Limits;
use crate::error::CalibError;
use crate::images::ImageFolder;
use crate::listing::{Kind, Listing, Wanted};

/// The files of a folder that belong to a data set, or one such file.
#[derive(Debug)]
pub enum DataSet {
    /// JPEG, PNG or BMP files.
    Images(ImageFolder),
    /// `.npy`, `.npz` or `.pb` files.
    Arrays(ArrayFiles),
}

impl DataSet {
    /// Lists images as [`ImageFolder::open`] does, and files whose names end in `.npy`, `.npz` or `.pb` in any case.
    /// Of images nothing is decoded yet, of arrays type and shape; `read_message` reads a `.pb` file.
    ///
    /// # Errors
    /// [`CalibError::Missing`], [`CalibError::NotADataSet`], [`CalibError::NoSamples`], [`CalibError::MixedKinds`],
    /// [`CalibError::Io`], or [`CalibError::ArrayFile`] for a file of arrays that cannot be read.
    pub fn open(path: impl AsRef<Path>, limits: Limits, read_message: ReadMessage) -> Result<Self, CalibError> {
        let listing = Listing::of(path.as_ref(), Wanted::All)?;
        let images = listing.members.iter().filter(|member| member.kind == Kind::Image).count();
        match listing.members.len() - images {
            0 => Ok(Self::Images(ImageFolder::of(listing, limits))),
            _ if images == 0 => Ok(Self::Arrays(ArrayFiles::of(listing, limits, read_message)?)),
            arrays => Err(CalibError::MixedKinds { path: listing.root, images, arrays }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &Path) -> Result<DataSet, CalibError> {
        DataSet::open(path, Limits::default(), |_| Err("no tensor".to_owned()))
    }

    #[test]
    fn what_a_folder_holds_decides() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        assert!(matches!(open(folder.path()), Err(CalibError::NoSamples { files: 0, folders: 0, .. })));
        std::fs::write(at("a.png"), "").unwrap();
        std::fs::write(at("notes.txt"), "").unwrap();
        assert!(matches!(open(folder.path()), Ok(DataSet::Images(images)) if images.len() == 1));
        std::fs::write(at("a.pb"), "").unwrap();
        let error = open(folder.path()).unwrap_err();
        assert!(error.to_string().ends_with("holds 1 image and 1 array file") && error.hint().is_some(), "{error}");
        let error = open(&at("a.pb")).unwrap_err();
        assert!(error.to_string().ends_with("a.pb: no tensor") && error.hint().is_some(), "{error}");
        let error = open(&at("notes.txt")).unwrap_err().to_string();
        assert!(error.ends_with("neither a folder nor a JPEG, PNG, BMP, .npy, .npz or .pb file"), "{error}");
    }
}
