//! The source document: an ONNX file indexed to the level of one node and one initializer.
//!
//! Nodes and initializers are decoded one at a time, when someone asks; tensor data stays in the file's bytes until
//! then. Document ids and constant keys: node `i` is `i`, initializer `i` is `i` with the top bit set.

use crate::error::OnnxError;
use crate::external::external_range;
use crate::tensor::{decode_tensor_beside, dims_of, read_external, read_external_pieces};
use crate::weight::{self, Weighed};
use prost::Message;
use quantize_document::{ExternalRange, Field, Limits, Location, MessageIndex, SourceFile, Splice, WireType};
use quantize_ir::{ConstantSource, DocId, Node, Tensor, TensorData};
use quantize_proto::onnx::{
    FunctionProto, GraphProto, NodeProto, OperatorSetIdProto, SparseTensorProto, TensorProto, ValueInfoProto,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// `ModelProto.ir_version`
pub(crate) const MODEL_IR_VERSION: u32 = 1;
/// `ModelProto.graph`
const MODEL_GRAPH: u32 = 7;
/// `ModelProto.opset_import`
pub(crate) const MODEL_OPSET_IMPORT: u32 = 8;
/// `ModelProto.functions`
pub(crate) const MODEL_FUNCTIONS: u32 = 25;
/// `GraphProto.node`
pub(crate) const GRAPH_NODE: u32 = 1;
/// `GraphProto.initializer`
pub(crate) const GRAPH_INITIALIZER: u32 = 5;
/// `GraphProto.input`
pub(crate) const GRAPH_INPUT: u32 = 11;
/// `GraphProto.output`
pub(crate) const GRAPH_OUTPUT: u32 = 12;
/// `GraphProto.value_info`
pub(crate) const GRAPH_VALUE_INFO: u32 = 13;
/// `GraphProto.sparse_initializer`
const GRAPH_SPARSE_INITIALIZER: u32 = 15;
/// `TensorProto.name`
pub(crate) const INITIALIZER_NAME: u32 = 8;
/// Fields of `TensorProto` that hold elements.
const TENSOR_DATA: [u32; 7] = [4, 5, 6, 7, 9, 10, 11];

/// Marks the id of an initializer.
const INITIALIZER: u32 = 1 << 31;

/// An initializer without its elements.
#[derive(Debug)]
pub(crate) struct InitializerHead {
    pub(crate) name: String,
    pub(crate) data_type: i32,
    pub(crate) dims: Vec<usize>,
    /// Where its elements stand, if they are in a file beside the model.
    pub(crate) external: Option<ExternalRange>,
    /// Index of its field in the graph message.
    pub(crate) field: usize,
}

/// An indexed ONNX file.
pub struct OnnxDocument {
    source: SourceFile,
    limits: Limits,
    model: MessageIndex,
    graph: MessageIndex,
    graph_field: usize,
    nodes: Vec<usize>,
    initializers: Vec<InitializerHead>,
    opsets: BTreeMap<String, i64>,
    ir_version: i64,
    functions: BTreeSet<(String, String)>,
}

impl fmt::Debug for OnnxDocument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OnnxDocument({}, {} nodes)", self.source.path().display(), self.nodes.len())
    }
}

impl OnnxDocument {
    /// Indexes a file.
    ///
    /// # Errors
    /// If the bytes are not protobuf, there is not exactly one graph, no opset or two versions of one, a message does not
    /// decode, two initializers have the same name, or an initializer's dimensions make no sense.
    pub fn parse(source: SourceFile, limits: &Limits) -> Result<Self, OnnxError> {
        let model = source.index(limits)?;
        let first = model.with_number(MODEL_GRAPH).map(|(i, f)| (i, *f)).next();
        let count = model.with_number(MODEL_GRAPH).count();
        let (Some((graph_field, field)), 1) = (first, count) else {
            return Err(invalid(&source, None, not_one_graph(&source, count)).with_hint("is this an ONNX model?"));
        };
        let graph = model.child(source.bytes(), &field, limits).map_err(|e| source.locate(e))?;
        check_items(&source, &graph, limits)?;
        let mut document = Self {
            limits: *limits,
            graph_field,
            nodes: graph.with_number(GRAPH_NODE).map(|(i, _)| i).collect(),
            initializers: Vec::new(),
            opsets: BTreeMap::new(),
            ir_version: 0,
            functions: BTreeSet::new(),
            source,
            model,
            graph,
        };
        document.read_versions()?;
        document.read_initializers()?;
        Ok(document)
    }

