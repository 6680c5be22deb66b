//! Reading: from the document to the framework-neutral graph.
//!
//! The import never fails on a layer type it does not know: that becomes [`Op::Opaque`] with the right wiring. It fails
//! on a network that contradicts itself or its weights, and then names the layer. Layers that work in place write new
//! values: the last write of a blob has the blob's name, an earlier one is `<blob>@<layer>`. Constants stay in the
//! document until someone reads them.

use crate::document::CaffeDocument;
use crate::error::CaffeError;
use crate::input::{self, NetInput};
use crate::layers::{self, Fault, LayerBuilder};
use crate::net::Layer;
use quantize_document::{Location, Problem};
use quantize_ir::op::Opaque;
use quantize_ir::{DType, Dim, DocId, Graph, GraphError, Node, Op, Origin, Value, ValueId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Pass name of what the front-end adds.
pub(crate) const FRONTEND: &str = "caffe front-end";

/// Operator set of layers without shared semantics.
const DOMAIN: &str = "caffe";

/// What an input that the header of the file names counts as written by.
const HEADER: &str = "input";

/// Imports a document. The node of a layer's main operator has the layer's name and stems from the layer; nodes beside
/// it are called `<layer>/<part>`. Shapes are those of the network with an unknown batch; types are `float32`.
///
/// # Errors
/// If a layer reads a blob that nothing writes, has a parameter that makes no sense, or does not fit its input or its
/// weights; if weights are missing.
pub fn import(document: &Arc<CaffeDocument>) -> Result<(Graph, Vec<Problem>), CaffeError> {
    let mut importer = Importer {
        document,
        graph: Graph::new(),
        latest: BTreeMap::new(),
        writes: Vec::new(),
        read: BTreeSet::new(),
        inputs: Vec::new(),
        problems: document.problems().to_vec(),
    };
    importer.feed(None)?;
    for (index, layer) in document.layers().iter().enumerate() {
        if input::is_source(layer) {
            importer.feed(Some(index))?;
        } else {
            importer.layer(index, layer)?;
        }
    }
    importer.name_values();
    importer.declare()?;
    Ok((importer.graph, importer.problems))
}

/// A value that was given to a blob.
struct Write {
    blob: String,
    layer: String,
    value: ValueId,
    fed: bool,
}

struct Importer<'d> {
    document: &'d Arc<CaffeDocument>,
    graph: Graph,
    /// The value each blob has at this place in the file.
    latest: BTreeMap<String, ValueId>,
    /// In file order.
    writes: Vec<Write>,
    read: BTreeSet<ValueId>,
    inputs: Vec<ValueId>,
    problems: Vec<Problem>,
}

