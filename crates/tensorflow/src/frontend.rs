//! Reading: from a graph of the format to the framework-neutral graph.
//!
//! Imported is what the outputs depend on, as far back as the inputs. The import never fails on an operator it does not
//! know: that becomes [`Op::Opaque`] with the right wiring. Nodes that only pass a tensor on are passed over, unless they
//! are outputs. Control inputs order nodes and carry no value; they are left out. A `Switch` whose predicate is a
//! constant leaves one side dead, and the `Merge` behind it is the side that lives.
//!
//! What lives here: which nodes are imported, and the wiring between them. `ops` says what each operator means,
//! `builder` what that needs.

mod builder;
mod constants;
mod ops;
#[cfg(test)]
mod tests;

use crate::dtype::DataType;
use crate::error::TensorflowError;
use crate::graph::{GraphDef, GraphIndex};
use crate::names::node_name;
use crate::node::{Input, NodeDef, Port};
use crate::order::execution_order;
use crate::shape::PartialShape;
use builder::{Fault, NodeBuilder, port_name};
use constants::StoredConstant;
use quantize_document::{Location, Problem};
use quantize_ir::op::Opaque;
use quantize_ir::{Constant, DType, Dim, DocId, Graph, Node, Op, Origin, Shape, Tensor, Value, ValueId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Pass name of what the front-end adds.
pub(crate) const FRONTEND: &str = "tensorflow front-end";

/// Operator set of nodes without shared semantics.
const DOMAIN: &str = "tensorflow";

/// Operators that are no likely outputs though nobody reads them.
const NO_OUTPUTS: &[&str] = &[
    "Const",
    "Placeholder",
    "NoOp",
    "Assign",
    "AssignVariableOp",
    "VarIsInitializedOp",
    "IsVariableInitialized",
    "SaveV2",
    "RestoreV2",
    "MergeV2Checkpoints",
    "Assert",
    "Print",
    "MergeSummary",
    "ScalarSummary",
    "HistogramSummary",
    "ImageSummary",
];

/// Results of a node beyond which none goes; readers of others read what never comes.
const MOST_RESULTS: usize = 1 << 12;

/// What is fed and what is wanted; empty lists leave it to the graph.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Names of the nodes that are fed: placeholders if there are none here.
    pub inputs: Vec<String>,
    /// Names of the nodes that are wanted, possibly with the number of an output behind a colon: nodes that nobody reads
    /// if there are none here.
    pub outputs: Vec<String>,
}

/// Imports what the request needs of a graph. A node's main operator has the node's name and stems from it; others are
/// called `<node>/<part>`. Keys of origins are positions among the graph's nodes.
///
/// # Errors
/// If a name of the request is no node's, an input names no node, the graph has a cycle, nothing is likely to be wanted,
/// or a node contradicts itself.
pub fn import(graph: &Arc<GraphDef>, request: &Request) -> Result<(Graph, Vec<Problem>), TensorflowError> {
    execution_order(graph)?;
    let index = graph.index()?;
    let outputs = outputs(&index, request)?;
    let mut importer = Importer {
        source: graph,
        index: &index,
        fed: BTreeSet::new(),
        wanted: outputs.iter().map(|(node, _)| *node).collect(),
        values: BTreeMap::new(),
        dead: BTreeSet::new(),
        read: results_read(&index)?,
        graph: Graph::new(),
        inputs: Vec::new(),
        problems: Vec::new(),
    };
    importer.feed(request)?;
    for position in importer.order(&outputs)? {
        importer.node(position)?;
    }
    importer.declare(&outputs)?;
    Ok((importer.graph, importer.problems))
}

/// Positions of the nodes that are wanted, and which of their results.
fn outputs(index: &GraphIndex<'_>, request: &Request) -> Result<Vec<(usize, u32)>, TensorflowError> {
    let mut outputs = Vec::new();
    for spelled in &request.outputs {
        let port = match Input::parse(spelled.trim()).port {
            Port::Data(port) => port,
            Port::Control => 0,
        };
        let node = index.find(node_name(spelled))?;
        outputs.extend(index.position(node.name()).map(|position| (position, port)));
    }
    if outputs.is_empty() {
        outputs = likely(index)?.into_iter().map(|position| (position, 0)).collect();
    }
    if outputs.is_empty() {
        let error = TensorflowError::invalid(Location::default(), "no node of the graph is a likely output");
        return Err(error.with_hint("name the nodes that are wanted with `--outputs`"));
    }
    Ok(outputs)
}