    fn read_versions(&mut self) -> Result<(), OnnxError> {
        for (_, field) in self.model.with_number(MODEL_OPSET_IMPORT) {
            let import: OperatorSetIdProto = self.decode(field, || "opset import".into())?;
            let (domain, version) = (normal_domain(import.domain()).to_owned(), import.version());
            let known = *self.opsets.entry(domain.clone()).or_insert(version);
            if known != version {
                let name = if domain.is_empty() { "ai.onnx" } else { &domain };
                let cause = format!("it imports two versions of the operator set `{name}`: {known} and {version}");
                return Err(invalid(&self.source, None, cause));
            }
        }
        if self.opsets.is_empty() {
            return Err(invalid(&self.source, None, "it imports no operator set".into())
                .with_hint("is this an ONNX model? models of IR version 1 and 2 are not supported"));
        }
        let mut ir_version = 0;
        for (_, field) in self.model.with_number(MODEL_IR_VERSION).filter(|(_, f)| f.wire_type() == WireType::Varint) {
            let payload = self.source.bytes().get(field.payload()).unwrap_or_default();
            ir_version = prost::encoding::decode_varint(&mut &*payload).unwrap_or(0) as i64;
        }
        self.ir_version = ir_version;
        // One by one: collecting would hold as many pairs as there are functions, not as many as differ.
        let mut functions = BTreeSet::new();
        for function in self.functions() {
            let function = function?;
            functions.insert((normal_domain(function.domain()).to_owned(), function.name().to_owned()));
        }
        self.functions = functions;
        Ok(())
    }

    /// The operators the model defines itself, one in memory at a time.
    pub(crate) fn functions(&self) -> impl Iterator<Item = Result<FunctionProto, OnnxError>> {
        let fields = self.model.with_number(MODEL_FUNCTIONS);
        fields.map(|(_, field)| self.decode(field, || "function".into()))
    }

    fn read_initializers(&mut self) -> Result<(), OnnxError> {
        let mut seen = BTreeSet::new();
        let mut heads = Vec::new();
        for (index, field) in self.graph.with_number(GRAPH_INITIALIZER) {
            let head = self.tensor_head(field)?;
            let name = head.name().to_owned();
            let item = format!("initializer `{name}`");
            if !seen.insert(name.clone()) {
                return Err(invalid(&self.source, Some(item), "there are two of this name".into()));
            }
            let refused = |cause| invalid(&self.source, Some(item.clone()), cause);
            let dims = dims_of(&head).map_err(refused)?;
            let external = external_range(&head).map_err(refused)?;
            heads.push(InitializerHead { name, data_type: head.data_type(), dims, external, field: index });
        }
        self.initializers = heads;
        Ok(())
    }

    /// Decodes a tensor's fields except its elements.
    fn tensor_head(&self, field: &Field) -> Result<TensorProto, OnnxError> {
        let bytes = self.source.bytes();
        let index = self.graph.child(bytes, field, &self.limits).map_err(|e| self.source.locate(e))?;
        let kept = index.fields().iter().filter(|f| !TENSOR_DATA.contains(&f.number()));
        let head: Vec<u8> = kept.flat_map(|f| bytes.get(f.whole()).unwrap_or_default()).copied().collect();
        let checked = weight::check(&head, TensorProto::KIND, bytes.len());
        checked.map_err(|cause| self.invalid(Some("initializer".into()), cause))?;
        TensorProto::decode(head.as_slice()).map_err(|cause| self.undecodable("initializer".into(), cause))
    }

