//! Data sets on disk: which images belong to one, in which order, and reading one of them.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::decode::{DecodedImage, Limits};
use crate::error::CalibError;

const IMAGE_SUFFIXES: [&str; 4] = ["jpg", "jpeg", "png", "bmp"];

/// The images directly inside a folder, sorted by the bytes of their file names; or a single image file.
#[derive(Debug, Clone)]
pub struct ImageFolder {
    root: PathBuf,
    files: Vec<PathBuf>,
    names: Vec<String>,
    other_files: usize,
    limits: Limits,
}

impl ImageFolder {
    /// Lists the regular files (links are followed) that end in `.jpg`, `.jpeg`, `.png` or `.bmp` in any case.
    /// Sub-folders are not searched. Nothing is decoded yet.
    ///
    /// # Errors
    /// [`CalibError::Missing`], [`CalibError::NotADataSet`], [`CalibError::NoImages`] or [`CalibError::Io`].
    pub fn open(path: impl AsRef<Path>, limits: Limits) -> Result<Self, CalibError> {
        let root = path.as_ref().to_owned();
        let listing = list(&root)?;
        if listing.images.is_empty() {
            return Err(CalibError::NoImages { path: root, files: listing.files, folders: listing.folders });
        }
        let names = listing.images.iter().map(|file| display_name(file)).collect();
        Ok(Self { root, files: listing.images, names, other_files: listing.files, limits })
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
        self.names.get(index).map(String::as_str)
    }

    /// File names of all images in order.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// The path the data set was opened with.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Number of files in the folder that are not part of the data set.
    #[must_use]
    pub fn other_files(&self) -> usize {
        self.other_files
    }

    /// Reads and decodes image `index`. The decoded image is named by its path, since several data sets may be in use.
    ///
    /// # Errors
    /// [`CalibError::NoSuchImage`], [`CalibError::Io`], [`CalibError::FileTooLarge`] or what [`DecodedImage::decode`]
    /// reports.
    pub fn load(&self, index: usize) -> Result<DecodedImage, CalibError> {
        let Some(path) = self.files.get(index) else {
            return Err(CalibError::NoSuchImage { path: self.root.clone(), index, len: self.len() });
        };
        let bytes = read_bounded(path, self.limits.max_file_bytes)?;
        DecodedImage::decode(path.display().to_string(), &bytes, self.limits)
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
    images: Vec<PathBuf>,
    files: usize,
    folders: usize,
}

fn list(root: &Path) -> Result<Listing, CalibError> {
    let path = || root.to_owned();
    match fs::metadata(root) {
        Ok(kind) if kind.is_dir() => list_folder(root).map_err(|source| CalibError::Io { path: path(), source }),
        Ok(kind) if kind.is_file() && is_image_name(root) => Ok(Listing { images: vec![path()], ..Listing::default() }),
        Ok(_) => Err(CalibError::NotADataSet { path: path() }),
        Err(source) if source.kind() == io::ErrorKind::NotFound => Err(CalibError::Missing { path: path() }),
        Err(source) => Err(CalibError::Io { path: path(), source }),
    }
}

fn list_folder(root: &Path) -> io::Result<Listing> {
    let mut listing = Listing::default();
    for entry in fs::read_dir(root)? {
        let path = entry?.path();
        match fs::metadata(&path) {
            Ok(kind) if kind.is_dir() => listing.folders += 1,
            Ok(kind) if kind.is_file() && is_image_name(&path) => listing.images.push(path),
            // A link to nowhere or a pipe is no image; reading it is not attempted.
            _ => listing.files += 1,
        }
    }
    listing.images.sort_by(|a, b| name_bytes(a).cmp(name_bytes(b)));
    Ok(listing)
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
mod tests {
    use super::*;

    fn write_image(path: &Path) {
        image::RgbImage::from_pixel(2, 1, image::Rgb([9, 8, 7])).save(path).unwrap();
    }

    #[test]
    fn images_are_listed_by_the_bytes_of_their_names() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.png", "a10.png", "a2.PNG", "Z.bmp", "notes.txt", "png", ".png", "\u{e9}.JPeG"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        fs::create_dir(folder.path().join("folder.jpg")).unwrap();
        let images = ImageFolder::open(folder.path(), Limits::default()).unwrap();
        assert_eq!(images.names().collect::<Vec<_>>(), ["Z.bmp", "a10.png", "a2.PNG", "b.png", "\u{e9}.JPeG"]);
        assert_eq!((images.len(), images.other_files(), images.name(5)), (5, 3, None));
    }

    #[test]
    fn images_load_by_number() {
        let folder = tempfile::tempdir().unwrap();
        write_image(&folder.path().join("a.png"));
        fs::write(folder.path().join("b.jpg"), "not an image").unwrap();
        let images = ImageFolder::open(folder.path(), Limits::default()).unwrap();
        let first = images.load(0).unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        assert_eq!((first.name(), first.rgb()), (path("a.png").as_str(), [9, 8, 7, 9, 8, 7].as_slice()));
        let expected = format!("cannot decode image {}: ", path("b.jpg"));
        assert!(images.load(1).unwrap_err().to_string().starts_with(&expected));
        assert!(matches!(images.load(2), Err(CalibError::NoSuchImage { index: 2, len: 2, .. })));
    }

    #[test]
    fn one_image_file_is_a_data_set() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("only.bmp");
        write_image(&path);
        let images = ImageFolder::open(&path, Limits::default()).unwrap();
        assert_eq!((images.len(), images.name(0), images.other_files()), (1, Some("only.bmp"), 0));
        assert_eq!(images.load(0).unwrap().name(), path.display().to_string());
    }

    #[test]
    fn long_files_are_refused_unread() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.jpg"), [0; 100]).unwrap();
        let limits = Limits { max_file_bytes: 99, ..Limits::default() };
        let error = ImageFolder::open(folder.path(), limits).unwrap().load(0).unwrap_err();
        assert!(matches!(error, CalibError::FileTooLarge { bytes: 100, limit: 99, .. }));
    }

    #[test]
    fn paths_without_images_are_errors_that_say_what_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let (empty, file) = (folder.path().join("empty"), folder.path().join("labels.csv"));
        fs::create_dir(&empty).unwrap();
        fs::write(&file, "").unwrap();
        let cases = [
            ("missing", folder.path().join("none"), "none does not exist"),
            ("other file", file, "labels.csv is neither a folder nor a JPEG, PNG or BMP file"),
            ("empty folder", empty, "empty, found 0 other files and 0 folders"),
            ("only others", folder.path().to_owned(), ", found 1 other file and 1 folder"),
        ];
        for (name, path, ending) in cases {
            let error = ImageFolder::open(&path, Limits::default()).unwrap_err();
            assert!(error.to_string().ends_with(ending), "{name}: {error}");
            assert!(error.hint().is_some(), "{name}");
        }
    }
}