/// Positions of the nodes that nobody reads and that compute something.
fn likely(index: &GraphIndex<'_>) -> Result<Vec<usize>, TensorflowError> {
    let consumers = index.consumers()?;
    let unread = consumers.iter().enumerate().filter(|(_, readers)| readers.is_empty());
    let computes = |at: &usize| index.at(*at).is_some_and(|node| !NO_OUTPUTS.contains(&node.op()));
    Ok(unread.map(|(at, _)| at).filter(computes).collect())
}

/// Names of the nodes that are wanted if nobody says which: those that nobody reads, but for what only sets variables,
/// saves or reports.
///
/// # Errors
/// If two nodes have the same name or an input names no node.
pub fn likely_outputs(graph: &GraphDef) -> Result<Vec<String>, TensorflowError> {
    let index = graph.index()?;
    let positions = likely(&index)?;
    Ok(positions.into_iter().filter_map(|at| index.at(at)).map(|node| node.name().to_owned()).collect())
}

/// By node: as many results as someone reads, one at least.
fn results_read(index: &GraphIndex<'_>) -> Result<Vec<usize>, TensorflowError> {
    let count = |readers: &Vec<(usize, Port)>| {
        let ports = readers.iter().map(|(_, port)| if let Port::Data(port) = port { *port as usize + 1 } else { 1 });
        ports.max().unwrap_or(1).min(MOST_RESULTS)
    };
    Ok(index.consumers()?.iter().map(count).collect())
}

struct Importer<'g> {
    source: &'g Arc<GraphDef>,
    index: &'g GraphIndex<'g>,
    /// Positions of the nodes that are fed on request.
    fed: BTreeSet<usize>,
    /// Positions of the nodes that are wanted.
    wanted: BTreeSet<usize>,
    /// By node and output.
    values: BTreeMap<(usize, u32), ValueId>,
    /// Results that never come.
    dead: BTreeSet<(usize, u32)>,
    /// By node: as many results as someone reads, one at least.
    read: Vec<usize>,
    graph: Graph,
    inputs: Vec<ValueId>,
    problems: Vec<Problem>,
}

