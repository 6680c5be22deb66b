//! What a graph is: likely inputs and outputs, variables, sizes and operators, as `summarize_graph` says it.

mod structure;

pub use structure::structure;

use crate::dtype::DataType;
use crate::error::TensorflowError;
use crate::graph::GraphDef;
use crate::node::{NodeDef, Port};
use crate::number::count;
use crate::shape::PartialShape;
use quantize_document::Limits;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// Nodes that nobody reads and that are no outputs all the same.
const NO_OUTPUTS: [&str; 4] = ["Const", "Assign", "NoOp", "Placeholder"];
const VARIABLES: [&str; 3] = ["Variable", "VariableV2", "VarHandleOp"];

/// A summary of a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraphSummary {
    /// Nodes that are fed: placeholders.
    pub inputs: Vec<Fed>,
    /// Variables.
    pub variables: Vec<Fed>,
    /// Nodes that nobody reads, with their operators.
    pub outputs: Vec<(String, String)>,
    /// Elements of all constants together.
    pub constant_elements: u64,
    /// Elements of the values that variables bring along.
    pub variable_elements: u64,
    /// Number of control inputs.
    pub control_edges: usize,
    /// Number of nodes on each device.
    pub devices: BTreeMap<String, usize>,
    /// How often each operator stands in the graph and its functions; the most frequent first.
    pub operators: Vec<(String, usize)>,
}

/// A node whose type and shape attributes state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fed {
    /// Its name.
    pub name: String,
    /// Its element type.
    pub dtype: DataType,
    /// Its shape, if it is stated.
    pub shape: Option<PartialShape>,
}

impl GraphSummary {
    /// Looks at every node.
    ///
    /// # Errors
    /// If two nodes have the same name, an input names no node, or an attribute does not decode.
    pub fn of(graph: &GraphDef, limits: &Limits) -> Result<Self, TensorflowError> {
        graph.index()?.check_inputs()?;
        let nodes = graph.nodes();
        let with_op = |ops: &[&str]| -> Result<Vec<Fed>, TensorflowError> {
            nodes.iter().filter(|node| ops.contains(&node.op())).map(fed).collect()
        };
        let read: BTreeSet<&str> = nodes.iter().flat_map(NodeDef::refs).map(|input| input.node).collect();
        let is_output = |node: &&NodeDef| !read.contains(node.name()) && !NO_OUTPUTS.contains(&node.op());
        let edges = nodes.iter().flat_map(NodeDef::refs).filter(|input| input.port == Port::Control);
        let mut devices = BTreeMap::new();
        for node in nodes.iter().filter(|node| !node.device().is_empty()) {
            *devices.entry(node.device().to_owned()).or_insert(0) += 1;
        }
        Ok(Self {
            inputs: with_op(&["Placeholder"])?,
            variables: with_op(&VARIABLES)?,
            outputs: nodes.iter().filter(is_output).map(|n| (n.name().to_owned(), n.op().to_owned())).collect(),
            constant_elements: elements(nodes, &["Const"])?,
            variable_elements: elements(nodes, &VARIABLES)?,
            control_edges: edges.count(),
            devices,
            operators: operators(nodes.iter().chain(&graph.function_nodes(limits)?)),
        })
    }

    /// The lines that `summarize_graph` prints for the graph at `path`.
    pub fn text(&self, path: &str) -> String {
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = self.write(path, &mut out);
        out
    }

    fn write(&self, path: &str, out: &mut String) -> std::fmt::Result {
        match self.inputs.len() {
            0 => writeln!(out, "No inputs spotted.")?,
            n => writeln!(out, "Found {n} possible inputs: {}", listed(self.inputs.iter().map(described)))?,
        }
        match self.variables.len() {
            0 => writeln!(out, "No variables spotted.")?,
            n => writeln!(out, "Found {n} variables: {}", listed(self.variables.iter().map(described)))?,
        }
        let outputs = self.outputs.iter().map(|(name, op)| format!("(name={name}, op={op})"));
        match self.outputs.len() {
            0 => writeln!(out, "No outputs spotted.")?,
            n => writeln!(out, "Found {n} possible outputs: {}", listed(outputs))?,
        }
        let (constants, variables) = (self.constant_elements, self.variable_elements);
        writeln!(
            out,
            "Found {constants} ({}) const parameters, {variables} ({}) variable parameters, and {} control_edges",
            count(constants),
            count(variables),
            self.control_edges
        )?;
        for (device, nodes) in &self.devices {
            write!(out, "{nodes} nodes assigned to device '{device}'")?;
        }
        let operators: Vec<String> = self.operators.iter().map(|(op, count)| format!("{count} {op}")).collect();
        writeln!(out, "Op types used: {}", operators.join(", "))?;
        self.write_benchmark(path, out)
    }

