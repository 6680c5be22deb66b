//! The source document: a network's description and the index of its weights, matched by layer name.
//!
//! Document ids: layer `i` of [`CaffeDocument::layers`] is `i`.

use crate::error::CaffeError;
use crate::input::NetInput;
use crate::net::{self, Layer, ReadOptions};
use crate::weights::{StoredLayer, Weights};
use quantize_document::{Limits, Location, Problem, SourceFile, TextDocument};
use quantize_ir::{Constant, ConstantSource, DocId, Tensor};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// First bytes of a file in HDF5.
const HDF5: &[u8] = b"\x89HDF\r\n\x1a\n";

/// A network: its prototxt as a tree and its caffemodel as an index.
pub struct CaffeDocument {
    text: TextDocument,
    weights: Weights,
    name: String,
    layers: Vec<Layer>,
    inputs: Vec<NetInput>,
    problems: Vec<Problem>,
    /// The blob behind each name under which layers share blobs.
    shared: BTreeMap<String, usize>,
}

impl fmt::Debug for CaffeDocument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CaffeDocument({}, {} layers)", self.text.source().path().display(), self.layers.len())
    }
}

impl CaffeDocument {
    /// Reads the description of a network and indexes its weights.
    ///
    /// Of the description, what belongs to phase TEST at level 0 without stages is kept; layers of the former format
    /// (V1) are upgraded; labels of data layers are left out together with all layers that need them. Fields that
    /// are not known are ignored.
    ///
    /// # Errors
    /// If a file is not in its format, a field has a value that makes no sense, there is no input, nothing states its
    /// shape, or `options` contradict it.
    pub fn parse(
        prototxt: SourceFile,
        caffemodel: SourceFile,
        limits: &Limits,
        options: &ReadOptions,
    ) -> Result<Self, CaffeError> {
        let text = TextDocument::parse(prototxt, limits)?;
        let net = net::read(&text, options)?;
        let weights = weights(caffemodel, limits)?;
        let mut document = Self {
            text,
            weights,
            name: net.name,
            layers: net.layers,
            inputs: net.inputs,
            problems: net.problems,
            shared: BTreeMap::new(),
        };
        document.shared = document.shared_blobs();
        document.check_names()?;
        Ok(document)
    }

    /// The first blob of each shared name.
    fn shared_blobs(&self) -> BTreeMap<String, usize> {
        let mut shared = BTreeMap::new();
        for layer in &self.layers {
            let Some(stored) = self.weights.layer_named(&layer.name) else { continue };
            for (name, blob) in layer.shared_names().into_iter().zip(stored.blobs.clone()) {
                if let Some(name) = name {
                    shared.entry(name).or_insert(blob);
                }
            }
        }
        shared
    }

    /// Weights are found by name, so no two layers with weights may have the same.
    fn check_names(&self) -> Result<(), CaffeError> {
        let mut seen: BTreeMap<&str, &Layer> = BTreeMap::new();
        for layer in &self.layers {
            let stored = self.weights.layer_named(&layer.name).is_some_and(|stored| !stored.blobs.is_empty());
            match seen.insert(&layer.name, layer) {
                Some(other) if stored => {
                    let line = self.text.line(other.span.start);
                    let cause = format!("the layer in line {line} has the same name, and weights are found by name");
                    return Err(CaffeError::invalid(self.location(layer), cause));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Name of the network; may be empty.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The description: the tree of the prototxt.
    pub fn text(&self) -> &TextDocument {
        &self.text
    }

    /// The index of the caffemodel.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// The layers of the network, in file order.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The layer a document id stands for.
    pub fn layer(&self, id: DocId) -> Option<&Layer> {
        self.layers.get(usize::try_from(id.0).ok()?)
    }

    /// The blobs that the caller feeds.
    pub fn inputs(&self) -> &[NetInput] {
        &self.inputs
    }

    /// What reading noticed.
    pub(crate) fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The blobs of a layer, as indices into [`Weights::blobs`]: its own, or those it shares under a name.
    pub fn blobs(&self, layer: &Layer) -> Vec<usize> {
        let own = self.weights.layer_named(&layer.name).map_or(0..0, |stored: &StoredLayer| stored.blobs.clone());
        let names = layer.shared_names();
        let blob = |i: usize| {
            let shared = names.get(i).and_then(Option::as_ref).and_then(|name| self.shared.get(name));
            shared.copied().or_else(|| own.clone().nth(i))
        };
        (0..own.len().max(names.len())).map_while(blob).collect()
    }

    /// Whether a layer has a blob that another layer has too.
    pub fn shares_blobs(&self, layer: &Layer) -> bool {
        let blobs = self.blobs(layer);
        let others = self.layers.iter().filter(|other| other.name != layer.name);
        others.flat_map(|other| self.blobs(other)).any(|blob| blobs.contains(&blob))
    }

    /// The numbers of a blob under `shape`, to be read when someone needs them.
    pub(crate) fn constant(self: &Arc<Self>, blob: usize, shape: Vec<usize>, name: String) -> Constant {
        let key = u32::try_from(blob).unwrap_or(u32::MAX);
        let source = Arc::new(BlobSource { document: Arc::clone(self), shape: shape.clone(), name });
        Constant::Stored { source, key, shape }
    }

    /// Where a layer stands.
    pub(crate) fn location(&self, layer: &Layer) -> Location {
        net::location(&self.text, layer, None)
    }

    /// The place of the whole description.
    pub(crate) fn file(&self) -> Location {
        Location::file(self.text.source().path())
    }
}

fn weights(caffemodel: SourceFile, limits: &Limits) -> Result<Weights, CaffeError> {
    let location = Location::file(caffemodel.path());
    if caffemodel.bytes().starts_with(HDF5) {
        return Err(CaffeError::unsupported(location, "the weights are in HDF5, which is not read")
            .with_hint("save them as a binary caffemodel with Caffe"));
    }
    let weights = Weights::index(caffemodel, limits)?;
    if weights.layers().is_empty() {
        return Err(CaffeError::invalid(location, "the file has no layers").with_hint("is this a caffemodel?"));
    }
    if weights.is_oldest(limits) {
        return Err(CaffeError::unsupported(location, "the weights are in the oldest format (V0), which is not read")
            .with_hint("upgrade the file with Caffe's tool `upgrade_net_proto_binary`"));
    }
    Ok(weights)
}

/// Reads blobs of a document under a shape of fewer axes than the stored one may have.
struct BlobSource {
    document: Arc<CaffeDocument>,
    shape: Vec<usize>,
    name: String,
}

impl fmt::Debug for BlobSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "blob `{}` of {:?}", self.name, self.document)
    }
}

/// Messages name file and blob.
impl ConstantSource for BlobSource {
    fn read(&self, key: u32) -> Result<Tensor, String> {
        let weights = &self.document.weights;
        let about = |cause: String| format!("{}: blob `{}`: {cause}", weights.source().path().display(), self.name);
        let numbers = weights.read(usize::try_from(key).unwrap_or(usize::MAX)).map_err(about)?;
        Tensor::new(self.shape.clone(), numbers).map_err(|error| about(error.to_string()))
    }
}