impl Importer<'_> {
    /// Adds the inputs that a layer, or the header, stands for.
    fn feed(&mut self, layer: Option<usize>) -> Result<(), CaffeError> {
        let document = self.document;
        for input in document.inputs().iter().filter(|input| input.layer == layer) {
            let layer = input.layer.and_then(|index| document.layers().get(index));
            if self.latest.contains_key(&input.blob) {
                let location = layer.map_or_else(|| document.file(), |layer| document.location(layer));
                let cause = format!("the blob `{}` is an input, and there before", input.blob);
                return Err(CaffeError::invalid(location, cause));
            }
            let value = self.graph.add_value(fed(input));
            self.inputs.push(value);
            let layer = layer.map_or(HEADER, |layer| &layer.name).to_owned();
            self.latest.insert(input.blob.clone(), value);
            self.writes.push(Write { blob: input.blob.clone(), layer, value, fed: true });
        }
        Ok(())
    }

    fn layer(&mut self, index: usize, layer: &Layer) -> Result<(), CaffeError> {
        let inputs = self.bottoms(layer)?;
        self.check_tops(layer)?;
        let id = DocId(u32::try_from(index).unwrap_or(u32::MAX));
        let mut builder = LayerBuilder::new(self.document, layer, id, &mut self.graph, inputs.clone());
        let cause = match layers::read(&mut builder) {
            None => format!("the type {} is not known", layer.kind),
            Some(Ok(())) => {
                let (nodes, results) = builder.finish();
                nodes.into_iter().try_for_each(|node| self.add(node))?;
                return self.write(id, layer, &inputs, results);
            }
            Some(Err(Fault::Form(cause))) => format!("{}: {cause}", layer.kind),
            Some(Err(Fault::Field(error))) => {
                let location = Location { field: Some(error.field), ..self.document.location(layer) };
                return Err(CaffeError::invalid(location, error.cause));
            }
            Some(Err(Fault::Invalid { cause, hint })) => {
                let error = CaffeError::invalid(self.document.location(layer), cause);
                return Err(match hint {
                    Some(hint) => error.with_hint(hint),
                    None => error,
                });
            }
        };
        let message = format!("{cause}; the layer is carried as it is");
        self.problems.push(Problem::of_layer(&layer.name, message));
        self.opaque(id, layer, inputs)
    }

    /// The values a layer reads.
    fn bottoms(&self, layer: &Layer) -> Result<Vec<ValueId>, CaffeError> {
        let value = |bottom: &String| {
            self.latest.get(bottom).copied().ok_or_else(|| {
                let cause = format!("it reads the blob `{bottom}`, which nothing before it writes");
                CaffeError::invalid(self.document.location(layer), cause)
                    .with_hint("the layer that writes it is missing, comes later, or is of another phase")
            })
        };
        layer.bottoms.iter().map(value).collect()
    }

    /// Only a layer that works in place may write a blob that is there.
    fn check_tops(&self, layer: &Layer) -> Result<(), CaffeError> {
        let taken = |top: &String| self.latest.contains_key(top) && !layer.bottoms.contains(top);
        let mut own = BTreeSet::new();
        let mut wrong = None;
        for top in &layer.tops {
            if taken(top) || !own.insert(top) {
                wrong = Some(top);
            }
        }
        match wrong {
            None => Ok(()),
            Some(top) => {
                let cause = format!("it writes the blob `{top}`, which is there before, and does not read it");
                Err(CaffeError::invalid(self.document.location(layer), cause))
            }
        }
    }

    fn add(&mut self, node: Node) -> Result<(), CaffeError> {
        self.graph.add_node(node).map(|_| ()).map_err(|source| self.broken(source))
    }

    fn broken(&self, source: GraphError) -> CaffeError {
        CaffeError::Graph { file: self.document.text().source().path().to_owned(), source }
    }

    /// Gives the results of a layer to its blobs. A result that is what the layer reads is a new value, unless it stays
    /// in its blob.
    fn write(&mut self, id: DocId, layer: &Layer, inputs: &[ValueId], results: Vec<ValueId>) -> Result<(), CaffeError> {
        let mut stays = BTreeSet::new();
        for (position, (top, mut value)) in layer.tops.iter().zip(results).enumerate() {
            if inputs.contains(&value) {
                if self.latest.get(top) == Some(&value) {
                    stays.insert(value);
                    continue;
                }
                value = self.pass_on(id, layer, position, value)?;
            }
            self.latest.insert(top.clone(), value);
            self.writes.push(Write { blob: top.clone(), layer: layer.name.clone(), value, fed: false });
        }
        // A layer that leaves a value where it is does not read it.
        self.read.extend(inputs.iter().filter(|value| !stays.contains(*value)));
        Ok(())
    }

    /// A node that passes `value` on, for the result in `position`.
    fn pass_on(&mut self, id: DocId, layer: &Layer, position: usize, value: ValueId) -> Result<ValueId, CaffeError> {
        let mut result = Value::named(&layer.name);
        result.dtype = Some(DType::F32);
        result.shape = self.graph.value(value).shape.clone();
        let result = self.graph.add_value(result);
        let (name, origin) = match position {
            0 => (layer.name.clone(), Origin::Source(id)),
            n => (format!("{}/{n}", layer.name), Origin::Synthesized { pass: FRONTEND, from: vec![id] }),
        };
        let (inputs, outputs) = (vec![Some(value)], vec![Some(result)]);
        self.add(Node { name, op: Op::Identity, inputs, outputs, after: Vec::new(), origin })?;
        Ok(result)
    }

    /// The layer as an operator without shared semantics: its blobs and its weights are its operands.
    fn opaque(&mut self, id: DocId, layer: &Layer, inputs: Vec<ValueId>) -> Result<(), CaffeError> {
        let blobs = LayerBuilder::new(self.document, layer, id, &mut self.graph, Vec::new()).all_blobs();
        let operands = inputs.iter().chain(&blobs).map(|value| Some(*value)).collect();
        let mut results = Vec::with_capacity(layer.tops.len());
        for top in &layer.tops {
            let mut value = Value::named(top);
            value.dtype = Some(DType::F32);
            results.push(self.graph.add_value(value));
        }
        let op = Op::Opaque(Opaque { domain: DOMAIN.into(), kind: layer.kind.clone() });
        let outputs = results.iter().map(|value| Some(*value)).collect();
        let (name, origin) = (layer.name.clone(), Origin::Source(id));
        self.add(Node { name, op, inputs: operands, outputs, after: Vec::new(), origin })?;
        self.write(id, layer, &inputs, results)
    }

    /// Names every value that was given to a blob.
    fn name_values(&mut self) {
        for Write { blob, layer, value, .. } in &self.writes {
            let last = self.latest.get(blob) == Some(value);
            self.graph.value_mut(*value).name = if last { blob.clone() } else { format!("{blob}@{layer}") };
        }
    }

    /// Declares inputs and outputs: the final values of blobs that no layer reads, in file order.
    fn declare(&mut self) -> Result<(), CaffeError> {
        let is_output = |write: &&Write| {
            !write.fed && self.latest.get(&write.blob) == Some(&write.value) && !self.read.contains(&write.value)
        };
        let outputs: Vec<ValueId> = self.writes.iter().filter(is_output).map(|write| write.value).collect();
        if outputs.is_empty() {
            return Err(CaffeError::invalid(self.document.file(), "the network computes nothing"));
        }
        self.graph.set_inputs(self.inputs.clone());
        self.graph.set_outputs(outputs);
        Ok(())
    }
}

/// An input with any batch.
fn fed(input: &NetInput) -> Value {
    let mut value = Value::named(&input.blob);
    value.dtype = Some(DType::F32);
    let axes = input.shape.iter().skip(1).map(|n| Dim::Known(*n as u64));
    value.shape = Some(std::iter::once(Dim::Unknown).chain(axes).collect());
    value
}