    fn write_benchmark(&self, path: &str, out: &mut String) -> std::fmt::Result {
        let joined = |parts: Vec<String>, with: &str| parts.join(with);
        let layers = joined(self.inputs.iter().map(|input| input.name.clone()).collect(), ",");
        let types = joined(self.inputs.iter().map(|input| input.dtype.to_string()).collect(), ",");
        let shapes = joined(self.inputs.iter().map(|input| extents(input.shape.as_ref())).collect(), ":");
        let outputs = joined(self.outputs.iter().map(|(name, _)| name.clone()).collect(), ",");
        writeln!(out, "To use with tensorflow/tools/benchmark:benchmark_model try these arguments:")?;
        writeln!(
            out,
            "bazel run tensorflow/tools/benchmark:benchmark_model -- --graph={path} --show_flops --input_layer={layers} \
             --input_layer_type={types} --input_layer_shape={shapes} --output_layer={outputs}"
        )
    }
}

/// Elements, each with a blank behind it.
fn listed(items: impl Iterator<Item = String>) -> String {
    items.map(|item| item + " ").collect()
}

fn described(node: &Fed) -> String {
    let shape = node.shape.as_ref().map_or_else(|| "None".to_owned(), ToString::to_string);
    format!("(name={}, type={}({}), shape={shape})", node.name, node.dtype, node.dtype.0)
}

/// A shape as a list of numbers, -1 for what is not known; empty if the rank is not known.
fn extents(shape: Option<&PartialShape>) -> String {
    let Some(PartialShape::Known(dims)) = shape else { return String::new() };
    dims.iter().map(|dim| dim.map_or_else(|| "-1".to_owned(), |dim| dim.to_string())).collect::<Vec<_>>().join(",")
}

fn fed(node: &NodeDef) -> Result<Fed, TensorflowError> {
    let dtype = node.dtype("dtype")?.unwrap_or(DataType::INVALID);
    Ok(Fed { name: node.name().to_owned(), dtype, shape: node.shape("shape")? })
}

/// Elements in the attribute `value` of the nodes with these operators.
fn elements(nodes: &[NodeDef], ops: &[&str]) -> Result<u64, TensorflowError> {
    let mut sum = 0u64;
    for node in nodes.iter().filter(|node| ops.contains(&node.op())) {
        let tensor = node.tensor_proto("value")?;
        sum = sum.saturating_add(tensor.and_then(|tensor| tensor.len().ok()).unwrap_or(0) as u64);
    }
    Ok(sum)
}

/// Operators with their number, the most frequent first, then by name.
fn operators<'n>(nodes: impl Iterator<Item = &'n NodeDef>) -> Vec<(String, usize)> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    nodes.for_each(|node| *counts.entry(node.op()).or_default() += 1);
    let mut counts: Vec<(String, usize)> = counts.into_iter().map(|(op, count)| (op.to_owned(), count)).collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::TensorProto;
    use quantize_ir::Tensor;

    fn summary(nodes: Vec<NodeDef>) -> GraphSummary {
        GraphSummary::of(&GraphDef::new(nodes), &Limits::default()).unwrap()
    }

    #[test]
    fn an_empty_graph_has_nothing() {
        let text = summary(Vec::new()).text("g.pb");
        assert_eq!(
            text,
            "No inputs spotted.\nNo variables spotted.\nNo outputs spotted.\n\
             Found 0 (0) const parameters, 0 (0) variable parameters, and 0 control_edges\nOp types used: \n\
             To use with tensorflow/tools/benchmark:benchmark_model try these arguments:\n\
             bazel run tensorflow/tools/benchmark:benchmark_model -- --graph=g.pb --show_flops --input_layer= \
             --input_layer_type= --input_layer_shape= --output_layer=\n"
        );
    }

    #[test]
    fn every_part_has_its_line() {
        let shape = PartialShape::Known(vec![None, Some(3)]);
        let weights = TensorProto::new(DataType::FLOAT, &Tensor::vector(vec![0f32; 1234])).unwrap();
        let mut relu = NodeDef::new("relu", "Relu").with_inputs(["x", "^w"]);
        relu.set_device("/gpu:0");
        let text = summary(vec![
            NodeDef::new("x", "Placeholder").with_attr("dtype", DataType::FLOAT).with_attr("shape", shape),
            NodeDef::new("y", "Placeholder").with_attr("dtype", DataType::INT32),
            NodeDef::constant("w", weights),
            NodeDef::new("v", "VariableV2")
                .with_attr("dtype", DataType::FLOAT)
                .with_attr("shape", PartialShape::UnknownRank),
            relu,
        ])
        .text("g.pb");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[0],
            "Found 2 possible inputs: (name=x, type=float(1), shape=[?,3]) (name=y, type=int32(3), shape=None) "
        );
        assert_eq!(lines[1], "Found 1 variables: (name=v, type=float(1), shape=<unknown>) ");
        assert_eq!(lines[2], "Found 2 possible outputs: (name=v, op=VariableV2) (name=relu, op=Relu) ");
        assert_eq!(lines[3], "Found 1234 (1.23k) const parameters, 0 (0) variable parameters, and 1 control_edges");
        assert_eq!(
            lines[4],
            "1 nodes assigned to device '/gpu:0'Op types used: 2 Placeholder, 1 Const, 1 Relu, 1 VariableV2"
        );
        assert!(lines[6].contains(
            "--input_layer=x,y --input_layer_type=float,int32 --input_layer_shape=-1,3: --output_layer=v,relu"
        ));
    }
}
