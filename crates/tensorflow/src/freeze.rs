//! Freezing: variables become constants with the values of a checkpoint, and what the outputs do not need goes.

use crate::checkpoint::Checkpoint;
use crate::dtype::DataType;
use crate::error::{TensorflowError, attribute_of};
use crate::graph::{GraphDef, GraphIndex};
use crate::node::{Input, NodeDef, Port};
use crate::reach::{behind, check_outputs};
use crate::shape::PartialShape;
use crate::tensor::TensorProto;
use quantize_document::{Location, Problem};
use quantize_ir::Tensor;
use std::collections::{BTreeMap, BTreeSet};

/// What training's moving averages of variables are called.
const AVERAGE: &str = "/ExponentialMovingAverage";
/// Operators that set variables: nothing of them is left.
const SETTERS: [&str; 3] = ["Assign", "AssignVariableOp", "VarIsInitializedOp"];
/// Operators that hand on the handle of a variable.
const CARRIERS: [&str; 3] = ["Identity", "Enter", "StopGradient"];

/// What to freeze.
#[derive(Clone, Debug, Default)]
pub struct FreezeOptions {
    /// Names of the nodes that are wanted.
    pub outputs: Vec<String>,
    /// Whether nodes lose their devices.
    pub clear_devices: bool,
    /// Variables that are frozen; all of them if there are none.
    pub only: Vec<String>,
    /// Variables that stay.
    pub except: Vec<String>,
    /// Whether moving averages are taken where the checkpoint has them.
    pub averages: bool,
}

/// A frozen graph.
#[derive(Clone, Debug)]
pub struct Frozen {
    /// The graph.
    pub graph: GraphDef,
    /// Variables that became constants, with their names in the checkpoint.
    pub variables: BTreeMap<String, String>,
    /// What deserves attention, such as variables of the checkpoint that nothing uses.
    pub problems: Vec<Problem>,
}

/// Freezes the part of a graph that its outputs need. Nodes keep their order.
///
/// # Errors
/// If an output is no node, an input names no node, or the checkpoint does not have a variable with its type and shape.
pub fn freeze(graph: &GraphDef, checkpoint: &Checkpoint, options: &FreezeOptions) -> Result<Frozen, TensorflowError> {
    let mut graph = without_setters(graph);
    if options.clear_devices {
        graph.nodes_mut().iter_mut().for_each(|node| node.set_device(""));
    }
    let index = graph.index()?;
    check_outputs(&index, &options.outputs)?;
    let needed = behind(&index, &options.outputs, &[])?;
    let mut freezer = Freezer { index: &index, checkpoint, options, variables: BTreeMap::new() };
    let mut nodes = Vec::new();
    for (node, _) in graph.nodes().iter().zip(&needed).filter(|(_, needed)| **needed) {
        nodes.extend(freezer.frozen(node)?);
    }
    let (variables, problems) = (freezer.variables.clone(), freezer.problems());
    Ok(Frozen { graph: graph.with_nodes(nodes), variables, problems })
}

/// The graph in which nothing waits for a variable to be set.
fn without_setters(graph: &GraphDef) -> GraphDef {
    let is_setter = |node: &&NodeDef| SETTERS.contains(&node.op());
    let setters: BTreeSet<&str> = graph.nodes().iter().filter(is_setter).map(NodeDef::name).collect();
    let mut changed = graph.clone();
    for node in changed.nodes_mut() {
        let stays = |input: &&String| {
            let input = Input::parse(input);
            input.port != Port::Control || !setters.contains(input.node)
        };
        let inputs = node.inputs().iter().filter(stays).cloned().collect();
        node.set_inputs(inputs);
    }
    changed
}

struct Freezer<'a> {
    index: &'a GraphIndex<'a>,
    checkpoint: &'a Checkpoint,
    options: &'a FreezeOptions,
    variables: BTreeMap<String, String>,
}

