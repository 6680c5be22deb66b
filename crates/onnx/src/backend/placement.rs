//! Where tensors of the output stand: in the model file, in the files the source refers to, or in one new file beside
//! the output. Nothing here knows what a tensor is for.

use super::emit;
use crate::document::{GRAPH_INITIALIZER, OnnxDocument};
use crate::error::OnnxError;
use crate::external::external_entries;
use crate::tensor::{raw_len, tensor_head, write_raw};
use prost::Message;
use quantize_document::encode::{bytes_field, varint_field};
use quantize_document::{ExternalRange, Location, Piece, Splice};
use quantize_ir::Tensor;
use quantize_proto::onnx::tensor_proto::DataLocation;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// `TensorProto.raw_data`
const TENSOR_RAW_DATA: u32 = 9;
/// `TensorProto.external_data`
const TENSOR_EXTERNAL_DATA: u32 = 13;
/// `TensorProto.data_location`
const TENSOR_DATA_LOCATION: u32 = 14;

/// Largest model file: readers of protocol buffers refuse messages of 2 GiB and more.
pub const MAX_MODEL_BYTES: usize = (1 << 31) - 1;
/// Tensors of fewer bytes stay in the model file whatever its size.
const SMALL: usize = 1024;
/// Tensors of this size begin at a page of memory, so that runtimes can map them.
const LARGE: u64 = 1 << 20;
const PAGE: u64 = 4096;
/// Where smaller ones begin.
const ALIGNMENT: u64 = 64;
/// Bytes copied at once.
const PIECE: usize = 1 << 18;

/// What decides where tensors of the output stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Whether the output is written to the folder of the source, so that it may refer to the same files.
    pub beside_source: bool,
    /// Name of the file for tensors outside the model, in the folder of the output.
    pub data_name: String,
    /// Largest model file, in bytes; tensors leave the model until it is not larger, if that is possible.
    pub max_model_bytes: usize,
}

impl Default for Placement {
    /// In the source's folder, tensors in the model file as long as it can be read.
    fn default() -> Self {
        Self { beside_source: true, data_name: "model.onnx.data".into(), max_model_bytes: MAX_MODEL_BYTES }
    }
}

/// Which tensors leave the model file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Spread {
    /// None.
    Inside,
    /// Those that quantization adds.
    NewOutside,
    /// All.
    AllOutside,
}

impl Spread {
    pub(super) const ALL: [Self; 3] = [Self::Inside, Self::NewOutside, Self::AllOutside];
}

