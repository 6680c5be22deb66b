//! A graph that can be edited: nodes in a list, everything else of the message carried as it is.
//!
//! While nothing is edited the graph is its bytes. Nodes that are not edited keep theirs in any graph they are put in.

use crate::error::TensorflowError;
use crate::names::nearest;
use crate::node::{NodeDef, NodeFault, Original, Port};
use crate::wire::slice;
use bytes::Bytes;
use quantize_document::encode::length_prefix;
use quantize_document::{Limits, Location, MessageIndex, WireError, WireType, index_message};
use std::collections::HashMap;
use std::io;

// Fields of `GraphDef`, and of what is in its library.
const NODE: u32 = 1;
const LIBRARY: u32 = 2;
const FUNCTION: u32 = 1;
const FUNCTION_NODE: u32 = 3;

/// What to do about a name that resembles none.
const NAMES: &str =
    "`quantize tf summarize --in_graph=GRAPH` lists inputs and outputs, with `--print_structure` all nodes";

/// Inputs and attributes of all nodes together may be so many times the limit of nodes.
const PARTS_PER_NODE: usize = 16;

/// A graph.
#[derive(Clone, Debug, Default)]
pub struct GraphDef {
    nodes: Vec<NodeDef>,
    /// Fields in front of the first node and all others that are no nodes.
    head: Bytes,
    tail: Bytes,
    /// The message as it was read, and its number of nodes.
    original: Option<(Bytes, usize)>,
}

/// Why the bytes of a graph are none.
#[derive(Debug)]
pub(crate) enum GraphFault {
    /// They are no message, or too large a one.
    Wire(WireError),
    /// A node is none.
    Node {
        /// Its position.
        index: usize,
        /// What is wrong.
        cause: String,
    },
    /// There are too many parts.
    Limit(String),
}

impl From<WireError> for GraphFault {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

impl GraphDef {
    /// A graph of these nodes and nothing else.
    pub fn new(nodes: Vec<NodeDef>) -> Self {
        Self { nodes, ..Self::default() }
    }

    /// Decodes the `GraphDef` whose fields `message` has in `file`.
    pub(crate) fn decode(file: &Bytes, message: &MessageIndex, limits: &Limits) -> Result<Self, GraphFault> {
        let count = message.with_number(NODE).count();
        limits.check_items(count, "nodes").map_err(|exceeded| GraphFault::Limit(exceeded.to_string()))?;
        let mut graph = Self::default();
        let (mut head, mut tail) = (Vec::new(), Vec::new());
        let mut parts = 0;
        for field in message.fields() {
            if (field.number(), field.wire_type()) != (NODE, WireType::LengthDelimited) {
                let part = if graph.nodes.is_empty() { &mut head } else { &mut tail };
                part.extend_from_slice(file.get(field.whole()).unwrap_or_default());
                continue;
            }
            let index = graph.nodes.len();
            let inner = message.child(file, field, limits)?;
            parts += inner.fields().len();
            if parts > limits.max_items.saturating_mul(PARTS_PER_NODE) {
                return Err(GraphFault::Limit("its nodes have too many inputs and attributes".into()));
            }
            let original = Original { position: index, field: slice(file, field.whole()) };
            let node = NodeDef::decode(file, &inner, Some(original), limits).map_err(|fault| match fault {
                NodeFault::Wire(error) => GraphFault::Wire(error),
                NodeFault::NoText(offset) => GraphFault::Node { index, cause: no_text(offset) },
            })?;
            graph.nodes.push(node);
        }
        (graph.head, graph.tail) = (head.into(), tail.into());
        graph.original = Some((slice(file, message.range()), graph.nodes.len()));
        Ok(graph)
    }

    /// The nodes.
    pub fn nodes(&self) -> &[NodeDef] {
        &self.nodes
    }

    /// The nodes, to be edited, put in another order, added and taken away.
    pub fn nodes_mut(&mut self) -> &mut Vec<NodeDef> {
        &mut self.nodes
    }

    /// The same graph with other nodes.
    #[must_use]
    pub fn with_nodes(&self, nodes: Vec<NodeDef>) -> Self {
        Self { nodes, ..self.clone() }
    }

    /// Whether the graph is as it was read.
    pub fn is_unchanged(&self) -> bool {
        let in_place = |(index, node): (usize, &NodeDef)| node.original().is_some_and(|o| o.position == index);
        let same = |(_, count): &(Bytes, usize)| *count == self.nodes.len();
        self.original.as_ref().is_some_and(same) && self.nodes.iter().enumerate().all(in_place)
    }

    /// Whether both were read from the same bytes in memory.
    pub(crate) fn same_source(&self, other: &Self) -> bool {
        let source = |graph: &Self| graph.original.as_ref().map(|(bytes, _)| bytes.as_ptr_range());
        source(self) == source(other)
    }

    /// Writes the `GraphDef`: the original bytes if nothing was edited, otherwise what stands in front of the nodes, the
    /// nodes, and the rest.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_to<W: io::Write + ?Sized>(&self, out: &mut W) -> io::Result<()> {
        if let Some((original, _)) = self.original.as_ref().filter(|_| self.is_unchanged()) {
            return out.write_all(original);
        }
        out.write_all(&self.head)?;
        for node in &self.nodes {
            match node.original() {
                Some(original) => out.write_all(&original.field)?,
                None => {
                    let encoded = node.encode();
                    out.write_all(&length_prefix(NODE, encoded.len()))?;
                    out.write_all(&encoded)?;
                }
            }
        }
        out.write_all(&self.tail)
    }

