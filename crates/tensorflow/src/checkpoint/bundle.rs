//! Checkpoints of version 2 (TensorBundle): a table `PREFIX.index` says where in `PREFIX.data-00000-of-0000N` the
//! elements of each variable are.

use super::slices::{Slice, Whole};
use super::table::{Cursor, Entry, masked};
use super::{Variable, prefixed};
use crate::dtype::DataType;
use crate::shape::PartialShape;
use crate::tensor::TensorProto;
use crate::wire::{Reader, fixed32};
use bytes::Bytes;
use quantize_document::{WireError, WireType, read_range};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

// Fields of `BundleHeaderProto` and `BundleEntryProto`.
const SHARDS: u32 = 1;
const ENDIANNESS: u32 = 2;
const DTYPE: u32 = 1;
const SHAPE: u32 = 2;
const SHARD: u32 = 3;
const OFFSET: u32 = 4;
const SIZE: u32 = 5;
const CHECKSUM: u32 = 6;
const SLICES: u32 = 7;

/// Most files of one checkpoint.
const MAX_SHARDS: u64 = 99_999;

/// The index of a checkpoint.
#[derive(Debug)]
pub(super) struct Bundle {
    prefix: PathBuf,
    shards: u64,
    variables: BTreeMap<String, Stored>,
    /// Parts of variables, by their keys.
    parts: BTreeMap<Vec<u8>, Stored>,
}

/// Where a variable, or a part of one, is.
#[derive(Clone, Debug)]
struct Stored {
    dtype: DataType,
    shape: Vec<usize>,
    shard: u64,
    offset: u64,
    size: u64,
    checksum: u32,
    slices: Vec<Slice>,
}

impl Bundle {
    /// Reads the entries of an index.
    pub(super) fn read(prefix: PathBuf, entries: Vec<Entry>) -> Result<Self, String> {
        let mut bundle = Self { prefix, shards: 0, variables: BTreeMap::new(), parts: BTreeMap::new() };
        for Entry { key, value } in entries {
            match key.first() {
                None => bundle.shards = shards(&value)?,
                // Keys of parts begin with a zero, names never do.
                Some(0) => drop(bundle.parts.insert(key, stored(&value)?)),
                Some(_) => {
                    let name = String::from_utf8(key).map_err(|_| "the name of a variable is no UTF-8")?;
                    let stored = stored(&value).map_err(|cause| format!("variable `{name}`: {cause}"))?;
                    bundle.variables.insert(name, stored);
                }
            }
        }
        if bundle.shards == 0 {
            return Err("the index has no header".into());
        }
        Ok(bundle)
    }

    pub(super) fn variables(&self) -> impl Iterator<Item = Variable> {
        self.variables.iter().map(|(name, stored)| Variable {
            name: name.clone(),
            dtype: stored.dtype,
            shape: stored.shape.clone(),
        })
    }

    /// The value of a variable; `None` if there is none of this name.
    pub(super) fn value(&self, name: &str) -> Option<Result<TensorProto, String>> {
        self.variables.get(name).map(|stored| self.tensor(name, stored))
    }

    fn tensor(&self, name: &str, stored: &Stored) -> Result<TensorProto, String> {
        if !stored.slices.is_empty() {
            let whole = self.whole(name, stored)?;
            return TensorProto::from_raw(stored.dtype, &stored.shape, &whole);
        }
        let bytes = self.bytes(stored)?;
        if stored.dtype == DataType::STRING {
            return TensorProto::from_strings(&stored.shape, &strings(stored, bytes)?);
        }
        check(masked(crc32c::crc32c(&bytes)), stored.checksum)?;
        TensorProto::from_raw(stored.dtype, &stored.shape, &bytes)
    }

    /// The elements of a variable that is stored in parts.
    fn whole(&self, name: &str, stored: &Stored) -> Result<Vec<u8>, String> {
        let find = |slice: &Slice| self.parts.get(&slice.key(name)).ok_or("a part of it is missing");
        let parts = stored.slices.iter().map(find).collect::<Result<Vec<_>, _>>()?;
        let available = parts.iter().try_fold(0u64, |sum, part| sum.checked_add(part.size));
        let available = available.and_then(|sum| usize::try_from(sum).ok()).ok_or("its parts are too large")?;
        let size = stored.dtype.size().ok_or_else(|| format!("its elements are of type {}", stored.dtype))?;
        let mut whole = Whole::new(&stored.shape, size, available)?;
        for (slice, part) in stored.slices.iter().zip(parts) {
            let bytes = self.bytes(part)?;
            check(masked(crc32c::crc32c(&bytes)), part.checksum)?;
            whole.put(slice, &bytes)?;
        }
        whole.finish()
    }

