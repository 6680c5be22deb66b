//! Files: which of the format's messages a file is, whether it is binary or text, and the graph in it.

mod container;
mod saved_model;

pub use container::Container;
pub use saved_model::{Signature, TensorName};

use crate::error::TensorflowError;
use crate::graph::{GraphDef, GraphFault};
use crate::schema::{GRAPH, META_GRAPH, Message, SAVED_MODEL};
use crate::text;
use crate::wire::MOST_FIELDS;
use crate::wire::slice;
use bytes::Bytes;
use quantize_document::{Limits, Location, MessageIndex, SourceFile, TextDocument, index_message};
use saved_model::MetaGraph;
use std::path::{Path, PathBuf};

/// Files of a SavedModel, in the order in which they are looked for.
const SAVED_MODEL_FILES: [(&str, Encoding); 2] =
    [("saved_model.pb", Encoding::Binary), ("saved_model.pbtxt", Encoding::Text)];
/// Where the variables of a SavedModel are: folder and first part of the names.
const SAVED_VARIABLES: [&str; 2] = ["variables", "variables"];
/// Items of a text beyond which no network goes: each takes hundreds of bytes.
const MOST_ITEMS: usize = 1 << 18;

/// A text may have an item for so many of its bytes, if that is more than [`Limits::max_items`].
const BYTES_PER_ITEM: usize = 12;

/// How a message is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// The wire format, `.pb`.
    Binary,
    /// The text format, `.pbtxt`.
    Text,
}

/// What to read, where a file leaves a choice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadOptions {
    /// How the file is written; found out if not given.
    pub encoding: Option<Encoding>,
    /// Tags of the graph that is wanted from a SavedModel.
    pub tags: Vec<String>,
}

/// The tag `serve`.
impl Default for ReadOptions {
    fn default() -> Self {
        Self { encoding: None, tags: vec!["serve".into()] }
    }
}

/// A file and the graph in it.
#[derive(Clone, Debug)]
pub struct TensorflowDocument {
    source: SourceFile,
    encoding: Encoding,
    container: Container,
    graph: GraphDef,
    signatures: Vec<Signature>,
    has_objects: bool,
    variables: Option<PathBuf>,
}

