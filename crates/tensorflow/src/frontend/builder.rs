//! What an operator needs to become nodes: its attributes, the values it reads, and places to put nodes.
//!
//! Nodes are put into the graph only when the whole operator was read, so that one that turns out to be of a form
//! without shared semantics leaves nothing behind but unused constants.

use super::FRONTEND;
use super::constants::StoredConstant;
use crate::error::TensorflowError;
use crate::graph::GraphDef;
use crate::node::NodeDef;
use quantize_document::Location;
use quantize_ir::op::{Cast, Reshape};
use quantize_ir::{Constant, DType, DocId, Graph, Node, Op, Origin, Tensor, Value, ValueId};
use std::sync::Arc;

/// Constants are read while importing up to so many elements.
const MAX_READ_ELEMENTS: usize = 1 << 12;

/// Why a node of a known operator cannot be read as that operator.
#[derive(Debug)]
pub(super) enum Fault {
    /// The operator exists, but not in this form in the shared operator set: the node is carried as it is.
    Form(String),
    /// The node contradicts itself.
    Invalid(Box<TensorflowError>),
}

impl From<TensorflowError> for Fault {
    fn from(error: TensorflowError) -> Self {
        Self::Invalid(Box::new(error))
    }
}

impl Fault {
    pub(super) fn form(cause: impl Into<String>) -> Self {
        Self::Form(cause.into())
    }
}

/// Results of an operator by output.
pub(super) type Results = Result<Vec<ValueId>, Fault>;

/// An operator on its way into the graph.
pub(super) struct NodeBuilder<'a> {
    source: &'a Arc<GraphDef>,
    node: &'a NodeDef,
    id: DocId,
    graph: &'a mut Graph,
    inputs: Vec<ValueId>,
    nodes: Vec<Node>,
}

impl<'a> NodeBuilder<'a> {
    pub(super) fn new(
        source: &'a Arc<GraphDef>,
        node: &'a NodeDef,
        id: DocId,
        graph: &'a mut Graph,
        inputs: Vec<ValueId>,
    ) -> Self {
        Self { source, node, id, graph, inputs, nodes: Vec::new() }
    }

    pub(super) fn finish(self) -> Vec<Node> {
        self.nodes
    }

