//! Telling the format's messages apart, and binary files from texts.

use super::Encoding;
use crate::error::TensorflowError;
use quantize_document::text::Message as TextMessage;
use quantize_document::{Field, Limits, Location, MessageIndex, SourceFile, WireType, index_message};

/// Bytes that are looked at to tell a text from anything else.
const HEAD: usize = 1024;

// Fields that tell the messages apart.
const GRAPH_NODE: u32 = 1;
const NODE_OP: u32 = 2;
const META_GRAPH_GRAPH: u32 = 2;
const SAVED_MODEL_VERSION: u32 = 1;
const SAVED_MODEL_META_GRAPHS: u32 = 2;
/// The highest number of a field of `GraphDef`.
const GRAPH_LAST: u32 = 5;

/// Which of the format's messages a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    /// A graph.
    Graph,
    /// A graph with what is needed to go on training it; the `.meta` file of a checkpoint.
    MetaGraph,
    /// Several of those, with variables in files beside it.
    SavedModel,
}

impl Container {
    /// Finds out from the message that a file holds; `None` if it is none of these.
    pub(super) fn of_message(bytes: &[u8], message: &MessageIndex, limits: &Limits) -> Option<Self> {
        let is = |field: &Field, number, wire_type| (field.number(), field.wire_type()) == (number, wire_type);
        let fields = message.fields();
        let parts = |number| fields.iter().filter(move |field| is(field, number, WireType::LengthDelimited));
        if fields.iter().any(|field| is(field, SAVED_MODEL_VERSION, WireType::Varint)) {
            let is_known = |field: &Field| field.number() <= SAVED_MODEL_META_GRAPHS;
            return fields.iter().all(is_known).then_some(Self::SavedModel);
        }
        let inner = |field: &Field| message.child(bytes, field, limits).ok();
        if parts(META_GRAPH_GRAPH).filter_map(inner).any(|graph| starts_with_a_node(bytes, &graph, limits)) {
            return Some(Self::MetaGraph);
        }
        let is_graph = match parts(GRAPH_NODE).next() {
            Some(_) => starts_with_a_node(bytes, message, limits),
            None => fields.iter().all(|field| field.number() <= GRAPH_LAST),
        };
        is_graph.then_some(Self::Graph)
    }

    /// Finds out from the fields of a text; what is no other message is taken for a graph.
    pub(super) fn of_text(root: &TextMessage) -> Self {
        let has = |name: &str| root.fields_named(name).next().is_some();
        match () {
            () if has("meta_graphs") || has("saved_model_schema_version") => Self::SavedModel,
            () if has("graph_def") || has("meta_info_def") => Self::MetaGraph,
            () => Self::Graph,
        }
    }
}

/// Whether the first of the messages in a graph's place of nodes has an operator.
fn starts_with_a_node(bytes: &[u8], graph: &MessageIndex, limits: &Limits) -> bool {
    let first = graph.with_number(GRAPH_NODE).next();
    let node = first.and_then(|(_, field)| graph.child(bytes, field, limits).ok());
    let op = node.and_then(|node| node.with_number(NODE_OP).next().map(|(_, field)| *field));
    op.filter(|op| op.wire_type() == WireType::LengthDelimited)
        .and_then(|op| std::str::from_utf8(bytes.get(op.payload())?).ok())
        .is_some_and(|op| op.bytes().all(|byte| byte.is_ascii_graphic()))
}

/// How a file is written: whatever is a message is binary, and so is what has bytes that no text has.
pub(super) fn encoding(bytes: &[u8], limits: &Limits) -> Encoding {
    let is_text = |byte: &u8| !byte.is_ascii_control() || byte.is_ascii_whitespace();
    let head = bytes.get(..HEAD).unwrap_or(bytes);
    if index_message(bytes, 0..bytes.len(), limits).is_err() && head.iter().all(is_text) {
        Encoding::Text
    } else {
        Encoding::Binary
    }
}

/// The error that a file is none of the format's messages.
pub(super) fn unknown(source: &SourceFile) -> TensorflowError {
    let cause = "the file is neither a GraphDef nor a MetaGraph nor a SavedModel";
    TensorflowError::invalid(Location::file(source.path()), cause)
        .with_hint("is this a TensorFlow graph? for other formats there are other commands")
}