/// A stretch of the new file.
#[derive(Clone, Debug)]
enum Chunk<'a> {
    /// Elements that are computed.
    Tensor(Arc<Tensor>),
    /// Bytes of the source document.
    Source(&'a [u8]),
    /// Bytes of a file beside the source document.
    Copy(&'a Path, ExternalRange),
}

/// The content of the file beside the output.
#[derive(Clone, Debug, Default)]
pub(super) struct Outside<'a> {
    /// With the first byte of each.
    chunks: Vec<(u64, Chunk<'a>)>,
    length: u64,
    /// Bytes of the source's own files that the output refers to.
    referenced: u64,
}

impl<'a> Outside<'a> {
    pub(super) fn byte_count(&self) -> u64 {
        self.length
    }

    pub(super) fn referenced_byte_count(&self) -> u64 {
        self.referenced
    }

    /// Adds a chunk of `length` bytes; returns its first byte.
    fn add(&mut self, chunk: Chunk<'a>, length: u64) -> u64 {
        let offset = self.length.next_multiple_of(if length >= LARGE { PAGE } else { ALIGNMENT });
        self.chunks.push((offset, chunk));
        self.length = offset + length;
        offset
    }

    pub(super) fn write_to(&self, out: &mut dyn io::Write) -> io::Result<()> {
        let mut at = 0;
        for (offset, chunk) in &self.chunks {
            // Gaps are shorter than a page.
            out.write_all(&vec![0; (offset - at) as usize])?;
            at = offset
                + match chunk {
                    Chunk::Tensor(tensor) => {
                        write_raw(tensor, out)?;
                        raw_len(tensor) as u64
                    }
                    Chunk::Source(bytes) => {
                        out.write_all(bytes)?;
                        bytes.len() as u64
                    }
                    Chunk::Copy(document, range) => copy(document, range, out)?,
                };
        }
        Ok(())
    }
}

fn copy(document: &Path, range: &ExternalRange, out: &mut dyn io::Write) -> io::Result<u64> {
    let failed = |e: quantize_document::ExternalError| io::Error::other(e.to_string());
    let mut part = range.open(document).map_err(failed)?;
    let mut left = part.length();
    let mut piece = vec![0; left.min(PIECE as u64) as usize];
    while left > 0 {
        let piece = piece.get_mut(..left.min(PIECE as u64) as usize).unwrap_or_default();
        part.read_exact(piece).map_err(failed)?;
        out.write_all(piece)?;
        left -= piece.len() as u64;
    }
    Ok(part.length())
}

/// Puts tensors where the placement says.
pub(super) struct Placer<'a, 'p> {
    document: &'a OnnxDocument,
    placement: &'p Placement,
    spread: Spread,
    pub(super) outside: Outside<'a>,
}

impl<'a, 'p> Placer<'a, 'p> {
    pub(super) fn new(document: &'a OnnxDocument, placement: &'p Placement, spread: Spread) -> Self {
        Self { document, placement, spread, outside: Outside::default() }
    }

    /// A new initializer, as a field of the graph.
    pub(super) fn initializer(&mut self, name: &str, tensor: &Arc<Tensor>) -> Piece<'a> {
        let length = raw_len(tensor);
        if length < SMALL {
            return Piece::encoded(emit::initializer(name, tensor));
        }
        if self.spread >= Spread::NewOutside {
            let offset = self.outside.add(Chunk::Tensor(Arc::clone(tensor)), length as u64);
            let mut proto = tensor_head(name, tensor);
            proto.external_data = external_entries(&self.placement.data_name, offset, length as u64);
            proto.data_location = Some(DataLocation::External.into());
            return Piece::encoded(bytes_field(GRAPH_INITIALIZER, &proto.encode_to_vec()));
        }
        let head = tensor_head(name, tensor).encode_to_vec();
        let tensor = Arc::clone(tensor);
        emit::streamed_initializer(&head, TENSOR_RAW_DATA, length, move |out| write_raw(&tensor, out))
    }

    /// Edits the initializers of the source that stay, `is_kept` by their names, where their elements move.
    ///
    /// # Errors
    /// If a tensor that moves cannot be read, or stands where references cannot be edited.
    pub(super) fn move_kept(&mut self, body: &mut Splice<'a>, is_kept: impl Fn(&str) -> bool) -> Result<(), OnnxError> {
        let document = self.document;
        if !self.placement.beside_source {
            refuse_nested(document)?;
        }
        for head in document.initializers().iter().filter(|h| is_kept(&h.name)) {
            let moved = match &head.external {
                Some(_) if self.placement.beside_source => {
                    self.outside.referenced = self.outside.referenced.saturating_add(head.external_bytes());
                    None
                }
                Some(range) => Some(self.copied(range, &head.name)?),
                None if self.spread == Spread::AllOutside => self.moved_out(head.field)?,
                None => None,
            };
            let Some((offset, length)) = moved else { continue };
            let (mut message, fields) = document.initializer_splice(head.field)?;
            let replaced = [TENSOR_RAW_DATA, TENSOR_EXTERNAL_DATA, TENSOR_DATA_LOCATION];
            for (index, _) in fields.iter().enumerate().filter(|(_, f)| replaced.contains(&f.number())) {
                message.remove(index)?;
            }
            let entries = external_entries(&self.placement.data_name, offset, length);
            let mut added: Vec<u8> =
                entries.iter().flat_map(|e| bytes_field(TENSOR_EXTERNAL_DATA, &e.encode_to_vec())).collect();
            added.extend(varint_field(TENSOR_DATA_LOCATION, DataLocation::External as u64));
            message.append(Piece::encoded(added));
            body.replace_body(head.field, message)?;
        }
        Ok(())
    }

    fn copied(&mut self, range: &ExternalRange, name: &str) -> Result<(u64, u64), OnnxError> {
        let path = self.document.source().path();
        let length = match range.open(path) {
            Ok(part) => part.length(),
            Err(cause) => {
                let location = Location::item(path, format!("initializer `{name}`"));
                return Err(OnnxError::External { location: Box::new(location), cause: Box::new(cause) });
            }
        };
        Ok((self.outside.add(Chunk::Copy(path, range.clone()), length), length))
    }

    /// Moves the raw elements of an initializer out of the model, unless they are few or not raw.
    fn moved_out(&mut self, field: usize) -> Result<Option<(u64, u64)>, OnnxError> {
        let (_, fields) = self.document.initializer_splice(field)?;
        let raw: Vec<Range<usize>> =
            fields.iter().filter(|f| f.number() == TENSOR_RAW_DATA).map(|f| f.payload()).collect();
        let [raw] = raw.as_slice() else { return Ok(None) };
        let bytes = self.document.source().bytes().get(raw.clone()).unwrap_or_default();
        if bytes.len() < SMALL {
            return Ok(None);
        }
        let length = bytes.len() as u64;
        Ok(Some((self.outside.add(Chunk::Source(bytes), length), length)))
    }
}

/// Tensors of nodes and nested graphs keep their references, which mean nothing in another folder.
fn refuse_nested(document: &OnnxDocument) -> Result<(), OnnxError> {
    document.nested_external_data(&mut |item, _, range| {
        let cause =
            format!("has external data in `{}`, which an output in another folder cannot refer to", range.location);
        let hint = Some("write the output into the folder of the model");
        Err(OnnxError::Unsupported { location: Box::new(Location::item(document.source().path(), item)), cause, hint })
    })
}
