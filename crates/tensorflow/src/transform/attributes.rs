//! Changes of single nodes: names, attributes, operators and devices.

use super::Setting;
use super::language::Call;
use crate::error::TensorflowError;
use crate::graph::GraphDef;
use crate::node::NodeDef;
use quantize_document::Problem;

/// What stands for every operator.
const ANY: &str = "*";

type Done = Result<GraphDef, TensorflowError>;

fn each(graph: &GraphDef, change: impl FnMut(&mut NodeDef)) -> GraphDef {
    let mut changed = graph.clone();
    changed.nodes_mut().iter_mut().for_each(change);
    changed
}

/// Whether a node is of the operator that a call names; of all if it names none.
fn is_meant<'c>(call: &'c Call) -> Result<impl Fn(&NodeDef) -> bool + use<'c>, TensorflowError> {
    let op = call.text("op_name")?.unwrap_or(ANY);
    Ok(move |node: &NodeDef| op == ANY || node.op() == op)
}

/// `remove_attribute`
pub(super) fn remove(graph: &GraphDef, call: &Call, _: &Setting<'_>, _: &mut Vec<Problem>) -> Done {
    let (name, meant) = (call.needed("attribute_name")?, is_meant(call)?);
    Ok(each(graph, |node| {
        if meant(node) {
            node.remove_attr(name);
        }
    }))
}

/// `rename_attribute`
pub(super) fn rename(graph: &GraphDef, call: &Call, _: &Setting<'_>, _: &mut Vec<Problem>) -> Done {
    let (old, new) = (call.needed("old_attribute_name")?, call.needed("new_attribute_name")?);
    let meant = is_meant(call)?;
    Ok(each(graph, |node| {
        if let Some(value) = node.attr(old).filter(|_| meant(node)).cloned() {
            node.remove_attr(old);
            node.set_attr(new, value);
        }
    }))
}

/// `rename_op`
pub(super) fn rename_op(graph: &GraphDef, call: &Call, _: &Setting<'_>, _: &mut Vec<Problem>) -> Done {
    let (old, new) = (call.needed("old_op_name")?, call.needed("new_op_name")?);
    Ok(each(graph, |node| {
        if node.op() == old {
            node.set_op(new);
        }
    }))
}

/// `rename_node`, with all that refers to it.
pub(super) fn rename_node(graph: &GraphDef, call: &Call, _: &Setting<'_>, _: &mut Vec<Problem>) -> Done {
    let (old, new) = (call.needed("old_node_name")?, call.needed("new_node_name")?);
    graph.index()?.find(old)?;
    Ok(each(graph, |node| {
        let renamed = node.refs().map(|mut input| {
            if input.node == old {
                input.node = new;
            }
            input.to_string()
        });
        let (renamed, reads): (Vec<String>, bool) = (renamed.collect(), node.refs().any(|input| input.node == old));
        if reads {
            node.set_inputs(renamed);
        }
        if node.name() == old {
            node.set_name(new);
        }
    }))
}

/// `remove_device`
pub(super) fn remove_device(graph: &GraphDef, _: &Call, _: &Setting<'_>, _: &mut Vec<Problem>) -> Done {
    Ok(each(graph, |node| node.set_device("")))
}

/// `set_device`: of all nodes, or with `if_default` of those without one.
pub(super) fn set_device(graph: &GraphDef, call: &Call, _: &Setting<'_>, _: &mut Vec<Problem>) -> Done {
    let (device, only_default) = (call.text("device")?.unwrap_or_default(), call.flag("if_default", false)?);
    Ok(each(graph, |node| {
        if !only_default || node.device().is_empty() {
            node.set_device(device);
        }
    }))
}

/// `remove_control_dependencies`
pub(super) fn remove_control(graph: &GraphDef, _: &Call, _: &Setting<'_>, _: &mut Vec<Problem>) -> Done {
    Ok(each(graph, |node| {
        let data = node.inputs().iter().filter(|input| !input.starts_with('^')).cloned().collect();
        node.set_inputs(data);
    }))
}