    /// Size of the `GraphDef`, in bytes.
    pub fn encoded_len(&self) -> usize {
        let node = |node: &NodeDef| match node.original() {
            Some(original) => original.field.len(),
            None => {
                let length = node.encode().len();
                length_prefix(NODE, length).len() + length
            }
        };
        match self.original.as_ref().filter(|_| self.is_unchanged()) {
            Some((original, _)) => original.len(),
            None => self.head.len() + self.nodes.iter().map(node).sum::<usize>() + self.tail.len(),
        }
    }

    /// The `GraphDef` in memory.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut out = Vec::new();
        // Writing to a vector cannot fail.
        let _ = self.write_to(&mut out);
        out
    }

    /// The nodes in the bodies of the functions that the graph brings along.
    ///
    /// # Errors
    /// If the library does not decode.
    pub fn function_nodes(&self, limits: &Limits) -> Result<Vec<NodeDef>, TensorflowError> {
        let rest: Bytes = [&*self.head, &*self.tail].concat().into();
        let read = || -> Result<Vec<NodeDef>, NodeFault> {
            let graph = index_message(&rest, 0..rest.len(), limits)?;
            let mut nodes = Vec::new();
            for (_, library) in graph.with_number(LIBRARY) {
                let library = graph.child(&rest, library, limits)?;
                for (_, function) in library.with_number(FUNCTION) {
                    let function = library.child(&rest, function, limits)?;
                    for (_, node) in function.with_number(FUNCTION_NODE) {
                        nodes.push(NodeDef::decode(&rest, &function.child(&rest, node, limits)?, None, limits)?);
                    }
                }
            }
            Ok(nodes)
        };
        read().map_err(|fault| {
            let location = Location { item: Some("the library of functions".into()), ..Location::default() };
            let cause = match fault {
                NodeFault::Wire(error) => error.to_string(),
                NodeFault::NoText(offset) => no_text(offset),
            };
            TensorflowError::invalid(location, cause)
        })
    }

    /// Positions of the nodes by name.
    ///
    /// # Errors
    /// If two nodes have the same name.
    pub fn index(&self) -> Result<GraphIndex<'_>, TensorflowError> {
        let mut by_name = HashMap::with_capacity(self.nodes.len());
        for (position, node) in self.nodes.iter().enumerate() {
            if by_name.insert(node.name(), position).is_some() {
                return Err(TensorflowError::invalid(Location::node(node.name()), "there are two of this name"));
            }
        }
        Ok(GraphIndex { graph: self, by_name })
    }
}

fn no_text(offset: usize) -> String {
    format!("the text at byte {offset} is no UTF-8")
}

/// A graph whose nodes are found by name.
#[derive(Debug)]
pub struct GraphIndex<'g> {
    graph: &'g GraphDef,
    by_name: HashMap<&'g str, usize>,
}

impl<'g> GraphIndex<'g> {
    /// Position of the node of this name.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// Number of nodes.
    pub(crate) fn len(&self) -> usize {
        self.graph.nodes.len()
    }

    /// The node at a position.
    pub fn at(&self, position: usize) -> Option<&'g NodeDef> {
        self.graph.nodes.get(position)
    }

    /// The node of this name.
    pub fn node(&self, name: &str) -> Option<&'g NodeDef> {
        self.graph.nodes.get(self.position(name)?)
    }

    /// The node of this name, or the error that there is none, with the names that come nearest.
    ///
    /// # Errors
    /// If there is none.
    pub fn find(&self, name: &str) -> Result<&'g NodeDef, TensorflowError> {
        self.node(name).ok_or_else(|| {
            let error =
                TensorflowError::invalid(Location::default(), format!("there is no node `{name}` in the graph"));
            let suggestion = nearest(name, self.graph.nodes.iter().map(NodeDef::name));
            error.with_hint(suggestion.unwrap_or_else(|| NAMES.to_owned()))
        })
    }

    /// Position of the node that `reader` reads under this name.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) fn producer(&self, reader: &NodeDef, name: &str) -> Result<usize, TensorflowError> {
        self.position(name).ok_or_else(|| dangling(reader, name))
    }

    /// Positions of the nodes that read each node, by its position: who reads which output. A reader that has it more
    /// than once stands there as often.
    ///
    /// # Errors
    /// If an input names a node that does not exist.
    pub fn consumers(&self) -> Result<Vec<Vec<(usize, Port)>>, TensorflowError> {
        let mut consumers = vec![Vec::new(); self.graph.nodes.len()];
        for (reader, node) in self.graph.nodes.iter().enumerate() {
            for input in node.refs() {
                let producer = self.producer(node, input.node)?;
                if let Some(readers) = consumers.get_mut(producer) {
                    readers.push((reader, input.port));
                }
            }
        }
        Ok(consumers)
    }

    /// Checks that every input names a node.
    ///
    /// # Errors
    /// The first that does not.
    pub fn check_inputs(&self) -> Result<(), TensorflowError> {
        self.consumers().map(|_| ())
    }
}

fn dangling(node: &NodeDef, input: &str) -> TensorflowError {
    let location = Location::node(node.name());
    TensorflowError::invalid(location, format!("its input `{input}` refers to a node that does not exist"))
}
