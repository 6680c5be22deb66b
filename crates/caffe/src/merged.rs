//! A network written back with the layers that were folded: normalizations, scales and biases are part of the
//! convolutions and inner products before them, and whatever was not folded stays byte for byte as it was.
//!
//! The quantization file speaks of the folded weights, so its runtime needs this network. What folds is decided by
//! passes over the graph; here the graph is only compared with the document.
//!
//! | room | what lives there |
//! |---|---|
//! | `changes` | which layers are gone and which have other weights |
//! | `text` | edits of the prototxt |
//! | `blobs` | edits of the caffemodel |

mod blobs;
mod changes;
#[cfg(test)]
mod tests;
mod text;

use crate::document::CaffeDocument;
use crate::error::CaffeError;
use quantize_document::{Splice, TextSplice};
use quantize_ir::Graph;
use std::sync::Arc;

/// The two files of a network with folded layers, as edits over the files it was read from.
#[derive(Debug, Clone)]
pub struct MergedModel<'a> {
    prototxt: TextSplice<'a>,
    caffemodel: Splice<'a>,
    vanished: Vec<&'a str>,
}

impl<'a> MergedModel<'a> {
    /// The description.
    pub fn prototxt(&self) -> &TextSplice<'a> {
        &self.prototxt
    }

    /// The weights.
    pub fn caffemodel(&self) -> &Splice<'a> {
        &self.caffemodel
    }

    /// Names of the layers that are part of others now, in file order.
    pub fn vanished(&self) -> &[&'a str] {
        &self.vanished
    }

    /// Whether nothing was folded, so that both files are the original ones.
    pub fn is_unchanged(&self) -> bool {
        self.prototxt.is_unchanged() && self.caffemodel.is_unchanged()
    }
}

/// Writes `graph` back, which was imported from `document` and in which layers were folded since: a layer without a
/// node is gone, and constants that a pass made for a convolution or an inner product are its new weights, `float32`
/// in the shape that the file has.
///
/// A layer takes over the result of the last layer folded into it, and loses `bias_term` where it has a bias now.
/// Layers that only the caffemodel has stay in it.
///
/// # Errors
/// If a weight cannot be read; if a layer was folded in part; if folded weights are shared with a layer that was not
/// folded the same way.
pub fn merged<'a>(document: &'a Arc<CaffeDocument>, graph: &Graph) -> Result<MergedModel<'a>, CaffeError> {
    let changes = changes::find(document, graph)?;
    let names = changes.vanished.iter().filter_map(|index| document.layers().get(*index));
    Ok(MergedModel {
        prototxt: text::edit(document, &changes)?,
        caffemodel: blobs::edit(document, &changes)?,
        vanished: names.map(|layer| layer.name.as_str()).collect(),
    })
}
