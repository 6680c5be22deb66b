//! Reading: from the indexed document to the framework-neutral graph.
//!
//! The import never fails on an operator it does not know: that becomes [`Op::Opaque`] with the right wiring. It fails
//! on a graph that contradicts itself, and then names the node and the tensor. Constants stay in the document until
//! someone reads them.

use crate::document::{GRAPH_INPUT, GRAPH_OUTPUT, GRAPH_VALUE_INFO, OnnxDocument, normal_domain};
use crate::error::OnnxError;
use crate::expand::{RUNTIME_DOMAIN, expand};
use crate::ops::{self, Known, MAX_READ_ELEMENTS, NodeReader, Read, ReadError};
use crate::tensor::dtype_of;
use crate::types::element_types;
use crate::unpack::{Expansion, Stored, unpack};
use crate::values::ValuesByName;
use quantize_document::Problem;
use quantize_ir::op::Opaque;
use quantize_ir::tensor::element_count;
use quantize_ir::{Constant, ConstantSource, Dim, Graph, Node, Op, Origin, Shape, Tensor, Value, ValueId};
use quantize_proto::onnx::tensor_shape_proto::dimension;
use quantize_proto::onnx::{GraphProto, NodeProto, ValueInfoProto, type_proto};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Pass name of the operands this module adds.
pub(crate) const FRONTEND: &str = "onnx front-end";

/// The oldest opset whose operators are known.
const OLDEST_OPSET: i64 = 6;
/// The newest opset whose operators are known.
const NEWEST_OPSET: i64 = 28;

/// Imports a document.
///
/// # Errors
/// If a message does not decode, a name is defined twice or not at all, a standard operator is used but no version of
/// them imported, a node contradicts the shape of its weight, or the graph has a cycle.
pub fn import(document: &Arc<OnnxDocument>) -> Result<(Graph, Vec<Problem>), OnnxError> {
    let mut importer = Importer {
        document,
        graph: Graph::with_room(document.node_count(), document.item_count()),
        values: ValuesByName::default(),
        matrices: BTreeSet::new(),
        problems: Vec::new(),
        room: document.source().bytes().len(),
    };
    importer.check_opset();
    importer.constants()?;
    importer.inputs()?;
    importer.results()?;
    importer.describe()?;
    (0..document.node_count()).try_for_each(|index| importer.node(index, &document.node(index)?))?;
    importer.outputs()?;
    drop(std::mem::take(&mut importer.values));
    importer.propagate_types()?;
    Ok((importer.graph, importer.problems))
}

struct Importer<'d> {
    document: &'d Arc<OnnxDocument>,
    graph: Graph,
    values: ValuesByName,
    /// Results of operators that always compute a matrix.
    matrices: BTreeSet<ValueId>,
    problems: Vec<Problem>,
    /// Bytes that operands may still take that no node has of its own. In honest files these stand in attributes.
    room: usize,
}