    fn bytes(&self, stored: &Stored) -> Result<Vec<u8>, String> {
        if stored.shard >= self.shards {
            return Err(format!("it is in file {} of {}", stored.shard, self.shards));
        }
        let path = shard_path(&self.prefix, stored.shard, self.shards);
        read_range(&path, stored.offset, stored.size).map_err(|error| error.to_string())
    }
}

/// The file with part `shard` of `shards` of the elements.
fn shard_path(prefix: &Path, shard: u64, shards: u64) -> PathBuf {
    prefixed(prefix, &format!(".data-{shard:05}-of-{shards:05}"))
}

fn check(found: u32, expected: u32) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err("its checksum does not fit; the file is damaged".into()) }
}

fn wire(error: WireError) -> String {
    error.to_string()
}

/// The number of files that a header states.
fn shards(header: &Bytes) -> Result<u64, String> {
    let header = Reader::new(header).map_err(wire)?;
    if header.varint(ENDIANNESS).unwrap_or(0) != 0 {
        return Err("its numbers are big-endian, which is not read".into());
    }
    match header.varint(SHARDS).unwrap_or(0) {
        shards @ 1..=MAX_SHARDS => Ok(shards),
        shards => Err(format!("it has {shards} files")),
    }
}

fn stored(entry: &Bytes) -> Result<Stored, String> {
    let message = Reader::new(entry).map_err(wire)?;
    let number = |field| message.varint(field).unwrap_or(0);
    let shape = PartialShape::decode(&message.message(SHAPE).unwrap_or_default()).map_err(wire)?;
    let checksum = message.parts(CHECKSUM, WireType::Fixed32).last();
    Ok(Stored {
        dtype: DataType(number(DTYPE) as i32),
        shape: shape.dims().ok_or("its shape is not known")?,
        shard: number(SHARD),
        offset: number(OFFSET),
        size: number(SIZE),
        checksum: checksum.and_then(|bytes| fixed32(&bytes).next()).unwrap_or(0),
        slices: message.each(SLICES).map(|slice| Slice::decode(&slice)).collect::<Result<_, _>>().map_err(wire)?,
    })
}

/// The strings of a variable: their lengths, the checksum of those, then their bytes.
fn strings(stored: &Stored, bytes: Vec<u8>) -> Result<Vec<Bytes>, String> {
    let count = quantize_ir::tensor::element_count(&stored.shape).map_err(|error| error.to_string())?;
    if count > bytes.len() {
        return Err(format!("{} bytes do not hold {count} strings", bytes.len()));
    }
    let bytes = Bytes::from(bytes);
    let mut cursor = Cursor(&bytes);
    let mut checksum = crc32c::crc32c(&[]);
    let mut lengths = Vec::with_capacity(count);
    for _ in 0..count {
        let length = cursor.varint()?;
        // Lengths go into the checksum with four bytes if they fit, else with eight.
        checksum = match u32::try_from(length) {
            Ok(length) => crc32c::crc32c_append(checksum, &length.to_le_bytes()),
            Err(_) => crc32c::crc32c_append(checksum, &length.to_le_bytes()),
        };
        lengths.push(usize::try_from(length).map_err(|_| "a string is too long")?);
    }
    let stated = cursor.take(4)?;
    check(masked(checksum), stated.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes)))?;
    let rest = bytes.slice_ref(cursor.0);
    check(masked(crc32c::crc32c_append(crc32c::crc32c_append(checksum, stated), &rest)), stored.checksum)?;
    let mut strings = Vec::with_capacity(count);
    for length in lengths {
        strings.push(bytes.slice_ref(cursor.take(length)?));
    }
    if cursor.0.is_empty() { Ok(strings) } else { Err("there are bytes behind its last string".into()) }
}
