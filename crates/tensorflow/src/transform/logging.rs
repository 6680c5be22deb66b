//! `insert_logging`: nodes that print what others compute while a graph runs.

use super::Setting;
use super::language::Call;
use super::rewire::Rewire;
use crate::error::TensorflowError;
use crate::graph::GraphDef;
use crate::node::{NodeDef, Port};
use crate::outputs::output_dtype;
use quantize_document::Problem;
use std::collections::BTreeSet;

/// What the name of a printing node ends in.
pub(crate) const PRINT: &str = "__print__";

/// Puts a node `Print` behind every node of some operators, or with a name that begins in some way.
pub(super) fn insert(
    graph: &GraphDef,
    call: &Call,
    _: &Setting<'_>,
    problems: &mut Vec<Problem>,
) -> Result<GraphDef, TensorflowError> {
    let style = Style {
        message: call.text("message")?.unwrap_or_default(),
        show_name: call.flag("show_name", false)?,
        show_op: call.flag("show_op", false)?,
        first_n: call.number("first_n", -1)?,
        summarize: call.number("summarize", 1024)?,
    };
    let (ops, prefixes) = (call.all("op"), call.all("prefix"));
    let is_meant = |node: &NodeDef| {
        (ops.is_empty() || ops.contains(&node.op()))
            && (prefixes.is_empty() || prefixes.iter().any(|prefix| node.name().starts_with(prefix)))
    };
    let consumers = graph.index()?.consumers()?;
    let mut rewire = Rewire::default();
    let mut prints: Vec<Option<NodeDef>> = vec![None; graph.nodes().len()];
    for ((node, readers), place) in graph.nodes().iter().zip(&consumers).zip(&mut prints) {
        let ports = readers.iter().filter_map(|(_, port)| if let Port::Data(port) = port { Some(*port) } else { None });
        let ports: BTreeSet<u32> = ports.chain([0]).collect();
        if readers.is_empty() || !is_meant(node) {
            continue;
        }
        let print = style.print(node, &ports)?;
        rewire.tensor(node.name(), 0, print.name().to_owned());
        *place = Some(print);
    }
    if rewire.is_empty() {
        problems.push(Problem::general("insert_logging: no node is meant".into()));
    }
    let mut nodes = Vec::with_capacity(graph.nodes().len());
    for (node, print) in graph.nodes().iter().zip(prints) {
        let mut node = node.clone();
        rewire.apply(&mut node);
        nodes.push(node);
        nodes.extend(print);
    }
    Ok(graph.with_nodes(nodes))
}

/// What is printed besides the values.
struct Style<'c> {
    message: &'c str,
    show_name: bool,
    show_op: bool,
    first_n: i64,
    summarize: i64,
}

impl Style<'_> {
    /// The node that prints these outputs of `node`, and hands on the first.
    fn print(&self, node: &NodeDef, ports: &BTreeSet<u32>) -> Result<NodeDef, TensorflowError> {
        let name = format!("{}{PRINT}", node.name());
        let op = if self.show_op { format!(";{};", node.op()) } else { String::new() };
        let own = if self.show_name { format!(";{name};") } else { String::new() };
        let types = ports.iter().map(|port| output_dtype(node, *port)).collect::<Result<Vec<_>, _>>()?;
        let first = output_dtype(node, 0)?;
        let data = ports.iter().map(|port| format!("{}:{port}", node.name()));
        Ok(NodeDef::new(name, "Print")
            .with_inputs([format!("{}:0", node.name())].into_iter().chain(data))
            .with_attr("T", first)
            .with_attr("U", types)
            .with_attr("message", format!("{op}{own}{}", self.message).as_str())
            .with_attr("first_n", self.first_n)
            .with_attr("summarize", self.summarize))
    }
}