impl Importer<'_> {
    fn problem(&mut self, node: Option<&str>, message: String) {
        self.problems.push(match node {
            Some(node) => Problem::of_node(node, message),
            None => Problem::general(message),
        });
    }

    fn check_opset(&mut self) {
        let opset = self.document.opset();
        if opset > NEWEST_OPSET {
            let message =
                format!("opset {opset} is newer than {NEWEST_OPSET}; operators are read as of {NEWEST_OPSET}");
            self.problem(None, message);
        } else if (1..OLDEST_OPSET).contains(&opset) {
            self.problem(None, format!("opset {opset} is older than {OLDEST_OPSET}; its operators are not known"));
        }
    }

    fn define(&mut self, value: Value, item: impl Fn() -> String) -> Result<ValueId, OnnxError> {
        let name = &value.name;
        if self.find(name).is_some() {
            return Err(self.document.invalid(Some(item()), format!("defines `{name}`, which is defined before")));
        }
        let id = self.graph.add_value(value);
        self.values.add(&self.graph, id);
        Ok(id)
    }

    fn find(&self, name: &str) -> Option<ValueId> {
        self.values.find(&self.graph, name)
    }

    fn constants(&mut self) -> Result<(), OnnxError> {
        for (index, head) in self.document.initializers().iter().enumerate() {
            let id = OnnxDocument::initializer_id(index);
            let mut value = Value::named(&head.name);
            value.dtype = dtype_of(head.data_type);
            value.constant = Some(self.stored(id.0, &head.dims));
            value.origin = Some(Origin::Source(id));
            self.define(value, || format!("initializer `{}`", head.name))?;
        }
        for name in self.document.sparse_initializers()? {
            self.define(Value::named(&name), || format!("sparse initializer `{name}`"))?;
        }
        Ok(())
    }

    fn stored(&self, key: u32, shape: &[usize]) -> Constant {
        let source = Arc::clone(self.document) as Arc<dyn ConstantSource>;
        Constant::Stored { source, key, shape: shape.to_vec() }
    }

    /// An input that is an initializer too has a default; the default is taken as its value.
    fn inputs(&mut self) -> Result<(), OnnxError> {
        let mut inputs = Vec::new();
        let constants = self.graph.value_count();
        for info in self.document.value_infos(GRAPH_INPUT) {
            let (_, info) = info?;
            let has_default = self.find(info.name()).is_some_and(|id| id.index() < constants);
            if !has_default {
                inputs.push(self.define(described(&info), || format!("input `{}`", info.name()))?);
            }
        }
        self.graph.set_inputs(inputs);
        Ok(())
    }

    /// Defines what the nodes compute. Messages take many times the memory of a node of the graph, so they are decoded
    /// once more for that instead of being kept.
    fn results(&mut self) -> Result<(), OnnxError> {
        for index in 0..self.document.node_count() {
            let node = self.document.node(index)?;
            self.check_imported(index, &node)?;
            for name in node.output.iter().filter(|n| !n.is_empty()) {
                self.define(Value::named(name), || item(&node, index))?;
            }
            if self.is_standard(&node) {
                self.note_result(index, &node);
            }
        }
        Ok(())
    }

    fn is_standard(&self, node: &NodeProto) -> bool {
        normal_domain(node.domain()).is_empty() && !self.document.is_function(node.domain(), node.op_type())
    }

    /// Whether the table of operators has it: those of the standard, and onnxruntime's own quantize and dequantize
    /// nodes, which know 16-bit codes at every opset and are otherwise the same.
    fn is_known(&self, node: &NodeProto) -> bool {
        let same = matches!(node.op_type(), "QuantizeLinear" | "DequantizeLinear");
        let runtimes = same && node.domain() == RUNTIME_DOMAIN;
        self.is_standard(node) || (runtimes && !self.document.is_function(node.domain(), node.op_type()))
    }

    fn check_imported(&self, index: usize, node: &NodeProto) -> Result<(), OnnxError> {
        if self.document.opset() > 0 || !self.is_standard(node) {
            return Ok(());
        }
        let cause = "is of the standard operator set, of which the model imports no version".into();
        Err(self.document.invalid(Some(item(node, index)), cause).with_hint("export the model again"))
    }

    /// What the operator alone tells of a node's first result.
    fn note_result(&mut self, index: usize, node: &NodeProto) {
        let Some(id) = node.output.first().and_then(|name| self.find(name)) else { return };
        match node.op_type() {
            "Constant" => self.fold_constant(index, node, id),
            "Gemm" | "Flatten" => {
                self.matrices.insert(id);
            }
            _ => {}
        }
    }

    /// A node of the document: one of the graph, or for an operator on integers those it stands for.
    fn node(&mut self, index: usize, node: &NodeProto) -> Result<(), OnnxError> {
        let mut taken = BTreeSet::new();
        let mut fresh = |wanted: &str| {
            let mut name = format!("node_{index}_{wanted}");
            while self.find(&name).is_some() || !taken.insert(name.clone()) {
                name.push('_');
            }
            name
        };
        let function = self.document.is_function(node.domain(), node.op_type());
        let source = Arc::clone(self.document) as Arc<dyn ConstantSource>;
        let known = || {
            let unpacked = unpack(node, source, &|name| self.stored_constant(name), &mut fresh);
            unpacked.or_else(|| Some(Expansion { constants: Vec::new(), steps: expand(node, &mut fresh)? }))
        };
        let Some(Expansion { constants, steps }) = (!function).then(known).flatten() else {
            return self.add(index, node, Origin::Source(OnnxDocument::node_id(index)));
        };
        for (name, constant, dtype) in constants {
            let origin = Origin::Synthesized { pass: FRONTEND, from: vec![OnnxDocument::node_id(index)] };
            let id = self.graph.add_constant(name, constant, dtype, origin);
            self.values.add(&self.graph, id);
        }
        for step in &steps {
            for name in step.output.iter().filter(|name| self.find(name).is_none()).collect::<Vec<_>>() {
                self.define(Value::named(name), || item(node, index))?;
            }
            let from = vec![OnnxDocument::node_id(index)];
            self.add(index, step, Origin::Synthesized { pass: FRONTEND, from })?;
        }
        Ok(())
    }

    /// A constant that stands in the document.
    fn stored_constant(&self, name: &str) -> Option<Stored> {
        let value = self.graph.value(self.find(name)?);
        let Some(Constant::Stored { key, shape, .. }) = &value.constant else { return None };
        Some(Stored { key: *key, dtype: value.dtype?, elements: element_count(shape).ok()? })
    }

    fn add(&mut self, index: usize, node: &NodeProto, origin: Origin) -> Result<(), OnnxError> {
        let lookup = |name: &String| match name.as_str() {
            "" => Ok(None),
            name => self.find(name).map(Some).ok_or_else(|| {
                let cause = format!("reads `{name}`, which nothing defines");
                self.document.invalid(Some(item(node, index)), cause).with_hint(
                    "the exporter left out an initializer; export the model with its weights inside the file",
                )
            }),
        };
        let own: Vec<Option<ValueId>> = node.input.iter().map(lookup).collect::<Result<_, _>>()?;
        let outputs: Vec<Option<ValueId>> = node.output.iter().map(lookup).collect::<Result<_, _>>()?;
        let read = self.read(index, node)?;
        let mut inputs = self.place(&read, own, index);
        if matches!(read.op, Op::Opaque(_)) {
            inputs.extend(self.captures(node));
        }
        let name = node.name().to_owned();
        self.graph
            .add_node(Node { name, op: read.op, inputs, outputs, after: Vec::new(), origin })
            .map_err(|source| self.broken(source))?;
        Ok(())
    }

    fn broken(&self, source: quantize_ir::GraphError) -> OnnxError {
        OnnxError::Graph { file: self.document.source().path().to_owned(), source }
    }

    /// The node as an operator of the shared set; opaque if it is none.
    fn read(&mut self, index: usize, node: &NodeProto) -> Result<Read, OnnxError> {
        let opset = self.document.opset().min(NEWEST_OPSET);
        if opset < OLDEST_OPSET || !self.is_known(node) {
            return Ok(opaque(node));
        }
        match ops::read(&NodeReader::new(node, opset, self)) {
            Some(Ok(read)) if self.has_room(&read) => Ok(read),
            Some(Ok(_)) => {
                let error = ReadError::Form("copies of constants for it and others take more room than the file");
                Ok(self.carried(index, node, &error))
            }
            Some(Err(ReadError::Contradiction(cause))) => {
                Err(self.document.invalid(Some(item(node, index)), cause).with_hint("export the model again"))
            }
            Some(Err(error)) => Ok(self.carried(index, node, &error)),
            None => Ok(opaque(node)),
        }
    }

    /// A node in a form that is not known, with a problem that says so.
    fn carried(&mut self, index: usize, node: &NodeProto, error: &ReadError) -> Read {
        let label = if node.name().is_empty() { format!("#{index}") } else { node.name().to_owned() };
        self.problem(Some(&label), format!("{}: {error}; the node is carried as it is", node.op_type()));
        opaque(node)
    }

    /// Whether the added operands of all nodes together stay smaller than the file.
    fn has_room(&mut self, read: &Read) -> bool {
        let size = |tensor: &Tensor| tensor.len().saturating_mul(tensor.dtype().size());
        let left = self.room.checked_sub(read.added.iter().map(|(_, tensor)| size(tensor)).sum());
        left.is_some_and(|left| {
            self.room = left;
            true
        })
    }

    /// The node's operands where the shared operator expects them, with the added ones.
    fn place(&mut self, read: &Read, mut own: Vec<Option<ValueId>>, index: usize) -> Vec<Option<ValueId>> {
        own.truncate(read.operands.unwrap_or(usize::MAX));
        let mut inputs = match read.placed {
            None => own,
            Some(slots) => {
                let mut placed = vec![None; slots.iter().max().map_or(0, |m| m + 1)];
                for (slot, value) in slots.iter().zip(own) {
                    if let Some(place) = placed.get_mut(*slot) {
                        *place = value;
                    }
                }
                placed
            }
        };
        for (slot, tensor) in &read.added {
            inputs.resize(inputs.len().max(slot + 1), None);
            let added = self.added(tensor.clone(), index, *slot);
            if let Some(place) = inputs.get_mut(*slot) {
                *place = Some(added);
            }
        }
        inputs
    }

    fn added(&mut self, tensor: Tensor, index: usize, slot: usize) -> ValueId {
        let from = vec![OnnxDocument::node_id(index)];
        let origin = Origin::Synthesized { pass: FRONTEND, from };
        let dtype = tensor.dtype();
        self.graph.add_constant(format!("node_{index}_operand_{slot}"), Constant::owned(tensor), dtype, origin)
    }

    /// Outer values that graphs inside the node read: operands too, though not listed as inputs.
    fn captures(&self, node: &NodeProto) -> Vec<Option<ValueId>> {
        let mut captured = BTreeSet::new();
        for attribute in &node.attribute {
            for graph in attribute.g.iter().chain(&attribute.graphs) {
                captures_of(graph, None, &mut captured);
            }
        }
        captured.iter().filter_map(|name| self.find(name)).map(Some).collect()
    }

    fn fold_constant(&mut self, index: usize, node: &NodeProto, output: ValueId) {
        let Some(value) = ops::constant_value(node, self.document.source().path()) else { return };
        match value {
            Ok(tensor) => {
                let constant = self.stored(OnnxDocument::node_id(index).0, tensor.shape());
                let target = self.graph.value_mut(output);
                target.dtype = Some(tensor.dtype());
                target.constant = Some(constant);
            }
            Err(cause) => self.problem(Some(node.name()), format!("its tensor {cause}")),
        }
    }

    fn outputs(&mut self) -> Result<(), OnnxError> {
        let mut outputs = Vec::new();
        for info in self.document.value_infos(GRAPH_OUTPUT) {
            let (_, info) = info?;
            let id = self.find(info.name());
            let missing =
                || self.document.invalid(Some(format!("output `{}`", info.name())), "nothing computes it".into());
            outputs.push(id.ok_or_else(missing)?);
        }
        if outputs.is_empty() {
            return Err(self.document.invalid(None, "the graph has no outputs".into()));
        }
        self.graph.set_outputs(outputs);
        Ok(())
    }

    /// Declared types and shapes of outputs and intermediate values.
    fn describe(&mut self) -> Result<(), OnnxError> {
        for number in [GRAPH_OUTPUT, GRAPH_VALUE_INFO] {
            for info in self.document.value_infos(number) {
                let (_, info) = info?;
                let Some(id) = self.find(info.name()) else { continue };
                let declared = described(&info);
                let value = self.graph.value_mut(id);
                value.dtype = value.dtype.or(declared.dtype);
                value.shape = value.shape.take().or(declared.shape);
            }
        }
        Ok(())
    }

    fn propagate_types(&mut self) -> Result<(), OnnxError> {
        let order = self.graph.topological_order().map_err(|source| self.broken(source))?;
        let types = element_types(&self.graph, &order);
        let computed: Vec<ValueId> =
            self.graph.nodes().flat_map(|(_, n)| n.outputs.iter().flatten().copied()).collect();
        for value in computed {
            self.graph.value_mut(value).dtype = types.get(value.index()).copied().flatten();
        }
        Ok(())
    }
}

