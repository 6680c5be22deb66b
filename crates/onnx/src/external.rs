//! Tensors whose elements stand in files beside the model (`TensorProto.external_data`): where they are, and that they
//! may be read.
//!
//! What a location may be is decided by `quantize_document::external`; how elements are decoded by [`crate::tensor`].

use crate::document::{InitializerHead, OnnxDocument};
use crate::error::OnnxError;
use crate::tensor::{dims_of, dtype_of};
use quantize_document::{ExternalError, ExternalRange, Location};
use quantize_proto::onnx::tensor_proto::DataLocation;
use quantize_proto::onnx::{GraphProto, NodeProto, SparseTensorProto, StringStringEntryProto, TensorProto};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

/// Where the elements of a tensor stand, if they are in a file beside the model.
///
/// # Errors
/// If an offset or a length is no number, or a key stands there twice.
pub(crate) fn external_range(proto: &TensorProto) -> Result<Option<ExternalRange>, String> {
    if proto.data_location() != DataLocation::External {
        return Ok(None);
    }
    let location = entry(proto, "location")?.unwrap_or_default().to_owned();
    let number = |key: &str| match entry(proto, key)? {
        None => Ok(None),
        Some(text) => {
            text.parse::<u64>().map(Some).map_err(|_| format!("has `{text}` as the {key} of its external data"))
        }
    };
    Ok(Some(ExternalRange { location, offset: number("offset")?.unwrap_or(0), length: number("length")? }))
}

/// The value of a key of `TensorProto.external_data`.
fn entry<'p>(proto: &'p TensorProto, key: &str) -> Result<Option<&'p str>, String> {
    let mut found = proto.external_data.iter().filter(|entry| entry.key() == key);
    match (found.next(), found.next()) {
        (_, Some(_)) => Err(format!("has two entries `{key}` for its external data")),
        (first, None) => Ok(first.map(StringStringEntryProto::value)),
    }
}

/// The entries that name a stretch of a file.
pub(crate) fn external_entries(location: &str, offset: u64, length: u64) -> Vec<StringStringEntryProto> {
    let entry = |(key, value): (&str, String)| StringStringEntryProto { key: Some(key.into()), value: Some(value) };
    let entries = [("location", location.to_owned()), ("offset", offset.to_string()), ("length", length.to_string())];
    entries.map(entry).to_vec()
}

/// Why a tensor's external data cannot be used.
pub(crate) enum Fault {
    /// Its file cannot be, or may not be, read.
    File(ExternalError),
    /// It contradicts the tensor.
    Tensor(String),
}

/// Bytes at once.
const PIECE: usize = 1 << 18;

/// Bytes of so many elements; 0 for types that tensors cannot hold.
fn byte_count(data_type: i32, dims: &[usize]) -> u64 {
    let size = dtype_of(data_type).map_or(0, quantize_ir::DType::size);
    dims.iter().product::<usize>().saturating_mul(size) as u64
}

/// Checks that the file may be read and has as many bytes as the tensor's type and dimensions say.
fn check(range: &ExternalRange, data_type: i32, dims: &[usize], document: &Path) -> Result<(), Fault> {
    let part = range.open(document).map_err(Fault::File)?;
    let Some(dtype) = dtype_of(data_type) else { return Ok(()) };
    let needed = dims.iter().try_fold(dtype.size() as u64, |n, d| n.checked_mul(*d as u64));
    if needed == Some(part.length()) {
        return Ok(());
    }
    let length = part.length();
    Err(Fault::Tensor(format!("has dimensions {dims:?} of {dtype}, but {length} bytes in `{}`", range.location)))
}

impl InitializerHead {
    /// Bytes it has in a file beside the model.
    pub(crate) fn external_bytes(&self) -> u64 {
        let of_elements = || byte_count(self.data_type, &self.dims);
        self.external.as_ref().map_or(0, |range| range.length.unwrap_or_else(of_elements))
    }
}

impl OnnxDocument {
    /// Checks every reference to a file beside the model, wherever in the model it stands, without reading elements:
    /// that it names a regular file in the model's folder or below, and bytes which that file has.
    ///
    /// # Errors
    /// [`OnnxError::External`] naming the first tensor whose data cannot be used, or [`OnnxError::Invalid`].
    pub fn check_external_data(&self) -> Result<(), OnnxError> {
        let path = self.source().path();
        for head in self.initializers() {
            if let Some(range) = &head.external {
                let checked = check(range, head.data_type, &head.dims, path);
                checked.map_err(|fault| self.external_fault(format!("initializer `{}`", head.name), fault))?;
            }
        }
        self.nested_external_data(&mut |item, proto, range| {
            let checked = match dims_of(proto) {
                Ok(dims) => check(range, proto.data_type(), &dims, path),
                Err(cause) => Err(Fault::Tensor(cause)),
            };
            checked.map_err(|fault| self.external_fault(item.to_owned(), fault))
        })
    }

