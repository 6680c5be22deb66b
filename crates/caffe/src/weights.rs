//! The weights file (caffemodel): where the blobs of each layer lie. Numbers stay in the file until someone reads
//! them, and nothing else of the file is used: its layers are those of training.

use quantize_document::wire::Reading;
use quantize_document::{DocumentError, Field, LimitExceeded, Limits, MessageIndex, SourceFile, WireError, WireType};
use quantize_ir::shape::Dim;
use quantize_ir::tensor::element_count;
use std::collections::BTreeMap;
use std::ops::Range;

/// `NetParameter.layers`, the former format
pub(crate) const NET_LAYERS: u32 = 2;
/// `NetParameter.layer`
const NET_LAYER: u32 = 100;
/// `LayerParameter.name`
const LAYER_NAME: u32 = 1;
/// `LayerParameter.blobs`
pub(crate) const LAYER_BLOBS: u32 = 7;
/// `V1LayerParameter.name`
const FORMER_NAME: u32 = 4;
/// `V1LayerParameter.blobs`
pub(crate) const FORMER_BLOBS: u32 = 6;
/// `V1LayerParameter.layer`, the format before the former
const FORMER_LAYER: u32 = 1;
/// `BlobProto.num`, `channels`, `height` and `width`
pub(crate) const BLOB_LEGACY: [u32; 4] = [1, 2, 3, 4];
/// `BlobProto.data`
pub(crate) const BLOB_DATA: u32 = 5;
/// `BlobProto.shape`
pub(crate) const BLOB_SHAPE: u32 = 7;
/// `BlobProto.double_data`
pub(crate) const BLOB_DOUBLE_DATA: u32 = 8;
/// `BlobProto.raw_data` of NVCaffe
const BLOB_RAW_DATA: u32 = 12;
/// `BlobShape.dim`
pub(crate) const SHAPE_DIM: u32 = 1;

/// Most axes a blob can have (`kMaxBlobAxes`).
pub(crate) const MAX_AXES: usize = 32;

/// A layer of the weights file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredLayer {
    /// Its name.
    pub name: String,
    /// Index of its field in the message of the file.
    pub field: usize,
    /// Its blobs, as indices into [`Weights::blobs`].
    pub blobs: Range<usize>,
}

/// A blob of the weights file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBlob {
    /// Index of its field in the message of its layer.
    pub field: usize,
    /// Its shape as stored.
    pub shape: StoredShape,
    parts: Vec<Range<usize>>,
    kind: Numbers,
}

/// A shape as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoredShape {
    /// `num`, `channels`, `height` and `width`: shapes of fewer axes have ones in front.
    Legacy([usize; 4]),
    /// All axes.
    Exact(Vec<usize>),
    /// Not a shape: negative, or too many axes.
    Broken,
}

/// How the numbers of a blob are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Numbers {
    Single,
    Double,
    /// Half precision, as raw bytes.
    Raw,
}

/// The index of a weights file.
#[derive(Debug, Clone)]
pub struct Weights {
    source: SourceFile,
    limits: Limits,
    message: MessageIndex,
    layers: Vec<StoredLayer>,
    blobs: Vec<StoredBlob>,
    by_name: BTreeMap<String, usize>,
}

impl StoredShape {
    /// The axes as stored.
    pub fn axes(&self) -> &[usize] {
        match self {
            Self::Legacy(axes) => axes,
            Self::Exact(axes) => axes,
            Self::Broken => &[],
        }
    }

    /// Whether a blob of this shape is one of shape `expected`; `Unknown` fits every size.
    pub(crate) fn fits(&self, expected: &[Dim]) -> bool {
        let fits = |(found, expected): (&usize, &Dim)| expected.known().is_none_or(|n| n == *found as u64);
        match self {
            Self::Exact(axes) => axes.len() == expected.len() && axes.iter().zip(expected).all(fits),
            Self::Legacy(axes) => {
                let Some(leading) = axes.len().checked_sub(expected.len()) else { return false };
                let (ones, rest) = axes.split_at(leading);
                ones.iter().all(|n| *n == 1) && rest.iter().zip(expected).all(fits)
            }
            Self::Broken => false,
        }
    }
}

impl StoredBlob {
    /// Whether its numbers are in a form that is not read.
    pub(crate) fn is_raw(&self) -> bool {
        self.kind == Numbers::Raw
    }

