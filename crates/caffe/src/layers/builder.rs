//! What a layer type needs to become nodes: its parameters, the blobs it reads, its weights, and places to put nodes.
//!
//! Nodes are put into the graph only when the whole layer was read, so a layer that turns out to be of a form without
//! shared semantics leaves nothing behind but unused constants.

use crate::document::CaffeDocument;
use crate::frontend::FRONTEND;
use crate::net::Layer;
use crate::params::{FieldError, Params};
use quantize_ir::{Constant, DType, Dim, DocId, Graph, Node, Op, Origin, Shape, Tensor, Value, ValueId};
use std::sync::Arc;

/// Why a layer of a known type cannot be read as that type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The type exists, but not in this form in the shared operator set: the layer is carried as it is.
    Form(String),
    /// A parameter makes no sense.
    Field(FieldError),
    /// The layer contradicts its input or its weights.
    Invalid {
        /// What is wrong.
        cause: String,
        /// What to do about it.
        hint: Option<&'static str>,
    },
}

impl From<FieldError> for Fault {
    fn from(error: FieldError) -> Self {
        Self::Field(error)
    }
}

impl Fault {
    pub(crate) fn form(cause: impl Into<String>) -> Self {
        Self::Form(cause.into())
    }

    pub(crate) fn invalid(cause: impl Into<String>) -> Self {
        Self::Invalid { cause: cause.into(), hint: None }
    }
}

/// What to do about weights that do not fit.
const OTHER_NETWORK: &str = "the prototxt and the caffemodel are of different networks or versions";
/// What to do about weights that are missing.
const NOT_THERE: &str =
    "weights are found by layer name: the layer was renamed, or the caffemodel is of another network";
/// What to do about weights in half precision.
const SINGLE: &str = "save the network again with its weights in single precision";
/// What to do about a number of blobs that does not fit.
const BIAS_TERM: &str = "the prototxt and the caffemodel differ, often in `bias_term`";

/// A layer on its way into the graph.
pub(crate) struct LayerBuilder<'a> {
    document: &'a Arc<CaffeDocument>,
    layer: &'a Layer,
    id: DocId,
    graph: &'a mut Graph,
    inputs: Vec<ValueId>,
    blobs: Vec<usize>,
    nodes: Vec<Node>,
    results: Vec<ValueId>,
}

impl<'a> LayerBuilder<'a> {
    pub(crate) fn new(
        document: &'a Arc<CaffeDocument>,
        layer: &'a Layer,
        id: DocId,
        graph: &'a mut Graph,
        inputs: Vec<ValueId>,
    ) -> Self {
        let blobs = document.blobs(layer);
        Self { document, layer, id, graph, inputs, blobs, nodes: Vec::new(), results: Vec::new() }
    }

    /// The nodes, and the value of each result.
    pub(crate) fn finish(self) -> (Vec<Node>, Vec<ValueId>) {
        (self.nodes, self.results)
    }

    /// The parameters in the message `name`.
    pub(crate) fn params(&self, name: &'static str) -> Result<Params<'a>, Fault> {
        Ok(Params::of(&self.layer.params, name)?)
    }

    /// Name of the layer's type.
    pub(crate) fn kind(&self) -> &'a str {
        &self.layer.kind
    }

    /// The values the layer reads.
    pub(crate) fn inputs(&self) -> &[ValueId] {
        &self.inputs
    }

    /// The value the layer reads first.
    pub(crate) fn x(&self) -> Result<ValueId, Fault> {
        self.input(0)
    }

    pub(crate) fn input(&self, slot: usize) -> Result<ValueId, Fault> {
        self.inputs.get(slot).copied().ok_or_else(|| Fault::invalid(format!("it reads no blob {slot}")))
    }

    /// Number of blobs the layer reads.
    pub(crate) fn bottoms(&self) -> usize {
        self.layer.bottoms.len()
    }

    /// Number of blobs the layer writes.
    pub(crate) fn tops(&self) -> usize {
        self.layer.tops.len()
    }

    /// What is known of the shape of a value.
    pub(crate) fn shape(&self, value: ValueId) -> Option<Shape> {
        self.graph.value(value).shape.clone()
    }

    /// The shape of a value the form of the layer depends on.
    pub(crate) fn known_shape(&self, value: ValueId) -> Result<Shape, Fault> {
        self.shape(value).ok_or_else(|| Fault::form("the shape of what it reads is not known"))
    }