impl Known for Importer<'_> {
    fn constant(&self, name: &str) -> Option<Arc<Tensor>> {
        let id = self.find(name)?;
        let elements = self.graph.value(id).constant.as_ref()?.shape().iter().product::<usize>();
        if elements > MAX_READ_ELEMENTS { None } else { self.graph.constant(id).ok()? }
    }

    fn constant_shape(&self, name: &str) -> Option<Vec<usize>> {
        let value = self.graph.value(self.find(name)?);
        value.constant.as_ref().map(|c| c.shape().to_vec())
    }

    fn rank(&self, name: &str) -> Option<usize> {
        let id = self.find(name)?;
        let value = self.graph.value(id);
        let constant = || value.constant.as_ref().map(|c| c.shape().len());
        let computed = || self.matrices.contains(&id).then_some(2);
        value.shape.as_ref().map(Vec::len).or_else(constant).or_else(computed)
    }
}

/// A node without shared semantics.
fn opaque(node: &NodeProto) -> Read {
    Op::Opaque(Opaque { domain: node.domain().to_owned(), kind: node.op_type().to_owned() }).into()
}

/// How messages call a node.
fn item(node: &NodeProto, index: usize) -> String {
    match node.name() {
        "" => format!("node {index} ({})", node.op_type()),
        name => format!("node `{name}`"),
    }
}

