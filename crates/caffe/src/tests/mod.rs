//! Reading networks: what each module's own tests do not cover.
//!
//! Networks are written as text; weights files are put together field by field.

mod hostile;
mod import;
mod net;
mod weights;

use crate::{CaffeDocument, CaffeError, ReadOptions};
use quantize_document::{Limits, SourceFile, encode};

/// A blob with its shape and numbers, packed.
pub(crate) fn blob(shape: &[u64], data: &[f32]) -> Vec<u8> {
    [encode::bytes_field(7, &encode::bytes_field(1, &packed_varints(shape))), encode::bytes_field(5, &singles(data))]
        .concat()
}

/// A blob whose shape is `num`, `channels`, `height` and `width`.
pub(crate) fn legacy_blob(shape: [u64; 4], data: &[f32]) -> Vec<u8> {
    let mut blob: Vec<u8> = (1..).zip(shape).flat_map(|(number, axis)| encode::varint_field(number, axis)).collect();
    blob.extend(encode::bytes_field(5, &singles(data)));
    blob
}

pub(super) fn packed_varints(values: &[u64]) -> Vec<u8> {
    let mut out = Vec::new();
    values.iter().for_each(|value| encode::varint(&mut out, *value));
    out
}

pub(super) fn singles(data: &[f32]) -> Vec<u8> {
    data.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// A layer of a weights file in the current format.
pub(crate) fn stored(name: &str, blobs: &[Vec<u8>]) -> Vec<u8> {
    let mut layer = encode::bytes_field(1, name.as_bytes());
    layer.extend(encode::bytes_field(2, b"Unrelated"));
    blobs.iter().for_each(|blob| layer.extend(encode::bytes_field(7, blob)));
    encode::bytes_field(100, &layer)
}

/// A layer of a weights file in the former format.
pub(crate) fn stored_former(name: &str, blobs: &[Vec<u8>]) -> Vec<u8> {
    let mut layer = encode::bytes_field(2, b"bottom");
    layer.extend(encode::bytes_field(4, name.as_bytes()));
    blobs.iter().for_each(|blob| layer.extend(encode::bytes_field(6, blob)));
    encode::bytes_field(2, &layer)
}

/// A weights file with a layer that no network has.
pub(super) fn no_weights() -> Vec<u8> {
    stored("loss", &[])
}

pub(crate) fn parse_with(text: &str, weights: Vec<u8>, options: &ReadOptions) -> Result<CaffeDocument, CaffeError> {
    let prototxt = SourceFile::from_bytes("net.prototxt", text.as_bytes().to_vec());
    let caffemodel = SourceFile::from_bytes("net.caffemodel", weights);
    CaffeDocument::parse(prototxt, caffemodel, &Limits::default(), options)
}

pub(super) fn parse(text: &str) -> Result<CaffeDocument, CaffeError> {
    parse_with(text, no_weights(), &ReadOptions::default())
}