    fn decode<M: Weighed>(&self, field: &Field, item: impl Fn() -> String) -> Result<M, OnnxError> {
        let payload = self.payload(field)?;
        let checked = weight::check(payload, M::KIND, self.source.bytes().len());
        checked.map_err(|cause| self.invalid(Some(item()), cause))?;
        M::decode(payload).map_err(|cause| self.undecodable(item(), cause))
    }

    /// The bytes of the message in a field.
    fn payload(&self, field: &Field) -> Result<&[u8], OnnxError> {
        if field.wire_type() != WireType::LengthDelimited {
            let (number, offset) = (field.number(), field.whole().start);
            let cause = format!("field {number} at byte {offset} is not length-delimited, so it holds no message");
            return Err(invalid(&self.source, None, cause).with_hint("the file is damaged or of another format"));
        }
        Ok(self.source.bytes().get(field.payload()).unwrap_or_default())
    }

    fn undecodable(&self, item: String, cause: prost::DecodeError) -> OnnxError {
        let location = Location::item(self.source.path(), item);
        OnnxError::Decode { location: Box::new(location), cause }
    }

    /// The file.
    pub fn source(&self) -> &SourceFile {
        &self.source
    }

    /// An error about an item of this document.
    pub(crate) fn invalid(&self, item: Option<String>, cause: String) -> OnnxError {
        invalid(&self.source, item, cause)
    }

    /// Version of the standard operator set.
    pub(crate) fn opset(&self) -> i64 {
        self.opsets.get("").copied().unwrap_or(0)
    }

    /// All operator sets with their versions; the standard one has no name.
    pub(crate) fn opsets(&self) -> &BTreeMap<String, i64> {
        &self.opsets
    }

    /// Number of operators that the model defines itself.
    pub(crate) fn function_count(&self) -> usize {
        self.functions.len()
    }

    /// Version of the file format.
    pub(crate) fn ir_version(&self) -> i64 {
        self.ir_version
    }

    /// Whether the model defines this operator itself.
    pub(crate) fn is_function(&self, domain: &str, name: &str) -> bool {
        self.functions.contains(&(normal_domain(domain).to_owned(), name.to_owned()))
    }

    /// Number of nodes.
    pub(crate) fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// Number of values the graph is going to have: of each initializer, input and node at least one.
    pub(crate) fn item_count(&self) -> usize {
        self.initializers.len() + self.nodes.len() + self.graph.with_number(GRAPH_INPUT).count()
    }

    /// Decodes node `index`.
    pub(crate) fn node(&self, index: usize) -> Result<NodeProto, OnnxError> {
        let field = self.field(self.node_field(index)?)?;
        self.decode(field, || format!("node {index}"))
    }

    /// Index of node `index`'s field in the graph message.
    pub(crate) fn node_field(&self, index: usize) -> Result<usize, OnnxError> {
        self.nodes
            .get(index)
            .copied()
            .ok_or_else(|| self.invalid(Some(format!("node {index}")), "does not exist".into()))
    }

    fn field(&self, index: usize) -> Result<&Field, OnnxError> {
        self.graph.fields().get(index).ok_or_else(|| self.invalid(None, format!("the graph has no field {index}")))
    }

    /// Position in the document of a node that stands there.
    pub(crate) fn node_index(&self, node: &Node) -> Option<usize> {
        self.item_index(node.origin.source()?)
    }

    /// Position of the node that an id is of.
    pub(crate) fn item_index(&self, DocId(id): DocId) -> Option<usize> {
        (id & INITIALIZER == 0).then_some(id as usize)
    }

    /// Id of node `index`.
    pub(crate) fn node_id(index: usize) -> DocId {
        DocId(u32::try_from(index).unwrap_or(u32::MAX) & !INITIALIZER)
    }

    /// Id of initializer `index`.
    pub(crate) fn initializer_id(index: usize) -> DocId {
        DocId(u32::try_from(index).unwrap_or(u32::MAX) | INITIALIZER)
    }