    /// The blob a slot reads and its shape, for messages.
    pub(crate) fn describe(&self, slot: usize) -> String {
        let name = self.layer.bottoms.get(slot).map_or("", String::as_str);
        let shape = self.inputs.get(slot).and_then(|value| self.shape(*value));
        let shape = shape.map_or_else(|| "of unknown shape".into(), |shape| format!("of shape {}", describe(&shape)));
        format!("`{name}` {shape}")
    }

    /// The node of the layer's main operator.
    pub(crate) fn main(&mut self, op: Op, inputs: &[ValueId], shape: Option<Shape>) -> ValueId {
        let origin = Origin::Source(self.id);
        self.node(self.layer.name.clone(), origin, op, inputs, shape)
    }

    /// A node beside the main one.
    pub(crate) fn helper(&mut self, part: &str, op: Op, inputs: &[ValueId], shape: Option<Shape>) -> ValueId {
        let origin = self.synthesized();
        self.node(self.part(part), origin, op, inputs, shape)
    }

    fn node(&mut self, name: String, origin: Origin, op: Op, inputs: &[ValueId], shape: Option<Shape>) -> ValueId {
        let output = self.value(name.clone(), shape);
        let inputs = inputs.iter().map(|value| Some(*value)).collect();
        self.nodes.push(Node { name, op, inputs, outputs: vec![Some(output)], after: Vec::new(), origin });
        output
    }

    /// The node of the layer's main operator, with a result for each shape.
    pub(crate) fn main_with_results(&mut self, op: Op, inputs: &[ValueId], shapes: Vec<Option<Shape>>) -> Vec<ValueId> {
        let name = self.layer.name.clone();
        let outputs: Vec<ValueId> = shapes.into_iter().map(|shape| self.value(name.clone(), shape)).collect();
        let inputs = inputs.iter().map(|value| Some(*value)).collect();
        let results = outputs.iter().map(|value| Some(*value)).collect();
        let origin = Origin::Source(self.id);
        self.nodes.push(Node { name, op, inputs, outputs: results, after: Vec::new(), origin });
        outputs
    }

    fn value(&mut self, name: String, shape: Option<Shape>) -> ValueId {
        let mut value = Value::named(name);
        value.dtype = Some(DType::F32);
        value.shape = shape;
        self.graph.add_value(value)
    }

    /// Says what the layer writes.
    pub(crate) fn set_results(&mut self, results: Vec<ValueId>) {
        self.results = results;
    }

    /// Says that a value holds integers.
    pub(crate) fn set_integer(&mut self, value: ValueId) {
        self.graph.value_mut(value).dtype = Some(DType::I64);
    }

    fn part(&self, part: &str) -> String {
        format!("{}/{part}", self.layer.name)
    }

    fn synthesized(&self) -> Origin {
        Origin::Synthesized { pass: FRONTEND, from: vec![self.id] }
    }

    /// A constant made here.
    pub(crate) fn constant(&mut self, part: &str, tensor: Tensor) -> ValueId {
        let (name, dtype, origin) = (self.part(part), tensor.dtype(), self.synthesized());
        let shape = tensor.shape().iter().map(|n| Dim::Known(*n as u64)).collect();
        let id = self.graph.add_constant(name, Constant::owned(tensor), dtype, origin);
        self.graph.value_mut(id).shape = Some(shape);
        id
    }

    /// A constant list of integers made here.
    pub(crate) fn integers(&mut self, part: &str, list: Vec<i64>) -> ValueId {
        self.constant(part, Tensor::vector(list))
    }

    /// A constant number made here.
    pub(crate) fn scalar(&mut self, part: &str, number: f32) -> ValueId {
        self.constant(part, Tensor::scalar(number))
    }

    /// Number of blobs of weights.
    pub(crate) fn blob_count(&self) -> usize {
        self.blobs.len()
    }

    /// Refuses another number of blobs of weights than `needed`.
    pub(crate) fn need_blobs(&self, needed: usize) -> Result<(), Fault> {
        let found = self.blobs.len();
        if found == needed {
            return Ok(());
        }
        let file = self.document.weights().source().path().display();
        if found == 0 {
            let cause = format!("its weights are missing in {file}");
            return Err(Fault::Invalid { cause, hint: Some(NOT_THERE) });
        }
        let cause = format!("{needed} blobs of weights are needed, {file} has {found}");
        Err(Fault::Invalid { cause, hint: Some(BIAS_TERM) })
    }