impl Importer<'_> {
    /// Declares the nodes that are fed on request.
    fn feed(&mut self, request: &Request) -> Result<(), TensorflowError> {
        for name in &request.inputs {
            let node = self.index.find(node_name(name))?;
            if let Some(position) = self.index.position(node.name()).filter(|at| self.fed.insert(*at)) {
                self.input(position, node)?;
            }
        }
        Ok(())
    }

    fn input(&mut self, position: usize, node: &NodeDef) -> Result<(), TensorflowError> {
        let mut value = Value::named(node.name());
        let dtype = node.dtype("dtype")?.or(node.dtype("T")?).unwrap_or(DataType::FLOAT);
        value.dtype = dtype.elements();
        value.shape = declared(node)?;
        let value = self.graph.add_value(value);
        self.inputs.push(value);
        self.values.insert((position, 0), value);
        Ok(())
    }

    /// Positions of the nodes the outputs depend on, each behind those it reads, otherwise in the order of the file. Of
    /// the nodes of a loop one stands before something it reads.
    fn order(&self, outputs: &[(usize, u32)]) -> Result<Vec<usize>, TensorflowError> {
        let mut seen: BTreeSet<usize> = BTreeSet::new();
        let mut needed: BTreeSet<usize> = BTreeSet::new();
        let mut open: Vec<usize> = outputs.iter().map(|(at, _)| *at).collect();
        while let Some(at) = open.pop() {
            if needed.insert(at) && !self.fed.contains(&at) {
                open.extend(self.read_by(at)?);
            }
        }
        let mut order = Vec::with_capacity(needed.len());
        for start in needed {
            // A node stands here a second time once everything it reads is done.
            let mut open = vec![(start, false)];
            while let Some((at, is_done)) = open.pop() {
                if is_done {
                    order.push(at);
                } else if seen.insert(at) {
                    open.push((at, true));
                    if !self.fed.contains(&at) {
                        open.extend(self.read_by(at)?.into_iter().rev().map(|producer| (producer, false)));
                    }
                }
            }
        }
        Ok(order)
    }

    fn read_by(&self, position: usize) -> Result<Vec<usize>, TensorflowError> {
        let Some(node) = self.index.at(position) else { return Ok(Vec::new()) };
        node.data_inputs().map(|input| self.index.producer(node, input.node)).collect()
    }

    /// Which results a node reads.
    fn operands(&self, node: &NodeDef) -> Result<Vec<(usize, u32)>, TensorflowError> {
        let operand = |input: Input<'_>| match input.port {
            Port::Data(port) => Some(self.index.producer(node, input.node).map(|at| (at, port))),
            Port::Control => None,
        };
        node.data_inputs().filter_map(operand).collect()
    }

    fn node(&mut self, position: usize) -> Result<(), TensorflowError> {
        let Some(node) = self.index.at(position).filter(|_| !self.fed.contains(&position)) else { return Ok(()) };
        match node.op() {
            "Const" => return self.constant(position, node),
            "Placeholder" => return self.input(position, node),
            _ => {}
        }
        let operands = self.operands(node)?;
        if let Some(done) = self.control_flow(position, node, &operands) {
            return Ok(done);
        }
        let values: Vec<Option<ValueId>> = operands.iter().map(|operand| self.values.get(operand).copied()).collect();
        let passes = ops::passes_on(node.op()) && !self.wanted.contains(&position);
        if let Some(value) = values.first().copied().flatten().filter(|_| passes) {
            self.values.insert((position, 0), value);
            return Ok(());
        }
        self.operator(position, node, values)
    }

    /// What only decides which tensors there are; `None` for anything else.
    fn control_flow(&mut self, position: usize, node: &NodeDef, operands: &[(usize, u32)]) -> Option<()> {
        if node.op() == "Merge" {
            let live = operands.iter().position(|operand| !self.dead.contains(operand))?;
            let decided = operands.len() - 1 == operands.iter().filter(|operand| self.dead.contains(operand)).count();
            let value = *self.values.get(operands.get(live)?).filter(|_| decided)?;
            self.values.insert((position, 0), value);
            let chosen = Tensor::scalar(i32::try_from(live).ok()?);
            let name = format!("{}:1", node.name());
            let index = self.graph.add_constant(name, Constant::owned(chosen), DType::I32, self.beside(position));
            self.values.insert((position, 1), index);
            return Some(());
        }
        if operands.iter().any(|operand| self.dead.contains(operand)) {
            let ports = 0..self.result_count(position, node);
            self.dead.extend(ports.filter_map(|port| Some((position, u32::try_from(port).ok()?))));
            return Some(());
        }
        if node.op() == "Switch" {
            let predicate = self.graph.constant(*self.values.get(operands.get(1)?)?).ok()??;
            let live = u32::from(*predicate.as_slice::<bool>().ok()?.first()?);
            let value = *self.values.get(operands.first()?)?;
            self.values.insert((position, live), value);
            self.dead.insert((position, 1 - live));
            return Some(());
        }
        None
    }

    fn constant(&mut self, position: usize, node: &NodeDef) -> Result<(), TensorflowError> {
        let tensor = node.tensor_proto("value")?;
        let known = tensor.as_ref().and_then(|t| Some((t.dtype().elements()?, t.shape().dims()?)));
        let Some((dtype, shape)) = known else { return self.opaque(position, node, Vec::new()) };
        let constant = StoredConstant::of(self.source, position, shape);
        let value = self.graph.add_constant(node.name(), constant, dtype, Origin::Source(doc_id(position)));
        self.values.insert((position, 0), value);
        Ok(())
    }

    /// A node that computes, in the shared operators if they can say it.
    fn operator(
        &mut self,
        position: usize,
        node: &NodeDef,
        operands: Vec<Option<ValueId>>,
    ) -> Result<(), TensorflowError> {
        let cause = match operands.iter().copied().collect::<Option<Vec<ValueId>>>() {
            None => "it is part of a loop".to_owned(),
            Some(inputs) => {
                let mut builder = NodeBuilder::new(self.source, node, doc_id(position), &mut self.graph, inputs);
                match ops::read(&mut builder) {
                    Some(Ok(results)) => {
                        let nodes = builder.finish();
                        return self.write(position, nodes, results);
                    }
                    Some(Err(Fault::Invalid(error))) => return Err(*error),
                    Some(Err(Fault::Form(cause))) => format!("{}: {cause}", node.op()),
                    None => format!("the operator {} is not known", node.op()),
                }
            }
        };
        self.problems.push(Problem::of_node(node.name(), format!("{cause}; the node is carried as it is")));
        self.opaque(position, node, operands)
    }

    fn write(&mut self, position: usize, nodes: Vec<Node>, results: Vec<ValueId>) -> Result<(), TensorflowError> {
        for node in nodes {
            self.add(node)?;
        }
        for (port, value) in results.into_iter().enumerate() {
            self.values.insert((position, u32::try_from(port).unwrap_or(u32::MAX)), value);
        }
        Ok(())
    }

    fn add(&mut self, node: Node) -> Result<(), TensorflowError> {
        let name = node.name.clone();
        self.graph
            .add_node(node)
            .map(|_| ())
            .map_err(|error| TensorflowError::invalid(Location::node(&name), error.to_string()))
    }

    /// The node as an operator without shared semantics.
    fn opaque(&mut self, position: usize, node: &NodeDef, inputs: Vec<Option<ValueId>>) -> Result<(), TensorflowError> {
        let mut results = Vec::new();
        for port in 0..self.result_count(position, node) {
            results.push(self.graph.add_value(Value::named(port_name(node.name(), port))));
        }
        let op = Op::Opaque(Opaque { domain: DOMAIN.into(), kind: node.op().into() });
        let outputs = results.iter().map(|value| Some(*value)).collect();
        let (name, origin) = (node.name().to_owned(), Origin::Source(doc_id(position)));
        self.write(position, vec![Node { name, op, inputs, outputs, after: Vec::new(), origin }], results)
    }

    /// Number of a node's results, as far as it is known: as many as someone reads, if not.
    fn result_count(&self, position: usize, node: &NodeDef) -> usize {
        self.read.get(position).copied().unwrap_or(1).max(ops::result_count(node))
    }

    fn beside(&self, position: usize) -> Origin {
        Origin::Synthesized { pass: FRONTEND, from: vec![doc_id(position)] }
    }

    fn declare(&mut self, outputs: &[(usize, u32)]) -> Result<(), TensorflowError> {
        let mut values = Vec::with_capacity(outputs.len());
        for output in outputs {
            let Some(value) = self.values.get(output) else {
                let name = self.index.at(output.0).map_or("", NodeDef::name);
                let cause = format!("its result {} is never computed", output.1);
                return Err(TensorflowError::invalid(Location::node(name), cause));
            };
            values.push(*value);
        }
        self.graph.set_inputs(self.inputs.clone());
        self.graph.set_outputs(values);
        Ok(())
    }
}

fn doc_id(position: usize) -> DocId {
    DocId(u32::try_from(position).unwrap_or(u32::MAX))
}

/// The shape that a node declares for what it is fed.
fn declared(node: &NodeDef) -> Result<Option<Shape>, TensorflowError> {
    let dim = |dim: &Option<u64>| dim.map_or(Dim::Unknown, Dim::Known);
    Ok(match node.shape("shape")? {
        // Graphs of old write an unknown shape as that of a scalar.
        Some(PartialShape::Known(dims)) if !dims.is_empty() => Some(dims.iter().map(dim).collect()),
        _ => None,
    })
}