    /// Number of elements, or why the blob has none.
    pub(crate) fn check(&self) -> Result<usize, String> {
        if self.shape == StoredShape::Broken {
            return Err("its shape makes no sense".into());
        }
        let count = element_count(self.shape.axes()).map_err(|error| error.to_string())?;
        let width = match self.kind {
            Numbers::Single => 4,
            Numbers::Double => 8,
            Numbers::Raw => return Err(RAW.into()),
        };
        let bytes: usize = self.parts.iter().map(ExactSizeIterator::len).sum();
        if Some(bytes) == count.checked_mul(width) {
            return Ok(count);
        }
        Err(format!("its shape {:?} needs {count} numbers, it has {}", self.shape.axes(), bytes / width))
    }
}

/// What a blob in half precision is refused with.
const RAW: &str = "its numbers are in NVCaffe's half precision (`raw_data`), which is not read";

impl Weights {
    /// Indexes a file. Layers of the former format and of the current one are both read; of several of the same name
    /// the last counts, as in Caffe.
    pub(crate) fn index(source: SourceFile, limits: &Limits) -> Result<Self, DocumentError> {
        let message = source.index(limits)?;
        let (layers, blobs) = (Vec::new(), Vec::new());
        let mut weights = Self { source, limits: *limits, message, layers, blobs, by_name: BTreeMap::new() };
        for index in 0..weights.message.fields().len() {
            let Some(field) = weights.message.fields().get(index).copied() else { break };
            match field.number() {
                NET_LAYER => weights.layer(index, &field, LAYER_NAME, LAYER_BLOBS, limits)?,
                NET_LAYERS => weights.layer(index, &field, FORMER_NAME, FORMER_BLOBS, limits)?,
                _ => {}
            }
        }
        Ok(weights)
    }

    fn layer(
        &mut self,
        index: usize,
        field: &Field,
        name: u32,
        blobs: u32,
        limits: &Limits,
    ) -> Result<(), DocumentError> {
        let layer = child(&self.source, &self.message, field, limits)?;
        let first = self.blobs.len();
        for (position, field) in layer.with_number(blobs) {
            let blob = child(&self.source, &layer, field, limits)?;
            self.blobs.push(self.blob(position, &blob, limits)?);
            self.check(self.blobs.len(), "blobs", field)?;
        }
        let name = layer.with_number(name).filter(|(_, f)| f.wire_type() == WireType::LengthDelimited).last();
        let name = name.map_or(Default::default(), |(_, f)| String::from_utf8_lossy(self.bytes(f.payload())));
        let name = name.into_owned();
        self.by_name.insert(name.clone(), self.layers.len());
        self.layers.push(StoredLayer { name, field: index, blobs: first..self.blobs.len() });
        self.check(self.layers.len(), "layers", field)
    }

    /// Accepts so many items, the last of them in `field`.
    fn check(&self, items: usize, what: &'static str, field: &Field) -> Result<(), DocumentError> {
        let refused = |exceeded: LimitExceeded| {
            let (offset, reading) = (field.whole().start, Reading::Contents(field.number()));
            self.source.locate(WireError { offset, reading, fault: exceeded.into() })
        };
        self.limits.check_items(items, what).map_err(refused)
    }

    fn blob(&self, field: usize, blob: &MessageIndex, limits: &Limits) -> Result<StoredBlob, DocumentError> {
        let shape = self.shape(blob, limits)?;
        let parts = |number: u32, fixed: WireType| -> Vec<Range<usize>> {
            let is_kind = |field: &Field| [WireType::LengthDelimited, fixed].contains(&field.wire_type());
            let holds = |field: &Field| is_kind(field) && !field.payload().is_empty();
            blob.with_number(number).filter(|(_, field)| holds(field)).map(|(_, field)| field.payload()).collect()
        };
        let doubles = parts(BLOB_DOUBLE_DATA, WireType::Fixed64);
        if !doubles.is_empty() {
            return Ok(StoredBlob { field, shape, parts: doubles, kind: Numbers::Double });
        }
        let singles = parts(BLOB_DATA, WireType::Fixed32);
        let raw = singles.is_empty() && !parts(BLOB_RAW_DATA, WireType::LengthDelimited).is_empty();
        let kind = if raw { Numbers::Raw } else { Numbers::Single };
        Ok(StoredBlob { field, shape, parts: singles, kind })
    }