impl Freezer<'_> {
    /// What stands in place of a node.
    fn frozen(&mut self, node: &NodeDef) -> Result<Vec<NodeDef>, TensorflowError> {
        if self.is_frozen(node) {
            return self.constant(node).map(|constant| vec![constant]);
        }
        let Some(variable) = self.variable_of(node).filter(|variable| self.is_frozen(variable)) else {
            return Ok(vec![node.clone()]);
        };
        match node.op() {
            "ReadVariableOp" => {
                let mut read = identity(node);
                read.set_attr("T", node.dtype("dtype")?.unwrap_or(dtype_of(variable)?));
                Ok(vec![read])
            }
            "ResourceGather" => gather(node, dtype_of(variable)?),
            _ if node.dtype("T")? == Some(DataType::RESOURCE) => {
                let mut carrier = identity(node);
                carrier.set_attr("T", dtype_of(variable)?);
                Ok(vec![carrier])
            }
            _ => Ok(vec![node.clone()]),
        }
    }

    /// Whether a node is a variable that becomes a constant.
    fn is_frozen(&self, node: &NodeDef) -> bool {
        let named = |list: &[String]| list.iter().any(|name| name == node.name());
        let wanted = self.options.only.is_empty() || named(&self.options.only);
        is_variable(node) && wanted && !named(&self.options.except)
    }

    /// The variable whose handle or value a node reads first.
    fn variable_of(&self, node: &NodeDef) -> Option<&NodeDef> {
        let mut at = self.index.node(node.data_inputs().next()?.node)?;
        // A chain of carriers is no longer than the graph.
        for _ in 0..self.index.len() {
            if is_variable(at) || !CARRIERS.contains(&at.op()) {
                break;
            }
            at = self.index.node(at.data_inputs().next()?.node)?;
        }
        is_variable(at).then_some(at)
    }

    fn constant(&mut self, node: &NodeDef) -> Result<NodeDef, TensorflowError> {
        let key = self.key(node)?;
        let value = self.checkpoint.value(&key)?;
        let (dtype, shape) = (dtype_of(node)?, node.shape("shape")?);
        let fits = shape.as_ref().is_none_or(|shape| may_be(shape, value.shape()));
        if dtype != value.dtype() || !fits {
            let own = shape.map_or_else(String::new, |shape| shape.to_string());
            let stored = format!("{}{}", value.dtype(), value.shape());
            let cause = format!("the variable is {dtype}{own}, but `{key}` in the checkpoint is {stored}");
            return Err(TensorflowError::invalid(Location::node(node.name()), cause)
                .with_hint("the checkpoint belongs to another graph"));
        }
        self.variables.insert(node.name().to_owned(), key);
        let mut constant = NodeDef::constant(node.name(), value);
        constant.set_device(node.device());
        Ok(constant)
    }

    /// Name of a variable in the checkpoint: resources are stored under the name they share.
    fn key(&self, node: &NodeDef) -> Result<String, TensorflowError> {
        let shared = match node.op() {
            "VarHandleOp" => node.text("shared_name")?.filter(|name| !name.is_empty()),
            _ => None,
        };
        let key = shared.filter(|name| self.checkpoint.has(name)).unwrap_or_else(|| node.name().to_owned());
        let average = format!("{key}{AVERAGE}");
        Ok(if self.options.averages && self.checkpoint.has(&average) { average } else { key })
    }

    fn problems(&self) -> Vec<Problem> {
        let used: BTreeSet<&str> = self.variables.values().map(String::as_str).collect();
        let stored = self.checkpoint.variables();
        let is_average = |name: &str| name.ends_with(AVERAGE);
        let unused: Vec<&str> = stored.iter().map(|v| v.name.as_str()).filter(|name| !used.contains(name)).collect();
        let averages = unused.iter().filter(|name| is_average(name)).count();
        let mut problems = Vec::new();
        let mut note = |message: String| problems.push(Problem::general(message));
        if averages > 0 && !self.options.averages {
            note(format!("the checkpoint has moving averages of {averages} variables, which are not used"));
        }
        let others: Vec<&str> = unused.into_iter().filter(|name| !is_average(name)).collect();
        if let Some(first) = others.first() {
            note(format!("{} variables of the checkpoint are not used, such as `{first}`", others.len()));
        }
        problems
    }
}

fn is_variable(node: &NodeDef) -> bool {
    matches!(node.op(), "Variable" | "VariableV2" | "VarHandleOp")
}

fn dtype_of(variable: &NodeDef) -> Result<DataType, TensorflowError> {
    let dtype = variable.dtype("dtype")?.map(DataType::base);
    dtype.ok_or_else(|| TensorflowError::invalid(attribute_of(variable.name(), "dtype"), "it is missing"))
}

/// Whether a tensor of shape `found` can be of shape `stated`.
fn may_be(stated: &PartialShape, found: &PartialShape) -> bool {
    let (PartialShape::Known(stated), PartialShape::Known(found)) = (stated, found) else { return true };
    stated.len() == found.len() && stated.iter().zip(found).all(|(stated, found)| stated.is_none() || stated == found)
}

/// A node that hands on what `node` reads first.
fn identity(node: &NodeDef) -> NodeDef {
    let mut identity = NodeDef::new(node.name(), "Identity").with_inputs(node.inputs().to_vec());
    identity.set_device(node.device());
    identity
}

/// `ResourceGather` along the first axis as a gathering of tensors, and its axis.
fn gather(node: &NodeDef, dtype: DataType) -> Result<Vec<NodeDef>, TensorflowError> {
    let about = |cause| TensorflowError::invalid(Location::node(node.name()), cause);
    let batch = node.int("batch_dims")?.unwrap_or(0);
    let axis = i32::try_from(batch).map_err(|_| about("`batch_dims` is too large".to_owned()))?;
    let axis = TensorProto::new(DataType::INT32, &Tensor::scalar(axis)).map_err(about)?;
    let name = format!("{}/axis", node.name());
    let mut inputs: Vec<String> = node.data_inputs().map(|input| input.to_string()).collect();
    inputs.push(name.clone());
    inputs.extend(node.refs().filter(|input| !input.is_data()).map(|input| input.to_string()));
    let indices = node.dtype("Tindices")?.unwrap_or(DataType::INT32);
    let mut gather = NodeDef::new(node.name(), "GatherV2")
        .with_inputs(inputs)
        .with_attr("Tparams", dtype)
        .with_attr("Tindices", indices)
        .with_attr("Taxis", DataType::INT32)
        .with_attr("batch_dims", batch);
    gather.set_device(node.device());
    Ok(vec![NodeDef::constant(name, axis), gather])
}
