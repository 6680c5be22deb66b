//! Changes of single nodes: names, attributes, operators and devices.

use super::Setting;
use super::language::Call;
use crate::error::TensorflowError;
use crate::graph::GraphDef;
use crate::node::{Input, NodeDef};
use quantize_document::Problem;
use std::collections::BTreeMap;

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

/// Letters of the names that nodes get: small ones, then large ones.
const LETTERS: usize = 52;

fn letter(number: usize) -> char {
    let at = (number % LETTERS) as u8;
    char::from(if at < 26 { b'a' + at } else { b'A' + at - 26 })
}

/// The name number `number`: `a` to `Z`, `aa`, `ba`, …
fn short_name(mut number: usize) -> String {
    let mut name = String::new();
    loop {
        name.push(letter(number));
        number /= LETTERS;
        if number == 0 {
            return name;
        }
        number -= 1;
    }
}

/// `obfuscate_names`: short names without a meaning, in the order of the file; inputs and outputs keep theirs.
pub(super) fn obfuscate(graph: &GraphDef, _: &Call, setting: &Setting<'_>, _: &mut Vec<Problem>) -> Done {
    let mut fresh = (0..).map(short_name).filter(|name| !setting.is_end(name));
    let named = graph.nodes().iter().filter(|node| !setting.is_end(node.name()));
    let names: BTreeMap<String, String> = named.map(|node| node.name().to_owned()).zip(&mut fresh).collect();
    Ok(each(graph, |node| {
        let renamed = node.refs().map(|input| match names.get(input.node) {
            Some(name) => Input { node: name, ..input }.to_string(),
            None => input.to_string(),
        });
        node.set_inputs(renamed.collect());
        if let Some(name) = names.get(node.name()) {
            node.set_name(name.clone());
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

#[cfg(test)]
mod tests {
    use super::short_name;
    use crate::transform::tests::{names, node, run, setting};

    #[test]
    fn names_lose_their_meaning_but_those_of_inputs_and_outputs() {
        let nodes = vec![
            node("a", "Placeholder", &[]),
            node("layer/split", "Split", &["a"]),
            node("layer/relu", "Relu", &["layer/split:1", "^a", "^layer/split"]),
            node("out", "Relu", &["layer/relu"]),
        ];
        let done = run(nodes, "obfuscate_names", &setting(&["a"], &["out"])).unwrap().graph;
        assert_eq!(names(&done), ["a", "b", "c", "out"]);
        assert_eq!(done.nodes()[2].inputs(), ["b:1", "^a", "^b"]);
    }

    #[test]
    fn names_are_short_and_none_comes_twice() {
        let names: Vec<String> = (0..60_000).map(short_name).collect();
        assert_eq!((names[0].as_str(), names[51].as_str(), names[52].as_str()), ("a", "Z", "aa"));
        assert_eq!(names.iter().collect::<std::collections::BTreeSet<_>>().len(), names.len());
        assert!(names.iter().all(|name| name.len() <= 3));
    }
}