    /// The node as it stands in the graph.
    pub(super) fn node(&self) -> &'a NodeDef {
        self.node
    }

    /// The values the node reads.
    pub(super) fn inputs(&self) -> &[ValueId] {
        &self.inputs
    }

    pub(super) fn input(&self, slot: usize) -> Result<ValueId, Fault> {
        self.inputs.get(slot).copied().ok_or_else(|| self.invalid(format!("it reads no input {slot}")))
    }

    /// The error that the node contradicts itself.
    pub(super) fn invalid(&self, cause: impl Into<String>) -> Fault {
        TensorflowError::invalid(Location::node(self.node.name()), cause).into()
    }

    pub(super) fn dtype(&self, value: ValueId) -> Option<DType> {
        self.graph.value(value).dtype
    }

    /// Shape of an input that is a constant.
    pub(super) fn constant_shape(&self, slot: usize) -> Result<Option<Vec<usize>>, Fault> {
        Ok(self.graph.value(self.input(slot)?).constant.as_ref().map(|c| c.shape().to_vec()))
    }

    /// The elements of an input that is a small constant.
    pub(super) fn constant(&self, slot: usize) -> Result<Option<Arc<Tensor>>, Fault> {
        let value = self.input(slot)?;
        let elements = self.graph.value(value).constant.as_ref().map(|c| c.shape().iter().product::<usize>());
        if elements.is_none_or(|elements| elements > MAX_READ_ELEMENTS) {
            return Ok(None);
        }
        self.graph.constant(value).map_err(|error| self.invalid(error.to_string()))
    }

    /// Integers that have to be constant.
    pub(super) fn integers(&self, slot: usize) -> Result<Vec<i64>, Fault> {
        let tensor = self.constant(slot)?.ok_or_else(|| Fault::form(format!("its input {slot} is not a constant")))?;
        tensor.to_i64_vec().map_err(|error| self.invalid(format!("its input {slot}: {error}")))
    }

    /// One integer that has to be constant.
    pub(super) fn integer(&self, slot: usize) -> Result<i64, Fault> {
        match self.integers(slot)?[..] {
            [number] => Ok(number),
            _ => Err(self.invalid(format!("its input {slot} is not one number"))),
        }
    }

    /// A value as 64-bit integers, the form of shapes and axes; one number counts as a list of one.
    pub(super) fn wide(&mut self, slot: usize) -> Result<ValueId, Fault> {
        if let Some(tensor) = self.constant(slot)? {
            let values = tensor.to_i64_vec().map_err(|error| self.invalid(format!("its input {slot}: {error}")))?;
            return Ok(self.tensor(&format!("input_{slot}"), Tensor::vector(values)));
        }
        let value = self.input(slot)?;
        Ok(if self.dtype(value) == Some(DType::I64) {
            value
        } else {
            self.step(&format!("input_{slot}"), Op::Cast(Cast { to: DType::I64 }), &[value])
        })
    }

    /// The input in another shape of as many elements; a constant stays one.
    pub(super) fn in_shape(&mut self, slot: usize, part: &str, shape: &[usize]) -> Result<ValueId, Fault> {
        let value = self.input(slot)?;
        let described = self.graph.value(value);
        let (name, dtype, constant) = (described.name.clone(), described.dtype, described.constant.clone());
        if let (Some(dtype), Some(constant)) = (dtype, constant) {
            if constant.shape().iter().product::<usize>() != shape.iter().product() {
                return Err(self.invalid(format!("its input {slot} of shape {:?} does not fit", constant.shape())));
            }
            let source = described.origin.as_ref().and_then(Origin::source);
            let constant = match source {
                Some(id) => StoredConstant::of(self.source, id.0 as usize, shape.to_vec()),
                None => {
                    let tensor = constant.tensor().map_err(|error| self.invalid(error.to_string()))?;
                    let reshaped = tensor.as_ref().clone().reshaped(shape);
                    Constant::owned(reshaped.map_err(|error| self.invalid(error.to_string()))?)
                }
            };
            let origin = source.map_or_else(|| self.beside(), Origin::Source);
            return Ok(self.graph.add_constant(name, constant, dtype, origin));
        }
        let sizes = shape.iter().map(|size| i64::try_from(*size).unwrap_or(i64::MAX)).collect();
        let sizes = self.tensor(&format!("{part}_shape"), Tensor::vector(sizes));
        Ok(self.step(part, Op::Reshape(Reshape { allow_zero: true }), &[value, sizes]))
    }

    /// A constant beside the node.
    pub(super) fn tensor(&mut self, part: &str, tensor: Tensor) -> ValueId {
        let (name, dtype, origin) = (format!("{}/{part}", self.node.name()), tensor.dtype(), self.beside());
        self.graph.add_constant(name, Constant::owned(tensor), dtype, origin)
    }

    /// Integers as a constant beside the node.
    pub(super) fn list(&mut self, part: &str, numbers: Vec<i64>) -> ValueId {
        self.tensor(part, Tensor::vector(numbers))
    }

    /// A node beside the main one, and its result.
    pub(super) fn step(&mut self, part: &str, op: Op, inputs: &[ValueId]) -> ValueId {
        let name = format!("{}/{part}", self.node.name());
        let result = self.result(&name, &op, 0, inputs);
        self.push(name, op, inputs, vec![result], self.beside());
        result
    }

    /// A node beside the main one with so many results.
    pub(super) fn steps(&mut self, part: &str, op: Op, inputs: &[ValueId], count: usize) -> Vec<ValueId> {
        let name = format!("{}/{part}", self.node.name());
        let results: Vec<ValueId> =
            (0..count).map(|port| self.result(&format!("{name}:{port}"), &op, port, inputs)).collect();
        self.push(name, op, inputs, results.clone(), self.beside());
        results
    }

    /// Calls values what the node's results are called, in order.
    pub(super) fn named_ports(&mut self, values: &[ValueId]) {
        for (port, value) in values.iter().enumerate() {
            self.graph.value_mut(*value).name = port_name(self.node.name(), port);
        }
    }

    /// The node's main operator with one result.
    pub(super) fn main(&mut self, op: Op, inputs: &[ValueId]) -> Results {
        self.main_with(op, inputs, 1)
    }

    /// The node's main operator with so many results.
    pub(super) fn main_with(&mut self, op: Op, inputs: &[ValueId], count: usize) -> Results {
        let names: Vec<String> = (0..count).map(|port| port_name(self.node.name(), port)).collect();
        let results: Vec<ValueId> =
            names.iter().enumerate().map(|(port, name)| self.result(name, &op, port, inputs)).collect();
        self.push(self.node.name().to_owned(), op, inputs, results.clone(), Origin::Source(self.id));
        Ok(results)
    }

    /// The main operator's slots as they are, some of them empty.
    pub(super) fn main_with_gaps(&mut self, op: Op, inputs: Vec<Option<ValueId>>) -> Results {
        let present: Vec<ValueId> = inputs.iter().flatten().copied().collect();
        let result = self.result(self.node.name(), &op, 0, &present);
        let (name, origin) = (self.node.name().to_owned(), Origin::Source(self.id));
        self.nodes.push(Node { name, op, inputs, outputs: vec![Some(result)], after: Vec::new(), origin });
        Ok(vec![result])
    }

    fn push(&mut self, name: String, op: Op, inputs: &[ValueId], results: Vec<ValueId>, origin: Origin) {
        let inputs = inputs.iter().map(|value| Some(*value)).collect();
        let outputs = results.into_iter().map(Some).collect();
        self.nodes.push(Node { name, op, inputs, outputs, after: Vec::new(), origin });
    }

    fn result(&mut self, name: &str, op: &Op, slot: usize, inputs: &[ValueId]) -> ValueId {
        let types: Vec<Option<DType>> = inputs.iter().map(|value| self.dtype(*value)).collect();
        let mut value = Value::named(name);
        value.dtype = op.output_dtype(slot, &types);
        self.graph.add_value(value)
    }

    fn beside(&self) -> Origin {
        Origin::Synthesized { pass: FRONTEND, from: vec![self.id] }
    }
}

/// How the result in `port` of a node is called.
pub(super) fn port_name(node: &str, port: usize) -> String {
    if port == 0 { node.to_owned() } else { format!("{node}:{port}") }
}