    /// The initializers, in document order.
    pub(crate) fn initializers(&self) -> &[InitializerHead] {
        &self.initializers
    }

    /// Names of sparse initializers, which are carried but never read.
    pub(crate) fn sparse_initializers(&self) -> Result<Vec<String>, OnnxError> {
        let name = |sparse: SparseTensorProto| sparse.values?.name;
        Ok(self.sparse_messages()?.into_iter().filter_map(name).collect())
    }

    /// The sparse initializers.
    pub(crate) fn sparse_messages(&self) -> Result<Vec<SparseTensorProto>, OnnxError> {
        let fields = self.graph.with_number(GRAPH_SPARSE_INITIALIZER);
        fields.map(|(_, field)| self.decode(field, || "sparse initializer".into())).collect()
    }

    /// Value descriptions in the graph's field `number` (inputs, outputs or intermediate values), with field indices.
    /// They are decoded one at a time.
    pub(crate) fn value_infos(&self, number: u32) -> impl Iterator<Item = Result<(usize, ValueInfoProto), OnnxError>> {
        let described = self.graph.with_number(number);
        described.map(|(index, field)| Ok((index, self.decode(field, || "value description".into())?)))
    }

    /// Every name of a tensor or node in the model, those in nested graphs included.
    pub(crate) fn names(&self) -> Result<BTreeSet<String>, OnnxError> {
        let mut names: BTreeSet<String> = self.initializers.iter().map(|i| i.name.clone()).collect();
        names.extend(self.sparse_initializers()?);
        for number in [GRAPH_INPUT, GRAPH_OUTPUT] {
            for info in self.value_infos(number) {
                names.insert(info?.1.name().to_owned());
            }
        }
        for index in 0..self.node_count() {
            names_in_node(&self.node(index)?, &mut names);
        }
        Ok(names)
    }

    /// An unedited copy of the whole file.
    pub(crate) fn splice(&self) -> Result<Splice<'_>, OnnxError> {
        Ok(Splice::new(self.source.bytes(), &self.model)?)
    }

    /// An unedited copy of the graph message.
    pub(crate) fn graph_splice(&self) -> Result<Splice<'_>, OnnxError> {
        Ok(Splice::new(self.source.bytes(), &self.graph)?)
    }

    /// An unedited copy of node `index`'s message, and its fields.
    pub(crate) fn node_splice(&self, index: usize) -> Result<(Splice<'_>, Vec<Field>), OnnxError> {
        self.message_splice(self.node_field(index)?)
    }

    /// An unedited copy of the initializer in field `index` of the graph message, and its fields.
    pub(crate) fn initializer_splice(&self, index: usize) -> Result<(Splice<'_>, Vec<Field>), OnnxError> {
        self.message_splice(index)
    }

    fn message_splice(&self, index: usize) -> Result<(Splice<'_>, Vec<Field>), OnnxError> {
        let field = self.field(index)?;
        let message = self.graph.child(self.source.bytes(), field, &self.limits).map_err(|e| self.source.locate(e))?;
        let fields = message.fields().to_vec();
        Ok((Splice::new(self.source.bytes(), message)?, fields))
    }

    /// Index of the graph's field in the model message.
    pub(crate) fn graph_field(&self) -> usize {
        self.graph_field
    }

    /// The model message's fields.
    pub(crate) fn model_fields(&self) -> &MessageIndex {
        &self.model
    }

    /// Decodes the payload of a field of the model message.
    pub(crate) fn decode_model_field<M: Weighed>(&self, field: &Field) -> Result<M, OnnxError> {
        self.decode(field, || "model".into())
    }
}

