//! Files of arrays: which arrays each of them holds, and reading rows of one, which are what lies along its first axis.
//!
//! A `.npy` file in row-major order is read row by row, so that it may be larger than memory. Of the other files one at
//! a time is kept in memory. Which arrays feed which input, and whether they fit, is decided by whoever uses them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use quantize_ir::{DType, Tensor};

use crate::decode::Limits;
use crate::error::CalibError;
use crate::listing::{Kind, Listing, Member, read_bounded};
use crate::npy::{self, Header, MAX_HEAD_BYTES};
use crate::npz;

/// Reads a serialized tensor of a model format, or says what is wrong with it.
pub type ReadMessage = fn(&[u8]) -> Result<Tensor, String>;

/// What is known of an array without its elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outline {
    /// Its name in a file of several; `None` in a file of one.
    pub name: Option<String>,
    /// Type of its elements once they are read.
    pub dtype: DType,
    /// Lengths of its axes.
    pub shape: Vec<usize>,
}

/// The files of arrays in a folder, sorted by the bytes of their names; or one such file.
#[derive(Debug)]
pub struct ArrayFiles {
    files: Vec<ArrayFile>,
    left_out: Vec<String>,
    limits: Limits,
    read_message: ReadMessage,
    /// Whole arrays of the file that was read last.
    latest: Mutex<Latest>,
}

#[derive(Debug)]
struct ArrayFile {
    member: Member,
    arrays: Vec<Outline>,
    access: Access,
}

/// How a file is read.
#[derive(Debug, Clone, Copy)]
enum Access {
    /// Its array in row-major order, elements of a type of the file from a position on.
    Rows { dtype: DType, begin: u64 },
    /// Whole arrays only.
    Whole,
}

#[derive(Debug, Default)]
struct Latest {
    file: usize,
    arrays: BTreeMap<usize, Arc<Tensor>>,
}

impl ArrayFiles {
    /// The members of a listing, all of which are files of arrays.
    pub(crate) fn of(listing: Listing, limits: Limits, read_message: ReadMessage) -> Result<Self, CalibError> {
        let open = |member: Member| {
            let (arrays, access) = outlines(&member, limits, read_message)?;
            Ok(ArrayFile { member, arrays, access })
        };
        let files = listing.members.into_iter().map(open).collect::<Result<_, CalibError>>()?;
        Ok(Self { files, left_out: listing.left_out, limits, read_message, latest: Mutex::default() })
    }

    /// Number of files, at least 1.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "a data set without files cannot be opened")]
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// File name of file `file` without folder; `None` past the end. Bytes that are not UTF-8 are replaced.
    #[must_use]
    pub fn name(&self, file: usize) -> Option<&str> {
        self.files.get(file).map(|file| file.member.name.as_str())
    }

    /// Path of file `file`; `None` past the end.
    #[must_use]
    pub fn path(&self, file: usize) -> Option<&Path> {
        self.files.get(file).map(|file| file.member.path.as_path())
    }

    /// The arrays of file `file`, at least one; none past the end.
    #[must_use]
    pub fn arrays(&self, file: usize) -> &[Outline] {
        self.files.get(file).map_or(&[], |file| &file.arrays)
    }

    /// Names of the files in the folder that are not part of the data set, sorted.
    pub fn left_out(&self) -> impl ExactSizeIterator<Item = &str> {
        self.left_out.iter().map(String::as_str)
    }

    /// Array number `array` of file number `file`.
    ///
    /// # Errors
    /// [`CalibError::Io`] or [`CalibError::FileTooLarge`]; [`CalibError::ArrayFile`] if there is no such array, or it is
    /// damaged or too large to be read at once.
    pub fn load(&self, file: usize, array: usize) -> Result<Tensor, CalibError> {
        let (file, outline) = self.find(file, array)?;
        match file.access {
            Access::Rows { dtype, begin } => file.read(dtype, begin, &outline.shape, self.limits),
            Access::Whole => file.decode(array, self.limits, self.read_message),
        }
    }

    /// Rows `rows` of an array with at least one axis, which are the lengths of the result's first axis.
    ///
    /// # Errors
    /// As [`ArrayFiles::load`], or [`CalibError::ArrayFile`] if there are no such rows.
    pub fn rows(&self, file: usize, array: usize, rows: Range<usize>) -> Result<Tensor, CalibError> {
        let (found, outline) = self.find(file, array)?;
        let missing = || found.refuse(format!("it has no rows {} to {} of {:?}", rows.start, rows.end, outline.shape));
        let (count, row) = outline.shape.split_first().ok_or_else(missing)?;
        if rows.start > rows.end || rows.end > *count {
            return Err(missing());
        }
        match found.access {
            Access::Rows { dtype, begin } => {
                let bytes = row.iter().product::<usize>() as u64 * dtype.size() as u64;
                let shape: Vec<usize> = std::iter::once(rows.len()).chain(row.iter().copied()).collect();
                found.read(dtype, begin + rows.start as u64 * bytes, &shape, self.limits)
            }
            Access::Whole if rows.len() == *count => found.decode(array, self.limits, self.read_message),
            Access::Whole => self.kept(file, array)?.rows(rows.clone()).map_err(|_| missing()),
        }
    }

