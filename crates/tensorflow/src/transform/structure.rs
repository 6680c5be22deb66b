//! Which nodes a graph has, and in which order.

use super::Setting;
use super::language::{Call, misplaced};
use super::rewire::Rewire;
use crate::dtype::DataType;
use crate::error::TensorflowError;
use crate::graph::GraphDef;
use crate::names::node_name;
use crate::node::NodeDef;
use crate::order::execution_order;
use crate::reach::{behind, check_outputs, is_named};
use crate::shape::PartialShape;
use quantize_document::Problem;

/// `sort_by_execution_order`: every node behind those it reads.
pub(super) fn sort(
    graph: &GraphDef,
    _: &Call,
    _: &Setting<'_>,
    _: &mut Vec<Problem>,
) -> Result<GraphDef, TensorflowError> {
    let order = execution_order(graph)?;
    Ok(graph.with_nodes(order.into_iter().filter_map(|at| graph.nodes().get(at).cloned()).collect()))
}

/// `strip_unused_nodes`: what the outputs do not need goes, and inputs become placeholders.
pub(super) fn strip_unused(
    graph: &GraphDef,
    call: &Call,
    setting: &Setting<'_>,
    _: &mut Vec<Problem>,
) -> Result<GraphDef, TensorflowError> {
    let fed = Fed::of(call)?;
    let index = graph.index()?;
    setting.inputs.iter().try_for_each(|name| index.find(name).map(|_| ()))?;
    check_outputs(&index, &setting.outputs)?;
    let needed = behind(&index, &setting.outputs, &setting.inputs)?;
    let kept = graph.nodes().iter().zip(needed).filter(|(node, needed)| *needed || is_named(&setting.inputs, node));
    let nodes = kept.map(|(node, _)| match is_named(&setting.inputs, node) && node.op() != "Placeholder" {
        true => fed.placeholder(node),
        false => node.clone(),
    });
    Ok(graph.with_nodes(nodes.collect()))
}

/// Types and shapes of inputs that become placeholders.
struct Fed {
    dtype: DataType,
    shape: PartialShape,
    named: Vec<(String, Option<DataType>, Option<PartialShape>)>,
}

impl Fed {
    fn of(call: &Call) -> Result<Self, TensorflowError> {
        let dtype = |text: &str| {
            let unknown = || misplaced(call.position, format!("{}: `{text}` is no element type", call.name));
            DataType::named(text).ok_or_else(unknown)
        };
        let shape =
            |text: &str| shape(text).map_err(|cause| misplaced(call.position, format!("{}: {cause}", call.name)));
        let (names, types, shapes) = (call.all("name"), call.all("type_for_name"), call.all("shape_for_name"));
        if types.len() > names.len() || shapes.len() > names.len() {
            let cause = format!("{}: there is a type or shape for a name that is not given", call.name);
            return Err(misplaced(call.position, cause));
        }
        let named = names.iter().enumerate().map(|(at, name)| {
            let dtype = types.get(at).map(|text| dtype(text)).transpose()?;
            let shape = shapes.get(at).map(|text| shape(text)).transpose()?;
            Ok((node_name(name).to_owned(), dtype, shape))
        });
        Ok(Self {
            dtype: call.text("type")?.map_or(Ok(DataType::FLOAT), dtype)?,
            shape: call.text("shape")?.map_or(Ok(PartialShape::Known(Vec::new())), shape)?,
            named: named.collect::<Result<_, TensorflowError>>()?,
        })
    }

    fn placeholder(&self, node: &NodeDef) -> NodeDef {
        let own = self.named.iter().find(|(name, ..)| name == node.name());
        let dtype = own.and_then(|(_, dtype, _)| *dtype).unwrap_or(self.dtype);
        let shape = own.and_then(|(_, _, shape)| shape.clone()).unwrap_or_else(|| self.shape.clone());
        NodeDef::new(node.name(), "Placeholder").with_attr("dtype", dtype).with_attr("shape", shape)
    }
}

/// A shape as numbers separated by commas, -1 for what is not known.
fn shape(text: &str) -> Result<PartialShape, String> {
    let dims = text.split(',').map(str::trim).filter(|dim| !dim.is_empty());
    let dim = |dim: &str| dim.parse::<i64>().map(|dim| u64::try_from(dim).ok());
    dims.map(dim).collect::<Result<_, _>>().map(PartialShape::Known).map_err(|_| format!("`{text}` is no shape"))
}

/// `remove_nodes`: nodes of some operators go, and their readers read what they read first.
pub(super) fn remove_nodes(
    graph: &GraphDef,
    call: &Call,
    setting: &Setting<'_>,
    _: &mut Vec<Problem>,
) -> Result<GraphDef, TensorflowError> {
    let ops = call.all("op");
    if ops.is_empty() {
        return Err(misplaced(call.position, format!("{} needs the parameter `op`", call.name)));
    }
    let most = call.number("max_inputs", 1usize)?;
    let goes = |node: &NodeDef| {
        let inputs = node.data_inputs().count();
        ops.contains(&node.op()) && (1..=most).contains(&inputs) && !setting.is_end(node.name())
    };
    let mut rewire = Rewire::default();
    for node in graph.nodes().iter().filter(|node| goes(node)) {
        if let Some(first) = node.data_inputs().next() {
            rewire.node(node.name(), first.to_string());
        }
    }
    let mut nodes: Vec<NodeDef> = graph.nodes().iter().filter(|node| !goes(node)).cloned().collect();
    nodes.iter_mut().for_each(|node| rewire.apply(node));
    Ok(graph.with_nodes(nodes))
}