/// The names that a graph and the graphs around it define.
struct Scope<'a> {
    names: BTreeSet<&'a str>,
    outer: Option<&'a Scope<'a>>,
}

impl Scope<'_> {
    fn defines(&self, name: &str) -> bool {
        self.names.contains(name) || self.outer.is_some_and(|outer| outer.defines(name))
    }
}

/// Names that `graph` reads and neither it nor a graph around it defines.
fn captures_of(graph: &GraphProto, outer: Option<&Scope<'_>>, captured: &mut BTreeSet<String>) {
    let inputs = graph.input.iter().map(ValueInfoProto::name);
    let constants = graph.initializer.iter().map(|i| i.name());
    let computed = graph.node.iter().flat_map(|n| &n.output).map(String::as_str);
    let scope = Scope { names: inputs.chain(constants).chain(computed).collect(), outer };
    let read = graph.node.iter().flat_map(|n| &n.input).map(String::as_str);
    let results = graph.output.iter().map(ValueInfoProto::name);
    let free = read.chain(results).filter(|name| !name.is_empty() && !scope.defines(name));
    captured.extend(free.map(str::to_owned));
    for attribute in graph.node.iter().flat_map(|n| &n.attribute) {
        for inner in attribute.g.iter().chain(&attribute.graphs) {
            captures_of(inner, Some(&scope), captured);
        }
    }
}

/// A value with the type and shape a description declares.
fn described(info: &ValueInfoProto) -> Value {
    let mut value = Value::named(info.name());
    let declared = info.r#type.as_ref().and_then(|t| t.value.as_ref());
    if let Some(type_proto::Value::TensorType(tensor)) = declared {
        value.dtype = dtype_of(tensor.elem_type());
        value.shape = tensor.shape.as_ref().map(|s| s.dim.iter().map(|d| dim(d.value.as_ref())).collect::<Shape>());
    }
    value
}

fn dim(value: Option<&dimension::Value>) -> Dim {
    match value {
        Some(dimension::Value::DimValue(n)) => u64::try_from(*n).map_or(Dim::Unknown, Dim::Known),
        Some(dimension::Value::DimParam(name)) if !name.is_empty() => Dim::Symbol(name.clone()),
        _ => Dim::Unknown,
    }
}