    /// A whole array that stays in memory until another file is read.
    fn kept(&self, file: usize, array: usize) -> Result<Arc<Tensor>, CalibError> {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if latest.file != file {
            *latest = Latest { file, arrays: BTreeMap::new() };
        }
        if let Some(tensor) = latest.arrays.get(&array) {
            return Ok(Arc::clone(tensor));
        }
        let (found, _) = self.find(file, array)?;
        let tensor = Arc::new(found.decode(array, self.limits, self.read_message)?);
        latest.arrays.insert(array, Arc::clone(&tensor));
        Ok(tensor)
    }

    fn find(&self, file: usize, array: usize) -> Result<(&ArrayFile, &Outline), CalibError> {
        let found = self.files.get(file).and_then(|found| Some((found, found.arrays.get(array)?)));
        found.ok_or_else(|| {
            let path = self.path(file).unwrap_or(Path::new("")).to_owned();
            CalibError::ArrayFile { path, cause: format!("there is no array {array} in file {file}") }
        })
    }
}

impl ArrayFile {
    fn refuse(&self, cause: String) -> CalibError {
        CalibError::ArrayFile { path: self.member.path.clone(), cause }
    }

    /// A tensor whose elements stand in the file from `begin` on.
    fn read(&self, dtype: DType, begin: u64, shape: &[usize], limits: Limits) -> Result<Tensor, CalibError> {
        let failed = |source| CalibError::Io { path: self.member.path.clone(), source };
        let count = quantize_ir::tensor::element_count(shape).ok().filter(|count| *count as u64 <= limits.max_pixels);
        let count =
            count.ok_or_else(|| self.refuse(format!("{shape:?} are more than {} numbers", limits.max_pixels)))?;
        let mut source = File::open(&self.member.path).map_err(failed)?;
        source.seek(SeekFrom::Start(begin)).map_err(failed)?;
        let length = count * dtype.size();
        let mut bytes = Vec::new();
        source.take(length as u64).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() != length {
            return Err(self.refuse("it became shorter while it was in use".to_owned()));
        }
        Tensor::from_data(shape, npy::numbers(dtype, &bytes)).map_err(|error| self.refuse(error.to_string()))
    }

    /// One array of a file that is read whole.
    fn decode(&self, array: usize, limits: Limits, read_message: ReadMessage) -> Result<Tensor, CalibError> {
        let path = &self.member.path;
        let whole = || read_bounded(path, limits.max_file_bytes);
        let found = match self.member.kind {
            Kind::Npz => npz::decode(open(path)?, array, limits),
            Kind::Message => read_message(&whole()?),
            Kind::Npy | Kind::Image => npy::decode(&whole()?, limits),
        };
        let found = found.map_err(|cause| self.refuse(cause))?;
        let same = |outline: &&Outline| (outline.dtype, outline.shape.as_slice()) == (found.dtype(), found.shape());
        match self.arrays.get(array).filter(same) {
            Some(_) => Ok(found),
            None => Err(self.refuse("it changed while it was in use".to_owned())),
        }
    }
}

/// The arrays of a file, and how it is read.
fn outlines(member: &Member, limits: Limits, read_message: ReadMessage) -> Result<(Vec<Outline>, Access), CalibError> {
    let path = &member.path;
    let refuse = |cause| CalibError::ArrayFile { path: path.clone(), cause };
    match member.kind {
        Kind::Npz => {
            let headers = npz::headers(open(path)?).map_err(refuse)?;
            let outline = |(name, header): (String, Header)| outline(Some(name), header);
            Ok((headers.into_iter().map(outline).collect(), Access::Whole))
        }
        Kind::Message => {
            let tensor = read_message(&read_bounded(path, limits.max_file_bytes)?).map_err(refuse)?;
            let outline = Outline { name: None, dtype: tensor.dtype(), shape: tensor.shape().to_vec() };
            Ok((vec![outline], Access::Whole))
        }
        Kind::Npy | Kind::Image => {
            let (header, begin) = head(path)?.map_err(refuse)?;
            let access = match header.fortran_order {
                true => Access::Whole,
                false => Access::Rows { dtype: header.dtype, begin },
            };
            Ok((vec![outline(None, header)], access))
        }
    }
}

/// Half precision is read as `float32`.
fn outline(name: Option<String>, Header { dtype, shape, .. }: Header) -> Outline {
    Outline { name, dtype: if dtype == DType::F16 { DType::F32 } else { dtype }, shape }
}

/// The header of a `.npy` file that is as long as it says, and where its numbers begin.
fn head(path: &Path) -> Result<Result<(Header, u64), String>, CalibError> {
    let failed = |source| CalibError::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    let mut bytes = Vec::new();
    file.take(MAX_HEAD_BYTES as u64).read_to_end(&mut bytes).map_err(failed)?;
    let checked = || {
        let (header, body) = Header::read(&bytes)?;
        let begin = (bytes.len() - body.len()) as u64;
        header.check_length(length.saturating_sub(begin))?;
        Ok((header, begin))
    };
    Ok(checked())
}

fn open(path: &Path) -> Result<BufReader<File>, CalibError> {
    let file = File::open(path).map_err(|source| CalibError::Io { path: path.to_owned(), source })?;
    Ok(BufReader::new(file))
}

#[cfg(test)]
mod tests;