    /// What the model refers to in files beside it: one stretch of each file, from the first byte that a tensor has
    /// there to the last, in the order of their locations.
    ///
    /// # Errors
    /// If a message does not decode.
    pub fn external_stretches(&self) -> Result<Vec<ExternalRange>, OnnxError> {
        let mut stretches: BTreeMap<String, Range<u64>> = BTreeMap::new();
        let mut cover = |range: &ExternalRange, length: u64| {
            let end = range.offset.saturating_add(length);
            let whole = stretches.entry(range.location.clone()).or_insert(range.offset..end);
            *whole = whole.start.min(range.offset)..whole.end.max(end);
        };
        for head in self.initializers() {
            if let Some(range) = &head.external {
                cover(range, head.external_bytes());
            }
        }
        self.nested_external_data(&mut |_, proto, range| {
            let bytes = dims_of(proto).map_or(0, |dims| byte_count(proto.data_type(), &dims));
            cover(range, range.length.unwrap_or(bytes));
            Ok(())
        })?;
        let stretch = |(location, whole): (String, Range<u64>)| {
            let length = Some(whole.end.saturating_sub(whole.start));
            ExternalRange { location, offset: whole.start, length }
        };
        Ok(stretches.into_iter().map(stretch).collect())
    }

    /// Shows `see` the bytes of these stretches, piece by piece.
    ///
    /// # Errors
    /// [`OnnxError::External`] if a file cannot be read.
    pub fn read_external(&self, see: &mut dyn FnMut(&[u8])) -> Result<(), OnnxError> {
        let mut piece = vec![0; PIECE];
        for stretch in self.external_stretches()? {
            let item = || format!("file `{}` beside the model", stretch.location);
            let failed = |cause| self.external_fault(item(), Fault::File(cause));
            let mut part = stretch.open(self.source().path()).map_err(failed)?;
            let mut left = part.length();
            while left > 0 {
                let length = usize::try_from(left).map_or(PIECE, |left| left.min(PIECE));
                let bytes = piece.get_mut(..length).unwrap_or_default();
                part.read_exact(bytes).map_err(failed)?;
                see(bytes);
                left -= length as u64;
            }
        }
        Ok(())
    }

    /// Shows every tensor with external data that is no initializer of the main graph, with the item it belongs to.
    pub(crate) fn nested_external_data(&self, see: &mut See<'_>) -> Result<(), OnnxError> {
        for sparse in self.sparse_messages()? {
            let name = sparse.values.as_ref().map(|v| v.name().to_owned()).unwrap_or_default();
            self.see_sparse(&format!("sparse initializer `{name}`"), &sparse, see)?;
        }
        for index in 0..self.node_count() {
            self.see_node(&self.node(index)?, see)?;
        }
        for function in self.functions() {
            let function = function?;
            function.node.iter().try_for_each(|node| self.see_node(node, see))?;
        }
        Ok(())
    }

    fn see_node(&self, node: &NodeProto, see: &mut See<'_>) -> Result<(), OnnxError> {
        let item = || match node.name() {
            "" => format!("node of type `{}`", node.op_type()),
            name => format!("node `{name}`"),
        };
        for attribute in &node.attribute {
            let of = || format!("{}, attribute `{}`", item(), attribute.name());
            for tensor in attribute.t.iter().chain(&attribute.tensors) {
                self.see_tensor(&of(), tensor, see)?;
            }
            for sparse in attribute.sparse_tensor.iter().chain(&attribute.sparse_tensors) {
                self.see_sparse(&of(), sparse, see)?;
            }
            attribute.g.iter().chain(&attribute.graphs).try_for_each(|graph| self.see_graph(graph, see))?;
        }
        Ok(())
    }

    fn see_graph(&self, graph: &GraphProto, see: &mut See<'_>) -> Result<(), OnnxError> {
        for tensor in &graph.initializer {
            self.see_tensor(&format!("initializer `{}` of a nested graph", tensor.name()), tensor, see)?;
        }
        for sparse in &graph.sparse_initializer {
            self.see_sparse("sparse initializer of a nested graph", sparse, see)?;
        }
        graph.node.iter().try_for_each(|node| self.see_node(node, see))
    }

    fn see_sparse(&self, item: &str, sparse: &SparseTensorProto, see: &mut See<'_>) -> Result<(), OnnxError> {
        sparse.values.iter().chain(&sparse.indices).try_for_each(|tensor| self.see_tensor(item, tensor, see))
    }

    fn see_tensor(&self, item: &str, tensor: &TensorProto, see: &mut See<'_>) -> Result<(), OnnxError> {
        let range = external_range(tensor).map_err(|cause| self.invalid(Some(item.to_owned()), cause))?;
        range.map_or(Ok(()), |range| see(item, tensor, &range))
    }

    fn external_fault(&self, item: String, fault: Fault) -> OnnxError {
        match fault {
            Fault::File(cause) => {
                let location = Location::item(self.source().path(), item);
                OnnxError::External { location: Box::new(location), cause: Box::new(cause) }
            }
            Fault::Tensor(cause) => self.invalid(Some(item), cause),
        }
    }
}

/// What is done with a tensor that has external data: its item, its message, its place.
pub(crate) type See<'s> = dyn FnMut(&str, &TensorProto, &ExternalRange) -> Result<(), OnnxError> + 's;
