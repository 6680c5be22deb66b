//! The graph: nodes wired by values, each value with one producer and any number of consumers.
//!
//! Iteration is always in node order (the document's order for what a front-end built) or in topological order with
//! node order as tie-break, so everything derived from a graph is deterministic.

use crate::dtype::DType;
use crate::op::Op;
use crate::origin::Origin;
use crate::patch::{Before, Operand, Patch, PatchEdit, Reversal};
use crate::shape::Shape;
use crate::tensor::{Tensor, TensorData, TensorError};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::sync::Arc;

/// Handle of a node; stays valid when other nodes are removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(u32);

/// Handle of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValueId(u32);

impl NodeId {
    /// Position in node order, for dense tables.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl ValueId {
    /// Position in the value arena, for dense tables.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// One operator application.
#[derive(Clone, Debug)]
pub struct Node {
    /// Name in the source document; may be empty, need not be unique.
    pub name: String,
    /// What it computes.
    pub op: Op,
    /// Operands by slot; `None` for an optional operand left out.
    pub inputs: Vec<Option<ValueId>>,
    /// Results by slot; `None` for a result nobody asked for.
    pub outputs: Vec<Option<ValueId>>,
    /// Nodes that must run before this one without passing it a value (control edges).
    pub after: Vec<NodeId>,
    /// Where it came from.
    pub origin: Origin,
}

impl Node {
    /// The operand in `slot`, if there is one.
    pub fn input(&self, slot: usize) -> Option<ValueId> {
        self.inputs.get(slot).copied().flatten()
    }

    /// The result in `slot`, if there is one.
    pub fn output(&self, slot: usize) -> Option<ValueId> {
        self.outputs.get(slot).copied().flatten()
    }
}

/// Reads constants that stay in their document until someone needs them.
pub trait ConstantSource: fmt::Debug + Send + Sync {
    /// Reads item `key` of the document.
    ///
    /// # Errors
    /// A message naming the item if it cannot be decoded.
    fn read(&self, key: u32) -> Result<Tensor, String>;

    /// Shows the elements of item `key` in memory order, piece after piece: large ones need not be in memory together.
    ///
    /// # Errors
    /// As [`ConstantSource::read`]; some pieces may have been shown then.
    fn read_pieces(&self, key: u32, see: &mut dyn FnMut(&TensorData)) -> Result<(), String> {
        see(self.read(key)?.data());
        Ok(())
    }
}

/// A value known before execution.
#[derive(Clone, Debug)]
pub enum Constant {
    /// In memory.
    Owned(Arc<Tensor>),
    /// In the source document.
    Stored {
        /// The document.
        source: Arc<dyn ConstantSource>,
        /// Its key there.
        key: u32,
        /// Dimensions the document declares.
        shape: Vec<usize>,
    },
}

impl Constant {
    /// A constant in memory.
    pub fn owned(tensor: Tensor) -> Self {
        Self::Owned(Arc::new(tensor))
    }

    /// The dimensions, without reading the elements.
    pub fn shape(&self) -> &[usize] {
        match self {
            Self::Owned(tensor) => tensor.shape(),
            Self::Stored { shape, .. } => shape,
        }
    }

    /// The elements.
    ///
    /// # Errors
    /// [`GraphError::Constant`] if the document cannot decode them.
    pub fn tensor(&self) -> Result<Arc<Tensor>, GraphError> {
        match self {
            Self::Owned(tensor) => Ok(Arc::clone(tensor)),
            Self::Stored { source, key, .. } => source.read(*key).map(Arc::new).map_err(GraphError::Constant),
        }
    }

