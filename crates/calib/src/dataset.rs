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
        assert_eq!((images.len(), images.name(5)), (5, None));
        assert_eq!(images.left_out().collect::<Vec<_>>(), [".png", "notes.txt", "png"]);
    }

    #[test]
    fn images_need_no_particular_name() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (name, format) in [("a", "png"), ("b.npy", "bmp"), ("c.tmp", "jpg")] {
            let source = at(&format!("source.{format}"));
            write_image(&source);
            fs::rename(source, at(name)).unwrap();
        }
        fs::write(at("d.csv"), "a,1").unwrap();
        let images = ImageFolder::open(folder.path(), Limits::default()).unwrap();
        assert_eq!(images.names().collect::<Vec<_>>(), ["a", "b.npy", "c.tmp"]);
        assert_eq!(images.left_out().collect::<Vec<_>>(), ["d.csv"]);
        assert!((0..3).all(|index| images.load(index).unwrap().image().is_ok()));
    }

    #[test]
    fn arrays_belong_to_a_data_set_that_asks_for_them() {
        let folder = tempfile::tempdir().unwrap();
        let header = "{'descr': '|u1', 'fortran_order': False, 'shape': (1, 1, 3)}";
        let array = [b"\x93NUMPY\x01\0", [header.len() as u8, 0].as_slice(), header.as_bytes(), &[1, 2, 3]].concat();
        fs::write(folder.path().join("b.npy.0"), array).unwrap();
        fs::write(folder.path().join("c.npy"), "").unwrap();
        write_image(&folder.path().join("a.png"));
        let without = ImageFolder::open(folder.path(), Limits::default()).unwrap();
        assert_eq!((without.len(), without.left_out().len()), (1, 2));
        let samples = ImageFolder::open_with_arrays(folder.path(), Limits::default()).unwrap();
        assert_eq!((samples.len(), samples.left_out().len()), (3, 0));
        assert!(matches!(samples.load(0).unwrap(), RawSample::Image(_)));
        let array = samples.load(1).unwrap();
        assert!(matches!(&array, RawSample::Array(array) if array.data() == [1.0, 2.0, 3.0]));
        let error = array.image().unwrap_err();
        assert!(error.to_string().ends_with("b.npy.0 is an array, an image is needed"), "{error}");
        assert!(matches!(samples.load(2), Err(CalibError::Array { .. })));
    }

    #[test]
    fn a_selection_is_a_data_set() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.png", "b.png", "c.png", "d.txt"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let images = ImageFolder::open(folder.path(), Limits::default()).unwrap();
        let some = images.select(&[2, 0]).unwrap();
        assert_eq!(some.names().collect::<Vec<_>>(), ["c.png", "a.png"]);
        assert_eq!((some.root(), some.left_out().len()), (images.root(), 1));
        assert!(matches!(images.select(&[0, 3]), Err(CalibError::NoSuchImage { index: 3, len: 3, .. })));
        assert!(matches!(images.select(&[]), Err(CalibError::Sampling(SamplingError::Nothing))));
    }

    #[test]
    fn images_load_by_number() {
        let folder = tempfile::tempdir().unwrap();
        write_image(&folder.path().join("a.png"));
        fs::write(folder.path().join("b.jpg"), "not an image").unwrap();
        let images = ImageFolder::open(folder.path(), Limits::default()).unwrap();
        let first = images.load(0).unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        assert_eq!(
            (first.name(), first.image().unwrap().rgb()),
            (path("a.png").as_str(), [9, 8, 7, 9, 8, 7].as_slice())
        );
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
        assert_eq!((images.len(), images.name(0), images.left_out().len()), (1, Some("only.bmp"), 0));
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
