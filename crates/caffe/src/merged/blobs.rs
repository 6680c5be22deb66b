//! Edits of the caffemodel: numbers of changed blobs, biases that are new, and layers that are gone.

use super::changes::{BIAS, Changes, NewBlobs, refusal};
use crate::document::CaffeDocument;
use crate::error::CaffeError;
use crate::weights::{
    BLOB_DATA, BLOB_DOUBLE_DATA, BLOB_LEGACY, BLOB_SHAPE, FORMER_BLOBS, LAYER_BLOBS, NET_LAYERS, SHAPE_DIM, StoredBlob,
    StoredLayer, StoredShape, Weights,
};
use quantize_document::{Field, MessageIndex, Piece, Splice, encode};
use quantize_ir::{GraphError, Tensor};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub(super) fn edit<'a>(document: &'a CaffeDocument, changes: &Changes) -> Result<Splice<'a>, CaffeError> {
    let weights = document.weights();
    let edits = Edits::of(document, changes)?;
    let mut file = Splice::new(weights.source().bytes(), weights.message())?;
    for (index, stored) in weights.layers().iter().enumerate() {
        if edits.removed.contains(&index) {
            file.remove(stored.field)?;
        } else if edits.touches(index, stored) {
            file.replace_body(stored.field, layer(document, index, stored, &edits)?)?;
        }
    }
    Ok(file)
}

/// What changes in the file.
#[derive(Debug, Default)]
struct Edits {
    /// Stored layers that go.
    removed: BTreeSet<usize>,
    /// New numbers by blob of the file.
    numbers: BTreeMap<usize, Arc<Tensor>>,
    /// New biases by stored layer.
    biases: BTreeMap<usize, Arc<Tensor>>,
}

/// What a layer needs of a blob: its new numbers, or the old ones.
struct Need<'c> {
    layer: usize,
    new: Option<&'c Arc<Tensor>>,
}

impl Edits {
    fn of(document: &CaffeDocument, changes: &Changes) -> Result<Self, CaffeError> {
        let mut edits = Self { removed: removed(document, changes), ..Self::default() };
        for (blob, need) in needs(document, changes)? {
            let gone = |index: &usize| {
                document.weights().layers().get(*index).is_some_and(|stored| stored.blobs.contains(&blob))
            };
            if let Some(owner) = edits.removed.iter().find(|index| gone(index)) {
                let owner = document.weights().layers().get(*owner).map_or("", |stored| stored.name.as_str());
                let cause = format!("it shares weights with `{owner}`, which is folded");
                return Err(refusal(document, need.layer, cause));
            }
            edits.numbers.extend(need.new.map(|tensor| (blob, Arc::clone(tensor))));
        }
        for (index, new) in &changes.weights {
            edits.store_copies(document, *index, new);
            if changes.gains_bias(document, *index) {
                edits.store_bias(document, *index, new)?;
            }
        }
        Ok(edits)
    }

    /// A layer that shares a blob has a copy of its own in the file too, which Caffe reads.
    fn store_copies(&mut self, document: &CaffeDocument, index: usize, new: &NewBlobs) {
        let layer = document.layers().get(index);
        let Some(stored) = layer.and_then(|layer| document.weights().layer_named(&layer.name)) else { return };
        for (slot, tensor) in new {
            self.numbers.extend(stored.blobs.clone().nth(*slot).map(|blob| (blob, Arc::clone(tensor))));
        }
    }

    fn store_bias(&mut self, document: &CaffeDocument, index: usize, new: &NewBlobs) -> Result<(), CaffeError> {
        let (Some(layer), Some(bias)) = (document.layers().get(index), new.get(&BIAS)) else { return Ok(()) };
        let stored = document.weights().layers().iter().rposition(|stored| stored.name == layer.name);
        let place = stored.filter(|at| document.weights().layers().get(*at).is_some_and(|s| s.blobs.len() == BIAS));
        let Some(place) = place else {
            let cause = "it needs a bias, and its weights are stored with another layer only";
            return Err(refusal(document, index, cause.into()));
        };
        self.biases.insert(place, Arc::clone(bias));
        Ok(())
    }

    fn touches(&self, index: usize, stored: &StoredLayer) -> bool {
        self.biases.contains_key(&index) || self.numbers.range(stored.blobs.clone()).next().is_some()
    }
}

/// Stored layers of the names of vanished layers.
fn removed(document: &CaffeDocument, changes: &Changes) -> BTreeSet<usize> {
    let layers = || document.layers().iter().enumerate();
    let left: BTreeSet<&str> = layers().filter(|(i, _)| !changes.vanished.contains(i)).map(|(_, l)| &*l.name).collect();
    let gone: BTreeSet<&str> = layers().filter(|(i, _)| changes.vanished.contains(i)).map(|(_, l)| &*l.name).collect();
    let stored = document.weights().layers().iter().enumerate();
    stored.filter(|(_, s)| gone.contains(&*s.name) && !left.contains(&*s.name)).map(|(index, _)| index).collect()
}

