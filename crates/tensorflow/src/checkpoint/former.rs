//! Checkpoints of version 1: one table whose entries hold the elements of variables, or of parts of them.

use super::Variable;
use super::slices::{Slice, Whole};
use super::table::Entry;
use crate::dtype::DataType;
use crate::shape::PartialShape;
use crate::tensor::TensorProto;
use crate::wire::Reader;
use bytes::Bytes;
use quantize_document::WireError;
use std::collections::BTreeMap;

// Fields of `SavedTensorSlices`, `SavedTensorSliceMeta`, `SavedSliceMeta` and `SavedSlice`.
const META: u32 = 1;
const DATA: u32 = 2;
const META_TENSOR: u32 = 1;
const NAME: u32 = 1;
const SHAPE: u32 = 2;
const TYPE: u32 = 3;
const DATA_SLICE: u32 = 2;
const DATA_TENSOR: u32 = 3;

/// A checkpoint.
#[derive(Debug)]
pub(super) struct Former {
    variables: BTreeMap<String, Stored>,
}

#[derive(Debug)]
struct Stored {
    dtype: DataType,
    shape: Vec<usize>,
    parts: Vec<(Slice, Bytes)>,
}

impl Former {
    /// Reads the entries of a table: the first, without a key, says what variables there are.
    pub(super) fn read(entries: Vec<Entry>) -> Result<Self, String> {
        let mut former = Self { variables: BTreeMap::new() };
        let mut entries = entries.into_iter();
        let head = entries.next().filter(|entry| entry.key.is_empty()).ok_or("it has no list of variables")?;
        former.list(&head.value).map_err(wire)?;
        for entry in entries {
            let Some(data) = Reader::new(&entry.value).map_err(wire)?.message(DATA) else { continue };
            let data = Reader::new(&data).map_err(wire)?;
            let name = text(&data, NAME);
            let Some(stored) = former.variables.get_mut(&name) else {
                return Err(format!("variable `{name}` has elements, but no type and shape"));
            };
            let slice = Slice::decode(&data.message(DATA_SLICE).unwrap_or_default()).map_err(wire)?;
            stored.parts.push((slice, data.message(DATA_TENSOR).unwrap_or_default()));
        }
        Ok(former)
    }

    fn list(&mut self, head: &Bytes) -> Result<(), WireError> {
        let meta = Reader::new(&Reader::new(head)?.message(META).unwrap_or_default())?;
        for tensor in meta.each(META_TENSOR) {
            let tensor = Reader::new(&tensor)?;
            let shape = PartialShape::decode(&tensor.message(SHAPE).unwrap_or_default())?;
            let dtype = DataType(tensor.varint(TYPE).unwrap_or(0) as i32);
            // A shape that is not known fits no elements, and is refused with them.
            let shape = shape.dims().unwrap_or_default();
            self.variables.insert(text(&tensor, NAME), Stored { dtype, shape, parts: Vec::new() });
        }
        Ok(())
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
        self.variables.get(name).map(tensor)
    }
}

/// The parts of a variable as one tensor.
fn tensor(stored: &Stored) -> Result<TensorProto, String> {
    let shape = &stored.shape;
    if stored.dtype == DataType::STRING {
        let [(_, part)] = stored.parts.as_slice() else { return Err("it is strings in several parts".into()) };
        let strings = TensorProto::with_elements(stored.dtype, shape, part).map_err(wire)?.to_strings()?;
        return TensorProto::from_strings(shape, &strings);
    }
    let size = stored.dtype.size().ok_or_else(|| format!("its elements are of type {}", stored.dtype))?;
    let parts = stored.parts.iter().map(|(slice, part)| {
        let lengths: Vec<usize> = slice.ranges(shape)?.into_iter().map(|(_, length)| length).collect();
        let part = TensorProto::with_elements(stored.dtype, &lengths, part).map_err(wire)?;
        Ok((slice, part.to_raw()?))
    });
    let parts = parts.collect::<Result<Vec<_>, String>>()?;
    let mut whole = Whole::new(shape, size, parts.iter().map(|(_, part)| part.len()).sum())?;
    parts.iter().try_for_each(|(slice, part)| whole.put(slice, part))?;
    TensorProto::from_raw(stored.dtype, shape, &whole.finish()?)
}

fn text(message: &Reader, number: u32) -> String {
    String::from_utf8_lossy(&message.delimited(number).unwrap_or_default()).into_owned()
}

fn wire(error: WireError) -> String {
    error.to_string()
}