impl TensorflowDocument {
    /// Opens a file, or the folder of a SavedModel.
    ///
    /// # Errors
    /// If it cannot be read, is none of the format's messages, is damaged or too large, or a SavedModel has no graph
    /// with the tags asked for.
    pub fn open(path: &Path, limits: &Limits, options: &ReadOptions) -> Result<Self, TensorflowError> {
        if !path.is_dir() {
            return Self::parse(SourceFile::read(path, limits)?, limits, options);
        }
        let found = SAVED_MODEL_FILES.iter().map(|(name, encoding)| (path.join(name), *encoding));
        let Some((file, encoding)) = found.into_iter().find(|(file, _)| file.is_file()) else {
            let cause = "the folder has neither saved_model.pb nor saved_model.pbtxt, so it is no SavedModel";
            return Err(TensorflowError::invalid(Location::file(path), cause));
        };
        let options = ReadOptions { encoding: Some(encoding), ..options.clone() };
        let mut document = Self::parse(SourceFile::read(&file, limits)?, limits, &options)?;
        document.variables = Some(SAVED_VARIABLES.iter().fold(path.to_owned(), |path, part| path.join(part)));
        Ok(document)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// As for [`TensorflowDocument::open`].
    pub fn parse(source: SourceFile, limits: &Limits, options: &ReadOptions) -> Result<Self, TensorflowError> {
        if source.bytes().is_empty() {
            return Err(TensorflowError::invalid(Location::file(source.path()), "the file is empty"));
        }
        let limits = &Limits { max_fields: limits.max_fields.min(MOST_FIELDS), ..*limits };
        let encoding = options.encoding.unwrap_or_else(|| container::encoding(source.bytes(), limits));
        let (bytes, container) = match encoding {
            Encoding::Binary => {
                let bytes = Bytes::from_owner(source.clone());
                let index = source.index(limits)?;
                let container = Container::of_message(&bytes, &index, limits);
                (bytes, container.ok_or_else(|| container::unknown(&source))?)
            }
            Encoding::Text => read_text(&source, limits)?,
        };
        let mut document = Self {
            source,
            encoding,
            container,
            graph: GraphDef::default(),
            signatures: Vec::new(),
            has_objects: false,
            variables: None,
        };
        document.read_graph(&bytes, limits, options)?;
        if document.graph.nodes().is_empty() {
            return Err(document.invalid("its graph has no node".into()));
        }
        Ok(document)
    }

    fn read_graph(&mut self, bytes: &Bytes, limits: &Limits, options: &ReadOptions) -> Result<(), TensorflowError> {
        let root = self.wire(index_message(bytes, 0..bytes.len(), limits))?;
        let meta = match self.container {
            Container::Graph => {
                self.graph = self.decode(GraphDef::decode(bytes, &root, limits))?;
                return Ok(());
            }
            Container::MetaGraph => root,
            Container::SavedModel => {
                let graphs = self.wire(saved_model::meta_graphs(bytes, &root, limits))?;
                saved_model::choose(graphs, &options.tags)
                    .map_err(|(cause, hint)| self.invalid(cause).with_hint(hint))?
            }
        };
        let meta = self.wire(MetaGraph::read(bytes, meta, limits))?;
        let Some(graph) = &meta.graph else { return Err(self.invalid("there is no graph in it".into())) };
        self.graph = self.decode(GraphDef::decode(bytes, graph, limits))?;
        self.signatures = meta.signatures;
        self.has_objects = meta.has_objects;
        Ok(())
    }

    fn wire<T>(&self, result: Result<T, quantize_document::WireError>) -> Result<T, TensorflowError> {
        result.map_err(|error| self.source.locate(error).into())
    }

    fn decode(&self, result: Result<GraphDef, GraphFault>) -> Result<GraphDef, TensorflowError> {
        result.map_err(|fault| match fault {
            GraphFault::Wire(error) => self.source.locate(error).into(),
            GraphFault::Limit(cause) => self.invalid(cause),
            GraphFault::Node { index, cause } => {
                let item = Some(format!("node {index}"));
                TensorflowError::invalid(Location { item, ..Location::file(self.source.path()) }, cause)
            }
        })
    }

    fn invalid(&self, cause: String) -> TensorflowError {
        TensorflowError::invalid(Location::file(self.source.path()), cause)
    }

    /// The file; that of a SavedModel, not its folder.
    pub fn source(&self) -> &SourceFile {
        &self.source
    }

    /// How it is written.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Which of the format's messages it is.
    pub fn container(&self) -> Container {
        self.container
    }

    /// The graph in it.
    pub fn graph(&self) -> &GraphDef {
        &self.graph
    }

    /// Inputs and outputs that the graph was saved with, by the name of their purpose.
    pub fn signatures(&self) -> &[Signature] {
        &self.signatures
    }

    /// Where the variables of a SavedModel are: folder and first part of the file names.
    pub fn variables(&self) -> Option<&Path> {
        self.variables.as_deref()
    }

    /// Whether it was saved by TensorFlow 2: its variables then stand under the paths of objects.
    pub fn has_objects(&self) -> bool {
        self.has_objects
    }

    /// The file that `graph`, an edited copy of the document's, makes as a GraphDef. An unedited copy of a GraphDef
    /// makes the file itself, if it is written the same way.
    ///
    /// # Errors
    /// If a field has no name in the text format.
    pub fn render(&self, graph: &GraphDef, encoding: Encoding) -> Result<Vec<u8>, TensorflowError> {
        let is_file = self.container == Container::Graph && self.encoding == encoding;
        if is_file && graph.is_unchanged() && graph.same_source(&self.graph) {
            return Ok(self.source.bytes().to_vec());
        }
        render(graph, encoding).map_err(|error| error.in_file(self.source.path()))
    }
}

/// The file that a graph makes.
///
/// # Errors
/// If a field has no name in the text format.
pub fn render(graph: &GraphDef, encoding: Encoding) -> Result<Vec<u8>, TensorflowError> {
    let binary = graph.to_vec();
    match encoding {
        Encoding::Binary => Ok(binary),
        Encoding::Text => {
            let limits = Limits { max_fields: MOST_FIELDS, ..Limits::default() };
            let text = text::print(&binary, &GRAPH, &limits);
            let hinted =
                |cause| TensorflowError::unsupported(Location::default(), cause).with_hint("write it as binary");
            text.map(String::into_bytes).map_err(hinted)
        }
    }
}

/// The message in a text, in the wire format.
fn read_text(source: &SourceFile, limits: &Limits) -> Result<(Bytes, Container), TensorflowError> {
    let items = limits.max_items.max(source.bytes().len() / BYTES_PER_ITEM).min(MOST_ITEMS);
    let roomy = Limits { max_items: items, ..*limits };
    let text = TextDocument::parse(source.clone(), &roomy)?;
    let container = Container::of_text(text.root());
    let schema: &Message = match container {
        Container::Graph => &GRAPH,
        Container::MetaGraph => &META_GRAPH,
        Container::SavedModel => &SAVED_MODEL,
    };
    let bytes = text::encode(text.root(), schema).map_err(|misfit| {
        let line = Some(text.line(misfit.offset));
        TensorflowError::invalid(Location { line, ..Location::file(source.path()) }, misfit.cause)
    })?;
    Ok((bytes.into(), container))
}

/// The payload of each field with this number, indexed as a message.
fn children<'m>(
    bytes: &'m Bytes,
    message: &'m MessageIndex,
    number: u32,
    limits: &'m Limits,
) -> impl Iterator<Item = Result<MessageIndex, quantize_document::WireError>> + 'm {
    message.with_number(number).map(move |(_, field)| message.child(bytes, field, limits))
}

/// The text of each field with this number.
fn texts<'m>(bytes: &'m Bytes, message: &'m MessageIndex, number: u32) -> impl Iterator<Item = String> + 'm {
    let fields = message.with_number(number);
    fields.map(|(_, field)| String::from_utf8_lossy(&slice(bytes, field.payload())).into_owned())
}