    /// Shape of a blob as stored, without the ones that a legacy shape has in front of the last `rank` axes.
    pub(crate) fn stored_shape(&self, index: usize, rank: usize) -> Option<Vec<usize>> {
        let blob = self.document.weights().blobs().get(*self.blobs.get(index)?)?;
        let axes = blob.shape.axes();
        let leading = axes.len().saturating_sub(rank);
        let known = |axes: &[usize]| axes.iter().map(|n| Dim::Known(*n as u64)).collect::<Vec<_>>();
        let short = axes.get(leading..)?;
        if blob.shape.fits(&known(short)) { Some(short.to_vec()) } else { Some(axes.to_vec()) }
    }

    /// The blob in `index` and its shape, if it is one of the `expected` shapes.
    fn checked(&self, index: usize, expected: &[&[Dim]]) -> Result<(usize, Vec<usize>), Fault> {
        let missing = || Fault::Invalid { cause: format!("it has no blob {index}"), hint: Some(NOT_THERE) };
        let key = *self.blobs.get(index).ok_or_else(missing)?;
        let blob = self.document.weights().blobs().get(key).ok_or_else(missing)?;
        let hint = blob.is_raw().then_some(SINGLE);
        blob.check().map_err(|cause| Fault::Invalid { cause: format!("blob {index}: {cause}"), hint })?;
        let fitting = expected.iter().find(|expected| blob.shape.fits(expected));
        let Some(fitting) = fitting else {
            let wanted: Vec<String> = expected.iter().map(|expected| describe(expected)).collect();
            let inputs: Vec<String> = (0..self.inputs.len()).map(|slot| self.describe(slot)).collect();
            let cause = format!(
                "blob {index} has shape {:?}, {} is needed for {}",
                blob.shape.axes(),
                wanted.join(" or "),
                inputs.join(" and "),
            );
            return Err(Fault::Invalid { cause, hint: Some(OTHER_NETWORK) });
        };
        let leading = blob.shape.axes().len().saturating_sub(fitting.len());
        Ok((key, blob.shape.axes().get(leading..).unwrap_or_default().to_vec()))
    }

    /// A blob of weights of shape `expected`; it stays in its file.
    pub(crate) fn blob(&mut self, index: usize, part: &str, expected: &[Dim]) -> Result<ValueId, Fault> {
        let (key, shape) = self.checked(index, &[expected])?;
        Ok(self.stored(key, part, shape))
    }

    /// A blob of weights of one of the `expected` shapes, seen as `shape`; it stays in its file.
    pub(crate) fn blob_as(
        &mut self,
        index: usize,
        part: &str,
        expected: &[&[Dim]],
        shape: impl FnOnce(usize) -> Vec<usize>,
    ) -> Result<ValueId, Fault> {
        let (key, stored) = self.checked(index, expected)?;
        Ok(self.stored(key, part, shape(stored.iter().product())))
    }

    /// The numbers of a blob of one of the `expected` shapes.
    pub(crate) fn numbers(&self, index: usize, expected: &[&[Dim]]) -> Result<Vec<f32>, Fault> {
        let (key, _) = self.checked(index, expected)?;
        self.document.weights().read(key).map_err(|cause| Fault::invalid(format!("blob {index}: {cause}")))
    }

    fn stored(&mut self, key: usize, part: &str, shape: Vec<usize>) -> ValueId {
        let name = self.part(part);
        let dims = shape.iter().map(|n| Dim::Known(*n as u64)).collect();
        let constant = self.document.constant(key, shape, name.clone());
        let id = self.graph.add_constant(name, constant, DType::F32, Origin::Source(self.id));
        self.graph.value_mut(id).shape = Some(dims);
        id
    }

    /// The blobs of weights that hold together, each in its stored shape.
    pub(crate) fn all_blobs(&mut self) -> Vec<ValueId> {
        let blobs = self.document.weights().blobs();
        let keys = self.blobs.iter().enumerate().filter_map(|(index, key)| Some((index, *key, blobs.get(*key)?)));
        let sound = keys.filter(|(_, _, blob)| blob.check().is_ok());
        let found: Vec<_> = sound.map(|(index, key, blob)| (index, key, blob.shape.axes().to_vec())).collect();
        found.into_iter().map(|(index, key, shape)| self.stored(key, &format!("blob_{index}"), shape)).collect()
    }
}

/// A shape for messages; `?` stands for what is not known.
pub(crate) fn describe(shape: &[Dim]) -> String {
    let axis = |dim: &Dim| dim.known().map_or_else(|| "?".to_owned(), |n| n.to_string());
    format!("[{}]", shape.iter().map(axis).collect::<Vec<_>>().join(", "))
}