/// What the remaining layers need of each blob; refuses blobs that are needed in two forms.
fn needs<'c>(document: &CaffeDocument, changes: &'c Changes) -> Result<BTreeMap<usize, Need<'c>>, CaffeError> {
    let mut needs: BTreeMap<usize, Need<'c>> = BTreeMap::new();
    let remaining = document.layers().iter().enumerate().filter(|(index, _)| !changes.vanished.contains(index));
    for (index, layer) in remaining {
        let new = changes.weights.get(&index);
        for (slot, blob) in document.blobs(layer).into_iter().enumerate() {
            let need = Need { layer: index, new: new.and_then(|new| new.get(&slot)) };
            match needs.get(&blob) {
                Some(other) if !same(other.new, need.new) => {
                    let other = document.layers().get(other.layer).map_or("", |layer| layer.name.as_str());
                    let cause = format!("it shares weights with `{other}`, which is not folded the same way");
                    return Err(refusal(document, index, cause));
                }
                Some(_) => {}
                None => {
                    needs.insert(blob, need);
                }
            }
        }
    }
    Ok(needs)
}

fn same(a: Option<&Arc<Tensor>>, b: Option<&Arc<Tensor>>) -> bool {
    let bits = |tensor: &Arc<Tensor>| -> Option<Vec<u32>> {
        Some(tensor.as_slice::<f32>().ok()?.iter().map(|number| number.to_bits()).collect())
    };
    a.map(bits) == b.map(bits)
}

/// A stored layer with new numbers in its blobs, and a new bias behind them.
fn layer<'a>(
    document: &'a CaffeDocument,
    index: usize,
    stored: &StoredLayer,
    edits: &Edits,
) -> Result<Splice<'a>, CaffeError> {
    let weights = document.weights();
    let message = weights.child(weights.message(), stored.field)?;
    let mut body = Splice::new(weights.source().bytes(), message.clone())?;
    for (blob, tensor) in edits.numbers.range(stored.blobs.clone()) {
        let Some(blob) = weights.blobs().get(*blob) else { continue };
        if blob.check() != Ok(tensor.len()) {
            let cause =
                format!("layer `{}` has {} numbers now, its blob {:?}", stored.name, tensor.len(), blob.check());
            return Err(CaffeError::invalid(document.file(), cause));
        }
        body.replace_body(blob.field, changed_blob(weights, &message, blob, &numbers(document, tensor)?)?)?;
    }
    let last = stored.blobs.clone().last().and_then(|blob| weights.blobs().get(blob));
    if let (Some(bias), Some(weight)) = (edits.biases.get(&index), last) {
        let former = weights.message().fields().get(stored.field).is_some_and(|field| field.number() == NET_LAYERS);
        let number = if former { FORMER_BLOBS } else { LAYER_BLOBS };
        let blob = vector_like(&weight.shape, &numbers(document, bias)?);
        body.insert_after(weight.field, Piece::encoded(encode::bytes_field(number, &blob)))?;
    }
    Ok(body)
}

/// The bytes of the numbers of a tensor.
fn numbers(document: &CaffeDocument, tensor: &Tensor) -> Result<Vec<u8>, CaffeError> {
    let broken = |source| CaffeError::Graph {
        file: document.text().source().path().to_owned(),
        source: GraphError::Tensor(source),
    };
    Ok(tensor.as_slice::<f32>().map_err(broken)?.iter().flat_map(|number| number.to_le_bytes()).collect())
}

/// A blob with other numbers in single precision; shape and everything else stays.
fn changed_blob<'a>(
    weights: &'a Weights,
    layer: &MessageIndex,
    blob: &StoredBlob,
    numbers: &[u8],
) -> Result<Splice<'a>, CaffeError> {
    let index = weights.child(layer, blob.field)?;
    let is_data = |field: &Field| matches!(field.number(), BLOB_DATA | BLOB_DOUBLE_DATA);
    let mut old = index.fields().iter().enumerate().filter(|(_, field)| is_data(field)).map(|(position, _)| position);
    let new = Piece::encoded(encode::bytes_field(BLOB_DATA, numbers));
    let mut body = Splice::new(weights.source().bytes(), index.clone())?;
    match old.next() {
        Some(first) => body.replace(first, new)?,
        None => body.append(new),
    }
    // Numbers may also stand one by one.
    old.try_for_each(|position| body.remove(position))?;
    Ok(body)
}

/// A blob along one axis, its shape written as `shape` is.
fn vector_like(shape: &StoredShape, numbers: &[u8]) -> Vec<u8> {
    let count = (numbers.len() / size_of::<f32>()) as u64;
    let mut blob = match shape {
        StoredShape::Legacy(_) => {
            let axes = [1, 1, 1, count];
            BLOB_LEGACY.iter().zip(axes).flat_map(|(number, axis)| encode::varint_field(*number, axis)).collect()
        }
        StoredShape::Exact(_) | StoredShape::Broken => {
            let mut dims = Vec::new();
            encode::varint(&mut dims, count);
            encode::bytes_field(BLOB_SHAPE, &encode::bytes_field(SHAPE_DIM, &dims))
        }
    };
    blob.extend(encode::bytes_field(BLOB_DATA, numbers));
    blob
}