    /// Shows the elements in memory order, piece after piece.
    ///
    /// # Errors
    /// [`GraphError::Constant`] if the document cannot decode them.
    pub fn pieces(&self, see: &mut dyn FnMut(&TensorData)) -> Result<(), GraphError> {
        match self {
            Self::Owned(tensor) => see(tensor.data()),
            Self::Stored { source, key, .. } => source.read_pieces(*key, see).map_err(GraphError::Constant)?,
        }
        Ok(())
    }
}

/// A tensor flowing through the graph: a graph input, a constant, or the result of a node.
#[derive(Clone, Debug)]
pub struct Value {
    /// Name in the source document; need not be unique.
    pub name: String,
    /// Element type, if declared or inferred.
    pub dtype: Option<DType>,
    /// Declared shape, if any.
    pub shape: Option<Shape>,
    /// Its elements, if they are known before execution. A node's result may have them too: then it was folded, and
    /// the node need not run.
    pub constant: Option<Constant>,
    /// Where it came from, for constants that stand in the document on their own.
    pub origin: Option<Origin>,
    producer: Option<(NodeId, usize)>,
    consumers: Vec<(NodeId, usize)>,
    is_output: bool,
}

impl Value {
    /// A value without type, shape, data or producer.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            dtype: None,
            shape: None,
            constant: None,
            origin: None,
            producer: None,
            consumers: Vec::new(),
            is_output: false,
        }
    }

    /// Node and output slot that compute it; `None` for graph inputs and stand-alone constants.
    pub fn producer(&self) -> Option<(NodeId, usize)> {
        self.producer
    }

    /// Nodes and input slots that read it, in node order.
    pub fn consumers(&self) -> &[(NodeId, usize)] {
        &self.consumers
    }
}

/// What can be wrong with a graph.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GraphError {
    /// Nodes wait for each other.
    #[error("nodes {} form a cycle", listed(.nodes))]
    Cycle {
        /// Names of the nodes of one cycle.
        nodes: Vec<String>,
    },
    /// Two nodes write the same value.
    #[error("value `{value}` is written by two nodes")]
    TwoProducers {
        /// The value.
        value: String,
    },
    /// A constant cannot be read.
    #[error("{0}")]
    Constant(String),
    /// A constant's elements do not fit.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// A patch names a node that is gone, or that reads something else by now.
    #[error("pass `{pass}` edits a node that is not in the graph, or not as the pass knew it")]
    Stale {
        /// The pass.
        pass: &'static str,
    },
}

/// Names that a message lists; of more, it says how many.
const LISTED: usize = 8;

fn listed(names: &[String]) -> String {
    let mut listed: Vec<String> = names.iter().take(LISTED).map(|name| format!("`{name}`")).collect();
    if names.len() > LISTED {
        listed.push(format!("and {} more", names.len() - LISTED));
    }
    listed.join(", ")
}

/// A computation graph.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    nodes: Vec<Option<Node>>,
    values: Vec<Value>,
    inputs: Vec<ValueId>,
    outputs: Vec<ValueId>,
}

impl Graph {
    /// An empty graph.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty graph with room for so many nodes and values.
    pub fn with_room(nodes: usize, values: usize) -> Self {
        Self { nodes: Vec::with_capacity(nodes), values: Vec::with_capacity(values), ..Self::default() }
    }

    /// Adds a value and returns its handle.
    pub fn add_value(&mut self, value: Value) -> ValueId {
        let id = ValueId(u32::try_from(self.values.len()).unwrap_or(u32::MAX));
        self.values.push(value);
        id
    }

    /// Adds a stand-alone constant.
    pub fn add_constant(
        &mut self,
        name: impl Into<String>,
        constant: Constant,
        dtype: DType,
        origin: Origin,
    ) -> ValueId {
        let mut value = Value::named(name);
        value.dtype = Some(dtype);
        value.constant = Some(constant);
        value.origin = Some(origin);
        self.add_value(value)
    }