    fn shape(&self, blob: &MessageIndex, limits: &Limits) -> Result<StoredShape, DocumentError> {
        let legacy = BLOB_LEGACY.map(|number| self.last_varint(blob, number));
        if legacy.iter().any(Option::is_some) {
            let axes = legacy.map(|axis| as_axis(axis.unwrap_or(0)));
            let [Some(num), Some(channels), Some(height), Some(width)] = axes else { return Ok(StoredShape::Broken) };
            return Ok(StoredShape::Legacy([num, channels, height, width]));
        }
        let mut axes = Vec::new();
        for (_, field) in blob.with_number(BLOB_SHAPE) {
            let shape = child(&self.source, blob, field, limits)?;
            for (_, dim) in shape.with_number(SHAPE_DIM) {
                let mut bytes = self.bytes(dim.payload());
                while let Some(axis) = next_varint(&mut bytes) {
                    axes.push(axis);
                    if axes.len() > MAX_AXES {
                        return Ok(StoredShape::Broken);
                    }
                }
            }
        }
        let axes: Option<Vec<usize>> = axes.into_iter().map(as_axis).collect();
        Ok(axes.map_or(StoredShape::Broken, StoredShape::Exact))
    }

    fn last_varint(&self, message: &MessageIndex, number: u32) -> Option<u64> {
        let varints = message.with_number(number).filter(|(_, field)| field.wire_type() == WireType::Varint);
        varints.last().and_then(|(_, field)| next_varint(&mut self.bytes(field.payload())))
    }

    fn bytes(&self, range: Range<usize>) -> &[u8] {
        self.source.bytes().get(range).unwrap_or_default()
    }

    /// The file.
    pub fn source(&self) -> &SourceFile {
        &self.source
    }

    /// The fields of the file.
    pub fn message(&self) -> &MessageIndex {
        &self.message
    }

    /// The fields of the message in a field of `parent`.
    pub(crate) fn child(&self, parent: &MessageIndex, field: usize) -> Result<MessageIndex, DocumentError> {
        let fields = parent.fields();
        let missing = DocumentError::NoSuchField { index: field, count: fields.len() };
        child(&self.source, parent, fields.get(field).ok_or(missing)?, &self.limits)
    }

    /// The layers, in file order.
    pub fn layers(&self) -> &[StoredLayer] {
        &self.layers
    }

    /// The blobs of all layers, in file order.
    pub fn blobs(&self) -> &[StoredBlob] {
        &self.blobs
    }

    /// The layer of this name; of several the last.
    pub fn layer_named(&self, name: &str) -> Option<&StoredLayer> {
        self.by_name.get(name).and_then(|index| self.layers.get(*index))
    }

    /// Whether the file is in the oldest format (V0), whose layers are nested in those of the former.
    pub(crate) fn is_oldest(&self, limits: &Limits) -> bool {
        let mut former = self.message.with_number(NET_LAYERS);
        former.any(|(_, field)| {
            let layer = self.message.child(self.source.bytes(), field, limits);
            layer.is_ok_and(|layer| layer.with_number(FORMER_LAYER).next().is_some())
        })
    }

    /// Reads the numbers of a blob, rounded to single precision.
    pub(crate) fn read(&self, blob: usize) -> Result<Vec<f32>, String> {
        let blob = self.blobs.get(blob).ok_or("it does not exist")?;
        let count = blob.check()?;
        let mut numbers = Vec::with_capacity(count);
        for part in &blob.parts {
            let bytes = self.bytes(part.clone());
            match blob.kind {
                Numbers::Single => {
                    numbers.extend(bytes.as_chunks().0.iter().map(|number| f32::from_le_bytes(*number)));
                }
                Numbers::Double => {
                    numbers.extend(bytes.as_chunks().0.iter().map(|number| f64::from_le_bytes(*number) as f32));
                }
                Numbers::Raw => return Err(RAW.into()),
            }
        }
        if numbers.len() == count { Ok(numbers) } else { Err("its numbers are cut off".into()) }
    }
}

fn child(
    source: &SourceFile,
    parent: &MessageIndex,
    field: &Field,
    limits: &Limits,
) -> Result<MessageIndex, DocumentError> {
    parent.child(source.bytes(), field, limits).map_err(|error| source.locate(error))
}

/// The varint at the front of `bytes`, which moves past it.
fn next_varint(bytes: &mut &[u8]) -> Option<u64> {
    let length = bytes.iter().position(|byte| *byte < 0x80)? + 1;
    let (varint, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    let joined = varint.iter().rev().take(10).fold(0u64, |value, byte| value << 7 | u64::from(byte & 0x7f));
    Some(joined)
}

/// A number of elements along an axis; Caffe's are signed 32-bit integers.
fn as_axis(value: u64) -> Option<usize> {
    i32::try_from(value).ok().and_then(|value| usize::try_from(value).ok())
}
