//! Archives of arrays as `numpy.savez` and `numpy.savez_compressed` write them: the reader of `.npz` content.
//!
//! An archive is a ZIP file whose members are `.npy` files, named after the arrays.

use std::io::{Read, Seek};

use quantize_ir::Tensor;
use zip::ZipArchive;
use zip::read::ZipFile;

use crate::decode::Limits;
use crate::npy::{self, Header, MAX_HEAD_BYTES};

/// Arrays of an archive: it is opened anew for each, and no model has so many inputs.
const MOST_ARRAYS: usize = 256;

/// Ends the name of a member.
const MEMBER_END: &str = ".npy";

/// Name and header of each array, in the order of the archive; their elements are not read.
///
/// # Errors
/// What is wrong: no archive, a member that is no array, an array of another length than its header says, or two of the
/// same name.
pub(crate) fn headers(source: impl Read + Seek) -> Result<Vec<(String, Header)>, String> {
    let mut archive = ZipArchive::new(source).map_err(|error| error.to_string())?;
    if archive.len() > MOST_ARRAYS {
        return Err(format!(
            "it holds {} arrays, more than the {MOST_ARRAYS} that a model may have inputs",
            archive.len()
        ));
    }
    let mut headers = Vec::new();
    for index in 0..archive.len() {
        let mut member = archive.by_index(index).map_err(|error| error.to_string())?;
        let name = array_name(&member)?;
        let header = header(&mut member).map_err(|cause| format!("array `{name}`: {cause}"))?;
        headers.push((name, header));
    }
    let mut names: Vec<&str> = headers.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    match names.array_windows().find(|[a, b]| a == b) {
        Some([name, _]) => Err(format!("it holds array `{name}` twice")),
        None if headers.is_empty() => Err("it holds no array".to_owned()),
        None => Ok(headers),
    }
}

/// Array number `index`, counted from 0 in the order of the archive.
///
/// # Errors
/// What is wrong, as for [`headers`], or more bytes than `limits` allow a file.
pub(crate) fn decode(source: impl Read + Seek, index: usize, limits: Limits) -> Result<Tensor, String> {
    let mut archive = ZipArchive::new(source).map_err(|error| error.to_string())?;
    let member = archive.by_index(index).map_err(|error| error.to_string())?;
    let name = array_name(&member)?;
    let failed = |cause: String| format!("array `{name}`: {cause}");
    let bytes = content(member, limits.max_file_bytes).map_err(failed)?;
    npy::decode(&bytes, limits).map_err(failed)
}

fn array_name<R: Read>(member: &ZipFile<'_, R>) -> Result<String, String> {
    let name = member.name().map_err(|error| error.to_string())?;
    let array = name.strip_suffix(MEMBER_END).filter(|array| !array.is_empty());
    array.map(str::to_owned).ok_or_else(|| format!("its member `{name}` is no array"))
}

/// The header, if it agrees with the length that the archive states.
fn header<R: Read>(member: &mut ZipFile<'_, R>) -> Result<Header, String> {
    let length = member.size();
    let mut head = Vec::new();
    member.take(MAX_HEAD_BYTES as u64).read_to_end(&mut head).map_err(|error| error.to_string())?;
    let (header, body) = Header::read(&head)?;
    header.check_length(length.saturating_sub((head.len() - body.len()) as u64))?;
    Ok(header)
}

/// All bytes, unless there are more than `limit`; one more than the archive says there are shows that it is wrong.
fn content<R: Read>(member: ZipFile<'_, R>, limit: u64) -> Result<Vec<u8>, String> {
    let stated = member.size();
    if stated > limit {
        return Err(format!("it has more than {limit} bytes; save it as .npy, which is read piece by piece"));
    }
    let mut bytes = Vec::new();
    member.take(stated.saturating_add(1)).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    Ok(bytes)
}

#[cfg(test)]
pub(crate) mod tests;