/// Messages name the initializer or node; whoever reads a constant knows the file.
impl ConstantSource for OnnxDocument {
    fn read(&self, key: u32) -> Result<Tensor, String> {
        let index = (key & !INITIALIZER) as usize;
        if key & INITIALIZER == 0 {
            return self.read_constant_node(index);
        }
        let Some(head) = self.initializers.get(index) else { return Err(format!("there is no initializer {index}")) };
        let about = |cause: String| format!("initializer `{}` {cause}", head.name);
        if let Some(range) = &head.external {
            let read = read_external(range, self.source.path(), head.data_type, &head.dims);
            return read.map_err(about);
        }
        let field = self.graph.fields().get(head.field).ok_or_else(|| about("is gone".into()))?;
        let payload = self.source.bytes().get(field.payload()).unwrap_or_default();
        weight::check(payload, TensorProto::KIND, self.source.bytes().len()).map_err(about)?;
        let tensor = TensorProto::decode(payload).map_err(|e| about(e.to_string()))?;
        decode_tensor_beside(&tensor, self.source.path()).map_err(about)
    }

    fn read_pieces(&self, key: u32, see: &mut dyn FnMut(&TensorData)) -> Result<(), String> {
        let head = self.initializers.get((key & !INITIALIZER) as usize).filter(|_| key & INITIALIZER != 0);
        match head.and_then(|head| Some((head, head.external.as_ref()?))) {
            Some((head, range)) => read_external_pieces(range, self.source.path(), head.data_type, &head.dims, see)
                .map_err(|cause| format!("initializer `{}` {cause}", head.name)),
            None => {
                see(self.read(key)?.data());
                Ok(())
            }
        }
    }
}

impl OnnxDocument {
    /// The tensor of a `Constant` node.
    fn read_constant_node(&self, index: usize) -> Result<Tensor, String> {
        let node = self.node(index).map_err(|_| format!("node {index} does not decode"))?;
        let about = |cause: String| format!("node `{}` {cause}", node.name());
        crate::ops::constant_value(&node, self.source.path())
            .ok_or_else(|| about("has no tensor".into()))?
            .map_err(about)
    }
}

fn names_in_node(node: &NodeProto, names: &mut BTreeSet<String>) {
    names.insert(node.name().to_owned());
    names.extend(node.input.iter().chain(&node.output).cloned());
    for attribute in &node.attribute {
        attribute.g.iter().chain(&attribute.graphs).for_each(|g| names_in_graph(g, names));
    }
}

fn names_in_graph(graph: &GraphProto, names: &mut BTreeSet<String>) {
    names.extend(graph.initializer.iter().map(|i| i.name().to_owned()));
    names.extend(graph.input.iter().chain(&graph.output).map(|v| v.name().to_owned()));
    graph.node.iter().for_each(|n| names_in_node(n, names));
}

/// The standard domain has two spellings.
pub(crate) fn normal_domain(domain: &str) -> &str {
    if domain == "ai.onnx" { "" } else { domain }
}

/// Accepts a graph of so many nodes and values, each of which takes memory while the file is open.
fn check_items(source: &SourceFile, graph: &MessageIndex, limits: &Limits) -> Result<(), OnnxError> {
    let kinds = [GRAPH_NODE, GRAPH_INITIALIZER, GRAPH_INPUT, GRAPH_OUTPUT, GRAPH_SPARSE_INITIALIZER];
    let items = graph.fields().iter().filter(|field| kinds.contains(&field.number())).count();
    let what = "nodes, initializers, inputs and outputs";
    limits.check_items(items, what).map_err(|exceeded| invalid(source, None, exceeded.to_string()))
}

fn not_one_graph(source: &SourceFile, graphs: usize) -> String {
    match graphs {
        _ if source.bytes().is_empty() => "the file is empty".into(),
        0 => "it has no graph".into(),
        _ => format!("it has {graphs} graphs, but a model has one"),
    }
}

fn invalid(source: &SourceFile, item: Option<String>, cause: String) -> OnnxError {
    let location = Location { item, ..Location::file(source.path()) };
    OnnxError::Invalid { location: Box::new(location), cause, hint: None }
}

impl OnnxError {
    /// The same error with a hint.
    pub(crate) fn with_hint(mut self, text: &'static str) -> Self {
        if let Self::Invalid { hint, .. } | Self::Unsupported { hint, .. } = &mut self {
            *hint = Some(text);
        }
        self
    }
}