    /// Adds a node, wiring its operands and results.
    ///
    /// # Errors
    /// If one of its results has a producer already.
    pub fn add_node(&mut self, node: Node) -> Result<NodeId, GraphError> {
        let id = NodeId(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX));
        self.nodes.push(None);
        self.place(id, node)?;
        Ok(id)
    }

    fn place(&mut self, id: NodeId, node: Node) -> Result<(), GraphError> {
        if let Some(taken) = node.outputs.iter().flatten().find(|v| self.value(**v).producer.is_some()) {
            return Err(GraphError::TwoProducers { value: self.value(*taken).name.clone() });
        }
        for (slot, value) in node.outputs.iter().enumerate() {
            if let Some(v) = value {
                self.values[v.index()].producer = Some((id, slot));
            }
        }
        for (slot, value) in node.inputs.iter().enumerate() {
            if let Some(v) = value {
                let consumers = &mut self.values[v.index()].consumers;
                if consumers.len() < 4 {
                    // Most values have one or two readers, and a list that grows by itself begins with room for four.
                    consumers.reserve_exact(1);
                }
                let at = consumers.partition_point(|c| *c < (id, slot));
                consumers.insert(at, (id, slot));
            }
        }
        self.nodes[id.index()] = Some(node);
        Ok(())
    }

    /// Takes a node out of the graph; its results stay as values without producer.
    pub fn remove_node(&mut self, id: NodeId) -> Option<Node> {
        let node = self.nodes.get_mut(id.index())?.take()?;
        for value in node.outputs.iter().flatten() {
            self.values[value.index()].producer = None;
        }
        for value in node.inputs.iter().flatten() {
            self.values[value.index()].consumers.retain(|(n, _)| *n != id);
        }
        Some(node)
    }

    /// Declares the graph's inputs, in order.
    pub fn set_inputs(&mut self, inputs: Vec<ValueId>) {
        self.inputs = inputs;
    }

    /// Declares the graph's outputs, in order.
    ///
    /// # Panics
    /// If a value belongs to another graph.
    pub fn set_outputs(&mut self, outputs: Vec<ValueId>) {
        for value in std::mem::replace(&mut self.outputs, outputs) {
            self.values[value.index()].is_output = false;
        }
        for value in &self.outputs {
            self.values[value.index()].is_output = true;
        }
    }

    /// Values the caller feeds, in order; constants are not among them.
    pub fn inputs(&self) -> &[ValueId] {
        &self.inputs
    }

    /// Values the caller receives, in order.
    pub fn outputs(&self) -> &[ValueId] {
        &self.outputs
    }

    /// Whether the caller receives `value`.
    ///
    /// # Panics
    /// If it belongs to another graph.
    pub fn is_output(&self, value: ValueId) -> bool {
        self.value(value).is_output
    }

    /// The node behind `id`, unless it was removed.
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id.index()).and_then(Option::as_ref)
    }

    /// The value behind `id`.
    ///
    /// # Panics
    /// If `id` belongs to another graph.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.index()]
    }

    /// The value behind `id`, to annotate it.
    ///
    /// # Panics
    /// If `id` belongs to another graph.
    pub fn value_mut(&mut self, id: ValueId) -> &mut Value {
        &mut self.values[id.index()]
    }

    /// All nodes, in node order.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        (0u32..).zip(&self.nodes).filter_map(|(i, node)| Some((NodeId(i), node.as_ref()?)))
    }

    /// All values, in the order they were added.
    pub fn values(&self) -> impl Iterator<Item = (ValueId, &Value)> {
        (0u32..).zip(&self.values).map(|(i, value)| (ValueId(i), value))
    }

    /// Number of values ever added: the size of a table indexed by [`ValueId::index`].
    pub fn value_count(&self) -> usize {
        self.values.len()
    }

    /// Node that computes `value`.
    pub fn producer(&self, value: ValueId) -> Option<(NodeId, &Node)> {
        let (id, _) = self.value(value).producer?;
        Some((id, self.node(id)?))
    }

    /// The only reader of `value`, if there is exactly one and the caller does not receive the value.
    pub fn sole_consumer(&self, value: ValueId) -> Option<(NodeId, usize)> {
        match self.value(value).consumers.as_slice() {
            [one] if !self.is_output(value) => Some(*one),
            _ => None,
        }
    }

    /// The elements of `value`, if they are known before execution.
    ///
    /// # Errors
    /// If they are known but cannot be read.
    pub fn constant(&self, value: ValueId) -> Result<Option<Arc<Tensor>>, GraphError> {
        self.value(value).constant.as_ref().map(Constant::tensor).transpose()
    }

    /// How messages call a node: its name, or its operator and first result if it has none.
    pub fn label(&self, id: NodeId) -> String {
        let Some(node) = self.node(id) else { return format!("#{}", id.index()) };
        if !node.name.is_empty() {
            return node.name.clone();
        }
        let result = node.outputs.iter().flatten().next();
        result.map_or_else(|| node.op.name().to_owned(), |v| format!("{}->{}", node.op.name(), self.value(*v).name))
    }

    /// Nodes in an order in which each comes after what it reads; ties keep node order.
    ///
    /// # Errors
    /// [`GraphError::Cycle`] naming the nodes of a cycle.
    pub fn topological_order(&self) -> Result<Vec<NodeId>, GraphError> {
        let mut waiting = vec![0_usize; self.nodes.len()];
        let mut edges: Vec<(NodeId, NodeId)> = Vec::with_capacity(self.nodes.len());
        let mut count = 0;
        for (id, node) in self.nodes() {
            let before = self.predecessors(node);
            waiting[id.index()] = before.len();
            edges.extend(before.into_iter().map(|p| (p, id)));
            count += 1;
        }
        edges.sort_unstable();
        let ready = self.nodes().map(|(id, _)| id).filter(|id| waiting[id.index()] == 0);
        let mut ready: BinaryHeap<Reverse<NodeId>> = ready.map(Reverse).collect();
        let mut order = Vec::with_capacity(count);
        while let Some(Reverse(id)) = ready.pop() {
            order.push(id);
            let first = edges.partition_point(|(from, _)| *from < id);
            for (_, next) in edges.iter().skip(first).take_while(|(from, _)| *from == id) {
                waiting[next.index()] -= 1;
                if waiting[next.index()] == 0 {
                    ready.push(Reverse(*next));
                }
            }
        }
        if order.len() == count { Ok(order) } else { Err(self.cycle(&waiting)) }
    }

    fn predecessors(&self, node: &Node) -> Vec<NodeId> {
        let producers = node.inputs.iter().flatten().filter_map(|v| self.value(*v).producer).map(|(n, _)| n);
        let control = node.after.iter().copied().filter(|n| self.node(*n).is_some());
        let mut all: Vec<NodeId> = producers.chain(control).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The cycle that is met by going backwards from the first node that still waits: each such node has one before it
    /// that waits too.
    fn cycle(&self, waiting: &[usize]) -> GraphError {
        let waits = |id: &NodeId| waiting[id.index()] > 0;
        let before = |id: NodeId| self.predecessors(self.node(id)?).into_iter().find(waits);
        let mut position = vec![None; self.nodes.len()];
        let mut path = Vec::new();
        let mut next = self.nodes().map(|(id, _)| id).find(waits);
        while let Some(id) = next.filter(|id| position[id.index()].is_none()) {
            position[id.index()] = Some(path.len());
            path.push(id);
            next = before(id);
        }
        let start = next.and_then(|id| position[id.index()]).unwrap_or_default();
        drop(position);
        let mut cycle = path.split_off(start);
        cycle.sort_unstable();
        GraphError::Cycle { nodes: cycle.into_iter().map(|n| self.label(n)).collect() }
    }

    /// Carries out the edits of a patch, in order. What it returns takes them back, with [`Graph::revert`].
    ///
    /// # Errors
    /// If a node it edits was removed before, or a value would get two producers; edits before that one stay.
    pub fn apply(&mut self, patch: Patch) -> Result<Reversal, GraphError> {
        let Patch { pass, edits, .. } = patch;
        let mut reversal = Reversal { nodes: self.nodes.len(), values: self.values.len(), befores: Vec::new() };
        for edit in edits {
            match edit {
                PatchEdit::Annotate { value, constant } => {
                    let constant = self.value_mut(value).constant.replace(constant);
                    reversal.befores.push(Before::Constant { value, constant });
                }
                PatchEdit::Remove { node: id } => {
                    let node = self.remove_node(id).ok_or(GraphError::Stale { pass })?.into();
                    reversal.befores.push(Before::Node { id, node });
                }
                PatchEdit::Rewire { node: id, op, inputs, outputs } => {
                    let node = self.remove_node(id).ok_or(GraphError::Stale { pass })?;
                    let (name, after, origin) = (node.name.clone(), node.after.clone(), node.origin.clone());
                    let inputs = inputs.into_iter().map(|o| self.operand(o, pass, &origin)).collect();
                    self.place(id, Node { name, op, inputs, outputs, after, origin })?;
                    reversal.befores.push(Before::Node { id, node: node.into() });
                }
                PatchEdit::Insert { name, op, from, others, output, readers } => {
                    let documents = self.producer(from).map_or(Vec::new(), |(_, n)| n.origin.documents().to_vec());
                    let origin = Origin::Synthesized { pass, from: documents };
                    let mut result = Value::named(output);
                    (result.dtype, result.shape) = (self.value(from).dtype, self.value(from).shape.clone());
                    let result = self.add_value(result);
                    let others = others.into_iter().map(|o| self.operand(o, pass, &origin));
                    let inputs = [Some(from)].into_iter().chain(others.collect::<Vec<_>>()).collect();
                    self.add_node(Node { name, op, inputs, outputs: vec![Some(result)], after: vec![], origin })?;
                    for (id, slot) in readers {
                        let node = self.redirect((id, slot), (from, result), pass)?.into();
                        reversal.befores.push(Before::Node { id, node });
                    }
                }
            }
        }
        Ok(reversal)
    }

    /// Takes back a patch. Those applied after it must have been taken back before.
    ///
    /// # Errors
    /// If a value would get two producers, because the graph was changed in the meantime.
    pub fn revert(&mut self, reversal: Reversal) -> Result<(), GraphError> {
        for before in reversal.befores.into_iter().rev() {
            match before {
                Before::Constant { value, constant } => self.value_mut(value).constant = constant,
                Before::Node { id, node } => {
                    self.remove_node(id);
                    self.place(id, *node)?;
                }
            }
        }
        let added: Vec<NodeId> = self.nodes().map(|(id, _)| id).skip_while(|id| id.index() < reversal.nodes).collect();
        added.into_iter().for_each(|id| drop(self.remove_node(id)));
        self.nodes.truncate(reversal.nodes);
        self.values.truncate(reversal.values);
        Ok(())
    }

    /// Lets a node read `to` where it read `from`; the node as it was.
    fn redirect(
        &mut self,
        (id, slot): (NodeId, usize),
        (from, to): (ValueId, ValueId),
        pass: &'static str,
    ) -> Result<Node, GraphError> {
        let is_reader = self.node(id).is_some_and(|node| node.input(slot) == Some(from));
        let before = if is_reader { self.remove_node(id) } else { None }.ok_or(GraphError::Stale { pass })?;
        let mut reader = before.clone();
        reader.inputs.get_mut(slot).into_iter().for_each(|operand| *operand = Some(to));
        self.place(id, reader)?;
        Ok(before)
    }

    fn operand(&mut self, operand: Operand, pass: &'static str, origin: &Origin) -> Option<ValueId> {
        match operand {
            Operand::Absent => None,
            Operand::Value(value) => Some(value),
            Operand::Constant { name, tensor } => {
                let dtype = tensor.dtype();
                let origin = Origin::Synthesized { pass, from: origin.documents().to_vec() };
                Some(self.add_constant(name, Constant::owned(tensor), dtype, origin))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::{Opaque, Unary};

    fn relu(graph: &mut Graph, name: &str, input: ValueId, output: ValueId) -> NodeId {
        graph.add_node(node(name, vec![Some(input)], vec![Some(output)])).unwrap()
    }

    fn node(name: &str, inputs: Vec<Option<ValueId>>, outputs: Vec<Option<ValueId>>) -> Node {
        let origin = Origin::Synthesized { pass: "test", from: vec![] };
        Node { name: name.into(), op: Op::Unary(Unary::Relu), inputs, outputs, after: vec![], origin }
    }

    fn values(graph: &mut Graph, names: &[&str]) -> Vec<ValueId> {
        names.iter().map(|n| graph.add_value(Value::named(*n))).collect()
    }

    #[test]
    fn topological_order_keeps_node_order_among_equals() {
        let mut g = Graph::new();
        let v = values(&mut g, &["x", "a", "b", "c"]);
        let last = relu(&mut g, "last", v[1], v[3]);
        let first = relu(&mut g, "first", v[0], v[1]);
        let second = relu(&mut g, "second", v[0], v[2]);
        assert_eq!(g.topological_order(), Ok(vec![first, last, second]));
    }

    #[test]
    fn control_edges_order_nodes_without_a_value() {
        let mut g = Graph::new();
        let v = values(&mut g, &["x", "a", "b"]);
        let mut early = node("early", vec![Some(v[0])], vec![Some(v[1])]);
        early.after = vec![NodeId(1)];
        let early = g.add_node(early).unwrap();
        let late = relu(&mut g, "late", v[0], v[2]);
        assert_eq!(g.topological_order(), Ok(vec![late, early]));
    }

    #[test]
    fn a_long_cycle_needs_no_stack_and_names_a_few_of_its_nodes() {
        let mut g = Graph::new();
        let v: Vec<ValueId> = (0..200_000).map(|at| g.add_value(Value::named(format!("v{at}")))).collect();
        for at in 0..v.len() {
            relu(&mut g, &format!("n{at}"), v[at], v[(at + 1) % v.len()]);
        }
        let message = g.topological_order().unwrap_err().to_string();
        assert!(message.starts_with("nodes `n0`, `n1`, `n2`") && message.ends_with("and 199992 more form a cycle"));
    }

    #[test]
    fn only_a_cycle_is_named_not_what_leads_from_it() {
        let mut g = Graph::new();
        let v = values(&mut g, &["a", "b", "c", "d"]);
        relu(&mut g, "behind", v[1], v[2]);
        relu(&mut g, "further", v[2], v[3]);
        relu(&mut g, "itself", v[1], v[1]);
        assert_eq!(g.topological_order().unwrap_err().to_string(), "nodes `itself` form a cycle");
    }

    #[test]
    fn a_cycle_names_its_nodes() {
        let mut g = Graph::new();
        let v = values(&mut g, &["a", "b", "c"]);
        relu(&mut g, "one", v[0], v[1]);
        relu(&mut g, "two", v[1], v[0]);
        relu(&mut g, "behind", v[1], v[2]);
        let error = g.topological_order().unwrap_err();
        assert_eq!(error.to_string(), "nodes `one`, `two` form a cycle");
    }

    #[test]
    fn two_producers_are_refused() {
        let mut g = Graph::new();
        let v = values(&mut g, &["x", "y"]);
        relu(&mut g, "one", v[0], v[1]);
        let second = g.add_node(node("two", vec![Some(v[0])], vec![Some(v[1])]));
        assert_eq!(second, Err(GraphError::TwoProducers { value: "y".into() }));
    }

    #[test]
    fn a_patch_rewires_and_removes() {
        let mut g = Graph::new();
        let v = values(&mut g, &["x", "mid", "y"]);
        let head = relu(&mut g, "head", v[0], v[1]);
        let tail = relu(&mut g, "tail", v[1], v[2]);
        let opaque = Op::Opaque(Opaque { domain: "d".into(), kind: "Fused".into() });
        let weight = Operand::Constant { name: "w".into(), tensor: Tensor::scalar(1f32) };
        let before = format!("{g:?}");
        let fused = g.apply(Patch {
            pass: "fuse",
            because: "test".into(),
            edits: vec![
                PatchEdit::Annotate { value: v[0], constant: Constant::owned(Tensor::scalar(0f32)) },
                PatchEdit::Remove { node: tail },
                PatchEdit::Rewire {
                    node: head,
                    op: opaque,
                    inputs: vec![Operand::Value(v[0]), weight, Operand::Absent],
                    outputs: vec![Some(v[2])],
                },
            ],
        });
        assert_eq!(g.producer(v[2]).map(|(id, _)| id), Some(head));
        assert!(g.value(v[1]).producer().is_none() && g.value(v[1]).consumers().is_empty());
        let weight = g.node(head).and_then(|n| n.input(1)).unwrap();
        assert!(g.constant(weight).unwrap().is_some());
        assert_eq!(g.value(weight).consumers(), &[(head, 1)]);
        let stale = Patch { pass: "fuse", because: String::new(), edits: vec![PatchEdit::Remove { node: tail }] };
        assert_eq!(g.apply(stale).unwrap_err(), GraphError::Stale { pass: "fuse" });
        g.revert(fused.unwrap()).unwrap();
        assert_eq!(format!("{g:?}"), before);
    }

    #[test]
    fn a_patch_inserts_before_some_readers() {
        let mut g = Graph::new();
        let v = values(&mut g, &["x", "a", "b"]);
        g.value_mut(v[0]).dtype = Some(DType::F32);
        let (one, other) = (relu(&mut g, "one", v[0], v[1]), relu(&mut g, "other", v[0], v[2]));
        let insert = |readers| Patch {
            pass: "scale",
            because: "test".into(),
            edits: vec![PatchEdit::Insert {
                name: "scaled".into(),
                op: Op::Unary(Unary::Relu),
                from: v[0],
                others: vec![Operand::Constant { name: "c".into(), tensor: Tensor::scalar(1f32) }],
                output: "x_scaled".into(),
                readers,
            }],
        };
        let before = format!("{g:?}");
        let inserted = g.apply(insert(vec![(one, 0)])).unwrap();
        let new = g.node(one).and_then(|n| n.input(0)).unwrap();
        let (id, node) = g.producer(new).unwrap();
        assert_eq!((node.inputs.len(), node.name.as_str(), g.value(new).name.as_str()), (2, "scaled", "x_scaled"));
        assert_eq!(g.value(new).dtype, Some(DType::F32));
        assert_eq!(g.value(v[0]).consumers(), &[(other, 0), (id, 0)]);
        g.revert(inserted).unwrap();
        assert_eq!(format!("{g:?}"), before);
        let stale = g.apply(insert(vec![(one, 0), (one, 0)])).unwrap_err();
        assert_eq!(stale, GraphError::Stale { pass: "scale" }, "it reads another value");
    }
}
